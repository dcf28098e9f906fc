//! The plan of one ledger: its sweep, its queues, its connections.

mod report;
mod view;

use super::health::{Admission, LedgerHealth};
use super::load::BatchesPage;
use super::sweep::Sweep;
use super::view::LedgerTotals;
use super::work::BatchesWork;
use crate::config::{BatchesSettings, LedgerRole, LedgerSettings};
use crate::ledgers::LedgerKind;
use crate::store::{DueQuery, LeaseStake, PendingBatch};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Rows read in one page.
const PAGE: i64 = 5_000;
/// A sweep reads on while fewer rows than this wait.
const LOW: usize = 5_000;
/// Most rows that wait in memory.
const MOST: usize = 50_000;
/// Shortest time from one sweep to the next where nothing woke the ledger.
const SWEEP_GAP: Duration = Duration::from_millis(200);
/// Shortest time from one sweep to the next where the last one found something.
const BUSY_GAP: Duration = Duration::from_millis(20);
/// Services left out of a query by name, at most.
const MOST_EXCLUDED: usize = 1_000;

/// Order in which batches are due: never polled first, then by last poll,
/// then in the order submitted.
type RowKey = (Option<Timestamp>, i64);

#[derive(Debug, Default)]
struct Queue {
    rows: BTreeMap<RowKey, PendingBatch>,
    in_flight: usize,
}

/// The plan of one ledger.
#[derive(Debug)]
pub(super) struct LedgerPlan {
    settings: LedgerSettings,
    name: Arc<str>,
    stake: Option<LeaseStake>,
    holder: Option<String>,
    health: LedgerHealth,
    last_success_at: Option<Timestamp>,
    sweep: Sweep,
    queues: HashMap<Arc<str>, Queue>,
    /// Services with something queued, by their first row.
    ready: BTreeSet<(RowKey, Arc<str>)>,
    /// Rows queued or in flight, by `seq`.
    held: HashSet<i64>,
    queued: usize,
    in_flight: usize,
    totals: LedgerTotals,
}

impl LedgerPlan {
    pub(super) fn new(settings: LedgerSettings, health: LedgerHealth) -> Self {
        Self {
            name: Arc::from(settings.name.as_str()),
            settings,
            stake: None,
            holder: None,
            health,
            last_success_at: None,
            sweep: Sweep::default(),
            queues: HashMap::new(),
            ready: BTreeSet::new(),
            held: HashSet::new(),
            queued: 0,
            in_flight: 0,
            totals: LedgerTotals::default(),
        }
    }

    pub(super) const fn settings(&self) -> &LedgerSettings {
        &self.settings
    }

    pub(super) fn health_mut(&mut self, now: Timestamp, forget_after: Duration) -> &LedgerHealth {
        self.health.forget_old(now, forget_after);
        &self.health
    }

    pub(super) fn recall(&mut self, health: LedgerHealth) {
        self.health = health;
    }

    pub(super) fn configure(&mut self, settings: LedgerSettings) {
        if self.settings != settings {
            // It may be another node, or the mistake may be mended: ask afresh.
            self.health = LedgerHealth::default();
            self.settings = settings;
        }
    }

    pub(super) fn hold(
        &mut self,
        stake: Option<LeaseStake>,
        holder: Option<String>,
        now: Timestamp,
    ) {
        self.holder = holder;
        if self.stake == stake {
            return;
        }
        // Under another epoch, another server may have settled what is queued.
        self.drop_queues();
        self.stake = stake;
        self.sweep.restart(now);
    }

    pub(super) fn adopt(&mut self, service_id: &Arc<str>, seqs: &[i64], fetched: bool) {
        self.held.extend(seqs);
        if !fetched {
            self.in_flight += 1;
            self.queues.entry(service_id.clone()).or_default().in_flight += 1;
        }
    }

    /// Whether any row is on the network or being written.
    pub(super) fn has_work_out(&self) -> bool {
        self.held.len() > self.queued
    }

    pub(super) fn wake(&mut self, now: Timestamp) {
        self.sweep.wake(now);
    }

    /// The clock was set back: what was to wait until then does not.
    pub(super) fn clock_set_back(&mut self, now: Timestamp, longest: Duration) {
        self.sweep.at = self.sweep.at.min(now);
        self.sweep.follow_up = self.sweep.follow_up.map(|at| at.min(now));
        self.health.cap(longest, now);
    }

    pub(super) fn due_at(&mut self, at: Timestamp) {
        if self.settings.role == LedgerRole::Primary {
            self.sweep.soonest_due = Some(self.sweep.soonest_due.map_or(at, |known| known.min(at)));
            if !self.sweep.under_way {
                self.sweep.at = self.sweep.at.min(at);
            }
        }
    }

