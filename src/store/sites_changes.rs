//! What visits of sites change, written in bulk, and what is kept of it for a
//! while.

use super::changes::{Change, Statement, as_json, sql_time};
use super::connection::in_transaction;
use super::jobs_read::OUTCOME_BUCKET;
use super::sites_due::MOST_PAUSES;
use super::{Store, StoreError};
use crate::flows::sites::{ENTRY, JobKey};
use crate::time::Timestamp;
use diesel::sql_types::{BigInt, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

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

impl Store {
    /// Deletes up to `limit` rows each of pauses that have ended, of pauses
    /// beyond the [`MOST_PAUSES`] that are read, and of outcomes counted before
    /// `before`. Answers how many.
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
                let too_many = diesel::sql_query(
                    "DELETE FROM host_pauses WHERE host IN (SELECT host FROM host_pauses \
                     WHERE until_at > $1 ORDER BY until_at, host LIMIT $2 OFFSET $3)",
                )
                .bind::<SqlTimestamp, _>(now)
                .bind::<BigInt, _>(limit)
                .bind::<BigInt, _>(i64::from(MOST_PAUSES))
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
                Ok::<_, StoreError>(pauses + too_many + outcomes)
            })
        })
        .await
    }
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
        Ok(statements)
    }

    const TELLS_ROWS: bool = true;

    fn last_statement(
        changes: &[&Self],
        rows: &HashSet<i64>,
        sqlite: bool,
    ) -> Result<Option<Statement>, StoreError> {
        outcomes(changes, rows, sqlite)
    }
}

/// The columns of `poll_status`. An outcome that is written again, since nobody
/// knew whether it was, changes nothing: it is known by when its visit began.
fn apply_statement(sqlite: bool, keep: usize) -> String {
    let most = keep.saturating_mul(ENTRY);
    let (source, log, row) = if sqlite {
        (
            "(SELECT value ->> 'seq' AS seq, value ->> 'level' AS level, value ->> 'count' AS count, \
             value ->> 'last_run_at' AS last_run_at, value ->> 'next_due_at' AS next_due_at, \
             value ->> 'given_up_at' AS given_up_at, value ->> 'last_outcome' AS last_outcome, \
             value ->> 'last_error' AS last_error, value ->> 'last_duration_ms' AS last_duration_ms, \
             value ->> 'log' AS log FROM json_each($1)) AS u",
            format!("substr(poll_status.poll_log || u.log, -{most})"),
            "seq",
        )
    } else {
        (
            "json_to_recordset($1::json) AS u (seq bigint, level integer, count integer, \
             last_run_at timestamp(3), next_due_at timestamp(3), given_up_at timestamp(3), \
             last_outcome text, last_error text, last_duration_ms bigint, log text)",
            format!("right(poll_status.poll_log || u.log, {most})"),
            "poll_status.seq AS seq",
        )
    };
    format!(
        "UPDATE poll_status SET level = u.level, count = u.count, last_run_at = u.last_run_at, \
         next_due_at = u.next_due_at, given_up_at = u.given_up_at, last_outcome = u.last_outcome, \
         last_error = u.last_error, last_duration_ms = u.last_duration_ms, \
         poll_log = {log} FROM {source} WHERE poll_status.seq = u.seq \
         AND poll_status.last_run_at IS DISTINCT FROM u.last_run_at RETURNING {row}"
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
        "DELETE FROM poll_results WHERE (status_seq, run_at) IN (SELECT o.status_seq, o.run_at \
         FROM {source} JOIN poll_results o ON o.status_seq = u.seq \
         WHERE o.run_at <= ({} LIMIT 1 OFFSET {keep}))",
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

/// Counts outcomes by job and stretch of time: those whose row changed, so that
/// one that is written again is counted once. The last statement: rows that
/// every transaction changes are locked for a moment only.
fn outcomes(
    changes: &[&SiteChange],
    changed: &HashSet<i64>,
    sqlite: bool,
) -> Result<Option<Statement>, StoreError> {
    let bucket = i64::try_from(OUTCOME_BUCKET.as_millis()).unwrap_or(i64::MAX);
    let mut counts: BTreeMap<(&JobKey, i64), [u64; 2]> = BTreeMap::new();
    for change in changes
        .iter()
        .filter(|change| changed.contains(&change.seq))
    {
        let at = change.last_run_at.unwrap_or_default().millis();
        let of = counts.entry((&change.job, at - at.rem_euclid(bucket)));
        of.or_default()[usize::from(change.last_outcome != "success")] += 1;
    }
    if counts.is_empty() {
        return Ok(None);
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
    Ok(Some(Statement {
        sql: format!(
            "INSERT INTO job_outcomes (app_id, job_name, bucket_at, successes, failures) \
             SELECT u.app_id, u.job_name, u.bucket_at, u.successes, u.failures FROM {source} \
             WHERE TRUE ORDER BY u.app_id, u.job_name, u.bucket_at \
             ON CONFLICT (app_id, job_name, bucket_at) DO UPDATE SET \
             successes = job_outcomes.successes + excluded.successes, \
             failures = job_outcomes.failures + excluded.failures"
        ),
        rows: as_json(&rows)?,
    }))
}
