//! `highwater replicas`: how copies of other nodes' datasets stand, as the
//! database has it; and orders to them. Where a server follows a replica, it is
//! told by its HTTP interface; where none does, the command follows the replica
//! itself until the order is carried out, under the replica's lease.

mod drop;
mod list;
mod order;
mod show;

use super::context;
use super::datasets::content_name;
use super::failure::Failure;
use crate::config::{Loaded, ReplicaSettings};
use clap::Subcommand;
use std::path::Path;

#[derive(Debug, Subcommand)]
pub(super) enum ReplicasCommand {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Verify(order::VerifyArgs),
    Bootstrap(order::BootstrapArgs),
    Drop(drop::DropReplicaArgs),
}

pub(super) fn run(command: ReplicasCommand, named: Option<&Path>) -> Result<(), Failure> {
    let loaded = context::load(named)?;
    let done = context::block_on(async {
        match command {
            ReplicasCommand::List(args) => list::run(&args, &loaded).await,
            ReplicasCommand::Show(args) => show::run(&args, &loaded).await,
            ReplicasCommand::Verify(args) => order::verify(&args, &loaded, named).await,
            ReplicasCommand::Bootstrap(args) => order::bootstrap(&args, &loaded, named).await,
            ReplicasCommand::Drop(args) => drop::run(&args, &loaded).await,
        }
    });
    done.map_err(|failure| failure.of_database(&loaded.settings.database))
}

/// The settings of a replica; `None`: it is not configured.
fn configured<'a>(loaded: &'a Loaded, name: &str) -> Option<&'a ReplicaSettings> {
    let mut replicas = loaded.settings.replicas.iter();
    replicas.find(|replica| replica.name.as_str() == name)
}
