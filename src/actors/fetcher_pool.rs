//! The FetcherPool: does the network work, off the actors' thread.
//!
//! In: [`Fetch`]. Out: [`Commit`] to the Updater. On failure of one fetch
//! (a panic included): an outcome that says so. When the pool itself ends, the
//! tickets of the messages in its mailbox come back to the Scheduler; fetches
//! under way go on and deliver their outcomes.

use super::follow_settings;
use crate::config::LedgerSettings;
use crate::flows::batches::{self, Answer, BatchesOutcome, BatchesWork};
use crate::ledgers::{self, Ledger, LedgerError};
use crate::messages::{Commit, Fetch, InFlight, Outcome, Ticket, Work, names};
use crate::telemetry::TRACE_TARGET;
use crate::watchdog::{Envelope, Intercom, LookupError, ServiceContext, SettingsReader};
use actix::{Actor, Context, Handler};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{Instrument as _, Span, field};

/// How long an outcome waits for the Updater to come back before it is given
/// up (its batches are then fetched again).
const UPDATER_PATIENCE: Duration = Duration::from_secs(60);

/// The pool of network work.
pub struct FetcherPool {
    context: ServiceContext,
    settings: SettingsReader<Vec<LedgerSettings>>,
    /// Takes the outcomes.
    updater: Intercom<Commit>,
    ledgers: HashMap<String, Client>,
}

struct Client {
    settings: LedgerSettings,
    ledger: Result<Arc<dyn Ledger>, String>,
}

impl FetcherPool {
    /// A pool with a client for each configured ledger.
    ///
    /// # Errors
    /// The watchdog does not know what it asks for.
    pub fn new(context: ServiceContext, in_flight: &InFlight) -> Result<Self, LookupError> {
        if context.former_is_lost() {
            in_flight.revoke_all();
        }
        let settings = context.settings::<Vec<LedgerSettings>>()?;
        let ledgers = settings.current();
        let mut pool = Self {
            updater: context.intercom(names::UPDATER)?,
            context,
            settings,
            ledgers: HashMap::new(),
        };
        pool.configure(ledgers);
        Ok(pool)
    }

    /// Makes clients for new and changed ledgers; others keep theirs, and
    /// their connections.
    fn configure(&mut self, settings: Vec<LedgerSettings>) {
        let mut known = std::mem::take(&mut self.ledgers);
        for settings in settings {
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
        let updater = self.updater.clone();
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
            deliver(&updater, outcome, ticket).await;
        });
    }

    fn deliver(&self, outcome: BatchesOutcome, ticket: Ticket) {
        let updater = self.updater.clone();
        self.context
            .runtime()
            .spawn(async move { deliver(&updater, outcome, ticket).await });
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

async fn deliver(updater: &Intercom<Commit>, outcome: BatchesOutcome, ticket: Ticket) {
    // Others need not wait until a failure is settled.
    ticket.give_slot_back();
    if outcome.failure.is_none() && outcome.panic.is_none() {
        // After a failure the connection stays taken until the Scheduler has
        // heard of it, so that it does not send more the same way.
        ticket.fetched();
    }
    let commit = Commit {
        outcome: Outcome::Batches(outcome),
        ticket,
    };
    if let Err(error) = updater.send(commit, UPDATER_PATIENCE).await {
        tracing::warn!(error = %error, "an outcome was not taken; its batches are asked for again");
    }
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
        }
    }
}
