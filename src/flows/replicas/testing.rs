//! A publisher, replicas of it and the rows of a Follower, in memory, as their
//! contracts say.

use super::change::{Applied, ReplicaChange};
use super::model::{
    Chunk, Entry, Epoch, Fetched, Fetching, Head, Info, Modification, Next, RangeDigest, compact,
};
use super::plan_step::{Answer, Ask};
use super::traits::{Standing, UpstreamError};
use super::{Digests, RangeHasher};
use crate::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};

pub(crate) type Table = BTreeMap<String, String>;

pub(crate) fn entry(key: &str, value: &str) -> Entry {
    Entry {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

/// Applies modifications of keys behind `after`, up to `until`.
pub(crate) fn apply(table: &mut Table, diff: &[Modification], after: &str, until: Option<&str>) {
    for modification in diff {
        let key = modification.key();
        if key <= after || until.is_some_and(|until| key > until) {
            continue;
        }
        match modification {
            Modification::Update(entry) => {
                table.insert(entry.key.clone(), entry.value.clone());
            }
            Modification::Delete(key) => {
                table.remove(key);
            }
        }
    }
}

/// A publisher, or a replica of one.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) epoch: Epoch,
    pub(crate) head: Head,
    pub(crate) data: Table,
    /// From head, to head, what changed.
    pub(crate) changes: VecDeque<(Head, Head, Vec<Modification>)>,
    pub(crate) oldest: Head,
    /// Rows of history that are kept.
    pub(crate) keep: usize,
    /// Modifications in a page of a diff.
    pub(crate) page: usize,
    pub(crate) fetches: usize,
    pub(crate) down: bool,
    /// What it says of itself where it is a replica.
    pub(crate) state: Option<&'static str>,
    /// What it refuses while it does everything else.
    pub(crate) refuses: Option<fn(&Ask) -> Option<UpstreamError>>,
}

impl Node {
    pub(crate) fn new(keep: usize, page: usize) -> Self {
        Self {
            epoch: Epoch::told("e0"),
            head: 0,
            data: Table::new(),
            changes: VecDeque::new(),
            oldest: 0,
            keep,
            page,
            fetches: 0,
            down: false,
            state: None,
            refuses: None,
        }
    }

    pub(crate) fn publish(&mut self, modifications: Vec<Modification>) {
        let to = self.head + 1;
        self.take(to, modifications);
    }

    fn take(&mut self, to: Head, modifications: Vec<Modification>) {
        apply(&mut self.data, &modifications, "", None);
        self.changes.push_back((self.head, to, modifications));
        self.head = to;
        while self.changes.len() > self.keep {
            if let Some((_, to, _)) = self.changes.pop_front() {
                self.oldest = to;
            }
        }
    }

    /// Another history begins, with what is there.
    pub(crate) fn renew(&mut self, epoch: String) {
        self.epoch = Epoch::told(&epoch);
        self.head = 0;
        self.changes.clear();
        self.oldest = 0;
    }

    /// Follows another one by so many of its rows.
    pub(crate) fn catch_up(&mut self, with: &Self, rows: usize) {
        if self.epoch != with.epoch || self.head < with.oldest || self.head > with.head {
            let keep = self.keep;
            let fetches = self.fetches;
            *self = Self {
                keep,
                fetches,
                changes: VecDeque::new(),
                oldest: with.head,
                ..with.clone()
            };
            return;
        }
        let newer = with.changes.iter().filter(|(_, to, _)| *to > self.head);
        let rows: Vec<_> = newer.take(rows).cloned().collect();
        if let Some((_, to, _)) = rows.last() {
            let to = *to;
            let all = rows.into_iter().flat_map(|(.., modified)| modified);
            self.take(to, compact(all.collect()));
        }
    }

    pub(crate) fn info(&self, splits: Option<usize>) -> Info {
        let splits = splits.map(|ranges| {
            let keys: Vec<&String> = self.data.keys().collect();
            let split = |n: usize| keys.get(n * keys.len() / ranges).map(|key| (*key).clone());
            (1..ranges).filter_map(split).collect()
        });
        Info {
            epoch: self.epoch.clone(),
            head: self.head,
            len: self.data.len() as u64,
            oldest_head: self.oldest,
            splits,
            state: self.state.map(str::to_owned),
        }
    }

    fn diff(
        &self,
        epoch: Option<&Epoch>,
        since: Head,
    ) -> Result<(Head, Vec<Modification>), UpstreamError> {
        let other = epoch.is_some_and(|epoch| *epoch != self.epoch);
        if other || since < self.oldest || since > self.head {
            return Err(UpstreamError::Stale(Some(self.info(None))));
        }
        let (mut to, mut all) = (since, Vec::new());
        for (_, head, modified) in self.changes.iter().filter(|(_, head, _)| *head > since) {
            if to > since && all.len() + modified.len() > self.page {
                break;
            }
            to = *head;
            all.extend(modified.iter().cloned());
        }
        Ok((to, compact(all)))
    }

    pub(crate) fn fetch(&mut self, fetching: &Fetching) -> Result<Fetched, UpstreamError> {
        self.fetches += 1;
        let (head, mut diff) = match &fetching.since {
            Some(since) => self.diff(since.epoch.as_ref(), since.head)?,
            None => (self.head, Vec::new()),
        };
        let whole = head == self.head;
        let all = self.data.iter().map(|(key, value)| entry(key, value));
        let (entries, next) = match &fetching.chunk {
            Chunk::Key {
                after,
                until,
                limit,
            } => {
                if let Some(from) = fetching.since.as_ref().and_then(|since| since.from.clone()) {
                    diff.retain(|m| m.key() > from.as_str() && m.key() <= after.as_str());
                }
                let mut behind: Vec<Entry> = all
                    .filter(|e| e.key > *after && until.as_ref().is_none_or(|u| e.key <= *u))
                    .collect();
                let more = behind.len() as u64 > *limit;
                behind.truncate(usize::try_from(*limit).unwrap());
                let last = behind.last().map_or(after.clone(), |e| e.key.clone());
                (behind, more.then_some(Next::Key(last)))
            }
            Chunk::Index { begin, end } => {
                let (begin, count) = (usize::try_from(*begin).unwrap(), end - begin);
                let entries: Vec<Entry> = all
                    .skip(begin)
                    .take(usize::try_from(count).unwrap())
                    .collect();
                let next = begin + entries.len();
                let more = next < self.data.len() && !entries.is_empty();
                (entries, more.then_some(Next::Index(next as u64)))
            }
        };
        Ok(Fetched {
            epoch: self.epoch.clone(),
            head,
            latest: self.head,
            entries: if whole { entries } else { Vec::new() },
            diff,
            len: self.data.len() as u64,
            next: if whole { next } else { Some(Next::Index(0)) },
        })
    }

    fn digests(
        &self,
        after: &str,
        until: Option<&str>,
        limit: u64,
        splits: usize,
        since: &(Epoch, Head),
    ) -> Result<Digests, UpstreamError> {
        let (head, diff) = self.diff(Some(&since.0), since.1)?;
        if head < self.head {
            return Ok(Digests {
                epoch: self.epoch.clone(),
                head: self.head,
                ranges: Vec::new(),
                diff: Vec::new(),
                next: Some(after.to_owned()),
            });
        }
        let of_range =
            |key: &String| key.as_str() > after && until.is_none_or(|until| key.as_str() <= until);
        let keys: Vec<&String> = self.data.keys().filter(|key| of_range(key)).collect();
        let shown = keys.len().min(usize::try_from(limit).unwrap());
        let more = keys.len() > shown;
        let last = more.then(|| keys[shown - 1].clone());
        let size = shown.div_ceil(splits).max(1);
        let mut ranges = Vec::new();
        let mut from = after.to_owned();
        let mut at = 0;
        loop {
            let end = (at + size).min(shown);
            let to = if end == shown {
                last.clone().or_else(|| until.map(str::to_owned))
            } else {
                Some(keys[end - 1].clone())
            };
            let mut hasher = RangeHasher::default();
            for key in &keys[at..end] {
                hasher.add(key, &self.data[*key]);
            }
            let (len, digest) = hasher.end();
            ranges.push(RangeDigest {
                after: from,
                until: to.clone(),
                len,
                digest,
            });
            at = end;
            if at == shown {
                break;
            }
            from = to.unwrap_or_default();
        }
        Ok(Digests {
            epoch: self.epoch.clone(),
            head,
            ranges,
            diff,
            next: last,
        })
    }

    pub(crate) fn answer(&mut self, ask: &Ask) -> Result<Answer, UpstreamError> {
        if self.down {
            return Err(failed());
        }
        if let Some(error) = self.refuses.and_then(|refuses| refuses(ask)) {
            return Err(error);
        }
        match ask {
            Ask::Info { splits } => Ok(Answer::Info(self.info(*splits))),
            Ask::Fetch(fetching) => self.fetch(fetching).map(Answer::Fetched),
            Ask::Watch { .. } => Ok(Answer::Info(self.info(None))),
            Ask::Digests {
                after,
                until,
                limit,
                splits,
                since,
            } => {
                let digests = self.digests(after, until.as_deref(), *limit, *splits, since);
                digests.map(Answer::Digests)
            }
        }
    }
}

pub(crate) fn failed() -> UpstreamError {
    UpstreamError::Failed {
        why: "on purpose".to_owned(),
        retry_after: None,
    }
}

/// The rows of a replica.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) standing: Standing,
    pub(crate) live: Table,
    pub(crate) filling: Table,
    generations: i64,
}

