//! A value that many ask for and one task at a time reads anew.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// How a [`SingleFlight`] spaces its reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spacing {
    /// Shortest time from one read's end to the next one's start.
    pub(super) at_least: Duration,
    /// The same, as a multiple of what the read took.
    pub(super) times_taken: u32,
}

/// A value with the time it was read at.
struct Latest<T> {
    value: Arc<T>,
    fresh_until: Instant,
}

/// What a [`SingleFlight`] gave.
#[derive(Debug)]
pub(super) enum Given<T> {
    /// Read lately enough.
    Fresh(Arc<T>),
    /// The newest there is, since reading it anew takes too long; `None`
    /// before the first read has ended.
    Stale(Option<Arc<T>>),
}

/// Caches a value, reads it in a task of its own, at most one at a time, so
/// that neither many viewers nor impatient ones cost more than one query.
pub(super) struct SingleFlight<T> {
    spacing: Spacing,
    // Held for a few instructions at a time: no need for an async lock.
    latest: Mutex<Option<Latest<T>>>,
    flight: Arc<tokio::sync::Mutex<()>>,
}

impl<T: Send + Sync + 'static> SingleFlight<T> {
    pub(super) fn new(spacing: Spacing) -> Arc<Self> {
        Arc::new(Self {
            spacing,
            latest: Mutex::new(None),
            flight: Arc::new(tokio::sync::Mutex::new(())),
        })
    }

    /// The value; waits at most `patience` for it to be read.
    pub(super) async fn get<F>(
        self: &Arc<Self>,
        runtime: &Handle,
        patience: Duration,
        read: impl FnOnce() -> F + Send + 'static,
    ) -> Given<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        if let Some(value) = self.fresh() {
            return Given::Fresh(value);
        }
        let this = Arc::clone(self);
        let reading = async {
            let guard = Arc::clone(&this.flight).lock_owned().await;
            if let Some(value) = this.fresh() {
                return Some(value);
            }
            let flight = Arc::clone(&this);
            let task = runtime.spawn(async move {
                let started = Instant::now();
                let value = Arc::new(read().await);
                let now = Instant::now();
                let pause = (now - started)
                    .saturating_mul(flight.spacing.times_taken)
                    .max(flight.spacing.at_least);
                *flight.latest() = Some(Latest {
                    value: Arc::clone(&value),
                    fresh_until: now + pause,
                });
                drop(guard);
                value
            });
            task.await.ok()
        };
        match tokio::time::timeout(patience, reading).await {
            Ok(Some(value)) => Given::Fresh(value),
            _ => Given::Stale(
                self.latest()
                    .as_ref()
                    .map(|latest| Arc::clone(&latest.value)),
            ),
        }
    }

    /// The newest value there is, however old.
    pub(super) fn newest(&self) -> Option<Arc<T>> {
        self.latest()
            .as_ref()
            .map(|latest| Arc::clone(&latest.value))
    }

    fn fresh(&self) -> Option<Arc<T>> {
        self.latest()
            .as_ref()
            .filter(|latest| Instant::now() < latest.fresh_until)
            .map(|latest| Arc::clone(&latest.value))
    }

    fn latest(&self) -> MutexGuard<'_, Option<Latest<T>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn many_viewers_cost_one_read_and_slow_reads_are_spaced() {
        let reads = Arc::new(AtomicUsize::new(0));
        let cache = SingleFlight::new(Spacing {
            at_least: Duration::from_secs(2),
            times_taken: 10,
        });
        let view = |takes: Duration| {
            let (cache, reads) = (Arc::clone(&cache), Arc::clone(&reads));
            async move {
                let read = move || async move {
                    tokio::time::sleep(takes).await;
                    reads.fetch_add(1, Ordering::SeqCst) + 1
                };
                match cache.get(&Handle::current(), PATIENCE, read).await {
                    Given::Fresh(value) => (true, Some(*value)),
                    Given::Stale(value) => (false, value.map(|value| *value)),
                }
            }
        };
        let quick = Duration::from_millis(10);
        let views = futures_util::future::join_all((0..50).map(|_| view(quick))).await;
        assert!(views.iter().all(|given| *given == (true, Some(1))));
        tokio::time::advance(Duration::from_secs(3)).await;
        // Slow: the viewer gets the value there is, the read goes on.
        assert_eq!(view(Duration::from_secs(5)).await, (false, Some(1)));
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(view(quick).await, (true, Some(2)));
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(view(quick).await, (true, Some(2)), "spaced by ten times 5s");
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(view(quick).await, (true, Some(3)));
    }
}
