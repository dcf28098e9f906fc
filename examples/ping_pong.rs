//! The service toolkit by itself: two services, one of which pings the other,
//! and the other panics now and then. Nothing of Highwater's flows is in it.
//!
//! ```text
//! cargo run --example ping_pong              for ever, until Ctrl-C
//! cargo run --example ping_pong -- 5         for five seconds
//! ```
//!
//! A service author writes what is here between the lines: the settings, the
//! state, the messages and the work. The watchdog does the rest: it builds the
//! services, hands them their settings and what they kept, connects them by
//! name, notices a panic, builds the service again after a pause, points every
//! handle at the new mailbox, and counts it all.

use actix::{Actor, AsyncContext, Context, Handler, Message};
use highwater::actors::Supervisor;
use highwater::watchdog::{
    Envelope, Intercom, Keeper, LookupError, Registration, Sentinel, ServiceContext,
    SettingsReader, State, StateHandle, WatchdogQuery, watch_panics,
};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::time::Duration;

// ---- the message ---------------------------------------------------------------

/// Asks for the ball back; answered with how often Pong has returned it.
#[derive(Debug, Message)]
#[rtype(result = "u64")]
struct Ping;

// ---- Pong: answers, and panics now and then --------------------------------------

/// Pong's settings.
#[derive(Clone, Debug, PartialEq)]
struct PongSettings {
    /// It panics at every so many pings; 0: never.
    panic_every: u64,
}

/// What Pong keeps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Score {
    answered: u64,
}

impl State for Score {
    const VERSION: i32 = 1;
}

struct Pong {
    // Kept for as long as the service lives: its end is how the watchdog knows.
    _context: ServiceContext,
    settings: SettingsReader<PongSettings>,
    /// Kept outside the actor, so a panic does not lose it; the server's
    /// StateSaver also keeps such states in its database.
    score: StateHandle<Score>,
}

impl Pong {
    fn new(context: ServiceContext) -> Result<Self, LookupError> {
        Ok(Self {
            settings: context.settings()?,
            score: context.state()?,
            _context: context,
        })
    }
}

impl Actor for Pong {
    type Context = Context<Self>;
}

impl Handler<Envelope<Ping>> for Pong {
    type Result = u64;

    fn handle(&mut self, envelope: Envelope<Ping>, _: &mut Self::Context) -> u64 {
        let Ping = envelope.open();
        self.score.modify(|score| score.answered += 1);
        let answered = self.score.current().answered;
        let every = self.settings.current().panic_every;
        assert!(
            every == 0 || !answered.is_multiple_of(every),
            "Pong dropped the ball at ping {answered}"
        );
        answered
    }
}

// ---- Ping: asks, and needs to know nothing of Pong's ends ---------------------------

struct Pinger {
    context: ServiceContext,
    pong: Intercom<Ping>,
}

impl Pinger {
    fn new(context: ServiceContext) -> Result<Self, LookupError> {
        Ok(Self {
            pong: context.intercom("pong")?,
            context,
        })
    }

    fn turn(ctx: &mut Context<Self>) {
        ctx.run_later(Duration::from_millis(50), |pinger, ctx| {
            pinger.context.progress();
            let pong = pinger.pong.clone();
            actix_rt::spawn(async move {
                match pong.send(Ping, Duration::from_secs(1)).await {
                    Ok(answered) if answered.is_multiple_of(10) => println!("pong {answered}"),
                    Ok(_) => {}
                    Err(error) => println!("no pong: {error}"),
                }
            });
            Self::turn(ctx);
        });
    }
}

impl Actor for Pinger {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        Self::turn(ctx);
    }
}

// ---- the application ------------------------------------------------------------------

fn main() -> Result<(), Box<dyn std::error::Error>> {
    watch_panics();
    let seconds: Option<u64> = std::env::args().nth(1).map(|s| s.parse()).transpose()?;
    actix::System::new().block_on(run(seconds))
}

async fn run(seconds: Option<u64>) -> Result<(), Box<dyn std::error::Error>> {
    let (query, _orders) = WatchdogQuery::new(tokio::runtime::Handle::current());
    let pong = Registration::<Pong>::new("pong")
        .critical()
        .settings(PongSettings { panic_every: 25 })
        .state::<Score>()
        .answers::<Ping>()
        .built_by(Pong::new);
    query.register(pong, Keeper::Supervisor)?;
    let pinger = Registration::<Pinger>::new("pinger").built_by(Pinger::new);
    query.register(pinger, Keeper::Supervisor)?;
    let capability = query.clone();
    let supervisor = Registration::<Supervisor>::new("supervisor")
        .built_by(move |context| Ok::<_, Infallible>(Supervisor::new(context, capability.clone())));
    query.register(supervisor, Keeper::Root)?;
    query.start_all();
    let sentinel = Sentinel::start(&query);

    let end = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = end => {}
        told = tokio::signal::ctrl_c() => told?,
    }

    for service in query.list() {
        println!(
            "{}: {}, built {} times, restarts {:?}, last error {:?}",
            service.name,
            service.state.as_str(),
            service.generation,
            service.restarts,
            service.last_error
        );
        for line in service.intercoms {
            println!(
                "    {} from {}: {} sent, {} failed, mean {:.0} µs, p99 {:.0} µs",
                line.message,
                line.from,
                line.messages,
                line.failures,
                line.propagation_mean_seconds * 1e6,
                line.propagation_p99_seconds * 1e6
            );
        }
    }
    sentinel.stop();
    query.stop_threads();
    Ok(())
}
