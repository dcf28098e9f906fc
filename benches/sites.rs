//! Load benchmark of the site flow: visits of 100,000 sites, on SQLite and on
//! PostgreSQL, beside bare limits measured in the same run against the same
//! simulated sites and the same database.
//!
//! `c` is a bare HTTP client visiting sites in a loop, `d` the bare bulk
//! statement against `poll_status` with the same durability; where both are
//! used on the same cores the limit is `1 / (1/c + 1/d)`.
//!
//! PostgreSQL is measured where `HIGHWATER_TEST_POSTGRES_URL` names a server
//! (`./scripts/bench` starts one).

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use diesel::SqliteConnection;
use diesel::sql_types::Text;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use highwater::config::{self, LoadOptions, Loaded};
use highwater::sim::{SitesHandle, SitesOptions, SitesSim};
use highwater::store::Store;
use highwater::time::Timestamp;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const SITES: u32 = 100_000;
const CONNECTIONS: usize = 64;
const ROUNDS: usize = 3;
/// Rows in a transaction of the bare statement.
const GROUP: usize = 2_000;
/// Characters of an entry of the poll log; 280 characters hold 20 polls.
const LOG_ENTRY: usize = 14;
const PERIOD: Duration = Duration::from_secs(3600);

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut table = comfy_table::Table::new();
    table.set_header([
        "database",
        "c (visits/s)",
        "d (rows/s)",
        "limit (visits/s)",
        "visited (visits/s)",
        "share of the limit",
    ]);
    let mut databases = vec![(
        "SQLite",
        format!("sqlite://{}/NAME.db", folder.path().display()),
        "highwater",
    )];
    match std::env::var("HIGHWATER_TEST_POSTGRES_URL") {
        Ok(url) => databases.push(("PostgreSQL", url, "bench_sites")),
        Err(_) => eprintln!("PostgreSQL is left out: HIGHWATER_TEST_POSTGRES_URL is not set"),
    }
    for (label, url, schema) in databases {
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let place = Place {
                folder: folder.path(),
                url: url.replace("NAME", &format!("run{round}")),
                schema,
            };
            let round = run_once(&runtime, &place);
            eprintln!("{label}: {}", round.cells().join(", "));
            rounds.push(round);
        }
        let cells = median(&mut rounds).cells();
        table.add_row([label.to_owned()].into_iter().chain(cells));
        clear(&runtime, &url, schema);
    }
    println!(
        "{SITES} sites, {CONNECTIONS} connections, {GROUP} rows a transaction; the median of {ROUNDS} rounds"
    );
    println!("{table}");
}

/// A database of one round.
struct Place<'a> {
    folder: &'a Path,
    url: String,
    schema: &'a str,
}

impl Place<'_> {
    fn load(&self) -> Loaded {
        let text = format!(
            "[database]\nurl = \"{}\"\nschema = \"{}\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"warn\"\n",
            self.url, self.schema
        );
        let options = LoadOptions::default();
        config::parse(&text, "bench.toml", self.folder, [], options).unwrap()
    }
}

struct Round {
    client: f64,
    bulk: f64,
    visited: Option<f64>,
}

impl Round {
    fn limit(&self) -> f64 {
        1.0 / (1.0 / self.client + 1.0 / self.bulk)
    }

    /// Share of the limit that the server reaches.
    fn share(&self) -> Option<f64> {
        self.visited.map(|visited| visited / self.limit())
    }

    fn cells(&self) -> Vec<String> {
        let not_measured = || "not measured".to_owned();
        vec![
            format!("{:.0}", self.client),
            format!("{:.0}", self.bulk),
            format!("{:.0}", self.limit()),
            self.visited
                .map_or_else(not_measured, |visited| format!("{visited:.0}")),
            self.share()
                .map_or_else(not_measured, |share| format!("{:.0}%", share * 100.0)),
        ]
    }
}

/// The round in the middle, by the share of the limit where that is measured.
fn median(rounds: &mut [Round]) -> &Round {
    let key = |round: &Round| round.share().unwrap_or_else(|| round.limit());
    rounds.sort_by(|a, b| key(a).total_cmp(&key(b)));
    &rounds[rounds.len() / 2]
}

