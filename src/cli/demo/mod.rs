//! `highwater demo`: the server at work against two simulated ledgers, with
//! batches coming in and one ledger failing now and then, against some hundreds
//! of simulated sites, with the events of a simulated gateway, and with prices that
//! are published and followed.
//!
//! | file | does |
//! |---|---|
//! | `stage` | the folder, its configuration, the simulated peers |
//! | `feed` | plays the application: submits to a ledger, then tracks over HTTP |
//! | `sites` | the sites, and what happens to two of them |
//! | `events` | the gateway, what happens to it, and the operator |
//! | `market` | prices, and how they change |
//! | `prices` | publishes them, and what happens to their copy |
//! | `story` | what happens when, and what the terminal tells of it |

mod events;
mod feed;
mod market;
mod prices;
mod sites;
mod stage;
mod story;

use super::context::block_on;
use super::failure::Failure;
use super::output::{self, note};
use crate::app::{self, Launch, Ready};
use crate::handlers::Listeners;
use clap::Args;
use stage::Stage;
use std::thread;
use std::time::Duration;
use story::Story;
use tokio::sync::{oneshot, watch};

/// Shows Highwater at work, with nothing to set up.
///
/// Starts two simulated ledgers (a Sawtooth "trace" and a Splinter
/// "supply-chain"), 500 simulated sites that two jobs visit, a gateway whose
/// events three subscriptions take in, 30,000 prices that change all the time and
/// a copy that follows them, a server on a fresh SQLite file in a
/// temporary folder, and an application that submits batches. One of the ledgers
/// stops answering now and then; some of the sites fail, recover, or are given
/// up; a subscription halts, and its operator has it go on; the copy falls behind
/// what history keeps, and is made anew. Ctrl-C ends it and removes the folder.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater demo
  highwater demo --rate 200 --port 9000
  highwater demo --duration 30s --keep")]
pub(super) struct DemoArgs {
    /// Batches submitted per second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    #[arg(value_name = "N")]
    rate: u32,
    /// Port of the status page [default: 8780, or a free one when it is taken].
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Ends by itself after so long, as in 30s or 5m.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Keeps the folder with the database and the configuration.
    #[arg(long)]
    keep: bool,
}

pub(super) fn run(args: &DemoArgs, listeners: Listeners) -> Result<(), Failure> {
    let stage = Stage::build(args.port, args.rate)?;
    let config = stage.config.clone();
    let folder = stage.folder.path().to_owned();
    let (ready_sender, ready) = oneshot::channel::<Ready>();
    let (end, ended) = watch::channel(());
    output::print(format_args!(
        "Starting two simulated ledgers, {} simulated sites, a gateway and a server; everything is in {}",
        stage.sites.count(),
        folder.display()
    ))?;
    let market = block_on(prices::publish_first(&stage))?;
    let story = Story::new(&stage, args.rate, args.duration);
    let served = thread::scope(|scope| {
        let teller = thread::Builder::new()
            .name("demo".to_owned())
            .spawn_scoped(scope, || story.tell(market, ready, ended))?;
        // The server takes the signals: Ctrl-C drains it and brings us back.
        let served = app::run(Launch {
            config,
            reload: None,
            on_ready: Some(Box::new(move |ready| drop(ready_sender.send(ready)))),
            listeners,
        });
        drop(end);
        let told = match teller.join() {
            Ok(told) => told,
            Err(_) => Err(Failure::Failed("the demo's thread ended early".to_owned())),
        };
        served.map_err(Failure::from).and(told)
    });
    if args.keep {
        note(&format_args!("kept {}", stage.keep().display()));
    } else {
        stage.remove()?;
    }
    served
}
