//! A Follower: keeps one replica up to date while this server holds its lease.
//!
//! In: [`FollowerOrder`] of operators, leases, settings. Out: [`Apply`] to the
//! Updater; requests to upstreams, side by side. It decides nothing: the flow's
//! plan says what is asked and written, and when. On failure: rows are the truth.
//! Whatever ends it, the next one begins with how the replica stands.

mod news;
mod perform;
#[cfg(test)]
mod tests;

use self::news::{News, Told};
use super::follow_settings;
use crate::config::{ReplicaProtocol, ReplicaSettings};
use crate::flows::replicas::{
    Contents, DatasetName, FollowerView, Holder, PlanSettings, ReplicaPlan, ReplicaRows,
    ReplicasView, Upstream, without_contents,
};
use crate::leases::{Holdings, replicas_lease};
use crate::messages::{Apply, FollowerOrder, names};
use crate::store::LeaseStake;
use crate::time::Timestamp;
use crate::watchdog::{Envelope, Intercom, LookupError, Owner, ServiceContext, SettingsReader};
use actix::fut::{ActorStreamExt as _, wrap_stream};
use actix::{Actor, AsyncContext, Context, Handler, SpawnHandle};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How often, at most, the view is brought up to date.
const SHOW_EVERY: Duration = Duration::from_millis(250);
/// Longest sleep of the timer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// How much of the rate of bytes is that of the last [`SHOW_EVERY`].
const RATE_SHARE: f64 = 0.2;

/// Settings of a Follower.
#[derive(Clone, Debug, PartialEq)]
pub struct FollowerSettings {
    /// The replica.
    pub replica: ReplicaSettings,
}

/// Makes the upstreams of a replica, in the order of its settings; one that cannot
/// be made is one that says why.
pub type ConnectUpstreams = Arc<dyn Fn(&ReplicaSettings) -> Vec<Arc<dyn Upstream>> + Send + Sync>;

/// What a Follower is built from.
#[derive(Clone)]
pub struct FollowerParts {
    /// Where it is read how the replica stands.
    pub rows: Arc<dyn ReplicaRows>,
    /// Where entries of the copy are read, for audits.
    pub contents: Arc<dyn Contents>,
    /// Makes the upstreams.
    pub connect: ConnectUpstreams,
    /// Fetch slots; a wait for the head to move takes none.
    pub fetch_slots: Owner,
    /// Leases held.
    pub holdings: watch::Receiver<Arc<Holdings>>,
    /// Until when the leases are surely held.
    pub held_until: watch::Receiver<Option<Instant>>,
    /// Whether the server drains.
    pub draining: watch::Receiver<bool>,
    /// Where the replica flow's view is shown.
    pub view: Arc<watch::Sender<Arc<ReplicasView>>>,
}

/// Follows one replica.
pub struct Follower {
    context: ServiceContext,
    parts: FollowerParts,
    reader: SettingsReader<FollowerSettings>,
    settings: FollowerSettings,
    upstreams: Vec<Arc<dyn Upstream>>,
    writer: Intercom<Apply>,
    /// While the lease is held.
    run: Option<Run>,
    /// Answers to a former run are passed over.
    round: u64,
    /// Why rows cannot be read or written.
    trouble: Option<String>,
    /// What the log was told.
    told: Told,
    /// Bytes when the view was shown last, and of late.
    rate: (u64, f64),
    timer: Option<SpawnHandle>,
}

/// A task that ends when this is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A replica that is followed here.
struct Run {
    stake: LeaseStake,
    plan: ReplicaPlan,
    /// Asks under way.
    asks: BTreeMap<u64, Task>,
}

fn plan_settings(replica: &ReplicaSettings) -> PlanSettings {
    PlanSettings {
        upstreams: replica.upstreams.len(),
        by_index: replica.protocol == ReplicaProtocol::Seed,
        chunk: u64::try_from(replica.chunk).unwrap_or(u64::MAX),
        ranges: replica.ranges.max(1),
        poll_interval: replica.poll_interval,
        watch: replica.watch,
        audit_interval: replica.audit_interval,
    }
}

