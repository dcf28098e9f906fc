//! `highwater states`: what services keep across restarts, and what of it
//! could not be read.

use super::failure::Failure;
use super::output::{self, OutputArgs, note};
use super::{audit, context};
use crate::config::Loaded;
use crate::store::{AsideState, AuditOutcome, NewAudit, SavedState};
use crate::time::Timestamp;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;

#[derive(Debug, Subcommand)]
pub(super) enum StatesCommand {
    List(ListArgs),
    Drop(DropArgs),
}

/// Lists saved states, and those set aside because they could not be read.
///
/// JSON shows the states themselves.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater states list
  highwater states list --output json | jq '.aside[] | {service, problem, state}'")]
pub(super) struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Drops what was set aside of a service, and the warnings about it.
///
/// The service's state in use stays as it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater states drop scheduler")]
pub(super) struct DropArgs {
    /// Name of the service.
    #[arg(value_name = "SERVICE")]
    service: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Saved<'a> {
    service: &'a str,
    version: i32,
    saved_at: Timestamp,
    state: Value,
}

#[derive(Serialize)]
struct Aside<'a> {
    #[serde(flatten)]
    row: &'a AsideState,
    state: Value,
}

#[derive(Serialize)]
struct Listed<'a> {
    items: Vec<Saved<'a>>,
    aside: Vec<Aside<'a>>,
    next: Option<i64>,
}

pub(super) fn run(command: StatesCommand, named: Option<&Path>) -> Result<(), Failure> {
    let loaded = context::load(named)?;
    context::block_on(async {
        match command {
            StatesCommand::List(args) => list(&args, &loaded).await,
            StatesCommand::Drop(args) => drop_aside(&args, &loaded).await,
        }
    })
}

async fn list(args: &ListArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let (saved, aside) = (store.saved_states().await?, store.states_aside().await?);
    if args.output.is_json() {
        let items = saved.iter().map(|row| Saved {
            service: &row.service,
            version: row.version,
            saved_at: row.saved_at,
            state: readable(&row.value),
        });
        let kept = aside.iter().map(|row| Aside {
            row,
            state: readable(&row.value),
        });
        return output::print_json(&Listed {
            items: items.collect(),
            aside: kept.collect(),
            next: None,
        });
    }
    if saved.is_empty() && aside.is_empty() {
        note(&"no state is saved");
        return Ok(());
    }
    output::print(table(&saved, &aside, Timestamp::now()))
}

/// JSON where it is, else the text.
fn readable(value: &str) -> Value {
    serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()))
}

fn table(saved: &[SavedState], aside: &[AsideState], now: Timestamp) -> String {
    let mut table = output::table(&["service", "version", "bytes", "saved", "set aside", "why"]);
    for row in saved {
        table.add_row([
            row.service.clone(),
            row.version.to_string(),
            row.value.len().to_string(),
            output::relative(row.saved_at, now),
            String::new(),
            String::new(),
        ]);
    }
    for row in aside {
        table.add_row([
            row.service.clone(),
            row.version.to_string(),
            row.value.len().to_string(),
            output::relative(row.saved_at, now),
            output::relative(row.set_aside_at, now),
            row.problem.replace(char::is_control, " "),
        ]);
    }
    output::lines(&mut table)
}

async fn drop_aside(args: &DropArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let dropped = store.drop_states_aside(&args.service).await?;
    let nothing = (dropped == 0).then(|| {
        format!(
            "nothing is set aside of service \"{}\"; see `highwater states list`",
            args.service
        )
    });
    let row = NewAudit {
        who: audit::operator(),
        action: "states.drop".to_owned(),
        target: args.service.clone(),
        details: Some(json!({ "dropped": dropped })),
        outcome: match nothing {
            Some(_) => AuditOutcome::Refused,
            None => AuditOutcome::Done,
        },
        problem: nothing.clone(),
    };
    audit::record(&store, row).await;
    match nothing {
        Some(nothing) => Err(Failure::Failed(nothing)),
        None if args.output.is_json() => output::print_json(&json!({ "dropped": dropped })),
        None => output::print(format_args!(
            "{} dropped",
            output::count(dropped, "state", "states")
        )),
    }
}
