//! What a change that was written makes of how a replica stands. Pure; the rows
//! say the same.

use super::change::{Applied, ReplicaChange};
use super::traits::{Bootstrap, RangeState, Standing};
use crate::time::Timestamp;

impl Standing {
    /// Takes note of a change that is durable.
    pub fn note(&mut self, change: &ReplicaChange, applied: &Applied, now: Timestamp) {
        match change {
            ReplicaChange::Begin {
                reason,
                why,
                epoch,
                head,
                len,
                ranges,
                outrun,
            } => {
                if self.live.is_some() {
                    // Since the first one; why the last one began.
                    let since = self.stale.take().map_or(now, |(since, _)| since);
                    self.stale = Some((since, why.clone()));
                }
                *self.bootstraps.entry(*reason).or_default() += 1;
                self.outrun = self.outrun.saturating_add(u32::from(*outrun));
                let start = |start: &super::RangeStart| RangeState {
                    after: start.after.clone(),
                    until: start.until.clone(),
                    cursor: start.after.clone(),
                    head: *head,
                    len: 0,
                    done: false,
                };
                self.bootstrap = applied.generation.map(|generation| Bootstrap {
                    generation,
                    epoch: epoch.clone(),
                    reason: *reason,
                    begun_at: now,
                    len: *len,
                    ranges: ranges.iter().map(start).collect(),
                });
            }
            ReplicaChange::Chunk {
                range,
                new_cursor,
                done,
                diff,
                ..
            } => {
                let range = self.range_mut(*range);
                if let Some(range) = range {
                    range.cursor.clone_from(new_cursor);
                    range.head = diff.to;
                    range.done = *done;
                    range.len = applied.len;
                }
            }
            ReplicaChange::Forward { ranges, diff, .. } => {
                for (nth, place) in ranges.iter().enumerate() {
                    if let Some(range) = self.range_mut(*place)
                        && range.head <= diff.to
                    {
                        range.head = diff.to;
                        range.len = applied.lens.get(nth).copied().unwrap_or(range.len);
                    }
                }
            }
            ReplicaChange::Live { generation, head } => {
                if let Some(bootstrap) = self.bootstrap.take() {
                    self.live = Some((*generation, bootstrap.epoch, *head, applied.len));
                }
                self.stale = None;
                self.outrun = 0;
                self.audit_cursor = None;
            }
            ReplicaChange::Follow { diff, .. } => {
                if let Some((_, _, head, len)) = &mut self.live {
                    (*head, *len) = (diff.to, applied.len);
                }
            }
            ReplicaChange::Repair { .. } => {
                if let Some((_, _, _, len)) = &mut self.live {
                    *len = applied.len;
                }
            }
            ReplicaChange::Heard { level, at, .. } => {
                if *level {
                    self.level_at = Some(*at);
                }
            }
            ReplicaChange::Audited {
                cursor,
                differences,
            } => {
                self.audit_cursor.clone_from(cursor);
                if cursor.is_none() {
                    self.audited = Some((now, *differences));
                }
                // Where there were differences, the copy was counted.
                if let Some((generation, _, _, len)) = &mut self.live
                    && applied.generation == Some(*generation)
                {
                    *len = applied.len;
                }
            }
        }
    }

    fn range_mut(&mut self, place: usize) -> Option<&mut RangeState> {
        self.bootstrap.as_mut()?.ranges.get_mut(place)
    }
}
