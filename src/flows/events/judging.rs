//! Which events are looked up, how often and when: up to a window of them wait
//! side by side.

use super::memory::{Entry, Memory, State};
use super::model::{Judgement, Known, Place};
use crate::config::RelevanceWait;
use crate::time::Timestamp;
use std::collections::HashSet;
use std::time::Duration;

/// How long after a failed look-up the database is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The window of events whose relevance is being found out.
#[derive(Debug)]
pub(super) struct Judging {
    wait: RelevanceWait,
    /// Events in the window.
    window: Vec<Place>,
    /// Events up to here are decided, or in the window.
    admitted: Option<Place>,
    /// A look-up is under way.
    asked: bool,
    /// When the first of those that wait is to be looked up; asked for at each
    /// turn, and so not searched for.
    due: Option<Timestamp>,
}

impl Judging {
    pub(super) const fn new(wait: RelevanceWait) -> Self {
        Self {
            wait,
            window: Vec::new(),
            admitted: None,
            asked: false,
            due: None,
        }
    }

    /// Begins anew with the first event; a look-up under way stays so.
    pub(super) fn begin_afresh(&mut self) {
        self.window.clear();
        self.admitted = None;
        self.due = None;
    }

    /// Waits by other rules, from the first event on.
    pub(super) fn configure(&mut self, wait: RelevanceWait) {
        self.wait = wait;
        self.begin_afresh();
    }

    /// Events went out of memory.
    pub(super) fn trimmed(&mut self, memory: &Memory) {
        self.window
            .retain(|place| memory.index_of(*place).is_some());
        self.find_due(memory);
    }

    /// How many events are waited for.
    pub(super) fn waiting(&self) -> usize {
        self.window.len()
    }

    /// An event was put in at this index.
    pub(super) fn inserted(&mut self, memory: &Memory, index: usize) {
        let place = memory.get(index).map(Entry::place);
        if place <= self.admitted {
            let before = index.checked_sub(1).and_then(|before| memory.get(before));
            self.admitted = before.map(Entry::place);
        }
    }

    /// What is to be looked up now.
    pub(super) fn ask(
        &mut self,
        memory: &mut Memory,
        now: Timestamp,
    ) -> Vec<(Place, String, Option<String>)> {
        if self.asked {
            return Vec::new();
        }
        self.admit(memory, now);
        // A longer wait is of a clock that was ahead.
        let waits = |at: Timestamp| now < at && at <= self.latest(self.wait.attempts, now);
        if self.due.is_none_or(waits) {
            return Vec::new();
        }
        let mut asked = Vec::new();
        let mut due = None;
        for place in &self.window {
            let Some(entry) = memory.find(*place) else {
                continue;
            };
            let State::Waiting { looks, until } = entry.state else {
                continue;
            };
            if until <= now || until > self.latest(looks, now) {
                entry.state = State::Asked { looks };
                asked.push((*place, entry.event.tx_id.clone(), entry.event.key.clone()));
            } else {
                due = Some(due.map_or(until, |due| until.min(due)));
            }
        }
        self.due = due;
        self.asked = !asked.is_empty();
        asked
    }

    fn admit(&mut self, memory: &mut Memory, now: Timestamp) {
        if self.window.len() >= self.wait.window.max(1) {
            return;
        }
        let mut index = memory.behind(self.admitted);
        while self.window.len() < self.wait.window.max(1) {
            let Some(entry) = memory.get_mut(index) else {
                return;
            };
            if entry.state == State::New {
                entry.state = State::Waiting {
                    looks: 0,
                    until: now,
                };
                self.window.push(entry.place());
                self.due = Some(now);
            }
            self.admitted = Some(entry.place());
            index += 1;
        }
    }

