//! Statistics of an intercom: how many messages, and how long each took from
//! being sent to being handled (LLR-IC-4).

use super::IntercomStats;
use super::service::Progress;
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
    /// Signs of life of the service: a message that is handled is one.
    progress: Arc<Progress>,
    /// Senders that wait for an answer now.
    waiting: AtomicI64,
    /// Answers given.
    answered: AtomicU64,
    /// Statistics by the service that the messages come from.
    pairs: Mutex<BTreeMap<Arc<str>, Arc<Stats>>>,
}

impl LineStats {
    pub(super) fn new(message: &'static str, prompt: bool, progress: Arc<Progress>) -> Self {
        Self {
            message,
            prompt,
            progress,
            waiting: AtomicI64::new(0),
            answered: AtomicU64::new(0),
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

    /// A sender begins to wait for an answer.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// Senders that wait, and answers given.
    pub(super) fn answers(&self) -> (u64, u64) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        (
            u64::try_from(waiting).unwrap_or(0),
            self.answered.load(Ordering::Relaxed),
        )
    }
}

/// A sender that waits for an answer, until it is dropped.
pub(super) struct Waiting<'a>(&'a LineStats);

impl Waiting<'_> {
    pub(super) fn answered(&self) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
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
    fn new(line: Arc<LineStats>) -> Self {
        Self {
            line,
            handles: AtomicI64::new(0),
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

    /// A handle was opened; closed again with [`Self::close`].
    pub(super) fn open(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        self.handles.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn sent(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn handled(&self, after: Duration) {
        self.line.progress.mark();
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
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    fn snapshot(&self, from: &str, message: &str) -> IntercomStats {
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
        let count = |value: &AtomicI64| u64::try_from(value.load(Ordering::Relaxed)).unwrap_or(0);
        IntercomStats {
            from: from.to_owned(),
            message: message.to_owned(),
            open_handles: count(&self.handles),
            messages: self.messages.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            in_flight: count(&self.in_flight),
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
        let line = Arc::new(LineStats::new("Ping", false, Arc::default()));
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
