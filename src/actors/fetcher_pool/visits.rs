//! Visits of sites: the handlers of the jobs, and how one visit is run.

use super::outbox::Outbox;
use crate::config::{AppSettings, JobSettings, SitesSettings};
use crate::flows::sites::{FailureKind, JobKey, SitesOutcome, SitesWork, Visited, visit};
use crate::handlers::{self, Handler, Listeners, SiteClient};
use crate::messages::{Done, Outcome, Ticket};
use crate::telemetry::TRACE_TARGET;
use crate::time::Timestamp;
use metrics::{Counter, Histogram};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tracing::{Instrument as _, field};

/// What the handlers of the jobs are built from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VisitsSettings {
    pub(super) sites: SitesSettings,
    pub(super) apps: Vec<AppSettings>,
    pub(super) jobs: Vec<JobSettings>,
}

/// The handlers of the jobs.
#[derive(Default)]
pub(super) struct Visits {
    listeners: Listeners,
    /// The client of all handlers, and whether it refuses inward addresses.
    client: Option<(bool, SiteClient)>,
    handlers: HashMap<JobKey, Known>,
}

struct Known {
    job: JobSettings,
    app: Option<AppSettings>,
    sites: SitesSettings,
    handler: Result<Arc<dyn Handler>, String>,
    meters: Arc<Meters>,
}

impl Visits {
    pub(super) fn new(listeners: Listeners) -> Self {
        Self {
            listeners,
            client: None,
            handlers: HashMap::new(),
        }
    }

    /// Builds handlers for new and changed jobs; others keep theirs, and their
    /// connections.
    pub(super) fn configure(&mut self, settings: VisitsSettings) {
        let VisitsSettings { sites, apps, jobs } = settings;
        let client = self.client(sites.deny_private_networks);
        let mut known = std::mem::take(&mut self.handlers);
        for job in jobs.into_iter().filter(|job| job.server) {
            let app = apps.iter().find(|app| app.id == job.key.app).cloned();
            let same = |known: &Known| {
                known.job.handler == job.handler
                    && known.job.tries_more == job.tries_more
                    && known.app == app
                    && known.sites == sites
            };
            let known = known.remove(&job.key);
            let meters = known.as_ref().map(|known| known.meters.clone());
            let handler = match known.filter(same) {
                Some(known) => known.handler,
                None => handlers::connect(&job, app.as_ref(), &sites, &self.listeners, &client),
            };
            if let Err(error) = &handler {
                tracing::error!(job.key = %job.key, error = %error, "no handler for this job");
            }
            let of_job = Known {
                app,
                sites: sites.clone(),
                handler,
                meters: meters.unwrap_or_else(|| Arc::new(Meters::of(&job.key))),
                job,
            };
            self.handlers.insert(of_job.job.key.clone(), of_job);
        }
    }

    fn client(&mut self, deny_private_networks: bool) -> SiteClient {
        match &self.client {
            Some((denies, client)) if *denies == deny_private_networks => client.clone(),
            _ => {
                let client = SiteClient::new(deny_private_networks);
                self.client = Some((deny_private_networks, client.clone()));
                client
            }
        }
    }

    /// Visits a site, in a task of its own.
    pub(super) fn start(
        &self,
        work: Arc<SitesWork>,
        ticket: Ticket,
        outbox: Outbox,
        runtime: &Handle,
    ) {
        let Some(known) = self.handlers.get(&work.job.key) else {
            // Taken away since it was planned, which says nothing of the site:
            // the ticket goes back unsettled, and nothing is written.
            tracing::debug!(job.key = %work.job.key, site.id = %work.site.site_id, "not visited: the job is not configured any more");
            return;
        };
        ticket.in_task(true);
        let (handler, meters) = (known.handler.clone(), known.meters.clone());
        runtime.spawn(async move {
            let span = tracing::info_span!(
                target: TRACE_TARGET,
                parent: ticket.span(),
                "fetch",
                fetch.requests = field::Empty,
                error = field::Empty,
                otel.status_code = field::Empty,
            );
            let outcome = match handler {
                Ok(handler) => visit(&*handler, work).instrument(span.clone()).await,
                Err(problem) => SitesOutcome {
                    visited: Visited::failed(FailureKind::Job, &problem),
                    begun: Timestamp::now(),
                    took: Duration::ZERO,
                    work,
                },
            };
            if let Err(error) = &outcome.visited.result {
                span.record("error", field::display(error));
                span.record("otel.status_code", "ERROR");
            }
            meters.count(&outcome);
            // A site that fails is no reason to send its host less. A host that
            // asks for silence is kept busy until its wish is written, also for a
            // Scheduler that is built meanwhile.
            match outcome.pause() {
                None => ticket.fetched(),
                // Other jobs visit the same host.
                Some(until) => ticket.pause(until),
            }
            ticket.in_task(false);
            let outcome = Outcome::Sites(outcome);
            outbox.send(Done { outcome, ticket }).await;
        });
    }
}

/// Where the visits of a job are counted: looked up once, and not at each visit.
struct Meters {
    /// By outcome.
    visits: Vec<(&'static str, Counter)>,
    lateness: Histogram,
    took: Histogram,
}

impl Meters {
    fn of(job: &JobKey) -> Self {
        let job = job.to_string();
        let words = FailureKind::ALL.map(FailureKind::as_str);
        let visits = [SitesOutcome::SUCCESS].into_iter().chain(words);
        Self {
            visits: visits
                .map(|outcome| {
                    let counter = metrics::counter!(
                        "highwater_site_visits_total",
                        "job" => job.clone(),
                        "outcome" => outcome
                    );
                    (outcome, counter)
                })
                .collect(),
            lateness: metrics::histogram!("highwater_site_lateness_seconds", "job" => job.clone()),
            took: metrics::histogram!("highwater_fetch_seconds", "flow" => "sites", "job" => job),
        }
    }

    fn count(&self, outcome: &SitesOutcome) {
        let word = outcome.word();
        if let Some((_, visits)) = self.visits.iter().find(|(known, _)| *known == word) {
            visits.increment(1);
        }
        if let Some(due) = outcome.work.site.next_due_at {
            self.lateness.record(outcome.begun.since(due).as_secs_f64());
        }
        self.took.record(outcome.took.as_secs_f64());
    }
}
