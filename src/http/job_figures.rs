//! What the database says of jobs, cached: the queries read whole tables, and
//! any number of viewers looks at them every two seconds.

use super::single_flight::{Given, SingleFlight, Spacing};
use super::state::Http;
use crate::config::Settings;
use crate::flows::sites::JobKey;
use crate::store::{AppSites, JobLease, JobSummary, OutcomeBucket, Store, StoreError};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a viewer waits for figures.
const PATIENCE: Duration = Duration::from_secs(3);

const SPACING: Spacing = Spacing {
    at_least: Duration::from_secs(2),
    times_taken: 10,
};

/// What the database says of all jobs.
#[derive(Clone, Debug, Default)]
pub(super) struct JobFigures {
    /// Per job (app, name); also of jobs that are no longer configured.
    pub(super) jobs: BTreeMap<(String, String), JobSummary>,
    /// Outcomes of the configured jobs, oldest first.
    pub(super) outcomes: BTreeMap<(String, String), Vec<OutcomeBucket>>,
    /// How many sites each app has.
    pub(super) apps: Vec<AppSites>,
    /// Leases that somebody holds, by name.
    pub(super) leases: Vec<JobLease>,
    /// When these figures were read; `None` when they never were.
    pub(super) read_at: Option<Timestamp>,
    /// Why newer figures could not be read.
    pub(super) problem: Option<String>,
}

/// An empty cache.
pub(super) fn cache() -> Arc<SingleFlight<JobFigures>> {
    SingleFlight::new(SPACING)
}

/// The figures: fresh where the database answers, else the last ones with the
/// problem.
pub(super) async fn job_figures(http: &Http) -> Arc<JobFigures> {
    job_figures_within(http, PATIENCE).await
}

/// As [`job_figures`], by another patience.
pub(super) async fn job_figures_within(http: &Http, patience: Duration) -> Arc<JobFigures> {
    let store = http.state.store.clone();
    let before = http.jobs.newest();
    let settings = http.settings();
    let read = move || refresh(store, settings, before);
    match http.jobs.get(&http.runtime, patience, read).await {
        Given::Fresh(figures) => figures,
        Given::Stale(last) => {
            let mut figures = last.as_deref().cloned().unwrap_or_default();
            figures.problem.get_or_insert_with(|| {
                format!("the database took longer than {} s", patience.as_secs())
            });
            Arc::new(figures)
        }
    }
}

async fn refresh(
    store: Store,
    settings: Arc<Settings>,
    before: Option<Arc<JobFigures>>,
) -> JobFigures {
    match read(&store, &settings).await {
        Ok(figures) => figures,
        Err(error) => {
            tracing::warn!(error = %error, "the figures of jobs could not be read");
            let problem = if error.is_transient() {
                "the database is out of reach"
            } else {
                "the database refused a statement; the log says which and why"
            };
            JobFigures {
                problem: Some(problem.to_owned()),
                ..before.as_deref().cloned().unwrap_or_default()
            }
        }
    }
}

async fn read(store: &Store, settings: &Settings) -> Result<JobFigures, StoreError> {
    let now = Timestamp::now();
    let keys: Vec<JobKey> = settings.jobs.iter().map(|job| job.key.clone()).collect();
    let apps = store.sites_by_app().await?;
    let jobs = store.summarize_jobs_of(&apps, &keys, now).await?;
    let mut outcomes = BTreeMap::new();
    for key in &keys {
        let found = store.job_outcomes(key, now).await?;
        outcomes.insert((key.app.to_string(), key.name.to_string()), found);
    }
    Ok(JobFigures {
        jobs,
        outcomes,
        apps,
        leases: store.job_leases().await?,
        read_at: Some(now),
        problem: None,
    })
}
