//! Jobs, put together from settings, the site flow's view and the database's
//! figures: pages, `/v1/jobs` and metrics all show this, so that they never
//! disagree.

use super::job_figures::JobFigures;
pub(crate) use super::job_state::{JobState, Severity};
use super::job_state::{judge, warnings};
use super::unvisited::{AppWithoutJob, without_jobs};
use crate::config::{JobSettings, Settings};
use crate::flows::sites::{JobView, Level, RetryPolicy, Shard, SitesView};
use crate::store::{JobLease, JobSummary, OutcomeBucket, Outcomes, RangeName, outcomes_within};
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Most jobs shown that are not configured; anyone who may insert rows can
/// make names.
const MOST_OTHERS: usize = 50;

/// One job: what is configured, what the Scheduler sees and what the database
/// counts.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub(crate) struct JobReport {
    /// Id of the app.
    pub app: String,
    /// Name of the job.
    pub name: String,
    /// How it fares.
    pub state: JobState,
    /// How much it wants to be looked at.
    pub severity: Severity,
    /// Whether it is in the configuration.
    pub configured: bool,
    /// Whether servers run it; null when it is not configured.
    pub server: Option<bool>,
    /// Retry policy; null when it is not configured.
    pub retry: Option<String>,
    /// Shards into which servers split it; null when it is not configured.
    pub batches: Option<u16>,
    /// Sites of the app by how they stand with the job: `well`, `failing`,
    /// `never`, `given_up`, `disabled`; each is counted once.
    pub sites: BTreeMap<String, i64>,
    /// Sites that are well or failing, by level of the retry policy, lowest first.
    pub levels: Vec<LevelReport>,
    /// Enabled sites that are due now.
    pub due: i64,
    /// Since when the oldest due site is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest_due_at: Option<Timestamp>,
    /// Visits of this server under way now.
    pub in_flight: usize,
    /// Sites that this server has read and that wait for a visit.
    pub waiting: usize,
    /// Hosts that asked to be left alone.
    pub paused_hosts: usize,
    /// Why it does not run as it should.
    pub last_error: Option<String>,
    /// When its next visit is tried, while its handler cannot work at all.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retry_at: Option<Timestamp>,
    /// Visits of the last hour, to ten minutes.
    pub last_hour: Outcomes,
    /// Visits of the last 24 hours, to ten minutes.
    pub last_day: Outcomes,
    /// Its shards, by their codes.
    pub shards: Vec<ShardReport>,
    /// Runs of the command line that hold codes of it besides.
    pub other_runs: Vec<ShardReport>,
}

impl JobReport {
    /// Enabled sites that it gave up.
    pub(super) fn given_up(&self) -> i64 {
        self.sites.get("given_up").copied().unwrap_or(0)
    }
}

/// How many sites stand at a level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct LevelReport {
    /// The level, from 0.
    pub level: i32,
    /// Its part of the retry policy; null when the policy has fewer levels, or
    /// the job is not configured.
    pub retry: Option<String>,
    /// Sites.
    pub sites: i64,
}

/// Who has a range of batch codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct ShardReport {
    /// The shard, `i/n`; null for a range that is none of the job's.
    pub shard: Option<String>,
    /// Its batch codes, `LO-HI`.
    pub codes: String,
    /// Whether this server holds it.
    pub held: bool,
    /// Who holds it; null when nobody does.
    pub holder: Option<String>,
    /// Since when, where that is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
}

/// All jobs.
#[derive(Clone, Debug)]
pub(super) struct Jobs {
    /// The configured ones in the configuration's order, then those that are
    /// only in the database.
    pub(super) jobs: Vec<JobReport>,
    /// Jobs left out of `jobs`; none of them is configured.
    pub(super) more: usize,
    /// Apps that have sites and no job in the configuration, at most 50.
    pub(super) apps_without_jobs: Vec<AppWithoutJob>,
    /// Apps left out of these.
    pub(super) more_apps: usize,
    pub(super) read_at: Option<Timestamp>,
    pub(super) problem: Option<String>,
}

