//! The batches of a simulated ledger and what becomes of them.
//!
//! Pure: no clock, no I/O; the caller says what time it is. What becomes of a
//! batch follows from its id and the seed, so that a test can tell what the
//! database should say in the end.

use super::hash::{self, Key, KeyMap};
use super::memory::Memory;
use super::{Fault, SimOptions};
use crate::ledgers::LedgerKind;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Is committed after its time.
    Commit,
    /// Is rejected after its time.
    Invalid,
    /// Splinter: becomes Valid after its time and stays so. Sawtooth has no
    /// such status and leaves it PENDING.
    StayValid,
    /// Is never decided (Sawtooth: a batch with a committed transaction).
    StayPending,
    /// Never arrives at the ledger, or is forgotten by it for good.
    NeverKnown,
}

/// What a ledger says of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SimStatus {
    /// Known, not decided.
    Pending,
    /// Validated, not committed (Splinter).
    Valid,
    /// In the ledger.
    Committed,
    /// Rejected.
    Invalid,
    /// Never known, forgotten, or queued and out of memory.
    Unknown,
}

impl SimStatus {
    /// Whether the ledger will never say anything else but Unknown.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Committed | Self::Invalid)
    }
}

/// What a simulator has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimStats {
    /// Requests for statuses, answered or not.
    pub requests: u64,
    /// Ids in them.
    pub ids_asked: u64,
    /// Requests per service id.
    pub requests_by_service: BTreeMap<String, u64>,
    /// Batches known to the model.
    pub batches: u64,
    /// Ids asked again after a request was answered in full with a final
    /// status for them: what a good client never does, unless it lost the
    /// answer (killed before it wrote it down).
    pub asked_after_final: u64,
    /// The first of these ids, as many as `keep_ids` allows.
    pub asked_after_final_ids: Vec<String>,
    /// Requests that met a fault, by fault.
    pub faults: BTreeMap<Fault, u64>,
    /// Requests being worked on now.
    pub in_flight: usize,
    /// The most that ever were at once.
    pub max_in_flight: usize,
    /// Header `traceparent` of the last request for statuses that had one.
    pub last_traceparent: Option<String>,
}

/// One id of a request and what is answered for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) key: Key,
    pub(super) status: SimStatus,
    /// When the batch was submitted; now, when it is unknown.
    pub(super) submitted: Timestamp,
    /// How long ago it was decided.
    pub(super) decided_for: Duration,
}

/// 24 bytes: there may be hundreds of thousands.
struct Batch {
    submitted: i64,
    /// Milliseconds from submission to decision.
    after: u32,
    /// Milliseconds from submission to the last question.
    asked: u32,
    /// The request that was answered with its final status; 0 for none.
    final_request: u32,
    fate: Fate,
    remembered: bool,
}

impl Batch {
    fn decided_at(&self) -> i64 {
        self.submitted.saturating_add(i64::from(self.after))
    }

    /// When Splinter shows a batch that is to be committed as Valid: for the
    /// last quarter of its time.
    fn valid_at(&self) -> i64 {
        self.decided_at() - i64::from(self.after / 4)
    }

    /// When a queued batch gets its turn and is entered into memory again.
    fn turn(&self) -> Option<i64> {
        match self.fate {
            Fate::Commit => Some(self.valid_at()),
            Fate::Invalid | Fate::StayValid => Some(self.decided_at()),
            Fate::StayPending | Fate::NeverKnown => None,
        }
    }

    fn status(&self, kind: LedgerKind, now: i64) -> SimStatus {
        let decided = now >= self.decided_at();
        let splinter = kind == LedgerKind::Splinter;
        match self.fate {
            Fate::NeverKnown => SimStatus::Unknown,
            Fate::Commit if decided => SimStatus::Committed,
            Fate::Commit if splinter && now >= self.valid_at() => SimStatus::Valid,
            Fate::Invalid if decided => SimStatus::Invalid,
            Fate::StayValid if splinter && decided => SimStatus::Valid,
            _ => SimStatus::Pending,
        }
    }
}

struct Service {
    batches: KeyMap<Batch>,
    memory: Memory,
    requests: u64,
}

impl Service {
    fn insert(&mut self, key: Key, batch: Batch) {
        let now = batch.submitted;
        let known = batch.fate != Fate::NeverKnown;
        let entered = self
            .batches
            .insert(key, batch)
            .is_some_and(|old| old.remembered);
        if known && !entered {
            self.remember(key, now);
        }
    }