impl Rows {
    /// Applies a change, or refuses it.
    pub(crate) fn write(&mut self, change: &ReplicaChange, now: Timestamp) -> Option<Applied> {
        let applied = self.try_write(change)?;
        self.standing.note(change, &applied, now);
        Some(applied)
    }

    fn try_write(&mut self, change: &ReplicaChange) -> Option<Applied> {
        let mut applied = Applied::default();
        match change {
            ReplicaChange::Begin { ranges, .. } => {
                let mut after = "";
                for (place, range) in ranges.iter().enumerate() {
                    assert_eq!(range.after, after, "ranges have a gap");
                    after = range.until.as_deref().unwrap_or_default();
                    assert_eq!(range.until.is_none(), place + 1 == ranges.len());
                }
                self.filling.clear();
                self.generations += 1;
                applied.generation = Some(self.generations);
            }
            ReplicaChange::Chunk {
                generation,
                range,
                cursor,
                new_cursor,
                diff,
                entries,
                ..
            } => {
                let bootstrap = self.standing.bootstrap.as_ref()?;
                let state = bootstrap.ranges.get(*range)?;
                let stands = bootstrap.generation == *generation
                    && state.cursor == *cursor
                    && state.head == diff.from
                    && !state.done;
                if !stands {
                    return None;
                }
                let all: Table = self.filling.clone();
                apply(
                    &mut self.filling,
                    &diff.modifications,
                    &state.after,
                    Some(cursor),
                );
                let outside = |key: &String| *key <= state.after || key > cursor;
                assert!(
                    all.iter()
                        .filter(|(k, _)| outside(k))
                        .all(|(k, v)| self.filling.get(k) == Some(v))
                );
                for entry in entries {
                    assert!(entry.key > *cursor && entry.key <= *new_cursor);
                    self.filling.insert(entry.key.clone(), entry.value.clone());
                }
                let of = |key: &&String| **key > state.after && *key <= new_cursor;
                applied.len = self.filling.keys().filter(of).count() as u64;
            }
            ReplicaChange::Forward {
                generation,
                ranges,
                diff,
            } => {
                let bootstrap = self.standing.bootstrap.as_ref()?;
                if bootstrap.generation != *generation {
                    return None;
                }
                for place in ranges {
                    let state = bootstrap.ranges.get(*place)?;
                    if !state.done || state.head < diff.from {
                        return None;
                    }
                    if state.head <= diff.to {
                        let (after, until) = (&state.after, state.until.as_deref());
                        apply(&mut self.filling, &diff.modifications, after, until);
                    }
                }
            }
            ReplicaChange::Live { generation, head } => {
                let bootstrap = self.standing.bootstrap.as_ref()?;
                let ready = bootstrap.ranges.iter().all(|r| r.done && r.head == *head);
                if bootstrap.generation != *generation || !ready {
                    return None;
                }
                self.live = std::mem::take(&mut self.filling);
                applied.generation = Some(*generation);
                applied.len = self.live.len() as u64;
            }
            ReplicaChange::Follow { generation, diff } => {
                let (of, _, head, _) = self.standing.live.as_ref()?;
                if of != generation || *head != diff.from {
                    return None;
                }
                apply(&mut self.live, &diff.modifications, "", None);
                applied.len = self.live.len() as u64;
            }
            ReplicaChange::Repair {
                generation,
                head,
                modifications,
            } => {
                let (of, _, at, _) = self.standing.live.as_ref()?;
                if of != generation || at != head {
                    return None;
                }
                apply(&mut self.live, modifications, "", None);
                applied.len = self.live.len() as u64;
            }
            ReplicaChange::Heard { .. } | ReplicaChange::Audited { .. } => {}
        }
        Some(applied)
    }

    /// Entries of the copy, as it serves them.
    pub(crate) fn read(&self, fetching: &Fetching) -> Result<Fetched, String> {
        let (_, epoch, head, _) = self.standing.live.clone().ok_or("no copy")?;
        let mut node = Node::new(0, 0);
        (node.epoch, node.head, node.data) = (epoch, head, self.live.clone());
        node.fetch(fetching).map_err(|error| error.to_string())
    }
}
