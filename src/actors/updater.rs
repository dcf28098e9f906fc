//! The Updater: the one writer of flow results.
//!
//! In: [`Commit`] from the FetcherPool. Out: [`Settled`] to the Scheduler. It
//! gathers outcomes for a few milliseconds or a few thousand rows, whichever
//! comes first, and commits them in one transaction, each under the lease it
//! was fetched with. On failure of the database: what was gathered is kept and
//! tried again, and counts against nobody. When the Updater itself ends, the
//! tickets it held come back to the Scheduler, and the work is done again.

mod write;

use super::follow_settings;
use crate::config::BatchesSettings;
use crate::flows::batches::{Answer, BatchesOutcome, BatchesReport, changes_of};
use crate::messages::{
    Commit, Flush, InFlight, Outcome, Report, Settled, SettledWork, Ticket, names,
};
use crate::store::BatchWriter;
use crate::telemetry::{TRACE_TARGET, as_i64};
use crate::time::Timestamp;
use crate::watchdog::{Envelope, Intercom, LookupError, ServiceContext, SettingsReader};
use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, SpawnHandle};
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::{Span, field};
use write::{Group, Item, Written, write};

/// First pause after the database was out of reach, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long results wait for the Scheduler to come back.
const SCHEDULER_PATIENCE: Duration = Duration::from_secs(60);

/// Settings of the Updater.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdaterSettings {
    /// The batch flow: its rules, and how much is gathered how long.
    pub batches: BatchesSettings,
}

/// What an Updater is built from.
#[derive(Clone, Debug)]
pub struct UpdaterParts {
    /// Writes batches.
    pub batches: BatchWriter,
    /// All work in flight.
    pub in_flight: InFlight,
    /// Transactions under way at once: 1 on SQLite, which has one writer.
    pub writers: usize,
}

/// Commits outcomes in groups.
pub struct Updater {
    context: ServiceContext,
    parts: UpdaterParts,
    reader: SettingsReader<UpdaterSettings>,
    settings: UpdaterSettings,
    /// Is told what is settled.
    scheduler: Intercom<Settled>,
    gathered: Vec<Gathered>,
    rows: usize,
    timer: Option<SpawnHandle>,
    /// Transactions under way.
    committing: usize,
    failures: u32,
    flushes: Vec<oneshot::Sender<()>>,
}

/// An outcome that waits to be written.
struct Gathered {
    outcome: BatchesOutcome,
    ticket: Ticket,
    /// The trace's part from here to the database.
    span: Span,
}

impl Updater {
    /// An Updater with nothing gathered.
    ///
    /// # Errors
    /// The watchdog does not know what it asks for.
    pub fn new(context: ServiceContext, parts: UpdaterParts) -> Result<Self, LookupError> {
        let reader = context.settings::<UpdaterSettings>()?;
        if context.former_is_lost() {
            parts.in_flight.revoke_all();
        }
        Ok(Self {
            scheduler: context.intercom(names::SCHEDULER)?,
            context,
            parts,
            settings: reader.current(),
            reader,
            gathered: Vec::new(),
            rows: 0,
            timer: None,
            committing: 0,
            failures: 0,
            flushes: Vec::new(),
        })
    }

    fn gather(&mut self, outcome: BatchesOutcome, ticket: Ticket, ctx: &mut Context<Self>) {
        let rows = rows_of(&outcome);
        if rows == 0 {
            // Nothing to write: a failure is told at once, whatever the database does.
            let asked = outcome.work.batches.len();
            let report = Report::Batches(BatchesReport::of(&outcome));
            self.tell(vec![SettledWork {
                report,
                due_at: None,
                asked,
                ticket,
            }]);
            return;
        }
        self.rows += rows;
        let span = tracing::info_span!(
            target: TRACE_TARGET,
            parent: ticket.span(),
            "commit",
            commit.rows = as_i64(rows),
            commit.units = field::Empty,
            batches.settled = field::Empty,
            error = field::Empty,
            otel.status_code = field::Empty,
        );
        self.gathered.push(Gathered {
            outcome,
            ticket,
            span,
        });
        if self.rows >= self.settings.batches.commit_rows {
            self.commit(ctx);
        } else if self.timer.is_none() && self.committing < self.parts.writers {
            self.arm(ctx, self.settings.batches.commit_interval);
        }
    }

