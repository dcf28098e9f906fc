//! The privileged channel (seed: Service Control): whoever holds a
//! [`WatchdogQuery`] may change what runs. It is handed out by the composition
//! root alone; services never get it.

use super::{
    Fault, Keeper, LookupError, SavedValue, Service, ServiceStatus, StateError, StateSource,
    Watchdog, WatchdogLimits,
};
use actix::{Actor, Context};
use std::collections::BTreeMap;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Orders that wait to be carried out, at most.
const WAITING_ORDERS: usize = 16;

/// What was asked of the application as a whole; carried out by the one that
/// holds the [`Orders`], in order.
#[derive(Debug)]
pub enum Order {
    /// Read the configuration again.
    Reload {
        /// Whether values set by control are forgotten.
        reset: bool,
        /// Told what came of it.
        reply: Reply<Reloaded>,
    },
    /// Change settings by key; all of them or none.
    Change {
        /// Key path (`batches.poll_interval`) → value as written in the
        /// environment (`2s`), or `None` to forget what control set.
        changes: BTreeMap<String, Option<String>>,
        /// Told what came of it.
        reply: Reply<Reloaded>,
    },
    /// List the settings in force.
    Settings {
        /// Told them.
        reply: Reply<Vec<EffectiveSetting>>,
    },
    /// Drain and end the process.
    Shutdown {
        /// Told when the drain begins.
        reply: Reply<()>,
    },
}

impl Order {
    /// Answers that the order is not carried out. Nobody waiting for the answer
    /// any more is fine.
    pub fn refuse(self, error: OrderError) {
        match self {
            Self::Reload { reply, .. } | Self::Change { reply, .. } => {
                drop(reply.send(Err(error)));
            }
            Self::Settings { reply } => drop(reply.send(Err(error))),
            Self::Shutdown { reply } => drop(reply.send(Err(error))),
        }
    }
}

/// Where the outcome of an order goes.
pub type Reply<T> = oneshot::Sender<Result<T, OrderError>>;

/// What a reload or a change of settings did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// Keys whose effective value changed.
    pub changed: Vec<String>,
    /// Of those, keys that take effect at the next start of the process.
    pub needs_restart: Vec<String>,
}

/// One key with its value in force.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct EffectiveSetting {
    /// Key path: `batches.poll_interval`, `ledgers.trace.url`.
    pub key: String,
    /// Value as written; secrets read `***`.
    pub value: String,
    /// Where it comes from: `default`, `file`, `environment` or `control`.
    pub origin: String,
    /// The place more precisely: `highwater.toml:12`, the name of the variable.
    pub place: Option<String>,
}

/// Why an order was not carried out; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// What was asked for is wrong, a sentence a mistake.
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
    /// There is no configuration file to be read again.
    #[error("there is no configuration file to reload")]
    NoFile,
    /// The server is stopping.
    #[error("the server is shutting down; nothing was changed")]
    ShuttingDown,
    /// Too many orders wait.
    #[error("too many control calls wait to be carried out; try again")]
    Busy,
}

/// Orders to the application, for the one that carries them out.
#[derive(Debug)]
pub struct Orders(mpsc::Receiver<Order>);

impl Orders {
    /// The next order; `None` when no one can give any more.
    pub async fn next(&mut self) -> Option<Order> {
        self.0.recv().await
    }
}

/// The capability to control services, settings and the process.
#[derive(Clone, Debug)]
pub struct WatchdogQuery {
    watchdog: Watchdog,
    orders: mpsc::Sender<Order>,
}

impl WatchdogQuery {
    /// A watchdog over no services yet, whose network and database work runs on
    /// `runtime`: the capability over it, and the orders that it will give.
    pub fn new(runtime: tokio::runtime::Handle) -> (Self, Orders) {
        let (orders, receiver) = mpsc::channel(WAITING_ORDERS);
        let watchdog = Watchdog::new(runtime);
        (Self { watchdog, orders }, Orders(receiver))
    }

    /// The register, to look at and to ask for intercoms.
    pub fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// Sets what holds for all services, from now on.
    pub fn configure(&self, limits: WatchdogLimits) {
        self.watchdog.configure(limits);
    }

    /// Tells what states were saved before: services that are registered later
    /// begin with them.
    pub fn remember(&self, saved: Vec<SavedValue>) {
        self.watchdog.remember(saved);
    }

    /// Services whose saved state could not be used, and why: whoever persists
    /// sets it aside.
    pub fn unusable_states(&self) -> Vec<(String, StateError)> {
        self.watchdog.unusable_states()
    }

    /// Registers a service; it is not started yet.
    ///
    /// # Errors
    /// There is one of that name, or everything is being shut down.
    pub fn register<A>(&self, service: Service<A>, keeper: Keeper) -> Result<(), LookupError>
    where
        A: Actor<Context = Context<A>>,
    {
        self.watchdog.register(service, keeper)
    }

