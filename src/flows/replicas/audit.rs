//! The audit of a copy: digests of ranges are compared with the upstream's, and
//! a range that differs is split until it is small, and put right.
//!
//! While a page is compared nothing else is written, so that the copy stays at
//! the head from which the upstream's diff leads to the digests.

mod local;
mod repair;

use self::local::local_page;
use super::backoff::Backoff;
use super::change::ReplicaChange;
use super::digest::{Overlay, RangeHasher};
use super::model::{Chunk, Digests, Epoch, Fetching, Head, Modification, RangeDigest, Since};
use super::plan::{For, Pending, ReplicaPlan};
use super::plan_step::{Ask, Step};
use crate::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Entries whose digests are asked for at once, and ranges that they are in.
const PAGE: (u64, usize) = (10_000, 16);
/// Entries of the copy that are read at once.
const LOCAL: u64 = 1000;
/// Pause of an audit in the background between two pages.
const PACE: Duration = Duration::from_secs(1);
/// How long after something went wrong a page is compared again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the copy stands still for an upstream to answer its digests.
const HOLD: Duration = Duration::from_secs(5);
/// How long it is believed that an upstream has no digests.
const UNABLE_FOR: Duration = Duration::from_secs(6 * 3600);
/// After so many comparisons in a row that came to nothing an order is given up.
const HOPELESS: u32 = 3;
/// How often a range is split.
const DEEPEST: u8 = 40;
/// What puts a range right is written in pieces of about so many.
const PIECE: usize = 10_000;

/// Whether an audit is wanted, and how far it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Audit {
    ordered: bool,
    /// No upstream has digests: until then that is believed.
    unable_until: Option<Timestamp>,
    /// Comparisons in a row that came to nothing, and why the last one did.
    failures: u32,
    trouble: Option<String>,
    run: Option<Run>,
    /// When digests, or entries, were asked for last.
    asked_at: Option<Timestamp>,
    at: Option<Timestamp>,
    /// When the first one without an order may begin.
    first_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Run {
    ordered: bool,
    /// To be compared; the last first.
    work: Vec<Span>,
    differences: u64,
    stage: Stage,
}

#[derive(Clone, Debug)]
struct Span {
    after: String,
    until: Option<String>,
    /// How often it was split; 0 for the walk over all keys.
    depth: u8,
    /// It differs, and is small enough to be fetched.
    small: bool,
}

#[derive(Clone, Debug)]
enum Stage {
    Ask,
    Asked,
    Compare(Box<Compare>),
    /// A chunk is here; the copy is brought to its head and read.
    Repair(Box<Repair>),
    /// What puts a range right is being written; then it is looked at again.
    Repairing,
}

#[derive(Clone, Debug)]
struct Compare {
    head: Head,
    ranges: VecDeque<RangeDigest>,
    diff: Vec<Modification>,
    next: Option<String>,
    differ: Vec<Span>,
    current: Option<(RangeDigest, Overlay, RangeHasher, String)>,
    local: Option<u64>,
}

#[derive(Clone, Debug)]
struct Repair {
    head: Head,
    /// What of the upstream's range the copy was not seen to have yet.
    theirs: BTreeMap<String, String>,
    cursor: String,
    modifications: Vec<Modification>,
    local: Option<u64>,
}

impl Audit {
    /// An operator wants one now.
    pub(super) fn order(&mut self) {
        self.ordered = true;
        (self.at, self.unable_until, self.failures) = (None, None, 0);
    }

    /// The copy must not move; until then, where that is known: an upstream that
    /// takes long over its digests holds nothing up for longer.
    pub(super) fn holds(&self, now: Timestamp) -> Option<Option<Timestamp>> {
        match self.run.as_ref()?.stage {
            Stage::Ask => None,
            Stage::Asked => {
                let until = self.asked_at?.plus(HOLD);
                (until > now).then_some(Some(until))
            }
            _ => Some(None),
        }
    }

    /// There is nothing to audit for the moment; the cursor in the rows stays.
    pub(super) fn stop(&mut self) {
        if let Some(run) = self.run.take() {
            self.ordered |= run.ordered;
        }
    }

    /// The upstream has no digests.
    pub(super) fn unable(&mut self, now: Timestamp) {
        *self = Self {
            unable_until: Some(now.plus(UNABLE_FOR)),
            trouble: Some("it has no digests to compare with".to_owned()),
            ..Self::default()
        };
    }

    /// A comparison came to nothing: the next one begins the later.
    pub(super) fn failed(&mut self, why: String, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.trouble = Some(why);
        if let Some(run) = &mut self.run {
            run.stage = Stage::Ask;
            self.at = Some(now.plus(Backoff::AUDIT.after(self.failures)));
        }
    }

