//! The privileged channel (seed: Service Control): whoever holds a
//! [`WatchdogQuery`] may change what runs. It is handed out by the composition
//! root alone; services never get it.

use super::{LookupError, ServiceStatus, Watchdog};
use std::collections::BTreeMap;
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
    /// The capability over this register, and the orders it will give.
    pub fn new(watchdog: Watchdog) -> (Self, Orders) {
        let (orders, receiver) = mpsc::channel(WAITING_ORDERS);
        (Self { watchdog, orders }, Orders(receiver))
    }

    /// How all services are.
    pub fn list(&self) -> Vec<ServiceStatus> {
        self.watchdog.status()
    }

    /// How one service is.
    ///
    /// # Errors
    /// No such service.
    pub fn status(&self, service: &str) -> Result<ServiceStatus, LookupError> {
        self.list()
            .into_iter()
            .find(|status| status.name == service)
            .ok_or_else(|| LookupError::NoService(service.to_owned()))
    }

    /// Starts a service that is stopped or failed.
    ///
    /// # Errors
    /// No such service.
    pub fn start(&self, service: &str) -> Result<(), LookupError> {
        self.watchdog.start(service)
    }

    /// Stops a service until it is started, or the process ends.
    ///
    /// # Errors
    /// No such service.
    pub fn stop(&self, service: &str) -> Result<(), LookupError> {
        self.watchdog.stop(service)
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
