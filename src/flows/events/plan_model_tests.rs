//! The plan against a database in memory: any interleaving of duplicates,
//! redelivery, lost and late news, crashes between any two steps, failing
//! handlers and orders of operators. And with a gateway that sends again what it
//! got no answer to, and resumes where it is asked to: all of its chain is
//! recorded.

use super::plan::SubscriptionPlan;
use super::plan_model_ops::{Op, chain, ops, settings};
use super::testing::{Database, Row};
use super::{Decision, EventChange, Judgement, Known, Marked, OpenEvent, Place, Step};
use crate::config::{EventHandlerSettings, Late, Order, Relevance, SubscriptionSettings};
use crate::time::Timestamp;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);
/// Small, so that pages are read all the time.
const ROOM: usize = 6;

/// A third is known from the start, a third becomes known when the test says
/// so, and the rest never.
fn tx_of(id: u8) -> String {
    match id % 3 {
        0 => format!("known{id}"),
        1 => format!("later{id}"),
        _ => format!("never{id}"),
    }
}

/// What came of a step, not told yet.
#[derive(Clone, Debug)]
enum Answer {
    Page(Vec<OpenEvent>),
    Judged(Vec<Judgement>),
    Marked(Marked),
    Handled(Result<(), String>),
}

struct World {
    db: Database,
    plan: SubscriptionPlan,
    settings: SubscriptionSettings,
    now: Timestamp,
    under_way: Vec<(Step, Option<Answer>)>,
    news: Vec<Vec<OpenEvent>>,
    orders_seen: i64,
    /// Events as their effects happened.
    effects: Vec<Place>,
    /// How often an effect may have happened more than once.
    again: BTreeMap<Place, usize>,
    /// Unknown answers since the plan began, by event.
    looks: BTreeMap<Place, u32>,
    failures: u32,
    commit_rows: usize,
    /// Events that a crash met before it was written that they are late: nobody
    /// knows any more.
    excused: BTreeSet<Place>,
    /// Effects of which the plan, or the position, knows.
    made: Vec<Place>,
    monotone: bool,
    /// What a gateway sends, block by block, and how far it is. Empty: events come
    /// as they like.
    chain: Vec<(i64, u8)>,
    sent: usize,
}

impl World {
    fn new(settings: SubscriptionSettings, monotone: bool) -> Self {
        let mut db = Database::default();
        db.known.extend((0..30).step_by(3).map(tx_of));
        let plan = SubscriptionPlan::with_room(&settings, 4, db.checkpoint.clone(), ROOM);
        Self {
            db,
            plan,
            settings,
            now: START,
            under_way: Vec::new(),
            news: Vec::new(),
            orders_seen: 0,
            effects: Vec::new(),
            again: BTreeMap::new(),
            looks: BTreeMap::new(),
            failures: 0,
            commit_rows: 4,
            excused: BTreeSet::new(),
            made: Vec::new(),
            monotone,
            chain: Vec::new(),
            sent: 0,
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Record {
                block,
                rank,
                id,
                news,
            } if self.chain.is_empty() => self.record(block, rank, id, news),
            // The answer to a third of them is lost.
            Op::Record { rank, news, .. } => self.send(rank == 0, news),
            Op::Known { id, told } if id % 3 == 1 => {
                self.db.known.insert(tx_of(id));
                if told {
                    self.plan.known(&Known {
                        tx_ids: vec![tx_of(id)],
                        keys: Vec::new(),
                    });
                }
            }
            Op::Known { .. } => {}
            Op::News(place) if place < self.news.len() => {
                // Told twice now and then.
                let news = self.news[place].clone();
                if place % 2 == 0 {
                    self.news.remove(place);
                }
                self.plan.recorded(news, self.now);
            }
            Op::News(_) => {}
            Op::Pass(millis) => self.now = self.now.plus(Duration::from_millis(millis)),
            Op::Next => self.next(),
            Op::Perform(place) => self.perform(place),
            Op::Tell(place) => self.tell(place),
            Op::Away(place) => {
                if let Some((Step::Mark(_), answer)) = self.under_way.get_mut(place) {
                    *answer = Some(Answer::Marked(Marked::Away("away".to_owned())));
                }
            }
            Op::Look => self.look(),
            Op::Crash => self.crash(),
            Op::Subscribe => self.subscribe(),
            Op::Fail(times) => self.failures = times,
            Op::Pause => {
                self.db.checkpoint.orders += 1;
                self.db.checkpoint.paused = Some((self.now, "wait".to_owned()));
            }
            Op::Resume => {
                self.db.order();
                self.db.checkpoint.paused = None;
            }
            Op::Retry if self.db.checkpoint.halted.is_some() => self.db.order(),
            Op::Skip => {
                let handled = self.under_way.iter().find_map(|(step, _)| match step {
                    Step::Handle(event, _) if self.db.rows[&event.place].is_open() => {
                        Some(event.place.arrival)
                    }
                    _ => None,
                });
                let halted = self.db.checkpoint.halted.as_ref().map(|halted| halted.0);
                if let Some(arrival) = halted.or(handled) {
                    self.db.order();
                    let mut rows = self.db.rows.values_mut();
                    let row = rows.find(|row| row.event.place.arrival == arrival).unwrap();
                    row.event.decision = Decision::Skipped;
                }
            }
            Op::Retry => {}
            Op::Configure(rows) => {
                if rows != self.commit_rows {
                    self.looks.clear();
                }
                self.commit_rows = rows;
                self.plan.settings(&self.settings, rows);
            }
        }
    }

