//! What the plan does where an upstream is not as it should be.

use super::change::BootstrapReason;
use super::model::Modification;
use super::plan::{PlanSettings, ReplicaPlan};
use super::plan_step::{Ask, Step, Written};
use super::testing::{Node, Rows, entry};
use super::view::ReplicaState;
use crate::time::Timestamp;
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

struct Bench {
    node: Node,
    rows: Rows,
    plan: ReplicaPlan,
    now: Timestamp,
    asked: Vec<Ask>,
}

impl Bench {
    fn new() -> Self {
        let settings = PlanSettings {
            upstreams: 1,
            by_index: false,
            chunk: 2,
            ranges: 1,
            poll_interval: Duration::from_secs(1),
            watch: Duration::from_secs(30),
            audit_interval: None,
        };
        Self {
            node: Node::new(3, 100),
            rows: Rows::default(),
            plan: ReplicaPlan::new(settings),
            now: START,
            asked: Vec::new(),
        }
    }

    fn publish(&mut self, key: &str) {
        let update = Modification::Update(entry(key, &self.node.head.to_string()));
        self.node.publish(vec![update]);
    }

    /// One turn, and what came of it; `between` happens before each answer.
    fn turn(&mut self, between: &mut impl FnMut(&mut Node)) {
        for step in self.plan.next(self.now) {
            match step {
                Step::Read => self.plan.standing(self.rows.standing.clone()),
                Step::Ask { id, ask, .. } => {
                    between(&mut self.node);
                    let answer = self.node.answer(&ask);
                    self.asked.push(ask);
                    self.plan.answered(id, answer, self.now);
                }
                Step::Local { id, fetching } => {
                    let read = self.rows.read(&fetching);
                    self.plan.local_read(id, read, self.now);
                }
                Step::Write { id, change } => {
                    let applied = self.rows.write(&change, self.now);
                    let refused = || Written::Not("refused".to_owned());
                    let written = applied.map_or_else(refused, Written::Done);
                    self.plan.written(id, written, self.now);
                }
            }
        }
        let next = self.now.plus(Duration::from_millis(1));
        self.now = self.plan.wake_at().unwrap_or(next).max(next);
    }

    fn turns(&mut self, turns: usize) {
        for _ in 0..turns {
            self.turn(&mut |_| {});
        }
    }

    fn live_head(&self) -> Option<i64> {
        self.rows
            .standing
            .live
            .as_ref()
            .map(|(_, _, head, _)| *head)
    }
}

#[test]
fn an_upstream_that_went_back_in_time_is_noticed_and_copied_anew() {
    let mut bench = Bench::new();
    bench.publish("a");
    let backup = bench.node.clone();
    bench.publish("b");
    bench.turns(20);
    assert_eq!(bench.live_head(), Some(2));
    bench.node = backup;
    bench.turns(20);
    assert_eq!(bench.live_head(), Some(1));
    assert_eq!(bench.rows.live, bench.node.data);
    let reasons = &bench.rows.standing.bootstraps;
    assert_eq!(reasons.get(&BootstrapReason::WentBack), Some(&1));
}

#[test]
fn bootstraps_that_history_is_too_short_for_are_counted_and_made_ever_less_often() {
    let mut bench = Bench::new();
    for key in ["a", "b", "c", "d", "e", "f"] {
        bench.publish(key);
    }
    let mut begun = Vec::new();
    for _ in 0..200 {
        bench.turn(&mut |node| {
            for _ in 0..5 {
                let update = Modification::Update(entry("a", &node.head.to_string()));
                node.publish(vec![update]);
            }
        });
        let outrun = bench.rows.standing.outrun;
        if usize::try_from(outrun).unwrap() > begun.len() {
            begun.push(bench.now);
        }
    }
    assert!(begun.len() > 4, "{begun:?}");
    let pauses: Vec<u64> = begun
        .windows(2)
        .map(|two| two[1].since(two[0]).as_secs())
        .collect();
    assert!(pauses.windows(2).all(|two| two[0] <= two[1]), "{pauses:?}");
    assert!(pauses.last() > pauses.first(), "{pauses:?}");
    // Once it rests, it is copied, and the count begins again.
    bench.turns(60);
    assert_eq!(bench.live_head(), Some(bench.node.head));
    assert_eq!(bench.rows.standing.outrun, 0);
}

#[test]
fn while_nothing_changes_the_only_requests_are_waits() {
    let mut bench = Bench::new();
    bench.publish("a");
    bench.turns(20);
    bench.asked.clear();
    bench.turns(30);
    let waits = bench
        .asked
        .iter()
        .filter(|ask| matches!(ask, Ask::Watch { .. }));
    assert_eq!(waits.count(), bench.asked.len());
}

#[test]
fn what_changes_right_after_a_diff_is_not_waited_for_by_the_poll_interval() {
    let mut bench = Bench::new();
    bench.publish("a");
    bench.turns(20);
    bench.publish("b");
    while bench.live_head() != Some(2) {
        bench.turns(1);
    }
    let since = bench.now;
    bench.publish("c");
    while bench.live_head() != Some(3) {
        bench.turns(1);
    }
    assert!(bench.now.since(since) < Duration::from_millis(100));
}

#[test]
fn an_upstream_that_is_away_is_asked_ever_less_often_and_the_replica_is_failing() {
    let mut bench = Bench::new();
    bench.publish("a");
    bench.turns(20);
    bench.node.down = true;
    bench.asked.clear();
    let since = bench.now;
    bench.turns(12);
    let view = bench.plan.view(bench.now).unwrap();
    assert_eq!(view.state, ReplicaState::Failing);
    assert!(bench.now.since(since) > Duration::from_secs(30));
    bench.node.down = false;
    bench.publish("b");
    bench.turns(20);
    assert_eq!(bench.live_head(), Some(2));
    let view = bench.plan.view(bench.now).unwrap();
    assert_eq!(view.state, ReplicaState::Live);
}
