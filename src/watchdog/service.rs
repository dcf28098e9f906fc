//! What a service is to the watchdog: a factory, the messages it accepts, its
//! settings and state, and how it is to be watched and restarted.

use super::exit::{ExitGuard, Fence};
use super::intercom::{Envelope, Intercom, line, short_name};
use super::launch::{Launch, launcher};
use super::lookup::LookupError;
use super::registry::Watchdog;
use super::restart::RestartPolicy;
use super::settings::{AnySettings, SettingsReader, SettingsUpdater};
use super::state::{AnyState, SavedValue, State, StateHandle};
use super::stats::LineStats;
use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, Message};
use std::any::{Any, TypeId};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Messages that wait in a service's mailbox, at most, where nothing else is said.
const MAILBOX: usize = 1024;

/// Signs of life of a service.
#[derive(Debug, Default)]
pub(super) struct Progress {
    count: AtomicU64,
    /// Within how many milliseconds there is to be progress; 0 where the
    /// service has not said so.
    within: AtomicU64,
    /// The newest probe that was answered.
    probe: AtomicU64,
}

impl Progress {
    pub(super) fn mark(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn within(&self) -> Option<Duration> {
        let millis = self.within.load(Ordering::Relaxed);
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    pub(super) fn expect(&self, within: Option<Duration>) {
        let millis = within.map_or(0, |time| {
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
        });
        self.within.store(millis, Ordering::Relaxed);
    }

    pub(super) fn answer_probe(&self, probe: u64) {
        self.probe.store(probe, Ordering::Release);
    }

    pub(super) fn answered_probe(&self) -> u64 {
        self.probe.load(Ordering::Acquire)
    }
}

/// What a service is handed when it is built. The service keeps it for as long
/// as it lives: dropping it is what tells the watchdog of its end.
#[derive(Debug)]
pub struct ServiceContext {
    pub(super) name: Arc<str>,
    pub(super) guard: Arc<ExitGuard>,
    pub(super) watchdog: Watchdog,
    pub(super) progress: Arc<Progress>,
    pub(super) fence: Fence,
    pub(super) former_lost: bool,
    pub(super) settings: Option<AnySettings>,
    pub(super) state: Option<AnyState>,
}

impl ServiceContext {
    /// Name of the service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often the service has been built, from 1 on.
    pub fn generation(&self) -> u64 {
        self.guard.generation
    }

    /// A handle for messages of type `M` to another service (LLR-IC-2).
    ///
    /// # Errors
    /// No such service, or not open to `M`.
    pub fn intercom<M>(&self, service: &str) -> Result<Intercom<M>, LookupError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.watchdog
            .open_line(&self.name, service, self.fence.clone())
    }

    /// A reader of the service's live settings (LLR-CFG-2).
    ///
    /// # Errors
    /// The service was registered without settings of type `T`.
    pub fn settings<T>(&self) -> Result<SettingsReader<T>, LookupError>
    where
        T: Clone + PartialEq + Send + Sync + 'static,
    {
        self.settings
            .as_ref()
            .and_then(AnySettings::reader)
            .ok_or_else(|| LookupError::NoSettings {
                service: self.name.to_string(),
                settings: short_name::<T>(),
            })
    }

    /// The service's state, as it was left or saved last (LLR-SS-2).
    ///
    /// # Errors
    /// The service was registered without a state of type `S`.
    pub fn state<S: 'static>(&self) -> Result<StateHandle<S>, LookupError> {
        self.state
            .as_ref()
            .and_then(AnyState::handle)
            .ok_or_else(|| LookupError::NoState {
                service: self.name.to_string(),
                state: short_name::<S>(),
            })
    }

