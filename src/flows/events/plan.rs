//! What is to be done for one subscription, in which order, and when next.
//! Pure; the clock is passed in.
//!
//! Open events wait in memory in the order of their places, bounded; the rest
//! is read page by page. Relevance is found out for a window of them side by
//! side. Effects happen strictly in order: an event is handed to its handler
//! when all before it are done with, durably. Where the consumer reads the table,
//! a whole run is done with at once.
//!
//! Rows are the truth: a plan that is thrown away between any two steps loses
//! nothing, and the one event that was with its handler comes again.

use super::judging::Judging;
use super::marking::Marking;
use super::memory::{Entry, MOST_OPEN, Memory, Reach, State};
use super::model::{Checkpoint, Judgement, Known, OpenEvent, Place};
use super::plan_view::Rate;
use super::reads::Reads;
use super::settling::Settling;
use super::step::{Load, Sweep};
use super::traits::OpenPage;
use crate::config::{EventHandlerSettings, HandlerRetry, Late, Relevance, SubscriptionSettings};
use crate::time::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The plan of one subscription.
#[derive(Debug)]
pub struct SubscriptionPlan {
    pub(super) rules: Rules,
    /// Orders of operators under which all of this was read.
    pub(super) orders: i64,
    /// Late events up to this arrival are processed.
    pub(super) late_to: i64,
    pub(super) paused: Option<(Timestamp, String)>,
    pub(super) halted: Option<(i64, Timestamp, String)>,
    pub(super) memory: Memory,
    pub(super) reads: Reads,
    pub(super) judging: Judging,
    pub(super) settling: Settling,
    pub(super) marking: Marking,
    /// All events up to here are done with, as the database says.
    pub(super) position: Option<Place>,
    /// All events up to here are done with, durably.
    pub(super) passed: Option<Place>,
    /// The last place that was handed over and not refused: what is open before it
    /// came late.
    pub(super) handed: Option<Place>,
    /// Events that were found late here, while they are open: their rows may not
    /// say so yet.
    pub(super) found_late: BTreeSet<Place>,
    /// The event that its handler has, for the so-many-th time.
    pub(super) handling: Option<(Place, u32)>,
    /// The handler's event of before the plan began anew, while it is not in
    /// memory.
    pub(super) carried: Option<Carried>,
    pub(super) last_error: Option<(Timestamp, String)>,
    pub(super) processed: u64,
    pub(super) irrelevant: u64,
    pub(super) rate: Rate,
    /// The server drains.
    draining: bool,
}

/// An event that its handler has, or was done with, and that is not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) place: Place,
    /// Times its handler was tried, this one included.
    pub(super) attempts: u32,
    /// When the handler was done with it, if it is; not durable yet.
    pub(super) handled: Option<Timestamp>,
}

/// What of a subscription's settings the plan goes by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) relevance: Relevance,
    late: Late,
    pub(super) retry: HandlerRetry,
    /// The consumer reads the table: processed is what is relevant and its turn.
    pub(super) table: bool,
    /// Most changes written at once.
    pub(super) commit_rows: usize,
}

impl Rules {
    fn of(settings: &SubscriptionSettings, commit_rows: usize) -> Self {
        Self {
            relevance: settings.relevance.clone(),
            late: settings.late,
            retry: settings.retry.clone(),
            table: settings.handler == EventHandlerSettings::Table,
            commit_rows: commit_rows.max(1),
        }
    }

    /// Whether the subscription halts on this event: a late one that no operator
    /// let pass, as those up to the arrival `late_to`.
    pub(super) fn halts_on(&self, entry: &Entry, late_to: i64) -> bool {
        entry.late && self.late == Late::Halt && entry.place().arrival > late_to
    }

    /// The pause after so many tries, in this round of them.
    fn pause(&self, tries: u32) -> Duration {
        let doublings = tries.saturating_sub(1).min(31);
        let pause = self.retry.delay.saturating_mul(1 << doublings);
        pause.min(self.retry.max_delay)
    }
}

impl SubscriptionPlan {
    /// A plan that goes on from a checkpoint, which was read before anything
    /// else is.
    pub fn new(settings: &SubscriptionSettings, commit_rows: usize, from: Checkpoint) -> Self {
        Self::with_room(settings, commit_rows, from, MOST_OPEN)
    }

    /// The same with room for `most` events.
    pub(super) fn with_room(
        settings: &SubscriptionSettings,
        commit_rows: usize,
        from: Checkpoint,
        most: usize,
    ) -> Self {
        let wait = match &settings.relevance {
            Relevance::All => crate::config::RelevanceWait::default(),
            Relevance::Known(wait) => wait.clone(),
        };
        let mut plan = Self {
            rules: Rules::of(settings, commit_rows),
            orders: 0,
            late_to: 0,
            paused: None,
            halted: None,
            memory: Memory::new(most),
            reads: Reads::default(),
            judging: Judging::new(wait),
            settling: Settling::new(settings.order),
            marking: Marking::default(),
            position: None,
            passed: None,
            handed: None,
            found_late: BTreeSet::new(),
            handling: None,
            carried: None,
            last_error: None,
            processed: 0,
            irrelevant: 0,
            rate: Rate::default(),
            draining: false,
        };
        plan.checkpoint(from);
        plan
    }

