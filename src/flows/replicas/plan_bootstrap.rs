//! How the plan fills a bootstrap: ranges side by side, each with its own head,
//! brought to one head at the end.

use super::change::{Applied, BootstrapReason, ReplicaChange};
use super::model::{Chunk, Diff, Fetched, Fetching, Head, Modification, Next, Since};
use super::plan::{For, Pending, ReplicaPlan};
use super::plan_step::{Ask, Step};
use super::remote::Remote;
use super::traits::{Bootstrap, RangeState};
use crate::time::Timestamp;
use std::time::Duration;

/// How far a done range may fall behind, in heads, before it is brought forward.
const FORWARD_HEADS: Head = 1000;
/// And for how long.
const FORWARD_AFTER: Duration = Duration::from_secs(5);
/// How long after an upstream did not have what other ranges have already.
const FORWARD_AGAIN: Duration = Duration::from_millis(200);
/// How long somebody is waited for who has what some of the ranges have.
const STUCK_FOR: Duration = Duration::from_secs(300);
/// How often an upstream is asked how far its history reaches.
const INFORM_EVERY: Duration = Duration::from_secs(2);

/// Whether a key is of a range that ends with `until`.
fn within(key: &str, after: &str, until: Option<&str>) -> bool {
    key > after && until.is_none_or(|until| key <= until)
}

/// The part of a diff that concerns keys behind `after`, up to `until`.
fn part(diff: Vec<Modification>, after: &str, until: &str) -> Vec<Modification> {
    let mut diff = diff;
    diff.retain(|modification| within(modification.key(), after, Some(until)));
    diff
}

impl ReplicaPlan {
    fn bootstrap_state(&self) -> Option<&Bootstrap> {
        self.standing.as_ref()?.bootstrap.as_ref()
    }

    /// The next chunks, what done ranges lack, or the end.
    pub(super) fn bootstrap_steps(&mut self, now: Timestamp, steps: &mut Vec<Step>) {
        let Some(bootstrap) = self.bootstrap_state().cloned() else {
            return;
        };
        let fetched: u64 = bootstrap.ranges.iter().map(|range| range.len).sum();
        if self.pace.is_none_or(|(of, ..)| of != bootstrap.generation) {
            self.pace = Some((bootstrap.generation, fetched, now));
        }
        if self.settings.by_index && self.index_steps(&bootstrap, steps) {
            return;
        }
        for (place, range) in bootstrap.ranges.iter().enumerate() {
            let writes_it = |change: &ReplicaChange| matches!(change, ReplicaChange::Chunk { range, .. } if *range == place);
            if range.done
                || self.is_asking(&For::Chunk(place))
                || self.writes.values().any(writes_it)
            {
                continue;
            }
            let need = (bootstrap.epoch.clone(), range.head);
            if let Some(upstream) = self.choose(&need, place, now, steps) {
                let ask = Ask::Fetch(self.chunk_of(&bootstrap, range));
                let purpose = For::Chunk(place);
                self.ask(steps, upstream, purpose, Some(need), ask, now);
            }
        }
        self.ask_reach(&bootstrap, now, steps);
        self.bring_forward(&bootstrap, now, steps);
    }

    /// Chunks do not say how far history reaches, and the more goes on meanwhile
    /// the sooner it falls short of ranges that are done.
    fn ask_reach(&mut self, bootstrap: &Bootstrap, now: Timestamp, steps: &mut Vec<Step>) {
        if self.settings.by_index {
            return;
        }
        let of_epoch = |remote: &Remote| {
            let info = remote.info.as_ref();
            info.is_some_and(|info| info.epoch == bootstrap.epoch)
        };
        let mut all = self.remotes.iter().enumerate();
        let first = all
            .find(|(_, remote)| remote.available(now) && remote.failures == 0 && of_epoch(remote));
        let Some((upstream, remote)) = first else {
            return;
        };
        let looks = |ask: &Pending| ask.upstream == Some(upstream) && ask.purpose == For::Look;
        if self.asks.values().any(looks) {
            return;
        }
        let next = remote.informed_at.map_or(now, |at| at.plus(INFORM_EVERY));
        if next > now {
            self.wake_by(next);
        } else {
            let ask = Ask::Info { splits: None };
            self.ask(steps, upstream, For::Look, None, ask, now);
        }
    }

