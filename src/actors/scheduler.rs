//! The Scheduler: decides what is due now and hands it out against credits.
//!
//! In: [`Settled`] from the Updater, [`Wake`] from the API, leases, settings,
//! returned tickets, fetch slots. Out: [`Fetch`] to the FetcherPool. It holds no rules of a
//! flow: the flow's plan says what is due, in which order, and when next. On
//! failure: the register of work in flight lives outside, so that the next
//! Scheduler hands out nothing twice; the health of ledgers was saved.

mod plans;
mod state;

pub use state::SchedulerState;

use super::{follow_settings, on_each};
use crate::config::{BatchesSettings, JobSettings, LedgerSettings, SitesSettings};
use crate::flows::batches::BatchesView;
use crate::flows::sites::{JobEvent, JobNews, SitesView, Spreads};
use crate::leases::Holdings;
use crate::messages::{Drain, Fetch, Flow, InFlight, Settled, Wake, Want, names};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;
use crate::watchdog::{
    Demand, Envelope, Intercom, LookupError, Resource, ServiceContext, SettingsReader, State,
    StateHandle,
};
use actix::fut::{ActorStreamExt as _, wrap_future, wrap_stream};
use actix::{Actor, ActorFutureExt as _, AsyncContext, Context, Handler, SpawnHandle};
use plans::{Next, Plans, load};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often, at most, the view and the soft state are brought up to date.
const SHOW_EVERY: Duration = Duration::from_millis(250);
/// How long after a failed read the database is asked again.
const READ_AGAIN: Duration = Duration::from_millis(500);
/// How long nothing is handed out after the FetcherPool was away.
const POOL_PAUSE: Duration = Duration::from_millis(200);
/// How long the saved health of ledgers taken over is waited for.
const RECALL: Duration = Duration::from_secs(2);
/// Longest sleep of the timer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Settings of the Scheduler.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerSettings {
    /// The batch flow.
    pub batches: BatchesSettings,
    /// The ledgers.
    pub ledgers: Vec<LedgerSettings>,
    /// The site flow.
    pub sites: SitesSettings,
    /// The jobs.
    pub jobs: Vec<JobSettings>,
}

/// What a Scheduler is built from.
#[derive(Clone, Debug)]
pub struct SchedulerParts {
    /// Where due work is read.
    pub store: Store,
    /// All work in flight.
    pub in_flight: InFlight,
    /// Fetch slots, owned by flows: one for each piece of work on the network.
    pub fetch_slots: Resource,
    /// Leases held.
    pub holdings: watch::Receiver<Arc<Holdings>>,
    /// Until when the leases are surely held.
    pub held_until: watch::Receiver<Option<Instant>>,
    /// Whether the server drains, also for a Scheduler built meanwhile.
    pub draining: watch::Receiver<bool>,
    /// Where the next visits of sites are put in time.
    pub spreads: Spreads,
    /// Where the batch flow's view is shown.
    pub view: Arc<watch::Sender<Arc<BatchesView>>>,
    /// Where the site flow's view is shown.
    pub sites_view: Arc<watch::Sender<Arc<SitesView>>>,
}

/// Decides what is due.
pub struct Scheduler {
    context: ServiceContext,
    parts: SchedulerParts,
    settings: SettingsReader<SchedulerSettings>,
    /// Takes the work.
    fetchers: Intercom<Fetch>,
    /// Health of ledgers, kept across restarts.
    state: StateHandle<SchedulerState>,
    plans: Plans,
    /// What each flow wants of the fetch slots.
    slots: [Demand; Flow::ALL.len()],
    draining: bool,
    /// No work is handed out before then: the FetcherPool is away.
    pause_until: Timestamp,
    timer: Option<SpawnHandle>,
    unsaved: bool,
    /// Leases as the plan knows them: a moment behind those of `parts` while
    /// `recalling`.
    holdings: Arc<Holdings>,
    /// Whether the health of ledgers taken over is being read.
    recalling: bool,
    /// Whether the log has been told all there was, at the end.
    told_all: bool,
}

