//! The watchdog's register of services: what is known of each, and the turn
//! in which ends are noticed and services built again.
//!
//! The register outlives every actor, the Supervisor included: a Supervisor
//! that was itself restarted goes on from here.

use super::exit::{ExitBox, ExitGuard, ExitReason};
use super::intercom::Intercom;
use super::restart::{RestartDecision, RestartHistory, RestartPolicy};
use super::service::{
    Command, Launch, LaunchOrder, LineEntry, Progress, Service, ServiceContext, ServiceParts,
    find_line,
};
use super::stats::lock;
use super::status::{ServiceState, ServiceStatus};
use crate::time::Timestamp;
use actix::{Actor, ArbiterHandle, Context, Message};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::{Notify, mpsc};

/// Who attends to a service's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// The Supervisor.
    Supervisor,
    /// The root task, which keeps the Supervisor alone.
    Root,
}

/// The register of services; cheap to clone.
#[derive(Clone)]
pub struct Watchdog {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watchdog")
    }
}

struct Inner {
    runtime: tokio::runtime::Handle,
    services: Mutex<Vec<Entry>>,
    supervisor_bell: Arc<Notify>,
    root_bell: Arc<Notify>,
}

struct Entry {
    name: Arc<str>,
    keeper: Keeper,
    critical: bool,
    policy: RestartPolicy,
    arbiter: ArbiterHandle,
    launch: Launch,
    lines: Vec<LineEntry>,
    exits: Arc<ExitBox>,
    progress: Arc<Progress>,
    progress_at_start: u64,
    commands: Option<mpsc::UnboundedSender<Command>>,
    generation: u64,
    state: ServiceState,
    since: Timestamp,
    started: Instant,
    history: RestartHistory,
    restart_at: Option<Instant>,
    restarts: BTreeMap<String, u64>,
    last_error: Option<String>,
}

/// The watchdog knows no such service, or the service takes no such message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No such service.
    #[error("there is no service \"{0}\"")]
    NoService(String),
    /// The service is not open to that message.
    #[error("service \"{service}\" does not accept {message}")]
    NotAccepted {
        /// Service.
        service: String,
        /// Type of the message.
        message: &'static str,
    },
}

impl Watchdog {
    /// An empty register. Network and database work of services runs on
    /// `runtime`.
    pub fn new(runtime: tokio::runtime::Handle) -> Self {
        Self {
            inner: Arc::new(Inner {
                runtime,
                services: Mutex::new(Vec::new()),
                supervisor_bell: Arc::new(Notify::new()),
                root_bell: Arc::new(Notify::new()),
            }),
        }
    }

