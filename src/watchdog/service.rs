//! What a service is to the watchdog: a factory, the messages it accepts, and
//! how it is to be restarted.

use super::exit::ExitGuard;
use super::intercom::{Envelope, Intercom, short_name};
use super::registry::{LookupError, Watchdog};
use super::restart::RestartPolicy;
use super::state::{State, StateError, StateSaver};
use super::stats::Stats;
use super::status::IntercomStats;
use actix::dev::ToEnvelope;
use actix::fut::{ActorStreamExt, wrap_stream};
use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message};
use std::any::{Any, TypeId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, watch};

/// What the watchdog tells a running service.
#[derive(Debug)]
pub(super) enum Command {
    /// End.
    Stop,
    /// Panic, inside the actor: for tests of supervision.
    Panic(String),
}

/// Signs of life of a service.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU64);

impl Progress {
    pub(super) fn mark(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a service is handed when it is built. The service keeps it for as long
/// as it lives: dropping it is what tells the watchdog of its end.
#[derive(Debug)]
pub struct ServiceContext {
    pub(super) name: Arc<str>,
    pub(super) guard: ExitGuard,
    pub(super) watchdog: Watchdog,
    pub(super) progress: Arc<Progress>,
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

    /// The watchdog, to ask it for intercoms (LLR-IC-2).
    pub fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// The runtime on which network and database work runs, off the actors' thread.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        self.watchdog.runtime()
    }

    /// Says why the service is about to end; the caller then stops its actor.
    pub fn ends_with(&mut self, error: impl std::fmt::Display) {
        self.guard.error = Some(error.to_string());
    }

    /// Marks progress that no message shows.
    pub fn progress(&self) {
        self.progress.mark();
    }
}

type Publish<A> = Box<dyn Fn(Option<&Addr<A>>) + Send + Sync>;

/// A line into a service, with its types forgotten.
pub(super) struct LineEntry {
    pub(super) message: TypeId,
    pub(super) intercom: Box<dyn Any + Send + Sync>,
    pub(super) stats: Box<dyn Fn() -> IntercomStats + Send + Sync>,
}

/// A service to be registered, whose factory is not known yet: others may
/// already ask it for intercoms.
pub struct Registration<A: Actor<Context = Context<A>>> {
    name: Arc<str>,
    critical: bool,
    policy: RestartPolicy,
    capacity: usize,
    publish: Vec<Publish<A>>,
    lines: Vec<LineEntry>,
}

/// A service to be registered.
pub struct Service<A: Actor<Context = Context<A>>> {
    registration: Registration<A>,
    build: Box<dyn Fn(ServiceContext) -> A + Send + Sync>,
}

/// What the register keeps of a service, with its type forgotten.
pub(super) struct ServiceParts {
    pub(super) name: Arc<str>,
    pub(super) critical: bool,
    pub(super) policy: RestartPolicy,
    pub(super) launch: Launch,
    pub(super) lines: Vec<LineEntry>,
}

impl<A: Actor<Context = Context<A>>> Registration<A> {
    /// A service of that name.
    pub fn new(name: &str) -> Self {
        Self {
            name: Arc::from(name),
            critical: false,
            policy: RestartPolicy::default(),
            capacity: 1024,
            publish: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// The server is not ready while the service has failed.
    #[must_use]
    pub fn critical(mut self) -> Self {
        self.critical = true;
        self
    }

    /// How it is restarted, where the default does not suit.
    #[must_use]
    pub fn restarted_by(mut self, policy: RestartPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Opens the service to messages of type `M` (LLR-IC-1).
    #[must_use]
    pub fn accepts<M>(mut self) -> Self
    where
        A: Handler<Envelope<M>>,
        A::Context: ToEnvelope<A, Envelope<M>>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let (sender, line) = watch::channel(None);
        let stats = Arc::new(Stats::new());
        self.publish.push(Box::new(move |addr| {
            sender.send_replace(addr.map(|addr| addr.clone().recipient()));
        }));
        self.lines.push(LineEntry {
            message: TypeId::of::<M>(),
            intercom: Box::new(Intercom::<M>::new(self.name.clone(), line, stats.clone())),
            stats: Box::new(move || stats.snapshot(short_name::<M>())),
        });
        self
    }

    /// The saver of this service's state (LLR-SS-1), from what was saved
    /// (version and JSON) or the default; and why what was saved is not used.
    pub fn state<S: State>(
        &self,
        saved: Option<(i32, &str)>,
    ) -> (StateSaver<S>, Option<StateError>) {
        StateSaver::restored(&self.name, saved)
    }

    /// The intercom for messages of type `M` to this service.
    ///
    /// # Errors
    /// The service was not opened to `M`.
    pub fn intercom<M>(&self) -> Result<Intercom<M>, LookupError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
    {
        find_line(&self.name, &self.lines)
    }

    /// Says how the service is built, at its first and at every later start.
    #[must_use]
    pub fn built_by(
        self,
        build: impl Fn(ServiceContext) -> A + Send + Sync + 'static,
    ) -> Service<A> {
        Service {
            registration: self,
            build: Box::new(build),
        }
    }
}

/// Finds the line for messages of type `M`.
pub(super) fn find_line<M>(service: &str, lines: &[LineEntry]) -> Result<Intercom<M>, LookupError>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    lines
        .iter()
        .find(|line| line.message == TypeId::of::<M>())
        .and_then(|line| line.intercom.downcast_ref::<Intercom<M>>())
        .cloned()
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
            capacity,
            publish,
            lines,
        } = registration;
        let build: Arc<dyn Fn(ServiceContext) -> A + Send + Sync> = Arc::from(build);
        let launch = move |order: LaunchOrder| match order {
            LaunchOrder::Disconnect => {
                for publish in &publish {
                    publish(None);
                }
            }
            LaunchOrder::Start {
                service,
                mut commands,
            } => {
                let build = build.clone();
                let progress = service.progress.clone();
                let addr = A::create(move |ctx| {
                    ctx.set_mailbox_capacity(capacity);
                    let mut first = true;
                    let orders = futures_util::stream::poll_fn(move |cx| {
                        if std::mem::take(&mut first) {
                            // The actor's context is being polled: it lives.
                            progress.mark();
                        }
                        commands.poll_recv(cx)
                    });
                    let obey =
                        wrap_stream::<_, A>(orders).map(|command, _, ctx: &mut A::Context| {
                            match command {
                                Command::Stop => ctx.stop(),
                                #[expect(
                                    clippy::panic,
                                    reason = "asked for, by a test of supervision"
                                )]
                                Command::Panic(message) => panic!("{message}"),
                            }
                        });
                    ctx.spawn(obey.finish());
                    build(service)
                });
                for publish in &publish {
                    publish(Some(&addr));
                }
            }
        };
        ServiceParts {
            name,
            critical,
            policy,
            launch: Arc::new(launch),
            lines,
        }
    }
}

/// Starts or disconnects a service; runs on the service's arbiter.
pub(super) type Launch = Arc<dyn Fn(LaunchOrder) + Send + Sync>;

pub(super) enum LaunchOrder {
    /// Build it and open its lines.
    Start {
        /// What the service is handed.
        service: ServiceContext,
        /// What the watchdog tells it.
        commands: mpsc::UnboundedReceiver<Command>,
    },
    /// Close its lines: there is no mailbox now.
    Disconnect,
}