impl Jobs {
    pub(super) fn gather(
        settings: &Settings,
        view: &SitesView,
        figures: &JobFigures,
        holder: &str,
        now: Timestamp,
    ) -> Self {
        let leases = by_job(&figures.leases);
        let mut jobs: Vec<JobReport> = settings
            .jobs
            .iter()
            .map(|job| {
                let key = (job.key.app.to_string(), job.key.name.to_string());
                let leases = leases.get(&key).map_or(&[][..], Vec::as_slice);
                let outcomes = figures.outcomes.get(&key).map_or(&[][..], Vec::as_slice);
                let summary = figures.jobs.get(&key);
                report(
                    job,
                    view.job(&job.key),
                    summary,
                    outcomes,
                    leases,
                    holder,
                    now,
                )
            })
            .collect();
        let configured = |key: &(String, String)| {
            let mut jobs = settings.jobs.iter();
            jobs.any(|job| job.key.app.as_str() == key.0 && *job.key.name == *key.1)
        };
        let mut others: Vec<_> = figures
            .jobs
            .iter()
            .filter(|(key, _)| !configured(key))
            .collect();
        let more = others.len().saturating_sub(MOST_OTHERS);
        others.truncate(MOST_OTHERS);
        jobs.extend(others.into_iter().map(|(key, summary)| {
            let held = leases.get(key).map_or(&[][..], Vec::as_slice);
            not_configured(key, summary, held, holder)
        }));
        let mut apps_without_jobs = without_jobs(settings, &figures.apps);
        let more_apps = apps_without_jobs.len().saturating_sub(MOST_OTHERS);
        apps_without_jobs.truncate(MOST_OTHERS);
        Self {
            jobs,
            more,
            apps_without_jobs,
            more_apps,
            read_at: figures.read_at,
            problem: figures.problem.clone(),
        }
    }

    /// What a person should look at, in sentences.
    pub(super) fn warnings(&self, now: Timestamp) -> Vec<String> {
        let jobs = self.jobs.iter();
        jobs.flat_map(|job| warnings(job, now)).collect()
    }
}

/// A level as the policy has it: `2 hour (x12)`.
pub(super) fn level_text(level: &Level) -> Option<String> {
    RetryPolicy::new(vec![*level]).map(|policy| policy.to_string())
}

/// The first and last batch code of a lease, and the lease.
type Held<'a> = ((u16, u16), &'a JobLease);

fn by_job(leases: &[JobLease]) -> BTreeMap<(String, String), Vec<Held<'_>>> {
    let mut jobs: BTreeMap<_, Vec<Held<'_>>> = BTreeMap::new();
    for lease in leases {
        let Some(RangeName { job, codes }) = RangeName::parse(&lease.name) else {
            continue;
        };
        if let Some((app, name)) = job.split_once('/') {
            let held = jobs.entry((app.to_owned(), name.to_owned()));
            held.or_default().push((codes.into_inner(), lease));
        }
    }
    jobs
}

