//! Tests of the plan against a table of batches in memory.

use super::load::BatchesPage;
use super::plan::BatchesPlan;
use super::view::BreakerPosition;
use super::work::{BatchesReport, BatchesWork, Failure};
use crate::config::{self, BatchesSettings, LedgerSettings, Settings};
use crate::leases::{Holdings, batches_lease};
use crate::ledgers::LedgerError;
use crate::store::{DueCursor, DueQuery, LeaseStake, PendingBatch};
use crate::time::Timestamp;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn settings(kind: &str, ledger: &str) -> Settings {
    let text = format!(
        "[batches]\npoll_interval = \"1h\"\nbackoff = {{ min = \"1s\", max = \"8s\" }}\nbreaker_failures = 2\n\
         [[ledgers]]\nname = \"l\"\nkind = \"{kind}\"\nurl = \"http://127.0.0.1:1\"\n{ledger}\n"
    );
    config::parse(
        &text,
        "test.toml",
        Path::new("/"),
        [],
        config::LoadOptions::default(),
    )
    .unwrap()
    .settings
}

/// A plan for one ledger, and the table it reads.
struct World {
    plan: BatchesPlan,
    batches: BatchesSettings,
    ledgers: Vec<LedgerSettings>,
    now: Timestamp,
    /// Outstanding rows.
    table: BTreeMap<i64, PendingBatch>,
    /// Queries that were begun.
    queries: Vec<DueQuery>,
    open: Vec<BatchesWork>,
}

impl World {
    fn new(kind: &str, ledger: &str) -> Self {
        let Settings {
            batches, ledgers, ..
        } = settings(kind, ledger);
        let mut plan = BatchesPlan::new(batches.clone(), &ledgers, BTreeMap::new(), START);
        plan.hold(&holdings(), START);
        let now = START.plus(ms(10));
        Self {
            plan,
            batches,
            ledgers,
            now,
            table: BTreeMap::new(),
            queries: Vec::new(),
            open: Vec::new(),
        }
    }

    fn insert(&mut self, seq: i64, service: &str, polled: Option<Timestamp>) {
        let mut row = PendingBatch::sample(seq, service, &format!("b{seq}"), START);
        row.last_polled_at = polled;
        row.next_poll_at = polled;
        self.table.insert(seq, row);
    }

    /// A page, as the database would answer now.
    fn page(&self, query: &DueQuery) -> BatchesPage {
        let due = |row: &&PendingBatch| {
            row.next_poll_at.is_none_or(|at| at <= query.now)
                && !query.without_services.contains(&row.service_id)
        };
        let mut rows: Vec<(DueCursor, PendingBatch)> = self
            .table
            .values()
            .filter(due)
            .map(|row| match row.next_poll_at {
                None => (DueCursor::AtOnce(row.seq), row.clone()),
                Some(at) => (DueCursor::Timed(at, row.seq), row.clone()),
            })
            .filter(|(place, _)| match (*place, query.after) {
                (DueCursor::Timed(..), DueCursor::AtOnce(_)) => behind(*place, query.then),
                (place, after) => behind(place, after),
            })
            .collect();
        rows.sort_by_key(|(place, _)| order(*place));
        let limit = usize::try_from(query.limit).unwrap();
        let done = rows.len() < limit;
        rows.truncate(limit);
        let cursor = rows.last().map_or(query.then, |(place, _)| *place);
        let later = self
            .table
            .values()
            .filter_map(|row| row.next_poll_at)
            .filter(|at| *at > query.now);
        BatchesPage {
            ledger: query.ledger.clone(),
            rows: rows.into_iter().map(|(_, row)| row).collect(),
            cursor,
            done,
            next_due: if done { later.min() } else { None },
        }
    }

    /// Reads all that the plan wants now, at once.
    fn read(&mut self) {
        loop {
            let queries = self.plan.wants(self.now);
            if queries.is_empty() {
                return;
            }
            for query in queries {
                let page = self.page(&query);
                self.plan.loaded(page, self.now);
            }
        }
    }

    fn take(&mut self) -> Option<Vec<i64>> {
        let work = self.plan.next_work(self.now)?;
        let seqs = seqs(&work);
        self.open.push(work);
        Some(seqs)
    }