fn run_once(runtime: &Runtime, place: &Place<'_>) -> Round {
    let sites = SitesSim::start(SitesOptions::of(SITES)).unwrap();
    let client = bare_client(runtime, &sites);
    clear(runtime, &place.url, place.schema);
    let bulk = bare_bulk(runtime, place);
    clear(runtime, &place.url, place.schema);
    Round {
        client,
        bulk,
        visited: server(runtime, place, &sites),
    }
}

/// Visits per second of the server itself: from the moment it is ready until
/// each of the sites was visited once and its outcome is in `poll_status`, the
/// sites being tracked in an empty database at `place` before it starts. None
/// while there is no engine to measure.
fn server(_runtime: &Runtime, _place: &Place<'_>, _sites: &SitesHandle) -> Option<f64> {
    None
}

/// Visits per second of a bare client that visits all sites once and throws
/// the bodies away.
fn bare_client(runtime: &Runtime, sites: &SitesHandle) -> f64 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = Arc::<str>::from(format!("http://{}", sites.addr()));
    let next = Arc::new(AtomicU32::new(0));
    let begun = Instant::now();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (client, base, next) = (client.clone(), base.clone(), next.clone());
                tokio::spawn(async move {
                    loop {
                        let site = next.fetch_add(1, Ordering::Relaxed);
                        if site >= SITES {
                            break;
                        }
                        let answer = client.get(format!("{base}/{site}")).send().await.unwrap();
                        assert_eq!(answer.status(), 200);
                        std::hint::black_box(answer.bytes().await.unwrap());
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let rate = f64::from(SITES) / begun.elapsed().as_secs_f64();
    let stats = sites.stats();
    assert_eq!((stats.visits, stats.overlaps.count), (u64::from(SITES), 0));
    rate
}

/// A session that is opened as the store opens its own.
#[expect(
    clippy::large_enum_variant,
    reason = "a few of them, and none is moved"
)]
enum Session {
    Sqlite(SyncConnectionWrapper<SqliteConnection>),
    Postgres(AsyncPgConnection),
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
    async fn open(place: &Place<'_>) -> Self {
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

    fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    async fn batch(&mut self, statements: &str) {
        on_session!(self, conn => conn.batch_execute(statements).await.unwrap());
    }

    /// One statement with one parameter, in a transaction of its own; answers
    /// how many rows it changed.
    async fn apply(&mut self, statement: &str, rows: String) -> usize {
        on_session!(self, conn => {
            conn.batch_execute("BEGIN").await.unwrap();
            let query = diesel::sql_query(statement).bind::<Text, _>(rows);
            let changed = query.execute(conn).await.unwrap();
            conn.batch_execute("COMMIT").await.unwrap();
            changed
        })
    }
}

/// An outcome as the statement reads it.
#[derive(serde::Serialize)]
struct Outcome {
    seq: u32,
    level: u32,
    count: u32,
    last_run_at: String,
    next_due_at: String,
    last_outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    last_duration_ms: u32,
    log: String,
}

/// Rows per second of the bulk statement alone. The outcomes are made before
/// the clock starts, their JSON while it runs.
fn bare_bulk(runtime: &Runtime, place: &Place<'_>) -> f64 {
    runtime.block_on(async {
        // Brings the schema up to date.
        Store::open(&place.load().settings.database)
            .await
            .unwrap()
            .close();
        let mut session = Session::open(place).await;
        session.batch(insert_statements(session.is_sqlite())).await;
        let statement = if session.is_sqlite() {
            SQLITE_UPDATE
        } else {
            POSTGRES_UPDATE
        };
        let outcomes = outcomes(Timestamp::now());
        let begun = Instant::now();
        for group in outcomes.chunks(GROUP) {
            let rows = serde_json::to_string(group).unwrap();
            assert_eq!(session.apply(statement, rows).await, group.len());
        }
        f64::from(SITES) / begun.elapsed().as_secs_f64()
    })
}

/// One outcome for each site, one of twenty a failure.
fn outcomes(now: Timestamp) -> Vec<Outcome> {
    let last_run_at = now.to_sql_text();
    let next_due_at = now.plus(PERIOD).to_sql_text();
    (1..=SITES)
        .map(|seq| {
            let failed = seq % 20 == 0;
            Outcome {
                seq,
                level: 0,
                count: u32::from(failed),
                last_run_at: last_run_at.clone(),
                next_due_at: next_due_at.clone(),
                last_outcome: if failed { "failure" } else { "success" },
                last_error: failed.then(|| {
                    format!(
                        "unexpected: status 500 from 127.0.0.1, site {seq}; expected 200 to 299"
                    )
                }),
                last_duration_ms: seq % 1000,
                log: format!("{seq:0>LOG_ENTRY$}"),
            }
        })
        .collect()
}

/// Sites and their standings, due at once.
const fn insert_statements(sqlite: bool) -> &'static str {
    if sqlite {
        SQLITE_INSERT
    } else {
        POSTGRES_INSERT
    }
}

