//! `GET /v1/jobs` and `GET /v1/jobs/{app}/{name}`.

use crate::flows::sites::{AppName, JobKey};
use crate::http::job_figures::{JobFigures, job_figures};
use crate::http::jobs::{JobReport, Jobs};
use crate::http::problem::{Answer, Problem};
use crate::http::state::Http;
use crate::http::unvisited::AppWithoutJob;
use crate::store::OutcomeBucket;
use crate::time::Timestamp;
use actix_web::web;
use serde::Serialize;
use std::sync::Arc;

/// Answer of `GET /v1/jobs`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct JobList {
    /// Configured jobs in the configuration's order, then those that are only
    /// in the database.
    pub items: Vec<JobReport>,
    /// Always null: the list is never paged.
    pub next: Option<String>,
    /// Jobs that are only in the database and left out, there being too many.
    pub more_jobs: usize,
    /// Apps that have sites and no job in the configuration, at most 50: their
    /// sites are kept and not visited.
    pub apps_without_jobs: Vec<AppWithoutJob>,
    /// Such apps that are left out, there being too many.
    pub more_apps_without_jobs: usize,
    /// When the counts were read.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub read_at: Option<Timestamp>,
    /// Why newer counts could not be read; null when they are new.
    pub problem: Option<String>,
}

/// One job with its outcomes over time.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct JobWithOutcomes {
    /// The job.
    #[serde(flatten)]
    pub job: JobReport,
    /// Visits of the last 24 hours, ten minutes each, oldest first; ten
    /// minutes without a visit are left out.
    pub outcomes: Vec<OutcomeBucket>,
    /// When the counts were read.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub read_at: Option<Timestamp>,
    /// Why newer counts could not be read; null when they are new.
    pub problem: Option<String>,
}

/// Jobs: their sites, shards and outcomes.
#[utoipa::path(get, path = "/v1/jobs", tag = "sites", responses(
    (status = 200, description = "All jobs", body = JobList),
))]
pub(in crate::http) async fn list_jobs(http: web::Data<Http>) -> web::Json<JobList> {
    let jobs = gather(&http).await;
    web::Json(JobList {
        items: jobs.jobs,
        next: None,
        more_jobs: jobs.more,
        apps_without_jobs: jobs.apps_without_jobs,
        more_apps_without_jobs: jobs.more_apps,
        read_at: jobs.read_at,
        problem: jobs.problem,
    })
}

/// One job, and its outcomes over the last 24 hours.
#[utoipa::path(get, path = "/v1/jobs/{app}/{name}", tag = "sites",
    params(
        ("app" = String, Path, description = "Id of the app, with or without `app:` in front"),
        ("name" = String, Path, description = "Name of the job"),
    ),
    responses(
        (status = 200, description = "The job", body = JobWithOutcomes),
        (status = 404, description = "There is no such job", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn show_job(
    http: web::Data<Http>,
    path: web::Path<(String, String)>,
) -> Answer<web::Json<JobWithOutcomes>> {
    let (app, name) = path.into_inner();
    Ok(web::Json(job_detail(&http, &app, &name).await?))
}

/// All jobs as they stand.
pub(in crate::http) async fn gather(http: &Http) -> Jobs {
    gather_with_outcomes(http).await.0
}

/// All jobs, and what the database says of them.
pub(in crate::http) async fn gather_with_outcomes(http: &Http) -> (Jobs, Arc<JobFigures>) {
    let figures = job_figures(http).await;
    (gather_from(http, &figures), figures)
}

/// All jobs, by these figures.
pub(in crate::http) fn gather_from(http: &Http, figures: &JobFigures) -> Jobs {
    let (settings, view) = (http.settings(), http.sites_view());
    Jobs::gather(
        &settings,
        &view,
        figures,
        &http.state.holder,
        Timestamp::now(),
    )
}

/// One job; the page shows the same.
pub(in crate::http) async fn job_detail(
    http: &Http,
    app: &str,
    name: &str,
) -> Answer<JobWithOutcomes> {
    let missing = || Problem::job_not_found(app, name);
    let key = AppName::parse(app)
        .and_then(|app| JobKey::new(app, name))
        .map_err(|_| missing())?;
    let (jobs, figures) = gather_with_outcomes(http).await;
    let Some(job) = jobs
        .jobs
        .into_iter()
        .find(|job| job.app == key.app.as_str() && job.name == *key.name)
    else {
        return Err(missing().into());
    };
    let outcomes = figures.outcomes.get(&(job.app.clone(), job.name.clone()));
    Ok(JobWithOutcomes {
        job,
        outcomes: outcomes.cloned().unwrap_or_default(),
        read_at: jobs.read_at,
        problem: jobs.problem,
    })
}
