//! Statistics of an intercom: how many messages, and how long each took from
//! being sent to being handled (LLR-IC-4).

use super::IntercomStats;
use hdrhistogram::Histogram;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Longest propagation told apart, in microseconds: ten minutes.
const LONGEST_MICROS: u64 = 600_000_000;

/// Counts of one intercom; shared by its handles and its envelopes.
#[derive(Debug)]
pub(super) struct Stats {
    messages: AtomicU64,
    failures: AtomicU64,
    in_flight: AtomicI64,
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    count: u64,
    mean: f64,
    sum_of_squares: f64,
    histogram: Option<Histogram<u64>>,
}

impl Stats {
    pub(super) fn new() -> Self {
        Self {
            messages: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            in_flight: AtomicI64::new(0),
            times: Mutex::new(Times {
                count: 0,
                mean: 0.0,
                sum_of_squares: 0.0,
                histogram: Histogram::new_with_bounds(1, LONGEST_MICROS, 2).ok(),
            }),
        }
    }

    pub(super) fn sent(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn handled(&self, after: Duration) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let seconds = after.as_secs_f64();
        let micros = u64::try_from(after.as_micros()).unwrap_or(LONGEST_MICROS);
        let mut times = lock(&self.times);
        // Welford's recurrence: mean and variance without keeping the samples.
        times.count += 1;
        let delta = seconds - times.mean;
        times.mean += delta / times.count as f64;
        times.sum_of_squares += delta * (seconds - times.mean);
        if let Some(histogram) = &mut times.histogram {
            histogram.saturating_record(micros.clamp(1, LONGEST_MICROS));
        }
    }

    /// An envelope that nobody opened.
    pub(super) fn lost(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self, message: &str) -> IntercomStats {
        let times = lock(&self.times);
        let variance = if times.count > 1 {
            times.sum_of_squares / (times.count - 1) as f64
        } else {
            0.0
        };
        let quantile = |q: f64| {
            times
                .histogram
                .as_ref()
                .map_or(0.0, |h| h.value_at_quantile(q) as f64 / 1e6)
        };
        IntercomStats {
            message: message.to_owned(),
            messages: self.messages.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            in_flight: u64::try_from(self.in_flight.load(Ordering::Relaxed)).unwrap_or(0),
            propagation_mean_seconds: times.mean,
            propagation_variance: variance,
            propagation_stddev_seconds: variance.sqrt(),
            propagation_p50_seconds: quantile(0.5),
            propagation_p99_seconds: quantile(0.99),
        }
    }
}

/// Locks a mutex whose data stays valid when a holder panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_variance_and_counts() {
        let stats = Stats::new();
        for millis in [10, 20, 30] {
            stats.sent();
            stats.handled(Duration::from_millis(millis));
        }
        stats.sent();
        stats.lost();
        stats.sent();
        let shown = stats.snapshot("Ping");
        assert_eq!((shown.messages, shown.failures, shown.in_flight), (5, 1, 1));
        assert!((shown.propagation_mean_seconds - 0.02).abs() < 1e-9);
        assert!((shown.propagation_variance - 0.0001).abs() < 1e-9);
        assert!((shown.propagation_stddev_seconds - 0.01).abs() < 1e-9);
        assert!((shown.propagation_p50_seconds - 0.02).abs() < 0.001);
    }
}
