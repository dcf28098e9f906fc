//! How sites enter a job, and how their due times are corrected: what the site
//! flow writes outside of visits.

use super::changes::as_json;
use super::connection::on_backend;
use super::sites_due::{Count, JobRange, OF_JOB, later, numbered, of_range};
use super::{Store, StoreError};
use crate::flows::sites::RetryPolicy;
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use std::time::Duration;

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

/// Sites of a range without a row for the job, numbered from 0 as `n`.
fn new_sites(after: i64) -> String {
    format!(
        "SELECT s.site_id, s.app_id, s.batch_code, s.enabled, \
         row_number() OVER (ORDER BY s.seq) - 1 AS n FROM sites s \
         WHERE s.app_id = $1 AND s.batch_code BETWEEN $3 AND $4 AND s.seq > {after} AND NOT EXISTS \
         (SELECT 1 FROM poll_status p WHERE p.site_id = s.site_id AND p.job_name = $2)"
    )
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = Text)]
    site_id: String,
}

impl Store {
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
        let due = spaced(self.is_sqlite(), step.as_secs_f64() * 1000.0);
        let fresh = new_sites(after);
        let sql = format!(
            "INSERT INTO poll_status (site_id, job_name, app_id, batch_code, enabled, next_due_at) \
             SELECT site_id, $2, app_id, batch_code, enabled, {due} FROM ({fresh}) AS fresh \
             WHERE TRUE ON CONFLICT (site_id, job_name) DO NOTHING"
        );
        self.change_range(range, from, sql).await
    }

    /// Runs a statement on a range, whose last parameter is `from`.
    async fn change_range(
        &self,
        range: &JobRange,
        from: Timestamp,
        sql: String,
    ) -> Result<usize, StoreError> {
        let (store, range) = (self.clone(), range.clone());
        Self::detached(async move {
            let mut lent = store.writer().await?;
            let sqlite = lent.is_sqlite();
            Ok(on_backend!(lent, conn => {
                of_range!(sqlite, sql, range).bind::<SqlTimestamp, _>(from).execute(conn).await
            })?)
        })
        .await
    }

    /// Mends rows of a range that differ from their site: an application may
    /// enable, disable, remove or replace a site at the moment in which it is
    /// made known to a job. Answers how many.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn mend_standings(&self, range: &JobRange) -> Result<usize, StoreError> {
        let (store, range) = (self.clone(), range.clone());
        Self::detached(async move {
            let of_job = OF_JOB.replace("p.", "poll_status.");
            let enabled = format!(
                "UPDATE poll_status SET enabled = s.enabled FROM sites s WHERE {of_job} \
                 AND s.site_id = poll_status.site_id AND s.enabled <> poll_status.enabled"
            );
            let orphans = format!(
                "DELETE FROM poll_status WHERE {of_job} AND NOT EXISTS (SELECT 1 FROM sites s \
                 WHERE s.site_id = poll_status.site_id AND s.app_id = poll_status.app_id \
                 AND s.batch_code = poll_status.batch_code)"
            );
            let mut lent = store.writer().await?;
            let sqlite = lent.is_sqlite();
            let mut mended = 0;
            for sql in [enabled, orphans] {
                mended +=
                    on_backend!(lent, conn => of_range!(sqlite, sql, range).execute(conn).await)?;
            }
            Ok(mended)
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
    /// the period as delay, to where it has them (of a site that was never
    /// visited: now); before that, last visits that lie ahead (the clock was set
    /// back) to now. Due times that lie earlier are found when they come up.
    /// Answers how many were corrected.
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
            let latest = now.plus(policy.level(0).period.mul_f64(delay));
            let never_visited = format!(
                "UPDATE poll_status SET next_due_at = $5 WHERE {of_job} AND given_up_at IS NULL \
                 AND last_run_at IS NULL AND (next_due_at IS NULL OR next_due_at > $6)"
            );
            corrected += on_backend!(lent, conn => {
                of_range!(sqlite, never_visited, range)
                    .bind::<SqlTimestamp, _>(now)
                    .bind::<SqlTimestamp, _>(latest)
                    .execute(conn)
                    .await
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
        let due = spaced(self.is_sqlite(), step.as_secs_f64() * 1000.0);
        let sql = format!(
            "UPDATE poll_status SET next_due_at = {due} FROM (SELECT p.seq, \
             row_number() OVER (ORDER BY p.next_due_at, p.seq) - 1 AS n FROM poll_status p \
             WHERE {OF_JOB} AND p.enabled AND p.next_due_at IS NOT NULL AND p.next_due_at <= $5) AS o \
             WHERE poll_status.seq = o.seq"
        );
        self.change_range(range, from, sql).await
    }

    /// Puts sites off: each is due then, and not before. One that is due later
    /// already stays where it is.
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
                 WHERE poll_status.seq = u.seq AND poll_status.given_up_at IS NULL \
                 AND poll_status.next_due_at < u.at"
            );
            Ok(on_backend!(lent, conn => {
                diesel::sql_query(&sql).bind::<Text, _>(&rows).execute(conn).await
            })?)
        })
        .await
    }
}
