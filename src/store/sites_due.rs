//! What the site flow reads and writes: what is due, how new sites enter, and
//! what visits change.

use super::changes::{Change, Statement, as_json, sql_time};
use super::connection::{in_transaction, on_backend};
use super::jobs_read::OUTCOME_BUCKET;
use super::{Store, StoreError};
use crate::flows::sites::{JobKey, RetryPolicy};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// A site that may be visited for a job, with how it stands.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct DueSite {
    /// The row of `poll_status`.
    #[diesel(sql_type = BigInt)]
    pub seq: i64,
    /// Its id.
    #[diesel(sql_type = Text)]
    pub site_id: String,
    /// Its address, as it was written.
    #[diesel(sql_type = Text)]
    pub url: String,
    /// Its labels: a JSON object.
    #[diesel(sql_type = Text)]
    pub labels: String,
    /// Its batch code.
    #[diesel(sql_type = Integer)]
    pub batch_code: i32,
    /// Level at which it stands.
    #[diesel(sql_type = Integer)]
    pub level: i32,
    /// Failures in a row at this level.
    #[diesel(sql_type = Integer)]
    pub count: i32,
    /// When the last visit began.
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    pub last_run_at: Option<Timestamp>,
    /// When it is due, as the index has it.
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    pub next_due_at: Option<Timestamp>,
}

/// The sites of a job that one runner has: those of these batch codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRange {
    /// The job.
    pub job: JobKey,
    /// Batch codes.
    pub codes: RangeInclusive<u16>,
}

/// What a visit changes. Its JSON, which the bulk statement reads, leaves out
/// what is not set and what other statements write.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SiteChange {
    /// The row of `poll_status`.
    pub seq: i64,
    /// New level.
    pub level: u32,
    /// New count.
    pub count: u32,
    /// When the visit began.
    #[serde(serialize_with = "sql_time")]
    pub last_run_at: Option<Timestamp>,
    /// When it is due again; `None` when it is given up.
    #[serde(serialize_with = "sql_time", skip_serializing_if = "Option::is_none")]
    pub next_due_at: Option<Timestamp>,
    /// When it was given up.
    #[serde(serialize_with = "sql_time", skip_serializing_if = "Option::is_none")]
    pub given_up_at: Option<Timestamp>,
    /// `success` or `failure`.
    pub last_outcome: &'static str,
    /// New `last_error`; `None` clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How long the visit took, in milliseconds.
    pub last_duration_ms: i64,
    /// Entry for the poll log.
    pub log: String,
    /// The job, for its outcomes over time.
    #[serde(skip)]
    pub job: JobKey,
    /// What the handler learned: a JSON document.
    #[serde(skip)]
    pub document: Option<String>,
    /// A host that asked to be left alone, and until when.
    #[serde(skip)]
    pub pause: Option<(Arc<str>, Timestamp)>,
    /// How many polls and documents are kept.
    #[serde(skip)]
    pub keep: usize,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = Text)]
    site_id: String,
}

#[derive(QueryableByName)]
struct At {
    #[diesel(sql_type = SqlTimestamp)]
    at: Timestamp,
}

