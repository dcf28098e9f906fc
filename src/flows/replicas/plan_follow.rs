//! How the plan keeps a copy up to date: it waits for the head to move, and
//! writes the diff.

use super::change::{Applied, ReplicaChange};
use super::model::{Diff, Fetched, Info, LEN_UNKNOWN, Modification};
use super::plan::{For, Pending, ReplicaPlan};
use super::plan_step::{Ask, Step};
use super::remote::Need;
use crate::time::Timestamp;
use std::time::Duration;

/// How often, at most, it is written that the copy has all.
const HEARD_EVERY: Duration = Duration::from_secs(5);
/// How soon one that answered a wait at once, though nothing moved, is asked again.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

impl ReplicaPlan {
    pub(super) fn follow_steps(&mut self, now: Timestamp, steps: &mut Vec<Step>) {
        let Some((_, epoch, head, len)) = self.standing.as_ref().and_then(|s| s.live.clone())
        else {
            return;
        };
        let busy = self.is_asking(&For::Follow) || !self.writes.is_empty();
        if busy {
            return;
        }
        if let Some(until) = self.audit.holds(now) {
            if let Some(until) = until {
                self.wake_by(until);
            }
            return;
        }
        let need = (epoch, head);
        let behind = !self.settings.by_index && self.is_behind(&need, now);
        if behind {
            // Whoever it is: waiting for another is of no use any more.
            self.asks.retain(|_, ask| ask.purpose != For::Watch);
        } else if self.is_asking(&For::Watch) {
            return;
        }
        let Some(upstream) = self.choose_to_follow(&need, now, steps) else {
            return;
        };
        if behind {
            let ask = Ask::Fetch(self.diff_alone(&need.0, head, len));
            self.ask(steps, upstream, For::Follow, Some(need), ask, now);
            return;
        }
        if let Some(heard) = self.heard(upstream, &need) {
            self.write(steps, heard);
            return;
        }
        if self.look_at > now {
            self.wake_by(self.look_at);
            return;
        }
        if self.settings.by_index {
            let ask = Ask::Fetch(self.diff_alone(&need.0, head, len));
            self.ask(steps, upstream, For::Follow, Some(need), ask, now);
        } else if self.is_polled(upstream, now) || self.is_recovering(upstream) {
            // One that failed is asked for a short answer first: whether it is back
            // is not to be known only when a long wait ends.
            let ask = Ask::Info { splits: None };
            self.ask(steps, upstream, For::Watch, None, ask, now);
        } else {
            let (epoch, wait) = (need.0, self.settings.watch);
            let ask = Ask::Watch { epoch, head, wait };
            self.ask(steps, upstream, For::Watch, None, ask, now);
        }
    }

    /// What is to be written of what was heard of the upstreams last. Who does not
    /// answer says nothing about the copy.
    fn heard(&mut self, upstream: usize, (epoch, head): &Need) -> Option<ReplicaChange> {
        let remote = self.remotes.get(upstream)?;
        let at = remote.heard_at.filter(|_| remote.failures == 0)?;
        let is_shaky = remote.is_shaky();
        if self.settings.by_index && !self.polled {
            return None;
        }
        let infos = self.remotes.iter().filter_map(|r| r.info.as_ref());
        let heads = infos.filter(|info| info.epoch == *epoch).map(|i| i.head);
        let upstream_head = heads.max().unwrap_or(*head);
        // A copy that is not up to date itself does not know what it lacks.
        let level = upstream_head <= *head && !is_shaky;
        if level {
            self.level_at = Some(at);
        }
        let written = self.heard_at;
        let is_due = written.is_none_or(|last| last.plus(HEARD_EVERY) <= at);
        is_due.then_some(ReplicaChange::Heard {
            upstream_head,
            at,
            level,
        })
    }

    fn is_recovering(&self, upstream: usize) -> bool {
        let remote = self.remotes.get(upstream);
        remote.is_some_and(|remote| remote.failures > 0 && !remote.fails_at_work())
    }

    fn is_polled(&self, upstream: usize, now: Timestamp) -> bool {
        let remote = self.remotes.get(upstream);
        self.settings.by_index || remote.is_some_and(|remote| remote.is_polled(now))
    }

    /// A wait ended, or a poll was answered.
    pub(super) fn watched(&mut self, of: &Pending, info: &Info, now: Timestamp) {
        let ours = self.standing.as_ref().and_then(|s| s.live.as_ref());
        let moved =
            ours.is_some_and(|(_, epoch, head, _)| (epoch, *head) != (&info.epoch, info.head));
        let polled = of.upstream.is_some_and(|place| self.is_polled(place, now));
        // Who answers at once though nothing moved is not asked at once again.
        self.look_at = match (polled, moved) {
            (true, _) => of.at.plus(self.settings.poll_interval),
            (false, true) => now,
            (false, false) => of.at.plus(self.settings.poll_interval.min(WATCH_AGAIN)),
        };
    }

    /// What the copy lacked came.
    ///
    /// # Errors
    /// It is not what was asked for.
    pub(super) fn take_follow(
        &mut self,
        of: &Pending,
        fetched: Fetched,
        now: Timestamp,
    ) -> Result<(), String> {
        let Some((generation, epoch, head, len)) =
            self.standing.as_ref().and_then(|s| s.live.clone())
        else {
            return Ok(());
        };
        if of.need.as_ref() != Some(&(epoch, head)) {
            return Ok(());
        }
        let whole = fetched.head >= fetched.latest;
        if fetched.head == head && !whole {
            return Err(format!(
                "answered a diff from head {head} that leads nowhere"
            ));
        }
        if of.upstream.is_some_and(|place| self.is_polled(place, now)) {
            self.look_at = now.plus(self.settings.poll_interval);
        }
        self.expected =
            (whole && self.settings.by_index && fetched.len != LEN_UNKNOWN).then_some(fetched.len);
        if fetched.head > head {
            self.polled = false;
            self.still = None;
            self.ready.push(ReplicaChange::Follow {
                generation,
                diff: Diff {
                    from: head,
                    to: fetched.head,
                    modifications: fetched.diff,
                },
            });
            return Ok(());
        }
        self.polled = true;
        // The seed's sample lets its head stand still: what it changed since is
        // in each of its diffs.
        let known = self.still.as_ref() == Some(&(head, fetched.diff.clone()));
        if fetched.diff.is_empty() || known {
            self.count_is(len, now);
        } else {
            self.ready.push(ReplicaChange::Repair {
                generation,
                head,
                modifications: fetched.diff,
            });
        }
        Ok(())
    }

    /// A diff was written.
    pub(super) fn followed(&mut self, applied: &Applied, now: Timestamp) {
        self.count_is(applied.len, now);
    }

    /// A range was put right, or what changed at a head that stands still.
    pub(super) fn repaired(
        &mut self,
        modifications: &[Modification],
        applied: &Applied,
        now: Timestamp,
    ) {
        let live = self.standing.as_ref().and_then(|s| s.live.as_ref());
        if self.settings.by_index {
            self.still = live.map(|(_, _, head, _)| (*head, modifications.to_vec()));
            self.count_is(applied.len, now);
        } else {
            self.audit.repaired();
        }
    }

    fn count_is(&mut self, ours: u64, now: Timestamp) {
        match self.expected.take() {
            Some(theirs) if theirs != ours => self.miscounted(ours, theirs, now),
            Some(_) => self.miscounts = 0,
            None => {}
        }
    }
}
