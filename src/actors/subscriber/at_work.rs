//! Subscribers that are in the middle of something: the drain waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many Subscribers have a handler or a write under way. A clone counts the
/// same.
#[derive(Clone, Debug, Default)]
pub struct AtWork(Arc<AtomicUsize>);

/// One that has; counted until it is dropped.
#[derive(Debug)]
pub(super) struct Working(Arc<AtomicUsize>);

impl AtWork {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn begin(&self) -> Working {
        self.0.fetch_add(1, Ordering::AcqRel);
        Working(Arc::clone(&self.0))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_at_work_is_counted_until_it_is_dropped() {
        let at_work = AtWork::default();
        let (one, two) = (at_work.begin(), at_work.clone().begin());
        assert_eq!(at_work.count(), 2);
        drop((one, two));
        assert_eq!(at_work.count(), 0);
    }
}
