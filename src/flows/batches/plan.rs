//! What is due of the batches, in which order, and when next: the batch
//! flow's answers to the Scheduler. Pure; the clock is passed in.
//!
//! For each ledger that this server holds, a *sweep* reads the due batches
//! from the database page by page; they wait in a queue per service until a
//! connection is free. The service whose first batch was polled longest ago
//! (never polled first, then in the order submitted) comes next. Services
//! share a ledger's connections evenly, so that a slow one delays no other.

use super::health::{Admission, BackoffPolicy, LedgerHealth};
use super::ledger_plan::LedgerPlan;
use super::load::BatchesPage;
use super::view::BatchesView;
use super::work::{BatchesReport, BatchesWork, Failure};
use crate::config::{BatchesSettings, LedgerSettings};
use crate::leases::{Holdings, batches_lease};
use crate::store::DueQuery;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Soft state of the flow: health by ledger.
pub type BatchesHealth = BTreeMap<String, LedgerHealth>;

/// A service's health is forgotten so long after its backoff has ended.
const FORGET_HEALTH_AFTER: Duration = Duration::from_secs(3600);

/// The batch flow's plan.
#[derive(Debug)]
pub struct BatchesPlan {
    settings: BatchesSettings,
    ledgers: Vec<LedgerPlan>,
    /// Ledgers that were removed while work of theirs was out: should one be
    /// added again, it still knows what must not be asked for twice.
    retired: Vec<LedgerPlan>,
    /// The clock as it was seen last.
    seen: Timestamp,
    /// The ledger that is looked at first for the next piece of work.
    turn: usize,
}

impl BatchesPlan {
    /// A plan for these ledgers, with the health that was saved.
    pub fn new(
        settings: BatchesSettings,
        ledgers: &[LedgerSettings],
        mut health: BatchesHealth,
        now: Timestamp,
    ) -> Self {
        let mut plan = Self {
            settings,
            ledgers: Vec::new(),
            retired: Vec::new(),
            seen: now,
            turn: 0,
        };
        for ledger in ledgers {
            let mut health = health.remove(&ledger.name).unwrap_or_default();
            health.cap(plan.longest_wait(), now);
            plan.ledgers.push(LedgerPlan::new(ledger.clone(), health));
        }
        plan
    }

    /// Takes on changed settings: ledgers that stay as they are keep their
    /// queues, changed ones begin afresh, removed ones are let go.
    pub fn configure(
        &mut self,
        settings: BatchesSettings,
        ledgers: &[LedgerSettings],
        now: Timestamp,
    ) {
        self.settings = settings;
        let mut known = std::mem::take(&mut self.ledgers);
        known.append(&mut self.retired);
        for ledger in ledgers {
            match known
                .iter()
                .position(|plan| plan.settings().name == ledger.name)
            {
                Some(place) => {
                    let mut plan = known.swap_remove(place);
                    plan.configure(ledger.clone());
                    plan.wake(now);
                    self.ledgers.push(plan);
                }
                None => self
                    .ledgers
                    .push(LedgerPlan::new(ledger.clone(), LedgerHealth::default())),
            }
        }
        for mut removed in known {
            removed.hold(None, None, now);
            if removed.has_work_out() {
                self.retired.push(removed);
            }
        }
    }

    /// Takes on the health of a ledger as the server saved it that held the
    /// ledger before; to be told before [`Self::hold`].
    pub fn recall(&mut self, ledger: &str, mut health: LedgerHealth, now: Timestamp) {
        health.cap(self.longest_wait(), now);
        if let Some(ledger) = self.ledger_mut(ledger) {
            ledger.recall(health);
        }
    }

    /// Takes note of which ledgers this server holds.
    pub fn hold(&mut self, holdings: &Holdings, now: Timestamp) {
        for ledger in &mut self.ledgers {
            let name = batches_lease(&ledger.settings().name);
            ledger.hold(
                holdings.held.get(&name).cloned(),
                holdings.others.get(&name).cloned(),
                now,
            );
        }
    }

    /// Takes note of work that an earlier Scheduler handed out and that is
    /// still under way.
    pub fn adopt(&mut self, ledger: &str, service_id: &Arc<str>, seqs: &[i64], fetched: bool) {
        if let Some(ledger) = self.ledger_mut(ledger) {
            ledger.adopt(service_id, seqs, fetched);
        }
    }

    /// Something of this ledger (of any when `None`) became due now.
    pub fn wake(&mut self, ledger: Option<&str>, now: Timestamp) {
        for plan in &mut self.ledgers {
            if ledger.is_none_or(|name| name == plan.settings().name) {
                plan.wake(now);
            }
        }
    }

    /// What is to be read from the database now; each answer has to be handed
    /// to [`Self::loaded`] or [`Self::load_failed`].
    pub fn wants(&mut self, now: Timestamp) -> Vec<DueQuery> {
        if now < self.seen {
            let longest = self.longest_wait();
            for ledger in &mut self.ledgers {
                ledger.clock_set_back(now, longest);
            }
        }
        self.seen = now;
        self.ledgers
            .iter_mut()
            .filter_map(|ledger| ledger.wants(now))
            .collect()
    }