    /// Why nothing is to be hoped for at present, if so.
    pub(super) fn hopeless(&self) -> Option<&str> {
        let is_hopeless = self.unable_until.is_some() || self.failures >= HOPELESS;
        self.trouble.as_deref().filter(|_| is_hopeless)
    }

    pub(super) fn retry(&mut self, now: Timestamp) {
        if let Some(run) = &mut self.run {
            run.stage = Stage::Ask;
            self.at = Some(now.plus(AGAIN));
        }
    }

    pub(super) fn repaired(&mut self) {
        if let Some(run) = &mut self.run {
            run.stage = Stage::Ask;
        }
    }

    /// Last key that the present audit compared; none runs: `None`.
    pub(super) fn cursor(&self) -> Option<&str> {
        let first = self.run.as_ref()?.work.first();
        Some(first.map_or("", |span| span.after.as_str()))
    }
}

impl ReplicaPlan {
    /// Why an order to compare comes to nothing at present, if so.
    pub fn cannot_verify(&self) -> Option<&str> {
        self.audit.hopeless()
    }

    fn copy(&self) -> Option<(i64, Epoch, Head)> {
        let live = self.standing.as_ref()?.live.as_ref()?;
        Some((live.0, live.1.clone(), live.2))
    }

    pub(super) fn audit_steps(&mut self, now: Timestamp, steps: &mut Vec<Step>) {
        if self.settings.by_index || self.audit.unable_until.is_some_and(|until| until > now) {
            return;
        }
        if self.audit.unable_until.take().is_some() {
            self.audit.trouble = None;
        }
        if self.audit.run.is_none() {
            // What ended the last one is written before the next begins.
            let ends = |change: &ReplicaChange| matches!(change, ReplicaChange::Audited { .. });
            if self.writes.values().any(ends) || !self.begin_audit(now) {
                return;
            }
        }
        let busy = !self.writes.is_empty() || self.is_asking(&For::Follow);
        if busy || self.audit.at.is_some_and(|at| at > now) {
            if let Some(at) = self.audit.at.filter(|_| !busy) {
                self.wake_by(at);
            }
            return;
        }
        let Some((generation, epoch, head)) = self.copy() else {
            return;
        };
        // The copy is brought on first: digests are compared at one head, and while
        // they are it stands still.
        let asks = |run: &Run| matches!(run.stage, Stage::Ask);
        let need = (epoch.clone(), head);
        if self.audit.run.as_ref().is_some_and(asks) && self.is_behind(&need, now) {
            return;
        }
        // Taken out while it is worked on; what fails begins the page again.
        let Some(mut run) = self.audit.run.take() else {
            return;
        };
        let goes_on = match &mut run.stage {
            Stage::Ask => self.ask_digests(&mut run, epoch, head, now, steps),
            Stage::Asked | Stage::Repairing => true,
            Stage::Compare(_) => self.compare(&mut run, head, steps),
            Stage::Repair(_) => self.read_to_repair(&mut run, generation, head, steps),
        };
        self.audit.run = goes_on.then_some(run);
    }

    fn begin_audit(&mut self, now: Timestamp) -> bool {
        let Some(standing) = &self.standing else {
            return false;
        };
        let after = standing.audit_cursor.clone();
        let ordered = self.audit.ordered;
        if !ordered {
            let Some(interval) = self.settings.audit_interval else {
                return false;
            };
            let first_at = *self.audit.first_at.get_or_insert(now.plus(interval));
            let due = match (&after, standing.audited) {
                (Some(_), _) => now,
                (None, Some((ended, _))) => ended.plus(interval),
                (None, None) => first_at,
            };
            if due > now {
                self.wake_by(due);
                return false;
            }
        }
        self.audit.ordered = false;
        let span = Span {
            after: after.filter(|_| !ordered).unwrap_or_default(),
            until: None,
            depth: 0,
            small: false,
        };
        self.audit.run = Some(Run {
            ordered,
            work: vec![span],
            differences: 0,
            stage: Stage::Ask,
        });
        true
    }

