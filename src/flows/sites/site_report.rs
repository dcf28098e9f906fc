//! All that is told of one site: what is kept of it, its visits, and when each
//! job visits it next and why. API, command line and page tell the same.

use super::next_visit::{NextVisit, SiteSituation, next_visit};
use super::poll_log::{LoggedVisit, read_poll_log};
use super::work::host_of;
use crate::config::{JobSettings, Settings};
use crate::store::{JobDetail, LearnedRow, SiteDetail, SiteRow, StatusRow, Store, StoreError};
use crate::time::Timestamp;
use serde::Serialize;

/// All that is told of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SiteReport {
    /// The site.
    #[serde(flatten)]
    pub site: SiteRow,
    /// Until when its host asked to be left alone; null when it did not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paused_until: Option<Timestamp>,
    /// The jobs that have met it, by name, at most 100.
    pub jobs: Vec<SiteWithJob>,
    /// Configured jobs of its app that have not met it yet.
    pub jobs_to_come: Vec<JobToCome>,
}

/// How a site stands with a job, and what is known of its visits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SiteWithJob {
    /// How it stands.
    #[serde(flatten)]
    pub status: StatusRow,
    /// Whether it was given up, revived since, and not visited since then.
    pub revived: bool,
    /// When it is visited next, and why then.
    pub next_visit: NextVisit,
    /// Its visits, newest first, as many as are kept (`retention.polls_per_site`).
    pub visits: Vec<VisitReport>,
    /// What was learned, newest first, at most 50: a document for each visit
    /// that found another one than the visit before. The first is the latest.
    pub results: Vec<LearnedRow>,
}

/// A visit that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct VisitReport {
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// `success` or `failure`.
    pub outcome: &'static str,
    /// The kind of the failure (docs/sites.md, "Isolation"); null for a success.
    pub kind: Option<&'static str>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// A job that has not met a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct JobToCome {
    /// Name of the job.
    pub job_name: String,
    /// When the site is visited, and why then.
    pub next_visit: NextVisit,
}

impl SiteReport {
    /// Puts together what is kept of a site, under the configuration.
    pub fn new(
        detail: SiteDetail,
        settings: &Settings,
        paused_until: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let SiteDetail { site, jobs: met } = detail;
        let of_app = |job: &&JobSettings| job.key.app.as_str() == site.app_id;
        let configured: Vec<&JobSettings> = settings.jobs.iter().filter(of_app).collect();
        let next = |job: Option<&JobSettings>, status: Option<&StatusRow>| {
            let situation = SiteSituation {
                enabled: site.enabled,
                job,
                status,
                paused_until,
            };
            next_visit(&situation, now)
        };
        let jobs_to_come = configured
            .iter()
            .filter(|job| !met.iter().any(|met| *met.status.job_name == *job.key.name))
            .map(|job| JobToCome {
                job_name: job.key.name.to_string(),
                next_visit: next(Some(job), None),
            })
            .collect();
        let jobs = met
            .into_iter()
            .map(|JobDetail { status, results }| {
                let named = |job: &&&JobSettings| *job.key.name == *status.job_name;
                let job = configured.iter().find(named).copied();
                SiteWithJob {
                    revived: status.is_revived(),
                    next_visit: next(job, Some(&status)),
                    visits: visits(&status.poll_log),
                    status,
                    results,
                }
            })
            .collect();
        Self {
            site,
            paused_until,
            jobs,
            jobs_to_come,
        }
    }
}

/// The visits of a poll log, newest first.
fn visits(log: &str) -> Vec<VisitReport> {
    let mut visits: Vec<VisitReport> = read_poll_log(log).map(VisitReport::from).collect();
    visits.reverse();
    visits
}

impl From<LoggedVisit> for VisitReport {
    fn from(visit: LoggedVisit) -> Self {
        Self {
            at: visit.at,
            outcome: match visit.outcome {
                Ok(()) => "success",
                Err(_) => "failure",
            },
            kind: visit.outcome.err().map(|kind| kind.as_str()),
            duration_ms: u64::try_from(visit.duration.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Reads all that is told of a site; `None` where there is no such site.
///
/// # Errors
/// The database is out of reach.
pub async fn site_report(
    store: &Store,
    settings: &Settings,
    site_id: &str,
    now: Timestamp,
) -> Result<Option<SiteReport>, StoreError> {
    let Some(detail) = store.site(site_id).await? else {
        return Ok(None);
    };
    let host = host_of(&detail.site.url).to_string();
    let paused = store.paused_until(&[host], now).await?;
    Ok(Some(SiteReport::new(detail, settings, paused, now)))
}