    fn take_all(&mut self) -> Vec<Vec<i64>> {
        std::iter::from_fn(|| self.take()).collect()
    }

    /// Ends a piece of work: settled, polled again later, or failed.
    fn end(&mut self, place: usize, how: &End) {
        let work = self.open.remove(place);
        let mut due_at = None;
        for batch in &work.batches {
            match how {
                End::Settled => drop(self.table.remove(&batch.seq)),
                End::Pending(after) => {
                    let at = self.now.plus(*after);
                    due_at = Some(at);
                    if let Some(row) = self.table.get_mut(&batch.seq) {
                        (row.last_polled_at, row.next_poll_at) = (Some(self.now), Some(at));
                    }
                }
                End::Failed(_) | End::Fallen => {}
            }
        }
        if !matches!(how, End::Fallen) {
            let report = report(&work, how);
            self.plan.report(&report, work.batches.len(), self.now, 0.0);
            if let Some(at) = due_at {
                self.plan.due_at("l", at);
            }
        }
        self.plan.fetched("l", &work.service_id);
        self.plan.returned("l", &seqs(&work));
        if matches!(how, End::Fallen) {
            self.plan
                .abandoned(&work.ledger, &work.service_id, self.now);
        }
    }

    fn fail(&mut self, place: usize) {
        let timeout = LedgerError::Timeout { after: ms(500) };
        self.end(place, &End::Failed(Failure::Ledger(timeout)));
    }

    /// Lets the time pass until the plan wants to be asked again.
    fn sleep(&mut self) -> Duration {
        let at = self.plan.wake_at(self.now).unwrap();
        let slept = at.since(self.now);
        self.now = self.now.plus(slept.max(ms(1)));
        slept
    }
}

#[derive(Clone, Debug)]
enum End {
    Settled,
    Pending(Duration),
    Failed(Failure),
    /// Whoever had it died.
    Fallen,
}

fn holdings() -> Holdings {
    let name = batches_lease("l");
    let stake = LeaseStake {
        name: name.clone(),
        epoch: 1,
    };
    Holdings {
        held: [(name, stake)].into(),
        others: BTreeMap::new(),
    }
}

fn seqs(work: &BatchesWork) -> Vec<i64> {
    work.batches.iter().map(|batch| batch.seq).collect()
}

const fn order(place: DueCursor) -> (bool, Timestamp, i64) {
    match place {
        DueCursor::AtOnce(seq) => (false, Timestamp::from_millis(0), seq),
        DueCursor::Timed(at, seq) => (true, at, seq),
    }
}

fn behind(place: DueCursor, after: DueCursor) -> bool {
    order(place) > order(after)
}

fn report(work: &BatchesWork, how: &End) -> BatchesReport {
    let failure = if let End::Failed(failure) = how {
        Some(failure.clone())
    } else {
        None
    };
    let count = work.batches.len() as u64;
    BatchesReport {
        ledger: work.ledger.clone(),
        service_id: work.service_id.clone(),
        requests: 1,
        answered: if failure.is_none() { count } else { 0 },
        not_asked: if failure.is_none() { 0 } else { count },
        failure,
        settled: 0,
        unknown: 0,
        missing: 0,
        unasked: 0,
        fenced: false,
        stake: work.stake.clone(),
    }
}

#[test]
fn never_polled_first_then_by_last_poll_then_as_submitted() {
    let mut world = World::new("sawtooth", "connections = 1\nids_per_request = 10");
    let at = |seconds| Some(START.minus(Duration::from_secs(seconds)));
    for (seq, polled) in [(1, at(5)), (2, at(9)), (3, None), (4, at(5)), (5, None)] {
        world.insert(seq, "", polled);
    }
    world.read();
    assert_eq!(world.take().unwrap(), [3, 5, 2, 1, 4]);
}

