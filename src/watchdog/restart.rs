//! Restart policy: pure, with the clock passed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often, and how soon after its end, a service is built again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// First delay.
    pub min: Duration,
    /// Longest delay.
    pub max: Duration,
    /// A service that ran so long starts again from `min`.
    pub quiet: Duration,
    /// More than so many restarts …
    pub intensity: u32,
    /// … within this period, and the service is failed.
    pub period: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            min: Duration::from_millis(50),
            max: Duration::from_secs(10),
            quiet: Duration::from_secs(30),
            intensity: 10,
            period: Duration::from_secs(60),
        }
    }
}

/// What to do about an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartDecision {
    /// Build it again after this delay.
    RestartAfter(Duration),
    /// It ended too often: leave it.
    Fail,
}

/// The history of one service's unasked ends.
#[derive(Clone, Debug, Default)]
pub struct RestartHistory {
    recent: VecDeque<Instant>,
    in_a_row: u32,
}

impl RestartHistory {
    /// Decides on an end. `ran_for` is how long the service ran; `jitter` is a
    /// random number from 0 to 1, which shortens the delay by up to a quarter.
    pub fn on_exit(
        &mut self,
        policy: &RestartPolicy,
        now: Instant,
        ran_for: Duration,
        jitter: f64,
    ) -> RestartDecision {
        if ran_for >= policy.quiet {
            self.in_a_row = 0;
        }
        while self
            .recent
            .front()
            .is_some_and(|at| now.duration_since(*at) > policy.period)
        {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        if self.recent.len() > policy.intensity as usize {
            return RestartDecision::Fail;
        }
        let doubled = policy
            .min
            .saturating_mul(1_u32.checked_shl(self.in_a_row).unwrap_or(u32::MAX));
        self.in_a_row = self.in_a_row.saturating_add(1);
        let delay = doubled
            .min(policy.max)
            .mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0));
        RestartDecision::RestartAfter(delay)
    }

    /// Forgets all ends, as when an operator starts the service by hand.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: RestartPolicy = RestartPolicy {
        min: Duration::from_millis(100),
        max: Duration::from_secs(2),
        quiet: Duration::from_secs(30),
        intensity: 5,
        period: Duration::from_secs(60),
    };

    #[test]
    fn delays_grow_and_start_afresh_after_quiet() {
        let mut history = RestartHistory::default();
        let start = Instant::now();
        let short = Duration::from_millis(1);
        let delay = |history: &mut RestartHistory, at: u64, ran: Duration| {
            history.on_exit(&POLICY, start + Duration::from_secs(at), ran, 0.0)
        };
        let after = |millis| RestartDecision::RestartAfter(Duration::from_millis(millis));
        assert_eq!(delay(&mut history, 0, short), after(100));
        assert_eq!(delay(&mut history, 1, short), after(200));
        assert_eq!(delay(&mut history, 2, short), after(400));
        assert_eq!(
            delay(&mut history, 100, Duration::from_secs(90)),
            after(100)
        );
    }

    #[test]
    fn too_many_within_the_period_fail() {
        let mut history = RestartHistory::default();
        let start = Instant::now();
        for _ in 0..5 {
            assert!(matches!(
                history.on_exit(&POLICY, start, Duration::ZERO, 0.5),
                RestartDecision::RestartAfter(_)
            ));
        }
        assert_eq!(
            history.on_exit(&POLICY, start, Duration::ZERO, 0.5),
            RestartDecision::Fail
        );
    }

    proptest! {
        #[test]
        fn delays_stay_within_bounds(ends in proptest::collection::vec((0_u64..10_000, 0.0_f64..=1.0), 1..60)) {
            let policy = RestartPolicy { intensity: 1000, ..POLICY };
            let mut history = RestartHistory::default();
            let mut now = Instant::now();
            for (ran, jitter) in ends {
                let ran = Duration::from_millis(ran);
                now += ran;
                match history.on_exit(&policy, now, ran, jitter) {
                    RestartDecision::RestartAfter(delay) => {
                        prop_assert!(delay >= policy.min.mul_f64(0.74) && delay <= policy.max);
                    }
                    RestartDecision::Fail => prop_assert!(false, "the limit is out of reach"),
                }
            }
        }
    }
}
