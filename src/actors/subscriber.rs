//! A Subscriber: runs one subscription while this server holds its lease.
//!
//! In: [`EventsNews`] and [`KnownNews`] from hooks, API and its own source,
//! leases, settings. Out: [`Record`] and [`Mark`] to the Updater; its handler. It
//! decides nothing: the flow's plan says what is read, judged, handled and
//! written, and when. On failure: rows are the truth. Whatever ends it, the next
//! one begins with the checkpoint, and the one event that was with its handler
//! comes again.

mod at_work;
mod perform;
mod source;
#[cfg(test)]
mod tests;
mod trouble;

use super::follow_settings;
use crate::config::{EventsSettings, GatewaySettings, LedgerSettings, SubscriptionSettings};
use crate::flows::events::{
    Checkpoint, EventHandler, EventRows, EventsView, Holder, Source, SubscriberView,
    SubscriptionPlan,
};
use crate::leases::{Holdings, events_lease};
use crate::messages::{EventsNews, EventsRefused, KnownNews, LookAgain, Mark, Record, names};
use crate::store::LeaseStake;
use crate::time::Timestamp;
use crate::watchdog::{Envelope, Intercom, LookupError, ServiceContext, SettingsReader};
use actix::fut::{ActorStreamExt as _, wrap_stream};
use actix::{Actor, AsyncContext, Context, Handler, SpawnHandle};
use at_work::Working;
use source::{Hearing, SubscriberSink};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use trouble::{ReadKind, Troubles};

pub use at_work::AtWork;

/// How often, at most, the view is brought up to date.
const SHOW_EVERY: Duration = Duration::from_millis(250);
/// How long after a failed or refused turn the rows are read anew.
const READ_AGAIN: Duration = Duration::from_millis(300);
/// Longest sleep of the timer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Settings of a Subscriber.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriberSettings {
    /// The subscription.
    pub subscription: SubscriptionSettings,
    /// Its gateway, where it has one.
    pub gateway: Option<GatewaySettings>,
    /// Its ledger, where it has one.
    pub ledger: Option<LedgerSettings>,
    /// The event flow.
    pub events: EventsSettings,
}

/// What a subscription's settings are made into.
#[derive(Clone, Default)]
pub struct Connected {
    /// Where its events come from; none where others call its hook.
    pub source: Option<Arc<dyn Source>>,
    /// What is done with them; none where the table is read.
    pub handler: Option<Arc<dyn EventHandler>>,
}

/// Makes source and handler of a subscription.
pub type ConnectEvents = Arc<dyn Fn(&SubscriberSettings) -> Connected + Send + Sync>;

/// What a Subscriber is built from.
#[derive(Clone)]
pub struct SubscriberParts {
    /// Where events are read.
    pub rows: Arc<dyn EventRows>,
    /// Makes source and handler.
    pub connect: ConnectEvents,
    /// Leases held.
    pub holdings: watch::Receiver<Arc<Holdings>>,
    /// Until when the leases are surely held.
    pub held_until: watch::Receiver<Option<Instant>>,
    /// Whether the server drains.
    pub draining: watch::Receiver<bool>,
    /// Where the event flow's view is shown.
    pub view: Arc<watch::Sender<Arc<EventsView>>>,
    /// What the drain waits for.
    pub at_work: AtWork,
}

/// Runs one subscription.
pub struct Subscriber {
    context: ServiceContext,
    parts: SubscriberParts,
    reader: SettingsReader<SubscriberSettings>,
    settings: SubscriberSettings,
    /// Writes what is decided.
    marker: Intercom<Mark>,
    /// Records what the source hears.
    recorder: Intercom<Record>,
    /// To itself, for the source.
    news: Intercom<EventsNews>,
    connected: Connected,
    /// While a handler or a write is under way.
    working: Option<Working>,
    hearing: Arc<Hearing>,
    /// While the lease is held.
    run: Option<Run>,
    /// Answers to a former run are passed over.
    round: u64,
    troubles: Troubles,
    timer: Option<SpawnHandle>,
}

