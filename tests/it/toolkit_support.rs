//! A watchdog with small services, nothing from the flows, for the tests of
//! the toolkit.

use actix::{Actor, Context, Handler, Message, ResponseFuture};
use highwater::actors::Supervisor;
use highwater::watchdog::{
    Envelope, Intercom, Keeper, LookupError, Orders, Registration, RestartPolicy, Sentinel,
    Service, ServiceContext, ServiceState, ServiceStatus, WatchdogLimits, WatchdogQuery,
};
use std::convert::Infallible;
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Answered with the generation that handles it.
#[derive(Debug, Message)]
#[rtype(result = "u64")]
pub(crate) struct Ping;

/// Never answered.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Ignored;

/// Has the service post [`Ping`] to another; answers whether it was let.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub(crate) struct Pass(pub(crate) &'static str);

/// Answered, and then the thread is blocked by a task that is no actor's.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct BlockByTask;

/// Answers pings.
pub(crate) struct Echo {
    pub(crate) context: ServiceContext,
}

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Envelope<Ping>> for Echo {
    type Result = u64;

    fn handle(&mut self, envelope: Envelope<Ping>, _: &mut Self::Context) -> u64 {
        let Ping = envelope.open();
        self.context.generation()
    }
}

impl Handler<Envelope<Ignored>> for Echo {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, envelope: Envelope<Ignored>, _: &mut Self::Context) -> Self::Result {
        let Ignored = envelope.open();
        Box::pin(std::future::pending())
    }
}

impl Handler<Envelope<BlockByTask>> for Echo {
    type Result = ();

    #[expect(clippy::disallowed_methods, reason = "blocks, as a defect would")]
    fn handle(&mut self, envelope: Envelope<BlockByTask>, _: &mut Self::Context) {
        let BlockByTask = envelope.open();
        actix_rt::spawn(async { std::thread::sleep(Duration::from_secs(60)) });
    }
}

impl Handler<Envelope<Pass>> for Echo {
    type Result = bool;

    fn handle(&mut self, envelope: Envelope<Pass>, _: &mut Self::Context) -> bool {
        let Pass(to) = envelope.open();
        let other: Result<Intercom<Ping>, LookupError> = self.context.intercom(to);
        other.is_ok_and(|other| other.post(Ping).is_ok())
    }
}

/// An echo that accepts all of these messages.
pub(crate) fn echo(name: &str) -> Registration<Echo> {
    Registration::new(name)
        .accepts::<Ping>()
        .accepts::<Ignored>()
        .accepts::<Pass>()
}

pub(crate) fn build(registration: Registration<Echo>) -> Service<Echo> {
    registration.built_by(|context| Ok::<_, Infallible>(Echo { context }))
}

/// A watchdog that runs.
pub(crate) struct Kennel {
    pub(crate) query: WatchdogQuery,
    pub(crate) orders: Orders,
    sentinel: Sentinel,
}

impl Kennel {
    /// Starts these services; restarts come within milliseconds.
    pub(crate) fn start(
        deadline: Duration,
        register: impl FnOnce(&WatchdogQuery) -> Result<(), LookupError>,
    ) -> Self {
        let (query, orders) = WatchdogQuery::new(tokio::runtime::Handle::current());
        query.configure(WatchdogLimits {
            restart: RestartPolicy {
                min: Duration::from_millis(5),
                max: Duration::from_millis(20),
                ..RestartPolicy::default()
            },
            deadline,
            lost_threads: 2,
        });
        let capability = query.clone();
        let supervisor = Registration::<Supervisor>::new("supervisor").built_by(move |context| {
            Ok::<_, Infallible>(Supervisor::new(context, capability.clone()))
        });
        query.register(supervisor, Keeper::Root).unwrap();
        register(&query).unwrap();
        query.start_all();
        let sentinel = Sentinel::start(&query);
        Self {
            query,
            orders,
            sentinel,
        }
    }

    pub(crate) fn intercom<M>(&self, service: &str) -> Intercom<M>
    where
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.query.watchdog().intercom("test", service).unwrap()
    }

    pub(crate) async fn ping(&self, service: &str) -> u64 {
        let intercom = self.intercom::<Ping>(service);
        intercom.send(Ping, PATIENCE).await.unwrap()
    }

    pub(crate) fn restarts(&self, service: &str, reason: &str) -> u64 {
        let status = self.query.status(service).unwrap();
        status.restarts.get(reason).copied().unwrap_or(0)
    }

    /// Waits until a service is as wanted.
    pub(crate) async fn until(
        &self,
        service: &str,
        wanted: impl Fn(&ServiceStatus) -> bool,
    ) -> ServiceStatus {
        let begun = Instant::now();
        loop {
            let status = self.query.status(service).unwrap();
            if wanted(&status) {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "{status:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn until_state(&self, service: &str, state: ServiceState) -> ServiceStatus {
        self.until(service, |status| status.state == state).await
    }
}

impl Drop for Kennel {
    fn drop(&mut self) {
        self.sentinel.stop();
        self.query.stop_threads();
    }
}
