//! What pages, API and command line read of one site.

use super::connection::on_backend;
use super::schema::{poll_results, poll_status, sites};
use super::{Store, StoreError};
use crate::time::Timestamp;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde::Serialize;

/// Most jobs shown of a site.
const MOST_JOBS: i64 = 100;
/// Most results shown of a site's job.
const MOST_RESULTS: i64 = 50;

/// A row of `sites`, as shown.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Serialize, utoipa::ToSchema)]
pub struct SiteRow {
    /// Order in which sites were added; grows with every insert.
    pub seq: i64,
    /// Its id.
    pub site_id: String,
    /// The app whose jobs visit it.
    pub app_id: String,
    /// Its address; any text where an application wrote it.
    pub url: String,
    /// Its batch code, 0 to 10000.
    pub batch_code: i32,
    /// Whether it is visited.
    pub enabled: bool,
    /// Its labels.
    #[serde(serialize_with = "as_json")]
    #[schema(value_type = Object)]
    pub labels: String,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A row of `poll_status`, as shown: how a site stands with a job.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Serialize, utoipa::ToSchema)]
pub struct StatusRow {
    /// Key of the row.
    #[serde(skip)]
    pub seq: i64,
    /// The site.
    #[serde(skip)]
    pub site_id: String,
    /// Name of the job.
    pub job_name: String,
    /// Level of the retry policy at which it stands.
    pub level: i32,
    /// Failures in a row at this level.
    pub count: i32,
    /// When the last visit began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_run_at: Option<Timestamp>,
    /// When it is due; null when it is given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_due_at: Option<Timestamp>,
    /// How the last visit came out: `success` or `failure`.
    pub last_outcome: Option<String>,
    /// Why the last visit failed.
    pub last_error: Option<String>,
    /// How long the last visit took, in milliseconds.
    pub last_duration_ms: Option<i64>,
    /// When it was given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub given_up_at: Option<Timestamp>,
    /// The site's app.
    #[serde(skip)]
    pub(super) app_id: String,
    /// The site's batch code.
    #[serde(skip)]
    pub(super) batch_code: i32,
    /// Whether the site is enabled.
    #[serde(skip)]
    pub(super) enabled: bool,
    /// The newest polls, as they are stored.
    #[serde(skip)]
    pub poll_log: String,
}

impl StatusRow {
    /// Whether it was visited, given up, and revived since: it is due at once
    /// and keeps its history, though no last visit counts.
    pub fn is_revived(&self) -> bool {
        self.last_run_at.is_none()
            && self.given_up_at.is_none()
            && (self.last_outcome.is_some() || !self.poll_log.is_empty())
    }
}

/// What a handler learned at a visit.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Serialize, utoipa::ToSchema)]
pub struct LearnedRow {
    /// When the visit began.
    #[schema(value_type = String, format = DateTime)]
    pub run_at: Timestamp,
    /// The document.
    #[serde(serialize_with = "as_json")]
    #[schema(value_type = Object)]
    pub document: String,
}

/// How a site stands with one job, with what was learned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct JobDetail {
    /// How it stands.
    #[serde(flatten)]
    pub status: StatusRow,
    /// What was learned, newest first, at most 50: a document for each visit
    /// that found another one than the visit before. The first is the latest.
    pub results: Vec<LearnedRow>,
}

/// All that is kept of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SiteDetail {
    /// The site.
    #[serde(flatten)]
    pub site: SiteRow,
    /// The jobs that have visited it, by name, at most 100.
    pub jobs: Vec<JobDetail>,
}

/// JSON as it is; a text that is none as a text: applications write it too.
fn as_json<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => value.serialize(serializer),
        Err(_) => serializer.serialize_str(text),
    }
}

impl Store {
    /// One site, with how it stands with each job, and what was learned.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn site(&self, site_id: &str) -> Result<Option<SiteDetail>, StoreError> {
        let mut lent = self.reader().await?;
        on_backend!(lent, conn => {
            let site = sites::table
                .select(sites::all_columns)
                .filter(sites::site_id.eq(site_id))
                .first::<SiteRow>(conn)
                .await
                .optional()?;
            let Some(site) = site else {
                return Ok(None);
            };
            let standings = poll_status::table
                .filter(poll_status::site_id.eq(site_id))
                .order(poll_status::job_name)
                .limit(MOST_JOBS)
                .load::<StatusRow>(conn)
                .await?;
            let mut jobs = Vec::with_capacity(standings.len());
            for status in standings {
                let results = poll_results::table
                    .select((poll_results::run_at, poll_results::document))
                    .filter(poll_results::status_seq.eq(status.seq))
                    .order(poll_results::run_at.desc())
                    .limit(MOST_RESULTS)
                    .load::<LearnedRow>(conn)
                    .await?;
                jobs.push(JobDetail { status, results });
            }
            Ok(Some(SiteDetail { site, jobs }))
        })
    }
}