    /// Begins anew from the rows, after an operator's orders; a handler at work
    /// is waited for.
    pub fn checkpoint(&mut self, from: Checkpoint) {
        self.orders = from.orders;
        self.late_to = from.late_to;
        self.paused = from.paused;
        self.halted = from.halted.clone();
        self.last_error = from.halted.map(|(_, at, error)| (at, error));
        if from.position < self.position {
            // A replay: what lies there has not been passed any more.
            self.handed = None;
            self.found_late.clear();
        }
        let (memory, reach) = (&self.memory, self.memory.reach);
        self.found_late
            .retain(|place| memory.index_of(*place).is_some() || !reach.covers(*place));
        self.position = from.position;
        self.passed = from.position;
        self.marking.reopen();
        self.begin_afresh(from.last_arrival);
    }

    /// Takes on changed settings: what waits in memory is read anew.
    pub fn settings(&mut self, settings: &SubscriptionSettings, commit_rows: usize) {
        let rules = Rules::of(settings, commit_rows);
        if rules == self.rules && self.settling.order() == settings.order {
            return;
        }
        if let Relevance::Known(wait) = &settings.relevance {
            self.judging.configure(wait.clone());
        }
        self.rules = rules;
        self.settling = Settling::new(settings.order);
        let heard = self.reads.highest();
        self.begin_afresh(heard);
    }

    fn begin_afresh(&mut self, heard_to: i64) {
        let unwritten = self.memory.iter().find_map(|entry| {
            let handled = match entry.state {
                State::Handled { at } => Some(at),
                State::Handling => None,
                _ => return None,
            };
            Some(Carried {
                place: entry.place(),
                attempts: entry.event.attempts.saturating_add(1),
                handled,
            })
        });
        self.carried = unwritten.or(self.carried);
        self.memory.clear();
        self.judging.begin_afresh();
        self.settling.clear();
        self.marking.begin_afresh();
        self.reads.begin_afresh(heard_to);
    }

    /// Orders of operators under which the plan was read.
    pub const fn orders(&self) -> i64 {
        self.orders
    }

    /// Whether the plan wants a new checkpoint.
    pub const fn is_fenced(&self) -> bool {
        self.marking.is_fenced()
    }

    /// Whether a change is being written.
    pub const fn is_marking(&self) -> bool {
        self.marking.is_under_way()
    }