    pub(super) fn wants(&mut self, now: Timestamp) -> Option<DueQuery> {
        let closed = matches!(self.health.admission(now), Admission::ClosedUntil(_));
        if self.stake.is_none()
            || closed
            || self.sweep.loading
            || now < self.sweep_at()
            || !self.is_hungry()
        {
            return None;
        }
        self.sweep.load(now);
        let cap = self.service_cap();
        let full = || {
            self.queues
                .iter()
                .filter(|(_, queue)| queue.rows.len() >= cap)
                .map(|(id, _)| &**id)
        };
        self.sweep.passed_over |= full().next().is_some();
        let backed_off = self.health.backed_off(now).map(|(id, _)| id);
        let without_services = backed_off
            .chain(full())
            .take(MOST_EXCLUDED)
            .map(str::to_owned)
            .collect();
        Some(DueQuery {
            ledger: self.settings.name.clone(),
            now,
            after: self.sweep.cursor,
            then: self.sweep.then,
            limit: PAGE,
            without_services,
        })
    }

    /// When the sweep goes on.
    fn sweep_at(&self) -> Timestamp {
        match self.sweep.follow_up {
            Some(at) if self.queued == 0 => self.sweep.at.min(at),
            _ => self.sweep.at,
        }
    }

    /// Whether more rows are to be read: few wait, or too few services with
    /// nothing in flight among them to use every connection, or the sweep under
    /// way may still fill the requests.
    fn is_hungry(&self) -> bool {
        let idle = |service: &Arc<str>| {
            self.queues
                .get(service)
                .is_some_and(|queue| queue.in_flight == 0)
        };
        let connections = self.settings.connections;
        let too_few_services = || {
            let idle = self.ready.iter().filter(|(_, service)| idle(service));
            idle.take(connections).count() < connections
        };
        let room = self
            .ready
            .len()
            .saturating_mul(self.settings.ids_per_request);
        self.queued <= LOW
            || (self.queued < MOST
                && ((self.sweep.under_way && self.queued < room) || too_few_services()))
    }

    /// Most rows queued for one service: enough for all connections, and no
    /// more, so that one service does not fill the queue.
    fn service_cap(&self) -> usize {
        self.settings
            .ids_per_request
            .saturating_mul(self.settings.connections)
            .min(2 * LOW)
    }

    pub(super) fn load_failed(&mut self, at: Timestamp) {
        self.sweep.arrived();
        self.sweep.at = at;
    }

    pub(super) fn loaded(
        &mut self,
        mut page: BatchesPage,
        settings: &BatchesSettings,
        now: Timestamp,
    ) {
        if !self.sweep.arrived() || self.stake.is_none() {
            return;
        }
        let cap = self.service_cap();
        for row in std::mem::take(&mut page.rows) {
            if self.held.contains(&row.seq)
                || self.sweep.returned.contains(&row.seq)
                || !self.health.may_ask(&row.service_id, now)
            {
                continue;
            }
            self.enqueue(row, cap);
        }
        if self.sweep.go_on(&page, now) {
            self.sweep.follow_up = (self.sweep.fresh > 0).then(|| now.plus(BUSY_GAP));
            self.sweep.at = self.next_sweep(page.next_due, settings, now);
        }
    }

    fn next_sweep(
        &self,
        next_due: Option<Timestamp>,
        settings: &BatchesSettings,
        now: Timestamp,
    ) -> Timestamp {
        let (interval, next_due) = match self.settings.role {
            LedgerRole::Primary => (settings.poll_interval, next_due),
            LedgerRole::Fallback => (settings.fallback_poll_interval, None),
        };
        let at = [
            next_due,
            self.sweep.soonest_due,
            self.health.next_retry(self.sweep.began_at),
        ]
        .into_iter()
        .flatten()
        .fold(now.plus(interval), Timestamp::min);
        at.max(now.plus(SWEEP_GAP.min(interval)))
    }

    fn enqueue(&mut self, row: PendingBatch, cap: usize) {
        let service: Arc<str> = match self.queues.get_key_value(row.service_id.as_str()) {
            Some((known, _)) => known.clone(),
            None => Arc::from(row.service_id.as_str()),
        };
        let queue = self.queues.entry(service.clone()).or_default();
        if queue.rows.len() >= cap {
            self.sweep.passed_over = true;
            return;
        }
        let key = (row.last_polled_at, row.seq);
        let first = queue.rows.keys().next().copied();
        self.held.insert(row.seq);
        queue.rows.insert(key, row);
        self.queued += 1;
        self.sweep.fresh += 1;
        if first.is_none_or(|first| key < first) {
            if let Some(first) = first {
                self.ready.remove(&(first, service.clone()));
            }
            self.ready.insert((key, service));
        }
    }

