//! A turn of a subscription's plan: what is passed, halted on, asked for, written
//! and handed over now, and when the next turn is.

use super::memory::{Entry, Reach, State};
use super::plan::SubscriptionPlan;
use super::step::Step;
use crate::config::Relevance;
use crate::time::Timestamp;

/// What an operator reads where the subscription halts on a late event.
const CAME_LATE: &str = "came after its place was passed; retry processes it and all late ones known by \
    then, skip passes this one over";

impl SubscriptionPlan {
    /// What is to be done now; each step is answered by the call that it names.
    pub fn next(&mut self, now: Timestamp) -> Vec<Step> {
        if self.is_fenced() {
            return Vec::new();
        }
        let mut steps = Vec::new();
        self.pass(now);
        self.look_at_front(now);
        let after = match self.memory.reach {
            Reach::UpTo(place) => Some(place),
            _ => None,
        };
        let (wanted, limit) = (self.memory.wants_more(), self.memory.page());
        let load = self.reads.load(after, wanted, limit, now);
        steps.extend(load.map(Step::Load));
        steps.extend(self.reads.next_sweep(now).map(Step::Sweep));
        if !self.is_stopped() && self.rules.relevance != Relevance::All {
            let asked = self.judging.ask(&mut self.memory, now);
            steps.extend((!asked.is_empty()).then_some(Step::Judge(asked)));
        }
        steps.extend(self.mark(now).map(Step::Mark));
        steps.extend(self.hand_over(now));
        steps
    }

    /// Passes over what is done with.
    fn pass(&mut self, now: Timestamp) {
        while let Some(entry) = self.memory.front()
            && entry.state == State::Done
            && self.is_clear(entry, now)
        {
            let place = entry.place();
            self.passed = self.passed.max(Some(place));
            self.reads.done_with(place.arrival);
            self.found_late.remove(&place);
            self.memory.pop_front();
        }
        if let Some(front) = self.memory.front() {
            self.settling.forget_before(front.place().block);
        }
    }

    /// Whether nothing unknown may belong before it.
    pub(super) fn is_clear(&self, entry: &Entry, now: Timestamp) -> bool {
        self.reads.is_heard(entry.place().arrival)
            && (entry.late || self.settling.is_quiet(entry.place().block, now))
    }

    /// Halts where the oldest open event is late, and that is not wanted.
    fn look_at_front(&mut self, now: Timestamp) {
        if self.is_stopped() || self.handling.is_some() {
            return;
        }
        let Some(entry) = self.memory.get_mut(0) else {
            return;
        };
        if !matches!(entry.state, State::Relevant { .. })
            || !self.rules.halts_on(entry, self.late_to)
        {
            return;
        }
        let place = entry.place();
        self.marking.failed(entry, CAME_LATE.to_owned(), now);
        self.halt(place, CAME_LATE.to_owned(), now);
    }

    fn hand_over(&mut self, now: Timestamp) -> Option<Step> {
        if self.rules.table
            || self.is_stopped()
            || self.handling.is_some()
            || self.carried.is_some()
        {
            return None;
        }
        let entry = self.memory.front()?;
        let State::Relevant { not_before } = entry.state else {
            return None;
        };
        // A longer pause is of a clock that was ahead.
        let pausing = not_before > now && not_before <= now.plus(self.rules.retry.max_delay);
        if pausing || !self.is_clear(entry, now) {
            return None;
        }
        let entry = self.memory.get_mut(0)?;
        entry.state = State::Handling;
        let attempt = entry.event.attempts.saturating_add(1);
        self.handling = Some((entry.place(), attempt));
        self.handed = self.handed.max(Some(entry.place()));
        Some(Step::Handle(entry.event.clone(), attempt))
    }

    /// When the plan wants to be asked again, if nothing else happens.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_fenced() {
            return None;
        }
        let looks = if self.is_stopped() {
            None
        } else {
            self.judging.wake_at(now)
        };
        let front = self.memory.front();
        let settled = front
            .filter(|entry| !entry.late)
            .and_then(|entry| self.settling.quiet_at(entry.place().block))
            .filter(|at| *at > now);
        let retried = front
            .filter(|_| !self.is_stopped())
            .and_then(|entry| match entry.state {
                State::Relevant { not_before } if not_before > now => {
                    Some(not_before.min(now.plus(self.rules.retry.max_delay)))
                }
                _ => None,
            });
        let read = self.reads.wake_at(self.memory.wants_more(), now);
        let written = self.marking.wake_at(now);
        [looks, settled, retried, read, written]
            .into_iter()
            .flatten()
            .min()
    }
}
