//! The Updater: the one writer of flow results.
//!
//! In: [`Commit`] from the FetcherPool; [`Record`](crate::messages::Record) and
//! [`Mark`](crate::messages::Mark) of the event flow, and
//! [`Publish`](crate::messages::Publish) and [`Apply`](crate::messages::Apply) of
//! the replica flow, which are answered. Out:
//! [`Settled`] to the Scheduler. It gathers outcomes for a few milliseconds or a few thousand rows, whichever
//! comes first, and commits them in one transaction, each under the lease it
//! was fetched with. On failure of the database: what was gathered is kept and
//! tried again, and counts against nobody. When the Updater itself ends, the
//! tickets it held come back to the Scheduler, and the work is done again.

mod events;
mod events_write;
mod flows;
mod lane;
mod replicas;
mod replicas_write;
mod write;

pub use replicas_write::{NoReplicas, ReplicaEdit, ReplicaWriter};

use super::follow_settings;
use crate::config::{
    BatchesSettings, EventsSettings, HistorySettings, ReplicationSettings, SitesSettings,
};
use crate::flows::replicas::Content;
use crate::flows::sites::Spreads;
use crate::messages::{
    Commit, Done, Flow, Flush, InFlight, Outcome, Settled, SettledWork, Ticket, names,
};
use crate::store::BatchWriter;
use crate::telemetry::{TRACE_TARGET, as_i64};
use crate::time::Timestamp;
use crate::watchdog::{Envelope, Intercom, LookupError, ServiceContext, SettingsReader};
use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, SpawnHandle};
use events::EventLanes;
use flows::{FlowGroup, asked_of, group_of, report_of, rows_of, write_group};
use replicas::ReplicaLanes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tracing::{Span, field};
use write::Written;

/// First pause after the database was out of reach, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long results wait for the Scheduler to come back.
const SCHEDULER_PATIENCE: Duration = Duration::from_secs(60);

/// Settings of the Updater.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdaterSettings {
    /// The batch flow: its rules, and how much is gathered how long.
    pub batches: BatchesSettings,
    /// The site flow: how much is gathered how long.
    pub sites: SitesSettings,
    /// Newest polls and results kept of each site and job.
    pub polls_per_site: usize,
    /// The event flow: how much is gathered how long.
    pub events: EventsSettings,
    /// The replica flow: how long is gathered.
    pub replication: ReplicationSettings,
    /// History kept of each dataset and replica.
    pub histories: BTreeMap<Content, HistorySettings>,
}

/// What an Updater is built from.
#[derive(Clone, Debug)]
pub struct UpdaterParts {
    /// Writes what the flows change.
    pub writer: BatchWriter,
    /// Writes what is published, and what becomes of replicas.
    pub replicas: Arc<dyn ReplicaWriter>,
    /// Where the next visits of sites are put in time.
    pub spreads: Spreads,
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
    /// By flow.
    lanes: [Lane; Flow::ALL.len()],
    /// Events on their way.
    events: EventLanes,
    /// What is published, and changes of replicas, on their way.
    replicas: ReplicaLanes,
    /// What is written next, where several wait: a position in [`Slot::ALL`].
    turn: usize,
    /// Transactions under way, and of those the ones that pause before they are
    /// tried again: they hold up no other.
    committing: usize,
    pausing: usize,
    failures: u32,
    flushes: Vec<oneshot::Sender<()>>,
}

/// What takes turns in being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// Outcomes of a flow.
    Outcomes(Flow),
    /// Events that were heard.
    Records,
    /// What became of events.
    Marks,
    /// What is published.
    Publishes,
    /// Changes of replicas.
    Applies,
}

impl Slot {
    const ALL: [Self; Flow::ALL.len() + 4] = [
        Self::Outcomes(Flow::Batches),
        Self::Outcomes(Flow::Sites),
        Self::Records,
        Self::Marks,
        Self::Publishes,
        Self::Applies,
    ];
}

/// What waits of one flow.
#[derive(Default)]
struct Lane {
    gathered: Vec<Gathered>,
    rows: usize,
    timer: Option<SpawnHandle>,
}