#[test]
fn a_slow_service_leaves_connections_to_the_others() {
    let mut world = World::new("splinter", "connections = 4\nids_per_request = 1");
    for seq in 0..40 {
        world.insert(seq, if seq < 20 { "c::slow" } else { "c::quick" }, None);
    }
    world.read();
    let taken = world.take_all();
    assert_eq!(
        taken,
        [[0], [1], [20], [21]],
        "two services share four connections evenly"
    );
    // The slow one's stay open; the other one goes on.
    for _ in 0..18 {
        let quick = world
            .open
            .iter()
            .position(|work| &*work.service_id == "c::quick")
            .unwrap();
        world.end(quick, &End::Settled);
        world.now = world.now.plus(ms(6));
        world.read();
        let next = world.take().unwrap();
        assert!(next[0] >= 22, "{next:?}");
    }
    // Alone, a service leaves one connection free for whoever comes.
    let mut world = World::new("splinter", "connections = 4\nids_per_request = 1");
    (0..9).for_each(|seq| world.insert(seq, "c::s", None));
    world.read();
    assert_eq!(world.take_all().len(), 3);
}

#[test]
fn a_backlog_beyond_the_queue_is_read_on_as_the_queue_empties() {
    let mut world = World::new("sawtooth", "connections = 2\nids_per_request = 5");
    (0..200).for_each(|seq| world.insert(seq, "", None));
    let mut steps = 0;
    while !world.table.is_empty() {
        world.read();
        assert!(
            world.plan.view(world.now).ledgers[0].queued <= 20,
            "the cap of a service"
        );
        world.take_all();
        while !world.open.is_empty() {
            world.end(0, &End::Settled);
        }
        world.take_all();
        while !world.open.is_empty() {
            world.end(0, &End::Settled);
        }
        let slept = world.sleep();
        assert!(
            world.table.is_empty() || slept <= ms(20),
            "{slept:?} with {} due",
            world.table.len()
        );
        steps += 1;
        assert!(steps < 100);
    }
}

#[test]
fn a_full_queue_is_not_forgotten_when_a_sweep_passed_it_over() {
    let mut world = World::new("sawtooth", "connections = 2\nids_per_request = 5");
    (0..100).for_each(|seq| world.insert(seq, "", None));
    world.read();
    // Sweeps pass while the ledger is slow and the queue is full.
    for _ in 0..3 {
        world.now = world.now.plus(ms(300));
        world.plan.wake(None, world.now);
        world.now = world.now.plus(ms(5));
        world.read();
    }
    let mut done = 0;
    while let Some(seqs) = world.take() {
        done += seqs.len();
        world.end(0, &End::Settled);
        world.now = world.now.plus(ms(6));
        world.read();
    }
    assert_eq!(done, 100, "all of them with no wait for the poll interval");
}

#[test]
fn a_sweep_of_many_pages_goes_on_and_ends() {
    let mut world = World::new("splinter", "connections = 1\nids_per_request = 100");
    for seq in 0..12_000 {
        world.insert(seq, &format!("c::s{}", seq % 100), None);
    }
    let mut seen = BTreeSet::new();
    for _ in 0..2_000 {
        world.read();
        if let Some(seqs) = world.take() {
            assert!(seqs.iter().all(|seq| seen.insert(*seq)));
            world.end(0, &End::Settled);
        } else if world.sleep() > ms(200) {
            break;
        }
    }
    assert_eq!(seen.len(), 12_000);
}

#[test]
fn a_page_older_than_a_return_brings_nothing_back() {
    let mut world = World::new("sawtooth", "connections = 1\nids_per_request = 10");
    world.insert(1, "", None);
    world.read();
    assert_eq!(world.take().unwrap(), [1]);
    world.now = world.now.plus(ms(100));
    let query = world.plan.wants(world.now).remove(0);
    let stale = world.page(&query);
    assert_eq!(stale.rows.len(), 1);
    world.end(0, &End::Settled);
    world.plan.loaded(stale, world.now);
    assert_eq!(world.take(), None);
}

#[test]
fn what_becomes_due_during_a_sweep_is_not_overslept() {
    let mut world = World::new("sawtooth", "connections = 1\nids_per_request = 10");
    world.insert(1, "", None);
    world.read();
    world.take().unwrap();
    world.now = world.now.plus(ms(100));
    let query = world.plan.wants(world.now).remove(0);
    let mut page = world.page(&query);
    // Read before the row was written: nothing is due, now or later.
    page.rows.clear();
    world.end(0, &End::Pending(Duration::from_secs(2)));
    world.plan.loaded(page, world.now);
    assert!(world.sleep() <= Duration::from_secs(2));
    world.read();
    assert_eq!(world.take().unwrap(), [1]);
}

