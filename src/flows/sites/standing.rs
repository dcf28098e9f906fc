//! How a site stands with a job, and what an outcome makes of it (seed
//! `site-polling.md`).

use super::policy::RetryPolicy;
use crate::time::Timestamp;

/// How a site stands with a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Level of the retry policy.
    pub level: u32,
    /// Failures in a row at this level.
    pub count: u32,
    /// When the last visit began; `None` when there was none.
    pub last_run_at: Option<Timestamp>,
    /// When it was given up; only an operator revives it.
    pub given_up_at: Option<Timestamp>,
}

impl Standing {
    /// When the site is due: `last_run_at` plus the level's period, inclusive;
    /// at once when it was never visited, never when it is given up. A last
    /// visit that lies ahead (the clock was set back) counts as now: see
    /// [`Standing::mended`].
    pub fn due_at(&self, policy: &RetryPolicy, now: Timestamp) -> Option<Timestamp> {
        if self.given_up_at.is_some() {
            return None;
        }
        let Some(last) = self.last_run_at else {
            return Some(now);
        };
        let level = policy.level(usize::try_from(self.level).unwrap_or(usize::MAX));
        Some(last.min(now).plus(level.period))
    }

    /// Whether the site is due.
    pub fn is_due(&self, policy: &RetryPolicy, now: Timestamp) -> bool {
        self.due_at(policy, now).is_some_and(|at| at <= now)
    }

    /// What is to be stored in its place when its last visit lies ahead: one
    /// that is now. Unless it is stored, it counts as now whenever it is looked
    /// at, and the site is not due before the clock has caught up.
    #[must_use]
    pub fn mended(&self, now: Timestamp) -> Option<Self> {
        self.last_run_at.filter(|last| *last > now).map(|_| Self {
            last_run_at: Some(now),
            ..*self
        })
    }

    /// How it stands after a visit that began at `begun` and came out like
    /// this at `now`: success leads to level 0, count 0; a failure counts up,
    /// and leads to the next level when the level's count is reached. Past the
    /// last level, the site is given up.
    #[must_use]
    pub fn after(
        &self,
        policy: &RetryPolicy,
        success: bool,
        begun: Timestamp,
        now: Timestamp,
    ) -> Self {
        let visited = Self {
            last_run_at: Some(begun),
            ..Self::default()
        };
        if success {
            return visited;
        }
        let levels = u32::try_from(policy.levels().len()).unwrap_or(u32::MAX);
        let level = self.level.min(levels - 1);
        // One that lost levels stands at the last with what it counted above.
        let count = self.count.saturating_add(1);
        if count < policy.level(level as usize).count {
            return Self {
                level,
                count,
                ..visited
            };
        }
        let next = level + 1;
        Self {
            level: next,
            given_up_at: (next >= levels).then_some(now),
            ..visited
        }
    }
}
