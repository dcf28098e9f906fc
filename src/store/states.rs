//! Saved states of services: soft state that helps a restart.

use super::connection::on_backend;
use super::schema::service_states;
use super::{Store, StoreError};
use crate::time::Timestamp;
use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;

/// A service's state as saved.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = service_states)]
pub struct SavedState {
    /// Name of the service.
    pub service: String,
    /// Version of the state's shape.
    pub version: i32,
    /// The state, as JSON.
    pub value: String,
    /// When it was saved.
    pub saved_at: Timestamp,
}

impl Store {
    /// All saved states.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn saved_states(&self) -> Result<Vec<SavedState>, StoreError> {
        let mut lent = self.reader().await?;
        Ok(on_backend!(lent, conn => service_states::table.load::<SavedState>(conn).await)?)
    }

    /// Saves a state, in place of the service's former one.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn save_state(&self, state: SavedState) -> Result<(), StoreError> {
        let store = self.clone();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            on_backend!(lent, conn => {
                diesel::insert_into(service_states::table)
                    .values(&state)
                    .on_conflict(service_states::service)
                    .do_update()
                    .set((
                        service_states::version.eq(excluded(service_states::version)),
                        service_states::value.eq(excluded(service_states::value)),
                        service_states::saved_at.eq(excluded(service_states::saved_at)),
                    ))
                    .execute(conn)
                    .await?;
            });
            Ok(())
        })
        .await
    }
}