#[test]
fn what_is_held_is_not_handed_out_again_and_what_is_adopted_neither() {
    let mut world = World::new("sawtooth", "connections = 3\nids_per_request = 2");
    (1..=4).for_each(|seq| world.insert(seq, "", None));
    world.plan.adopt("l", &Arc::from(""), &[1, 2], false);
    world.read();
    assert_eq!(world.take_all(), [[3, 4]]);
    world.now = world.now.plus(ms(100));
    world.plan.wake(Some("l"), world.now);
    world.now = world.now.plus(ms(10));
    world.read();
    assert_eq!(world.take(), None);
    // The adopted work came back with nothing: done again.
    world.plan.fetched("l", "");
    world.plan.returned("l", &[1, 2]);
    world
        .plan
        .abandoned(&Arc::from("l"), &Arc::from(""), world.now);
    world.now = world.now.plus(ms(300));
    world.read();
    assert_eq!(world.take().unwrap(), [1, 2]);
}

#[test]
fn a_wake_finds_what_came_without_waiting_for_the_interval() {
    let mut world = World::new("sawtooth", "");
    world.read();
    world.now = world.now.plus(Duration::from_secs(60));
    world.insert(1, "", None);
    world.read();
    assert_eq!(world.take(), None, "nobody told");
    world.plan.wake(Some("another"), world.now);
    assert!(world.plan.wants(world.now.plus(ms(10))).is_empty());
    world.plan.wake(Some("l"), world.now);
    assert!(world.sleep() <= ms(5));
    world.read();
    assert_eq!(world.take().unwrap(), [1]);
}

#[test]
fn an_open_breaker_rests_then_probes_once_then_lets_all_pass() {
    let mut world = World::new("splinter", "connections = 4\nids_per_request = 1");
    for seq in 0..8 {
        world.insert(seq, &format!("c::s{seq}"), None);
    }
    world.read();
    assert_eq!(world.take_all().len(), 4);
    let breaker = |world: &World| world.plan.view(world.now).ledgers[0].breaker;
    world.fail(0);
    assert_eq!(breaker(&world), BreakerPosition::Closed);
    world.fail(0);
    assert_eq!(breaker(&world), BreakerPosition::Open);
    world.fail(0);
    world.fail(0);
    assert_eq!(world.take(), None);
    assert!(world.plan.wants(world.now.plus(ms(900))).is_empty());
    assert_eq!(world.sleep(), Duration::from_secs(1));
    assert_eq!(breaker(&world), BreakerPosition::HalfOpen);
    world.read();
    assert_eq!(world.take_all().len(), 1, "one to see whether it is back");
    world.fail(0);
    assert_eq!(world.sleep(), Duration::from_secs(2), "longer each time");
    world.read();
    assert_eq!(world.take_all().len(), 1);
    world.end(0, &End::Settled);
    assert_eq!(breaker(&world), BreakerPosition::Closed);
    world.now = world.now.plus(ms(10));
    world.read();
    assert_eq!(world.take_all().len(), 4);
}

#[test]
fn nothing_is_asked_without_the_lease() {
    let mut world = World::new("sawtooth", "connections = 2\nids_per_request = 1");
    (1..=3).for_each(|seq| world.insert(seq, "", None));
    world.read();
    world.take().unwrap();
    world.plan.hold(&Holdings::default(), world.now);
    assert_eq!(world.take(), None);
    assert_eq!(world.plan.wake_at(world.now), None);
    assert!(world.plan.wants(world.now.plus(ms(100))).is_empty());
    world.plan.hold(&holdings(), world.now);
    world.now = world.now.plus(ms(10));
    world.read();
    assert_eq!(
        world.take().unwrap(),
        [2],
        "what is still out is not asked again"
    );
}