    fn remember(&mut self, key: Key, now: i64) {
        if let Some(batch) = self.batches.get_mut(&key) {
            batch.remembered = true;
        }
        let dropped = self.memory.enter(key);
        if let Some((key, batch)) = dropped.and_then(|key| Some((key, self.batches.get_mut(&key)?)))
        {
            batch.remembered = false;
            if let Some(turn) = batch.turn().filter(|turn| *turn > now) {
                self.memory.await_turn(turn, key);
            }
        }
    }

    /// Enters the forgotten batches whose turn has come.
    fn advance(&mut self, now: i64) {
        while let Some((at, key)) = self.memory.next_turn(now) {
            if self.batches.get(&key).is_some_and(|b| !b.remembered) {
                self.remember(key, at);
            }
        }
    }
}

/// A ledger's batches, per service id.
pub struct SimLedger {
    options: SimOptions,
    services: HashMap<String, Service>,
    /// Number of the request being answered; starts at 1.
    request: u32,
    stats: SimStats,
}

impl SimLedger {
    /// Makes a ledger that knows no batch yet.
    pub fn new(options: SimOptions) -> Self {
        Self {
            options,
            services: HashMap::new(),
            request: 0,
            stats: SimStats::default(),
        }
    }

    /// Takes a batch in. `fate` is drawn from its id when not given. A batch
    /// that is known already is left alone, except that a batch committed on
    /// Splinter turns Invalid when it is submitted again, as recorded.
    pub fn submit(&mut self, service_id: &str, batch_id: &str, fate: Option<Fate>, now: Timestamp) {
        let key = hash::key(batch_id);
        let kind = self.options.kind;
        let mut batch = self.draw(key, now);
        let service = self.service_mut(service_id);
        service.advance(now.millis());
        if let Some(known) = service.batches.get(&key) {
            let resubmitted = kind == LedgerKind::Splinter
                && known.status(kind, now.millis()) == SimStatus::Committed;
            if resubmitted {
                batch.fate = Fate::Invalid;
                service.insert(key, batch);
            }
            return;
        }
        if let Some(fate) = fate {
            batch.fate = fate;
        }
        service.insert(key, batch);
        self.stats.batches += 1;
    }

    /// What the ledger says of a batch once everything is decided: Committed,
    /// Invalid, or the Valid, Pending or Unknown that it stays at. A batch
    /// that has dropped out of memory and was decided before stays Unknown.
    pub fn status_of(&self, service_id: &str, batch_id: &str, now: Timestamp) -> SimStatus {
        let key = hash::key(batch_id);
        let known = self
            .services
            .get(service_id)
            .and_then(|service| service.batches.get(&key));
        let drawn;
        let batch = match known {
            Some(batch) => batch,
            None if self.options.auto_submit => {
                drawn = self.draw(key, now);
                &drawn
            }
            None => return SimStatus::Unknown,
        };
        let comes_back = batch.turn().is_some_and(|turn| turn > now.millis());
        if batch.remembered || comes_back {
            batch.status(self.options.kind, i64::MAX)
        } else {
            SimStatus::Unknown
        }
    }

    /// The ledger restarts. Splinter forgets every status; on Sawtooth INVALID
    /// and PENDING become UNKNOWN.
    pub fn restart(&mut self, now: Timestamp) {
        let kind = self.options.kind;
        for service in self.services.values_mut() {
            service.memory.clear();
            for batch in service.batches.values_mut() {
                if kind == LedgerKind::Splinter {
                    batch.remembered = false;
                }
                if batch.status(kind, now.millis()) != SimStatus::Committed {
                    batch.fate = Fate::NeverKnown;
                }
            }
        }
    }

    /// Copies out what was counted; `in_flight` is the server's to add.
    pub fn stats(&self) -> SimStats {
        let mut stats = self.stats.clone();
        stats.requests_by_service = self
            .services
            .iter()
            .filter(|(_, service)| service.requests > 0)
            .map(|(name, service)| (name.clone(), service.requests))
            .collect();
        stats
    }

    /// Counts a request, before anything is known of how it ends.
    pub(super) fn count_request(&mut self, service_id: &str, ids: usize, fault: Option<Fault>) {
        self.stats.requests += 1;
        self.stats.ids_asked += ids as u64;
        self.service_mut(service_id).requests += 1;
        if let Some(fault) = fault {
            *self.stats.faults.entry(fault).or_default() += 1;
        }
    }

