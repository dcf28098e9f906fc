//! Connections to either database, and the macro with which a query is
//! written once for both.

use super::{StoreError, postgres};
use crate::config::{DatabaseLocation, DatabaseSettings, Synchronous};
use crate::watchdog::Slot;
use diesel::SqliteConnection;
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::ops::DerefMut;
use std::path::Path;
use std::time::Duration;

pub(super) type AsyncSqlite = SyncConnectionWrapper<SqliteConnection>;

/// How long SQLite waits for another process's write, and a pool for a free connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A connection lent from a pool, with the slot that allows it. Never wait for
/// a second one while holding one.
pub(super) struct Lent {
    // Dropped in this order: whoever gets the slot next finds the connection.
    pooled: Pooled,
    _slot: Option<Slot>,
}

/// A connection of a pool's.
#[expect(
    clippy::large_enum_variant,
    reason = "lives for one query; boxing it would cost an allocation each"
)]
pub(super) enum Pooled {
    Sqlite(Object<AsyncSqlite>),
    Postgres(Object<AsyncPgConnection>),
}

/// A connection of either backend, borrowed.
pub(super) enum Connection<'a> {
    Sqlite(&'a mut AsyncSqlite),
    Postgres(&'a mut AsyncPgConnection),
}

impl<'a> From<&'a mut AsyncSqlite> for Connection<'a> {
    fn from(connection: &'a mut AsyncSqlite) -> Self {
        Self::Sqlite(connection)
    }
}

impl<'a> From<&'a mut AsyncPgConnection> for Connection<'a> {
    fn from(connection: &'a mut AsyncPgConnection) -> Self {
        Self::Postgres(connection)
    }
}

impl Connection<'_> {
    /// For [`on_backend!`], in functions that work within a transaction.
    pub(super) fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(connection) => Connection::Sqlite(connection),
            Self::Postgres(connection) => Connection::Postgres(connection),
        }
    }

    pub(super) const fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }
}

impl Lent {
    pub(super) const fn new(pooled: Pooled, slot: Option<Slot>) -> Self {
        Self {
            pooled,
            _slot: slot,
        }
    }

    pub(super) fn connection(&mut self) -> Connection<'_> {
        match &mut self.pooled {
            Pooled::Sqlite(object) => Connection::Sqlite(object.deref_mut()),
            Pooled::Postgres(object) => Connection::Postgres(object.deref_mut()),
        }
    }

    pub(super) fn is_sqlite(&self) -> bool {
        matches!(self.pooled, Pooled::Sqlite(_))
    }
}

/// Runs the same typed query on whichever backend `$lent` is: the body is
/// compiled once per backend, with `$conn` as the connection. The types of a
/// query are long; they are boxed away here, so that the compiler does not walk
/// through them again for every future that holds this one.
macro_rules! on_backend {
    ($lent:expr, $conn:ident => $body:expr) => {
        match $lent.connection() {
            $crate::store::connection::Connection::Sqlite($conn) => {
                $crate::store::connection::boxed(async { $body }).await
            }
            $crate::store::connection::Connection::Postgres($conn) => {
                $crate::store::connection::boxed(async { $body }).await
            }
        }
    };
}
pub(super) use on_backend;

/// Runs the body in one transaction, which takes the write lock at its start
/// on SQLite. Never cancel it (see [`super::Store::detached`]).
macro_rules! in_transaction {
    ($lent:expr, $conn:ident => $body:expr) => {
        match $lent.connection() {
            $crate::store::connection::Connection::Sqlite(outer) => {
                let work = outer.immediate_transaction(
                    async |$conn: &mut $crate::store::connection::AsyncSqlite| $body,
                );
                $crate::store::connection::boxed(work).await
            }
            $crate::store::connection::Connection::Postgres(outer) => {
                let work = diesel_async::AsyncConnection::transaction(
                    outer,
                    async |$conn: &mut diesel_async::AsyncPgConnection| $body,
                );
                $crate::store::connection::boxed(work).await
            }
        }
    };
}
pub(super) use in_transaction;

/// Runs the body in one transaction that reads, all of one snapshot. `$conn` is
/// a [`Connection`]. Never cancel it.
macro_rules! in_snapshot {
    ($lent:expr, $conn:ident => $body:expr) => {
        match $lent.connection() {
            $crate::store::connection::Connection::Sqlite(outer) => {
                let work = diesel_async::AsyncConnection::transaction(
                    outer,
                    async |conn: &mut $crate::store::connection::AsyncSqlite| {
                        let $conn = &mut $crate::store::connection::Connection::from(conn);
                        $body
                    },
                );
                $crate::store::connection::boxed(work).await
            }
            $crate::store::connection::Connection::Postgres(outer) => {
                let work = diesel_async::AsyncConnection::transaction(
                    outer,
                    async |conn: &mut diesel_async::AsyncPgConnection| {
                        diesel_async::SimpleAsyncConnection::batch_execute(
                            conn,
                            $crate::store::connection::SNAPSHOT,
                        )
                        .await?;
                        let $conn = &mut $crate::store::connection::Connection::from(conn);
                        $body
                    },
                );
                $crate::store::connection::boxed(work).await
            }
        }
    };
}
pub(super) use in_snapshot;