    /// The runtime for network and database work.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        &self.inner.runtime
    }

    /// Registers a service, to run on `arbiter`; a service of the same name
    /// is replaced in the register.
    pub fn register<A>(&self, service: Service<A>, arbiter: &ArbiterHandle, keeper: Keeper)
    where
        A: Actor<Context = Context<A>>,
    {
        let ServiceParts {
            name,
            critical,
            policy,
            launch,
            lines,
        } = service.into_parts();
        let entry = Entry {
            name,
            keeper,
            critical,
            policy,
            arbiter: arbiter.clone(),
            launch,
            lines,
            exits: Arc::default(),
            progress: Arc::default(),
            progress_at_start: 0,
            commands: None,
            generation: 0,
            state: ServiceState::Registered,
            since: Timestamp::now(),
            started: Instant::now(),
            history: RestartHistory::default(),
            restart_at: None,
            restarts: BTreeMap::new(),
            last_error: None,
        };
        let mut services = lock(&self.inner.services);
        services.retain(|known| known.name != entry.name);
        services.push(entry);
    }

    /// The intercom for messages of type `M` to a service (LLR-IC-2).
    ///
    /// # Errors
    /// No such service, or not open to `M`.
    pub fn intercom<M>(&self, service: &str) -> Result<Intercom<M>, LookupError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let services = lock(&self.inner.services);
        let entry = find(&services, service)?;
        find_line(service, &entry.lines)
    }

    /// Starts a service that is not running.
    ///
    /// # Errors
    /// No such service.
    pub fn start(&self, service: &str) -> Result<(), LookupError> {
        let mut services = lock(&self.inner.services);
        let entry = find_mut(&mut services, service)?;
        if matches!(
            entry.state,
            ServiceState::Registered | ServiceState::Stopped | ServiceState::Failed
        ) {
            entry.history.forget();
            self.launch(entry);
        }
        Ok(())
    }

    /// Tells a service to end; it is not started again by itself.
    ///
    /// # Errors
    /// No such service.
    pub fn stop(&self, service: &str) -> Result<(), LookupError> {
        let mut services = lock(&self.inner.services);
        let entry = find_mut(&mut services, service)?;
        if let Some(commands) = &entry.commands
            && commands.send(Command::Stop).is_ok()
        {
            entry.become_(ServiceState::Stopping);
        } else {
            entry.restart_at = None;
            entry.become_(ServiceState::Stopped);
        }
        Ok(())
    }

    /// Makes a service panic inside its actor: for tests of supervision.
    ///
    /// # Errors
    /// No such service.
    pub fn panic(&self, service: &str, message: &str) -> Result<(), LookupError> {
        let services = lock(&self.inner.services);
        let entry = find(&services, service)?;
        if let Some(commands) = &entry.commands {
            // A service that is not running has nothing to panic in.
            drop(commands.send(Command::Panic(message.to_owned())));
        }
        Ok(())
    }

    /// How the services are, in the order they were registered.
    pub fn status(&self) -> Vec<ServiceStatus> {
        lock(&self.inner.services)
            .iter()
            .map(Entry::status)
            .collect()
    }

    /// Starts all services that were registered and not started.
    pub fn start_all(&self) {
        let mut services = lock(&self.inner.services);
        for entry in services
            .iter_mut()
            .filter(|entry| entry.state == ServiceState::Registered)
        {
            self.launch(entry);
        }
    }

    /// Waits until a service of this keeper has ended.
    pub async fn bell(&self, keeper: Keeper) {
        match keeper {
            Keeper::Supervisor => self.inner.supervisor_bell.notified().await,
            Keeper::Root => self.inner.root_bell.notified().await,
        }
    }

    /// One turn of a keeper: takes note of ends, builds again what is due.
    /// Answers when the next service is due to be built again.
    pub fn attend(&self, keeper: Keeper, now: Instant) -> Option<Instant> {
        let mut services = lock(&self.inner.services);
        let mut next = None;
        for entry in services.iter_mut().filter(|entry| entry.keeper == keeper) {
            for exit in entry.exits.take() {
                // The end of a generation that was replaced is old news.
                if exit.generation == entry.generation {
                    entry.ended(&exit.reason, now);
                }
            }
            match entry.restart_at {
                Some(at) if at <= now => self.launch(entry),
                Some(at) => next = Some(next.map_or(at, |next: Instant| next.min(at))),
                None => {}
            }
        }
        next
    }

    fn launch(&self, entry: &mut Entry) {
        entry.generation += 1;
        entry.restart_at = None;
        entry.started = Instant::now();
        entry.progress_at_start = entry.progress.count();
        entry.become_(ServiceState::Starting);
        let (sender, commands) = mpsc::unbounded_channel();
        entry.commands = Some(sender);
        let bell = match entry.keeper {
            Keeper::Supervisor => &self.inner.supervisor_bell,
            Keeper::Root => &self.inner.root_bell,
        };
        let service = ServiceContext {
            name: entry.name.clone(),
            guard: ExitGuard {
                generation: entry.generation,
                exits: entry.exits.clone(),
                bell: bell.clone(),
                error: None,
            },
            watchdog: self.clone(),
            progress: entry.progress.clone(),
        };
        let launch = entry.launch.clone();
        tracing::debug!(service.name = %entry.name, service.generation = entry.generation, "service starts");
        // Where the arbiter is gone the order is dropped, and its guard reports the end.
        let _sent: bool = entry
            .arbiter
            .spawn_fn(move || launch(LaunchOrder::Start { service, commands }));
    }
}

impl Entry {
    fn become_(&mut self, state: ServiceState) {
        self.state = state;
        self.since = Timestamp::now();
    }

    fn ended(&mut self, reason: &ExitReason, now: Instant) {
        (self.launch)(LaunchOrder::Disconnect);
        self.commands = None;
        if self.state == ServiceState::Stopping {
            self.become_(ServiceState::Stopped);
            tracing::info!(service.name = %self.name, "service stopped");
            return;
        }
        self.last_error = Some(reason.to_string());
        let ran_for = now.saturating_duration_since(self.started);
        match self
            .history
            .on_exit(&self.policy, now, ran_for, rand::random())
        {
            RestartDecision::RestartAfter(delay) => {
                *self.restarts.entry(reason.word().to_owned()).or_default() += 1;
                tracing::error!(
                    service.name = %self.name,
                    service.exit = %reason,
                    service.restart_after_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                    "service ended and is restarted"
                );
                self.restart_at = Some(now + delay);
                self.become_(ServiceState::Restarting);
            }
            RestartDecision::Fail => {
                tracing::error!(service.name = %self.name, service.exit = %reason, "service failed: it ended too often");
                self.become_(ServiceState::Failed);
            }
        }
    }

    fn status(&self) -> ServiceStatus {
        let alive = self.progress.count() > self.progress_at_start;
        let state = match self.state {
            ServiceState::Starting if alive => ServiceState::Running,
            state => state,
        };
        ServiceStatus {
            name: self.name.to_string(),
            state,
            critical: self.critical,
            since: self.since,
            restarts: self.restarts.clone(),
            last_error: self.last_error.clone(),
            intercoms: self.lines.iter().map(|line| (line.stats)()).collect(),
        }
    }
}

fn find<'a>(services: &'a [Entry], name: &str) -> Result<&'a Entry, LookupError> {
    services
        .iter()
        .find(|entry| &*entry.name == name)
        .ok_or_else(|| LookupError::NoService(name.to_owned()))
}

fn find_mut<'a>(services: &'a mut [Entry], name: &str) -> Result<&'a mut Entry, LookupError> {
    services
        .iter_mut()
        .find(|entry| &*entry.name == name)
        .ok_or_else(|| LookupError::NoService(name.to_owned()))
}
