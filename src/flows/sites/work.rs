//! What travels between Scheduler, FetcherPool and Updater for sites.

use super::names::JobKey;
use super::visit::{FailureKind, SiteInfo, Visit, Visited};
use crate::config::JobSettings;
use crate::store::{DueSite, LeaseStake};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Longest that a host is left alone, whatever it asks for.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// One visit of one site.
#[derive(Clone, Debug)]
pub struct SitesWork {
    /// The job, with the policy by which the outcome is judged.
    pub job: Arc<JobSettings>,
    /// The lease under which the outcome may be written.
    pub stake: LeaseStake,
    /// The host that is visited.
    pub host: Arc<str>,
    /// The site, as it was read.
    pub site: DueSite,
}

/// What came of a visit.
#[derive(Clone, Debug)]
pub struct SitesOutcome {
    /// What was to be done.
    pub work: Arc<SitesWork>,
    /// What came of it.
    pub visited: Visited,
    /// When it began.
    pub begun: Timestamp,
    /// How long it took.
    pub took: Duration,
}

/// What the Scheduler is told when a visit is over.
#[derive(Clone, Debug)]
pub struct SitesReport {
    /// The job.
    pub job: JobKey,
    /// The lease under which it was to be written.
    pub stake: LeaseStake,
    /// The row of `poll_status`.
    pub seq: i64,
    /// The site.
    pub site_id: String,
    /// Its batch code.
    pub batch_code: u16,
    /// The host that was visited.
    pub host: Arc<str>,
    /// How it failed, if it did.
    pub failure: Option<(FailureKind, String)>,
    /// Until when the host asked to be left alone.
    pub pause: Option<Timestamp>,
    /// Why the database refused to take the outcome.
    pub refused: Option<String>,
    /// The outcome was not written, the lease being lost.
    pub fenced: bool,
    /// The site was given up by it, which was written.
    pub given_up: bool,
}

impl SitesWork {
    /// What the handler is told.
    pub fn visit(&self) -> Visit {
        let site = &self.site;
        let small = |number: i32| u32::try_from(number).unwrap_or(0);
        Visit {
            job: self.job.key.clone(),
            site: SiteInfo {
                site_id: site.site_id.clone(),
                url: site.url.clone(),
                labels: site.labels.clone(),
                batch_code: u16::try_from(site.batch_code).unwrap_or(0),
            },
            last_run_at: site.last_run_at,
            level: small(site.level),
            count: small(site.count),
        }
    }
}

impl SitesOutcome {
    /// The word of a visit that went well.
    pub const SUCCESS: &str = "success";

    /// `success`, or the kind of failure: bounded, for metrics.
    pub fn word(&self) -> &'static str {
        match &self.visited.result {
            Ok(_) => Self::SUCCESS,
            Err(error) => error.kind.as_str(),
        }
    }

    /// Until when the host asked to be left alone, [`LONGEST_PAUSE`] at most.
    pub fn pause(&self) -> Option<Timestamp> {
        let ended = self.begun.plus(self.took);
        let wish = self.visited.retry_after?;
        Some(ended.plus(wish.min(LONGEST_PAUSE)))
    }
}

impl SitesReport {
    /// The report of an outcome, before it is known whether it was written.
    pub fn of(outcome: &SitesOutcome) -> Self {
        let failure = outcome.visited.result.as_ref().err();
        Self {
            job: outcome.work.job.key.clone(),
            stake: outcome.work.stake.clone(),
            seq: outcome.work.site.seq,
            site_id: outcome.work.site.site_id.clone(),
            batch_code: u16::try_from(outcome.work.site.batch_code).unwrap_or(0),
            host: outcome.work.host.clone(),
            failure: failure.map(|error| (error.kind, error.detail.clone())),
            pause: outcome.pause(),
            refused: None,
            fenced: false,
            given_up: false,
        }
    }
}

/// The host of a site's address, by which visits are bounded and pauses are
/// kept: in lower case, with the port where it is not the usual one. An address
/// that is none is a host of its own.
pub fn host_of(url: &str) -> Arc<str> {
    let parsed = url::Url::parse(url).ok();
    let host = parsed.as_ref().and_then(|url| {
        let host = url.host_str()?;
        Some(
            url.port()
                .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
        )
    });
    host.unwrap_or_else(|| url.chars().take(256).collect())
        .into()
}
