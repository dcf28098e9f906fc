//! Statistics of an intercom: how many messages, and how long each took from
//! being sent to being handled (LLR-IC-4).

use super::IntercomStats;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest propagation told apart, in microseconds: ten minutes.
const LONGEST_MICROS: u64 = 600_000_000;

/// What is counted of one type of message to one service.
#[derive(Debug)]
pub(super) struct LineStats {
    pub(super) message: &'static str,
    /// Whether every message is to be answered within the watchdog's deadline.
    pub(super) prompt: bool,
    /// Senders that began to wait for an answer, …
    asked: AtomicU64,
    /// … ceased to, …
    ended: AtomicU64,
    /// … and had none then.
    unanswered: AtomicU64,
    /// The generation of the service that these are about: who still waits for
    /// a former one accuses none of the present one.
    generation: AtomicU64,
    /// Statistics by the service that the messages come from.
    pairs: Mutex<BTreeMap<Arc<str>, Arc<Stats>>>,
}

impl LineStats {
    pub(super) fn new(message: &'static str, prompt: bool) -> Self {
        Self {
            message,
            prompt,
            asked: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            pairs: Mutex::default(),
        }
    }

    /// The statistics of messages from one service.
    pub(super) fn pair(self: &Arc<Self>, from: &Arc<str>) -> Arc<Stats> {
        lock(&self.pairs)
            .entry(from.clone())
            .or_insert_with(|| Arc::new(Stats::new(self.clone())))
            .clone()
    }

    /// Statistics of every pair, by name of the sender.
    pub(super) fn snapshots(&self) -> Vec<IntercomStats> {
        lock(&self.pairs)
            .iter()
            .map(|(from, stats)| stats.snapshot(from, self.message))
            .collect()
    }

    /// Messages handled, which are signs of life of the service.
    pub(super) fn handled(&self) -> u64 {
        lock(&self.pairs)
            .values()
            .map(|stats| lock(&stats.times).count)
            .sum()
    }

    /// A new generation of the service owes nobody anything.
    pub(super) fn begin_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        for count in [&self.asked, &self.ended, &self.unanswered] {
            count.store(0, Ordering::Release);
        }
    }

    /// A sender begins to wait for an answer; counted only where that is watched.
    #[inline]
    pub(super) fn wait(&self) -> Option<Waiting<'_>> {
        if !self.prompt {
            return None;
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        Some(Waiting {
            line: self,
            generation: self.generation.load(Ordering::Relaxed),
            answered: false,
        })
    }

    /// Senders that wait, and answers given.
    pub(super) fn answers(&self) -> (u64, u64) {
        // In this order, so that neither comes out below 0.
        let unanswered = self.unanswered.load(Ordering::Acquire);
        let ended = self.ended.load(Ordering::Acquire);
        let asked = self.asked.load(Ordering::Acquire);
        (
            asked.saturating_sub(ended),
            ended.saturating_sub(unanswered),
        )
    }
}

/// A sender that waits for an answer, until it is dropped.
pub(super) struct Waiting<'a> {
    line: &'a LineStats,
    generation: u64,
    answered: bool,
}

impl Waiting<'_> {
    #[inline]
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Waiting<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.line.generation.load(Ordering::Relaxed) != self.generation {
            return;
        }
        if !self.answered {
            // Before the end is counted, so that none passes for answered.
            self.line.unanswered.fetch_add(1, Ordering::Release);
        }
        self.line.ended.fetch_add(1, Ordering::Release);
    }
}

/// Counts of one pair of services and type of message; shared by the handles
/// and the envelopes.
#[derive(Debug)]
pub(super) struct Stats {
    pub(super) line: Arc<LineStats>,
    handles: AtomicI64,
    messages: AtomicU64,
    failures: AtomicU64,
    /// Messages that were never handled.
    lost: AtomicU64,
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    count: u64,
    /// In nanoseconds; whole numbers keep the variance exact.
    sum: u64,
    sum_of_squares: u128,
    histogram: Option<Histogram<u64>>,
}

