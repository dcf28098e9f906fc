//! The FetcherPool: does the network work, off the actors' thread.
//!
//! In: [`Fetch`]. Out: [`Commit`] to the Updater. On failure of one fetch
//! (a panic included): an outcome that says so. When the pool itself ends, the
//! tickets of the messages in its mailbox come back to the Scheduler; fetches
//! under way go on and deliver their outcomes.

mod outbox;
mod visits;

use super::follow_settings;
use crate::config::{AppSettings, JobSettings, LedgerSettings, SitesSettings};
use crate::flows::batches::{self, Answer, BatchesOutcome, BatchesWork};
use crate::handlers::Listeners;
use crate::ledgers::{self, Ledger, LedgerError};
use crate::messages::{Done, Fetch, InFlight, Outcome, Ticket, Work, names};
use crate::telemetry::TRACE_TARGET;
use crate::watchdog::{Envelope, LookupError, ServiceContext, SettingsReader};
use actix::{Actor, Context, Handler};
use outbox::Outbox;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{Instrument as _, Span, field};
use visits::{Visits, VisitsSettings};

/// Settings of the FetcherPool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSettings {
    /// The ledgers.
    pub ledgers: Vec<LedgerSettings>,
    /// The site flow.
    pub sites: SitesSettings,
    /// The apps.
    pub apps: Vec<AppSettings>,
    /// The jobs.
    pub jobs: Vec<JobSettings>,
}

/// What a FetcherPool is built from.
#[derive(Clone, Debug)]
pub struct PoolParts {
    /// All work in flight.
    pub in_flight: InFlight,
    /// Rust code, registered for events of jobs.
    pub listeners: Listeners,
}

/// The pool of network work.
pub struct FetcherPool {
    context: ServiceContext,
    settings: SettingsReader<PoolSettings>,
    /// Takes the outcomes.
    outbox: Outbox,
    ledgers: HashMap<String, Client>,
    visits: Visits,
}

struct Client {
    settings: LedgerSettings,
    ledger: Result<Arc<dyn Ledger>, String>,
}

impl FetcherPool {
    /// A pool with a client for each configured ledger, and a handler for each
    /// job.
    ///
    /// # Errors
    /// The watchdog does not know what it asks for.
    pub fn new(context: ServiceContext, parts: PoolParts) -> Result<Self, LookupError> {
        if context.former_is_lost() {
            parts.in_flight.revoke_all();
        }
        let reader = context.settings::<PoolSettings>()?;
        let settings = reader.current();
        let updater = context.intercom(names::UPDATER)?;
        let mut pool = Self {
            outbox: Outbox::open(updater, context.runtime()),
            context,
            settings: reader,
            ledgers: HashMap::new(),
            visits: Visits::new(parts.listeners),
        };
        pool.configure(settings);
        Ok(pool)
    }

    /// Makes clients for new and changed ledgers; others keep theirs, and
    /// their connections.
    fn configure(&mut self, settings: PoolSettings) {
        let PoolSettings {
            ledgers,
            sites,
            apps,
            jobs,
        } = settings;
        self.visits.configure(VisitsSettings { sites, apps, jobs });
        let mut known = std::mem::take(&mut self.ledgers);
        for settings in ledgers {
            let client = match known.remove(&settings.name) {
                Some(client) if client.settings == settings => client,
                _ => {
                    let ledger = ledgers::connect(&settings).map_err(|error| error.to_string());
                    if let Err(error) = &ledger {
                        tracing::error!(ledger.name = %settings.name, error = %error, "no client for this ledger");
                    }
                    Client { settings, ledger }
                }
            };
            self.ledgers.insert(client.settings.name.clone(), client);
        }
    }

    fn fetch_batches(&self, work: Arc<BatchesWork>, ticket: Ticket) {
        let client = self.ledgers.get(&*work.ledger);
        let ledger = match client.map(|client| &client.ledger) {
            Some(Ok(ledger)) => ledger.clone(),
            Some(Err(detail)) => {
                self.deliver(failed(work, detail.clone()), ticket);
                return;
            }
            None => {
                self.deliver(
                    failed(work, "the ledger is not configured".to_owned()),
                    ticket,
                );
                return;
            }
        };
        let outbox = self.outbox.clone();
        let runtime = self.context.runtime();
        let span = tracing::info_span!(
            target: TRACE_TARGET,
            parent: ticket.span(),
            "fetch",
            fetch.requests = field::Empty,
            error = field::Empty,
            otel.status_code = field::Empty,
        );
        let fetch = batches::fetch(ledger, work.clone()).instrument(span.clone());
        let fetch = runtime.spawn(fetch);
        runtime.spawn(async move {
            let outcome = match fetch.await {
                Ok(outcome) => outcome,
                Err(error) => {
                    let mut outcome = failed(work, String::new());
                    if let [alone] = &mut outcome.answers[..] {
                        // Put off, so that others of its service come next.
                        *alone = Answer::Unanswerable(format!("a defect while asking: {error}"));
                    }
                    outcome.panic = Some(error.to_string());
                    outcome
                }
            };
            metrics::histogram!(
                "highwater_fetch_seconds",
                "flow" => "batches",
                "ledger" => outcome.work.ledger.to_string()
            )
            .record(outcome.took.as_secs_f64());
            end_span(span, &outcome);
            deliver(&outbox, outcome, ticket).await;
        });
    }

    fn deliver(&self, outcome: BatchesOutcome, ticket: Ticket) {
        let outbox = self.outbox.clone();
        self.context
            .runtime()
            .spawn(async move { deliver(&outbox, outcome, ticket).await });
    }
}

/// Ends the trace's part that is the fetch, with what came of it.
fn end_span(span: Span, outcome: &BatchesOutcome) {
    span.record("fetch.requests", i64::from(outcome.requests));
    let failure = outcome.failure.as_ref().map(ToString::to_string);
    if let Some(error) = failure.as_ref().or(outcome.panic.as_ref()) {
        span.record("error", error);
        span.record("otel.status_code", "ERROR");
    }
}

async fn deliver(outbox: &Outbox, outcome: BatchesOutcome, ticket: Ticket) {
    // Others need not wait until a failure is settled.
    ticket.give_slot_back();
    if outcome.failure.is_none() && outcome.panic.is_none() {
        // After a failure the connection stays taken until the Scheduler has
        // heard of it, so that it does not send more the same way.
        ticket.fetched();
    }
    let outcome = Outcome::Batches(outcome);
    outbox.send(Done { outcome, ticket }).await;
}

fn failed(work: Arc<BatchesWork>, detail: String) -> BatchesOutcome {
    BatchesOutcome {
        answers: vec![Answer::NotAsked; work.batches.len()],
        work,
        unasked: 0,
        requests: 0,
        failure: Some(LedgerError::Unreachable { detail }),
        panic: None,
        took: Duration::ZERO,
    }
}

impl Actor for FetcherPool {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let reader = self.settings.clone();
        follow_settings(ctx, &reader, |pool: &mut Self, settings, _| {
            pool.configure(settings);
        });
    }
}

impl Handler<Envelope<Fetch>> for FetcherPool {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Fetch>, _: &mut Self::Context) {
        let Fetch { work, ticket } = envelope.open();
        if self.context.fence().is_up() {
            // What came of it would be refused: the ticket goes back.
            return;
        }
        match work {
            Work::Batches(work) => self.fetch_batches(work, ticket),
            Work::Sites(work) => {
                let runtime = self.context.runtime();
                self.visits
                    .start(work, ticket, self.outbox.clone(), runtime);
            }
        }
    }
}
