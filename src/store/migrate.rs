//! Embedded migrations: run before anything else touches the database, one
//! process at a time.

use super::connection::{postgres_session, sqlite_session, sqlite_url};
use super::{StoreError, postgres};
use crate::config::{DatabaseLocation, DatabaseSettings};
use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::{Connection as _, SqliteConnection};
use diesel_async::{AsyncMigrationHarness, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::collections::BTreeSet;

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Key of the advisory lock under which PostgreSQL is migrated ("HIGHWATR").
const LOCK: i64 = 0x4849_4748_5741_5452;

/// Where diesel notes which migrations have run.
const MIGRATIONS_TABLE: &str = "__diesel_schema_migrations";

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    found: i64,
}

/// Brings the database to this binary's schema.
pub(super) async fn migrate(settings: &DatabaseSettings) -> Result<(), StoreError> {
    with_harness(settings, Mode::Run).await.map(|_| ())
}

/// Versions embedded here that the database lacks.
pub(super) async fn wanted(settings: &DatabaseSettings) -> Result<Vec<String>, StoreError> {
    with_harness(settings, Mode::Look).await
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Run,
    Look,
}

async fn with_harness(settings: &DatabaseSettings, mode: Mode) -> Result<Vec<String>, StoreError> {
    match &settings.location {
        DatabaseLocation::Sqlite(path) => {
            if mode == Mode::Look && !path.exists() {
                return versions::<diesel::sqlite::Sqlite>(&SQLITE);
            }
            let looked = format!(
                "SELECT count(*) AS found FROM sqlite_master WHERE name = '{MIGRATIONS_TABLE}'"
            );
            let url = sqlite_url(path);
            let session = sqlite_session(settings.synchronous, false);
            let folder = path.parent().map(std::path::Path::to_path_buf);
            let work = move || {
                if let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) {
                    std::fs::create_dir_all(&folder).map_err(|error| {
                        StoreError::Unreachable(format!("{}: {error}", folder.display()))
                    })?;
                }
                let mut conn = SqliteConnection::establish(&url)
                    .map_err(|error| StoreError::Unreachable(format!("{url}: {error}")))?;
                conn.batch_execute(&session)?;
                if mode == Mode::Look {
                    let looked = diesel::sql_query(looked);
                    let found: Found = diesel::RunQueryDsl::get_result(looked, &mut conn)?;
                    if found.found == 0 {
                        return versions::<diesel::sqlite::Sqlite>(&SQLITE);
                    }
                }
                // The write lock serialises processes that start at once.
                conn.exclusive_transaction(|conn| proceed(conn, &SQLITE, mode))
            };
            tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| StoreError::Internal(error.to_string()))?
        }
        DatabaseLocation::Postgres(url) => {
            let schema = &settings.schema;
            let mut conn = postgres::establish(url.expose(), &postgres_session(schema))
                .await
                .map_err(|error| StoreError::Unreachable(error.to_string()))?;
            if mode == Mode::Look {
                let looked = format!(
                    "SELECT count(to_regclass('\"{schema}\".{MIGRATIONS_TABLE}'))::bigint AS found"
                );
                let found: Found =
                    RunQueryDsl::get_result(diesel::sql_query(looked), &mut conn).await?;
                if found.found == 0 {
                    return versions::<diesel::pg::Pg>(&POSTGRES);
                }
            } else {
                // Held until the connection ends. The schema may have been made
                // by somebody with more rights than ours.
                conn.batch_execute(&format!(
                    "SELECT pg_advisory_lock({LOCK}); \
                     DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{schema}') \
                     THEN CREATE SCHEMA \"{schema}\"; END IF; END $$"
                ))
                .await?;
            }
            // The harness blocks in place, which only a worker thread allows.
            tokio::spawn(async move {
                let mut harness = AsyncMigrationHarness::new(conn);
                proceed(&mut harness, &POSTGRES, mode)
            })
            .await
            .map_err(|error| StoreError::Internal(error.to_string()))?
        }
    }
}

fn versions<DB: diesel::backend::Backend>(
    source: &impl MigrationSource<DB>,
) -> Result<Vec<String>, StoreError> {
    let migrations = source.migrations().map_err(failed)?;
    Ok(migrations
        .iter()
        .map(|migration| migration.name().version().to_string())
        .collect())
}

fn proceed<DB, H>(
    harness: &mut H,
    source: &impl MigrationSource<DB>,
    mode: Mode,
) -> Result<Vec<String>, StoreError>
where
    DB: diesel::backend::Backend,
    H: MigrationHarness<DB>,
{
    let known: BTreeSet<String> = versions(source)?.into_iter().collect();
    let applied: Vec<MigrationVersion<'static>> = harness.applied_migrations().map_err(failed)?;
    if let Some(unknown) = applied
        .iter()
        .find(|version| !known.contains(&version.to_string()))
    {
        return Err(StoreError::Newer {
            version: unknown.to_string(),
        });
    }
    let mut wanted: Vec<Box<dyn Migration<DB>>> = source.migrations().map_err(failed)?;
    wanted.retain(|migration| !applied.contains(&migration.name().version()));
    wanted.sort_by(|a, b| a.name().version().cmp(&b.name().version()));
    let names = wanted
        .iter()
        .map(|migration| migration.name().version().to_string())
        .collect();
    if mode == Mode::Run {
        for migration in wanted {
            let name = migration.name().to_string();
            harness
                .run_migration(migration.as_ref())
                .map_err(|error| StoreError::Migration(format!("{name}: {error}")))?;
            tracing::info!(database.migration = %name, "database migrated");
        }
    }
    Ok(names)
}

fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
    StoreError::Migration(error.to_string())
}
