//! `highwater events list`.

use crate::cli::audit::one_line;
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs, note};
use crate::config::Loaded;
use crate::flows::events::{Decision, SubscriptionName};
use crate::store::{EventFilter, EventRow};
use crate::time::Timestamp;
use clap::Args;
use serde::Serialize;
use std::io::{self, IsTerminal};

/// Lists events of a subscription, newest arrival first; or, without one, the
/// subscriptions.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater events list
  highwater events list claims --open
  highwater events list claims --decision irrelevant --limit 20
  highwater events list claims --tx 5e0c… --output json | jq '.items[].decision'")]
pub(in crate::cli) struct ListArgs {
    /// Name of the subscription.
    #[arg(value_name = "SUBSCRIPTION", value_parser = super::subscription)]
    subscription: Option<SubscriptionName>,
    /// Only those of which this was decided: pending, relevant, irrelevant or
    /// skipped.
    #[arg(long, value_parser = decision, requires = "subscription")]
    decision: Option<Decision>,
    /// Only of this block.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    #[arg(requires = "subscription")]
    block: Option<i64>,
    /// Only of this transaction.
    #[arg(long, value_name = "ID", requires = "subscription")]
    tx: Option<String>,
    /// Only those that are not done with.
    #[arg(long, requires = "subscription")]
    open: bool,
    /// Events on a page, at most 10000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    #[arg(value_name = "N")]
    limit: u16,
    /// Goes on after an earlier page: its "next".
    #[arg(long, value_name = "CURSOR", requires = "subscription")]
    cursor: Option<i64>,
    #[command(flatten)]
    output: OutputArgs,
}

fn decision(word: &str) -> Result<Decision, String> {
    Decision::parse(word).ok_or_else(|| {
        let words = Decision::ALL.map(Decision::as_str).join(", ");
        format!("expected one of {words}")
    })
}

/// The same shape as lists have over HTTP.
#[derive(Serialize)]
struct Page<'a> {
    items: &'a [EventRow],
    next: Option<String>,
}

pub(super) async fn run(args: &ListArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let Some(name) = &args.subscription else {
        return super::status::all(&store, loaded, &args.output).await;
    };
    super::check_name(&store, loaded, name.as_str()).await?;
    let filter = EventFilter {
        subscription: name.to_string(),
        decision: args.decision,
        block: args.block,
        tx_id: args.tx.clone(),
        open: args.open,
    };
    let page = store
        .list_events(&filter, args.cursor, usize::from(args.limit))
        .await?;
    let next = page.next.map(|next| next.to_string());
    if args.output.is_json() {
        return output::print_json(&Page {
            items: &page.rows,
            next,
        });
    }
    if page.rows.is_empty() {
        note(match next {
            Some(_) => &"none among the events looked through",
            None => &"no events",
        });
    } else {
        output::print(table(&page.rows, Timestamp::now()))?;
    }
    if let Some(next) = next {
        note(&format_args!("more: --cursor {next}"));
    }
    Ok(())
}

fn table(rows: &[EventRow], now: Timestamp) -> String {
    let mut table = output::table(&[
        "arrival",
        "block",
        "transaction",
        "event",
        "key",
        "state",
        "recorded",
        "tries",
        "last error",
    ]);
    for row in rows {
        table.add_row([
            row.arrival.to_string(),
            row.block.to_string(),
            output::id(&one_line(&row.tx_id)),
            one_line(&row.event_name),
            one_line(row.event_key.as_deref().unwrap_or_default()),
            state(row),
            output::relative(row.received_at, now),
            row.attempts.to_string(),
            short(row.last_error.as_deref()),
        ]);
    }
    output::lines(&mut table)
}

/// What was decided, and what is special, in words.
pub(super) fn state(row: &EventRow) -> String {
    let decided = match row.processed_at {
        Some(_) => "processed",
        None => &row.decision,
    };
    let late = if row.late { ", late" } else { "" };
    let abandoned = row.abandoned_at.map_or("", |_| ", abandoned");
    format!("{decided}{late}{abandoned}")
}

/// One line, and not a long one on a terminal.
fn short(error: Option<&str>) -> String {
    let line = one_line(error.unwrap_or_default());
    if io::stdout().is_terminal() && line.chars().count() > 60 {
        line.chars().take(59).chain(['…']).collect()
    } else {
        line
    }
}
