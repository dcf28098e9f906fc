//! Rows of our own tables as entries of a dataset: their public columns.

use super::StoreError;
use super::changes::as_json;
use super::connection::{Connection, on_backend};
use super::datasets_source_keys::SourceKey;
use super::datasets_source_triggers::{key_of, tables};
use super::events_rows::source as table_of;
use crate::config::DatasetSource;
use crate::flows::replicas::Entry;
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

#[derive(QueryableByName, Serialize)]
struct BatchEntry {
    #[diesel(sql_type = Text)]
    ledger: String,
    #[diesel(sql_type = Text)]
    service_id: String,
    #[diesel(sql_type = Text)]
    batch_id: String,
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Text)]
    #[serde(serialize_with = "as_value")]
    invalid_transactions: String,
    #[diesel(sql_type = SqlTimestamp)]
    submitted_at: Timestamp,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    last_polled_at: Option<Timestamp>,
    #[diesel(sql_type = Integer)]
    polls: i32,
    #[diesel(sql_type = Integer)]
    unknowns: i32,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    next_poll_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    settled_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    last_error: Option<String>,
}

#[derive(QueryableByName, Serialize)]
struct SiteEntry {
    #[diesel(sql_type = Text)]
    app_id: String,
    #[diesel(sql_type = Text)]
    site_id: String,
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Text)]
    url: String,
    #[diesel(sql_type = Integer)]
    batch_code: i32,
    #[diesel(sql_type = Bool)]
    enabled: bool,
    #[diesel(sql_type = Text)]
    #[serde(serialize_with = "as_value")]
    labels: String,
    #[diesel(sql_type = SqlTimestamp)]
    created_at: Timestamp,
}

/// A site with its rows of `poll_status`, by job.
#[derive(Serialize)]
struct SiteWithJobs {
    #[serde(flatten)]
    site: SiteEntry,
    jobs: Vec<JobEntry>,
}

#[derive(QueryableByName, Serialize)]
struct JobEntry {
    #[diesel(sql_type = Text)]
    #[serde(skip)]
    site_id: String,
    #[diesel(sql_type = Text)]
    job_name: String,
    #[diesel(sql_type = Integer)]
    level: i32,
    #[diesel(sql_type = Integer)]
    count: i32,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    last_run_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    next_due_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    last_outcome: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    last_error: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last_duration_ms: Option<i64>,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    given_up_at: Option<Timestamp>,
}

#[derive(QueryableByName, Serialize)]
struct EventEntry {
    #[diesel(sql_type = Text)]
    subscription: String,
    #[diesel(sql_type = BigInt)]
    block: i64,
    #[diesel(sql_type = Text)]
    tx_id: String,
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(sql_type = BigInt)]
    arrival: i64,
    #[diesel(sql_type = Text)]
    event_name: String,
    #[diesel(sql_type = Text)]
    #[serde(serialize_with = "as_value")]
    payload: String,
    #[diesel(sql_type = SqlTimestamp)]
    received_at: Timestamp,
    #[diesel(sql_type = Text)]
    decision: String,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    processed_at: Option<Timestamp>,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Nullable<Text>)]
    last_error: Option<String>,
}

/// A column that holds JSON; applications write some of them, and what is no
/// JSON is shown as text.
fn as_value<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => value.serialize(serializer),
        Err(_) => serializer.serialize_str(text),
    }
}

/// The rows of these keys, as `t`, where `$1` has what [`asked`] makes of them.
fn from_asked(source: DatasetSource, sqlite: bool) -> String {
    let ((table, columns), _) = tables(source);
    let typed: Vec<(&str, &str)> = columns
        .iter()
        .map(|column| (*column, if *column == "block" { "bigint" } else { "text" }))
        .collect();
    let joined: Vec<String> = columns
        .iter()
        .map(|column| format!("t.{column} = u.{column}"))
        .collect();
    format!(
        "FROM {} JOIN {table} t ON {}",
        table_of(sqlite, &typed),
        joined.join(" AND ")
    )
}

/// Keys as the parameter of a query.
fn asked(source: DatasetSource, keys: &BTreeMap<String, SourceKey>) -> Result<String, StoreError> {
    let ((_, columns), _) = tables(source);
    let asked: Vec<HashMap<&str, &Value>> = keys
        .values()
        .filter_map(|key| match key {
            SourceKey::Columns(values) => Some(columns.iter().copied().zip(values).collect()),
            SourceKey::Lost(_) => None,
        })
        .collect();
    as_json(&asked)
}

#[derive(QueryableByName)]
struct Sized {
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = BigInt)]
    size: i64,
}

