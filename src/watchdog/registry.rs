//! The watchdog's register of services: what is known of each, and the turn
//! in which ends are noticed and services built.
//!
//! The register outlives every actor, the Supervisor included: a Supervisor
//! that was itself restarted goes on from here. What may be done with it by
//! whom is [`WatchdogQuery`](super::WatchdogQuery)'s business.

use super::commands::{Command, Fault};
use super::entry::{Entry, Then, find, find_mut};
use super::exit::Fence;
use super::intercom::Intercom;
use super::lookup::LookupError;
use super::notes::Note;
use super::register::Register;
use super::restart::RestartPolicy;
use super::service::{Service, open_line};
use super::settings::Refused;
use super::state::{AnyState, SavedValue, StateError};
use super::state_source::StateSource;
use super::stats::lock;
use super::status::{ServiceState, WatchdogStatus};
use super::thread::Thread;
use actix::{Actor, Context, Message};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Who attends to a service's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// The Supervisor.
    Supervisor,
    /// The root task, which keeps the Supervisor alone.
    Root,
}

/// What holds for all services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchdogLimits {
    /// How services are restarted that have no policy of their own.
    pub restart: RestartPolicy,
    /// Within which time a service that shows no life is replaced. Default 10 s.
    pub deadline: Duration,
    /// Most threads that may be lost to services that block them. Default 4.
    pub lost_threads: usize,
}

impl Default for WatchdogLimits {
    fn default() -> Self {
        Self {
            restart: RestartPolicy::default(),
            deadline: Duration::from_secs(10),
            lost_threads: 4,
        }
    }
}

/// The register of services; cheap to clone.
#[derive(Clone)]
pub struct Watchdog {
    pub(super) inner: Arc<Inner>,
}

impl std::fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watchdog")
    }
}

pub(super) struct Inner {
    runtime: tokio::runtime::Handle,
    pub(super) register: Mutex<Register>,
    supervisor_bell: Arc<Notify>,
    root_bell: Arc<Notify>,
}

/// When a thread is tried again that could not be started.
const THREAD_PAUSE: Duration = Duration::from_secs(1);
/// Whoever keeps the others is not stopped alone.
const DEPENDS_ON_ITSELF: &str =
    "would depend on itself, by way of what it depends on, and never start";
const IS_LEAVING: &str = "is being unregistered; register it anew once it has ended";
const KEEPS_THE_OTHERS: &str =
    "keeps all others and cannot be stopped alone; restart it, or shut the server down";

impl Watchdog {
    /// An empty register. Network and database work of services runs on
    /// `runtime`.
    pub(super) fn new(runtime: tokio::runtime::Handle) -> Self {
        Self {
            inner: Arc::new(Inner {
                runtime,
                register: Mutex::default(),
                supervisor_bell: Arc::new(Notify::new()),
                root_bell: Arc::new(Notify::new()),
            }),
        }
    }