    fn record(&mut self, block: i64, rank: i64, id: u8, news: u8) {
        let newest = self.db.rows.keys().map(|place| place.block).max();
        let (block, rank) = match newest {
            Some(newest) if self.monotone => (newest + i64::from(block > 2), 0),
            _ => (block, rank),
        };
        self.take(block, rank, id, news);
    }

    fn take(&mut self, block: i64, rank: i64, id: u8, news: u8) {
        if let Some(event) =
            self.db
                .record((block, rank), tx_of(id), id.is_multiple_of(5), self.now)
        {
            match news {
                0 => {}
                1 => self.news.push(vec![event]),
                _ => self.plan.recorded(vec![event], self.now),
            }
        }
    }

    /// The gateway sends its next event, and again if it got no answer.
    fn send(&mut self, answer_is_lost: bool, news: u8) {
        let Some(&(block, id)) = self.chain.get(self.sent) else {
            return;
        };
        self.take(block, 0, id, news);
        self.sent += usize::from(!answer_is_lost);
    }

    /// The gateway begins where a source asks it to.
    fn subscribe(&mut self) {
        let from = self.db.checkpoint.resume_from(0);
        self.sent = self.chain.partition_point(|(block, _)| *block < from);
    }

    fn next(&mut self) {
        for step in self.plan.next(self.now) {
            if let Step::Handle(event, _) = &step {
                self.check_turn(event.place);
            }
            self.under_way.push((step, None));
        }
    }

    /// An effect may happen now: all that was recorded before and lies before it
    /// is done with.
    fn check_turn(&self, place: Place) {
        let earlier = |row: &&Row| {
            row.is_open() && row.event.place < place && row.event.place.arrival < place.arrival
        };
        let skipped: Vec<&Row> = self.db.rows.values().filter(earlier).collect();
        assert!(skipped.is_empty(), "{place:?} before {skipped:?}");
        let row = &self.db.rows[&place];
        let overtaken = self.made.iter().any(|effect| *effect > place);
        if self.settings.late == Late::Halt
            && overtaken
            && !self.effects.contains(&place)
            && !self.excused.contains(&place)
        {
            assert!(
                row.event.late && place.arrival <= self.db.checkpoint.late_to,
                "nobody let the late {row:?} pass"
            );
        }
    }

