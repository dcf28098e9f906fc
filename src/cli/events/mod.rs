//! `highwater events`: what an operator or a script does with subscriptions and
//! their events, directly in the database, whether a server runs or not. A
//! server that runs finds orders at its next look.

mod known;
mod list;
mod order;
mod show;
mod status;

use super::context;
use super::failure::Failure;
use crate::config::Loaded;
use crate::flows::events::SubscriptionName;
use crate::store::Store;
use clap::Subcommand;
use std::collections::BTreeSet;
use std::path::Path;

#[derive(Debug, Subcommand)]
pub(super) enum EventsCommand {
    Status(status::StatusArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Retry(order::RetryArgs),
    Skip(order::SkipArgs),
    Pause(order::PauseArgs),
    Resume(order::ResumeArgs),
    Replay(order::ReplayArgs),
    /// Makes transactions and keys known, which makes events relevant; or forgets
    /// them.
    #[command(subcommand)]
    Known(known::KnownCommand),
}

pub(super) fn run(command: EventsCommand, named: Option<&Path>) -> Result<(), Failure> {
    // What can be refused without a database is refused before one is made.
    if let EventsCommand::Known(command) = &command {
        command.check()?;
    }
    let loaded = context::load(named)?;
    let done = context::block_on(async {
        match command {
            EventsCommand::Status(args) => status::run(&args, &loaded).await,
            EventsCommand::List(args) => list::run(&args, &loaded).await,
            EventsCommand::Show(args) => show::run(&args, &loaded).await,
            EventsCommand::Retry(args) => order::retry(&args, &loaded).await,
            EventsCommand::Skip(args) => order::skip(&args, &loaded).await,
            EventsCommand::Pause(args) => order::pause(&args, &loaded).await,
            EventsCommand::Resume(args) => order::resume(&args, &loaded).await,
            EventsCommand::Replay(args) => order::replay(&args, &loaded).await,
            EventsCommand::Known(command) => known::run(command, &loaded).await,
        }
    });
    done.map_err(|failure| failure.of_database(&loaded.settings.database))
}

/// Reads the name of a subscription, for clap.
fn subscription(text: &str) -> Result<SubscriptionName, String> {
    SubscriptionName::parse(text).map_err(|problem| problem.to_string())
}

/// Whether a subscription is in the configuration.
fn is_configured(loaded: &Loaded, name: &str) -> bool {
    let mut configured = loaded.settings.subscriptions.iter();
    configured.any(|subscription| subscription.name.as_str() == name)
}

/// Refuses a subscription that nothing configured and the database does not have.
async fn check_name(store: &Store, loaded: &Loaded, name: &str) -> Result<(), Failure> {
    if is_configured(loaded, name) {
        return Ok(());
    }
    let kept = store.subscriptions_summary().await?;
    if kept.iter().any(|summary| summary.name == name) {
        return Ok(());
    }
    let configured = loaded.settings.subscriptions.iter();
    let known: BTreeSet<String> = configured
        .map(|subscription| subscription.name.to_string())
        .chain(kept.into_iter().map(|summary| summary.name))
        .collect();
    let known = match known.len() {
        0 => "there is none, neither in the configuration nor in the database".to_owned(),
        _ => format!(
            "known: {}",
            known.into_iter().collect::<Vec<_>>().join(", ")
        ),
    };
    Err(Failure::Usage(format!(
        "no subscription \"{name}\" ({known})"
    )))
}
