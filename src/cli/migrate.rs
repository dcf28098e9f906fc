//! `highwater migrate`: the database's schema.

use super::failure::Failure;
use super::output::{self, OutputArgs};
use super::{context, progress};
use crate::store::Store;
use clap::Args;
use serde::Serialize;
use std::path::Path;

/// Brings the database to this program's schema.
///
/// Every command that opens the database does the same first; this one is for
/// those who want it done at a moment of their own. Several may run at once. A
/// database that a newer Highwater migrated is refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater migrate
  highwater migrate --dry-run")]
pub(super) struct MigrateArgs {
    /// Only say which migrations would run.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Report {
    dry_run: bool,
    migrations: Vec<String>,
}

pub(super) fn run(args: &MigrateArgs, named: Option<&Path>) -> Result<(), Failure> {
    let loaded = context::load(named)?;
    let done = context::block_on(async {
        let database = &loaded.settings.database;
        let migrations = Store::wanted_migrations(database).await?;
        if !args.dry_run {
            let opened = Store::open(database);
            progress::while_waiting("migrating", opened).await?.close();
        }
        if args.output.is_json() {
            return output::print_json(&Report {
                dry_run: args.dry_run,
                migrations,
            });
        }
        if migrations.is_empty() {
            return output::print("nothing to do: the schema is up to date");
        }
        let verb = if args.dry_run { "would run" } else { "ran" };
        let named = output::count(migrations.len(), "migration", "migrations");
        output::print(format_args!("{verb} {named}: {}", migrations.join(", ")))
    });
    done.map_err(|failure| failure.of_database(&loaded.settings.database))
}