    /// Says what is true of each id now, and notes final ones as answered.
    pub(super) fn ask(
        &mut self,
        service_id: &str,
        asked: &[(Key, &str)],
        now: Timestamp,
    ) -> Vec<Answer> {
        self.request = self.request.wrapping_add(1).max(1);
        let request = self.request;
        let keep_ids = self.options.keep_ids;
        let (mut repeated, mut repeated_ids) = (0, Vec::new());
        let answers = self.look(service_id, asked, now, |batch, id, status| {
            if batch.final_request != 0 && batch.final_request != request {
                repeated += 1;
                if repeated_ids.len() < keep_ids {
                    repeated_ids.push(id.to_owned());
                }
            }
            if status.is_final() && batch.final_request == 0 {
                batch.final_request = request;
            }
        });
        self.stats.asked_after_final += repeated;
        let room = keep_ids.saturating_sub(self.stats.asked_after_final_ids.len());
        repeated_ids.truncate(room);
        self.stats.asked_after_final_ids.append(&mut repeated_ids);
        answers
    }

    /// Says what is true of each id now, without noting it as answered.
    pub(super) fn peek(
        &mut self,
        service_id: &str,
        asked: &[(Key, &str)],
        now: Timestamp,
    ) -> Vec<Answer> {
        self.look(service_id, asked, now, |_, _, _| {})
    }

    fn look(
        &mut self,
        service_id: &str,
        asked: &[(Key, &str)],
        now: Timestamp,
        mut each: impl FnMut(&mut Batch, &str, SimStatus),
    ) -> Vec<Answer> {
        let kind = self.options.kind;
        let forgets_invalid = (kind == LedgerKind::Sawtooth)
            .then(|| i64::try_from(self.options.invalid_memory.as_millis()).unwrap_or(i64::MAX));
        if self.options.auto_submit {
            self.take_in(service_id, asked, now);
        }
        let service = self.service_mut(service_id);
        let millis = now.millis();
        service.advance(millis);
        let answer = |&(key, id): &(Key, &str)| {
            let unknown = Answer {
                key,
                status: SimStatus::Unknown,
                submitted: now,
                decided_for: Duration::ZERO,
            };
            let Some(batch) = service.batches.get_mut(&key) else {
                return unknown;
            };
            let mut status = batch.status(kind, millis);
            if let (SimStatus::Invalid, Some(limit)) = (status, forgets_invalid) {
                let asked_at = batch.submitted.saturating_add(i64::from(batch.asked));
                let quiet = millis.saturating_sub(asked_at.max(batch.decided_at()));
                if quiet > limit {
                    batch.fate = Fate::NeverKnown;
                    status = SimStatus::Unknown;
                }
            }
            batch.asked = u32::try_from(millis.saturating_sub(batch.submitted)).unwrap_or(u32::MAX);
            if !batch.remembered {
                status = SimStatus::Unknown;
            }
            each(batch, id, status);
            if status == SimStatus::Unknown {
                return unknown;
            }
            Answer {
                key,
                status,
                submitted: Timestamp::from_millis(batch.submitted),
                decided_for: now.since(Timestamp::from_millis(batch.decided_at())),
            }
        };
        asked.iter().map(answer).collect()
    }

    /// Takes in what has not been seen, as if it had been submitted just now.
    fn take_in(&mut self, service_id: &str, asked: &[(Key, &str)], now: Timestamp) {
        let new: Vec<Key> = {
            let batches = &self.service_mut(service_id).batches;
            asked
                .iter()
                .map(|(key, _)| *key)
                .filter(|key| !batches.contains_key(key))
                .collect()
        };
        for key in new {
            let batch = self.draw(key, now);
            let service = self.service_mut(service_id);
            service.advance(now.millis());
            // An id asked twice in one request is still one batch.
            if !service.batches.contains_key(&key) {
                service.insert(key, batch);
                self.stats.batches += 1;
            }
        }
    }

    /// A batch submitted now, with the fate that its id draws.
    fn draw(&self, key: Key, now: Timestamp) -> Batch {
        let options = &self.options;
        let lot = hash::draw(key, options.seed);
        let drawn = hash::share(lot);
        let mut sum = 0.0;
        let fate = [
            (options.invalid, Fate::Invalid),
            (options.stay_valid, Fate::StayValid),
            (options.stay_pending, Fate::StayPending),
            (options.never_known, Fate::NeverKnown),
        ]
        .into_iter()
        .find_map(|(share, fate)| {
            sum += share;
            (drawn < sum).then_some(fate)
        });
        let after = options.commit_after.at(hash::share(hash::mix(lot)));
        Batch {
            submitted: now.millis(),
            after: u32::try_from(after.as_millis()).unwrap_or(u32::MAX),
            asked: 0,
            final_request: 0,
            fate: fate.unwrap_or(Fate::Commit),
            remembered: true,
        }
    }

    fn service_mut(&mut self, service_id: &str) -> &mut Service {
        let limit = self.options.memory_limit();
        self.services
            .entry(service_id.to_owned())
            .or_insert_with(|| Service {
                batches: KeyMap::default(),
                memory: Memory::new(limit),
                requests: 0,
            })
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
