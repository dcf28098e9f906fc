//! The spreading of due times, shared by those who read and those who write
//! them.

use super::names::JobKey;
use super::policy::RetryPolicy;
use super::spread::Spread;
use crate::time::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What has passed is forgotten once in so many placements.
const FORGET_EVERY: u32 = 4096;

/// A [`Spread`] for each job; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Spreads {
    jobs: Arc<Mutex<HashMap<JobKey, Counted>>>,
}

#[derive(Debug, Default)]
struct Counted {
    spread: Spread,
    placed: u32,
}

impl Spreads {
    /// Where the next visit of a site of this job is put that is due at `base`.
    pub fn place(
        &self,
        job: &JobKey,
        base: Timestamp,
        period: Duration,
        now: Timestamp,
    ) -> Timestamp {
        let mut jobs = self.lock();
        if !jobs.contains_key(job) {
            jobs.insert(job.clone(), Counted::default());
        }
        let Some(counted) = jobs.get_mut(job) else {
            return base;
        };
        counted.placed = counted.placed.wrapping_add(1);
        if counted.placed.is_multiple_of(FORGET_EVERY) {
            counted.spread.forget(now);
        }
        let mut chance = rand::random::<f64>;
        counted.spread.place(base, period, &mut chance)
    }

    /// Counts what is due already: so many sites of a level in a second (since
    /// 1970).
    pub fn seed(&self, job: &JobKey, policy: &RetryPolicy, loads: &[(u32, i64, u32)]) {
        let mut jobs = self.lock();
        let counted = jobs.entry(job.clone()).or_default();
        for (level, second, count) in loads {
            let level = policy.level(usize::try_from(*level).unwrap_or(usize::MAX));
            let at = Timestamp::from_millis(second.saturating_mul(1000));
            counted.spread.seed(at, u64::from(*count), level.period);
        }
    }

    /// Forgets a job: its shards are another server's now, or are read anew.
    pub fn forget(&self, job: &JobKey) {
        self.lock().remove(job);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobKey, Counted>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