    fn drop_queue(&mut self, service_id: &str) {
        let Some((service, _)) = self.queues.get_key_value(service_id) else {
            return;
        };
        let service = service.clone();
        let Some(queue) = self.queues.get_mut(&service) else {
            return;
        };
        if let Some(first) = queue.rows.keys().next() {
            self.ready.remove(&(*first, service.clone()));
        }
        for row in std::mem::take(&mut queue.rows).into_values() {
            self.held.remove(&row.seq);
            self.queued -= 1;
        }
        if queue.in_flight == 0 {
            self.queues.remove(&service);
        }
    }

    fn drop_queues(&mut self) {
        let services: Vec<Arc<str>> = self.queues.keys().cloned().collect();
        for service in services {
            self.drop_queue(&service);
        }
    }

    pub(super) fn has_work(&self, now: Timestamp) -> bool {
        self.stake.is_some() && self.next_service(now).is_some()
    }

    /// The service that is asked for next.
    fn next_service(&self, now: Timestamp) -> Option<&Arc<str>> {
        let slots = match self.health.admission(now) {
            Admission::Open => self.settings.connections,
            Admission::Probe => 1,
            Admission::ClosedUntil(_) => return None,
        };
        if self.in_flight >= slots {
            return None;
        }
        let share = self.share();
        let probing_limit = (self.settings.connections / 2).max(1);
        let probing = self
            .queues
            .iter()
            .filter(|(id, queue)| queue.in_flight > 0 && self.health.is_failing(id))
            .count();
        // The page that is being read may bring more of the same services: a
        // request that is not full waits for it.
        let only_full = self.sweep.loading && self.sweep.fresh > 0 && self.is_hungry();
        self.ready
            .iter()
            .map(|(_, service)| service)
            .find(|service| {
                if only_full && !self.is_full(service) {
                    return false;
                }
                let in_flight = self.queues.get(*service).map_or(0, |queue| queue.in_flight);
                if self.health.is_failing(service) {
                    in_flight == 0 && probing < probing_limit
                } else {
                    in_flight < share
                }
            })
    }

    pub(super) fn next_work(&mut self, now: Timestamp) -> Option<BatchesWork> {
        let stake = self.stake.clone()?;
        let service = self.next_service(now)?.clone();
        let most = self.most_ids(&service);
        let cap = self.service_cap();
        let queue = self.queues.get_mut(&service)?;
        let first = *queue.rows.keys().next()?;
        self.ready.remove(&(first, service.clone()));
        let mut batches = Vec::with_capacity(most.min(queue.rows.len()));
        while batches.len() < most
            && let Some((_, row)) = queue.rows.pop_first()
        {
            batches.push(row);
        }
        if let Some(first) = queue.rows.keys().next() {
            self.ready.insert((*first, service.clone()));
        }
        let half_empty = queue.rows.len() <= cap / 2;
        queue.in_flight += 1;
        self.in_flight += 1;
        self.queued -= batches.len();
        if half_empty && self.sweep.passed_over {
            // Its other rows are in the database still.
            self.sweep.passed_over = false;
            self.wake(now);
        }
        Some(BatchesWork {
            ledger: self.name.clone(),
            stake,
            service_id: service,
            batches,
        })
    }

    /// Most ids to ask a service for at once.
    fn most_ids(&self, service_id: &str) -> usize {
        let most = self.settings.ids_per_request;
        self.health
            .most_ids(service_id)
            .unwrap_or(most)
            .min(most)
            .max(1)
    }

    /// Whether a service has a whole request's worth of rows queued.
    fn is_full(&self, service_id: &str) -> bool {
        let queued = self
            .queues
            .get(service_id)
            .map_or(0, |queue| queue.rows.len());
        queued >= self.most_ids(service_id)
    }

    /// Connections that one service may use: an even share, and where there
    /// may be other services never the last one, so that one that wakes up
    /// need not wait for a slow neighbour.
    fn share(&self) -> usize {
        let connections = self.settings.connections;
        if self.settings.kind == LedgerKind::Sawtooth {
            return connections;
        }
        let active = self.queues.len().max(1);
        connections
            .div_ceil(active)
            .min(connections.saturating_sub(1))
            .max(1)
    }

    pub(super) fn fetched(&mut self, service_id: &str) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(queue) = self.queues.get_mut(service_id) {
            queue.in_flight = queue.in_flight.saturating_sub(1);
            if queue.in_flight == 0 && queue.rows.is_empty() {
                self.queues.remove(service_id);
            }
        }
    }

    pub(super) fn returned(&mut self, seqs: &[i64]) {
        for seq in seqs {
            self.held.remove(seq);
        }
        if self.sweep.loading {
            self.sweep.returned.extend(seqs);
        }
    }

    pub(super) fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.stake.is_none() || self.sweep.loading || !self.is_hungry() {
            return None;
        }
        Some(match self.health.admission(now) {
            Admission::ClosedUntil(until) => self.sweep_at().max(until),
            _ => self.sweep_at(),
        })
    }
}