    fn chunk_of(&self, bootstrap: &Bootstrap, range: &RangeState) -> Fetching {
        let by_index = self.settings.by_index;
        let chunk = if by_index {
            Chunk::Index {
                begin: range.len,
                end: range.len.saturating_add(self.settings.chunk.max(1)),
            }
        } else {
            Chunk::Key {
                after: range.cursor.clone(),
                until: range.until.clone(),
                limit: self.settings.chunk.max(1),
            }
        };
        Fetching {
            chunk,
            since: Some(Since {
                epoch: (!by_index).then(|| bootstrap.epoch.clone()),
                head: range.head,
                from: (!by_index).then(|| range.after.clone()),
            }),
        }
    }

    fn bring_forward(&mut self, bootstrap: &Bootstrap, now: Timestamp, steps: &mut Vec<Step>) {
        let done = bootstrap.ranges.iter().filter(|range| range.done);
        let Some(lowest) = done.clone().map(|range| range.head).min() else {
            return;
        };
        let busy = |change: &ReplicaChange| !matches!(change, ReplicaChange::Chunk { .. });
        if self.is_asking(&For::Forward) || self.writes.values().any(busy) {
            return;
        }
        let all = done.clone().count() == bootstrap.ranges.len();
        if all && done.clone().all(|range| range.head == lowest) {
            if self.writes.is_empty() {
                let change = ReplicaChange::Live {
                    generation: bootstrap.generation,
                    head: lowest,
                };
                self.write(steps, change);
            }
            return;
        }
        if !all && !self.forward_is_due(bootstrap, lowest, now) {
            return;
        }
        if self.forward_after > now {
            self.wake_by(self.forward_after);
            return;
        }
        let need = (bootstrap.epoch.clone(), lowest);
        if let Some(upstream) = self.choose_newest(&need, now, steps) {
            self.forwarded_at = now;
            let ask = Ask::Fetch(self.diff_alone(&need.0, lowest, 0));
            self.ask(steps, upstream, For::Forward, Some(need), ask, now);
        }
    }

    /// Whether done ranges may fall off the upstream's history before all are.
    fn forward_is_due(&mut self, bootstrap: &Bootstrap, lowest: Head, now: Timestamp) -> bool {
        let infos = self.remotes.iter().filter_map(|r| r.info.as_ref());
        let infos = infos.filter(|info| info.epoch == bootstrap.epoch);
        let newest = infos.clone().map(|info| info.head).max().unwrap_or(lowest);
        let behind = newest.saturating_sub(lowest);
        if behind <= 0 {
            return false;
        }
        let reach = infos.map(|info| info.head.saturating_sub(info.oldest_head));
        let reach = reach.max().unwrap_or(FORWARD_HEADS);
        let next = self.forwarded_at.plus(FORWARD_AFTER);
        if behind >= FORWARD_HEADS.min(reach / 4).max(1) || next <= now {
            return true;
        }
        self.wake_by(next);
        false
    }

    /// A request for the diff from `head` on, without entries.
    pub(super) fn diff_alone(&self, epoch: &super::Epoch, head: Head, index: u64) -> Fetching {
        let by_index = self.settings.by_index;
        let chunk = if by_index {
            Chunk::Index {
                begin: index,
                end: index,
            }
        } else {
            Chunk::Key {
                after: String::new(),
                until: None,
                limit: 0,
            }
        };
        Fetching {
            chunk,
            since: Some(Since {
                epoch: (!by_index).then(|| epoch.clone()),
                head,
                from: None,
            }),
        }
    }