    /// The runtime on which network and database work runs, off the actors' thread.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        self.watchdog.runtime()
    }

    /// Whether this generation of the service was given up: what it still does
    /// must have no effect. To be asked before an effect, and by tasks that
    /// outlive a turn.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Whether the former generation is on a thread that was given up for lost:
    /// what it holds may never come back by itself, and is to be taken from it.
    pub const fn former_is_lost(&self) -> bool {
        self.former_lost
    }

    /// Says why the service is about to end; the caller then stops its actor.
    pub fn ends_with(&self, error: impl Display) {
        self.guard.ends_with(error.to_string());
    }

    /// Marks progress that no message shows.
    pub fn progress(&self) {
        self.progress.mark();
    }

    /// Promises progress at least so often from now on, or nothing any more. A
    /// service that breaks its promise is given up and replaced.
    pub fn expect_progress_within(&self, time: Option<Duration>) {
        self.progress.mark();
        self.progress.expect(time);
    }
}

pub(super) type Publish<A> = Box<dyn Fn(Option<&Addr<A>>) + Send + Sync>;

/// Opens a handle, its type forgotten, for a sender.
type OpenLine = Box<dyn Fn(&Arc<str>, Fence) -> Box<dyn Any> + Send + Sync>;

/// A line into a service, with its types forgotten.
pub(super) struct LineEntry {
    message: TypeId,
    open: OpenLine,
    pub(super) stats: Arc<LineStats>,
}

/// Why a factory built nothing.
pub(super) type BuildError = Box<dyn Display>;

/// Builds a service.
pub(super) type Build<A> = Arc<dyn Fn(ServiceContext) -> Result<A, BuildError> + Send + Sync>;

/// A service to be registered, whose factory is not known yet.
pub struct Registration<A: Actor<Context = Context<A>>> {
    name: Arc<str>,
    critical: bool,
    policy: Option<RestartPolicy>,
    thread: Option<Arc<str>>,
    depends_on: Vec<Arc<str>>,
    capacity: usize,
    publish: Vec<Publish<A>>,
    lines: Vec<LineEntry>,
    settings: Option<AnySettings>,
    state: Option<NewState>,
}

/// Makes the state of a service from what was saved.
pub(super) type NewState = Box<dyn FnOnce(&str, Option<&SavedValue>) -> AnyState + Send>;

/// A service to be registered.
pub struct Service<A: Actor<Context = Context<A>>> {
    registration: Registration<A>,
    build: Build<A>,
}

/// What the register keeps of a service, with its type forgotten.
pub(super) struct ServiceParts {
    pub(super) name: Arc<str>,
    pub(super) critical: bool,
    pub(super) policy: Option<RestartPolicy>,
    pub(super) thread: Arc<str>,
    pub(super) depends_on: Vec<Arc<str>>,
    pub(super) launch: Launch,
    pub(super) lines: Vec<LineEntry>,
    pub(super) settings: Option<AnySettings>,
    pub(super) state: Option<NewState>,
}

impl<A: Actor<Context = Context<A>>> Registration<A> {
    /// A service of that name.
    pub fn new(name: &str) -> Self {
        Self {
            name: Arc::from(name),
            critical: false,
            policy: None,
            thread: None,
            depends_on: Vec::new(),
            capacity: MAILBOX,
            publish: Vec::new(),
            lines: Vec::new(),
            settings: None,
            state: None,
        }
    }

    /// The server is not ready while the service has failed.
    #[must_use]
    pub fn critical(mut self) -> Self {
        self.critical = true;
        self
    }

