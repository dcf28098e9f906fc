//! Threads that services run on, and what tells from another thread whether a
//! service is in the middle of a turn there.

use actix::{Arbiter, ArbiterHandle};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// A thread with its arbiter.
#[derive(Clone, Debug)]
pub(super) struct Thread {
    pub(super) arbiter: ArbiterHandle,
    pub(super) turns: Arc<Turns>,
}

impl Thread {
    /// Starts a thread; to be called where an actix system is known.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn start() -> std::io::Result<Self> {
        Ok(Self {
            arbiter: Arbiter::try_new()?.handle(),
            turns: Arc::default(),
        })
    }
}

/// Turns of services on one thread: counted up at the beginning and at the end
/// of each, so that an odd number is a turn under way.
#[derive(Debug, Default)]
pub(super) struct Turns {
    count: AtomicU64,
    /// Whose turn it is, or was last.
    service: AtomicU64,
}

impl Turns {
    /// The turn that this service is in now.
    pub(super) fn of(&self, service: u64) -> Option<u64> {
        let count = self.count.load(Ordering::Acquire);
        (count % 2 == 1 && self.service.load(Ordering::Acquire) == service).then_some(count)
    }

    /// Turns begun and ended so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Only the thread itself counts: nothing is lost between load and store.
    #[inline]
    fn step(&self) {
        let count = self.count.load(Ordering::Relaxed);
        self.count.store(count.wrapping_add(1), Ordering::Release);
    }

    /// Begins a turn; it ends when what this answers is dropped.
    pub(super) fn begin(&self, service: u64) -> Turn<'_> {
        self.service.store(service, Ordering::Release);
        self.step();
        Turn(self)
    }
}

/// A turn under way; ends also when it panics.
pub(super) struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.step();
    }
}

/// A service's future, each poll of which is a turn.
pub(super) struct Watched<F> {
    pub(super) inner: F,
    pub(super) turns: Arc<Turns>,
    pub(super) service: u64,
}

impl<F: Future + Unpin> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _turn = this.turns.begin(this.service);
        Pin::new(&mut this.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_shows_from_outside_until_it_ends_even_by_a_panic() {
        let turns = Turns::default();
        assert_eq!(turns.of(7), None);
        let turn = turns.begin(7);
        assert_eq!(turns.of(7), Some(1));
        assert_eq!(turns.of(8), None, "another service is in no turn");
        drop(turn);
        assert_eq!(turns.of(7), None);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _turn = turns.begin(8);
            panic!("as asked");
        }));
        assert!(panicked.is_err());
        assert_eq!((turns.of(8), turns.count()), (None, 4));
    }
}
