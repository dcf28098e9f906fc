//! How the plan begins a bootstrap: of whom, and in which ranges.

use super::change::{RangeStart, ReplicaChange};
use super::model::Info;
use super::plan::{For, Pending, ReplicaPlan};
use super::plan_step::{Ask, Step};
use crate::time::Timestamp;
use std::time::Duration;

/// How old what upstreams said of themselves may be where one is chosen.
const LATELY: Duration = Duration::from_secs(5);

impl ReplicaPlan {
    /// Asks where the ranges begin, of who is asked first and answers.
    pub(super) fn begin_steps(&mut self, now: Timestamp, steps: &mut Vec<Step>) {
        let Some(wanted) = &self.wanted else {
            return;
        };
        if !self.writes.is_empty() || self.is_asking(&For::Splits) {
            return;
        }
        if wanted.at > now {
            let at = wanted.at;
            self.wake_by(at);
            return;
        }
        if !self.are_known(now, steps) {
            return;
        }
        let Some(upstream) = self.source(now) else {
            let last = self.remotes.iter().filter_map(|r| r.last_error.as_ref());
            self.trouble = last.max_by_key(|(at, _)| *at).map(|(_, why)| why.clone());
            let pauses = self.remotes.iter().filter_map(|remote| remote.not_before);
            if let Some(until) = pauses.min() {
                self.wake_by(until);
            }
            return;
        };
        let ranges = self.settings.ranges;
        let splits = (!self.settings.by_index && ranges > 1).then_some(ranges);
        let ask = Ask::Info { splits };
        self.ask(steps, upstream, For::Splits, None, ask, now);
    }

    /// Whether all that can be asked have said lately how they stand, where there
    /// is a choice; asks those that have not.
    fn are_known(&mut self, now: Timestamp, steps: &mut Vec<Step>) -> bool {
        if self.remotes.len() < 2 {
            return true;
        }
        let mut are_known = true;
        for upstream in 0..self.remotes.len() {
            let remote = &self.remotes[upstream];
            let recently = |at: Timestamp| now.since(at) < LATELY;
            if !remote.available(now) || remote.informed_at.is_some_and(recently) {
                continue;
            }
            are_known = false;
            let asked = |ask: &Pending| ask.upstream == Some(upstream);
            if !self.asks.values().any(asked) {
                let ask = Ask::Info { splits: None };
                self.ask(steps, upstream, For::Look, None, ask, now);
            }
        }
        are_known
    }

    /// Of whom the copy is begun: the first that answers decides the epoch; of
    /// those of that epoch the one at the highest head. One that is no good copy
    /// itself only where there is no other.
    fn source(&self, now: Timestamp) -> Option<usize> {
        let all = self.remotes.iter().enumerate();
        let fit: Vec<_> = all.filter(|(_, remote)| remote.available(now)).collect();
        let info = |place: usize| self.remotes.get(place)?.info.as_ref();
        let (first, _) = *fit.iter().min_by_key(|(_, remote)| remote.is_shaky())?;
        let epoch = info(first).map(|info| &info.epoch);
        let same = fit
            .iter()
            .filter(|(place, _)| info(*place).map(|info| &info.epoch) == epoch);
        let best = same.max_by_key(|(place, remote)| {
            let head = info(*place).map(|info| info.head);
            (!remote.is_shaky(), head, std::cmp::Reverse(*place))
        });
        best.map(|(place, _)| *place)
    }

    /// The upstream said where the ranges begin.
    pub(super) fn begin(&mut self, info: Info) {
        let Some(wanted) = &self.wanted else {
            return;
        };
        let mut splits = info.splits.unwrap_or_default();
        splits.retain(|key| super::check_key(key).is_ok());
        splits.sort();
        splits.dedup();
        splits.truncate(self.settings.ranges.saturating_sub(1));
        if self.settings.by_index {
            splits.clear();
        }
        let mut after = String::new();
        let mut ranges = Vec::with_capacity(splits.len() + 1);
        for split in splits {
            ranges.push(RangeStart {
                after: std::mem::replace(&mut after, split.clone()),
                until: Some(split),
            });
        }
        ranges.push(RangeStart { after, until: None });
        self.trouble = None;
        let begin = ReplicaChange::Begin {
            reason: wanted.reason,
            why: wanted.why.clone(),
            epoch: info.epoch,
            head: info.head,
            len: info.len,
            ranges,
            outrun: wanted.outrun,
        };
        self.ready.push(begin);
    }
}
