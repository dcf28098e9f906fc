//! Which sites are new to a job, how many are overdue, and how sites are put
//! off. How they enter and how due times are corrected, in steps, is in
//! `sites_steps.rs`.

use super::changes::as_json;
use super::connection::on_backend;
use super::sites_due::{Count, JobRange, OF_JOB, numbered, of_range};
use super::{Store, StoreError};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;

/// A site of a range, `s`, without a row for the job.
pub(super) const NEW_SITE: &str = "s.app_id = $1 AND s.batch_code BETWEEN $3 AND $4 AND NOT EXISTS \
    (SELECT 1 FROM poll_status p WHERE p.site_id = s.site_id AND p.job_name = $2)";

/// Sites of a range without a row for the job, numbered from 0 as `n`.
fn new_sites(after: i64) -> String {
    format!(
        "SELECT s.site_id, row_number() OVER (ORDER BY s.seq) - 1 AS n FROM sites s \
         WHERE {NEW_SITE} AND s.seq > {after}"
    )
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = Text)]
    site_id: String,
}

#[derive(QueryableByName)]
pub(super) struct Seq {
    #[diesel(sql_type = BigInt)]
    pub(super) seq: i64,
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

    /// Which of these rows of `poll_status` are not to be visited any more: their
    /// site was disabled or removed.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn sites_gone(&self, seqs: &[i64]) -> Result<Vec<i64>, StoreError> {
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let asked = as_json(&seqs)?;
        let mut lent = self.reader().await?;
        let source = if lent.is_sqlite() {
            "SELECT value AS seq FROM json_each($1)"
        } else {
            "SELECT value::bigint AS seq FROM json_array_elements_text($1::json)"
        };
        let sql = format!(
            "SELECT u.seq FROM ({source}) AS u WHERE NOT EXISTS (SELECT 1 FROM poll_status p \
             JOIN sites s ON s.site_id = p.site_id WHERE p.seq = u.seq AND p.enabled AND s.enabled)"
        );
        let rows: Vec<Seq> = on_backend!(lent, conn => {
            diesel::sql_query(&sql).bind::<Text, _>(&asked).load(conn).await
        })?;
        Ok(rows.into_iter().map(|row| row.seq).collect())
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