/// Bytes that the rows of these keys take about, by the columns that can be
/// large; none of those is read.
pub(super) async fn sizes(
    conn: &mut Connection<'_>,
    source: DatasetSource,
    keys: &BTreeMap<String, SourceKey>,
) -> Result<BTreeMap<String, usize>, StoreError> {
    let sqlite = conn.is_sqlite();
    let large = match source {
        DatasetSource::Batches => {
            "400 + octet_length(t.invalid_transactions) + coalesce(octet_length(t.last_error), 0)"
        }
        DatasetSource::Sites => {
            "200 + octet_length(t.url) + octet_length(t.labels) + (SELECT coalesce(sum(200 + \
             coalesce(octet_length(s.last_error), 0)), 0) FROM poll_status s \
             WHERE s.site_id = t.site_id)"
        }
        DatasetSource::Events => {
            "400 + octet_length(t.payload) + coalesce(octet_length(t.last_error), 0)"
        }
    };
    let ((_, columns), _) = tables(source);
    let sql = format!(
        "SELECT {} AS key, CAST({large} AS BIGINT) AS size {}",
        key_of("t", columns, sqlite),
        from_asked(source, sqlite)
    );
    let asked = asked(source, keys)?;
    let rows: Vec<Sized> = on_backend!(conn, c => {
        diesel::sql_query(&sql).bind::<Text, _>(&asked).load(c).await
    })?;
    let sized = |row: Sized| {
        let key = SourceKey::noted(&row.key, source).text();
        (key, usize::try_from(row.size).unwrap_or(0))
    };
    Ok(rows.into_iter().map(sized).collect())
}

/// The rows of these keys that are there, as entries by key.
pub(super) async fn present(
    conn: &mut Connection<'_>,
    source: DatasetSource,
    keys: &BTreeMap<String, SourceKey>,
) -> Result<HashMap<String, Entry>, StoreError> {
    let sql = format!("SELECT t.* {}", from_asked(source, conn.is_sqlite()));
    let asked = asked(source, keys)?;
    match source {
        DatasetSource::Batches => {
            let rows: Vec<BatchEntry> = on_backend!(conn, c => {
                diesel::sql_query(&sql).bind::<Text, _>(&asked).load(c).await
            })?;
            let key = |row: &BatchEntry| {
                vec![
                    Value::from(row.ledger.as_str()),
                    Value::from(row.service_id.as_str()),
                    Value::from(row.batch_id.as_str()),
                ]
            };
            rows.iter().map(|row| entry(key(row), row)).collect()
        }
        DatasetSource::Sites => {
            let rows: Vec<SiteEntry> = on_backend!(conn, c => {
                diesel::sql_query(&sql).bind::<Text, _>(&asked).load(c).await
            })?;
            let mut jobs = jobs_of(conn, &rows).await?;
            let with_jobs = |site: SiteEntry| SiteWithJobs {
                jobs: jobs.remove(&site.site_id).unwrap_or_default(),
                site,
            };
            let rows: Vec<SiteWithJobs> = rows.into_iter().map(with_jobs).collect();
            let key = |row: &SiteWithJobs| {
                vec![
                    Value::from(row.site.app_id.as_str()),
                    Value::from(row.site.site_id.as_str()),
                ]
            };
            rows.iter().map(|row| entry(key(row), row)).collect()
        }
        DatasetSource::Events => {
            let rows: Vec<EventEntry> = on_backend!(conn, c => {
                diesel::sql_query(&sql).bind::<Text, _>(&asked).load(c).await
            })?;
            let key = |row: &EventEntry| {
                vec![
                    Value::from(row.subscription.as_str()),
                    Value::from(row.block),
                    Value::from(row.tx_id.as_str()),
                    Value::from(row.event_id.as_str()),
                ]
            };
            rows.iter().map(|row| entry(key(row), row)).collect()
        }
    }
}

fn entry<T: Serialize>(columns: Vec<Value>, row: &T) -> Result<(String, Entry), StoreError> {
    let key = SourceKey::Columns(columns).text();
    let value = as_json(row)?;
    Ok((key.clone(), Entry { key, value }))
}

/// Rows of `poll_status` by site, in the order of jobs.
async fn jobs_of(
    conn: &mut Connection<'_>,
    sites: &[SiteEntry],
) -> Result<HashMap<String, Vec<JobEntry>>, StoreError> {
    let asked: Vec<&str> = sites.iter().map(|site| site.site_id.as_str()).collect();
    let sql = format!(
        "SELECT site_id, job_name, level, count, last_run_at, next_due_at, last_outcome, \
         last_error, last_duration_ms, given_up_at FROM poll_status WHERE site_id {} \
         ORDER BY site_id, job_name",
        super::datasets_rows::texts(conn.is_sqlite())
    );
    let asked = as_json(&asked)?;
    let rows: Vec<JobEntry> = on_backend!(conn, c => {
        diesel::sql_query(&sql).bind::<Text, _>(&asked).load(c).await
    })?;
    let mut jobs: HashMap<String, Vec<JobEntry>> = HashMap::new();
    for row in rows {
        jobs.entry(row.site_id.clone()).or_default().push(row);
    }
    Ok(jobs)
}