/// An outcome that waits to be written.
struct Gathered {
    outcome: Outcome,
    ticket: Ticket,
    /// The trace's part from here to the database.
    span: Span,
    /// When it came.
    since: Instant,
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
            lanes: Default::default(),
            events: EventLanes::default(),
            replicas: ReplicaLanes::default(),
            turn: 0,
            committing: 0,
            pausing: 0,
            failures: 0,
            flushes: Vec::new(),
        })
    }

    fn gather(&mut self, outcome: Outcome, ticket: Ticket, ctx: &mut Context<Self>) {
        let rows = rows_of(&outcome);
        if rows == 0 {
            // Nothing to write: a failure is told at once, whatever the database does.
            self.tell(vec![SettledWork {
                report: report_of(&outcome),
                due_at: None,
                asked: asked_of(&outcome),
                ticket,
            }]);
            return;
        }
        let flow = outcome.flow();
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
        let lane = &mut self.lanes[flow.index()];
        lane.rows += rows;
        lane.gathered.push(Gathered {
            outcome,
            ticket,
            span,
            since: Instant::now(),
        });
        self.commit_in_time(flow, ctx);
    }

    /// Commits what is gathered of a flow, once it is enough or old enough.
    fn commit_in_time(&mut self, flow: Flow, ctx: &mut Context<Self>) {
        let lane = &self.lanes[flow.index()];
        let Some(oldest) = lane.gathered.first() else {
            return;
        };
        let interval = self.settings.commit_interval(flow);
        let wait = interval.saturating_sub(oldest.since.elapsed());
        if lane.rows >= self.settings.commit_rows(flow) || wait.is_zero() {
            self.commit(flow, ctx);
        } else if lane.timer.is_none() && !self.is_full() {
            self.lanes[flow.index()].timer = Some(ctx.run_later(wait, move |updater, ctx| {
                updater.lanes[flow.index()].timer = None;
                updater.commit(flow, ctx);
            }));
        }
    }

    fn commit(&mut self, flow: Flow, ctx: &mut Context<Self>) {
        let is_full = self.is_full();
        let lane = &mut self.lanes[flow.index()];
        if is_full || lane.gathered.is_empty() {
            return;
        }
        if self.context.fence().is_up() {
            // Another Updater has taken over; these tickets go back.
            lane.gathered.clear();
            return;
        }
        if let Some(timer) = lane.timer.take() {
            ctx.cancel_future(timer);
        }
        let gathered = lane.take_group(self.settings.commit_rows(flow));
        let settings = self.settings.clone();
        let parts = self.parts.clone();
        self.committing += 1;
        let task = self.context.runtime().spawn(async move {
            let now = Timestamp::now();
            let group = group_of(flow, gathered, &settings, &parts, now);
            write_group(&parts, group).await
        });
        self.await_write(ctx, task);
    }

    fn await_write(
        &mut self,
        ctx: &mut Context<Self>,
        task: tokio::task::JoinHandle<Written<FlowGroup>>,
    ) {
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
        if self.is_idle() {
            for flush in self.flushes.drain(..) {
                // Whoever flushed may have given up waiting.
                flush.send(()).unwrap_or_default();
            }
        } else if self.flushes.is_empty() {
            // What gathered during the commit has waited long enough, or nearly.
            self.in_turn(|updater, slot| match slot {
                Slot::Outcomes(flow) => updater.commit_in_time(flow, ctx),
                // Whoever hands these over waits for the answer.
                Slot::Records | Slot::Marks | Slot::Publishes | Slot::Applies => {
                    updater.commit_slot(slot, ctx);
                }
            });
        } else {
            self.commit_all(ctx);
        }
    }

    /// Writes what is gathered, in turn.
    fn commit_all(&mut self, ctx: &mut Context<Self>) {
        self.in_turn(|updater, slot| updater.commit_slot(slot, ctx));
    }

    fn in_turn(&mut self, mut each: impl FnMut(&mut Self, Slot)) {
        let turn = self.turn;
        for step in 0..Slot::ALL.len() {
            let position = (turn + step) % Slot::ALL.len();
            let before = self.committing;
            each(self, Slot::ALL[position]);
            if self.committing > before {
                self.turn = position + 1;
            }
        }
    }

    fn commit_slot(&mut self, slot: Slot, ctx: &mut Context<Self>) {
        match slot {
            Slot::Outcomes(flow) => self.commit(flow, ctx),
            Slot::Records => self.commit_records(ctx),
            Slot::Marks => self.commit_marks(ctx),
            Slot::Publishes => self.commit_publishes(ctx),
            Slot::Applies => self.commit_applies(ctx),
        }
    }

    /// No further transaction of outcomes is to begin now.
    const fn is_full(&self) -> bool {
        self.committing >= self.parts.writers
    }

    /// None of calls: whoever hands them over waits for the answer, and so not
    /// for outcomes that are to be written again.
    const fn is_full_of_calls(&self) -> bool {
        self.committing.saturating_sub(self.pausing) >= self.parts.writers
    }

    /// Nothing waits, and nothing is under way.
    fn is_idle(&self) -> bool {
        let empty = self.lanes.iter().all(|lane| lane.gathered.is_empty());
        self.committing == 0 && empty && self.events.is_empty() && self.replicas.is_empty()
    }

    fn write_again(&mut self, ctx: &mut Context<Self>, group: FlowGroup, error: &str) {
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
        self.pausing += 1;
        for slot in [Slot::Records, Slot::Marks, Slot::Publishes, Slot::Applies] {
            self.commit_slot(slot, ctx);
        }
        ctx.run_later(pause, |updater, ctx| {
            updater.pausing -= 1;
            let parts = updater.parts.clone();
            let write = async move { write_group(&parts, group).await };
            let task = updater.context.runtime().spawn(write);
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

impl Lane {
    /// The oldest outcomes, as many as one transaction takes.
    fn take_group(&mut self, most: usize) -> Vec<Gathered> {
        let mut rows = 0;
        let fits = self.gathered.iter().take_while(|gathered| {
            let first = rows == 0;
            rows += rows_of(&gathered.outcome);
            first || rows <= most
        });
        let count = fits.count();
        let rest = self.gathered.split_off(count);
        let group = std::mem::replace(&mut self.gathered, rest);
        let waiting = self.gathered.iter();
        self.rows = waiting.map(|gathered| rows_of(&gathered.outcome)).sum();
        group
    }
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
        let Commit(done) = envelope.open();
        for Done { outcome, ticket } in done {
            self.gather(outcome, ticket, ctx);
        }
    }
}

impl Handler<Envelope<Flush>> for Updater {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, envelope: Envelope<Flush>, ctx: &mut Self::Context) -> Self::Result {
        let Flush = envelope.open();
        if self.is_idle() {
            return Box::pin(std::future::ready(()));
        }
        let (done, wait) = oneshot::channel();
        self.flushes.push(done);
        self.commit_all(ctx);
        Box::pin(async move {
            // An Updater that ends answers nobody; the drain goes on.
            drop(wait.await);
        })
    }
}
