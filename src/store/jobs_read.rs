//! What pages, API and metrics read of jobs: counts of their sites, outcomes
//! over time, leases of their shards.

use super::connection::on_backend;
use super::schema::host_pauses;
use super::{AppSites, Store, StoreError};
use crate::flows::sites::JobKey;
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Span of a row of `job_outcomes`; its `bucket_at` is a multiple of it.
pub const OUTCOME_BUCKET: Duration = Duration::from_secs(600);

/// How far back outcomes are read.
pub const OUTCOMES_SHOWN: Duration = Duration::from_secs(86_400);

/// Most jobs and levels read; anyone who may insert rows can make names.
const MOST_GROUPS: i64 = 5000;

/// Most leases read, of all jobs; one job has 10,000 shards at most.
const MOST_LEASES: i64 = 20_000;

/// Counts of one job's sites, from the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobSummary {
    /// Sites of the app that are enabled.
    pub enabled: i64,
    /// Sites of the app that are not.
    pub disabled: i64,
    /// Enabled sites that were never visited by the job.
    pub never_visited: i64,
    /// Enabled sites whose last visit went well.
    pub well: i64,
    /// Enabled sites whose last visit failed, given up ones aside.
    pub failing: i64,
    /// Enabled sites that were given up.
    pub given_up: i64,
    /// Enabled sites that were visited and not given up, by level.
    pub levels: BTreeMap<i32, i64>,
    /// Enabled sites that are due.
    pub due: i64,
    /// Since when the oldest due site is due.
    pub oldest_due_at: Option<Timestamp>,
    /// Enabled sites that the job has not seen yet.
    pub unseen: i64,
    /// Since when the first enabled site is there, while the job has seen none.
    pub unseen_since: Option<Timestamp>,
}

/// Visits of a job in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Outcomes {
    /// Visits that went well.
    pub successes: i64,
    /// Visits that failed.
    pub failures: i64,
}

/// Visits of a job in the ten minutes from a time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, QueryableByName, utoipa::ToSchema)]
pub struct OutcomeBucket {
    /// When the ten minutes begin.
    #[diesel(sql_type = SqlTimestamp)]
    #[schema(value_type = String, format = DateTime)]
    pub bucket_at: Timestamp,
    /// Visits that went well.
    #[diesel(sql_type = BigInt)]
    pub successes: i64,
    /// Visits that failed.
    #[diesel(sql_type = BigInt)]
    pub failures: i64,
}

/// A lease on a range of a job's batch codes that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct JobLease {
    /// Name: `sites:APP/JOB:LO-HI`.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Who holds it: a server, or a run of the command line.
    #[diesel(sql_type = Text)]
    pub holder: String,
    /// Since when, where that is known.
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    pub acquired_at: Option<Timestamp>,
}

#[derive(QueryableByName)]
struct LevelCount {
    #[diesel(sql_type = Text)]
    app_id: String,
    #[diesel(sql_type = Text)]
    job_name: String,
    #[diesel(sql_type = Integer)]
    level: i32,
    #[diesel(sql_type = BigInt)]
    known: i64,
    #[diesel(sql_type = BigInt)]
    never_visited: i64,
    #[diesel(sql_type = BigInt)]
    well: i64,
    #[diesel(sql_type = BigInt)]
    failing: i64,
    #[diesel(sql_type = BigInt)]
    given_up: i64,
    #[diesel(sql_type = BigInt)]
    due: i64,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    oldest_due_at: Option<Timestamp>,
}

/// One scan for all jobs. Each enabled site is in one of `never_visited`,
/// `well`, `failing` and `given_up`.
const LEVELS: &str = "SELECT app_id, job_name, level, count(*) AS known, \
    sum(CASE WHEN given_up_at IS NULL AND last_run_at IS NULL THEN 1 ELSE 0 END) AS never_visited, \
    sum(CASE WHEN given_up_at IS NULL AND last_run_at IS NOT NULL AND last_outcome = 'success' THEN 1 ELSE 0 END) AS well, \
    sum(CASE WHEN given_up_at IS NULL AND last_run_at IS NOT NULL AND COALESCE(last_outcome, '') <> 'success' THEN 1 ELSE 0 END) AS failing, \
    sum(CASE WHEN given_up_at IS NOT NULL THEN 1 ELSE 0 END) AS given_up, \
    sum(CASE WHEN next_due_at <= $1 THEN 1 ELSE 0 END) AS due, \
    min(CASE WHEN next_due_at <= $1 THEN next_due_at END) AS oldest_due_at \
    FROM poll_status WHERE enabled \
    GROUP BY app_id, job_name, level ORDER BY app_id, job_name, level LIMIT $2";

impl Outcomes {
    /// The share of visits that went well, 0 to 1; `None` when there were none.
    pub fn success_rate(self) -> Option<f64> {
        let visits = self.successes + self.failures;
        (visits > 0).then(|| self.successes as f64 / visits as f64)
    }
}

