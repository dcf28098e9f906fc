//! Load benchmark of the site flow: visits of 100,000 sites, on SQLite and on
//! PostgreSQL, beside bare limits measured in the same run against the same
//! simulated sites and the same database.
//!
//! `c` is a bare HTTP client visiting sites in a loop, `d` the bare bulk
//! statement against `poll_status` with the same durability; where both are
//! used on the same cores the limit is `1 / (1/c + 1/d)`.
//!
//! `cargo bench --bench sites -- steady` measures, instead, what it is like once
//! due times have spread: per-second peak over mean and lateness, also after a
//! restart.
//!
//! PostgreSQL is measured where `HIGHWATER_TEST_POSTGRES_URL` names a server
//! (`./scripts/bench` starts one).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs
)]

use diesel::SqliteConnection;
use diesel::sql_types::Text;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use highwater::app::{self, Launch};
use highwater::config::{self, LoadOptions, Loaded};
use highwater::flows::sites::{AppName, BATCH_CODES, JobKey};
use highwater::handlers::Listeners;
use highwater::sim::{SitesHandle, SitesOptions, SitesSim};
use highwater::store::{JobRange, NewSite, Store};
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
const APP: &str = "org.example.bench";
/// Seconds between two visits of a site in the steady part, and for how many
/// of these it settles: as many as spreading needs at 5% each.
const STEADY_PERIOD: u64 = 20;
const STEADY_SETTLE: u64 = 25;
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
        "resident (MB)",
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
    let only_steady = std::env::args().any(|argument| argument == "steady");
    for (label, url, schema) in databases {
        if only_steady {
            let place = Place {
                folder: folder.path(),
                url: url.replace("NAME", "steady"),
                schema,
            };
            steady(&runtime, &place, label);
            clear(&runtime, &place.url, schema);
            continue;
        }
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
    if only_steady {
        return;
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
    /// A configuration with one job of this retry policy; none where it is empty.
    fn load(&self, retry: &str) -> Loaded {
        let mut text = format!(
            "[database]\nurl = \"{}\"\nschema = \"{}\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"warn\"\n\
             [sites]\nmax_in_flight = {CONNECTIONS}\n",
            self.url, self.schema
        );
        if !retry.is_empty() {
            text.push_str(&format!(
                "[[jobs]]\napp = \"{APP}\"\nretry = \"{retry}\"\nper_host = {CONNECTIONS}\n\
                 [jobs.handler.http]\n"
            ));
        }
        let options = LoadOptions::default();
        config::parse(&text, "bench.toml", self.folder, [], options).unwrap()
    }
}

struct Round {
    client: f64,
    bulk: f64,
    visited: f64,
    resident_mb: u64,
}

impl Round {
    fn limit(&self) -> f64 {
        1.0 / (1.0 / self.client + 1.0 / self.bulk)
    }

    /// Share of the limit that the server reaches.
    fn share(&self) -> f64 {
        self.visited / self.limit()
    }

    fn cells(&self) -> Vec<String> {
        vec![
            format!("{:.0}", self.client),
            format!("{:.0}", self.bulk),
            format!("{:.0}", self.limit()),
            format!("{:.0}", self.visited),
            format!("{:.0}%", self.share() * 100.0),
            self.resident_mb.to_string(),
        ]
    }
}

/// The round in the middle, by the share of the limit.
fn median(rounds: &mut [Round]) -> &Round {
    rounds.sort_by(|a, b| a.share().total_cmp(&b.share()));
    &rounds[rounds.len() / 2]
}

fn run_once(runtime: &Runtime, place: &Place<'_>) -> Round {
    let sites = SitesSim::start(SitesOptions::of(SITES)).unwrap();
    let client = bare_client(runtime, &sites);
    clear(runtime, &place.url, place.schema);
    let bulk = bare_bulk(runtime, place);
    clear(runtime, &place.url, place.schema);
    let (visited, resident_mb) = server(runtime, place, &sites);
    Round {
        client,
        bulk,
        visited,
        resident_mb,
    }
}

/// Visits per second of the server itself, and its resident memory: from the
/// moment it is ready until each of the sites was visited once and its outcome
/// is in `poll_status`, the sites being in the database before it starts.
fn server(runtime: &Runtime, place: &Place<'_>, sites: &SitesHandle) -> (f64, u64) {
    track(runtime, place, sites);
    let running = Running::start(place, "60 sec (x1000)");
    let begun = Instant::now();
    let watching = Store::open_as_is(&place.load("").settings.database).unwrap();
    let range = all_sites();
    let visited = Timestamp::now().plus(Duration::from_secs(30));
    let took = runtime.block_on(async {
        loop {
            // The first in an index: watching costs next to nothing.
            let first = watching
                .next_site_due(&range, Timestamp::from_millis(0))
                .await;
            if first.unwrap().is_some_and(|first| first > visited) {
                break begun.elapsed();
            }
            assert!(
                begun.elapsed() < Duration::from_secs(300),
                "the sites are not visited"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let resident = resident_mb();
    watching.close();
    running.stop();
    assert_eq!(sites.stats().overlaps.count, 0);
    (f64::from(SITES) / took.as_secs_f64(), resident)
}

/// A server of this process.
struct Running {
    ready: app::Ready,
    thread: std::thread::JoinHandle<Result<(), app::AppError>>,
}

impl Running {
    fn start(place: &Place<'_>, retry: &str) -> Self {
        let config = place.load(retry);
        let (ready_sender, ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            app::run(Launch {
                config,
                reload: None,
                on_ready: Some(Box::new(move |ready| ready_sender.send(ready).unwrap())),
                listeners: Listeners::default(),
            })
        });
        let ready = ready.recv().unwrap();
        Self { ready, thread }
    }

    fn stop(self) {
        self.ready.stop.stop();
        self.thread.join().unwrap().unwrap();
    }
}

fn all_sites() -> JobRange {
    let app = AppName::parse(APP).unwrap();
    JobRange {
        job: JobKey::new(app, JobKey::DEFAULT).unwrap(),
        codes: BATCH_CODES,
    }
}

/// Puts the simulated sites into the database.
fn track(runtime: &Runtime, place: &Place<'_>, sites: &SitesHandle) {
    runtime.block_on(async {
        let store = Store::open(&place.load("").settings.database)
            .await
            .unwrap();
        let app = AppName::parse(APP).unwrap();
        let all: Vec<NewSite> = (0..SITES)
            .map(|n| NewSite {
                site_id: sites.site_id(n),
                app_id: app.clone(),
                url: sites.site_url(n),
                batch_code: None,
                enabled: None,
                labels: None,
            })
            .collect();
        store.import_sites(all).await.unwrap();
        store.close();
    });
}

/// `steady`: the sites go round for a while at about half of full load; then
/// per-second peak over mean and lateness, before and after a restart.
fn steady(runtime: &Runtime, place: &Place<'_>, label: &str) {
    let sites = SitesSim::start(SitesOptions::of(SITES)).unwrap();
    clear(runtime, &place.url, place.schema);
    track(runtime, place, &sites);
    let retry = format!("{STEADY_PERIOD} sec (x1000)");
    let watch = |what: &str, settle: u64| {
        let wait = |periods: u64| {
            std::thread::sleep(Duration::from_secs(STEADY_PERIOD * periods));
        };
        wait(settle);
        let (from, before) = (Timestamp::now(), lateness());
        wait(3);
        let seconds = sites.visits_per_second(from, Timestamp::now());
        // The first and the last one are not whole.
        let whole = &seconds[1..seconds.len() - 1];
        let mean = whole.iter().map(|n| f64::from(*n)).sum::<f64>() / whole.len() as f64;
        let peak = f64::from(*whole.iter().max().unwrap());
        let late = Lateness::between(&before, &lateness());
        println!(
            "{label}, {what}: {mean:.0} visits/s, peak over mean {:.2}, lateness p50 <= {} s, p99 <= {} s, {} MB resident",
            peak / mean,
            late.quantile(0.5),
            late.quantile(0.99),
            resident_mb()
        );
    };
    let running = Running::start(place, &retry);
    watch("settled", STEADY_SETTLE);
    running.stop();
    let running = Running::start(place, &retry);
    watch("after a restart", 1);
    running.stop();
    let stats = sites.stats();
    let gap = sites.min_gap_of_all().map(|(_, _, gap)| gap);
    println!(
        "{label}: {} visits, {} overlaps, the shortest gap between two visits of a site {gap:?}",
        stats.visits, stats.overlaps.count
    );
}

/// Visits by how late they were, cumulated: bound in seconds, count.
struct Lateness(Vec<(f64, f64)>);

impl Lateness {
    fn between(before: &Self, after: &Self) -> Self {
        let of = |bound: f64| {
            let known = before.0.iter().find(|(at, _)| *at == bound);
            known.map_or(0.0, |(_, count)| *count)
        };
        Self(
            after
                .0
                .iter()
                .map(|(bound, count)| (*bound, count - of(*bound)))
                .collect(),
        )
    }

    /// The bucket's bound, which is what the histogram can tell.
    fn quantile(&self, share: f64) -> f64 {
        let all = self.0.last().map_or(0.0, |(_, count)| *count);
        let found = self.0.iter().find(|(_, count)| *count >= share * all);
        found.map_or(f64::NAN, |(bound, _)| *bound)
    }
}

/// The histogram of lateness, as the metrics show it.
fn lateness() -> Lateness {
    let mut buckets: Vec<(f64, f64)> = highwater::telemetry::render_metrics()
        .lines()
        .filter(|line| line.starts_with("highwater_site_lateness_seconds_bucket"))
        .filter_map(|line| {
            let bound = line.split("le=\"").nth(1)?.split('"').next()?;
            let bound = if bound == "+Inf" {
                f64::INFINITY
            } else {
                bound.parse().ok()?
            };
            Some((bound, line.rsplit(' ').next()?.parse().ok()?))
        })
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    Lateness(buckets)
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|kb| kb.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
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
        Store::open(&place.load("").settings.database)
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