    fn perform(&mut self, place: usize) {
        let Some((step, None)) = self.under_way.get(place).cloned() else {
            return;
        };
        let answer = match step {
            Step::Load(load) => Answer::Page(self.db.page(load.after, load.limit)),
            Step::Sweep(sweep) => Answer::Page(self.db.since(sweep.since, sweep.limit)),
            Step::Judge(asked) => {
                let judge = |(place, tx_id, _)| Judgement {
                    place,
                    known: self.db.known.contains(&tx_id),
                };
                let judged: Vec<Judgement> = asked.into_iter().map(judge).collect();
                for unknown in judged.iter().filter(|judgement| !judgement.known) {
                    *self.looks.entry(unknown.place).or_default() += 1;
                }
                Answer::Judged(judged)
            }
            Step::Handle(event, _) => Answer::Handled(self.handle(event.place)),
            Step::Mark(changes) => Answer::Marked(self.write(&changes)),
        };
        self.under_way[place].1 = Some(answer);
    }

    fn handle(&mut self, place: Place) -> Result<(), String> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err("refused".to_owned());
        }
        self.effects.push(place);
        self.made.push(place);
        Ok(())
    }

    fn write(&mut self, changes: &[EventChange]) -> Marked {
        if self.orders_seen != self.db.checkpoint.orders {
            return Marked::Fenced;
        }
        for change in changes {
            match change {
                EventChange::Decided {
                    place,
                    decision: Decision::Irrelevant,
                    ..
                } => {
                    let looks = self.looks.get(place);
                    assert!(looks >= Some(&3), "{place:?} was not waited for");
                }
                EventChange::Processed { place, .. } => {
                    let table = self.settings.handler == EventHandlerSettings::Table;
                    if table && !self.db.rows[place].processed {
                        self.check_turn(*place);
                        self.effects.push(*place);
                        self.made.push(*place);
                    }
                }
                _ => {}
            }
            self.db.write(change);
            if let EventChange::Position(place) = change {
                let open = self.db.open().find(|event| event.place <= *place);
                assert!(
                    !self.monotone || open.is_none(),
                    "{open:?} was passed at {place:?}"
                );
            }
        }
        Marked::Done
    }

    fn tell(&mut self, place: usize) {
        if self
            .under_way
            .get(place)
            .is_none_or(|(_, answer)| answer.is_none())
        {
            return;
        }
        let (step, answer) = self.under_way.remove(place);
        let now = self.now;
        match (step, answer.unwrap()) {
            (Step::Load(load), Answer::Page(page)) => self.plan.loaded(&load, page, now),
            (Step::Sweep(sweep), Answer::Page(page)) => self.plan.swept(&sweep, page, now),
            (Step::Judge(_), Answer::Judged(judged)) => self.plan.judged(&judged, now),
            (Step::Mark(_), Answer::Marked(marked)) => self.plan.marked(marked, now),
            (Step::Handle(event, _), Answer::Handled(result)) => {
                self.plan.handled(event.place, result, now);
            }
            (step, answer) => panic!("{answer:?} to {step:?}"),
        }
    }

    /// Looks for what others recorded, and for orders.
    fn look(&mut self) {
        self.plan.look_again();
        let changed = self.plan.orders() != self.db.checkpoint.orders || self.plan.is_fenced();
        if changed && !self.plan.is_marking() {
            self.looks.clear();
            self.orders_seen = self.db.checkpoint.orders;
            self.plan.checkpoint(self.db.checkpoint.clone());
        }
    }

    fn crash(&mut self) {
        let unknown = self.db.open().filter(|event| !event.late);
        self.excused.extend(unknown.map(|event| event.place));
        let position = self.db.checkpoint.position;
        self.made.retain(|effect| Some(*effect) <= position);
        for (step, answer) in std::mem::take(&mut self.under_way) {
            if let (Step::Handle(event, _), Some(Answer::Handled(Ok(())))) = (step, answer) {
                *self.again.entry(event.place).or_default() += 1;
            }
        }
        // Told of and not written yet: in flight as well.
        if let Some(last) = self.effects.last()
            && !self.db.rows[last].processed
        {
            *self.again.entry(*last).or_default() += 1;
        }
        self.looks.clear();
        self.news.clear();
        self.subscribe();
        self.orders_seen = self.db.checkpoint.orders;
        self.plan = SubscriptionPlan::with_room(
            &self.settings,
            self.commit_rows,
            self.db.checkpoint.clone(),
            ROOM,
        );
    }

    /// Everything works from now on: all has to be done with in the end.
    fn finish(&mut self) {
        self.failures = 0;
        while self.sent < self.chain.len() {
            self.send(false, 0);
        }
        for _ in 0..5000 {
            let checkpoint = &self.db.checkpoint;
            if checkpoint.paused.is_some() || checkpoint.halted.is_some() {
                self.run(&Op::Resume);
            }
            self.look();
            self.next();
            for _ in 0..self.under_way.len() {
                self.perform(0);
                self.tell(0);
            }
            let told = self.under_way.is_empty() && !self.plan.is_marking();
            if told && self.plan.carried.is_none() && self.db.open().next().is_none() {
                return;
            }
            let wake = self.plan.wake_at(self.now).map(|at| at.since(self.now));
            let pause = wake.unwrap_or(Duration::ZERO).max(Duration::from_millis(1));
            self.now = self.now.plus(pause.min(Duration::from_secs(60)));
        }
        panic!("stuck: {:?}\n{:#?}", self.db, self.plan);
    }

    fn check(&self) {
        if !self.chain.is_empty() {
            let recorded = self.db.rows.values().map(|row| &row.event);
            let recorded: BTreeSet<(i64, String)> = recorded
                .map(|event| (event.place.block, event.tx_id.clone()))
                .collect();
            let chain = self.chain.iter().map(|(block, id)| (*block, tx_of(*id)));
            assert_eq!(recorded, chain.collect(), "all of the chain is recorded");
        }
        let everything = self.settings.relevance == Relevance::All;
        for (place, row) in &self.db.rows {
            let times = self
                .effects
                .iter()
                .filter(|effect| *effect == place)
                .count();
            let again = self.again.get(place).copied().unwrap_or_default();
            match row.event.decision {
                Decision::Relevant => {
                    assert!(times >= 1 && times <= 1 + again, "{times} times: {row:?}");
                    assert!(everything || self.db.known.contains(&row.event.tx_id));
                }
                Decision::Irrelevant => assert!(
                    times == 0 && !everything && !row.event.tx_id.starts_with("known"),
                    "{times} times: {row:?}"
                ),
                Decision::Skipped => {
                    assert!(times <= 1 + again);
                    assert!(
                        times == 0 || row.processed || again > 0,
                        "the consumer has it, and it is not told: {row:?}"
                    );
                }
                Decision::Pending => panic!("left: {row:?}"),
            }
        }
        if self.monotone {
            let mut seen = BTreeSet::new();
            let first = self.effects.iter().filter(|place| seen.insert(**place));
            assert!(first.is_sorted(), "{:?}", self.effects);
        }
    }
}

