//! Which events are read when, and what an answer is worth: what was done with
//! while it was under way is not open, whatever it says.

use super::model::Place;
use super::step::{Load, Sweep};
use crate::time::Timestamp;
use std::time::Duration;

/// How long after a failed read the database is asked again.
const READ_AGAIN: Duration = Duration::from_millis(500);
/// Events of one sweep.
const SWEEP: usize = 1024;

/// One kind of read: one at a time.
#[derive(Debug, Default)]
pub(super) struct Reading {
    under_way: bool,
    /// Arrivals of events that were done with meanwhile.
    done: Vec<i64>,
    /// Not before then: the last one failed.
    not_before: Timestamp,
}

impl Reading {
    pub(super) fn begin(&mut self, now: Timestamp) -> bool {
        // A pause that is longer is of a clock that was ahead.
        let paused = now < self.not_before && self.not_before <= now.plus(READ_AGAIN);
        if self.under_way || paused {
            return false;
        }
        self.under_way = true;
        self.done.clear();
        true
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.under_way
    }

    pub(super) fn done_with(&mut self, arrival: i64) {
        if self.under_way {
            self.done.push(arrival);
        }
    }

    /// Ends it; answers with what was done with meanwhile, sorted.
    pub(super) fn end(&mut self) -> Vec<i64> {
        self.under_way = false;
        let mut done = std::mem::take(&mut self.done);
        done.sort_unstable();
        done
    }

    pub(super) fn fail(&mut self, now: Timestamp) {
        self.under_way = false;
        self.not_before = now.plus(READ_AGAIN);
    }

    pub(super) fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        (!self.under_way).then(|| self.not_before.min(now.plus(READ_AGAIN)))
    }
}

/// Places to be read again.
#[derive(Clone, Copy, Debug)]
struct Again {
    /// Behind this place; `None`: from the first one on.
    after: Option<Place>,
    /// Up to this place.
    to: Place,
}

/// What is read of a subscription.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Answers of an earlier one are passed over.
    round: u64,
    loading: Reading,
    sweeping: Reading,
    /// To be read again, since an event that is not in memory may lie there.
    again: Option<Again>,
    /// Being read again.
    reading_again: Option<Again>,
    /// The first place of what was heard of while a page was being read, and
    /// lies behind what was in memory then.
    missed: Option<Place>,
    /// What others recorded is to be looked for.
    pub(super) sweep: bool,
    /// Events up to this arrival were recorded before the first read: what is
    /// open of them comes by pages, and news of them is old.
    base: i64,
    /// Every event with an arrival up to here is known, or can be read.
    heard_to: i64,
    /// Highest arrival that was heard of.
    ahead: i64,
}

impl Reads {
    /// Reads begin anew: events up to this arrival are found by pages.
    pub(super) fn begin_afresh(&mut self, heard_to: i64) {
        *self = Self {
            round: self.round + 1,
            base: heard_to,
            heard_to,
            ahead: heard_to,
            ..Self::default()
        };
    }

    /// Whether nothing recorded before this one is unknown: another server may
    /// have recorded what belongs before it.
    pub(super) const fn is_heard(&self, arrival: i64) -> bool {
        arrival <= self.heard_to
    }

    /// Whether it was recorded before the first read.
    pub(super) const fn is_old(&self, arrival: i64) -> bool {
        arrival <= self.base
    }

    pub(super) const fn highest(&self) -> i64 {
        self.ahead
    }

    /// An arrival was heard of.
    pub(super) fn hear(&mut self, arrival: i64) {
        if arrival == self.heard_to + 1 {
            self.heard_to = arrival;
        }
        self.ahead = self.ahead.max(arrival);
    }

    /// An event was passed over, since it lies behind what is in memory.
    pub(super) fn miss(&mut self, place: Place) {
        let first = self.missed.unwrap_or(place);
        self.missed = Some(first.min(place));
    }