    /// How it is restarted, where the watchdog's own policy does not suit.
    #[must_use]
    pub fn restarted_by(mut self, policy: RestartPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Runs it on the thread of that name, which services may share: a message
    /// costs least there. Without, it has a thread of its own.
    #[must_use]
    pub fn on_thread(mut self, thread: &str) -> Self {
        self.thread = Some(Arc::from(thread));
        self
    }

    /// Restarts it whenever that other service ends, and after it.
    #[must_use]
    pub fn depends_on(mut self, service: &str) -> Self {
        self.depends_on.push(Arc::from(service));
        self
    }

    /// Messages that may wait in its mailbox, for each handle. Default 1024.
    #[must_use]
    pub fn mailbox(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Gives it live settings, with their initial value (LLR-CFG-1).
    #[must_use]
    pub fn settings<T>(mut self, initial: T) -> Self
    where
        T: Clone + PartialEq + Send + Sync + 'static,
    {
        self.settings = Some(AnySettings::new(SettingsUpdater::new(initial)));
        self
    }

    /// The same, with a check that each later value has to pass.
    #[must_use]
    pub fn checked_settings<T>(
        mut self,
        initial: T,
        check: impl Fn(&T) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self
    where
        T: Clone + PartialEq + Send + Sync + 'static,
    {
        self.settings = Some(AnySettings::checked(SettingsUpdater::new(initial), check));
        self
    }

    /// Gives it a state that is kept across restarts; the initial value is what
    /// was saved, or the default (LLR-SS-1).
    #[must_use]
    pub fn state<S: State>(mut self) -> Self {
        self.state = Some(Box::new(AnyState::restored::<S>));
        self
    }

    /// Opens the service to messages of type `M` (LLR-IC-1).
    #[must_use]
    pub fn accepts<M>(self) -> Self
    where
        A: Handler<Envelope<M>>,
        A::Context: ToEnvelope<A, Envelope<M>>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.open_to::<M>(false)
    }

    /// The same for messages that are answered at once: a service that answers
    /// none of them for the watchdog's deadline, while a sender waits, is given
    /// up and replaced.
    #[must_use]
    pub fn answers<M>(self) -> Self
    where
        A: Handler<Envelope<M>>,
        A::Context: ToEnvelope<A, Envelope<M>>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.open_to::<M>(true)
    }

    fn open_to<M>(mut self, prompt: bool) -> Self
    where
        A: Handler<Envelope<M>>,
        A::Context: ToEnvelope<A, Envelope<M>>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let (sender, line) = line();
        let stats = Arc::new(LineStats::new(short_name::<M>(), prompt));
        self.publish.push(Box::new(move |addr| {
            sender.set(addr.map(|addr| addr.clone().recipient()));
        }));
        let (service, pairs) = (self.name.clone(), stats.clone());
        self.lines.push(LineEntry {
            message: TypeId::of::<M>(),
            open: Box::new(move |from, fence| {
                Box::new(Intercom::<M>::new(
                    from.clone(),
                    service.clone(),
                    line.clone(),
                    pairs.pair(from),
                    fence,
                ))
            }),
            stats,
        });
        self
    }

    /// Says how the service is built, at its first and at every later start. A
    /// factory that fails is an end of the service, and tried again.
    #[must_use]
    pub fn built_by<E: Display + 'static>(
        self,
        build: impl Fn(ServiceContext) -> Result<A, E> + Send + Sync + 'static,
    ) -> Service<A> {
        Service {
            registration: self,
            build: Arc::new(move |context| {
                build(context).map_err(|error| Box::new(error) as BuildError)
            }),
        }
    }
}

/// Opens a handle for messages of type `M`, in the name of `from`.
pub(super) fn open_line<M>(
    from: &Arc<str>,
    service: &str,
    lines: &[LineEntry],
    fence: Fence,
) -> Result<Intercom<M>, LookupError>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    lines
        .iter()
        .find(|line| line.message == TypeId::of::<M>())
        .and_then(|line| (line.open)(from, fence).downcast::<Intercom<M>>().ok())
        .map(|intercom| *intercom)
        .ok_or_else(|| LookupError::NotAccepted {
            service: service.to_owned(),
            message: short_name::<M>(),
        })
}

impl<A: Actor<Context = Context<A>>> Service<A> {
    /// Forgets the type: the start function, and what the register keeps.
    pub(super) fn into_parts(self) -> ServiceParts {
        let Self {
            registration,
            build,
        } = self;
        let Registration {
            name,
            critical,
            policy,
            thread,
            depends_on,
            capacity,
            publish,
            lines,
            settings,
            state,
        } = registration;
        ServiceParts {
            thread: thread.unwrap_or_else(|| name.clone()),
            name,
            critical,
            policy,
            depends_on,
            launch: launcher(build, publish, capacity),
            lines,
            settings,
            state,
        }
    }
}
