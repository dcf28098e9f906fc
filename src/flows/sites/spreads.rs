//! The spreading of due times, shared by those who read and those who write
//! them.

use super::policy::RetryPolicy;
use super::spread::Spread;
use crate::time::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What has passed is forgotten once in so many placements.
const FORGET_EVERY: u32 = 4096;

/// A [`Spread`] for each shard, by the name of its lease: each is made even for
/// itself, so their sum is even too. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Spreads {
    shards: Arc<Mutex<HashMap<String, Counted>>>,
}

#[derive(Debug, Default)]
struct Counted {
    spread: Spread,
    placed: u32,
}

impl Spreads {
    /// Where the next visit of a site of this shard is put that is due at `base`.
    pub fn place(
        &self,
        lease: &str,
        base: Timestamp,
        period: Duration,
        now: Timestamp,
    ) -> Timestamp {
        let mut shards = self.lock();
        if !shards.contains_key(lease) {
            shards.insert(lease.to_owned(), Counted::default());
        }
        let Some(counted) = shards.get_mut(lease) else {
            return base;
        };
        counted.placed = counted.placed.wrapping_add(1);
        if counted.placed.is_multiple_of(FORGET_EVERY) {
            counted.spread.forget(now);
        }
        let mut chance = rand::random::<f64>;
        counted.spread.place(base, period, &mut chance)
    }

    /// Begins a shard anew with what is due already: so many sites of a level in
    /// a second (since 1970).
    pub fn seed(&self, lease: &str, policy: &RetryPolicy, loads: &[(u32, i64, u32)]) {
        let mut counted = Counted::default();
        for (level, second, count) in loads {
            let level = policy.level(usize::try_from(*level).unwrap_or(usize::MAX));
            let at = Timestamp::from_millis(second.saturating_mul(1000));
            counted.spread.seed(at, u64::from(*count), level.period);
        }
        self.lock().insert(lease.to_owned(), counted);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Counted>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