impl Scheduler {
    /// A Scheduler that goes on where the former one left off.
    ///
    /// # Errors
    /// The watchdog does not know what it asks for.
    pub fn new(context: ServiceContext, parts: SchedulerParts) -> Result<Self, LookupError> {
        let now = Timestamp::now();
        let reader = context.settings::<SchedulerSettings>()?;
        let fetchers = context.intercom(names::FETCHER_POOL)?;
        let state = context.state::<SchedulerState>()?;
        let mut plans = Plans::new(reader.current(), state.current().health, now);
        if context.former_is_lost() {
            parts.in_flight.revoke_all();
        }
        for (work, fetched) in parts.in_flight.take_over() {
            plans.adopt(&work, fetched);
        }
        let draining = *parts.draining.borrow();
        let demand = |flow: Flow| parts.fetch_slots.owner(flow.as_str()).only_demand();
        let slots = Flow::ALL.map(demand);
        Ok(Self {
            context,
            parts,
            settings: reader,
            fetchers,
            state,
            plans,
            slots,
            draining,
            pause_until: Timestamp::default(),
            timer: None,
            unsaved: false,
            holdings: Arc::default(),
            recalling: false,
            told_all: false,
        })
    }

    fn turn(&mut self, ctx: &mut Context<Self>) {
        if self.context.fence().is_up() {
            // Another Scheduler has taken over: the news is its own.
            return;
        }
        self.context.progress();
        let now = Timestamp::now();
        for news in self.parts.in_flight.take_news() {
            self.plans.take_news(news, now);
        }
        if !self.draining {
            for want in self.plans.wants(now) {
                self.read(ctx, want);
            }
        }
        for flow in Flow::ALL {
            let wanted = if self.draining {
                0
            } else {
                self.hand_out(flow, now)
            };
            self.slots[flow.index()].want(wanted);
        }
        self.arm(ctx, now);
    }

    /// How many more pieces of a flow's work may go out: bounded by what is on
    /// the network, and by what waits to be written.
    fn credit(&self, flow: Flow) -> usize {
        let in_flight = &self.parts.in_flight;
        if in_flight.rows_writing(flow) >= self.plans.most_unwritten(flow) {
            return 0;
        }
        let most = self.plans.max_in_flight(flow);
        most.saturating_sub(in_flight.fetching(flow))
    }

    /// Hands out what there are credits and slots for; answers for how many
    /// more there were no slots.
    fn hand_out(&mut self, flow: Flow, now: Timestamp) -> usize {
        if now < self.pause_until && self.pause_until <= now.plus(POOL_PAUSE) {
            return 0;
        }
        let surely_held = self
            .parts
            .held_until
            .borrow()
            .is_some_and(|end| Instant::now() < end);
        if flow == Flow::Sites && !surely_held {
            // The heartbeat is late, or this process stood still: somebody else
            // may have taken over, and a site must not be visited by two.
            return 0;
        }
        while self.credit(flow) > 0 {
            let Some(slot) = self.slots[flow.index()].try_take() else {
                let waits = self.plans.has_work(flow, now);
                return if waits { self.credit(flow) } else { 0 };
            };
            let Some(Next { work, id, span }) = self.plans.next_work(flow, now) else {
                slot.return_unused();
                break;
            };
            let fetch = Fetch {
                work,
                ticket: self.parts.in_flight.open(id, slot).traced(span),
            };
            if self.fetchers.post(fetch).is_err() {
                // The pool is being restarted; the ticket comes back by itself.
                self.pause_until = now.plus(POOL_PAUSE);
                break;
            }
        }
        0
    }

