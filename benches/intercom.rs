//! What an intercom costs beside the bare actix message that it is made of:
//! `send` with a timeout and its reply, to an actor on the same thread and to
//! one on another. Rounds of both alternate, so that whatever else the machine
//! does meets both alike; medians and their ratio are printed.
//!
//! ```text
//! cargo bench --bench intercom
//! ```

use actix::{Actor, Addr, Context, Handler, Message};
use comfy_table::Table;
use highwater::actors::Supervisor;
use highwater::watchdog::{
    Envelope, Intercom, Keeper, Registration, Sentinel, ServiceContext, WatchdogQuery,
};
use std::convert::Infallible;
use std::time::{Duration, Instant};

const ROUNDS: usize = 41;
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Message)]
#[rtype(result = "u64")]
struct Add(u64);

/// The bare actor.
struct Bare(u64);

impl Actor for Bare {
    type Context = Context<Self>;
}

impl Handler<Add> for Bare {
    type Result = u64;

    fn handle(&mut self, Add(number): Add, _: &mut Self::Context) -> u64 {
        self.0 += number;
        self.0
    }
}

/// The same as a service.
struct Served {
    _context: ServiceContext,
    sum: u64,
}

impl Actor for Served {
    type Context = Context<Self>;
}

impl Handler<Envelope<Add>> for Served {
    type Result = u64;

    fn handle(&mut self, envelope: Envelope<Add>, _: &mut Self::Context) -> u64 {
        let Add(number) = envelope.open();
        self.sum += number;
        self.sum
    }
}

/// Has the service start a bare actor on its thread.
#[derive(Message)]
#[rtype(result = "Addr<Bare>")]
struct Spawn;

impl Handler<Envelope<Spawn>> for Served {
    type Result = actix::MessageResult<Envelope<Spawn>>;

    fn handle(&mut self, envelope: Envelope<Spawn>, _: &mut Self::Context) -> Self::Result {
        let Spawn = envelope.open();
        actix::MessageResult(Bare(0).start())
    }
}

/// Sends from its thread.
struct Driver {
    _context: ServiceContext,
}

impl Actor for Driver {
    type Context = Context<Self>;
}

impl Handler<Envelope<Drive>> for Driver {
    type Result = actix::ResponseFuture<Vec<(f64, f64)>>;

    fn handle(&mut self, envelope: Envelope<Drive>, _: &mut Self::Context) -> Self::Result {
        Box::pin(drive(envelope.open()))
    }
}

/// Drives both from the thread that it runs on.
#[derive(Message)]
#[rtype(result = "Vec<(f64, f64)>")]
struct Drive {
    bare: Addr<Bare>,
    served: Intercom<Add>,
    messages: u64,
}

async fn drive(drive: Drive) -> Vec<(f64, f64)> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for number in 0..drive.messages {
            let sent = drive.bare.send(Add(number)).timeout(TIMEOUT).await;
            assert!(sent.is_ok(), "the bare actor did not answer");
        }
        let bare = begun.elapsed();
        let begun = Instant::now();
        for number in 0..drive.messages {
            let sent = drive.served.send(Add(number), TIMEOUT).await;
            assert!(sent.is_ok(), "the service did not answer");
        }
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / drive.messages as f64;
        rounds.push((micros(bare), micros(begun.elapsed())));
    }
    rounds
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
    };
    let system = actix::System::with_tokio_rt(|| match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            std::process::exit(1);
        }
    });
    let rows = system.block_on(measure());
    let mut table = Table::new();
    table.set_header(["", "actix send", "intercom", "ratio"]);
    for (name, rounds) in rows {
        let bare = median(rounds.iter().map(|(bare, _)| *bare).collect());
        let served = median(rounds.iter().map(|(_, served)| *served).collect());
        let ratio = median(rounds.iter().map(|(bare, served)| served / bare).collect());
        table.add_row([
            name.to_owned(),
            format!("{bare:.2} µs"),
            format!("{served:.2} µs"),
            format!("{ratio:.2}"),
        ]);
    }
    println!("send with a timeout, and its reply; median of {ROUNDS} rounds\n{table}");
}

async fn measure() -> Vec<(&'static str, Vec<(f64, f64)>)> {
    let (query, _orders) = WatchdogQuery::new(tokio::runtime::Handle::current());
    let capability = query.clone();
    let supervisor = Registration::<Supervisor>::new("supervisor")
        .built_by(move |context| Ok::<_, Infallible>(Supervisor::new(context, capability.clone())));
    // Registered under names of their own: nothing else can go wrong.
    assert_eq!(query.register(supervisor, Keeper::Root), Ok(()));
    let served = Registration::<Served>::new("served").accepts::<Add>();
    let watched = Registration::<Served>::new("watched").answers::<Add>();
    for service in [served, watched] {
        let service = service
            .on_thread("pair")
            .accepts::<Spawn>()
            .built_by(|context| {
                Ok::<_, Infallible>(Served {
                    _context: context,
                    sum: 0,
                })
            });
        assert_eq!(query.register(service, Keeper::Supervisor), Ok(()));
    }
    let driver = Registration::<Driver>::new("driver")
        .on_thread("pair")
        .accepts::<Drive>()
        .built_by(|context| Ok::<_, Infallible>(Driver { _context: context }));
    assert_eq!(query.register(driver, Keeper::Supervisor), Ok(()));
    let far = Registration::<Driver>::new("far_driver")
        .accepts::<Drive>()
        .built_by(|context| Ok::<_, Infallible>(Driver { _context: context }));
    assert_eq!(query.register(far, Keeper::Supervisor), Ok(()));
    query.start_all();
    let sentinel = Sentinel::start(&query);
    let watchdog = query.watchdog();
    let mut rows = Vec::new();
    for (name, driver, served, messages) in [
        ("same thread", "driver", "served", 20_000),
        ("same thread, answers watched", "driver", "watched", 20_000),
        ("across threads", "far_driver", "served", 2_000),
        (
            "across threads, answers watched",
            "far_driver",
            "watched",
            2_000,
        ),
    ] {
        let Ok(line) = watchdog.intercom::<Drive>("bench", driver) else {
            continue;
        };
        let Ok(line_served) = watchdog.intercom::<Add>(driver, served) else {
            continue;
        };
        // The bare actor stands on the thread of the service.
        let bare = match watchdog.intercom::<Spawn>("bench", "served") {
            Ok(spawn) => spawn.send(Spawn, TIMEOUT).await,
            Err(_) => continue,
        };
        let Ok(bare) = bare else { continue };
        let drive = Drive {
            bare,
            served: line_served,
            messages,
        };
        if let Ok(rounds) = line.send(drive, Duration::from_secs(300)).await {
            rows.push((name, rounds));
        }
    }
    sentinel.stop();
    query.stop_threads();
    rows
}