/// A task that ends when this is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A subscription that is run here.
struct Run {
    stake: LeaseStake,
    /// `None` until the rows were read.
    plan: Option<SubscriptionPlan>,
    /// The checkpoint is to be read, and the plan to begin anew from it.
    anew: bool,
    /// A checkpoint is being read, or a pause is made before.
    reading: bool,
    /// A look for orders is under way.
    looking: bool,
    source: Option<Task>,
    handler: Option<Task>,
}

impl Subscriber {
    /// A Subscriber that waits for its lease.
    ///
    /// # Errors
    /// The watchdog does not know what it asks for.
    pub fn new(context: ServiceContext, parts: SubscriberParts) -> Result<Self, LookupError> {
        let reader = context.settings::<SubscriberSettings>()?;
        let settings = reader.current();
        let own = names::subscriber(settings.subscription.name.as_str());
        Ok(Self {
            marker: context.intercom(names::UPDATER)?,
            recorder: context.intercom(names::UPDATER)?,
            news: context.intercom(&own)?,
            connected: (parts.connect)(&settings),
            working: None,
            context,
            parts,
            reader,
            settings,
            hearing: Arc::default(),
            run: None,
            round: 0,
            troubles: Troubles::default(),
            timer: None,
        })
    }

    /// Does what is to be done now.
    fn turn(&mut self, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let works = self.run.as_ref().is_some_and(|run| {
            let marking = run.plan.as_ref().is_some_and(SubscriptionPlan::is_marking);
            run.handler.is_some() || marking
        });
        let begun = self.working.take();
        self.working = works.then(|| begun.unwrap_or_else(|| self.parts.at_work.begin()));
    }

    fn take_turn(&mut self, ctx: &mut Context<Self>) {
        if self.context.fence().is_up() {
            // Another generation runs it: what is known here is old.
            return;
        }
        self.context.progress();
        let surely_held = self
            .parts
            .held_until
            .borrow()
            .is_some_and(|end| Instant::now() < end);
        let Some(run) = self.run.as_mut().filter(|run| !run.reading) else {
            return;
        };
        run.anew |= self.hearing.forked();
        let fenced = run.plan.as_ref().is_some_and(SubscriptionPlan::is_fenced);
        let marking = run.plan.as_ref().is_some_and(SubscriptionPlan::is_marking);
        if (run.anew || fenced) && !marking {
            let pause = if fenced { READ_AGAIN } else { Duration::ZERO };
            self.read_anew(ctx, pause);
            return;
        }
        if run.anew || !surely_held {
            // Somebody else may have taken over: an event must not be handled
            // by two. The next heartbeat rings.
            return;
        }
        let now = Timestamp::now();
        let steps = run.plan.as_mut().map(|plan| plan.next(now));
        if run.plan.as_ref().is_some_and(|plan| plan.waiting() == 0) {
            // Nothing is looked up any more: a look-up that failed is of no account.
            self.take_trouble(ReadKind::LookUp, None);
        }
        for step in steps.unwrap_or_default() {
            self.perform(ctx, step);
        }
        self.arm(ctx, now);
    }