    /// An event at this place may be open, and is not in memory: the rows know.
    pub(super) fn read_again(&mut self, after: Option<Place>, to: Place) {
        let again = self.again.get_or_insert(Again { after, to });
        again.after = again.after.min(after);
        again.to = again.to.max(to);
    }

    fn take_back_again(&mut self) {
        if let Some(Again { after, to }) = self.reading_again.take() {
            self.read_again(after, to);
        }
    }

    pub(super) fn done_with(&mut self, arrival: i64) {
        self.loading.done_with(arrival);
        self.sweeping.done_with(arrival);
    }

    /// What is under way is void: it may tell of what went out of memory.
    pub(super) fn void(&mut self) {
        self.round += 1;
        self.sweep |= self.sweeping.is_under_way();
        self.take_back_again();
        self.loading = Reading::default();
        self.sweeping = Reading::default();
    }

    pub(super) fn load(
        &mut self,
        after: Option<Place>,
        wanted: bool,
        limit: usize,
        now: Timestamp,
    ) -> Option<Load> {
        if !(wanted || self.again.is_some()) || !self.loading.begin(now) {
            return None;
        }
        self.reading_again = self.again.take();
        let after = self.reading_again.map_or(after, |again| again.after);
        self.missed = None;
        Some(Load {
            round: self.round,
            after,
            limit,
        })
    }

    /// A page came: what was done with meanwhile, and whether a short page is
    /// the last one. `None`: it is passed over.
    pub(super) fn loaded(
        &mut self,
        load: &Load,
        last: Option<Place>,
        full: bool,
    ) -> Option<(Vec<i64>, bool)> {
        if load.round != self.round {
            return None;
        }
        if let (Some(again), Some(last)) = (self.reading_again.take(), last)
            && full
            && last < again.to
        {
            self.read_again(Some(last), again.to);
        }
        if let (Some(missed), Some(last)) = (self.missed, last)
            && missed <= last
        {
            // It came while the page was read, and may belong into it.
            self.read_again(load.after, last);
        }
        Some((self.loading.end(), self.missed.is_none()))
    }

    pub(super) fn load_failed(&mut self, load: &Load, now: Timestamp) {
        if load.round == self.round {
            self.loading.fail(now);
            self.take_back_again();
        }
    }

    pub(super) fn next_sweep(&mut self, now: Timestamp) -> Option<Sweep> {
        if !(self.sweep || self.ahead > self.heard_to) || !self.sweeping.begin(now) {
            return None;
        }
        self.sweep = false;
        Some(Sweep {
            round: self.round,
            since: self.heard_to,
            limit: SWEEP,
            heard: self.ahead,
        })
    }

    /// A sweep came: what was done with meanwhile. `None`: it is passed over.
    /// Recording is one after another, so whoever sees an arrival committed
    /// sees all before it.
    pub(super) fn swept(
        &mut self,
        sweep: &Sweep,
        last: Option<i64>,
        full: bool,
    ) -> Option<Vec<i64>> {
        if sweep.round != self.round {
            return None;
        }
        let last = last.unwrap_or(sweep.since);
        let to = if full { last } else { last.max(sweep.heard) };
        self.heard_to = self.heard_to.max(to);
        self.ahead = self.ahead.max(to);
        self.sweep |= full;
        Some(self.sweeping.end())
    }

    pub(super) fn sweep_failed(&mut self, sweep: &Sweep, now: Timestamp) {
        if sweep.round == self.round {
            self.sweeping.fail(now);
            self.sweep = true;
        }
    }

    /// When a read is to be tried again.
    pub(super) fn wake_at(&self, load_wanted: bool, now: Timestamp) -> Option<Timestamp> {
        let load = (load_wanted || self.again.is_some()).then(|| self.loading.wake_at(now));
        let sweep = (self.sweep || self.ahead > self.heard_to).then(|| self.sweeping.wake_at(now));
        load.flatten().into_iter().chain(sweep.flatten()).min()
    }
}