fn report(
    job: &JobSettings,
    view: Option<&JobView>,
    summary: Option<&JobSummary>,
    outcomes: &[OutcomeBucket],
    leases: &[Held<'_>],
    holder: &str,
    now: Timestamp,
) -> JobReport {
    let summary = summary.cloned().unwrap_or_default();
    let levels = job.retry.levels();
    let level = |(level, sites): (&i32, &i64)| LevelReport {
        level: *level,
        retry: usize::try_from(*level)
            .ok()
            .and_then(|level| levels.get(level))
            .and_then(level_text),
        sites: *sites,
    };
    let (shards, other_runs) = shards(job, leases, holder);
    let mut report = JobReport {
        app: job.key.app.to_string(),
        name: job.key.name.to_string(),
        state: JobState::Waiting,
        severity: Severity::None,
        configured: true,
        server: Some(job.server),
        retry: Some(job.retry.to_string()),
        batches: Some(job.batches),
        sites: counts(&summary),
        levels: summary.levels.iter().map(level).collect(),
        due: summary.due,
        oldest_due_at: summary.oldest_due_at,
        in_flight: view.map_or(0, |view| view.in_flight),
        waiting: view.map_or(0, |view| view.waiting),
        paused_hosts: view.map_or(0, |view| view.paused_hosts),
        last_error: view.and_then(|view| view.last_error.clone()),
        retry_at: view.and_then(|view| view.retry_at),
        last_hour: outcomes_within(outcomes, Duration::from_secs(3600), now),
        last_day: outcomes_within(outcomes, Duration::from_secs(86_400), now),
        shards,
        other_runs,
    };
    if !job.server {
        // A run of `highwater poll` would make them known, and visit them.
        report.due += summary.unseen;
        let since = [report.oldest_due_at, summary.unseen_since];
        report.oldest_due_at = since.into_iter().flatten().min();
    }
    (report.state, report.severity) = judge(job, view, &report, now);
    report
}

/// The job's shards with who holds them, and what else of it is held. The
/// table of leases is asked for both, since it knows of other servers and of
/// runs of the command line.
fn shards(
    job: &JobSettings,
    leases: &[Held<'_>],
    holder: &str,
) -> (Vec<ShardReport>, Vec<ShardReport>) {
    let mut left: BTreeMap<(u16, u16), &JobLease> = leases.iter().copied().collect();
    let shards = if job.server {
        let report = |shard: Shard| {
            let codes = shard.codes().into_inner();
            let lease = left.remove(&codes);
            ShardReport {
                shard: Some(shard.to_string()),
                held: lease.is_some_and(|lease| lease.holder == holder),
                holder: lease.map(|lease| lease.holder.clone()),
                since: lease.and_then(|lease| lease.acquired_at),
                codes: codes_text(codes),
            }
        };
        Shard::all(job.batches).map(report).collect()
    } else {
        Vec::new()
    };
    let others = left
        .into_iter()
        .map(|(codes, lease)| range(codes, lease, holder));
    (shards, others.collect())
}

/// `0-2499`.
fn codes_text((first, last): (u16, u16)) -> String {
    format!("{first}-{last}")
}

fn range(codes: (u16, u16), lease: &JobLease, holder: &str) -> ShardReport {
    ShardReport {
        shard: None,
        codes: codes_text(codes),
        held: lease.holder == holder,
        holder: Some(lease.holder.clone()),
        since: lease.acquired_at,
    }
}

fn counts(summary: &JobSummary) -> BTreeMap<String, i64> {
    [
        ("well", summary.well),
        ("failing", summary.failing),
        ("never", summary.never_visited),
        ("given_up", summary.given_up),
        ("disabled", summary.disabled),
    ]
    .map(|(word, count)| (word.to_owned(), count))
    .into()
}

fn not_configured(
    key: &(String, String),
    summary: &JobSummary,
    leases: &[Held<'_>],
    holder: &str,
) -> JobReport {
    let level = |(level, sites): (&i32, &i64)| LevelReport {
        level: *level,
        retry: None,
        sites: *sites,
    };
    let runs = leases
        .iter()
        .map(|(codes, lease)| range(*codes, lease, holder));
    JobReport {
        app: key.0.clone(),
        name: key.1.clone(),
        state: JobState::NotConfigured,
        severity: Severity::None,
        configured: false,
        server: None,
        retry: None,
        batches: None,
        sites: counts(summary),
        levels: summary.levels.iter().map(level).collect(),
        due: summary.due,
        oldest_due_at: summary.oldest_due_at,
        in_flight: 0,
        waiting: 0,
        paused_hosts: 0,
        last_error: None,
        retry_at: None,
        last_hour: Outcomes::default(),
        last_day: Outcomes::default(),
        shards: Vec::new(),
        other_runs: runs.collect(),
    }
}