const SQLITE_INSERT: &str = "BEGIN; \
    WITH RECURSIVE n (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < 100000) \
    INSERT INTO sites (seq, site_id, app_id, url, batch_code) \
    SELECT seq, printf('site-%06d', seq - 1), 'org.example.bench', 'http://127.0.0.1:1/' || (seq - 1), \
     seq % 10001 FROM n; \
    INSERT INTO poll_status (seq, site_id, job_name, next_due_at, app_id, batch_code, enabled) \
    SELECT seq, site_id, 'default', created_at, app_id, batch_code, enabled FROM sites; \
    COMMIT";

const POSTGRES_INSERT: &str = "BEGIN; \
    INSERT INTO sites (seq, site_id, app_id, url, batch_code) \
    SELECT seq, 'site-' || lpad((seq - 1)::text, 6, '0'), 'org.example.bench', \
     'http://127.0.0.1:1/' || (seq - 1), seq % 10001 FROM generate_series(1, 100000) AS n (seq); \
    INSERT INTO poll_status (seq, site_id, job_name, next_due_at, app_id, batch_code, enabled) \
    SELECT seq, site_id, 'default', created_at, app_id, batch_code, enabled FROM sites; \
    COMMIT; \
    ANALYZE sites, poll_status";

macro_rules! update_statement {
    ($source:literal, $log:literal) => {
        concat!(
            "UPDATE poll_status SET level = u.level, count = u.count, \
             last_run_at = u.last_run_at, next_due_at = u.next_due_at, \
             last_outcome = u.last_outcome, last_error = u.last_error, \
             last_duration_ms = u.last_duration_ms, poll_log = ",
            $log,
            " FROM ",
            $source,
            " WHERE poll_status.seq = u.seq"
        )
    };
}

const SQLITE_UPDATE: &str = update_statement!(
    "(SELECT value ->> 'seq' AS seq, value ->> 'level' AS level, value ->> 'count' AS count, \
      value ->> 'last_run_at' AS last_run_at, value ->> 'next_due_at' AS next_due_at, \
      value ->> 'last_outcome' AS last_outcome, value ->> 'last_error' AS last_error, \
      value ->> 'last_duration_ms' AS last_duration_ms, value ->> 'log' AS log \
      FROM json_each($1)) AS u",
    "substr(poll_status.poll_log || u.log, -280)"
);

const POSTGRES_UPDATE: &str = update_statement!(
    "json_to_recordset($1::json) AS u (seq bigint, level integer, count integer, \
      last_run_at timestamp(3), next_due_at timestamp(3), last_outcome text, last_error text, \
      last_duration_ms bigint, log text)",
    "right(poll_status.poll_log || u.log, 280)"
);

fn clear(runtime: &Runtime, url: &str, schema: &str) {
    if let Some(path) = url.strip_prefix("sqlite://") {
        for ending in ["", "-wal", "-shm", ".lock"] {
            drop(std::fs::remove_file(format!("{path}{ending}")));
        }
        return;
    }
    runtime.block_on(async {
        let mut conn = AsyncPgConnection::establish(url).await.unwrap();
        conn.batch_execute(&format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE"))
            .await
            .unwrap();
    });
}