/// A step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Insert(u8),
    Begin,
    Load(bool),
    Take,
    End(usize, End),
    Wake,
    Pass(u64),
    Configure,
    Hold(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let timeout = LedgerError::Timeout { after: ms(1) };
    let end = prop_oneof![
        4 => Just(End::Settled),
        3 => (1_u64..3000).prop_map(|after| End::Pending(ms(after))),
        1 => Just(End::Failed(Failure::Ledger(timeout))),
        1 => Just(End::Failed(Failure::Ledger(LedgerError::TooLarge { detail: String::new() }))),
        1 => Just(End::Failed(Failure::Ledger(LedgerError::Unreachable { detail: String::new() }))),
        1 => Just(End::Fallen),
    ];
    let step = prop_oneof![
        4 => (0_u8..4).prop_map(Step::Insert),
        4 => Just(Step::Begin),
        4 => any::<bool>().prop_map(Step::Load),
        6 => Just(Step::Take),
        5 => (any::<usize>(), end).prop_map(|(place, end)| Step::End(place, end)),
        1 => Just(Step::Wake),
        4 => (1_u64..2000).prop_map(Step::Pass),
        1 => Just(Step::Configure),
        1 => any::<bool>().prop_map(Step::Hold),
    ];
    proptest::collection::vec(step, 1..200)
}

impl World {
    fn step(&mut self, step: Step, next_seq: &mut i64) {
        match step {
            Step::Insert(service) => {
                for _ in 0..5 {
                    *next_seq += 1;
                    self.insert(*next_seq, &format!("c::s{service}"), None);
                }
                self.plan.wake(Some("l"), self.now);
            }
            Step::Begin => self.queries.extend(self.plan.wants(self.now)),
            Step::Load(works) => {
                if let Some(query) = self.queries.pop() {
                    if works {
                        let page = self.page(&query);
                        self.plan.loaded(page, self.now);
                    } else {
                        self.plan.load_failed("l", self.now, ms(100));
                    }
                }
            }
            Step::Take => drop(self.take()),
            Step::End(place, end) => {
                if !self.open.is_empty() {
                    self.end(place % self.open.len(), &end);
                }
            }
            Step::Wake => self.plan.wake(None, self.now),
            Step::Pass(millis) => self.now = self.now.plus(ms(millis)),
            Step::Configure => self
                .plan
                .configure(self.batches.clone(), &self.ledgers, self.now),
            Step::Hold(held) => {
                let held = if held {
                    holdings()
                } else {
                    Holdings::default()
                };
                self.plan.hold(&held, self.now);
            }
        }
    }

    fn assert_sound(&self, connections: usize) -> Result<(), TestCaseError> {
        let mut seen = BTreeSet::new();
        for seq in self.open.iter().flat_map(seqs) {
            prop_assert!(seen.insert(seq), "{} is in two open works", seq);
        }
        prop_assert!(self.open.len() <= connections);
        prop_assert!(
            self.open
                .iter()
                .all(|work| !work.batches.is_empty() && work.batches.len() <= 2)
        );
        Ok(())
    }
}

proptest! {
    /// Whatever happens in whatever order, nothing is out twice, and in the
    /// end everything that is due is handed out.
    #[test]
    fn nothing_is_out_twice_and_nothing_is_left(steps in steps()) {
        let mut world = World::new("splinter", "connections = 3\nids_per_request = 2");
        let mut seq = 0;
        for step in steps {
            world.step(step, &mut seq);
            world.assert_sound(3)?;
        }
        // From now on all goes well, and nobody wakes the plan.
        world.plan.hold(&holdings(), world.now);
        while let Some(query) = world.queries.pop() {
            let page = world.page(&query);
            world.plan.loaded(page, world.now);
        }
        let mut rounds = 0;
        while !world.table.is_empty() {
            world.read();
            while world.take().is_some() {}
            world.assert_sound(3)?;
            if world.open.is_empty() {
                let slept = world.sleep();
                prop_assert!(slept < Duration::from_secs(60), "asleep for {:?} with {} rows", slept, world.table.len());
            } else {
                world.end(0, &End::Settled);
            }
            rounds += 1;
            prop_assert!(rounds < 20_000, "{} rows are left", world.table.len());
        }
    }
}

#[test]
fn a_ledger_removed_and_added_again_remembers_what_is_out() {
    let mut world = World::new("sawtooth", "");
    world.insert(1, "", None);
    world.read();
    assert_eq!(world.take(), Some(vec![1]));
    world.plan.configure(world.batches.clone(), &[], world.now);
    world
        .plan
        .configure(world.batches.clone(), &world.ledgers.clone(), world.now);
    world.plan.hold(&holdings(), world.now);
    world.now = world.now.plus(ms(100));
    world.read();
    assert_eq!(world.take(), None, "it is out still");
    world.end(0, &End::Settled);
    assert!(world.table.is_empty());
}

