//! What handlers are handed by the composition root.

use super::audit::Auditor;
use super::datasets::Datasets;
use super::followers::Followers;
use super::guesses::Guesses;
use super::health::Readiness;
use super::job_figures::{self, JobFigures};
use super::replica_figures::{self, ReplicaFigures};
use super::single_flight::SingleFlight;
use super::subscription_figures::{self, SubscriptionFigures};
use super::summary::{self, Summary};
use crate::config::Settings;
use crate::flows::batches::BatchesView;
use crate::flows::events::{EventsView, Heard, Known, Recorded, SinkError, SubscriptionName};
use crate::flows::replicas::ReplicasView;
use crate::flows::sites::SitesView;
use crate::store::{AsideState, Store, StoreError};
use crate::time::Timestamp;
use crate::watchdog::{ResourceStatus, StateStatus, WatchdogQuery, WatchdogStatus};
use futures_util::future::BoxFuture;
use std::future::Future;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Records events that were heard; see [`HttpState::record`].
pub type Recorder = Arc<
    dyn Fn(SubscriptionName, Vec<(Heard, bool)>) -> BoxFuture<'static, Result<Recorded, SinkError>>
        + Send
        + Sync,
>;

/// Tells of events that were not taken; see [`HttpState::refused`].
pub type Refuser = Arc<dyn Fn(&SubscriptionName, i64) + Send + Sync>;

/// Makes ids known; see [`HttpState::know`].
pub type Knower = Arc<dyn Fn(Known) -> BoxFuture<'static, Result<usize, SinkError>> + Send + Sync>;

/// How the last reload went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadReport {
    /// When the first of the reloads in a row that changed nothing was asked
    /// for; `None` when the last was applied.
    pub failing_since: Option<Timestamp>,
    /// When it was asked for; `None` before the first.
    pub at: Option<Timestamp>,
    /// What was wrong with the last, and nothing was changed; `None` when it was applied.
    pub problem: Option<String>,
    /// Keys that wait for a restart since the last reload that was applied.
    pub needs_restart: Vec<String>,
}

impl ReloadReport {
    /// Notes a reload that changed nothing. What waited for a restart before
    /// waits still.
    pub fn failed(&mut self, at: Timestamp, problem: String) {
        self.failing_since.get_or_insert(at);
        self.at = Some(at);
        self.problem = Some(problem);
    }
}

/// Tells somebody of sites, by their ids.
pub(super) type TellSites = Arc<dyn Fn(&[String]) + Send + Sync>;

/// Shared by all handlers; cheap to clone.
#[derive(Clone)]
pub struct HttpState {
    /// The database.
    pub store: Store,
    /// Settings in force.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// The batch flow, as its Scheduler last saw it.
    pub batches: watch::Receiver<Arc<BatchesView>>,
    /// The site flow, as its Scheduler last saw it.
    pub sites: watch::Receiver<Arc<SitesView>>,
    /// The event flow, as its Subscribers last saw it.
    pub events: watch::Receiver<Arc<EventsView>>,
    /// Asks the watchdog how its services are.
    pub services: Arc<dyn Fn() -> WatchdogStatus + Send + Sync>,
    /// Control over the server, for those who show the control token.
    pub control: WatchdogQuery,
    /// How the soft state of services is kept.
    pub states: Arc<dyn Fn() -> Vec<StateStatus> + Send + Sync>,
    /// Asks who has and who waits for how much of what is shared out.
    pub resources: Arc<dyn Fn() -> Vec<ResourceStatus> + Send + Sync>,
    /// Tells the Scheduler that batches of a ledger are due now.
    pub wake: Arc<dyn Fn(&str) + Send + Sync>,
    /// Tells that sites were added, enabled, revived or changed.
    pub wake_sites: Arc<dyn Fn() + Send + Sync>,
    /// Tells the Scheduler that these sites were disabled or removed.
    pub sites_left: TellSites,
    /// Records events of a subscription, each with whether its block is
    /// skipped; answered when they are durable.
    pub record: Recorder,
    /// Tells the Subscriber the lowest block of events that the hook did not take,
    /// and that may not come again.
    pub refused: Refuser,
    /// Makes transactions and keys known; answers how many are new.
    pub know: Knower,
    /// Tells the Subscriber of an operator's order.
    pub look_again: Arc<dyn Fn(&SubscriptionName) + Send + Sync>,
    /// Datasets and replicas.
    pub datasets: Datasets,
    /// Renders the metrics in Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// How the last reload went.
    pub reload: watch::Receiver<ReloadReport>,
    /// Whether the server is draining.
    pub draining: watch::Receiver<bool>,
    /// Why this server cannot hold its leases, and so polls nothing.
    pub lease_trouble: watch::Receiver<Option<String>>,
    /// When the process started.
    pub started_at: Timestamp,
    /// Name of this server in leases.
    pub holder: Arc<str>,
}

/// What handlers share: the state they were handed and what they cache.
pub(super) struct Http {
    pub(super) state: HttpState,
    pub(super) summary: Arc<SingleFlight<Summary>>,
    pub(super) jobs: Arc<SingleFlight<JobFigures>>,
    pub(super) subscriptions: Arc<SingleFlight<SubscriptionFigures>>,
    pub(super) replica_figures: Arc<SingleFlight<ReplicaFigures>>,
    pub(super) followers: Followers,
    pub(super) readiness: Arc<SingleFlight<Readiness>>,
    pub(super) migrations: Arc<SingleFlight<Option<String>>>,
    pub(super) guesses: Guesses,
    pub(super) auditor: Auditor,
    pub(super) aside: Arc<SingleFlight<Result<Vec<AsideState>, String>>>,
    /// Runs database work. A PostgreSQL connection lives on the runtime it was
    /// made on, and the workers' runtimes end before the pools do.
    pub(super) runtime: Handle,
}

impl Http {
    pub(super) fn new(state: HttpState, runtime: Handle) -> Self {
        Self {
            guesses: Guesses::new(),
            auditor: Auditor::new(state.store.clone(), runtime.clone()),
            state,
            summary: summary::cache(),
            jobs: job_figures::cache(),
            subscriptions: subscription_figures::cache(),
            replica_figures: replica_figures::cache(),
            followers: Followers::none(),
            readiness: super::health::cache(),
            migrations: super::health::migrations_cache(),
            aside: super::states::cache(),
            runtime,
        }
    }

    /// The same, with the Followers of this server.
    pub(super) fn with_followers(mut self, followers: Followers) -> Self {
        self.followers = followers;
        self
    }

    /// Settings in force now.
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.state.settings.borrow())
    }

    /// The batch flow as last seen.
    pub(super) fn view(&self) -> Arc<BatchesView> {
        Arc::clone(&self.state.batches.borrow())
    }

    /// The site flow as last seen.
    pub(super) fn sites_view(&self) -> Arc<SitesView> {
        Arc::clone(&self.state.sites.borrow())
    }

    /// The event flow as last seen.
    pub(super) fn events_view(&self) -> Arc<EventsView> {
        Arc::clone(&self.state.events.borrow())
    }

    /// The replica flow as last seen.
    pub(super) fn replicas_view(&self) -> Arc<ReplicasView> {
        Arc::clone(&self.followers.view.borrow())
    }

    /// Works on the database; the work is done to its end even when the
    /// client goes away.
    pub(super) async fn database<T, F>(
        &self,
        work: impl FnOnce(Store) -> F + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let store = self.state.store.clone();
        let task = self.runtime.spawn(async move { work(store).await });
        task.await.unwrap_or_else(|error| {
            Err(StoreError::Internal(format!(
                "a database task ended: {error}"
            )))
        })
    }
}
