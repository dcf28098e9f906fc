//! What is written of a subscription, and in which groups: one at a time.
//!
//! A group holds what is done with from the front on, as far as that goes
//! without a gap, and the position behind it; besides, decisions ahead of their
//! turn, failures, and a halt.

use super::change::EventChange;
use super::memory::{Entry, State};
use super::model::{Decision, Place};
use super::plan::SubscriptionPlan;
use super::step::Marked;
use crate::time::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// Pause after the first group that could not be written; doubles.
const WRITE_AGAIN: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A group that is being written.
#[derive(Debug, Default)]
struct Group {
    /// Done with, once it is durable: from the front on first, in order.
    done: Vec<Place>,
    /// Known as relevant to the database, once it is durable.
    noted: Vec<Place>,
    /// Failures and a halt, to be written again where it is not.
    notes: Vec<EventChange>,
    position: Option<Place>,
    /// Not open any more, and known as processed once it is durable.
    carried: Option<Place>,
    processed: usize,
    irrelevant: usize,
}

/// What is to be written, and what is being written.
#[derive(Debug, Default)]
pub(super) struct Marking {
    /// Events of which there is something to write ahead of their turn.
    ahead: VecDeque<Place>,
    notes: Vec<EventChange>,
    under_way: Option<Group>,
    fenced: bool,
    failures: u32,
    not_before: Timestamp,
}

impl Marking {
    pub(super) const fn is_fenced(&self) -> bool {
        self.fenced
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// The position that is being written.
    pub(super) fn position(&self) -> Option<Place> {
        self.under_way.as_ref().and_then(|group| group.position)
    }

    /// Begins under other orders: what was to be written under the former ones
    /// is void.
    pub(super) fn reopen(&mut self) {
        self.fenced = false;
        self.notes.clear();
    }

    /// Nothing is in memory any more.
    pub(super) fn begin_afresh(&mut self) {
        self.ahead.clear();
    }

    /// There is something to write of an event, whether or not it is its turn.
    pub(super) fn note(&mut self, place: Place) {
        self.ahead.push_back(place);
    }

    pub(super) fn note_all(&mut self, places: Vec<Place>) {
        self.ahead.extend(places);
    }

    pub(super) fn failed(&mut self, entry: &mut Entry, error: String, now: Timestamp) {
        let place = entry.place();
        if !std::mem::replace(&mut entry.noted, true) {
            self.notes.push(decided(place, Decision::Relevant, now));
        }
        self.notes.push(EventChange::Failed {
            place,
            attempts: entry.event.attempts,
            error,
        });
    }

    pub(super) fn halted(&mut self, place: Place, error: String, at: Timestamp) {
        self.notes.push(EventChange::Halted { place, at, error });
    }

    /// It is noted that an event is late.
    pub(super) fn late(&mut self, place: Place) {
        self.notes.push(EventChange::Late(place));
    }

    fn is_paused(&self, now: Timestamp) -> bool {
        // A longer pause is of a clock that was ahead.
        now < self.not_before && self.not_before <= now.plus(LONGEST_PAUSE)
    }

    pub(super) fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        (self.under_way.is_none() && self.is_paused(now)).then_some(self.not_before)
    }

    /// Takes back a group that was not written.
    fn take_back(&mut self, group: Group) -> (Vec<Place>, Vec<Place>) {
        let Group {
            done, noted, notes, ..
        } = group;
        let later = std::mem::replace(&mut self.notes, notes);
        self.notes.extend(later);
        for place in noted.iter().chain(&done).rev() {
            self.ahead.push_front(*place);
        }
        (done, noted)
    }
}

const fn decided(place: Place, decision: Decision, at: Timestamp) -> EventChange {
    EventChange::Decided {
        place,
        decision,
        at,
        reason: None,
    }
}

impl SubscriptionPlan {
    /// What is to be written now.
    pub(super) fn mark(&mut self, now: Timestamp) -> Option<Vec<EventChange>> {
        if self.marking.is_under_way() || self.marking.is_paused(now) {
            return None;
        }
        let mut group = Group {
            notes: std::mem::take(&mut self.marking.notes),
            ..Group::default()
        };
        let mut changes = group.notes.clone();
        self.mark_carried(&mut group, &mut changes);
        self.mark_front(&mut group, &mut changes, now);
        self.mark_ahead(&mut group, &mut changes, now);
        if group.position > self.position {
            changes.extend(group.position.map(EventChange::Position));
        }
        if changes.is_empty() {
            return None;
        }
        self.marking.under_way = Some(group);
        Some(changes)
    }

