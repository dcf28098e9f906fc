//! `highwater batches`: what an operator or a script does with batches,
//! directly in the database, whether a server runs or not.

mod list;
mod lookup;
pub(in crate::cli) mod ndjson;
mod revive;
mod show;
mod track;

use super::context;
use super::failure::Failure;
use clap::{Args, Subcommand};
use std::path::Path;

#[derive(Debug, Subcommand)]
pub(super) enum BatchesCommand {
    Track(track::TrackArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Revive(revive::ReviveArgs),
}

/// Where batches went.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// Name of the ledger in the configuration.
    #[arg(long, value_name = "NAME")]
    ledger: String,
    /// Service id (Splinter: `circuit::service`); any service when left out.
    #[arg(long, value_name = "ID")]
    service: Option<String>,
}

pub(super) fn run(command: BatchesCommand, named: Option<&Path>) -> Result<(), Failure> {
    // What can be refused without a database is refused before one is made.
    match &command {
        BatchesCommand::Track(args) => args.check()?,
        BatchesCommand::Revive(args) => args.check()?,
        BatchesCommand::List(_) | BatchesCommand::Show(_) => {}
    }
    let loaded = context::load(named)?;
    let done = context::block_on(async {
        match command {
            BatchesCommand::Track(args) => track::run(args, &loaded).await,
            BatchesCommand::List(args) => list::run(&args, &loaded).await,
            BatchesCommand::Show(args) => show::run(&args, &loaded).await,
            BatchesCommand::Revive(args) => revive::run(&args, &loaded).await,
        }
    });
    done.map_err(|failure| failure.of_database(&loaded.settings.database))
}
