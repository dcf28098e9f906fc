//! Carries out what the plan says: reads and look-ups on the runtime, changes
//! through the Updater, events to the handler; each within a time limit, and
//! each answer goes back to the plan that asked.

use super::source::bounded;
use super::trouble::{ReadKind, Told};
use super::{READ_AGAIN, Subscriber, Task};
use crate::config::{EventHandlerSettings, Relevance};
use crate::flows::events::{
    Checkpoint, EventChange, Marked, OpenEvent, PAGE_BYTES, PageSize, Place, SinkError, Step,
    SubscriptionPlan,
};
use crate::messages::Mark;
use crate::store::StoreError;
use crate::time::Timestamp;
use actix::fut::wrap_future;
use actix::{ActorFutureExt as _, AsyncContext as _, Context};
use std::time::Duration;
use tokio::task::JoinError;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// Time limit of a read or look-up.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// How long the Updater is waited for.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// A handler ends within its own time limit; it is cut off so much later.
const HANDLER_GRACE: Duration = Duration::from_secs(10);

impl Subscriber {
    pub(super) fn perform(&mut self, ctx: &mut Context<Self>, step: Step) {
        let rows = self.parts.rows.clone();
        let name = self.settings.subscription.name.clone();
        match step {
            Step::Load(load) => {
                let size = self.page(load.limit);
                let read = async move { rows.open_events(name.as_str(), load.after, size).await };
                self.read(
                    ctx,
                    ReadKind::Page,
                    read,
                    move |plan, page, now| match page {
                        Ok(page) => plan.loaded(&load, page, now),
                        Err(_) => plan.load_failed(&load, now),
                    },
                );
            }
            Step::Sweep(sweep) => {
                let size = self.page(sweep.limit);
                let read =
                    async move { rows.recorded_since(name.as_str(), sweep.since, size).await };
                self.read(
                    ctx,
                    ReadKind::Sweep,
                    read,
                    move |plan, page, now| match page {
                        Ok(page) => plan.swept(&sweep, page, now),
                        Err(_) => plan.sweep_failed(&sweep, now),
                    },
                );
            }
            Step::Judge(asked) => {
                let lookup = match &self.settings.subscription.relevance {
                    Relevance::All => None,
                    Relevance::Known(wait) => wait.sql.clone(),
                };
                let read = async move { rows.judge(lookup.as_deref(), asked).await };
                self.read(
                    ctx,
                    ReadKind::LookUp,
                    read,
                    |plan, judged, now| match judged {
                        Ok(judged) => plan.judged(&judged, now),
                        Err(_) => plan.judge_failed(now),
                    },
                );
            }
            Step::Handle(event, attempt) => self.hand_over(ctx, event, attempt),
            Step::Mark(changes) => self.mark(ctx, changes),
        }
    }

    /// A page of so many events; where the consumer reads the table, nobody here
    /// reads payloads.
    fn page(&self, rows: usize) -> PageSize {
        let table = self.settings.subscription.handler == EventHandlerSettings::Table;
        PageSize {
            rows,
            bytes: (!table).then_some(PAGE_BYTES),
        }
    }

