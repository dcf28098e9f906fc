//! A database of one's own: a file, or a schema that is dropped at the end.

use super::{PATIENCE, eventually};
use diesel::sql_types::{BigInt, Text};
use diesel::{QueryableByName, SqliteConnection};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// Where `scripts/test` says that PostgreSQL is.
const POSTGRES_VARIABLE: &str = "HIGHWATER_TEST_POSTGRES_URL";

/// A fresh database, removed with its value.
pub(crate) enum Database {
    Sqlite(TempDir),
    Postgres { url: String, schema: String },
}

#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Connection {
    Sqlite(SyncConnectionWrapper<SqliteConnection>),
    Postgres(AsyncPgConnection),
}

#[derive(QueryableByName)]
struct TextRow {
    #[diesel(sql_type = Text)]
    value: String,
}

#[derive(QueryableByName)]
struct NumberRow {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// Runs the same on either connection.
macro_rules! with {
    ($connection:expr, $conn:ident => $body:expr) => {
        match $connection {
            Connection::Sqlite(mut $conn) => $body,
            Connection::Postgres(mut $conn) => $body,
        }
    };
}

/// A connection that is kept open.
pub(crate) struct Held(Connection);

impl Held {
    async fn run(&mut self, sql: &str) {
        match &mut self.0 {
            Connection::Sqlite(conn) => conn.batch_execute(sql).await.unwrap(),
            Connection::Postgres(conn) => conn.batch_execute(sql).await.unwrap(),
        }
    }

    /// Runs a last statement and closes the connection.
    pub(crate) async fn release(mut self, sql: &str) {
        self.run(sql).await;
    }
}

impl Database {
    /// A file in a folder of its own.
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// A schema of its own, which the server creates.
    pub(crate) fn postgres() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let url = std::env::var(POSTGRES_VARIABLE).unwrap_or_else(|_| {
            panic!(
                "{POSTGRES_VARIABLE} is not set: this test needs a PostgreSQL. Run ./scripts/test, \
                 which starts one, or set it to postgres://USER@HOST:PORT/DATABASE"
            )
        });
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let chance: u32 = rand::random();
        let schema = format!("hw_{}_{number}_{chance:08x}", std::process::id());
        Self::Postgres { url, schema }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// The `[database]` section for a server that calls itself `name` there.
    pub(crate) fn section(&self, name: &str) -> String {
        match self {
            Self::Sqlite(folder) => {
                let file = folder.path().join("highwater.db");
                format!("[database]\nurl = \"sqlite://{}\"\n", file.display())
            }
            Self::Postgres { url, schema } => {
                let and = if url.contains('?') { '&' } else { '?' };
                let name = self.session_name(name);
                format!(
                    "[database]\nurl = \"{url}{and}application_name={name}\"\nschema = \"{schema}\"\n"
                )
            }
        }
    }

    /// What PostgreSQL calls the sessions of the server called `name`.
    pub(crate) fn session_name(&self, name: &str) -> String {
        match self {
            Self::Sqlite(_) => name.to_owned(),
            Self::Postgres { schema, .. } => format!("{schema}_{name}"),
        }
    }

    /// Waits for the sessions of a killed server to end: its transactions may
    /// take a moment to end in PostgreSQL.
    pub(crate) async fn sessions_are_gone(&self, name: &str) {
        if self.is_sqlite() {
            return;
        }
        let name = self.session_name(name);
        let sessions = format!(
            "SELECT count(*) AS value FROM pg_stat_activity WHERE application_name = '{name}'"
        );
        eventually(PATIENCE, "the killed server's sessions end", async || {
            self.number(&sessions).await == 0
        })
        .await;
    }

    /// Runs statements, as an application would.
    pub(crate) async fn run(&self, sql: &str) -> diesel::QueryResult<()> {
        with!(self.connect().await, conn => conn.batch_execute(sql).await)
    }

    /// Runs statements on a connection that stays open, say with a lock.
    pub(crate) async fn hold(&self, statements: &[&str]) -> Held {
        let mut held = Held(self.connect().await);
        for sql in statements {
            held.run(sql).await;
        }
        held
    }

    /// Reads the column `value`, a text, of every row.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let rows: Vec<TextRow> =
            with!(self.connect().await, conn => diesel::sql_query(sql).load(&mut conn).await)
                .unwrap();
        rows.into_iter().map(|row| row.value).collect()
    }

    /// Reads the column `value`, a whole number, of the only row.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let row: NumberRow =
            with!(self.connect().await, conn => diesel::sql_query(sql).get_result(&mut conn).await)
                .unwrap();
        row.value
    }

    /// How many batches fit a condition.
    pub(crate) async fn count(&self, condition: &str) -> i64 {
        let sql = format!("SELECT count(*) AS value FROM batches WHERE {condition}");
        self.number(&sql).await
    }

    /// Ledgers' leases that have not expired, as `ledger holder`.
    pub(crate) async fn leases(&self) -> Vec<(String, String)> {
        let now = match self {
            Self::Sqlite(_) => "strftime('%Y-%m-%d %H:%M:%f', 'now')",
            Self::Postgres { .. } => "clock_timestamp() AT TIME ZONE 'utc'",
        };
        let sql = format!(
            "SELECT name || ' ' || holder AS value FROM leases \
             WHERE name LIKE 'batches:%' AND holder <> '' AND expires_at > {now} ORDER BY name"
        );
        let rows = self.texts(&sql).await;
        rows.iter()
            .map(|row| {
                let (name, holder) = row.split_once(' ').unwrap();
                (name["batches:".len()..].to_owned(), holder.to_owned())
            })
            .collect()
    }

    async fn connect(&self) -> Connection {
        match self {
            Self::Sqlite(folder) => {
                let file = folder.path().join("highwater.db");
                let file = file.to_str().unwrap();
                let mut conn = SyncConnectionWrapper::establish(file).await.unwrap();
                conn.batch_execute("PRAGMA busy_timeout = 10000")
                    .await
                    .unwrap();
                Connection::Sqlite(conn)
            }
            Self::Postgres { url, schema } => {
                let mut conn = AsyncPgConnection::establish(url).await.unwrap();
                let session = format!("SET search_path TO \"{schema}\"");
                conn.batch_execute(&session).await.unwrap();
                Connection::Postgres(conn)
            }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Self::Postgres { url, schema } = self else {
            return;
        };
        let (url, schema) = (url.clone(), schema.clone());
        // A thread of its own: the test's runtime may be ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut conn = AsyncPgConnection::establish(&url).await.unwrap();
                let sql = format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE");
                conn.batch_execute(&sql).await.unwrap();
            });
        });
        if dropping.join().is_err() {
            eprintln!("the schema of a test was not dropped");
        }
    }
}
