//! `highwater sim`: simulated peers.

use super::context;
use super::failure::Failure;
use crate::sim::{SimOptions, run_ledger};
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(super) enum SimCommand {
    Ledger(Box<LedgerArgs>),
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

pub(super) fn run(command: SimCommand) -> Result<(), Failure> {
    let SimCommand::Ledger(args) = command;
    context::block_on(async move { Ok(run_ledger(args.options).await?) })
}