    /// While the server drains, nothing more is handed over nor decided.
    pub const fn drain(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// What other servers recorded is to be looked for.
    pub const fn look_again(&mut self) {
        self.reads.sweep = true;
    }

    /// Events were recorded by this server.
    pub fn recorded(&mut self, news: Vec<OpenEvent>, now: Timestamp) {
        for event in news {
            if self.reads.is_old(event.place.arrival) {
                continue;
            }
            self.reads.hear(event.place.arrival);
            if Some(event.place) <= self.passed {
                // Either late, or old news of what is done with: the rows know.
                self.reads.read_again(None, event.place);
            } else {
                self.take(event, now);
            }
        }
        self.trim();
    }

    /// A page was read.
    pub fn loaded(&mut self, load: &Load, page: impl Into<OpenPage>, now: Timestamp) {
        let page = page.into();
        let full = page.is_full(load.limit);
        let page = page.events;
        let last = page.last().map(|event| event.place).or(load.after);
        let Some((done, complete)) = self.reads.loaded(load, last, full) else {
            return;
        };
        let reach = if complete && !full {
            Reach::All
        } else {
            last.map_or(Reach::Nothing, Reach::UpTo)
        };
        self.memory.reach = self.memory.reach.max(reach);
        self.take_page(page, &done, now);
        self.trim();
    }

    /// A page could not be read.
    pub fn load_failed(&mut self, load: &Load, now: Timestamp) {
        self.reads.load_failed(load, now);
    }

    /// What was recorded lately was read.
    pub fn swept(&mut self, sweep: &Sweep, page: impl Into<OpenPage>, now: Timestamp) {
        let page = page.into();
        let full = page.is_full(sweep.limit);
        let page = page.events;
        let last = page.iter().map(|event| event.place.arrival).max();
        if let Some(done) = self.reads.swept(sweep, last, full) {
            self.take_page(page, &done, now);
            self.trim();
        }
    }

    /// What was recorded lately could not be read.
    pub fn sweep_failed(&mut self, sweep: &Sweep, now: Timestamp) {
        self.reads.sweep_failed(sweep, now);
    }

    /// Takes in what was open when it was read; `done` since then, sorted, is
    /// not.
    fn take_page(&mut self, page: Vec<OpenEvent>, done: &[i64], now: Timestamp) {
        for event in page {
            self.reads.hear(event.place.arrival);
            if done.binary_search(&event.place.arrival).is_err() {
                self.take(event, now);
            }
        }
    }

    fn take(&mut self, mut event: OpenEvent, now: Timestamp) {
        let place = event.place;
        if !self.memory.reach.covers(place) {
            self.reads.miss(place);
            return;
        }
        let old = self.reads.is_old(place.arrival);
        // Of what was read before, a group under way may hold it.
        let writing = self.marking.position().filter(|_| !old);
        let late = event.late
            || self.found_late.contains(&place)
            || Some(place) < self.handed
            || Some(place) <= self.passed.max(self.position).max(writing);
        let is_news = late && !event.late;
        if self.rules.table && !event.payload.is_empty() {
            // Nobody reads it here.
            event.payload = Arc::from("");
        }
        let block = place.block;
        let received_at = event.received_at;
        let mut entry = Entry::new(event, late, self.rules.relevance == Relevance::All);
        if let Some(carried) = self.carried.filter(|carried| carried.place == place) {
            entry.state = match carried.handled {
                None => State::Handling,
                Some(at) => State::Handled { at },
            };
        } else if self.handling.is_some_and(|(handling, _)| handling == place) {
            // It went out of memory meanwhile.
            entry.state = State::Handling;
        }
        let state = entry.state;
        let Some(index) = self.memory.insert(entry) else {
            return;
        };
        if is_news {
            // Known after a crash too, from before its turn on.
            self.found_late.insert(place);
            self.marking.late(place);
        }
        if matches!(state, State::Handling | State::Handled { .. }) {
            self.carried = None;
            self.marking.note(place);
        }
        if !late {
            self.settling.heard(block, received_at.min(now));
        }
        if state == State::New {
            self.judging.inserted(&self.memory, index);
        }
    }

    /// An event is done with durably, wherever it is kept.
    pub(super) fn drop_carried(&mut self, place: Place) {
        self.carried = self.carried.filter(|carried| carried.place != place);
    }

    fn trim(&mut self) {
        if self.memory.trim() {
            self.judging.trimmed(&self.memory);
            self.reads.void();
        }
    }

    /// Look-ups were answered.
    pub fn judged(&mut self, answers: &[Judgement], now: Timestamp) {
        let decide = !self.is_stopped();
        let decided = self.judging.judged(&mut self.memory, answers, now, decide);
        self.marking.note_all(decided);
    }

    /// Look-ups could not be made.
    pub fn judge_failed(&mut self, now: Timestamp) {
        self.judging.failed(&mut self.memory, now);
    }

    /// Ids became known: the waits for them end.
    pub fn known(&mut self, known: &Known) {
        let decided = self.judging.known(&mut self.memory, known);
        self.marking.note_all(decided);
    }

    /// The handler is done with an event, or failed.
    pub fn handled(&mut self, place: Place, result: Result<(), String>, now: Timestamp) {
        let handling = self.handling.take_if(|(handling, _)| *handling == place);
        let Some(entry) = self.memory.find(place) else {
            // Also where it is not open any more, since an operator skipped it or
            // the ledger abandoned its block: the consumer has it.
            self.carried = result.is_ok().then_some(Carried {
                place,
                attempts: handling.map_or(1, |(_, attempts)| attempts),
                handled: Some(now),
            });
            return;
        };
        if entry.state != State::Handling {
            return;
        }
        let Err(error) = result else {
            entry.state = State::Handled { at: now };
            self.marking.note(place);
            return;
        };
        entry.event.attempts = entry.event.attempts.saturating_add(1);

        let tries = entry
            .event
            .attempts
            .saturating_sub(entry.event.attempts_before);
        if self.handed == Some(place) {
            self.handed = None;
        }
        let not_before = now.plus(self.rules.pause(tries));
        entry.state = State::Relevant { not_before };
        self.last_error = Some((now, error.clone()));
        self.marking.failed(entry, error.clone(), now);
        if tries >= self.rules.retry.attempts.max(1) {
            self.halt(place, error, now);
        }
    }

    pub(super) fn halt(&mut self, place: Place, error: String, now: Timestamp) {
        self.last_error = Some((now, error.clone()));
        self.halted = Some((place.arrival, now, error.clone()));
        self.marking.halted(place, error, now);
    }

    /// Whether nothing is to be handled nor decided irrelevant.
    pub(super) const fn is_stopped(&self) -> bool {
        self.draining || self.paused.is_some() || self.halted.is_some()
    }

    /// How many events are waited for.
    pub fn waiting(&self) -> usize {
        self.judging.waiting()
    }
}