    fn arm(&mut self, ctx: &mut Context<Self>, now: Timestamp) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let plan = self.run.as_ref().and_then(|run| run.plan.as_ref());
        if let Some(at) = plan.and_then(|plan| plan.wake_at(now)) {
            let wait = at.since(now).clamp(Duration::from_millis(1), LONGEST_SLEEP);
            self.timer = Some(ctx.run_later(wait, |subscriber, ctx| {
                subscriber.timer = None;
                subscriber.turn(ctx);
            }));
        }
    }

    /// Takes note of whether the lease is held.
    fn take_holdings(&mut self, ctx: &mut Context<Self>) {
        if self.context.fence().is_up() {
            return;
        }
        let lease = events_lease(self.settings.subscription.name.as_str());
        let stake = self
            .parts
            .holdings
            .borrow_and_update()
            .held
            .get(&lease)
            .cloned();
        if self.run.as_ref().map(|run| &run.stake) == stake.as_ref() {
            return;
        }
        self.end();
        if let Some(stake) = stake {
            tracing::info!(subscription.name = %self.settings.subscription.name, lease.epoch = stake.epoch, "a subscription is run here");
            self.run = Some(Run {
                stake,
                plan: None,
                anew: true,
                reading: false,
                looking: false,
                source: None,
                handler: None,
            });
        }
        self.turn(ctx);
        self.show();
    }

    /// Ends the run: source and handler are dropped where they stand.
    fn end(&mut self) {
        self.round += 1;
        self.troubles.clear();
        if self.run.take().is_some() {
            tracing::info!(subscription.name = %self.settings.subscription.name, "a subscription is not run here any more");
        }
    }

    /// A checkpoint was read: begins, or begins anew.
    fn begin(&mut self, from: Checkpoint) {
        let Some(run) = &mut self.run else {
            return;
        };
        self.hearing.rows(&from);
        run.anew = false;
        match &mut run.plan {
            Some(plan) => plan.checkpoint(from),
            None => {
                let rows = self.settings.events.commit_rows;
                let mut plan = SubscriptionPlan::new(&self.settings.subscription, rows, from);
                plan.drain(*self.parts.draining.borrow());
                run.plan = Some(plan);
                self.run_source();
            }
        }
    }

    /// Runs the source anew.
    fn run_source(&mut self) {
        let draining = *self.parts.draining.borrow();
        let Some(run) = &mut self.run else {
            return;
        };
        run.source = None;
        let Some(source) = self.connected.source.clone().filter(|_| !draining) else {
            return;
        };
        let sink = SubscriberSink {
            settings: self.settings.subscription.clone(),
            recorder: self.recorder.clone(),
            news: self.news.clone(),
            rows: self.parts.rows.clone(),
            hearing: self.hearing.clone(),
        };
        self.hearing.now();
        let kept = source::keep(source, sink, self.parts.rows.clone());
        run.source = Some(Task(self.context.runtime().spawn(kept).abort_handle()));
    }

    fn configure(&mut self, settings: SubscriberSettings) {
        let changed = settings.subscription != self.settings.subscription
            || settings.gateway != self.settings.gateway
            || settings.ledger != self.settings.ledger;
        self.settings = settings;
        if changed {
            self.connected = (self.parts.connect)(&self.settings);
        }
        let plan = self.run.as_mut().and_then(|run| run.plan.as_mut());
        if let Some(plan) = plan {
            let rows = self.settings.events.commit_rows;
            plan.settings(&self.settings.subscription, rows);
            if changed {
                self.run_source();
            }
        }
    }

    /// The server drains: nothing more is handed over, what was done is written.
    fn drain(&mut self, ctx: &mut Context<Self>) {
        let draining = *self.parts.draining.borrow_and_update();
        if let Some(run) = &mut self.run {
            run.source = run.source.take().filter(|_| !draining);
            if let Some(plan) = &mut run.plan {
                plan.drain(draining);
            }
        }
        self.turn(ctx);
    }

    fn show(&self) {
        if self.context.fence().is_up() {
            return;
        }
        let name = &self.settings.subscription.name;
        let holdings = self.parts.holdings.borrow().clone();
        let holder = match (&self.run, holdings.others.get(&events_lease(name.as_str()))) {
            (Some(_), _) => Holder::Here,
            (None, Some(other)) => Holder::Other(other.clone()),
            (None, None) => Holder::Nobody,
        };
        let plan = self.run.as_ref().and_then(|run| run.plan.as_ref());
        let source = self.run.as_ref().and(self.connected.source.as_ref());
        let view = SubscriberView {
            holder,
            plan: plan.map(|plan| plan.view(Timestamp::now())),
            source: source.map(|source| self.hearing.view(source.place())),
            trouble: self.troubles.shown().cloned(),
        };
        self.parts.view.send_if_modified(|shown| {
            let differs = shown
                .subscriptions
                .get(name)
                .is_none_or(|old| **old != view);
            if differs {
                let all = Arc::make_mut(shown);
                all.subscriptions.insert(name.clone(), Arc::new(view));
            }
            differs
        });
    }

    fn show_for_ever(ctx: &mut Context<Self>) {
        ctx.run_later(SHOW_EVERY, |subscriber, ctx| {
            subscriber.show();
            Self::show_for_ever(ctx);
        });
    }

    fn look_for_ever(&self, ctx: &mut Context<Self>) {
        ctx.run_later(self.settings.events.sweep_interval, |subscriber, ctx| {
            subscriber.look(ctx);
            subscriber.look_for_ever(ctx);
        });
    }
}

