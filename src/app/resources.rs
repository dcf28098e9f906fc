//! The resources that the server shares out: fetch slots and database slots.

use crate::config::{OwnerShare, Settings};
use crate::store::DatabaseSlots;
use crate::watchdog::{Resource, ResourceStatus, Share};

/// All resources; cheap to clone.
#[derive(Clone, Debug)]
pub struct Resources {
    /// Pieces of work on the network, owned by flows.
    pub fetch: Resource,
    /// Connections to the database, owned by who uses them.
    pub database: DatabaseSlots,
}

impl Resources {
    pub(super) fn new(settings: &Settings, sqlite: bool) -> Self {
        let resources = Self {
            fetch: Resource::new("fetch", settings.resources.fetch_slots),
            database: DatabaseSlots::new(&settings.database, sqlite),
        };
        resources.configure(settings);
        resources
    }

    /// Shares out by these settings from now on. The number of connections
    /// stays what it was at the start.
    pub(super) fn configure(&self, settings: &Settings) {
        let resources = &settings.resources;
        self.fetch
            .configure(resources.fetch_slots, &shares(&resources.fetch));
        self.database.configure(&shares(&resources.database));
    }

    /// Who has and who waits for how much.
    pub(super) fn status(&self) -> Vec<ResourceStatus> {
        let mut all = vec![self.fetch.status()];
        all.extend(self.database.status());
        all
    }
}

fn shares(configured: &[OwnerShare]) -> Vec<(&'static str, Share)> {
    let share = |share: &OwnerShare| {
        // Taken apart in full, so that a new field cannot be forgotten here.
        let OwnerShare {
            owner,
            weight,
            minimum,
            priority,
        } = *share;
        let share = Share {
            weight,
            minimum,
            priority,
        };
        (owner, share)
    };
    configured.iter().map(share).collect()
}