    fn read(&self, ctx: &mut Context<Self>, want: Want) {
        let (store, spreads) = (self.parts.store.clone(), self.parts.spreads.clone());
        let asked = want.clone();
        let read = async move { load(&store, &spreads, asked).await };
        let task = self.context.runtime().spawn(read);
        ctx.spawn(
            wrap_future::<_, Self>(task).map(move |result, scheduler, ctx| {
                let now = Timestamp::now();
                match result.unwrap_or_else(|error| Err(error.to_string())) {
                    Ok(page) => scheduler.plans.take_page(page, now),
                    Err(error) => scheduler.plans.load_failed(&want, &error, now, READ_AGAIN),
                }
                scheduler.turn(ctx);
            }),
        );
    }

    fn arm(&mut self, ctx: &mut Context<Self>, now: Timestamp) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if self.draining {
            return;
        }
        let paused = (now < self.pause_until).then_some(self.pause_until);
        if let Some(at) = self.plans.wake_at(now).into_iter().chain(paused).min() {
            let wait = at.since(now).clamp(Duration::from_millis(1), LONGEST_SLEEP);
            self.timer = Some(ctx.run_later(wait, |scheduler, ctx| {
                scheduler.timer = None;
                scheduler.turn(ctx);
            }));
        }
    }

    fn show(&mut self) {
        if self.context.fence().is_up() {
            return;
        }
        let now = Timestamp::now();
        show(&self.parts.view, self.plans.batches.view(now));
        show(&self.parts.sites_view, self.plans.sites.view(now));
        // All of it once, when nothing is left to come.
        let last = self.draining && !self.told_all && self.parts.in_flight.count() == 0;
        self.told_all |= last;
        for news in self.plans.sites.news(now, last) {
            tell(&news);
        }
        if std::mem::take(&mut self.unsaved) {
            let state = SchedulerState::held(self.plans.batches.health(now), &self.holdings);
            self.state.update(state);
        }
    }

    fn show_for_ever(ctx: &mut Context<Self>) {
        ctx.run_later(SHOW_EVERY, |scheduler, ctx| {
            scheduler.show();
            Self::show_for_ever(ctx);
        });
    }

    /// Takes note of which ledgers are held. Of those taken over, what their
    /// last holder knew of their health is read first: until then they are not
    /// held here, and nothing is asked of them.
    fn take_holdings(&mut self, ctx: &mut Context<Self>) {
        if self.context.fence().is_up() {
            return;
        }
        if self.recalling {
            // Looked at again when that is done.
            return;
        }
        let holdings = self.parts.holdings.borrow_and_update().clone();
        let settings = self.settings.current();
        let names = settings.ledgers.iter().map(|ledger| ledger.name.as_str());
        let taken_over = self.state.current().taken_over(names, &holdings);
        if taken_over.is_empty() {
            self.hold(holdings);
            self.turn(ctx);
            return;
        }
        self.recalling = true;
        let (store, service) = (self.parts.store.clone(), self.context.name().to_owned());
        let read = async move { store.saved_state(&service).await };
        let read = tokio::time::timeout(RECALL, self.context.runtime().spawn(read));
        ctx.spawn(
            wrap_future::<_, Self>(read).map(move |read, scheduler, ctx| {
                let read = match read {
                    Ok(Ok(read)) => read,
                    Ok(Err(error)) => Err(StoreError::Internal(error.to_string())),
                    Err(_) => Err(StoreError::Unreachable(format!(
                        "no answer within {RECALL:?}"
                    ))),
                };
                scheduler.recall(&taken_over, read);
                scheduler.hold(holdings);
                scheduler.recalling = false;
                // They may have changed meanwhile.
                scheduler.take_holdings(ctx);
            }),
        );
    }

    fn recall(
        &mut self,
        ledgers: &[String],
        read: Result<Option<crate::store::SavedState>, StoreError>,
    ) {
        let now = Timestamp::now();
        let saved = match read {
            Ok(Some(saved)) => saved,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(error = %error, "the health of ledgers taken over could not be read; they are taken for healthy");
                return;
            }
        };
        // One that cannot be read is set aside by the next write.
        let Ok(mut saved) = SchedulerState::read(saved.version, &saved.value) else {
            return;
        };
        for ledger in ledgers {
            if let Some(health) = saved.health.remove(ledger) {
                self.plans.batches.recall(ledger, health, now);
            }
        }
    }

    /// Holds these ledgers; from here on, their health in memory is the newest.
    fn hold(&mut self, holdings: Arc<Holdings>) {
        let now = Timestamp::now();
        self.plans.hold(&holdings, now);
        let state = SchedulerState::held(self.plans.batches.health(now), &holdings);
        self.holdings = holdings;
        if self.state.current() != state {
            self.state.update(state);
        }
    }
}