impl Follower {
    /// A Follower that waits for its lease.
    ///
    /// # Errors
    /// The watchdog does not know what it asks for.
    pub fn new(context: ServiceContext, parts: FollowerParts) -> Result<Self, LookupError> {
        let reader = context.settings::<FollowerSettings>()?;
        let settings = reader.current();
        Ok(Self {
            writer: context.intercom(names::UPDATER)?,
            upstreams: (parts.connect)(&settings.replica),
            context,
            parts,
            reader,
            settings,
            run: None,
            round: 0,
            trouble: None,
            told: Told::default(),
            rate: (0, 0.0),
            timer: None,
        })
    }

    /// Does what is to be done now.
    fn turn(&mut self, ctx: &mut Context<Self>) {
        if self.context.fence().is_up() {
            // Another generation runs it: what is known here is old.
            return;
        }
        self.context.progress();
        let now = Timestamp::now();
        let Some(run) = &mut self.run else {
            return;
        };
        let steps = run.plan.next(now);
        // What the plan does not wait for any more is not waited for here.
        let Run { plan, asks, .. } = run;
        asks.retain(|id, _| plan.is_asked(*id));
        for step in steps {
            self.perform(ctx, step);
        }
        self.arm(ctx, now);
    }

    fn arm(&mut self, ctx: &mut Context<Self>, now: Timestamp) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let wake = self.run.as_ref().and_then(|run| run.plan.wake_at());
        if let Some(at) = wake {
            let wait = at.since(now).clamp(Duration::from_millis(1), LONGEST_SLEEP);
            self.timer = Some(ctx.run_later(wait, |follower, ctx| {
                follower.timer = None;
                follower.turn(ctx);
            }));
        }
    }

    /// Takes note of whether the lease is held.
    fn take_holdings(&mut self, ctx: &mut Context<Self>) {
        if self.context.fence().is_up() {
            return;
        }
        let name = &self.settings.replica.name;
        let lease = replicas_lease(name.as_str());
        let holdings = self.parts.holdings.borrow_and_update().clone();
        let stake = holdings.held.get(&lease).cloned();
        if self.run.as_ref().map(|run| &run.stake) == stake.as_ref() {
            return;
        }
        self.round += 1;
        self.trouble = None;
        if self.run.take().is_some() {
            tracing::info!(replica.name = %name, "a replica is not followed here any more");
        }
        if let Some(stake) = stake {
            tracing::info!(replica.name = %name, lease.epoch = stake.epoch, "a replica is followed here");
            let mut plan = ReplicaPlan::new(plan_settings(&self.settings.replica));
            plan.drain(*self.parts.draining.borrow());
            self.rate = (0, 0.0);
            self.run = Some(Run {
                stake,
                plan,
                asks: BTreeMap::new(),
            });
        }
        self.turn(ctx);
        self.show();
    }

    fn configure(&mut self, settings: FollowerSettings) {
        let (old, new) = (&self.settings.replica, &settings.replica);
        let others = old.upstreams != new.upstreams
            || old.dataset != new.dataset
            || old.protocol != new.protocol
            || old.token != new.token
            || old.timeout != new.timeout;
        if others {
            self.upstreams = (self.parts.connect)(new);
        }
        if let Some(run) = &mut self.run {
            run.plan.configure(plan_settings(new), others);
        }
        self.settings = settings;
    }

    fn drain(&mut self, ctx: &mut Context<Self>) {
        let draining = *self.parts.draining.borrow_and_update();
        if let Some(run) = &mut self.run {
            run.plan.drain(draining);
            if draining {
                run.asks.clear();
            }
        }
        self.turn(ctx);
    }

    fn show(&mut self) {
        if self.context.fence().is_up() {
            return;
        }
        let name = &self.settings.replica.name;
        let holdings = self.parts.holdings.borrow().clone();
        let holder = match (
            &self.run,
            holdings.others.get(&replicas_lease(name.as_str())),
        ) {
            (Some(_), _) => Holder::Here,
            (None, Some(other)) => Holder::Other(other.clone()),
            (None, None) => Holder::Nobody,
        };
        let places: Vec<String> = self.upstreams.iter().map(|of| of.place()).collect();
        let plan = self.run.as_ref().map(|run| &run.plan);
        let now = Timestamp::now();
        let view = FollowerView {
            holder,
            plan: plan.and_then(|plan| plan.view(now)),
            bytes_per_second: self.rate.1,
            upstreams: plan.map_or_else(Vec::new, |plan| plan.upstreams(&places)),
            trouble: self.trouble.clone(),
        };
        for news in self.told.news(&view.upstreams, view.plan.as_ref(), now) {
            news.log(name);
        }
        self.parts.view.send_if_modified(|shown| {
            let differs = shown.replicas.get(name).is_none_or(|old| **old != view);
            if differs {
                let all = Arc::make_mut(shown);
                all.replicas.insert(name.clone(), Arc::new(view));
            }
            differs
        });
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate of bytes is shown with few digits"
    )]
    fn measure(&mut self) {
        let view = self.run.as_ref().map(|run| run.plan.bytes());
        let bytes = view.unwrap_or_default();
        let moved = bytes.saturating_sub(self.rate.0) as f64 / SHOW_EVERY.as_secs_f64();
        let rate = self.rate.1 * (1.0 - RATE_SHARE) + moved * RATE_SHARE;
        self.rate = (bytes, if rate < 1.0 { 0.0 } else { rate });
    }

    fn show_for_ever(ctx: &mut Context<Self>) {
        ctx.run_later(SHOW_EVERY, |follower, ctx| {
            follower.measure();
            follower.show();
            Self::show_for_ever(ctx);
        });
    }
}