    /// Asks for the next page, or for what puts a range right. Answers whether
    /// the audit goes on.
    fn ask_digests(
        &mut self,
        run: &mut Run,
        epoch: Epoch,
        head: Head,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) -> bool {
        let Some(span) = run.work.last() else {
            let ended = ReplicaChange::Audited {
                cursor: None,
                differences: run.differences,
            };
            self.write(steps, ended);
            return false;
        };
        let written = self.standing.as_ref().and_then(|s| s.audit_cursor.as_ref());
        if span.depth == 0 && !span.after.is_empty() && written != Some(&span.after) {
            let compared = ReplicaChange::Audited {
                cursor: Some(span.after.clone()),
                differences: run.differences,
            };
            self.write(steps, compared);
            return true;
        }
        let need = (epoch.clone(), head);
        let span = span.clone();
        // Another one may have what this one lacks, or be faster.
        let turn = usize::try_from(self.audit.failures).unwrap_or(0);
        let Some(upstream) = self.choose(&need, turn, now, steps) else {
            return true;
        };
        let ask = if span.small {
            Ask::Fetch(Fetching {
                chunk: Chunk::Key {
                    after: span.after,
                    until: span.until,
                    limit: self.settings.chunk.max(1).saturating_mul(2),
                },
                since: Some(Since {
                    epoch: Some(epoch),
                    head,
                    from: None,
                }),
            })
        } else {
            Ask::Digests {
                after: span.after,
                until: span.until,
                limit: PAGE.0,
                splits: PAGE.1,
                since: (epoch, head),
            }
        };
        self.ask(steps, upstream, For::Audit, Some(need), ask, now);
        self.audit.asked_at = Some(now);
        run.stage = Stage::Asked;
        true
    }

    /// Digests came.
    pub(super) fn take_digests(
        &mut self,
        upstream: usize,
        of: &Pending,
        digests: Digests,
        now: Timestamp,
    ) {
        let copy = self.copy();
        let fits = copy.as_ref().is_some_and(|(_, epoch, head)| {
            digests.epoch == *epoch
                && digests.head >= *head
                && of.need.as_ref() == Some(&(epoch.clone(), *head))
        });
        if copy.as_ref().map(|(_, epoch, head)| (epoch, head))
            != of.need.as_ref().map(|(epoch, head)| (epoch, head))
        {
            let why = format!("its digests took longer than {} s", HOLD.as_secs());
            self.audit.failed(why, now);
            return;
        }
        let (Some(run), Some((_, _, head)), true) = (&mut self.audit.run, copy, fits) else {
            self.audit.retry(now);
            return;
        };
        let last = run.work.last();
        let after = last.map(|span| span.after.clone()).unwrap_or_default();
        if let Some(remote) = self.remotes.get_mut(upstream) {
            remote.compared(&digests.epoch, digests.head, now);
        }
        if digests.ranges.is_empty() && digests.head > head && digests.next.as_ref() == Some(&after)
        {
            // More changed since than one answer holds: that is followed first.
            run.stage = Stage::Ask;
            return;
        }
        let sound = digests.ranges.len() <= PAGE.1.saturating_mul(4)
            && digests.next.as_ref().is_none_or(|next| *next > after)
            && (digests.next.is_none() || !digests.ranges.is_empty());
        if !sound {
            let why = format!(
                "answered {} ranges of digests that lead nowhere",
                digests.ranges.len()
            );
            self.audit.failed(why, now);
            return;
        }
        (self.audit.failures, self.audit.trouble) = (0, None);
        let Some(run) = &mut self.audit.run else {
            return;
        };
        run.stage = Stage::Compare(Box::new(Compare {
            head,
            ranges: digests.ranges.into(),
            diff: digests.diff,
            next: digests.next,
            differ: Vec::new(),
            current: None,
            local: None,
        }));
    }

    /// Reads what the copy has of the next range.
    fn compare(&mut self, run: &mut Run, head: Head, steps: &mut Vec<Step>) -> bool {
        let Stage::Compare(page) = &mut run.stage else {
            return true;
        };
        if page.head != head {
            run.stage = Stage::Ask;
            return true;
        }
        if page.local.is_some() {
            return true;
        }
        if page.current.is_none()
            && let Some(range) = page.ranges.pop_front()
        {
            let overlay = Overlay::new(&page.diff, &range.after, range.until.as_deref());
            let cursor = range.after.clone();
            page.current = Some((range, overlay, RangeHasher::default(), cursor));
        }
        if let Some((range, _, _, cursor)) = &page.current {
            let fetching = local_page(cursor.clone(), range.until.clone());
            page.local = Some(self.local(steps, fetching));
            return true;
        }
        let (next, differ) = (page.next.take(), std::mem::take(&mut page.differ));
        let span = run.work.pop();
        if let (Some(mut span), Some(next)) = (span, next) {
            span.after = next;
            run.work.push(span);
        }
        run.work.extend(differ.into_iter().rev());
        run.stage = Stage::Ask;
        if !run.ordered && run.work.last().is_some_and(|span| span.depth == 0) {
            self.audit.at = Some(self.turn_at.plus(PACE));
        }
        self.wake_by(self.turn_at);
        true
    }
}
