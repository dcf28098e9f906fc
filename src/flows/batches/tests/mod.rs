//! Tests of the plan against a table of batches in memory.

mod leases;
mod life;
mod order;
mod sweeps;

use super::load::BatchesPage;
use super::plan::BatchesPlan;
use super::work::{BatchesReport, BatchesWork, Failure};
use crate::config::{self, BatchesSettings, LedgerSettings, Settings};
use crate::leases::{Holdings, batches_lease};
use crate::ledgers::LedgerError;
use crate::store::{DueCursor, DueQuery, LeaseStake, PendingBatch};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
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
