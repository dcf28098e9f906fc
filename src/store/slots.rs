//! Database slots: who may use a connection next.
//!
//! On PostgreSQL a slot stands for one connection of the pool, on SQLite for
//! one of those for reading. SQLite's one connection for writing is a resource
//! of its own, of one slot: its owners take turns. A slot is taken before the
//! connection and for as long, so a connection is always at hand for it.

use super::connection::PATIENCE;
use super::{Store, StoreError};
use crate::config::DatabaseSettings;
use crate::watchdog::{Owner, Resource, ResourceStatus, Share, Slot};
use tokio::time::timeout;

/// The connections of a database, shared out among owners; cheap to clone.
#[derive(Clone, Debug)]
pub struct DatabaseSlots {
    connections: Resource,
    /// SQLite's connection for writing.
    writer: Option<Resource>,
    size: usize,
}

impl DatabaseSlots {
    /// One slot for each connection that the store was opened with.
    pub fn new(settings: &DatabaseSettings, is_sqlite: bool) -> Self {
        Self {
            connections: Resource::new("database", settings.connections),
            writer: is_sqlite.then(|| Resource::new("database_writer", 1)),
            size: settings.connections,
        }
    }

    /// Changes what the owners may count on. Of the one writer each may count
    /// on its turns, by weight; that minimums do not fit there says just that.
    pub fn configure(&self, shares: &[(&'static str, Share)]) {
        self.connections.configure(self.size, shares);
        if let Some(writer) = &self.writer {
            let in_turns = |(owner, share): &(&'static str, Share)| {
                let minimum = share.minimum.min(1);
                (*owner, Share { minimum, ..*share })
            };
            let shares: Vec<_> = shares.iter().map(in_turns).collect();
            writer.configure(1, &shares);
        }
    }

    /// Who has and who waits for how many connections.
    pub fn status(&self) -> Vec<ResourceStatus> {
        let resources = std::iter::once(&self.connections).chain(&self.writer);
        resources.map(Resource::status).collect()
    }
}

/// Access to the connections, in the name of an owner.
#[derive(Clone, Debug)]
pub(super) struct Access {
    slots: DatabaseSlots,
    name: &'static str,
    connections: Owner,
    writer: Option<Owner>,
}

impl Access {
    fn new(slots: DatabaseSlots, name: &'static str) -> Self {
        Self {
            connections: slots.connections.owner(name),
            writer: slots.writer.as_ref().map(|writer| writer.owner(name)),
            slots,
            name,
        }
    }

    pub(super) async fn reader(&self) -> Result<Slot, StoreError> {
        self.acquire(&self.connections).await
    }

    pub(super) async fn writer(&self) -> Result<Slot, StoreError> {
        self.acquire(self.writer.as_ref().unwrap_or(&self.connections))
            .await
    }

    async fn acquire(&self, owner: &Owner) -> Result<Slot, StoreError> {
        // Mostly there is one, and then no timer is set.
        if let Some(slot) = owner.try_take() {
            return Ok(slot);
        }
        timeout(PATIENCE, owner.acquire()).await.map_err(|_| {
            StoreError::Unreachable(format!(
                "no connection was free for {} within {} s; the database is slow, or database.connections and the share in [resources.database] are too small",
                self.name,
                PATIENCE.as_secs()
            ))
        })
    }
}

impl Store {
    /// A handle whose connections are taken in the name of `owner`, one of
    /// those who share these slots.
    #[must_use]
    pub fn sharing(&self, slots: &DatabaseSlots, owner: &'static str) -> Self {
        Self {
            access: Some(Access::new(slots.clone(), owner)),
            ..self.clone()
        }
    }

    /// The same in the name of another owner. A store that shares with nobody
    /// goes on so.
    #[must_use]
    pub fn for_owner(&self, owner: &'static str) -> Self {
        match &self.access {
            Some(access) => self.sharing(&access.slots, owner),
            None => self.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DatabaseLocation, Synchronous};

    fn slots(connections: usize, is_sqlite: bool) -> DatabaseSlots {
        let settings = DatabaseSettings {
            location: DatabaseLocation::Sqlite("unused.db".into()),
            schema: "highwater".to_owned(),
            connections,
            synchronous: Synchronous::Full,
        };
        DatabaseSlots::new(&settings, is_sqlite)
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_and_says_whose_share_is_too_small() {
        let slots = slots(1, false);
        let http = Access::new(slots.clone(), "http");
        let held = http.writer().await.unwrap();
        let error = http.reader().await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        insta::assert_snapshot!(error, @"the database is out of reach: no connection was free for http within 10 s; the database is slow, or database.connections and the share in [resources.database] are too small");
        drop(held);
        assert!(http.reader().await.is_ok());
        assert_eq!(slots.status()[0].owners[0].waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn on_sqlite_who_writes_holds_up_no_reader() {
        let slots = slots(1, true);
        slots.configure(&[(
            "http",
            Share {
                minimum: 5,
                ..Share::default()
            },
        )]);
        let http = Access::new(slots.clone(), "http");
        let (_reader, _writer) = (http.reader().await.unwrap(), http.writer().await.unwrap());
        let shown = slots.status();
        let names: Vec<&str> = shown.iter().map(|status| status.name.as_str()).collect();
        assert_eq!(names, ["database", "database_writer"]);
        assert_eq!(shown[1].owners[0].minimum, 1, "its turn, and no more");
    }
}