#[derive(QueryableByName)]
struct Load {
    #[diesel(sql_type = Integer)]
    level: i32,
    #[diesel(sql_type = BigInt)]
    second: i64,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct Pause {
    #[diesel(sql_type = Text)]
    host: String,
    #[diesel(sql_type = SqlTimestamp)]
    until_at: Timestamp,
}

const COLUMNS: &str = "p.seq, p.site_id, s.url, s.labels, p.batch_code, p.level, p.count, \
    p.last_run_at, p.next_due_at FROM poll_status p JOIN sites s ON s.site_id = p.site_id";

/// Worded as the partial index words it.
const OF_JOB: &str = "p.app_id = $1 AND p.job_name = $2 AND p.batch_code BETWEEN $3 AND $4";

/// A query with the four parameters of a job's range bound first.
macro_rules! of_range {
    ($sqlite:expr, $sql:expr, $range:expr) => {
        diesel::sql_query(numbered($sqlite, &$sql))
            .bind::<Text, _>($range.job.app.as_str())
            .bind::<Text, _>(&*$range.job.name)
            .bind::<Integer, _>(i32::from(*$range.codes.start()))
            .bind::<Integer, _>(i32::from(*$range.codes.end()))
    };
}

/// SQLite numbers `$2` by its place in the text, `?2` by its number.
fn numbered(sqlite: bool, sql: &str) -> String {
    if sqlite {
        sql.replace('$', "?")
    } else {
        sql.to_owned()
    }
}

/// A time so many milliseconds after `$5`, by row number `n`.
fn spaced(sqlite: bool, step_ms: f64) -> String {
    if sqlite {
        format!(
            "strftime('%Y-%m-%d %H:%M:%f', $5, '+' || round(n * {step_ms:.6} / 1000.0, 3) || ' seconds')"
        )
    } else {
        format!("($5::timestamp(3) + n * interval '{step_ms:.6} milliseconds')::timestamp(3)")
    }
}

/// The time of a column so much later, to the millisecond.
fn later(sqlite: bool, column: &str, by: Duration) -> String {
    let seconds = by.as_secs_f64();
    if sqlite {
        format!("strftime('%Y-%m-%d %H:%M:%f', {column}, '+{seconds:.3} seconds')")
    } else {
        format!("({column} + interval '{seconds:.3} seconds')")
    }
}

impl Store {
    /// A page of the sites that the index has as due by `now`, behind this due
    /// time and row, in the order of both.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn due_sites(
        &self,
        range: &JobRange,
        now: Timestamp,
        after: (Timestamp, i64),
        limit: i64,
    ) -> Result<Vec<DueSite>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} WHERE {OF_JOB} AND p.enabled AND s.enabled \
             AND p.next_due_at IS NOT NULL AND p.next_due_at <= $5 \
             AND (p.next_due_at, p.seq) > ($6, $7) ORDER BY p.next_due_at, p.seq LIMIT $8"
        );
        let mut lent = self.reader().await?;
        let sqlite = lent.is_sqlite();
        Ok(on_backend!(lent, conn => {
            of_range!(sqlite, sql, range)
                .bind::<SqlTimestamp, _>(now)
                .bind::<SqlTimestamp, _>(after.0)
                .bind::<BigInt, _>(after.1)
                .bind::<BigInt, _>(limit)
                .load(conn)
                .await
        })?)
    }

    /// When the next site of a range becomes due, after `now`.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn next_site_due(
        &self,
        range: &JobRange,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let sql = format!(
            "SELECT p.next_due_at AS at FROM poll_status p WHERE {OF_JOB} AND p.enabled \
             AND p.next_due_at IS NOT NULL AND p.next_due_at > $5 ORDER BY p.next_due_at LIMIT 1"
        );
        let mut lent = self.reader().await?;
        let sqlite = lent.is_sqlite();
        let found: Vec<At> = on_backend!(lent, conn => {
            of_range!(sqlite, sql, range).bind::<SqlTimestamp, _>(now).load(conn).await
        })?;
        Ok(found.into_iter().next().map(|row| row.at))
    }

    /// A page of the sites that are due by the policy itself, whatever the
    /// index says, behind this row, in the order of rows (for a run by hand or
    /// by cron, whose policy may be another than the configured one).
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn sites_due_by_policy(
        &self,
        range: &JobRange,
        policy: &RetryPolicy,
        now: Timestamp,
        after: i64,
        limit: i64,
    ) -> Result<Vec<DueSite>, StoreError> {
        let sqlite = self.is_sqlite();
        let mut due = String::from("p.last_run_at IS NULL");
        let last = policy.levels().len() - 1;
        for (number, level) in policy.levels().iter().enumerate() {
            let is = if number == last { ">=" } else { "=" };
            let ended = later(sqlite, "p.last_run_at", level.period);
            // A last visit that lies ahead counts as now, so it is not due.
            due.push_str(&format!(" OR (p.level {is} {number} AND {ended} <= $5)"));
        }
        let sql = format!(
            "SELECT {COLUMNS} WHERE {OF_JOB} AND p.enabled AND s.enabled \
             AND p.given_up_at IS NULL AND ({due}) AND p.seq > $6 ORDER BY p.seq LIMIT $7"
        );
        let mut lent = self.reader().await?;
        let sqlite = lent.is_sqlite();
        Ok(on_backend!(lent, conn => {
            of_range!(sqlite, sql, range)
                .bind::<SqlTimestamp, _>(now)
                .bind::<BigInt, _>(after)
                .bind::<BigInt, _>(limit)
                .load(conn)
                .await
        })?)
    }

    /// How many sites of a range, of those behind this row of `sites`, were never
    /// seen by their job.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn new_sites(&self, range: &JobRange, after: i64) -> Result<u64, StoreError> {
        let mut lent = self.reader().await?;
        let sqlite = lent.is_sqlite();
        let found: Count = on_backend!(lent, conn => {
            let sql = format!("SELECT count(*) AS count FROM ({}) AS fresh", new_sites(after));
            of_range!(sqlite, sql, range)
                .get_result(conn)
                .await
        })?;
        Ok(u64::try_from(found.count).unwrap_or(0))
    }

    /// Ids of sites of a range that were never seen by their job, behind the
    /// first so many, in the order they were added.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn new_site_ids(
        &self,
        range: &JobRange,
        skip: i64,
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        let mut lent = self.reader().await?;
        let sqlite = lent.is_sqlite();
        let rows: Vec<Id> = on_backend!(lent, conn => {
            let fresh = new_sites(0);
            let sql = format!(
                "SELECT site_id FROM ({fresh}) AS fresh WHERE n >= $5 ORDER BY n LIMIT $6"
            );
            of_range!(sqlite, sql, range)
                .bind::<BigInt, _>(skip)
                .bind::<BigInt, _>(limit)
                .load(conn)
                .await
        })?;
        Ok(rows.into_iter().map(|row| row.site_id).collect())
    }

    /// Makes the sites that a job has never seen, of those behind this row of
    /// `sites`, known to it, due from `from` on, one `step` after the other.
    /// Answers how many there were.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn initialise_sites(
        &self,
        range: &JobRange,
        after: i64,
        from: Timestamp,
        step: Duration,
    ) -> Result<usize, StoreError> {
        let (store, range) = (self.clone(), range.clone());
        Self::detached(async move {
            let due = spaced(store.is_sqlite(), step.as_secs_f64() * 1000.0);
            let fresh = new_sites(after);
            let sql = format!(
                "INSERT INTO poll_status (site_id, job_name, app_id, batch_code, enabled, next_due_at) \
                 SELECT site_id, $2, app_id, batch_code, enabled, {due} FROM ({fresh}) AS fresh \
                 WHERE TRUE ON CONFLICT (site_id, job_name) DO NOTHING"
            );
            let mut lent = store.writer().await?;
            let sqlite = lent.is_sqlite();
            Ok(on_backend!(lent, conn => {
                of_range!(sqlite, sql, range).bind::<SqlTimestamp, _>(from).execute(conn).await
            })?)
        })
        .await
    }

    /// The last row of `sites`; 0 when there is none.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn last_site(&self) -> Result<i64, StoreError> {
        let mut lent = self.reader().await?;
        let last: Count = on_backend!(lent, conn => {
            diesel::sql_query("SELECT COALESCE(max(seq), 0) AS count FROM sites")
                .get_result(conn)
                .await
        })?;
        Ok(last.count)
    }

    /// Brings due times that lie later than the policy allows, with this part of
    /// the period as delay, to where it has them; before that, last visits that
    /// lie ahead (the clock was set back) to now. Due times that lie earlier
    /// are found when they come up. Answers how many were corrected.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn correct_due_times(
        &self,
        range: &JobRange,
        policy: &RetryPolicy,
        delay: f64,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let (store, range, policy) = (self.clone(), range.clone(), policy.clone());
        Self::detached(async move {
            let mut lent = store.writer().await?;
            let sqlite = lent.is_sqlite();
            let of_job = OF_JOB.replace("p.", "");
            let mended = format!(
                "UPDATE poll_status SET last_run_at = $5 WHERE {of_job} AND last_run_at > $5"
            );
            let mut corrected = on_backend!(lent, conn => {
                of_range!(sqlite, mended, range).bind::<SqlTimestamp, _>(now).execute(conn).await
            })?;
            let last = policy.levels().len() - 1;
            for (number, level) in policy.levels().iter().enumerate() {
                let is = if number == last { ">=" } else { "=" };
                let due = later(sqlite, "last_run_at", level.period);
                let latest = later(sqlite, "last_run_at", level.period.mul_f64(1.0 + delay));
                let sql = format!(
                    "UPDATE poll_status SET next_due_at = {due} WHERE {of_job} \
                     AND level {is} {number} AND given_up_at IS NULL AND last_run_at IS NOT NULL \
                     AND (next_due_at IS NULL OR next_due_at > {latest})"
                );
                corrected += on_backend!(lent, conn => {
                    of_range!(sqlite, sql, range).execute(conn).await
                })?;
            }
            Ok(corrected)
        })
        .await
    }

    /// How many sites of a range are due by `now`.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn overdue_sites(&self, range: &JobRange, now: Timestamp) -> Result<u64, StoreError> {
        let sql = format!(
            "SELECT count(*) AS count FROM poll_status p WHERE {OF_JOB} AND p.enabled \
             AND p.next_due_at IS NOT NULL AND p.next_due_at <= $5"
        );
        let mut lent = self.reader().await?;
        let sqlite = lent.is_sqlite();
        let found: Count = on_backend!(lent, conn => {
            of_range!(sqlite, sql, range).bind::<SqlTimestamp, _>(now).get_result(conn).await
        })?;
        Ok(u64::try_from(found.count).unwrap_or(0))
    }

    /// Spaces what is due by `from` one `step` after the other, in the order it
    /// became due.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn space_overdue_sites(
        &self,
        range: &JobRange,
        from: Timestamp,
        step: Duration,
    ) -> Result<usize, StoreError> {
        let (store, range) = (self.clone(), range.clone());
        Self::detached(async move {
            let due = spaced(store.is_sqlite(), step.as_secs_f64() * 1000.0);
            let sql = format!(
                "UPDATE poll_status SET next_due_at = {due} FROM (SELECT p.seq, \
                 row_number() OVER (ORDER BY p.next_due_at, p.seq) - 1 AS n FROM poll_status p \
                 WHERE {OF_JOB} AND p.enabled AND p.next_due_at IS NOT NULL AND p.next_due_at <= $5) AS o \
                 WHERE poll_status.seq = o.seq"
            );
            let mut lent = store.writer().await?;
            let sqlite = lent.is_sqlite();
            Ok(on_backend!(lent, conn => {
                of_range!(sqlite, sql, range).bind::<SqlTimestamp, _>(from).execute(conn).await
            })?)
        })
        .await
    }

    /// How many sites of a range are due at which level in which second (since
    /// 1970), from `now` on: level, second, count.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn sites_due_by_second(
        &self,
        range: &JobRange,
        now: Timestamp,
    ) -> Result<Vec<(u32, i64, u32)>, StoreError> {
        let second = if self.is_sqlite() {
            "CAST(strftime('%s', p.next_due_at) AS INTEGER)"
        } else {
            "floor(extract(epoch FROM p.next_due_at))::bigint"
        };
        let sql = format!(
            "SELECT p.level, {second} AS second, count(*) AS count FROM poll_status p WHERE {OF_JOB} \
             AND p.enabled AND p.next_due_at IS NOT NULL AND p.next_due_at > $5 GROUP BY 1, 2"
        );
        let mut lent = self.reader().await?;
        let sqlite = lent.is_sqlite();
        let rows: Vec<Load> = on_backend!(lent, conn => {
            of_range!(sqlite, sql, range).bind::<SqlTimestamp, _>(now).load(conn).await
        })?;
        let count = |row: Load| {
            let level = u32::try_from(row.level).unwrap_or(0);
            (
                level,
                row.second,
                u32::try_from(row.count).unwrap_or(u32::MAX),
            )
        };
        Ok(rows.into_iter().map(count).collect())
    }

    /// Puts sites off: each is due then, and not before.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn put_sites_off(&self, sites: Vec<(i64, Timestamp)>) -> Result<usize, StoreError> {
        let store = self.clone();
        Self::detached(async move {
            let rows: Vec<_> = sites
                .iter()
                .map(|(seq, at)| serde_json::json!({ "seq": seq, "at": at.to_sql_text() }))
                .collect();
            let rows = as_json(&rows)?;
            let mut lent = store.writer().await?;
            let source = if lent.is_sqlite() {
                "(SELECT value ->> 'seq' AS seq, value ->> 'at' AS at FROM json_each($1))"
            } else {
                "json_to_recordset($1::json)"
            };
            let columns = if lent.is_sqlite() {
                ""
            } else {
                " (seq bigint, at timestamp(3))"
            };
            let sql = format!(
                "UPDATE poll_status SET next_due_at = u.at FROM {source} AS u{columns} \
                 WHERE poll_status.seq = u.seq AND poll_status.given_up_at IS NULL"
            );
            Ok(on_backend!(lent, conn => {
                diesel::sql_query(&sql).bind::<Text, _>(&rows).execute(conn).await
            })?)
        })
        .await
    }

    /// Hosts that asked to be left alone beyond `now`, and until when.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn host_pauses(
        &self,
        now: Timestamp,
    ) -> Result<Vec<(String, Timestamp)>, StoreError> {
        let mut lent = self.reader().await?;
        let rows: Vec<Pause> = on_backend!(lent, conn => {
            diesel::sql_query(
                "SELECT host, until_at FROM host_pauses WHERE until_at > $1 ORDER BY until_at LIMIT 100000",
            )
            .bind::<SqlTimestamp, _>(now)
            .load(conn)
            .await
        })?;
        Ok(rows
            .into_iter()
            .map(|row| (row.host, row.until_at))
            .collect())
    }

    /// Deletes up to `limit` rows each of pauses that have ended and of
    /// outcomes counted before `before`. Answers how many.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn prune_sites(
        &self,
        now: Timestamp,
        before: Timestamp,
        limit: i64,
    ) -> Result<usize, StoreError> {
        let store = self.clone();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                let pauses = diesel::sql_query(
                    "DELETE FROM host_pauses WHERE host IN \
                     (SELECT host FROM host_pauses WHERE until_at <= $1 LIMIT $2)",
                )
                .bind::<SqlTimestamp, _>(now)
                .bind::<BigInt, _>(limit)
                .execute(conn)
                .await?;
                let outcomes = diesel::sql_query(
                    "DELETE FROM job_outcomes WHERE (app_id, job_name, bucket_at) IN \
                     (SELECT app_id, job_name, bucket_at FROM job_outcomes WHERE bucket_at < $1 LIMIT $2)",
                )
                .bind::<SqlTimestamp, _>(before)
                .bind::<BigInt, _>(limit)
                .execute(conn)
                .await?;
                Ok::<_, StoreError>(pauses + outcomes)
            })
        })
        .await
    }
}