    /// Takes answers. `decide` says whether an event may be decided irrelevant
    /// now. Answers with what was decided.
    pub(super) fn judged(
        &mut self,
        memory: &mut Memory,
        answers: &[Judgement],
        now: Timestamp,
        decide: bool,
    ) -> Vec<Place> {
        self.asked = false;
        for answer in answers {
            let Some(entry) = memory.find(answer.place) else {
                continue;
            };
            let State::Asked { looks } = entry.state else {
                continue;
            };
            let looks = looks + 1;
            entry.state = if answer.known {
                relevant()
            } else if decide && self.is_last(entry, looks, now) {
                State::Irrelevant { at: now }
            } else {
                State::Waiting {
                    looks: looks.min(self.wait.attempts.saturating_sub(1)),
                    until: now.plus(self.pause(looks)),
                }
            };
        }
        self.settle_asked(memory, now);
        self.take_decided(memory)
    }

    /// The look-up failed: it counts for nothing.
    pub(super) fn failed(&mut self, memory: &mut Memory, now: Timestamp) {
        self.asked = false;
        self.settle_asked(memory, now);
        self.find_due(memory);
    }

    /// Those that were asked for and not answered are asked for again.
    fn settle_asked(&self, memory: &mut Memory, now: Timestamp) {
        for place in &self.window {
            if let Some(entry) = memory.find(*place)
                && let State::Asked { looks } = entry.state
            {
                entry.state = State::Waiting {
                    looks,
                    until: now.plus(ASK_AGAIN),
                };
            }
        }
    }

    /// Ends the waits of those that became known; answers with which.
    pub(super) fn known(&mut self, memory: &mut Memory, known: &Known) -> Vec<Place> {
        if self.window.is_empty() || self.wait.sql.is_some() {
            // The operator's own lookup alone knows what counts.
            return Vec::new();
        }
        let transactions: HashSet<&str> = known.tx_ids.iter().map(String::as_str).collect();
        let keys: HashSet<&str> = known.keys.iter().map(String::as_str).collect();
        for place in &self.window {
            let Some(entry) = memory.find(*place) else {
                continue;
            };
            let key = entry.event.key.as_deref();
            if transactions.contains(entry.event.tx_id.as_str())
                || key.is_some_and(|key| keys.contains(key))
            {
                entry.state = relevant();
            }
        }
        self.take_decided(memory)
    }

    /// When the next look-up is due.
    pub(super) fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let latest = self.latest(self.wait.attempts, now);
        self.due.filter(|_| !self.asked).map(|due| due.min(latest))
    }

    fn find_due(&mut self, memory: &Memory) {
        let until = |place: &Place| match memory.get(memory.index_of(*place)?)?.state {
            State::Waiting { until, .. } => Some(until),
            _ => None,
        };
        self.due = self.window.iter().filter_map(until).min();
    }

    /// Takes those out of the window that are decided, or gone.
    fn take_decided(&mut self, memory: &Memory) -> Vec<Place> {
        let mut decided = Vec::new();
        self.window.retain(|place| {
            let entry = memory.index_of(*place).and_then(|index| memory.get(index));
            match entry.map(|entry| entry.state) {
                None => false,
                Some(State::Waiting { .. } | State::Asked { .. }) => true,
                Some(_) => {
                    decided.push(*place);
                    false
                }
            }
        });
        self.find_due(memory);
        decided
    }

    /// When a wait ends at the latest: later ones are of a clock that was ahead.
    fn latest(&self, looks: u32, now: Timestamp) -> Timestamp {
        let longest = self.pause(looks).max(self.pause(1));
        now.plus(longest.max(ASK_AGAIN))
    }

    fn is_last(&self, entry: &Entry, looks: u32, now: Timestamp) -> bool {
        let old = |at: Timestamp| {
            let pauses = (1..self.wait.attempts).map(|looks| self.pause(looks));
            now.since(at) >= pauses.fold(Duration::ZERO, Duration::saturating_add)
        };
        looks >= self.wait.attempts || (looks == 1 && entry.event.occurred_at.is_some_and(old))
    }

    /// The pause after so many look-ups.
    fn pause(&self, looks: u32) -> Duration {
        let growth = self
            .wait
            .backoff
            .powi(i32::try_from(looks.saturating_sub(1)).unwrap_or(i32::MAX));
        let seconds = self.wait.delay.as_secs_f64() * growth;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

const fn relevant() -> State {
    State::Relevant {
        not_before: Timestamp::from_millis(0),
    }
}