#[test]
fn requests_are_filled_while_a_sweep_goes_on() {
    let mut world = World::new("splinter", "ids_per_request = 10");
    // More than a page, the services taking turns.
    for seq in 0..12_000 {
        world.insert(seq, &format!("c::s{:04}", seq % 1_500), None);
    }
    let first = world.plan.wants(world.now).remove(0);
    let page = world.page(&first);
    world.plan.loaded(page, world.now);
    let second = world.plan.wants(world.now).remove(0);
    assert_eq!(
        world.take(),
        None,
        "four a service are here, and the next page is being read"
    );
    let page = world.page(&second);
    world.plan.loaded(page, world.now);
    world.read();
    assert_eq!(
        world.take().map(|seqs| seqs.len()),
        Some(8),
        "all there are"
    );
}

fn holdings_at(epoch: i64) -> Holdings {
    let mut holdings = holdings();
    for stake in holdings.held.values_mut() {
        stake.epoch = epoch;
    }
    holdings
}

#[test]
fn under_a_new_epoch_nothing_read_under_the_old_one_is_used() {
    let mut world = World::new("sawtooth", "");
    world.insert(1, "", None);
    world.read();
    // Another server settles it while this one stands still.
    world.table.clear();
    world.plan.hold(&holdings_at(7), world.now);
    assert_eq!(world.take(), None);
    world.insert(2, "", None);
    world.now = world.now.plus(ms(10));
    let query = world.plan.wants(world.now).remove(0);
    let page = world.page(&query);
    world.plan.hold(&holdings_at(8), world.now);
    world.plan.loaded(page, world.now);
    assert_eq!(world.take(), None, "the page is of the old epoch");
    world.now = world.now.plus(ms(10));
    world.read();
    assert_eq!(world.take(), Some(vec![2]));
    assert_eq!(world.open[0].stake.epoch, 8);
}

#[test]
fn a_fenced_ledger_rests_until_its_lease_is_known() {
    let mut world = World::new("sawtooth", "");
    world.insert(1, "", None);
    world.read();
    world.take();
    let work = world.open.remove(0);
    let fenced = BatchesReport {
        fenced: true,
        ..report(&work, &End::Settled)
    };
    world.plan.report(&fenced, 1, world.now, 0.0);
    world.plan.fetched("l", "");
    world.plan.returned("l", &[1]);
    world.now = world.now.plus(ms(5_000));
    assert!(world.plan.wants(world.now).is_empty());
    assert_eq!(world.plan.wake_at(world.now), None);
    world.plan.hold(&holdings_at(9), world.now);
    world.read();
    assert_eq!(world.take(), Some(vec![1]));
}

#[test]
fn wakes_do_not_keep_a_sweep_from_its_end() {
    let mut world = World::new("splinter", "ids_per_request = 100");
    let polled = Some(START.minus(ms(60_000)));
    // A long backlog of one service, another service behind it.
    for seq in 0..9_000 {
        world.insert(seq, &format!("c::s{}", seq % 50), polled);
    }
    world.insert(9_000, "c::behind", Some(START.minus(ms(1))));
    for round in 0..6 {
        for query in world.plan.wants(world.now) {
            let page = world.page(&query);
            world.insert(10_000 + round, "c::new", None);
            world.plan.wake(Some("l"), world.now);
            world.plan.loaded(page, world.now);
        }
        world.now = world.now.plus(ms(10));
    }
    let services: BTreeSet<String> = world
        .take_all()
        .into_iter()
        .zip(&world.open)
        .map(|(_, work)| work.service_id.to_string())
        .collect();
    assert!(services.contains("c::new"), "{services:?}");
    let view = world.plan.view(world.now);
    assert!(
        view.ledgers[0].queued + 9_000 > 9_000 + 4_000,
        "the sweep went on"
    );
}

#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let mut world = World::new("sawtooth", "");
    world.read();
    world.now = world.now.plus(ms(10_000));
    world.read();
    world.insert(1, "", None);
    world.now = START.minus(Duration::from_secs(3600));
    world.read();
    assert_eq!(world.take(), Some(vec![1]));
}