    /// A page was read.
    pub fn loaded(&mut self, page: BatchesPage, now: Timestamp) {
        let settings = self.settings.clone();
        if let Some(ledger) = self.ledger_mut(&page.ledger) {
            ledger.loaded(page, &settings, now);
        }
    }

    /// A page could not be read: the sweep is tried again after `delay`.
    pub fn load_failed(&mut self, ledger: &str, now: Timestamp, delay: Duration) {
        if let Some(ledger) = self.ledger_mut(ledger) {
            ledger.load_failed(now.plus(delay));
        }
    }

    /// The next piece of work, as long as there is a credit for it: ledgers
    /// take turns.
    pub fn next_work(&mut self, now: Timestamp) -> Option<BatchesWork> {
        let count = self.ledgers.len();
        for step in 0..count {
            let place = (self.turn + step) % count;
            if let Some(work) = self.ledgers[place].next_work(now) {
                self.turn = place + 1;
                return Some(work);
            }
        }
        None
    }

    /// Whether there is a next piece of work.
    pub fn has_work(&self, now: Timestamp) -> bool {
        self.ledgers.iter().any(|ledger| ledger.has_work(now))
    }

    /// The network work of a piece of work is over: its connection is free.
    pub fn fetched(&mut self, ledger: &str, service_id: &str) {
        if let Some(ledger) = self.ledger_mut(ledger) {
            ledger.fetched(service_id);
        }
    }

    /// A piece of work is over, whatever came of it: its batches may be
    /// fetched again once they are due.
    pub fn returned(&mut self, ledger: &str, seqs: &[i64]) {
        if let Some(ledger) = self.ledger_mut(ledger) {
            ledger.returned(seqs);
        }
    }

    /// What came of a piece of work of `asked` batches. Answers whether the
    /// soft state changed.
    pub fn report(
        &mut self,
        report: &BatchesReport,
        asked: usize,
        now: Timestamp,
        chance: f64,
    ) -> bool {
        let policy = self.backoff();
        self.ledger_mut(&report.ledger)
            .is_some_and(|ledger| ledger.report(report, asked, &policy, now, chance))
    }

    /// A batch of this ledger will be due then.
    pub fn due_at(&mut self, ledger: &str, at: Timestamp) {
        if let Some(ledger) = self.ledger_mut(ledger) {
            ledger.due_at(at);
        }
    }

    /// A piece of work came back with no outcome: whoever had it died.
    pub fn abandoned(&mut self, ledger: &str, service_id: &str, now: Timestamp) {
        if let Some(plan) = self.ledger_mut(ledger) {
            tracing::debug!(ledger.name = %ledger, service.id = %service_id, "work was abandoned and is done again");
            plan.wake(now);
        }
    }

    /// When the plan wants to be asked again, if nothing else happens.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.ledgers
            .iter()
            .filter_map(|ledger| ledger.wake_at(now))
            .min()
    }

    /// What the flow shows of itself.
    pub fn view(&self, now: Timestamp) -> BatchesView {
        BatchesView {
            ledgers: self.ledgers.iter().map(|ledger| ledger.view(now)).collect(),
        }
    }

    /// The soft state, to be saved.
    pub fn health(&mut self, now: Timestamp) -> BatchesHealth {
        self.ledgers
            .iter_mut()
            .map(|ledger| {
                let name = ledger.settings().name.clone();
                (name, ledger.health_mut(now, FORGET_HEALTH_AFTER).clone())
            })
            .collect()
    }

    /// Most requests open at once, over all ledgers.
    pub const fn max_in_flight(&self) -> usize {
        self.settings.max_in_flight
    }

    /// Most rows fetched and not yet written: a few commits' worth, so that a
    /// slow database slows the network work down and memory stays bounded.
    pub const fn most_unwritten(&self) -> usize {
        self.settings.commit_rows.saturating_mul(4)
    }

    /// No failing ledger is left alone for longer after a restart, or after the
    /// clock was set.
    fn longest_wait(&self) -> Duration {
        self.settings.backoff.max.max(Duration::from_secs(60))
    }

    fn backoff(&self) -> BackoffPolicy {
        BackoffPolicy {
            range: self.settings.backoff,
            breaker_failures: self.settings.breaker_failures,
        }
    }

    fn ledger_mut(&mut self, name: &str) -> Option<&mut LedgerPlan> {
        self.ledgers
            .iter_mut()
            .chain(&mut self.retired)
            .find(|ledger| ledger.settings().name == name)
    }
}

/// What a failure means for the admission of a ledger, as shown in logs.
pub(in crate::flows::batches) fn log_failure(
    report: &BatchesReport,
    failure: &Failure,
    admission: Admission,
) {
    let word = match failure {
        Failure::Ledger(error) => error.word(),
        Failure::Panic(_) => "panic",
        Failure::Write(_) => "write",
    };
    metrics::counter!(
        "highwater_ledger_failures_total",
        "ledger" => report.ledger.to_string(),
        "kind" => word
    )
    .increment(1);
    tracing::warn!(
        ledger.name = %report.ledger,
        service.id = %report.service_id,
        error = %failure,
        ledger.breaker_open = matches!(admission, Admission::ClosedUntil(_)),
        "a ledger request failed"
    );
}
