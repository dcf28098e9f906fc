//! One shard of a job, as the plan knows it: its lease, and how far the sweep
//! through what is due has come. Pure.

use super::load::{SitesRead, SitesWant};
use super::shard::Shard;
use crate::config::JobSettings;
use crate::leases::sites_lease;
use crate::store::{DueSite, LeaseStake};
use crate::time::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// All sites are looked at once in a while: one that an application inserts may
/// become visible late, or with a low number.
const FULL_LOOK: Duration = Duration::from_secs(60);
/// Sites put off in one statement.
const PUT_OFF: usize = 5_000;
/// Longest pause after a sweep that brought little.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Between two looks for new sites, however often somebody says that there are.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// A time that has passed.
const AT_ONCE: Timestamp = Timestamp::from_millis(0);
/// The start of a sweep.
const START: (Timestamp, i64) = (Timestamp::from_millis(0), i64::MIN);

/// A shard of a job.
#[derive(Debug)]
pub(super) struct ShardPlan {
    /// Which part of the sites it is.
    pub(super) shard: Shard,
    /// Name of its lease.
    pub(super) lease: String,
    /// The lease, while it is held.
    pub(super) stake: Option<LeaseStake>,
    /// Who has it, when somebody else has.
    pub(super) other: Option<String>,
    /// Whether it is yet to be prepared for the first time under this lease, or
    /// as if it were.
    first: bool,
    prepare_at: Timestamp,
    /// When it was prepared last.
    prepared_at: Timestamp,
    /// New sites may have come since the last look was begun.
    woken: bool,
    full_look_at: Timestamp,
    /// Row of `sites` behind which new ones are looked for.
    seen: i64,
    /// Number of the want that is not answered yet.
    reading: Option<u64>,
    /// Rows that came back while a page was read, which may show them as due.
    came_back: HashSet<i64>,
    /// Sites that were disabled or removed while a page was read, which may show
    /// them as due.
    left: HashSet<String>,
    cursor: (Timestamp, i64),
    /// Whether a sweep is under way.
    sweeping: bool,
    /// When something is due, as far as is known.
    due_at: Option<Timestamp>,
    /// The same, told since the sweep was begun.
    told: Option<Timestamp>,
    /// No sweep begins before then.
    not_before: Timestamp,
    /// Rows that the sweep has read, and how many of them were taken.
    read: usize,
    taken: usize,
    /// Whether something due was left out.
    left_out: bool,
    /// Sites to be put off.
    pub(super) put_off: Vec<(i64, Timestamp)>,
    /// Not before then.
    put_off_at: Timestamp,
}

impl ShardPlan {
    /// A shard that is not held.
    pub(super) fn new(job: &JobSettings, shard: Shard) -> Self {
        Self::of(sites_lease(&job.key, shard), shard)
    }

    fn of(lease: String, shard: Shard) -> Self {
        Self {
            shard,
            lease,
            stake: None,
            other: None,
            first: true,
            prepare_at: AT_ONCE,
            prepared_at: AT_ONCE,
            woken: false,
            full_look_at: AT_ONCE,
            seen: 0,
            reading: None,
            came_back: HashSet::new(),
            left: HashSet::new(),
            cursor: START,
            sweeping: false,
            due_at: None,
            told: None,
            not_before: AT_ONCE,
            read: 0,
            taken: 0,
            left_out: false,
            put_off: Vec::new(),
            put_off_at: AT_ONCE,
        }
    }

    /// Takes note of who holds the shard; answers whether this server lost it,
    /// or has it under another lease.
    pub(super) fn hold(&mut self, stake: Option<LeaseStake>, other: Option<String>) -> bool {
        self.other = other;
        if self.stake == stake {
            return false;
        }
        self.stake = stake;
        self.begin_afresh();
        true
    }

    /// Everything is read anew, as at a takeover.
    pub(super) fn begin_afresh(&mut self) {
        let lease = std::mem::take(&mut self.lease);
        let (stake, other) = (self.stake.take(), self.other.take());
        *self = Self {
            stake,
            other,
            ..Self::of(lease, self.shard)
        };
    }

    /// New sites may be there.
    pub(super) fn wake(&mut self, now: Timestamp) {
        self.woken = true;
        let at = now.max(self.prepared_at.plus(LOOK_PAUSE));
        self.prepare_at = self.prepare_at.min(at);
        self.due_at(now);
    }

    /// Due times are to be corrected once more: some may have been written by
    /// another policy or by another clock.
    pub(super) fn correct_again(&mut self) {
        self.first = true;
        self.prepare_at = AT_ONCE;
    }

    /// A visit is over. A page that is being read may show it as due still.
    pub(super) fn came_back(&mut self, seq: i64) {
        if self.reading.is_some() {
            self.came_back.insert(seq);
        }
    }

    /// Sites were disabled or removed. A page that is being read may show them
    /// as due still.
    pub(super) fn left(&mut self, sites: &HashSet<String>) {
        if self.reading.is_some() {
            self.left.extend(sites.iter().cloned());
        }
    }

    /// Whether its visit ended while the page was read, or it was disabled or
    /// removed then.
    pub(super) fn is_stale(&self, site: &DueSite) -> bool {
        self.came_back.contains(&site.seq) || self.left.contains(&site.site_id)
    }