    fn arm(&mut self, ctx: &mut Context<Self>, after: Duration) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = Some(ctx.run_later(after, |updater, ctx| {
            updater.timer = None;
            updater.commit(ctx);
        }));
    }

    fn commit(&mut self, ctx: &mut Context<Self>) {
        if self.committing >= self.parts.writers || self.gathered.is_empty() {
            return;
        }
        if self.context.fence().is_up() {
            // Another Updater has taken over; these tickets go back.
            self.gathered.clear();
            return;
        }
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let gathered = self.take_group();
        let settings = self.settings.batches.clone();
        let writer = self.parts.batches.clone();
        self.committing += 1;
        let task = self.context.runtime().spawn(async move {
            let now = Timestamp::now();
            let items = gathered
                .into_iter()
                .map(
                    |Gathered {
                         outcome,
                         ticket,
                         span,
                     }| Item {
                        changes: changes_of(&outcome, &settings, now, rand::random()).into(),
                        report: BatchesReport::of(&outcome),
                        asked: outcome.work.batches.len(),
                        stake: outcome.work.stake.clone(),
                        ticket,
                        span,
                    },
                )
                .collect();
            write(&writer, Group { items }).await
        });
        self.await_write(ctx, task);
    }

    /// The oldest outcomes, as many as one transaction takes.
    fn take_group(&mut self) -> Vec<Gathered> {
        let most = self.settings.batches.commit_rows;
        let mut rows = 0;
        let fits = self.gathered.iter().take_while(|gathered| {
            let first = rows == 0;
            rows += rows_of(&gathered.outcome);
            first || rows <= most
        });
        let count = fits.count();
        let rest = self.gathered.split_off(count);
        let group = std::mem::replace(&mut self.gathered, rest);
        self.rows = self
            .gathered
            .iter()
            .map(|gathered| rows_of(&gathered.outcome))
            .sum();
        group
    }

    fn await_write(&mut self, ctx: &mut Context<Self>, task: tokio::task::JoinHandle<Written>) {
        ctx.spawn(wrap_future::<_, Self>(task).map(|result, updater, ctx| {
            updater.context.progress();
            match result {
                Ok(Written { settled, left }) => {
                    updater.tell(settled);
                    match left {
                        Some((group, error)) => updater.write_again(ctx, group, &error),
                        None => {
                            updater.failures = 0;
                            updater.written(ctx);
                        }
                    }
                }
                Err(error) => {
                    // The tickets came back with the task's end.
                    tracing::error!(error = %error, "a commit ended early; its work is done again");
                    updater.written(ctx);
                }
            }
        }));
    }

    fn written(&mut self, ctx: &mut Context<Self>) {
        self.committing -= 1;
        if self.gathered.is_empty() && self.committing == 0 {
            for flush in self.flushes.drain(..) {
                // Whoever flushed may have given up waiting.
                flush.send(()).unwrap_or_default();
            }
        } else {
            // What gathered during the commit has waited long enough.
            self.commit(ctx);
        }
    }

    fn write_again(&mut self, ctx: &mut Context<Self>, group: Group, error: &str) {
        self.failures = self.failures.saturating_add(1);
        let pause = RETRY
            .0
            .saturating_mul(1 << self.failures.min(10))
            .min(RETRY.1);
        metrics::counter!("highwater_commit_failures_total").increment(1);
        tracing::warn!(
            error = %error,
            commit.retry_after_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "outcomes could not be written; kept, and tried again"
        );
        ctx.run_later(pause, |updater, ctx| {
            let writer = updater.parts.batches.clone();
            let task = updater
                .context
                .runtime()
                .spawn(async move { write(&writer, group).await });
            updater.await_write(ctx, task);
        });
    }

    fn tell(&self, settled: Vec<SettledWork>) {
        if settled.is_empty() {
            return;
        }
        let scheduler = self.scheduler.clone();
        self.context.runtime().spawn(async move {
            if let Err(error) = scheduler.send(Settled(settled), SCHEDULER_PATIENCE).await {
                tracing::warn!(error = %error, "the Scheduler did not take results; their tickets came back");
            }
        });
    }
}

/// Rows that an outcome changes.
fn rows_of(outcome: &BatchesOutcome) -> usize {
    outcome
        .answers
        .iter()
        .filter(|answer| **answer != Answer::NotAsked)
        .count()
}

impl Actor for Updater {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let reader = self.reader.clone();
        follow_settings(ctx, &reader, |updater: &mut Self, settings, _| {
            updater.settings = settings;
        });
    }
}

impl Handler<Envelope<Commit>> for Updater {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Commit>, ctx: &mut Self::Context) {
        let Commit { outcome, ticket } = envelope.open();
        match outcome {
            Outcome::Batches(outcome) => self.gather(outcome, ticket, ctx),
        }
    }
}

impl Handler<Envelope<Flush>> for Updater {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, envelope: Envelope<Flush>, ctx: &mut Self::Context) -> Self::Result {
        let Flush = envelope.open();
        if self.committing == 0 && self.gathered.is_empty() {
            return Box::pin(std::future::ready(()));
        }
        let (done, wait) = oneshot::channel();
        self.flushes.push(done);
        self.commit(ctx);
        Box::pin(async move {
            // An Updater that ends answers nobody; the drain goes on.
            drop(wait.await);
        })
    }
}
