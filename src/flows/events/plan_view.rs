//! What a subscription's plan shows of itself.

use super::memory::{Reach, State};
use super::model::Place;
use super::plan::SubscriptionPlan;
use crate::time::Timestamp;

/// Seconds over which the rate is taken.
const RATE_SECONDS: usize = 10;

/// What a subscription is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionState {
    /// Events are being processed.
    Running,
    /// For events, or for the relevance of the oldest open one.
    Waiting,
    /// The oldest open event's block is not quiet for long enough.
    Settling,
    /// By an operator.
    Paused,
    /// On an event that could not be processed.
    Halted,
}

impl SubscriptionState {
    /// The word in metrics, API and pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Settling => "settling",
            Self::Paused => "paused",
            Self::Halted => "halted",
        }
    }
}

/// A subscription as its plan knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionView {
    /// What it is doing.
    pub state: SubscriptionState,
    /// All events up to this place are done with.
    pub position: Option<Place>,
    /// Events whose relevance is waited for.
    pub waiting: usize,
    /// Place of the oldest open event, and when it was recorded.
    pub oldest_open: Option<(Place, Timestamp)>,
    /// Events in memory.
    pub in_memory: usize,
    /// Whether more are open than are in memory.
    pub more: bool,
    /// What failed last, of a handler or of the subscription, and when.
    pub last_error: Option<(Timestamp, String)>,
    /// Since when it is halted, on which arrival, and why.
    pub halted: Option<(i64, Timestamp, String)>,
    /// Since when it is paused, and why.
    pub paused: Option<(Timestamp, String)>,
    /// Events processed since this server took it over.
    pub processed: u64,
    /// Events decided irrelevant since then.
    pub irrelevant: u64,
    /// Events done with per second, over the last ten.
    pub per_second: f64,
}

impl SubscriptionPlan {
    /// What the subscription shows of itself.
    pub fn view(&self, now: Timestamp) -> SubscriptionView {
        let open = self.memory.iter().find(|entry| entry.state != State::Done);
        let state = if self.paused.is_some() {
            SubscriptionState::Paused
        } else if self.halted.is_some() {
            SubscriptionState::Halted
        } else {
            match open {
                None => SubscriptionState::Waiting,
                Some(entry) if !self.is_clear(entry, now) => SubscriptionState::Settling,
                Some(entry) => match entry.state {
                    State::New | State::Waiting { .. } | State::Asked { .. } => {
                        SubscriptionState::Waiting
                    }
                    _ => SubscriptionState::Running,
                },
            }
        };
        SubscriptionView {
            state,
            position: self.position,
            waiting: self.waiting(),
            oldest_open: open.map(|entry| (entry.place(), entry.event.received_at)),
            in_memory: self.memory.len(),
            more: self.memory.reach != Reach::All,
            last_error: self.last_error.clone(),
            halted: self.halted.clone(),
            paused: self.paused.clone(),
            processed: self.processed,
            irrelevant: self.irrelevant,
            per_second: self.rate.per_second(now),
        }
    }
}

/// Events per second, over the last few.
#[derive(Clone, Debug, Default)]
pub(super) struct Rate {
    counts: [u32; RATE_SECONDS],
    /// The second of the newest count.
    second: i64,
}

impl Rate {
    pub(super) fn add(&mut self, count: usize, now: Timestamp) {
        self.turn_to(now);
        let slot = self.slot(self.second);
        self.counts[slot] =
            self.counts[slot].saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    pub(super) fn per_second(&self, now: Timestamp) -> f64 {
        let mut current = self.clone();
        current.turn_to(now);
        let sum: f64 = current.counts.iter().map(|count| f64::from(*count)).sum();
        sum / RATE_SECONDS as f64
    }

    fn turn_to(&mut self, now: Timestamp) {
        let second = now.millis().div_euclid(1000);
        let passed = second.saturating_sub(self.second);
        if passed < 0 || passed >= RATE_SECONDS as i64 {
            self.counts = [0; RATE_SECONDS];
        } else {
            for step in 1..=passed {
                let slot = self.slot(self.second + step);
                self.counts[slot] = 0;
            }
        }
        self.second = second;
    }

    fn slot(&self, second: i64) -> usize {
        usize::try_from(second.rem_euclid(RATE_SECONDS as i64)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_forgets_what_is_older_than_its_seconds() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let mut rate = Rate::default();
        rate.add(50, at(1000));
        rate.add(50, at(1005));
        assert!((rate.per_second(at(1005)) - 10.0).abs() < 1e-9);
        assert!((rate.per_second(at(1012)) - 5.0).abs() < 1e-9);
        assert!(rate.per_second(at(1020)).abs() < 1e-9);
        rate.add(20, at(3));
        assert!(
            (rate.per_second(at(3)) - 2.0).abs() < 1e-9,
            "the clock was set back"
        );
    }
}