/// Sites of a range without a row for the job, numbered from 0 as `n`.
fn new_sites(after: i64) -> String {
    format!(
        "SELECT s.site_id, s.app_id, s.batch_code, s.enabled, \
         row_number() OVER (ORDER BY s.seq) - 1 AS n FROM sites s \
         WHERE s.app_id = $1 AND s.batch_code BETWEEN $3 AND $4 AND s.seq > {after} AND NOT EXISTS \
         (SELECT 1 FROM poll_status p WHERE p.site_id = s.site_id AND p.job_name = $2)"
    )
}

impl Change for SiteChange {
    fn statements(changes: &[&Self], sqlite: bool) -> Result<Vec<Statement>, StoreError> {
        let keep = changes.iter().map(|change| change.keep).max().unwrap_or(1);
        let mut statements = vec![Statement {
            sql: apply_statement(sqlite, keep),
            rows: as_json(&changes)?,
        }];
        statements.extend(documents(changes, sqlite, keep)?);
        statements.extend(pauses(changes, sqlite)?);
        statements.push(outcomes(changes, sqlite)?);
        Ok(statements)
    }
}

fn apply_statement(sqlite: bool, keep: usize) -> String {
    let most = keep.saturating_mul(crate::flows::sites::ENTRY);
    let (source, log) = if sqlite {
        (
            "(SELECT value ->> 'seq' AS seq, value ->> 'level' AS level, value ->> 'count' AS count, \
             value ->> 'last_run_at' AS last_run_at, value ->> 'next_due_at' AS next_due_at, \
             value ->> 'given_up_at' AS given_up_at, value ->> 'last_outcome' AS last_outcome, \
             value ->> 'last_error' AS last_error, value ->> 'last_duration_ms' AS last_duration_ms, \
             value ->> 'log' AS log FROM json_each($1)) AS u",
            format!("substr(poll_status.poll_log || u.log, -{most})"),
        )
    } else {
        (
            "json_to_recordset($1::json) AS u (seq bigint, level integer, count integer, \
             last_run_at timestamp(3), next_due_at timestamp(3), given_up_at timestamp(3), \
             last_outcome text, last_error text, last_duration_ms bigint, log text)",
            format!("right(poll_status.poll_log || u.log, {most})"),
        )
    };
    format!(
        "UPDATE poll_status SET level = u.level, count = u.count, last_run_at = u.last_run_at, \
         next_due_at = u.next_due_at, given_up_at = u.given_up_at, last_outcome = u.last_outcome, \
         last_error = u.last_error, last_duration_ms = u.last_duration_ms, poll_log = {log} \
         FROM {source} WHERE poll_status.seq = u.seq"
    )
}