    /// Stops a service and forgets it once it has ended.
    ///
    /// # Errors
    /// No such service, or it keeps all others.
    pub fn unregister(&self, service: &str) -> Result<(), LookupError> {
        self.watchdog.unregister(service)
    }

    /// How all services are.
    pub fn list(&self) -> Vec<ServiceStatus> {
        self.watchdog.status().services
    }

    /// How one service is.
    ///
    /// # Errors
    /// No such service.
    pub fn status(&self, service: &str) -> Result<ServiceStatus, LookupError> {
        let mut services = self.list();
        match services.iter().position(|status| status.name == service) {
            Some(index) => Ok(services.swap_remove(index)),
            None => Err(LookupError::NoService {
                service: service.to_owned(),
                known: services.into_iter().map(|status| status.name).collect(),
            }),
        }
    }

    /// Starts all services that were registered and not started.
    pub fn start_all(&self) {
        self.watchdog.start_all();
    }

    /// Starts a service that is stopped or failed; one that is about to be
    /// restarted starts now. Its former ends are forgotten.
    ///
    /// # Errors
    /// No such service, or everything is being shut down.
    pub fn start(&self, service: &str) -> Result<(), LookupError> {
        self.watchdog.start(service)
    }

    /// Stops a service until it is started, or the process ends. One that does
    /// not listen is cut off at its deadline.
    ///
    /// # Errors
    /// No such service, or it keeps all others.
    pub fn stop(&self, service: &str) -> Result<(), LookupError> {
        self.watchdog.stop(service)
    }

    /// Stops a service and builds it again; its former ends are forgotten.
    ///
    /// # Errors
    /// No such service, or everything is being shut down.
    pub fn restart(&self, service: &str) -> Result<(), LookupError> {
        self.watchdog.restart(service)
    }

    /// Sets a service's live settings (LLR-CFG-3); answers whether they differ
    /// from those in force.
    ///
    /// # Errors
    /// No such service, settings of another type, or a value that does not pass
    /// the service's check; nothing was changed.
    pub fn update_settings<T>(&self, service: &str, value: T) -> Result<bool, LookupError>
    where
        T: Clone + PartialEq + Send + Sync + 'static,
    {
        self.watchdog.update_settings(service, value)
    }

    /// The states of all services, for the one that persists them.
    pub fn states(&self) -> Vec<StateSource> {
        self.watchdog.states()
    }

    /// Makes a service misbehave inside its actor: for tests of supervision.
    ///
    /// # Errors
    /// No such service.
    pub fn inject(&self, service: &str, fault: Fault) -> Result<(), LookupError> {
        self.watchdog.inject(service, fault)
    }

    /// One turn of a keeper: takes note of ends, builds what is to be built.
    /// Answers when the next service is to be built; to be called then, and
    /// whenever [`bell`](Self::bell) rings, on a thread where an actix system
    /// is known.
    pub fn attend(&self, keeper: Keeper) -> Option<Instant> {
        self.watchdog.attend(keeper)
    }

    /// Waits until there is something for a keeper to do.
    pub async fn bell(&self, keeper: Keeper) {
        self.watchdog.keepers_bell(keeper).notified().await;
    }

    /// From now on nothing is started any more.
    pub fn close(&self) {
        self.watchdog.close();
    }

    /// Ends the threads of all services.
    pub fn stop_threads(&self) {
        self.watchdog.stop_threads();
    }

    /// Reads the configuration again.
    ///
    /// # Errors
    /// See [`OrderError`]; nothing was changed.
    pub async fn reload(&self, reset: bool) -> Result<Reloaded, OrderError> {
        self.order(|reply| Order::Reload { reset, reply }).await
    }

    /// Changes settings by key; all of them or none.
    ///
    /// # Errors
    /// See [`OrderError`]; nothing was changed.
    pub async fn change(
        &self,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<Reloaded, OrderError> {
        self.order(|reply| Order::Change { changes, reply }).await
    }

    /// The settings in force, with their origin.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn settings(&self) -> Result<Vec<EffectiveSetting>, OrderError> {
        self.order(|reply| Order::Settings { reply }).await
    }

    /// Drains and ends the process; answers when the drain begins.
    ///
    /// # Errors
    /// It is shutting down already.
    pub async fn shut_down(&self) -> Result<(), OrderError> {
        self.order(|reply| Order::Shutdown { reply }).await
    }

    async fn order<T>(&self, make: impl FnOnce(Reply<T>) -> Order) -> Result<T, OrderError> {
        let (reply, answer) = oneshot::channel();
        self.orders
            .try_send(make(reply))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => OrderError::Busy,
                mpsc::error::TrySendError::Closed(_) => OrderError::ShuttingDown,
            })?;
        answer.await.unwrap_or(Err(OrderError::ShuttingDown))
    }
}