    /// Reads something and tells the plan, if that is still the one that asked.
    fn read<T: Send + 'static>(
        &self,
        ctx: &mut Context<Self>,
        kind: ReadKind,
        read: impl Future<Output = Result<T, StoreError>> + Send + 'static,
        tell: impl FnOnce(&mut SubscriptionPlan, Result<T, String>, Timestamp) + 'static,
    ) {
        let round = self.round;
        let task = self.context.runtime().spawn(timeout(READ_LIMIT, read));
        ctx.spawn(
            wrap_future::<_, Self>(task).map(move |result, subscriber, ctx| {
                let result = answer(result);
                if round != subscriber.round {
                    return;
                }
                subscriber.take_trouble(kind, result.as_ref().err());
                let run = subscriber.run.as_mut();
                if let Some(plan) = run.and_then(|run| run.plan.as_mut()) {
                    tell(plan, result, Timestamp::now());
                }
                subscriber.turn(ctx);
            }),
        );
    }

    /// Says why rows cannot be read, once for each reason and kind of read.
    pub(super) fn take_trouble(&mut self, kind: ReadKind, error: Option<&String>) {
        let error = error.map(|error| bounded(error));
        let name = &self.settings.subscription.name;
        match (self.troubles.take(kind, error.as_deref()), error) {
            (Told::Fails, Some(error)) => {
                tracing::warn!(subscription.name = %name, rows.read = kind.as_str(), error = %error, "a subscription's rows could not be read; tried again");
            }
            (Told::Mended, _) => {
                tracing::info!(subscription.name = %name, rows.read = kind.as_str(), "a subscription's rows are read again");
            }
            _ => {}
        }
    }

    fn hand_over(&mut self, ctx: &mut Context<Self>, event: OpenEvent, attempt: u32) {
        let place = event.place;
        let Some(handler) = self.connected.handler.clone() else {
            let missing = "no handler is configured for this subscription".to_owned();
            self.handled(ctx, place, Err(missing));
            return;
        };
        let limit = match &self.settings.subscription.handler {
            EventHandlerSettings::Http(http) => http.timeout,
            EventHandlerSettings::Command(command) => command.timeout,
            EventHandlerSettings::Code(code) => code.timeout,
            EventHandlerSettings::Table => Duration::ZERO,
        };
        let limit = limit.saturating_add(HANDLER_GRACE);
        let name = self.settings.subscription.name.clone();
        let task = self.context.runtime().spawn(async move {
            let handled = timeout(limit, handler.handle(&name, &event, attempt)).await;
            handled.unwrap_or_else(|_| Err(format!("the handler did not end within {limit:?}")))
        });
        if let Some(run) = &mut self.run {
            run.handler = Some(Task(task.abort_handle()));
        }
        let round = self.round;
        ctx.spawn(
            wrap_future::<_, Self>(task).map(move |result, subscriber, ctx| {
                if round != subscriber.round {
                    return;
                }
                let result =
                    result.unwrap_or_else(|error| Err(format!("the handler panicked: {error}")));
                subscriber.handled(ctx, place, result);
            }),
        );
    }

    fn handled(&mut self, ctx: &mut Context<Self>, place: Place, result: Result<(), String>) {
        let result = result.map_err(|error| bounded(&error));
        if let Err(error) = &result {
            tracing::warn!(subscription.name = %self.settings.subscription.name, event.block = place.block, event.arrival = place.arrival, error = %error, "an event could not be processed");
        }
        if let Some(run) = &mut self.run {
            run.handler = None;
            if let Some(plan) = &mut run.plan {
                plan.handled(place, result, Timestamp::now());
            }
        }
        self.turn(ctx);
    }

    fn mark(&mut self, ctx: &mut Context<Self>, changes: Vec<EventChange>) {
        let Some(run) = &self.run else {
            return;
        };
        let name = self.settings.subscription.name.clone();
        for change in &changes {
            if let EventChange::Halted { place, error, .. } = change {
                tracing::error!(subscription.name = %name, event.block = place.block, event.arrival = place.arrival, error = %error, "a subscription halts: mend the cause and retry, or skip the event (`highwater events`)");
            }
        }
        let mark = Mark {
            subscription: name,
            stake: run.stake.clone(),
            orders: run.plan.as_ref().map_or(0, SubscriptionPlan::orders),
            changes,
        };
        let (marker, round) = (self.marker.clone(), self.round);
        let send = async move { marker.send(mark, WRITE_LIMIT).await };
        ctx.spawn(
            wrap_future::<_, Self>(send).map(move |answer, subscriber, ctx| {
                if round != subscriber.round {
                    return;
                }
                let marked = match answer {
                    Ok(Ok(())) => Marked::Done,
                    Ok(Err(SinkError::Fenced)) => Marked::Fenced,
                    Ok(Err(error)) => Marked::Away(bounded(&error.to_string())),
                    Err(error) => Marked::Away(error.to_string()),
                };
                if let Marked::Away(error) = &marked {
                    tracing::warn!(subscription.name = %subscriber.settings.subscription.name, error = %error, "decisions were not written; tried again");
                }
                let run = subscriber.run.as_mut();
                if let Some(plan) = run.and_then(|run| run.plan.as_mut()) {
                    plan.marked(marked, Timestamp::now());
                }
                subscriber.turn(ctx);
            }),
        );
    }

    /// Reads the checkpoint after a pause, and begins anew from it.
    pub(super) fn read_anew(&mut self, ctx: &mut Context<Self>, pause: Duration) {
        if let Some(run) = &mut self.run {
            (run.reading, run.anew) = (true, true);
        }
        self.read_checkpoint(ctx, pause, |subscriber, ctx, read| match read {
            Ok(checkpoint) => {
                if let Some(run) = &mut subscriber.run {
                    run.reading = false;
                }
                subscriber.begin(checkpoint);
                subscriber.turn(ctx);
                subscriber.show();
            }
            Err(_) => subscriber.read_anew(ctx, READ_AGAIN),
        });
    }

    /// Looks for what other servers recorded, and for orders.
    pub(super) fn look(&mut self, ctx: &mut Context<Self>) {
        let Some(run) = self.run.as_mut().filter(|run| !run.looking) else {
            return;
        };
        let Some(plan) = &mut run.plan else {
            return;
        };
        plan.look_again();
        run.looking = true;
        self.read_checkpoint(ctx, Duration::ZERO, |subscriber, ctx, read| {
            let Some(run) = &mut subscriber.run else {
                return;
            };
            run.looking = false;
            if let (Ok(checkpoint), Some(plan)) = (read, &run.plan) {
                subscriber.hearing.rows(&checkpoint);
                run.anew |= checkpoint.orders != plan.orders();
            }
            subscriber.turn(ctx);
        });
        self.turn(ctx);
    }

    fn read_checkpoint(
        &self,
        ctx: &mut Context<Self>,
        pause: Duration,
        take: impl FnOnce(&mut Self, &mut Context<Self>, Result<Checkpoint, String>) + 'static,
    ) {
        let (rows, round) = (self.parts.rows.clone(), self.round);
        let name = self.settings.subscription.name.clone();
        let task = self.context.runtime().spawn(async move {
            tokio::time::sleep(pause).await;
            timeout(READ_LIMIT, rows.checkpoint(name.as_str())).await
        });
        ctx.spawn(
            wrap_future::<_, Self>(task).map(move |result, subscriber, ctx| {
                let result = answer(result);
                if round != subscriber.round {
                    return;
                }
                subscriber.take_trouble(ReadKind::Checkpoint, result.as_ref().err());
                take(subscriber, ctx, result);
            }),
        );
    }
}

/// What came of a read, or why nothing did.
fn answer<T>(
    result: Result<Result<Result<T, StoreError>, Elapsed>, JoinError>,
) -> Result<T, String> {
    match result {
        Ok(Ok(Ok(read))) => Ok(read),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(_)) => Err(format!("no answer within {READ_LIMIT:?}")),
        Err(error) => Err(format!("a defect while reading: {error}")),
    }
}