/// What makes a PostgreSQL transaction a snapshot, whose ranges of keys are read
/// in order, see [`IN_ORDER`].
pub(super) const SNAPSHOT: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
    SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off";

/// Until the transaction's end PostgreSQL reads ranges of keys in their order, by
/// the index. A table that grew just now has no statistics yet, by which the
/// planner would rather sort all that is left for each piece of it.
pub(super) const IN_ORDER: &str = "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off";

/// A future without its type.
pub(super) fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(future)
}

/// The pools: on SQLite one writer and several readers, on PostgreSQL one
/// pool for both.
#[derive(Clone)]
pub(super) enum Pools {
    Sqlite {
        writer: Pool<AsyncSqlite>,
        readers: Pool<AsyncSqlite>,
    },
    Postgres(Pool<AsyncPgConnection>),
}

impl Pools {
    pub(super) fn build(settings: &DatabaseSettings) -> Result<Self, StoreError> {
        match &settings.location {
            DatabaseLocation::Sqlite(path) => Ok(Self::Sqlite {
                writer: sqlite_pool(path, settings.synchronous, 1, false)?,
                readers: sqlite_pool(path, settings.synchronous, settings.connections, true)?,
            }),
            DatabaseLocation::Postgres(url) => {
                let schema = settings.schema.clone();
                let mut config = ManagerConfig::<AsyncPgConnection>::default();
                config.recycling_method = RecyclingMethod::Fast;
                config.custom_setup = Box::new(move |url| {
                    let schema = schema.clone();
                    async move {
                        let session = format!("{}; {POSTGRES_LIMITS}", postgres_session(&schema));
                        postgres::establish(url, &session).await
                    }
                    .boxed()
                });
                let manager = AsyncDieselConnectionManager::new_with_config(url.expose(), config);
                Ok(Self::Postgres(build_pool(manager, settings.connections)?))
            }
        }
    }

    pub(super) async fn reader(&self) -> Result<Pooled, StoreError> {
        match self {
            Self::Sqlite { readers, .. } => Ok(Pooled::Sqlite(readers.get().await?)),
            Self::Postgres(pool) => Ok(Pooled::Postgres(pool.get().await?)),
        }
    }

    pub(super) async fn writer(&self) -> Result<Pooled, StoreError> {
        match self {
            Self::Sqlite { writer, .. } => Ok(Pooled::Sqlite(writer.get().await?)),
            Self::Postgres(pool) => Ok(Pooled::Postgres(pool.get().await?)),
        }
    }

    pub(super) fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    pub(super) fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                writer.close();
                readers.close();
            }
            Self::Postgres(pool) => pool.close(),
        }
    }
}

/// Statements that bound what a PostgreSQL session waits for: a lock that an
/// application holds must not hold up the leases.
const POSTGRES_LIMITS: &str = "SET lock_timeout TO '2s'; SET statement_timeout TO '30s'";

/// Statements that open a PostgreSQL session: our schema, UTC. Between two
/// statements of a transaction only a few milliseconds pass, unless the server was
/// stopped (SIGSTOP) or its machine froze: then its locks must not keep another
/// from taking its leases over.
pub(super) fn postgres_session(schema: &str) -> String {
    format!(
        "SET search_path TO \"{schema}\"; SET TIME ZONE 'UTC'; \
         SET idle_in_transaction_session_timeout TO '2s'"
    )
}

/// Statements that open a SQLite connection.
pub(super) fn sqlite_session(synchronous: Synchronous, read_only: bool) -> String {
    let synchronous = match synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    format!(
        "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; \
         PRAGMA temp_store = MEMORY; PRAGMA query_only = {};",
        PATIENCE.as_millis(),
        if read_only { "ON" } else { "OFF" },
    )
}

/// The path as diesel's `establish` takes it.
pub(super) fn sqlite_url(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn sqlite_pool(
    path: &Path,
    synchronous: Synchronous,
    size: usize,
    read_only: bool,
) -> Result<Pool<AsyncSqlite>, StoreError> {
    let mut config = ManagerConfig::<AsyncSqlite>::default();
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(move |url| {
        async move {
            let mut conn = AsyncSqlite::establish(url).await?;
            conn.batch_execute(&sqlite_session(synchronous, read_only))
                .await
                .map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
            Ok(conn)
        }
        .boxed()
    });
    build_pool(
        AsyncDieselConnectionManager::new_with_config(sqlite_url(path), config),
        size,
    )
}

fn build_pool<M>(manager: M, size: usize) -> Result<deadpool::managed::Pool<M>, StoreError>
where
    M: deadpool::managed::Manager,
{
    deadpool::managed::Pool::builder(manager)
        .max_size(size)
        .runtime(deadpool::Runtime::Tokio1)
        .wait_timeout(Some(PATIENCE))
        .create_timeout(Some(PATIENCE))
        .build()
        .map_err(|error| StoreError::Internal(error.to_string()))
}
