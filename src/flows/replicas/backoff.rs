//! How long is waited after failures in a row. Pure.

use std::time::Duration;

/// Waits that double from the first to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// After an upstream failed.
    pub const UPSTREAM: Self = Self::new(Duration::from_secs(1), Duration::from_secs(60));
    /// After a bootstrap came to nothing.
    pub const BOOTSTRAP: Self = Self::new(Duration::from_secs(1), Duration::from_secs(300));

    /// After a comparison of digests came to nothing.
    pub const AUDIT: Self = Self::new(Duration::from_secs(1), Duration::from_secs(600));
    /// After rows could not be read or written.
    pub const ROWS: Self = Self::new(Duration::from_millis(300), Duration::from_secs(30));

    /// From `first` to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The wait after so many failures in a row; none after none.
    pub fn after(self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let wait = 2_u32
            .checked_pow(doublings)
            .and_then(|times| self.first.checked_mul(times));
        wait.map_or(self.longest, |wait| wait.min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits = [0, 1, 2, 3, 9, 10, 40, u32::MAX].map(|failures| {
            let wait = Backoff::BOOTSTRAP.after(failures);
            wait.as_secs()
        });
        assert_eq!(waits, [0, 1, 2, 4, 256, 300, 300, 300]);
    }
}