    /// What its handler was done with while somebody skipped it, or its block was
    /// abandoned: it is not open any more, and in no page.
    fn mark_carried(&self, group: &mut Group, changes: &mut Vec<EventChange>) {
        let Some(carried) = self.carried else {
            return;
        };
        let (place, Some(at)) = (carried.place, carried.handled) else {
            return;
        };
        if self.memory.reach.covers(place) && self.memory.index_of(place).is_none() {
            group.carried = Some(place);
            changes.push(EventChange::Processed {
                place,
                at,
                attempts: carried.attempts,
            });
        }
    }

    /// What is done with, or is with this, from the front on.
    fn mark_front(&mut self, group: &mut Group, changes: &mut Vec<EventChange>, now: Timestamp) {
        let processes = self.rules.table && !self.is_stopped();
        group.position = self.passed;
        let mut index = 0;
        while changes.len() < self.rules.commit_rows {
            let Some(entry) = self.memory.get(index) else {
                return;
            };
            let ready = match entry.state {
                State::Done | State::Irrelevant { .. } | State::Handled { .. } => true,
                State::Relevant { .. } => processes && !self.rules.halts_on(entry, self.late_to),
                _ => false,
            };
            if !ready || !self.is_clear(entry, now) {
                return;
            }
            group.position = group.position.max(Some(entry.place()));
            if let Some(entry) = self.memory.get_mut(index) {
                finish(entry, group, changes, now);
            }
            index += 1;
        }
    }

    /// What can be written ahead of its turn.
    fn mark_ahead(&mut self, group: &mut Group, changes: &mut Vec<EventChange>, now: Timestamp) {
        while changes.len() < self.rules.commit_rows {
            let Some(place) = self.marking.ahead.pop_front() else {
                return;
            };
            let Some(entry) = self.memory.find(place) else {
                continue;
            };
            match entry.state {
                State::Irrelevant { .. } | State::Handled { .. } if !entry.writing => {
                    finish(entry, group, changes, now);
                }
                // Processed says as much, where that is written alone.
                State::Relevant { .. } if !self.rules.table && !entry.noted => {
                    entry.noted = true;
                    group.noted.push(place);
                    changes.push(decided(place, Decision::Relevant, now));
                }
                _ => {}
            }
        }
    }

    /// What became of the group that was written.
    pub fn marked(&mut self, marked: Marked, now: Timestamp) {
        let Some(group) = self.marking.under_way.take() else {
            return;
        };
        match marked {
            Marked::Done => {
                self.marking.failures = 0;
                self.settle(&group, now);
                return;
            }
            Marked::Away(why) => {
                let doublings = self.marking.failures.min(16);
                let pause = WRITE_AGAIN.saturating_mul(1 << doublings);
                self.marking.not_before = now.plus(pause.min(LONGEST_PAUSE));
                self.marking.failures = self.marking.failures.saturating_add(1);
                self.last_error = Some((now, why));
            }
            Marked::Fenced => self.marking.fenced = true,
        }
        let (done, noted) = self.marking.take_back(group);
        for place in done {
            if let Some(entry) = self.memory.find(place) {
                entry.writing = false;
            }
        }
        for place in noted {
            if let Some(entry) = self.memory.find(place) {
                entry.noted = false;
            }
        }
    }

    fn settle(&mut self, group: &Group, now: Timestamp) {
        let mut front = 0;
        for place in &group.done {
            // Most are the first ones in memory.
            let found = match self.memory.get(front) {
                Some(entry) if entry.place() == *place => Some(front),
                _ => self.memory.index_of(*place),
            };
            match found.and_then(|index| self.memory.get_mut(index)) {
                Some(entry) => {
                    entry.state = State::Done;
                    entry.writing = false;
                    front += 1;
                }
                None => {
                    // The plan began anew meanwhile: pages may tell of it still.
                    self.reads.done_with(place.arrival);
                    self.passed = self.passed.max(group.position);
                }
            }
            self.drop_carried(*place);
        }
        if let Some(place) = group.carried {
            self.drop_carried(place);
        }
        self.position = self.position.max(group.position);
        self.processed += group.processed as u64;
        self.irrelevant += group.irrelevant as u64;
        self.rate.add(group.processed + group.irrelevant, now);
    }
}

/// Writes that an event is done with, unless that is written.
fn finish(entry: &mut Entry, group: &mut Group, changes: &mut Vec<EventChange>, now: Timestamp) {
    let place = entry.place();
    let processed_at = match entry.state {
        State::Irrelevant { at } => {
            changes.push(decided(place, Decision::Irrelevant, at));
            group.irrelevant += 1;
            None
        }
        State::Handled { at } => Some(at),
        State::Relevant { .. } => Some(now),
        _ => return,
    };
    if let Some(at) = processed_at {
        changes.push(EventChange::Processed {
            place,
            at,
            attempts: entry.event.attempts.saturating_add(1),
        });
        group.processed += 1;
    }
    group.done.push(place);
    entry.writing = true;
}