impl Stats {
    fn new(line: Arc<LineStats>) -> Self {
        Self {
            line,
            handles: AtomicI64::new(0),
            messages: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            times: Mutex::new(Times {
                count: 0,
                sum: 0,
                sum_of_squares: 0,
                histogram: Histogram::new_with_bounds(1, LONGEST_MICROS, 2).ok(),
            }),
        }
    }

    /// A handle was opened; closed again with [`Self::close`].
    pub(super) fn open(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        self.handles.fetch_sub(1, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn sent(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn handled(&self, after: Duration) {
        let nanos = after
            .as_secs()
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::from(after.subsec_nanos()));
        let micros = nanos / 1000;
        let mut times = lock(&self.times);
        times.count += 1;
        times.sum = times.sum.saturating_add(nanos);
        let square = u128::from(nanos) * u128::from(nanos);
        times.sum_of_squares = times.sum_of_squares.saturating_add(square);
        if let Some(histogram) = &mut times.histogram {
            histogram.saturating_record(micros.clamp(1, LONGEST_MICROS));
        }
    }

    /// An envelope that nobody opened.
    pub(super) fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    fn snapshot(&self, from: &str, message: &str) -> IntercomStats {
        let times = lock(&self.times);
        let (mean, variance) = times.mean_and_variance();
        let quantile = |q: f64| {
            times
                .histogram
                .as_ref()
                .map_or(0.0, |h| h.value_at_quantile(q) as f64 / 1e6)
        };
        let handles = self.handles.load(Ordering::Relaxed);
        let messages = self.messages.load(Ordering::Relaxed);
        let over = times.count + self.lost.load(Ordering::Relaxed);
        IntercomStats {
            from: from.to_owned(),
            message: message.to_owned(),
            open_handles: u64::try_from(handles).unwrap_or(0),
            messages,
            failures: self.failures.load(Ordering::Relaxed),
            in_flight: messages.saturating_sub(over),
            propagation_mean_seconds: mean,
            propagation_variance: variance,
            propagation_stddev_seconds: variance.sqrt(),
            propagation_p50_seconds: quantile(0.5),
            propagation_p99_seconds: quantile(0.99),
        }
    }
}

impl Times {
    /// In seconds and square seconds.
    fn mean_and_variance(&self) -> (f64, f64) {
        if self.count == 0 {
            return (0.0, 0.0);
        }
        let count = u128::from(self.count);
        let mean = self.sum as f64 * 1e-9 / self.count as f64;
        // Σx² − (Σx)²/n, which is never below 0, over n − 1.
        let sum = u128::from(self.sum);
        let spread = self.sum_of_squares.saturating_sub(sum * sum / count);
        let variance = match self.count - 1 {
            0 => 0.0,
            degrees => spread as f64 * 1e-18 / degrees as f64,
        };
        (mean, variance)
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
        let line = Arc::new(LineStats::new("Ping", false));
        let stats = line.pair(&Arc::from("caller"));
        for millis in [10, 20, 30] {
            stats.sent();
            stats.handled(Duration::from_millis(millis));
        }
        stats.sent();
        stats.lost();
        stats.failed();
        stats.sent();
        let shown = line.snapshots().remove(0);
        assert_eq!((&*shown.from, &*shown.message), ("caller", "Ping"));
        assert_eq!((shown.messages, shown.failures, shown.in_flight), (5, 1, 1));
        assert!((shown.propagation_mean_seconds - 0.02).abs() < 1e-9);
        assert!((shown.propagation_variance - 0.0001).abs() < 1e-9);
        assert!((shown.propagation_stddev_seconds - 0.01).abs() < 1e-9);
        assert!((shown.propagation_p50_seconds - 0.02).abs() < 0.001);
    }
}
