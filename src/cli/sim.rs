//! `highwater sim`: simulated peers.

use super::context;
use super::failure::Failure;
use crate::flows::sites::AppName;
use crate::sim::{
    ConsumerOptions, GatewayOptions, SimOptions, SitesOptions, run_consumer, run_gateway,
    run_ledger, run_sites,
};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum SimCommand {
    Ledger(Box<LedgerArgs>),
    Sites(Box<SitesArgs>),
    Gateway(Box<GatewayArgs>),
    Consumer(Box<ConsumerArgs>),
}

/// Plays a Sawtooth REST API or a Splinter node until it is stopped.
///
/// It answers for batch statuses in the real wire format and has the habits of
/// the real ledgers: Splinter's memory of 100 batches a service and its answers
/// in any order, Sawtooth's repeated entries and its validator that may be gone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater sim ledger --kind splinter --listen 127.0.0.1:8085 --auto-submit
  highwater sim ledger --commit-after 2s..5s --invalid 0.1 --latency 50ms
  highwater sim ledger --fault fail:0.2 --fault hang:0.01")]
pub(super) struct LedgerArgs {
    #[command(flatten)]
    options: SimOptions,
}

/// Plays remote sites until it is stopped: site N answers at /N and below.
///
/// Sites are healthy, slow, flapping, dead, failing or limited, by shares and
/// the same in every run of a seed. Visits are counted, and so are those that
/// overlap: of one site and path, begun while another was under way.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater sim sites 1000 --listen 127.0.0.1:8086 --sites-file sites.ndjson
  highwater sim sites 5000 --healthy 0.9 --slow 0.05 --dead 0.05 --slow-for 1s..20s
  highwater sim sites 200 --flapping 0.2 --flap 30s --limited 0.1 --hosts 20")]
pub(super) struct SitesArgs {
    #[command(flatten)]
    options: SitesOptions,
    /// Write the sites to this file, for `highwater sites import`; a file that
    /// is there is replaced.
    #[arg(long, value_name = "FILE")]
    sites_file: Option<PathBuf>,
    /// App that the sites in the file belong to.
    #[arg(long, value_name = "APP", value_parser = AppName::parse, default_value = "org.example.sim")]
    app: AppName,
}

/// Plays a REST gateway until it is stopped: a chain of blocks with contract
/// events, posted to whoever subscribed.
///
/// A subscription is posted to /subscribe as a form: channelName,
/// chaincodeName, eventCategory, eventName, eventType, startblock, endblock,
/// callbackURL. Events are sent until they are answered 2xx. What goes wrong is
/// chosen here and changed by POST /sim/knobs; GET /sim/chain tells what was
/// sent, GET /sim/known which transactions are relevant.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater sim gateway --listen 127.0.0.1:9100
  highwater sim gateway --blocks 10000 --block-every 100ms --relevant 0.3 --list 100
  highwater sim gateway --duplicates 0.05 --reorder 0.1 --late 0.01")]
pub(super) struct GatewayArgs {
    #[command(flatten)]
    options: GatewayOptions,
}

/// Plays a consumer of events until it is stopped: takes CloudEvents on
/// /process, and remembers which came in which order.
///
/// How it answers is chosen here and changed by POST /sim/knobs; GET
/// /sim/received tells what came.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater sim consumer --listen 127.0.0.1:9000
  highwater sim consumer --fail 0.01 --latency 20ms")]
pub(super) struct ConsumerArgs {
    #[command(flatten)]
    options: ConsumerOptions,
}

pub(super) fn run(command: SimCommand) -> Result<(), Failure> {
    match command {
        SimCommand::Ledger(args) => {
            context::block_on(async move { Ok(run_ledger(args.options).await?) })
        }
        SimCommand::Sites(args) => {
            let SitesArgs {
                options,
                sites_file,
                app,
            } = *args;
            let checked = options.check();
            checked.map_err(|problem| Failure::Usage(problem.to_string()))?;
            context::block_on(async move {
                Ok(run_sites(options, app.as_str(), sites_file.as_deref()).await?)
            })
        }
        SimCommand::Gateway(args) => {
            let options = args.options;
            options.check().map_err(Failure::Usage)?;
            context::block_on(async move { Ok(run_gateway(options).await?) })
        }
        SimCommand::Consumer(args) => {
            context::block_on(async move { Ok(run_consumer(args.options).await?) })
        }
    }
}
