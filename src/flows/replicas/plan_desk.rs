//! A plan at a desk, for the tests of its cases.

use super::change::ReplicaChange;
use super::model::Modification;
use super::plan::{PlanSettings, ReplicaPlan};
use super::plan_step::{Ask, Step, Written};
use super::testing::{Node, Rows, entry};
use super::view::PlanView;
use crate::time::Timestamp;
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

/// Rows are written at once; what upstreams are asked waits until the test has it
/// answered.
pub(super) struct Desk {
    pub(super) nodes: Vec<Node>,
    pub(super) rows: Rows,
    pub(super) plan: ReplicaPlan,
    pub(super) now: Timestamp,
    pub(super) asks: Vec<(u64, usize, Ask)>,
    pub(super) begun: usize,
    /// Answered so far.
    pub(super) answered: usize,
    /// What is never answered.
    pub(super) hangs: fn(&Ask) -> bool,
}

impl Desk {
    pub(super) fn new(upstreams: usize, settings: impl FnOnce(&mut PlanSettings)) -> Self {
        let mut of = PlanSettings {
            upstreams,
            by_index: false,
            chunk: 100,
            ranges: 1,
            poll_interval: Duration::from_secs(1),
            watch: Duration::from_secs(30),
            audit_interval: None,
        };
        settings(&mut of);
        Self {
            nodes: vec![Node::new(1000, 1000); upstreams],
            rows: Rows::default(),
            plan: ReplicaPlan::new(of),
            now: START,
            asks: Vec::new(),
            begun: 0,
            answered: 0,
            hangs: |_| false,
        }
    }

    /// Publishes an update of each key, one after the other.
    pub(super) fn publish(&mut self, node: usize, keys: &[&str]) {
        for key in keys {
            let update = Modification::Update(entry(key, &self.nodes[node].head.to_string()));
            self.nodes[node].publish(vec![update]);
        }
    }

    /// Turns, until nothing is left to do but to wait for answers.
    pub(super) fn turn(&mut self) {
        for _ in 0..100 {
            let steps = self.plan.next(self.now);
            if steps.is_empty() {
                return;
            }
            for step in steps {
                match step {
                    Step::Read => self.plan.standing(self.rows.standing.clone()),
                    Step::Ask { id, upstream, ask } => self.asks.push((id, upstream, ask)),
                    Step::Local { id, fetching } => {
                        let read = self.rows.read(&fetching);
                        self.plan.local_read(id, read, self.now);
                    }
                    Step::Write { id, change } => {
                        self.begun += usize::from(matches!(change, ReplicaChange::Begin { .. }));
                        let applied = self.rows.write(&change, self.now);
                        let refused = || Written::Not("refused".to_owned());
                        let written = applied.map_or_else(refused, Written::Done);
                        self.plan.written(id, written, self.now);
                    }
                }
            }
        }
        panic!("the plan finds no rest");
    }

    /// Has the first such ask answered. Answers whether there was one.
    pub(super) fn answer(&mut self, which: impl Fn(usize, &Ask) -> bool) -> bool {
        self.turn();
        let plan = &self.plan;
        self.asks.retain(|(id, ..)| plan.is_asked(*id));
        let found = self.asks.iter().position(|(_, at, ask)| which(*at, ask));
        let Some(place) = found else {
            return false;
        };
        let (id, upstream, ask) = self.asks.remove(place);
        let answer = self.nodes[upstream].answer(&ask);
        self.plan.answered(id, answer, self.now);
        self.turn();
        true
    }

    /// Has everything answered for so long; waits only as long as they last or
    /// until the head moved.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.now < end {
            let moved = |desk: &Self, at: usize, ask: &Ask| match ask {
                Ask::Watch { epoch, head, .. } => {
                    let node = &desk.nodes[at];
                    node.down
                        || node.refuses.is_some()
                        || (&node.epoch, node.head) != (epoch, *head)
                }
                ask => !(desk.hangs)(ask),
            };
            let due: Vec<bool> = {
                self.turn();
                let plan = &self.plan;
                self.asks.retain(|(id, ..)| plan.is_asked(*id));
                let asks = self.asks.iter();
                asks.map(|(_, at, ask)| moved(self, *at, ask)).collect()
            };
            if let Some(place) = due.iter().position(|due| *due) {
                let (id, upstream, ask) = self.asks.remove(place);
                let answer = self.nodes[upstream].answer(&ask);
                self.plan.answered(id, answer, self.now);
                self.answered += 1;
            }
            let step = Duration::from_millis(100);
            self.now = self.now.plus(step);
        }
        self.turn();
    }

    pub(super) fn head(&self) -> Option<i64> {
        self.rows
            .standing
            .live
            .as_ref()
            .map(|(_, _, head, _)| *head)
    }

    pub(super) fn view(&self) -> PlanView {
        self.plan.view(self.now).unwrap()
    }
}