/// Logs what happened to a job. The messages are in docs/LOGGING.md.
fn tell(news: &JobNews) {
    let job = &news.job;
    match &news.event {
        JobEvent::GaveUp { sites, first } => tracing::warn!(
            job.key = %job,
            sites.given_up = sites,
            sites.first = %first.join(", "),
            "sites were given up"
        ),
        JobEvent::Broken(error) => tracing::error!(
            job.key = %job,
            error,
            "a job does not run as it should"
        ),
        JobEvent::Failing { visits, error } => tracing::warn!(
            job.key = %job,
            visits.failed = visits,
            error,
            "every recent visit of a job failed"
        ),
        JobEvent::Recovered(after) => tracing::info!(
            job.key = %job,
            job.trouble_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            "a job is well again"
        ),
    }
}

/// Shows a view, where it differs from what is shown.
fn show<V: PartialEq>(shown: &watch::Sender<Arc<V>>, view: V) {
    shown.send_if_modified(|shown| {
        let differs = **shown != view;
        if differs {
            *shown = Arc::new(view);
        }
        differs
    });
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let in_flight = self.parts.in_flight.clone();
        let returned = move || {
            let in_flight = in_flight.clone();
            async move { in_flight.bell().await }
        };
        on_each(ctx, returned, Self::turn);
        for slots in &self.slots {
            let bell = slots.bell();
            let slot_free = move || {
                let bell = bell.clone();
                async move { bell.notified().await }
            };
            on_each(ctx, slot_free, Self::turn);
        }
        let holdings = self.parts.holdings.clone();
        let changes = futures_util::stream::unfold(holdings, |mut holdings| async move {
            holdings.changed().await.ok()?;
            Some(((), holdings))
        });
        let renewed = self.parts.held_until.clone();
        let renewals = futures_util::stream::unfold(renewed, |mut renewed| async move {
            renewed.changed().await.ok()?;
            Some(((), renewed))
        });
        let go_on = wrap_stream::<_, Self>(renewals)
            .map(|(), scheduler: &mut Self, ctx: &mut Context<Self>| scheduler.turn(ctx));
        ctx.spawn(go_on.finish());
        let follow = wrap_stream::<_, Self>(changes)
            .map(|(), scheduler: &mut Self, ctx: &mut Context<Self>| scheduler.take_holdings(ctx));
        ctx.spawn(follow.finish());
        let reader = self.settings.clone();
        follow_settings(ctx, &reader, |scheduler: &mut Self, settings, ctx| {
            let now = Timestamp::now();
            scheduler.plans.configure(settings, now);
            scheduler.unsaved = true;
            scheduler.take_holdings(ctx);
        });
        Self::show_for_ever(ctx);
        self.take_holdings(ctx);
        self.show();
    }
}

impl Handler<Envelope<Settled>> for Scheduler {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Settled>, ctx: &mut Self::Context) {
        let Settled(works) = envelope.open();
        let now = Timestamp::now();
        for settled in works {
            self.unsaved |= self.plans.report(&settled, now);
            settled.ticket.settle();
        }
        self.turn(ctx);
    }
}

impl Handler<Envelope<Wake>> for Scheduler {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Wake>, ctx: &mut Self::Context) {
        self.plans.wake(&envelope.open(), Timestamp::now());
        self.turn(ctx);
    }
}

impl Handler<Envelope<Drain>> for Scheduler {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Drain>, ctx: &mut Self::Context) {
        let Drain = envelope.open();
        self.draining = true;
        self.show();
        self.turn(ctx);
    }
}