impl Drop for Subscriber {
    /// Whoever looks at the view is not to believe that it is run still: it may
    /// have been stopped by an operator, or given up.
    fn drop(&mut self) {
        if self.context.fence().is_up() {
            // The next generation shows itself.
            return;
        }
        let name = &self.settings.subscription.name;
        self.parts.view.send_if_modified(|shown| {
            let is_shown = shown.subscriptions.contains_key(name);
            if is_shown {
                let all: &mut EventsView = Arc::make_mut(shown);
                all.subscriptions.remove(name);
            }
            is_shown
        });
    }
}

/// Calls the actor at each change of what is watched.
fn on_change<T: Send + Sync + 'static>(
    ctx: &mut Context<Subscriber>,
    watched: &watch::Receiver<T>,
    take: impl Fn(&mut Subscriber, &mut Context<Subscriber>) + 'static,
) {
    let changes = futures_util::stream::unfold(watched.clone(), |mut watched| async move {
        watched.changed().await.ok()?;
        Some(((), watched))
    });
    let follow = wrap_stream::<_, Subscriber>(changes).map(
        move |(), subscriber: &mut Subscriber, ctx: &mut Context<Subscriber>| take(subscriber, ctx),
    );
    ctx.spawn(follow.finish());
}

impl Actor for Subscriber {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        on_change(ctx, &self.parts.holdings.clone(), Self::take_holdings);
        on_change(ctx, &self.parts.held_until.clone(), Self::turn);
        on_change(ctx, &self.parts.draining.clone(), Self::drain);
        let reader = self.reader.clone();
        follow_settings(ctx, &reader, |subscriber: &mut Self, settings, ctx| {
            subscriber.configure(settings);
            subscriber.turn(ctx);
        });
        Self::show_for_ever(ctx);
        self.look_for_ever(ctx);
        self.take_holdings(ctx);
        self.show();
    }
}

impl Handler<Envelope<EventsNews>> for Subscriber {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<EventsNews>, ctx: &mut Self::Context) {
        let news = envelope.open();
        self.hearing.now();
        let blocks = news.recorded.iter().map(|event| event.place.block);
        self.hearing.block(blocks.max());
        let run = self.run.as_mut();
        if let Some(plan) = run.and_then(|run| run.plan.as_mut()) {
            plan.recorded(news.recorded, Timestamp::now());
            self.turn(ctx);
        }
    }
}

impl Handler<Envelope<KnownNews>> for Subscriber {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<KnownNews>, ctx: &mut Self::Context) {
        let KnownNews(known) = envelope.open();
        let run = self.run.as_mut();
        if let Some(plan) = run.and_then(|run| run.plan.as_mut()) {
            plan.known(&known);
            self.turn(ctx);
        }
    }
}

impl Handler<Envelope<LookAgain>> for Subscriber {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<LookAgain>, ctx: &mut Self::Context) {
        let LookAgain = envelope.open();
        self.look(ctx);
    }
}

impl Handler<Envelope<EventsRefused>> for Subscriber {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<EventsRefused>, _: &mut Self::Context) {
        // Its source looks.
        self.hearing.refused(envelope.open().block);
    }
}
