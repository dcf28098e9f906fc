//! How the plan keeps a copy up to date: it waits for the head to move, and
//! writes the diff.

use super::change::{Applied, ReplicaChange};
use super::model::{Diff, Fetched, Info, LEN_UNKNOWN, Modification};
use super::plan::{For, Pending, ReplicaPlan};
use super::plan_step::{Ask, Step};
use crate::time::Timestamp;
use std::time::Duration;

/// How often, at most, it is written that the copy has all.
const HEARD_EVERY: Duration = Duration::from_secs(5);

impl ReplicaPlan {
    pub(super) fn follow_steps(&mut self, now: Timestamp, steps: &mut Vec<Step>) {
        let Some((_, epoch, head, len)) = self.standing.as_ref().and_then(|s| s.live.clone())
        else {
            return;
        };
        let busy = self.is_asking(&For::Watch) || self.is_asking(&For::Follow);
        if busy || !self.writes.is_empty() || self.audit.holds() {
            return;
        }
        let need = (epoch, head);
        let Some(upstream) = self.choose(&need, 0, now, steps) else {
            return;
        };
        let Some(remote) = self.remotes.get(upstream) else {
            return;
        };
        let upstream_head = remote.info.as_ref().map_or(head, |info| info.head);
        let unwatchable = remote.unwatchable;
        if upstream_head > head && !self.settings.by_index {
            let ask = Ask::Fetch(self.diff_alone(&need.0, head, len));
            self.ask(steps, upstream, For::Follow, Some(need), ask, now);
            return;
        }
        let heard_is_due = self.heard_at.is_none_or(|at| at.plus(HEARD_EVERY) <= now);
        if heard_is_due && (self.polled || !self.settings.by_index) {
            let heard = ReplicaChange::Heard {
                upstream_head,
                level: true,
            };
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
        } else if unwatchable {
            let ask = Ask::Info { splits: None };
            self.ask(steps, upstream, For::Watch, None, ask, now);
        } else {
            let (epoch, wait) = (need.0, self.settings.watch);
            let ask = Ask::Watch { epoch, head, wait };
            self.ask(steps, upstream, For::Watch, None, ask, now);
        }
    }

    /// A wait ended, or a poll was answered.
    pub(super) fn watched(&mut self, of: &Pending, info: &Info, now: Timestamp) {
        let ours = self.standing.as_ref().and_then(|s| s.live.as_ref());
        let moved =
            ours.is_some_and(|(_, epoch, head, _)| (epoch, *head) != (&info.epoch, info.head));
        let remote = of.upstream.and_then(|place| self.remotes.get(place));
        let polled = remote.is_some_and(|remote| remote.unwatchable);
        // Who answers at once though nothing moved is not asked at once again.
        self.look_at = if moved && !polled {
            now
        } else {
            of.at.plus(self.settings.poll_interval)
        };
    }

    /// What the copy lacked came.
    ///
    /// # Errors
    /// It is not what was asked for.
    pub(super) fn take_follow(&mut self, fetched: Fetched, now: Timestamp) -> Result<(), String> {
        let Some((generation, _, head, len)) = self.standing.as_ref().and_then(|s| s.live.clone())
        else {
            return Ok(());
        };
        let whole = fetched.head >= fetched.latest;
        if fetched.head == head && !whole {
            return Err(format!(
                "answered a diff from head {head} that leads nowhere"
            ));
        }
        let polls = self.settings.by_index || fetched.head == head;
        // Who can be waited for is waited for again as soon as the diff is written.
        self.look_at = if polls {
            now.plus(self.settings.poll_interval)
        } else {
            now
        };
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
