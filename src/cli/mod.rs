//! The command line: a file per subcommand, and what they share.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. Results go to
//! standard output; everything else (progress, warnings, what went wrong) to
//! standard error.

mod audit;
mod batches;
mod check;
mod completions;
mod config;
mod context;
mod ctl;
mod datasets;
mod demo;
mod events;
mod failure;
mod migrate;
mod output;
mod poll;
mod poll_lease;
mod program;
mod progress;
mod replicas;
mod serve;
mod sim;
mod sites;
mod states;

pub use program::{Highwater, HighwaterBuilder};

use crate::handlers::Listeners;
use clap::{Parser, Subcommand};
use failure::Failure;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

const ABOUT: &str = "Keeps an application's database level with ledgers, their events, remote sites and other nodes' data";

const LONG_ABOUT: &str = "\
Keeps an application's database level with ledgers, their events, remote sites and \
other nodes' data. An operator writes one TOML file and starts one server; the \
application reads and writes tables, or speaks HTTP.

Batches: what the application submitted to a ledger (Hyperledger Sawtooth, Splinter) \
gets its true status in the database, soon after the ledger knows it.
Sites: remote sites of an application are visited each when its retry policy says \
so; how each of them stands is in the database.
Events: those of a ledger's contract are recorded once, judged, and handed to the \
application in order.
Replicas: a dataset is published for other nodes to follow; a replica is a copy of \
another node's dataset, brought up to date all the time, which says when it is stale.";

const AFTER_HELP: &str = "\
Examples:
  highwater demo                           see it at work, nothing to set up
  highwater check                          every mistake in highwater.toml
  highwater serve --config highwater.toml  run the server
  highwater batches list --status lost     what was given up
  highwater poll org.example.app           visit the sites of an app that are due
  highwater sites import sites.csv         sites to be visited
  highwater events status                  how far subscriptions are
  highwater replicas list                  copies of other nodes' datasets
  highwater ctl services                   what a running server does

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
Environment: HIGHWATER_SECTION__KEY overrides a key of the configuration, as in
HIGHWATER_BATCHES__POLL_INTERVAL=2s.";

#[derive(Debug, Parser)]
#[command(name = "highwater", version, about = ABOUT, long_about = LONG_ABOUT)]
#[command(after_help = AFTER_HELP, propagate_version = true)]
struct Cli {
    /// Configuration file [default: highwater.toml here, then
    /// /etc/highwater/highwater.toml].
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "HIGHWATER_CONFIG"
    )]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Demo(demo::DemoArgs),
    Check(check::CheckArgs),
    Migrate(migrate::MigrateArgs),
    /// Shows the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Tracks, lists, shows and revives batches, directly in the database.
    #[command(subcommand)]
    Batches(batches::BatchesCommand),
    /// Imports, lists, shows, adds, removes, enables, disables and revives
    /// sites, directly in the database.
    #[command(subcommand)]
    Sites(sites::SitesCommand),
    /// Lists and shows events and how their subscriptions stand, and gives these
    /// orders, directly in the database.
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Lists and shows what is published here, publishes, and begins a new epoch,
    /// directly in the database.
    #[command(subcommand)]
    Datasets(datasets::DatasetsCommand),
    /// Lists and shows the copies that are kept here, compares them with their
    /// upstreams and copies them anew.
    #[command(subcommand)]
    Replicas(replicas::ReplicasCommand),
    Poll(poll::PollArgs),
    Audit(audit::AuditArgs),
    Ctl(ctl::CtlArgs),
    /// Lists what services keep across restarts; drops what was set aside.
    #[command(subcommand)]
    States(states::StatesCommand),
    /// Plays a peer, for trying things out.
    #[command(subcommand)]
    Sim(sim::SimCommand),
    Completions(completions::CompletionsArgs),
}

/// Runs the program with these arguments (the first is its name) and says how
/// it ends.
fn run(args: impl IntoIterator<Item = OsString>, listeners: Listeners) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help that nobody reads to its end is no failure.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(cli, listeners) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(cli: Cli, listeners: Listeners) -> Result<(), Failure> {
    let config = cli.config.as_deref();
    match cli.command {
        Command::Serve(args) => serve::run(&args, config, listeners),
        Command::Demo(args) => demo::run(&args, listeners),
        Command::Check(args) => check::run(&args, config, &listeners),
        Command::Migrate(args) => migrate::run(&args, config),
        Command::Config(command) => config::run(&command, config),
        Command::Batches(command) => batches::run(command, config),
        Command::Sites(command) => sites::run(command, config),
        Command::Events(command) => events::run(command, config),
        Command::Datasets(command) => datasets::run(command, config),
        Command::Replicas(command) => replicas::run(command, config),
        Command::Poll(args) => poll::run(&args, config, &listeners),
        Command::Audit(args) => audit::run(&args, config),
        Command::Ctl(args) => ctl::run(&args, config),
        Command::States(command) => states::run(command, config),
        Command::Sim(command) => sim::run(command),
        Command::Completions(args) => completions::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_takes_config_before_and_after_it() {
        for args in [
            ["highwater", "--config", "f.toml", "check"],
            ["highwater", "check", "--config", "f.toml"],
        ] {
            let cli = Cli::try_parse_from(args).unwrap();
            assert_eq!(cli.config, Some(PathBuf::from("f.toml")));
        }
    }
}