fn play(settings: SubscriptionSettings, monotone: bool, ops: &[Op]) {
    let mut world = World::new(settings, monotone);
    for op in ops {
        world.run(op);
    }
    world.finish();
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Blocks that come in order are processed in order, once each.
    #[test]
    fn whatever_happens_relevant_events_are_processed_once_and_in_order(table in any::<bool>(), ops in ops()) {
        play(settings(table, Late::Halt, Order::Arrival), true, &ops);
    }

    /// Whatever crashes, the gateway or the server, between any two steps: all
    /// that the gateway has is recorded, and what is relevant of it is processed
    /// once and in order.
    #[test]
    fn all_of_a_gateways_chain_is_recorded_and_processed_once_and_in_order(table in any::<bool>(), everything in any::<bool>(), chain in chain(), ops in ops()) {
        let mut settings = settings(table, Late::Halt, Order::Arrival);
        if everything {
            settings.relevance = Relevance::All;
        }
        let mut world = World::new(settings, true);
        world.chain = chain;
        for op in &ops {
            world.run(op);
        }
        world.finish();
        world.check();
    }

    /// Blocks that come in any order: nothing is left, nothing is done twice,
    /// and nothing overtakes what was recorded before it.
    #[test]
    fn late_events_are_processed_as_well(table in any::<bool>(), halt in any::<bool>(), ordinal in any::<bool>(), ops in ops()) {
        let late = if halt { Late::Halt } else { Late::Process };
        let order = if ordinal { Order::Ordinal { settle: Duration::from_millis(700) } } else { Order::Arrival };
        play(settings(table, late, order), false, &ops);
    }
}