    /// The runtime for network and database work.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        &self.inner.runtime
    }

    /// How the services are, in the order they were registered.
    pub fn status(&self) -> WatchdogStatus {
        let register = lock(&self.inner.register);
        WatchdogStatus {
            services: register.entries.iter().map(Entry::status).collect(),
            lost_threads: register
                .lost
                .iter()
                .map(|lost| lost.shown.clone())
                .collect(),
            lost_threads_limit: register.limits.lost_threads,
            recovered_threads: register.recovered,
        }
    }

    /// A handle for messages of type `M` to a service (LLR-IC-2), for a sender
    /// that is not a service itself; its statistics stand under `from`.
    ///
    /// # Errors
    /// No such service, or not open to `M`.
    pub fn intercom<M>(&self, from: &str, service: &str) -> Result<Intercom<M>, LookupError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.open_line(&Arc::from(from), service, Fence::default())
    }

    pub(super) fn open_line<M>(
        &self,
        from: &Arc<str>,
        service: &str,
        fence: Fence,
    ) -> Result<Intercom<M>, LookupError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let register = lock(&self.inner.register);
        let entry = find(&register.entries, service)?;
        open_line(from, service, &entry.lines, fence)
    }

    pub(super) fn configure(&self, limits: WatchdogLimits) {
        lock(&self.inner.register).limits = limits;
    }

    /// What states were saved before, to begin services with.
    pub(super) fn remember(&self, saved: Vec<SavedValue>) {
        lock(&self.inner.register).saved = saved;
    }

    pub(super) fn register<A>(&self, service: Service<A>, keeper: Keeper) -> Result<(), LookupError>
    where
        A: Actor<Context = Context<A>>,
    {
        let parts = service.into_parts();
        let mut register = lock(&self.inner.register);
        if register.closing {
            return Err(LookupError::ShuttingDown);
        }
        if find(&register.entries, &parts.name).is_ok() {
            return Err(LookupError::Exists(parts.name.to_string()));
        }
        if register.leads_to(&parts.depends_on, &parts.name) {
            return Err(LookupError::NotAllowed {
                service: parts.name.to_string(),
                why: DEPENDS_ON_ITSELF,
            });
        }
        register.ids += 1;
        let mut saved = register.saved.iter();
        let saved = saved.find(|saved| *saved.service == *parts.name);
        let entry = Entry::new(register.ids, parts, keeper, saved);
        register.entries.push(entry);
        Ok(())
    }

    pub(super) fn unregister(&self, service: &str) -> Result<(), LookupError> {
        self.tell(service, Then::Leave)
    }

    pub(super) fn start(&self, service: &str) -> Result<(), LookupError> {
        let mut register = lock(&self.inner.register);
        if register.closing {
            return Err(LookupError::ShuttingDown);
        }
        let entry = find_mut(&mut register.entries, service)?;
        entry.check_stays(service)?;
        match entry.state {
            ServiceState::Registered
            | ServiceState::Stopped
            | ServiceState::Failed
            | ServiceState::Restarting => entry.start_by_hand(),
            ServiceState::Stopping => entry.then = Some(Then::Restart),
            ServiceState::Starting | ServiceState::Running => {}
        }
        self.ring(entry.keeper);
        Ok(())
    }

    pub(super) fn stop(&self, service: &str) -> Result<(), LookupError> {
        self.tell(service, Then::Stay)
    }

    pub(super) fn restart(&self, service: &str) -> Result<(), LookupError> {
        self.tell(service, Then::Restart)
    }

    fn tell(&self, service: &str, then: Then) -> Result<(), LookupError> {
        let mut register = lock(&self.inner.register);
        let closing = register.closing;
        let entry = find_mut(&mut register.entries, service)?;
        if !closing {
            entry.check_stays(service)?;
        }
        if then == Then::Restart {
            if closing {
                return Err(LookupError::ShuttingDown);
            }
            entry.forget_ends();
        } else if entry.keeper == Keeper::Root && !closing {
            return Err(LookupError::NotAllowed {
                service: service.to_owned(),
                why: KEEPS_THE_OTHERS,
            });
        }
        entry.tell_to_end(then);
        let (name, keeper) = (entry.name.clone(), entry.keeper);
        if entry.running.is_none() {
            register.followers_of(&name);
        }
        let notes = register.settle();
        drop(register);
        notes.into_iter().for_each(Note::log);
        self.ring(keeper);
        Ok(())
    }

    pub(super) fn inject(&self, service: &str, fault: Fault) -> Result<(), LookupError> {
        let register = lock(&self.inner.register);
        let entry = find(&register.entries, service)?;
        if let Some(running) = &entry.running {
            // A service that is ending has nothing to misbehave in.
            let _listens: bool = running.commands.tell(Command::Fault(fault));
        }
        Ok(())
    }

    pub(super) fn update_settings<T>(&self, service: &str, value: T) -> Result<bool, LookupError>
    where
        T: Clone + PartialEq + Send + Sync + 'static,
    {
        let settings = {
            let register = lock(&self.inner.register);
            find(&register.entries, service)?.settings.clone()
        };
        let updated = settings.map_or(Err(Refused::OtherType), |settings| settings.update(value));
        updated.map_err(|refused| match refused {
            Refused::OtherType => LookupError::NoSettings {
                service: service.to_owned(),
                settings: super::intercom::short_name::<T>(),
            },
            Refused::Wrong(problem) => LookupError::WrongSettings {
                service: service.to_owned(),
                problem,
            },
        })
    }

    pub(super) fn unusable_states(&self) -> Vec<(String, StateError)> {
        let register = lock(&self.inner.register);
        let entries = register.entries.iter();
        entries
            .filter_map(|entry| {
                let problem = entry.kept.as_ref()?.problem()?;
                Some((entry.name.to_string(), problem.clone()))
            })
            .collect()
    }

    pub(super) fn states(&self) -> Vec<StateSource> {
        let register = lock(&self.inner.register);
        let entries = register.entries.iter();
        entries
            .filter_map(|entry| entry.kept.as_ref())
            .map(AnyState::source)
            .collect()
    }

    pub(super) fn start_all(&self) {
        let mut register = lock(&self.inner.register);
        for entry in &mut register.entries {
            if entry.state == ServiceState::Registered {
                entry.start_by_hand();
            }
        }
        self.ring(Keeper::Root);
        self.ring(Keeper::Supervisor);
    }

    /// From now on nothing is started any more.
    pub(super) fn close(&self) {
        lock(&self.inner.register).closing = true;
    }

    /// Ends all threads, once their services have ended.
    pub(super) fn stop_threads(&self) {
        for thread in lock(&self.inner.register).threads.values() {
            thread.arbiter.stop();
        }
    }

    pub(super) fn keepers_bell(&self, keeper: Keeper) -> Arc<Notify> {
        match keeper {
            Keeper::Supervisor => self.inner.supervisor_bell.clone(),
            Keeper::Root => self.inner.root_bell.clone(),
        }
    }

    pub(super) fn ring(&self, keeper: Keeper) {
        self.keepers_bell(keeper).notify_one();
    }

    /// One turn of a keeper: takes note of ends, builds what is to be built.
    /// Answers when the next service is to be built.
    pub(super) fn attend(&self, keeper: Keeper) -> Option<Instant> {
        let mut guard = lock(&self.inner.register);
        let register = &mut *guard;
        let mut ended = Vec::new();
        for entry in register.entries.iter_mut().filter(|e| e.keeper == keeper) {
            for exit in entry.exits.take() {
                // The end of a generation that was given up is old news.
                if entry.running.is_some() && exit.generation == entry.generation {
                    let policy = entry.policy.unwrap_or(register.limits.restart);
                    entry.ended(&exit.reason, &policy);
                    ended.push(entry.name.clone());
                }
            }
        }
        for name in ended {
            register.followers_of(&name);
        }
        let next = self.build_due(register, keeper);
        let notes = register.settle();
        drop(guard);
        notes.into_iter().for_each(Note::log);
        next
    }

    fn build_due(&self, register: &mut Register, keeper: Keeper) -> Option<Instant> {
        if register.closing {
            return None;
        }
        let now = Instant::now();
        let mut next = None;
        // As long as one more was built: others may have waited for it.
        loop {
            let due = register.entries.iter().position(|entry| {
                entry.keeper == keeper
                    && entry.start_at.is_some_and(|at| at <= now)
                    && entry.running.is_none()
                    && register.may_start(entry)
            });
            let Some(index) = due else { break };
            let name = register.entries[index].thread.clone();
            let known = register.threads.get(&name).cloned();
            let thread = match known.map_or_else(Thread::start, Ok) {
                Ok(thread) => thread,
                Err(error) => {
                    let thread = name.clone();
                    register.notes.push(Note::NoThread { thread, error });
                    register.entries[index].start_at = Some(now + THREAD_PAUSE);
                    continue;
                }
            };
            register.threads.insert(name, thread.clone());
            register.entries[index].launch(self, &thread);
        }
        for entry in register.entries.iter().filter(|e| e.keeper == keeper) {
            if let Some(at) = entry.start_at.filter(|at| *at > now) {
                next = Some(next.map_or(at, |next: Instant| next.min(at)));
            }
        }
        next
    }
}

impl Entry {
    fn check_stays(&self, service: &str) -> Result<(), LookupError> {
        if self.is_leaving() {
            return Err(LookupError::NotAllowed {
                service: service.to_owned(),
                why: IS_LEAVING,
            });
        }
        Ok(())
    }
}
