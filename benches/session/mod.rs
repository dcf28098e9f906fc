//! A bare session with the store's durability, for the limits.

use super::frame::Place;
use diesel::SqliteConnection;
use diesel::sql_types::{BigInt, Text};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

/// A session that is opened as the store opens its own.
#[expect(
    clippy::large_enum_variant,
    reason = "a few of them, and none is moved"
)]
pub(crate) enum Session {
    Sqlite(SyncConnectionWrapper<SqliteConnection>),
    Postgres(AsyncPgConnection),
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// The same statement on either session.
macro_rules! on_session {
    ($session:expr, $conn:ident => $body:expr) => {
        match $session {
            Session::Sqlite($conn) => $body,
            Session::Postgres($conn) => $body,
        }
    };
}

impl Session {
    /// Of a database whose schema is there.
    pub(crate) async fn open(place: &Place) -> Self {
        let mut session = match place.url.strip_prefix("sqlite://") {
            Some(path) => Self::Sqlite(SyncConnectionWrapper::establish(path).await.unwrap()),
            None => Self::Postgres(AsyncPgConnection::establish(&place.url).await.unwrap()),
        };
        let opening = match &session {
            Self::Sqlite(_) => "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 PRAGMA temp_store = MEMORY"
                .to_owned(),
            Self::Postgres(_) => format!(
                "SET search_path TO \"{}\"; SET TIME ZONE 'UTC'; SET synchronous_commit TO on",
                place.schema
            ),
        };
        session.batch(&opening).await;
        session
    }

    /// Which of the two it is.
    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// Statements without parameters.
    pub(crate) async fn batch(&mut self, statements: &str) {
        on_session!(self, conn => conn.batch_execute(statements).await.unwrap());
    }

    /// The number that a query answers as `n`.
    #[allow(dead_code, reason = "not all benchmarks call it")]
    pub(crate) async fn number(&mut self, query: &str) -> i64 {
        let rows: Vec<Number> =
            on_session!(self, conn => diesel::sql_query(query).load(conn).await.unwrap());
        rows[0].n
    }

    /// One statement with one parameter, in a transaction of its own; answers
    /// how many rows it changed.
    #[allow(dead_code, reason = "not all benchmarks call it")]
    pub(crate) async fn apply(&mut self, statement: &str, rows: String) -> usize {
        on_session!(self, conn => {
            conn.batch_execute("BEGIN").await.unwrap();
            let query = diesel::sql_query(statement).bind::<Text, _>(rows);
            let changed = query.execute(conn).await.unwrap();
            conn.batch_execute("COMMIT").await.unwrap();
            changed
        })
    }
}
