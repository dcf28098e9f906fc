//! What the site flow reads: what is due, and when next. How sites enter is in
//! `sites_schedule.rs`, what visits change in `sites_changes.rs`.

use super::connection::on_backend;
use super::{Store, StoreError};
use crate::flows::sites::{JobKey, RetryPolicy};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use std::ops::RangeInclusive;
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

/// Most pauses of hosts that are kept and read: of more, those that end first,
/// so that hosts with long wishes crowd out none with short ones.
pub const MOST_PAUSES: u32 = 10_000;

/// The answer of a query that counts.
#[derive(QueryableByName)]
pub(super) struct Count {
    /// How many there are.
    #[diesel(sql_type = BigInt)]
    pub(super) count: i64,
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
pub(super) const OF_JOB: &str =
    "p.app_id = $1 AND p.job_name = $2 AND p.batch_code BETWEEN $3 AND $4";

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
pub(super) use of_range;

/// SQLite numbers `$2` by its place in the text, `?2` by its number.
pub(super) fn numbered(sqlite: bool, sql: &str) -> String {
    if sqlite {
        sql.replace('$', "?")
    } else {
        sql.to_owned()
    }
}

/// The time of a column so much later, to the millisecond.
pub(super) fn later(sqlite: bool, column: &str, by: Duration) -> String {
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

    /// Hosts that asked to be left alone beyond `now`, and until when; the
    /// [`MOST_PAUSES`] that end first.
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
                "SELECT host, until_at FROM host_pauses WHERE until_at > $1 \
                 ORDER BY until_at, host LIMIT $2",
            )
            .bind::<SqlTimestamp, _>(now)
            .bind::<BigInt, _>(i64::from(MOST_PAUSES))
            .load(conn)
            .await
        })?;
        Ok(rows
            .into_iter()
            .map(|row| (row.host, row.until_at))
            .collect())
    }
}
