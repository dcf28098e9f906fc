//! What is shown of a resource.

use super::Share;
use serde::Serialize;
use std::time::Duration;

/// A resource and who has how much of it.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ResourceStatus {
    /// Name of the resource.
    pub name: String,
    /// How many slots there are.
    pub capacity: usize,
    /// Slots in use.
    pub used: usize,
    /// Its owners.
    pub owners: Vec<OwnerStatus>,
}

impl ResourceStatus {
    pub(super) fn new(name: &str, capacity: usize, owners: Vec<OwnerStatus>) -> Self {
        Self {
            name: name.to_owned(),
            capacity,
            used: owners.iter().map(|owner| owner.used).sum(),
            owners,
        }
    }
}

/// One owner of a resource.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct OwnerStatus {
    /// Name of the owner.
    pub owner: String,
    /// Slots above the minimums are shared out in proportion to it.
    pub weight: u32,
    /// Slots it gets whatever others want.
    pub minimum: usize,
    /// Above the minimums, higher ones are served before lower ones.
    pub priority: u8,
    /// What it may count on when all owners want as much as there is.
    pub entitlement: usize,
    /// Slots it has.
    pub used: usize,
    /// Of these, lent to it while others want less than they are entitled to.
    pub lent: usize,
    /// Slots it waits for.
    pub waiting: usize,
    /// Slots it has taken since the start.
    pub taken_total: u64,
    /// How many of them it had to wait for.
    pub waits_total: u64,
    /// How long it has waited for these, in seconds.
    pub wait_seconds_total: f64,
    /// How long it waited for a slot in the mean, those without a wait included.
    pub wait_mean_seconds: f64,
    /// The longest wait, in seconds.
    pub wait_longest_seconds: f64,
}

/// What is counted of one owner.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) taken: u64,
    waits: u64,
    wait: Duration,
    longest: Duration,
}

impl Counts {
    pub(super) fn waited(&mut self, wait: Duration) {
        self.waits += 1;
        self.wait += wait;
        self.longest = self.longest.max(wait);
    }

    pub(super) fn status(
        &self,
        owner: &str,
        share: Share,
        used: usize,
        waiting: usize,
        entitlement: usize,
    ) -> OwnerStatus {
        OwnerStatus {
            owner: owner.to_owned(),
            weight: share.weight,
            minimum: share.minimum,
            priority: share.priority,
            entitlement,
            used,
            lent: used.saturating_sub(entitlement),
            waiting,
            taken_total: self.taken,
            waits_total: self.waits,
            wait_seconds_total: self.wait.as_secs_f64(),
            wait_mean_seconds: if self.taken == 0 {
                0.0
            } else {
                self.wait.as_secs_f64() / self.taken as f64
            },
            wait_longest_seconds: self.longest.as_secs_f64(),
        }
    }
}