/// Documents that differ from the newest one that is kept, and the removal of
/// those that are too many.
fn documents(
    changes: &[&SiteChange],
    sqlite: bool,
    keep: usize,
) -> Result<Vec<Statement>, StoreError> {
    let learned: Vec<_> = changes
        .iter()
        .filter_map(|change| {
            let at = change.last_run_at?.to_sql_text();
            Some(serde_json::json!({ "seq": change.seq, "at": at, "document": change.document.as_ref()? }))
        })
        .collect();
    if learned.is_empty() {
        return Ok(Vec::new());
    }
    let rows = as_json(&learned)?;
    let source = if sqlite {
        "(SELECT value ->> 'seq' AS seq, value ->> 'at' AS at, value ->> 'document' AS document \
         FROM json_each($1)) AS u"
    } else {
        "json_to_recordset($1::json) AS u (seq bigint, at timestamp(3), document text)"
    };
    let newest = |of: &str| {
        format!(
            "SELECT r.{of} FROM poll_results r WHERE r.status_seq = u.seq ORDER BY r.run_at DESC"
        )
    };
    let insert = format!(
        "INSERT INTO poll_results (status_seq, run_at, document) \
         SELECT u.seq, u.at, u.document FROM {source} \
         WHERE EXISTS (SELECT 1 FROM poll_status p WHERE p.seq = u.seq) \
         AND u.document IS DISTINCT FROM ({} LIMIT 1) \
         ON CONFLICT (status_seq, run_at) DO NOTHING",
        newest("document")
    );
    let delete = format!(
        "DELETE FROM poll_results WHERE EXISTS (SELECT 1 FROM {source} \
         WHERE u.seq = poll_results.status_seq AND poll_results.run_at <= ({} LIMIT 1 OFFSET {keep}))",
        newest("run_at")
    );
    let statement = |sql| Statement {
        sql,
        rows: rows.clone(),
    };
    Ok(vec![statement(insert), statement(delete)])
}