    /// A chunk by key came.
    ///
    /// # Errors
    /// It is not what was asked for.
    pub(super) fn take_chunk(
        &mut self,
        place: usize,
        of: &Pending,
        fetched: Fetched,
    ) -> Result<(), String> {
        let Some(bootstrap) = self.bootstrap_state() else {
            return Ok(());
        };
        let Some(range) = bootstrap.ranges.get(place) else {
            return Ok(());
        };
        if of.need.as_ref() != Some(&(bootstrap.epoch.clone(), range.head)) {
            return Ok(());
        }
        let whole = fetched.head >= fetched.latest;
        let most = self.settings.chunk.max(1);
        check_entries(&fetched, &range.cursor, range.until.as_deref(), most)?;
        if !whole && (fetched.head == range.head || !fetched.entries.is_empty()) {
            return Err(format!(
                "answered a diff that ends at head {} with {} entries, where its newest is {}",
                fetched.head,
                fetched.entries.len(),
                fetched.latest
            ));
        }
        let done = whole && fetched.next.is_none();
        if whole && !done && fetched.entries.is_empty() {
            return Err("answered a chunk without entries that is not the last".to_owned());
        }
        let last = fetched.entries.last().map(|entry| entry.key.clone());
        let change = ReplicaChange::Chunk {
            generation: bootstrap.generation,
            range: place,
            cursor: range.cursor.clone(),
            new_cursor: last.unwrap_or_else(|| range.cursor.clone()),
            done,
            diff: Diff {
                from: range.head,
                to: fetched.head,
                modifications: part(fetched.diff, &range.after, &range.cursor),
            },
            entries: fetched.entries,
        };
        self.ready.push(change);
        Ok(())
    }

    /// What done ranges lacked came.
    ///
    /// # Errors
    /// It is not what was asked for.
    pub(super) fn take_forward(
        &mut self,
        of: &Pending,
        fetched: Fetched,
        now: Timestamp,
    ) -> Result<(), String> {
        // Where the diff begins. Other ranges may be done since, at other heads.
        let (Some(bootstrap), Some((_, from))) = (self.bootstrap_state(), &of.need) else {
            return Ok(());
        };
        let from = *from;
        if fetched.head == from {
            if fetched.head < fetched.latest {
                return Err(format!(
                    "answered a diff from head {from} that leads nowhere"
                ));
            }
            // It does not have what the other ranges have: not yet.
            let since = *self.forward_stuck.get_or_insert(now);
            let stuck = now.since(since);
            self.forward_after = now.plus((stuck / 4).clamp(FORWARD_AGAIN, FORWARD_AFTER));
            if stuck >= STUCK_FOR {
                let why = format!("head {from} is had, and what other ranges have by nobody");
                self.want(BootstrapReason::WentBack, &why, false, now);
            }
            return Ok(());
        }
        let is_on = |range: &RangeState| range.done && (from..=fetched.head).contains(&range.head);
        let all = bootstrap.ranges.iter().enumerate();
        let ranges: Vec<usize> = all.filter(|(_, r)| is_on(r)).map(|(p, _)| p).collect();
        if ranges.is_empty() {
            return Ok(());
        }
        let change = ReplicaChange::Forward {
            generation: bootstrap.generation,
            ranges,
            diff: Diff {
                from,
                to: fetched.head,
                modifications: fetched.diff,
            },
        };
        self.forward_stuck = None;
        self.ready.push(change);
        Ok(())
    }

    /// A chunk by index came. Its entries begin where so many are before them as
    /// we hold: at its own head, which is not ours. So the diff is written first,
    /// and the entries are of use only if no fewer are left then.
    ///
    /// # Errors
    /// It is not what was asked for.
    pub(super) fn take_index_chunk(&mut self, fetched: Fetched) -> Result<(), String> {
        let Some(bootstrap) = self.bootstrap_state() else {
            return Ok(());
        };
        let Some(range) = bootstrap.ranges.first() else {
            return Ok(());
        };
        check_entries(&fetched, "", None, self.settings.chunk.max(1))?;
        if fetched.entries.is_empty() && fetched.next.is_some() {
            return Err("answered a chunk without entries that is not the last".to_owned());
        }
        let mut fetched = fetched;
        let diff = Diff {
            from: range.head,
            to: fetched.head,
            modifications: part(
                std::mem::take(&mut fetched.diff),
                &range.after,
                &range.cursor,
            ),
        };
        if !diff.modifications.is_empty() {
            let change = ReplicaChange::Chunk {
                generation: bootstrap.generation,
                range: 0,
                cursor: range.cursor.clone(),
                new_cursor: range.cursor.clone(),
                done: false,
                diff,
                entries: Vec::new(),
            };
            self.held = Some((range.len, fetched));
            self.ready.push(change);
            return Ok(());
        }
        let chunk = index_chunk(bootstrap.generation, range, diff, fetched);
        self.ready.push(chunk);
        Ok(())
    }

