//! Rows of our own tables as entries of a dataset: their public columns.

use super::StoreError;
use super::changes::as_json;
use super::connection::{Connection, on_backend};
use super::datasets_source_triggers::tables;
use super::events_rows::source as table_of;
use crate::config::DatasetSource;
use crate::flows::replicas::{Entry, LONGEST_DATASET_KEY};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use serde::{Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

/// The key of a row: its columns, or what stands for them where they are not
/// known any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourceKey {
    /// Values of the key's columns.
    Columns(Vec<Value>),
    /// A key that the dataset has, of which no columns can be read.
    Lost(String),
}

impl SourceKey {
    /// Reads what was noted: a list of columns, or a key of the dataset.
    pub(super) fn noted(noted: &str, source: DatasetSource) -> Self {
        match serde_json::from_str(noted) {
            Ok(Value::Array(columns)) => Self::Columns(columns),
            Ok(Value::String(key)) => Self::read(key, source),
            _ => Self::Lost(noted.to_owned()),
        }
    }

    fn read(key: String, source: DatasetSource) -> Self {
        let ((_, columns), _) = tables(source);
        let parts: Vec<&str> = key.split('/').collect();
        if parts.len() != columns.len() {
            return Self::Lost(key);
        }
        let mut values = Vec::with_capacity(parts.len());
        for (part, column) in parts.iter().zip(columns) {
            let value = match (*column, part.parse::<i64>()) {
                ("block", Ok(block)) => Value::from(block),
                ("block", Err(_)) => return Self::Lost(key),
                _ => Value::from(unescape(part)),
            };
            values.push(value);
        }
        let read = Self::Columns(values);
        // A shortened key reads as something else than it was made of.
        if read.text() == key {
            read
        } else {
            Self::Lost(key)
        }
    }

    /// The dataset's key: the columns, with `/` between them. What cannot stand
    /// there is percent-encoded; of what is too long the rest is a hash.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Lost(key) => key.clone(),
            Self::Columns(columns) => {
                let part = |column: &Value| match column {
                    Value::String(text) => escape(text),
                    other => other.to_string(),
                };
                let parts: Vec<String> = columns.iter().map(part).collect();
                shortened(parts.join("/"))
            }
        }
    }
}

fn escape(text: &str) -> String {
    let text = text.replace('%', "%25").replace('/', "%2F");
    text.replace('\0', "%00")
}

fn unescape(text: &str) -> String {
    let text = text.replace("%2F", "/").replace("%00", "\0");
    text.replace("%25", "%")
}

fn shortened(key: String) -> String {
    if key.len() <= LONGEST_DATASET_KEY {
        return key;
    }
    let mut hash = String::from("#");
    for byte in Sha256::digest(key.as_bytes()) {
        // Writing to a string cannot fail.
        write!(hash, "{byte:02x}").unwrap_or_default();
    }
    let mut end = LONGEST_DATASET_KEY - hash.len();
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    let begin = key.get(..end).unwrap_or_default();
    format!("{begin}{hash}")
}

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

/// The rows of these keys that are there, as entries by key.
pub(super) async fn present(
    conn: &mut Connection<'_>,
    source: DatasetSource,
    keys: &BTreeMap<String, SourceKey>,
) -> Result<HashMap<String, Entry>, StoreError> {
    let ((table, columns), _) = tables(source);
    let asked: Vec<HashMap<&str, &Value>> = keys
        .values()
        .filter_map(|key| match key {
            SourceKey::Columns(values) => Some(columns.iter().copied().zip(values).collect()),
            SourceKey::Lost(_) => None,
        })
        .collect();
    let typed: Vec<(&str, &str)> = columns
        .iter()
        .map(|column| (*column, if *column == "block" { "bigint" } else { "text" }))
        .collect();
    let joined: Vec<String> = columns
        .iter()
        .map(|column| format!("t.{column} = u.{column}"))
        .collect();
    let sql = format!(
        "SELECT t.* FROM {} JOIN {table} t ON {}",
        table_of(conn.is_sqlite(), &typed),
        joined.join(" AND ")
    );
    let asked = as_json(&asked)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_made() {
        let columns = vec![Value::from("a/b%2F"), Value::from(""), Value::from("ü")];
        let key = SourceKey::Columns(columns);
        assert_eq!(key.text(), "a%2Fb%252F//ü");
        let noted = serde_json::to_string(&key.text()).unwrap();
        assert_eq!(SourceKey::noted(&noted, DatasetSource::Batches), key);
    }

    #[test]
    fn a_key_that_is_too_long_ends_in_a_hash() {
        let columns = |last: &str| {
            let long = "ä".repeat(1000);
            SourceKey::Columns(vec![Value::from("l"), Value::from(long), Value::from(last)])
        };
        let (one, other) = (columns("1").text(), columns("2").text());
        assert_ne!(one, other);
        assert!(one.len() <= LONGEST_DATASET_KEY);
        let noted = serde_json::to_string(&one).unwrap();
        assert_eq!(
            SourceKey::noted(&noted, DatasetSource::Batches),
            SourceKey::Lost(one)
        );
    }
}