fn pauses(changes: &[&SiteChange], sqlite: bool) -> Result<Option<Statement>, StoreError> {
    // In the order of hosts, so that two servers cannot deadlock.
    let mut hosts: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for (host, until) in changes.iter().filter_map(|change| change.pause.as_ref()) {
        let known = hosts.entry(host).or_insert(*until);
        *known = (*known).max(*until);
    }
    if hosts.is_empty() {
        return Ok(None);
    }
    let rows: Vec<_> = hosts
        .iter()
        .map(|(host, until)| serde_json::json!({ "host": host, "until_at": until.to_sql_text() }))
        .collect();
    let source = if sqlite {
        "(SELECT value ->> 'host' AS host, value ->> 'until_at' AS until_at FROM json_each($1)) AS u"
    } else {
        "json_to_recordset($1::json) AS u (host text, until_at timestamp(3))"
    };
    Ok(Some(Statement {
        sql: format!(
            "INSERT INTO host_pauses (host, until_at) SELECT u.host, u.until_at FROM {source} \
             WHERE TRUE ORDER BY u.host ON CONFLICT (host) DO UPDATE SET until_at = excluded.until_at \
             WHERE excluded.until_at > host_pauses.until_at"
        ),
        rows: as_json(&rows)?,
    }))
}

/// Counts outcomes by job and stretch of time. The last statement: rows that
/// every transaction changes are locked for a moment only.
fn outcomes(changes: &[&SiteChange], sqlite: bool) -> Result<Statement, StoreError> {
    let bucket = i64::try_from(OUTCOME_BUCKET.as_millis()).unwrap_or(i64::MAX);
    let mut counts: BTreeMap<(&JobKey, i64), [u64; 2]> = BTreeMap::new();
    for change in changes {
        let at = change.last_run_at.unwrap_or_default().millis();
        let of = counts.entry((&change.job, at - at.rem_euclid(bucket)));
        of.or_default()[usize::from(change.last_outcome != "success")] += 1;
    }
    let rows: Vec<_> = counts
        .iter()
        .map(|((job, at), [successes, failures])| {
            serde_json::json!({
                "app_id": job.app.as_str(), "job_name": &*job.name, "successes": successes,
                "bucket_at": Timestamp::from_millis(*at).to_sql_text(), "failures": failures,
            })
        })
        .collect();
    let source = if sqlite {
        "(SELECT value ->> 'app_id' AS app_id, value ->> 'job_name' AS job_name, \
         value ->> 'bucket_at' AS bucket_at, value ->> 'successes' AS successes, \
         value ->> 'failures' AS failures FROM json_each($1)) AS u"
    } else {
        "json_to_recordset($1::json) AS u (app_id text, job_name text, bucket_at timestamp(3), \
         successes bigint, failures bigint)"
    };
    Ok(Statement {
        sql: format!(
            "INSERT INTO job_outcomes (app_id, job_name, bucket_at, successes, failures) \
             SELECT u.app_id, u.job_name, u.bucket_at, u.successes, u.failures FROM {source} \
             WHERE TRUE ORDER BY u.app_id, u.job_name, u.bucket_at \
             ON CONFLICT (app_id, job_name, bucket_at) DO UPDATE SET \
             successes = job_outcomes.successes + excluded.successes, \
             failures = job_outcomes.failures + excluded.failures"
        ),
        rows: as_json(&rows)?,
    })
}
