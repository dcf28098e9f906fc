//! `highwater batches list`.

use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs, note};
use crate::config::Loaded;
use crate::flows::batches::{Status, UnknownStatusWord};
use crate::store::{BatchFilter, BatchPage, BatchRow};
use crate::time::Timestamp;
use clap::Args;
use serde::Serialize;
use std::io::{self, IsTerminal};

/// Lists batches, newest first.
///
/// On a terminal the ids are cut short; `batches show` takes the short form.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater batches list
  highwater batches list --ledger trace --status invalid --limit 20
  highwater batches list --status lost --output json | jq -r '.items[].batch_id'
  highwater batches list --cursor 41230        the page after an earlier one")]
pub(in crate::cli) struct ListArgs {
    /// Only of this ledger.
    #[arg(long, value_name = "NAME")]
    ledger: Option<String>,
    /// Only of this service id; "" for batches that went to none.
    #[arg(long, value_name = "ID")]
    service: Option<String>,
    /// Only with this status: pending, valid, committed, invalid, lost or refused.
    #[arg(long, value_parser = status)]
    status: Option<Status>,
    /// Only those whose id begins so.
    #[arg(long, value_name = "PREFIX")]
    id: Option<String>,
    /// Batches on a page, at most 10000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    #[arg(value_name = "N")]
    limit: i64,
    /// Goes on after an earlier page: its "next".
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<i64>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Reads a status word, for clap.
pub(super) fn status(word: &str) -> Result<Status, UnknownStatusWord> {
    word.parse()
}

/// The same shape as lists have over HTTP.
#[derive(Serialize)]
struct Page<'a> {
    items: &'a [BatchRow],
    next: Option<i64>,
}

pub(super) async fn run(args: &ListArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let page = store
        .list_batches(&BatchFilter {
            ledger: args.ledger.clone(),
            service_id: args.service.clone(),
            status: args.status,
            batch_id_prefix: args.id.clone(),
            before_seq: args.cursor,
            limit: args.limit,
        })
        .await?;
    if args.output.is_json() {
        return output::print_json(&Page {
            items: &page.rows,
            next: page.next,
        });
    }
    if page.rows.is_empty() {
        // A ledger's name that is mistyped matches nothing either.
        let hint = args
            .ledger
            .as_deref()
            .and_then(|name| context::ledger(loaded, name).err());
        note(&format_args!(
            "no batches{}",
            hint.map_or(String::new(), |hint| format!("; {hint}"))
        ));
        return Ok(());
    }
    output::print(table(&page, Timestamp::now()))?;
    if let Some(next) = page.next {
        note(&format_args!("more: --cursor {next}"));
    }
    Ok(())
}

fn table(page: &BatchPage, now: Timestamp) -> String {
    let mut table = output::table(&[
        "ledger",
        "service",
        "batch",
        "status",
        "submitted",
        "polls",
        "next poll",
        "last error",
    ]);
    for row in &page.rows {
        table.add_row([
            row.ledger.clone(),
            row.service_id.clone(),
            output::id(&row.batch_id),
            row.status.clone(),
            output::relative(row.submitted_at, now),
            row.polls.to_string(),
            next_poll(row, now),
            last_error(row.last_error.as_deref()),
        ]);
    }
    output::lines(&mut table)
}

/// When a batch is due, in words.
pub(super) fn next_poll(row: &BatchRow, now: Timestamp) -> String {
    if !row.is_outstanding() {
        return String::new();
    }
    match row.next_poll_at {
        Some(at) if at > now => output::relative(at, now),
        _ => "due".to_owned(),
    }
}

/// One line, and not a long one on a terminal.
fn last_error(error: Option<&str>) -> String {
    let line = error.unwrap_or_default().replace(['\n', '\r', '\t'], " ");
    if io::stdout().is_terminal() && line.chars().count() > 60 {
        line.chars().take(59).chain(['…']).collect()
    } else {
        line
    }
}