    /// A site of this shard will be due then.
    pub(super) fn due_at(&mut self, at: Timestamp) {
        let sooner = |known: Option<Timestamp>| Some(known.map_or(at, |known| known.min(at)));
        self.due_at = sooner(self.due_at);
        self.told = sooner(self.told);
    }

    /// What is to be done in the database now. `low`: few sites are at hand.
    pub(super) fn want(
        &mut self,
        job: &Arc<JobSettings>,
        now: Timestamp,
        low: bool,
        limit: i64,
        numbers: &mut u64,
    ) -> Option<SitesWant> {
        let stake = self.stake.clone()?;
        if self.reading.is_some() {
            return None;
        }
        let read = if now >= self.prepare_at {
            let full = self.first || now >= self.full_look_at;
            self.woken = false;
            SitesRead::Prepare {
                first: std::mem::take(&mut self.first),
                after: if full { 0 } else { self.seen },
                // The queue knows.
                waiting: Vec::new(),
            }
        } else if !self.put_off.is_empty() && now >= self.put_off_at {
            let rest = self.put_off.split_off(self.put_off.len().min(PUT_OFF));
            SitesRead::PutOff(std::mem::replace(&mut self.put_off, rest))
        } else if low && now >= self.not_before && self.is_due(now) {
            if !self.sweeping {
                self.sweeping = true;
                self.told = None;
            }
            SitesRead::Page {
                now,
                after: self.cursor,
                limit,
            }
        } else {
            return None;
        };
        *numbers += 1;
        self.reading = Some(*numbers);
        self.came_back.clear();
        self.left.clear();
        Some(SitesWant {
            job: job.clone(),
            shard: self.shard,
            stake,
            number: *numbers,
            read,
        })
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.sweeping || self.due_at.is_some_and(|at| at <= now)
    }

    /// Number of the want that is not answered yet.
    pub(super) const fn reading(&self) -> Option<u64> {
        self.reading
    }

    /// Whether an answer is to what is wanted still; it ends the reading then.
    /// One that was asked for under another lease, or before everything was
    /// begun afresh, is not.
    pub(super) fn answered(&mut self, number: u64) -> bool {
        let ours = self.reading == Some(number);
        if ours {
            self.reading = None;
        }
        ours
    }

    /// A want could not be done: the same is tried again then.
    pub(super) fn failed(&mut self, want: &SitesWant, at: Timestamp) {
        if !self.answered(want.number) {
            return;
        }
        match &want.read {
            SitesRead::Prepare { first, .. } => self.first |= first,
            SitesRead::PutOff(sites) => self.put_off.extend(sites),
            SitesRead::Page { .. } => {}
        }
        self.not_before = at;
        self.put_off_at = at;
        self.prepare_at = self.prepare_at.max(at);
    }

    /// Sites were put off; they are due then.
    pub(super) fn were_put_off(&mut self, sites: &[(i64, Timestamp)]) {
        if let Some(at) = sites.iter().map(|(_, at)| *at).min() {
            self.due_at(at);
        }
    }

    /// New sites were made known.
    pub(super) fn prepared(&mut self, full: bool, seen: i64, now: Timestamp, again: Duration) {
        if full {
            self.full_look_at = now.plus(FULL_LOOK.max(again));
        }
        self.seen = seen;
        self.prepared_at = now;
        self.prepare_at = if self.first { AT_ONCE } else { now.plus(again) };
        if self.woken {
            self.wake(now);
        }
        // What was added may be due before what is known.
        self.due_at(now);
    }

    /// A page was read of which so many rows were taken, while others may have
    /// been left out; the last row was at `end`.
    pub(super) fn swept(
        &mut self,
        rows: usize,
        taken: usize,
        left_out: bool,
        end: Option<(Timestamp, i64)>,
    ) {
        self.read += rows;
        self.taken += taken;
        self.left_out |= left_out;
        self.cursor = end.unwrap_or(self.cursor);
    }

    /// The sweep has come to its end; something is due then.
    pub(super) fn sweep_ended(&mut self, next_due: Option<Timestamp>, now: Timestamp) {
        self.cursor = START;
        self.sweeping = false;
        let left = self.left_out.then_some(now);
        self.due_at = [left, next_due, self.told].into_iter().flatten().min();
        // A sweep over many rows for few new ones is not begun again at once.
        let effort = u64::try_from(self.read / self.taken.max(1)).unwrap_or(u64::MAX);
        let pause = if self.read == 0 {
            Duration::ZERO
        } else {
            Duration::from_millis(effort).min(LONGEST_PAUSE)
        };
        self.not_before = now.plus(pause);
        (self.read, self.taken, self.left_out) = (0, 0, false);
    }

    /// When the shard wants to be asked again, if nothing else happens.
    pub(super) fn wake_at(&self, low: bool) -> Option<Timestamp> {
        self.stake.as_ref()?;
        if self.reading.is_some() {
            return None;
        }
        let sweep = if self.sweeping {
            Some(self.not_before)
        } else {
            self.due_at.map(|at| at.max(self.not_before))
        };
        let sweep = sweep.filter(|_| low);
        let off = (!self.put_off.is_empty()).then_some(self.put_off_at);
        [Some(self.prepare_at), sweep, off]
            .into_iter()
            .flatten()
            .min()
    }
}
