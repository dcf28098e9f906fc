//! `highwater sites`: what an operator or a script does with sites, directly
//! in the database, whether a server runs or not.

mod change;
mod csv;
mod import;
mod list;
mod revive;
mod show;

use super::context;
use super::failure::Failure;
use super::output::note;
use crate::config::Loaded;
use crate::flows::sites::{AppName, UnknownName, check_named};
use crate::store::Store;
use clap::Subcommand;
use std::collections::BTreeSet;
use std::path::Path;

#[derive(Debug, Subcommand)]
pub(super) enum SitesCommand {
    Import(import::ImportArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Add(change::AddArgs),
    Remove(change::RemoveArgs),
    Enable(change::EnableArgs),
    Disable(change::DisableArgs),
    Revive(revive::ReviveArgs),
}

pub(super) fn run(command: SitesCommand, named: Option<&Path>) -> Result<(), Failure> {
    // What can be refused without a database is refused before one is made.
    match &command {
        SitesCommand::Import(args) => args.check()?,
        SitesCommand::List(args) => args.check()?,
        SitesCommand::Revive(args) => args.check()?,
        _ => {}
    }
    let loaded = context::load(named)?;
    let done = context::block_on(async {
        match command {
            SitesCommand::Import(args) => import::run(args, &loaded).await,
            SitesCommand::List(args) => list::run(&args, &loaded).await,
            SitesCommand::Show(args) => show::run(&args, &loaded).await,
            SitesCommand::Add(args) => change::add(args, &loaded).await,
            SitesCommand::Remove(args) => change::remove(&args, &loaded).await,
            SitesCommand::Enable(args) => change::enable(&args, &loaded).await,
            SitesCommand::Disable(args) => change::disable(&args, &loaded).await,
            SitesCommand::Revive(args) => revive::run(&args, &loaded).await,
        }
    });
    done.map_err(|failure| failure.of_database(&loaded.settings.database))
}

/// Reads the name of an app, for clap.
fn app(text: &str) -> Result<AppName, String> {
    AppName::parse(text).map_err(|problem| problem.to_string())
}

/// Refuses an app or a job that nothing configured and no site has. Answers
/// the apps that have the job.
async fn check_names(
    store: &Store,
    loaded: &Loaded,
    app: Option<&AppName>,
    job: Option<&str>,
) -> Result<Vec<String>, Failure> {
    let named = check_named(store, &loaded.settings, app.map(AppName::as_str), job).await?;
    named.map_err(|UnknownName { field, message }| Failure::Usage(format!("--{field}: {message}")))
}

/// Tells of apps whose sites nothing visits: a name that is mistyped, or a job
/// that is not configured yet.
fn warn_of_apps(apps: &BTreeSet<AppName>, loaded: &Loaded) {
    for app in apps {
        if !loaded.settings.jobs.iter().any(|job| job.key.app == *app) {
            note(&format_args!(
                "warning: no job of app \"{app}\" is configured; its sites are not visited"
            ));
        }
    }
}

/// What is said of a site that is not there.
fn not_kept(site_id: &str) -> String {
    let shown: String = site_id
        .chars()
        .filter(|c| !c.is_control())
        .take(256)
        .collect();
    format!("site \"{shown}\" is not known")
}