impl Drop for Follower {
    /// Whoever looks at the view is not to believe that it follows still, and that
    /// its copy is level: it may have been stopped by an operator, or given up.
    fn drop(&mut self) {
        if self.context.fence().is_up() {
            // The next generation shows itself.
            return;
        }
        let name = &self.settings.replica.name;
        self.parts.view.send_if_modified(|shown| {
            let is_shown = shown.replicas.contains_key(name);
            if is_shown {
                let all: &mut ReplicasView = Arc::make_mut(shown);
                all.replicas.remove(name);
            }
            is_shown
        });
    }
}

impl News {
    fn log(self, name: &DatasetName) {
        match self {
            Self::Failed {
                place,
                failures,
                retry_after,
                why,
            } => tracing::warn!(
                replica.name = %name,
                upstream.place = place,
                upstream.failures = failures,
                upstream.retry_after_ms = retry_after.as_millis() as u64,
                error = without_contents(&why),
                "an upstream gave no answer to work with; it is asked again later"
            ),
            Self::Answers { place } => {
                tracing::info!(replica.name = %name, upstream.place = place, "an upstream answers again");
            }
            Self::Live { head, len } => {
                tracing::info!(replica.name = %name, dataset.head = head, dataset.entries = len, "a replica is live");
            }
        }
    }
}

/// Calls the actor at each change of what is watched.
fn on_change<T: Send + Sync + 'static>(
    ctx: &mut Context<Follower>,
    watched: &watch::Receiver<T>,
    take: impl Fn(&mut Follower, &mut Context<Follower>) + 'static,
) {
    let changes = futures_util::stream::unfold(watched.clone(), |mut watched| async move {
        watched.changed().await.ok()?;
        Some(((), watched))
    });
    let follow = wrap_stream::<_, Follower>(changes)
        .map(move |(), follower: &mut Follower, ctx: &mut Context<Follower>| take(follower, ctx));
    ctx.spawn(follow.finish());
}

impl Actor for Follower {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        on_change(ctx, &self.parts.holdings.clone(), Self::take_holdings);
        on_change(ctx, &self.parts.held_until.clone(), Self::turn);
        on_change(ctx, &self.parts.draining.clone(), Self::drain);
        let reader = self.reader.clone();
        follow_settings(ctx, &reader, |follower: &mut Self, settings, ctx| {
            follower.configure(settings);
            follower.turn(ctx);
        });
        Self::show_for_ever(ctx);
        self.take_holdings(ctx);
        self.show();
    }
}

impl Handler<Envelope<FollowerOrder>> for Follower {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<FollowerOrder>, ctx: &mut Self::Context) {
        let order = envelope.open();
        let Some(run) = &mut self.run else {
            return;
        };
        match order {
            FollowerOrder::Verify => run.plan.verify(),
            FollowerOrder::Bootstrap => run.plan.bootstrap(Timestamp::now()),
        }
        self.turn(ctx);
    }
}