impl Store {
    /// Counts per job (app, name): of the `configured` ones, sites or none, and
    /// of every other that has visited sites. Reads both tables whole: cache
    /// the answer.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn summarize_jobs(
        &self,
        configured: &[JobKey],
        now: Timestamp,
    ) -> Result<BTreeMap<(String, String), JobSummary>, StoreError> {
        let apps = self.sites_by_app().await?;
        self.summarize_jobs_of(&apps, configured, now).await
    }

    /// As [`summarize_jobs`](Self::summarize_jobs), where the sites of each app
    /// were just counted.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn summarize_jobs_of(
        &self,
        apps: &[AppSites],
        configured: &[JobKey],
        now: Timestamp,
    ) -> Result<BTreeMap<(String, String), JobSummary>, StoreError> {
        let mut lent = self.reader().await?;
        let levels: Vec<LevelCount> = on_backend!(lent, conn => {
            diesel::sql_query(LEVELS)
                .bind::<SqlTimestamp, _>(now)
                .bind::<BigInt, _>(MOST_GROUPS)
                .load(conn)
                .await
        })?;
        let mut known: BTreeMap<(String, String), i64> = BTreeMap::new();
        let mut jobs: BTreeMap<(String, String), JobSummary> = configured
            .iter()
            .map(|key| {
                (
                    (key.app.to_string(), key.name.to_string()),
                    JobSummary::default(),
                )
            })
            .collect();
        for row in levels {
            let key = (row.app_id, row.job_name);
            *known.entry(key.clone()).or_default() += row.known;
            let job = jobs.entry(key).or_default();
            job.never_visited += row.never_visited;
            job.well += row.well;
            job.failing += row.failing;
            job.given_up += row.given_up;
            job.due += row.due;
            job.oldest_due_at = match (job.oldest_due_at, row.oldest_due_at) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            if row.well + row.failing > 0 {
                *job.levels.entry(row.level).or_default() += row.well + row.failing;
            }
        }
        let apps: BTreeMap<&str, &AppSites> =
            apps.iter().map(|app| (app.app_id.as_str(), app)).collect();
        for (key, job) in &mut jobs {
            if let Some(app) = apps.get(key.0.as_str()) {
                job.enabled = app.enabled;
                job.disabled = app.disabled;
                if !known.contains_key(key) {
                    job.unseen_since = app.first_at;
                }
            }
            // A site that is new has no row until it is looked for.
            let unknown = job.enabled - known.get(key).copied().unwrap_or(0);
            job.unseen = unknown.max(0);
            job.never_visited += job.unseen;
        }
        Ok(jobs)
    }

    /// Outcomes of a job's visits in the last [`OUTCOMES_SHOWN`], oldest first;
    /// ten minutes without a visit have no bucket.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn job_outcomes(
        &self,
        job: &JobKey,
        now: Timestamp,
    ) -> Result<Vec<OutcomeBucket>, StoreError> {
        let mut lent = self.reader().await?;
        Ok(on_backend!(lent, conn => {
            diesel::sql_query(
                "SELECT bucket_at, successes, failures FROM job_outcomes \
                 WHERE app_id = $1 AND job_name = $2 AND bucket_at > $3 AND bucket_at <= $4 \
                 ORDER BY bucket_at",
            )
            .bind::<Text, _>(job.app.as_str())
            .bind::<Text, _>(&*job.name)
            .bind::<SqlTimestamp, _>(now.minus(OUTCOMES_SHOWN))
            .bind::<SqlTimestamp, _>(now)
            .load(conn)
            .await
        })?)
    }

    /// Leases of sites that somebody holds now, by name, of all jobs.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn job_leases(&self) -> Result<Vec<JobLease>, StoreError> {
        let mut lent = self.reader().await?;
        let now = if lent.is_sqlite() {
            "strftime('%Y-%m-%d %H:%M:%f', 'now')"
        } else {
            "(clock_timestamp() AT TIME ZONE 'utc')"
        };
        let query = format!(
            "SELECT name, holder, acquired_at FROM leases \
             WHERE name LIKE 'sites:%' AND holder <> '' AND expires_at > {now} \
             ORDER BY name LIMIT $1"
        );
        Ok(on_backend!(lent, conn => {
            diesel::sql_query(&query).bind::<BigInt, _>(MOST_LEASES).load(conn).await
        })?)
    }

    /// Until when the longest pause of these hosts lasts; `None` when none of
    /// them asked to be left alone, or that is over.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn paused_until(
        &self,
        hosts: &[String],
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut lent = self.reader().await?;
        Ok(on_backend!(lent, conn => {
            host_pauses::table
                .filter(host_pauses::host.eq_any(hosts))
                .filter(host_pauses::until_at.gt(now))
                .select(host_pauses::until_at)
                .order(host_pauses::until_at.desc())
                .first::<Timestamp>(conn)
                .await
                .optional()
        })?)
    }
}

/// Sums the buckets that begin within `span` before `now`.
pub fn outcomes_within(buckets: &[OutcomeBucket], span: Duration, now: Timestamp) -> Outcomes {
    let from = now.minus(span);
    let mut sum = Outcomes::default();
    for bucket in buckets.iter().filter(|bucket| bucket.bucket_at > from) {
        sum.successes += bucket.successes;
        sum.failures += bucket.failures;
    }
    sum
}