    /// After the diff of a chunk by index was written: its entries, unless they
    /// begin too late. Answers whether there is something to wait for.
    fn index_steps(&mut self, bootstrap: &Bootstrap, steps: &mut Vec<Step>) -> bool {
        if !self.writes.is_empty() {
            return true;
        }
        let (Some((begin, fetched)), Some(range)) = (self.held.take(), bootstrap.ranges.first())
        else {
            return false;
        };
        #[cfg(test)]
        let begin = if self.careless { 0 } else { begin };
        if range.len < begin || range.head != fetched.head || range.done {
            // Deletions before the cursor moved entries to before the chunk:
            // it is asked for again, from where we stand now.
            return false;
        }
        let diff = Diff {
            from: range.head,
            to: range.head,
            modifications: Vec::new(),
        };
        let change = index_chunk(bootstrap.generation, range, diff, fetched);
        self.write(steps, change);
        true
    }

    /// A change is durable: what follows from it.
    pub(super) fn wrote(&mut self, change: &ReplicaChange, applied: &Applied, now: Timestamp) {
        match change {
            ReplicaChange::Begin { .. } => {
                if applied.generation.is_none() {
                    self.distrust();
                }
                (self.wanted, self.held, self.still) = (None, None, None);
                (self.forwarded_at, self.forward_stuck) = (now, None);
                self.restless = self.restless.saturating_add(1);
                self.calm_since = None;
                self.audit.stop();
            }
            ReplicaChange::Live { .. } => {
                (self.still, self.heard_at) = (None, None);
                (self.polled, self.look_at) = (false, now);
                self.calm_since = Some(now);
            }
            ReplicaChange::Follow { .. } => self.followed(applied, now),
            ReplicaChange::Repair { modifications, .. } => {
                self.repaired(modifications, applied, now);
            }
            ReplicaChange::Heard { at, .. } => self.heard_at = Some(*at),
            ReplicaChange::Chunk { .. }
            | ReplicaChange::Forward { .. }
            | ReplicaChange::Audited { .. } => {}
        }
    }

    /// The copy does not hold as many entries as the upstream says, though it is
    /// at its head: the upstream's diff was not all of it.
    pub(super) fn miscounted(&mut self, ours: u64, theirs: u64, now: Timestamp) {
        let why = format!("we hold {ours} entries, the upstream {theirs}, at the same head");
        self.want(BootstrapReason::StaleHead, &why, false, now);
        self.miscounts = self.miscounts.saturating_add(1);
        let pause = super::Backoff::BOOTSTRAP.after(self.miscounts);
        if let Some(wanted) = &mut self.wanted {
            wanted.at = now.plus(pause);
        }
    }
}

fn index_chunk(generation: i64, range: &RangeState, diff: Diff, fetched: Fetched) -> ReplicaChange {
    let mut entries = fetched.entries;
    // More are before it than it began with: the first are known already.
    entries.retain(|entry| entry.key > range.cursor);
    let last = entries.last().map(|entry| entry.key.clone());
    ReplicaChange::Chunk {
        generation,
        range: 0,
        cursor: range.cursor.clone(),
        new_cursor: last.unwrap_or_else(|| range.cursor.clone()),
        done: fetched.next.is_none(),
        diff,
        entries,
    }
}

/// Checks that entries are those behind `after` up to `until`, in order, and at
/// most `most`.
///
/// # Errors
/// They are not.
pub(super) fn check_entries(
    fetched: &Fetched,
    after: &str,
    until: Option<&str>,
    most: u64,
) -> Result<(), String> {
    if u64::try_from(fetched.entries.len()).is_ok_and(|count| count > most) {
        return Err(format!(
            "answered {} entries where {most} were asked for",
            fetched.entries.len()
        ));
    }
    let mut last = after;
    for entry in &fetched.entries {
        if !within(&entry.key, last, until) {
            // Without the keys: this is shown where entries may not be.
            return Err("answered keys that are out of order, or out of the range".to_owned());
        }
        last = &entry.key;
    }
    if let Some(Next::Key(next)) = &fetched.next
        && !fetched.entries.is_empty()
        && next.as_str() != last
    {
        return Err("says that the next chunk does not begin behind its last key".to_owned());
    }
    Ok(())
}
