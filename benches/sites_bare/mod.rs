//! The bare bulk statement against `poll_status`, with the store's durability.

use super::frame::Place;
use super::session::Session;
use highwater::store::Store;
use highwater::time::Timestamp;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Rows in a transaction of the statement.
pub(crate) const GROUP: usize = 2_000;
/// Characters of an entry of the poll log; 280 characters hold 20 polls.
const LOG_ENTRY: usize = 14;
const PERIOD: Duration = Duration::from_secs(60);
/// Due times are spread over this part of the period, as the server has to
/// spread them: equal ones would all go to the end of the index.
const SPREAD: Duration = Duration::from_secs(3);

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
pub(crate) fn bulk(runtime: &Runtime, place: &Place, sites: u32) -> f64 {
    runtime.block_on(async {
        // Brings the schema up to date.
        Store::open(&place.database()).await.unwrap().close();
        let mut session = Session::open(place).await;
        session.batch(insert_statements(session.is_sqlite())).await;
        let statement = if session.is_sqlite() {
            SQLITE_UPDATE
        } else {
            POSTGRES_UPDATE
        };
        let outcomes = outcomes(Timestamp::now(), sites);
        let begun = Instant::now();
        for group in outcomes.chunks(GROUP) {
            let rows = serde_json::to_string(group).unwrap();
            assert_eq!(session.apply(statement, rows).await, group.len());
        }
        f64::from(sites) / begun.elapsed().as_secs_f64()
    })
}

/// One outcome for each site, one of twenty a failure.
fn outcomes(now: Timestamp, sites: u32) -> Vec<Outcome> {
    let last_run_at = now.to_sql_text();
    let spread = u64::try_from(SPREAD.as_millis()).unwrap();
    // A multiplier without a pattern (Knuth's), so that neighbours part.
    let next_due_at = |seq: u32| {
        let at = u64::from(seq.wrapping_mul(2_654_435_761)) % spread;
        let due = now.plus(PERIOD).plus(Duration::from_millis(at));
        due.to_sql_text()
    };
    (1..=sites)
        .map(|seq| {
            let failed = seq % 20 == 0;
            Outcome {
                seq,
                level: 0,
                count: u32::from(failed),
                last_run_at: last_run_at.clone(),
                next_due_at: next_due_at(seq),
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
