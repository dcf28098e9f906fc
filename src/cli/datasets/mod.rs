//! `highwater datasets`: what an operator or a script does with datasets that are
//! published here, directly in the database, whether a server runs or not. A
//! server that runs finds what is published at its next look, and tells those who
//! wait.

mod change;
mod drop;
mod epoch;
mod list;
mod show;

pub(super) use drop::{DropArgs, drop_content};
pub(super) use list::{number, time};

use super::context;
use super::failure::Failure;
use crate::config::{DatasetSettings, Loaded};
use crate::flows::replicas::DatasetName;
use crate::store::{ContentSummary, Store};
use clap::Subcommand;
use std::collections::BTreeSet;
use std::path::Path;

#[derive(Debug, Subcommand)]
pub(super) enum DatasetsCommand {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Put(change::PutArgs),
    Delete(change::DeleteArgs),
    NewEpoch(epoch::NewEpochArgs),
    Drop(drop::DropDatasetArgs),
}

pub(super) fn run(command: DatasetsCommand, named: Option<&Path>) -> Result<(), Failure> {
    // What can be refused without a database is refused before one is made.
    if let DatasetsCommand::Put(args) = &command {
        args.check()?;
    }
    let loaded = context::load(named)?;
    let done = context::block_on(async {
        match command {
            DatasetsCommand::List(args) => list::run(&args, &loaded).await,
            DatasetsCommand::Show(args) => show::run(&args, &loaded).await,
            DatasetsCommand::Put(args) => change::put(&args, &loaded).await,
            DatasetsCommand::Delete(args) => change::delete(&args, &loaded).await,
            DatasetsCommand::NewEpoch(args) => epoch::run(&args, &loaded).await,
            DatasetsCommand::Drop(args) => drop::run(&args, &loaded).await,
        }
    });
    done.map_err(|failure| failure.of_database(&loaded.settings.database))
}

/// Reads the name of a dataset or a replica, for clap.
pub(super) fn content_name(text: &str) -> Result<DatasetName, String> {
    DatasetName::parse(text).ok_or_else(|| {
        format!(
            "is no name; expected 1 to {} of a-z, A-Z, 0-9, \".\", \"_\" and \"-\"",
            DatasetName::LONGEST
        )
    })
}

/// The settings of a dataset; `None`: it is not configured.
fn configured<'a>(loaded: &'a Loaded, name: &str) -> Option<&'a DatasetSettings> {
    let mut datasets = loaded.settings.datasets.iter();
    datasets.find(|dataset| dataset.name.as_str() == name)
}

/// The names there are, for a message.
fn known(loaded: &Loaded, kept: &[ContentSummary]) -> String {
    let datasets = loaded.settings.datasets.iter();
    let known: BTreeSet<String> = datasets
        .map(|dataset| dataset.name.to_string())
        .chain(kept.iter().map(|summary| summary.name.clone()))
        .collect();
    match known.len() {
        0 => "there is none, neither in the configuration nor in the database".to_owned(),
        _ => format!(
            "known: {}",
            known.into_iter().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// Refuses a dataset that nothing configured and the database does not have.
async fn check_name(store: &Store, loaded: &Loaded, name: &str) -> Result<(), Failure> {
    if configured(loaded, name).is_some() {
        return Ok(());
    }
    let kept = store.dataset_summaries().await?;
    if kept.iter().any(|summary| summary.name == name) {
        return Ok(());
    }
    let known = known(loaded, &kept);
    Err(Failure::Usage(format!("no dataset \"{name}\" ({known})")))
}
