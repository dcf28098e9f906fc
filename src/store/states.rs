//! Saved states of services: soft state that helps a restart; and those that
//! could not be read, which are kept aside.
//!
//! Servers of one database share a service's row. Whoever writes it looks at
//! what is there first, in the same transaction: to keep what is another
//! server's, and to set aside what it cannot read.

use super::audit::bounded;
use super::connection::{in_transaction, on_backend};
use super::schema::{service_states, service_states_aside};
use super::{Store, StoreError};
use crate::time::Timestamp;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;
use serde::Serialize;

/// States kept aside of one service; older ones go.
const ASIDE_KEPT: i64 = 5;
/// Most characters kept of why a state could not be read.
const PROBLEM_CHARS: usize = 1000;
/// On PostgreSQL, writers of states wait for each other: a row that is not
/// there yet cannot be locked, and readers are not held up.
const ONE_WRITER: &str = "LOCK TABLE service_states IN SHARE ROW EXCLUSIVE MODE";

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

/// What is to be written in place of a saved state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateWrite {
    /// The new state, as JSON.
    pub value: String,
    /// Why the one it replaces could not be read: it is set aside then.
    pub unreadable: Option<String>,
}

/// A saved state that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Serialize, utoipa::ToSchema)]
pub struct AsideState {
    /// Grows with every state set aside.
    pub id: i64,
    /// Name of the service.
    pub service: String,
    /// Version of the shape it was saved in.
    pub version: i32,
    /// The state as it was saved.
    #[serde(skip)]
    pub value: String,
    /// When it was saved.
    #[schema(value_type = String, format = DateTime)]
    pub saved_at: Timestamp,
    /// When it was set aside, by the database's clock.
    #[schema(value_type = String, format = DateTime)]
    pub set_aside_at: Timestamp,
    /// Why it could not be read.
    pub problem: String,
}

/// Reads a service's row, for the transaction that is to change it.
macro_rules! saved {
    ($service:expr, $conn:ident) => {
        service_states::table
            .filter(service_states::service.eq($service))
            .first::<SavedState>($conn)
            .await
            .optional()?
    };
}

/// Keeps a state aside, and of its service only the newest few.
macro_rules! set_aside {
    ($state:expr, $problem:expr, $conn:ident) => {{
        let state: &SavedState = $state;
        diesel::insert_into(service_states_aside::table)
            .values((
                service_states_aside::service.eq(&state.service),
                service_states_aside::version.eq(state.version),
                service_states_aside::value.eq(&state.value),
                service_states_aside::saved_at.eq(state.saved_at),
                service_states_aside::problem.eq(bounded($problem, PROBLEM_CHARS)),
            ))
            .execute($conn)
            .await?;
        diesel::sql_query(
            "DELETE FROM service_states_aside WHERE service = $1 AND id NOT IN \
             (SELECT id FROM service_states_aside WHERE service = $1 ORDER BY id DESC LIMIT $2)",
        )
        .bind::<Text, _>(&state.service)
        .bind::<BigInt, _>(ASIDE_KEPT)
        .execute($conn)
        .await?;
    }};
}

impl Store {
    /// All saved states, by service.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn saved_states(&self) -> Result<Vec<SavedState>, StoreError> {
        let mut lent = self.reader().await?;
        Ok(on_backend!(lent, conn => {
            service_states::table.order(service_states::service).load::<SavedState>(conn).await
        })?)
    }

    /// The saved state of one service.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn saved_state(&self, service: &str) -> Result<Option<SavedState>, StoreError> {
        let mut lent = self.reader().await?;
        Ok(on_backend!(lent, conn => {
            service_states::table
                .filter(service_states::service.eq(service))
                .first::<SavedState>(conn)
                .await
                .optional()
        })?)
    }

    /// Saves a state. `decide` is handed what is saved now and says what takes
    /// its place, all in one transaction, which other servers wait for.
    /// Answers what was written.
    ///
    /// # Errors
    /// The database is out of reach, or `decide` cannot say: nothing changed.
    pub async fn save_state(
        &self,
        service: &str,
        version: i32,
        decide: impl Fn(Option<&SavedState>) -> Result<StateWrite, String> + Send + Sync + 'static,
    ) -> Result<StateWrite, StoreError> {
        let store = self.clone();
        let service = service.to_owned();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            let sqlite = lent.is_sqlite();
            in_transaction!(lent, conn => {
                if !sqlite {
                    diesel::sql_query(ONE_WRITER).execute(conn).await?;
                }
                let former: Option<SavedState> = saved!(&service, conn);
                let write = decide(former.as_ref()).map_err(StoreError::Internal)?;
                if let (Some(former), Some(problem)) = (&former, &write.unreadable) {
                    set_aside!(former, problem, conn);
                }
                diesel::insert_into(service_states::table)
                    .values(SavedState {
                        service: service.clone(),
                        version,
                        value: write.value.clone(),
                        saved_at: Timestamp::now(),
                    })
                    .on_conflict(service_states::service)
                    .do_update()
                    .set((
                        service_states::version.eq(excluded(service_states::version)),
                        service_states::value.eq(excluded(service_states::value)),
                        service_states::saved_at.eq(excluded(service_states::saved_at)),
                    ))
                    .execute(conn)
                    .await?;
                Ok::<_, StoreError>(write)
            })
        })
        .await
    }

    /// Sets a saved state aside that cannot be read; one that was replaced
    /// meanwhile stays. Answers whether it was set aside.
    ///
    /// # Errors
    /// The database is out of reach; nothing changed.
    pub async fn set_state_aside(
        &self,
        state: SavedState,
        problem: &str,
    ) -> Result<bool, StoreError> {
        let store = self.clone();
        let problem = problem.to_owned();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            let sqlite = lent.is_sqlite();
            in_transaction!(lent, conn => {
                if !sqlite {
                    diesel::sql_query(ONE_WRITER).execute(conn).await?;
                }
                let now: Option<SavedState> = saved!(&state.service, conn);
                if now.as_ref() != Some(&state) {
                    return Ok::<_, StoreError>(false);
                }
                set_aside!(&state, &problem, conn);
                diesel::delete(
                    service_states::table.filter(service_states::service.eq(&state.service)),
                )
                .execute(conn)
                .await?;
                Ok(true)
            })
        })
        .await
    }

    /// The states kept aside, newest first.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn states_aside(&self) -> Result<Vec<AsideState>, StoreError> {
        let mut lent = self.reader().await?;
        Ok(on_backend!(lent, conn => {
            service_states_aside::table
                .order(service_states_aside::id.desc())
                .limit(1000)
                .load::<AsideState>(conn)
                .await
        })?)
    }

    /// Drops what is kept aside of a service. Answers how many states.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn drop_states_aside(&self, service: &str) -> Result<usize, StoreError> {
        let store = self.clone();
        let service = service.to_owned();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            Ok(on_backend!(lent, conn => {
                let of_service = service_states_aside::table
                    .filter(service_states_aside::service.eq(&service));
                diesel::delete(of_service).execute(conn).await
            })?)
        })
        .await
    }
}
