//! `highwater events status`: how subscriptions stand, as the database has it.

use crate::cli::audit::one_line;
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs, note};
use crate::config::{Loaded, SourceSettings};
use crate::flows::events::SubscriptionName;
use crate::store::{LeaseRow, Store, SubscriptionSummary};
use crate::time::Timestamp;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;

/// Shows how subscriptions stand: state, position, lag, and what holds them up.
///
/// What a server has in memory (how many events wait for their relevance, the
/// rate) is on its pages and in `GET /v1/subscriptions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater events status
  highwater events status claims
  highwater events status --output json | jq -r '.items[] | select(.state == \"halted\") | .name'")]
pub(in crate::cli) struct StatusArgs {
    /// Only this one, with all that is known of it.
    #[arg(value_name = "SUBSCRIPTION", value_parser = super::subscription)]
    subscription: Option<SubscriptionName>,
    #[command(flatten)]
    output: OutputArgs,
}

/// How a subscription stands; names and meanings are those of `/v1/subscriptions`.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    configured: bool,
    source: Option<&'static str>,
    /// `paused`, `halted`, `held` (a server runs it) or `not_run`.
    state: &'static str,
    holder: Option<String>,
    position: Option<Position>,
    highest_block: Option<i64>,
    lag_blocks: i64,
    open: i64,
    counts: BTreeMap<String, i64>,
    oldest_open_at: Option<Timestamp>,
    oldest_open_arrival: Option<i64>,
    last_event_at: Option<Timestamp>,
    halted: Option<Halt>,
    paused: Option<Pause>,
}

#[derive(Debug, Serialize)]
struct Position {
    block: i64,
    rank: i64,
    arrival: i64,
}

#[derive(Debug, Serialize)]
struct Halt {
    arrival: i64,
    at: Timestamp,
    error: String,
}

#[derive(Debug, Serialize)]
struct Pause {
    at: Timestamp,
    reason: String,
}

#[derive(Serialize)]
struct List<'a> {
    items: &'a [Report],
    next: Option<String>,
}

pub(super) async fn run(args: &StatusArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let Some(name) = &args.subscription else {
        return all(&store, loaded, &args.output).await;
    };
    super::check_name(&store, loaded, name.as_str()).await?;
    let reports = gather(&store, loaded).await?;
    let Some(report) = reports.into_iter().find(|of| of.name == name.as_str()) else {
        return Err(Failure::Failed(format!("subscription \"{name}\" is gone")));
    };
    if args.output.is_json() {
        return output::print_json(&report);
    }
    output::print(one(&report, Timestamp::now()))
}

/// All subscriptions: configured ones in the configuration's order, then those
/// that are only in the database.
pub(super) async fn all(
    store: &Store,
    loaded: &Loaded,
    output: &OutputArgs,
) -> Result<(), Failure> {
    let reports = gather(store, loaded).await?;
    if output.is_json() {
        return output::print_json(&List {
            items: &reports,
            next: None,
        });
    }
    if reports.is_empty() {
        note(&"no subscriptions");
        return Ok(());
    }
    output::print(table(&reports, Timestamp::now()))
}

async fn gather(store: &Store, loaded: &Loaded) -> Result<Vec<Report>, Failure> {
    let mut summaries: BTreeMap<String, SubscriptionSummary> = store
        .subscriptions_summary()
        .await?
        .into_iter()
        .map(|summary| (summary.name.clone(), summary))
        .collect();
    let leases = store.leases().await?;
    let configured = loaded.settings.subscriptions.iter();
    let mut reports: Vec<Report> = configured
        .map(|subscription| {
            let name = subscription.name.to_string();
            let source = match subscription.source {
                SourceSettings::Gateway(_) => "gateway",
                SourceSettings::Ledger(_) => "ledger",
                SourceSettings::Hook => "hook",
            };
            let summary = summaries
                .remove(&name)
                .unwrap_or_else(|| SubscriptionSummary {
                    name,
                    ..SubscriptionSummary::default()
                });
            report(summary, Some(source), &leases)
        })
        .collect();
    let others = summaries.into_values();
    reports.extend(others.map(|summary| report(summary, None, &leases)));
    // Before anything is done with, the first open event tells how much lies ahead.
    for of in reports
        .iter_mut()
        .filter(|of| of.position.is_none() && of.open > 0)
    {
        let first = store.open_events(&of.name, None, 1).await?;
        if let Some((first, highest)) = first.first().zip(of.highest_block) {
            of.lag_blocks = highest.saturating_sub(first.place.block).max(0);
        }
    }
    Ok(reports)
}

fn report(
    summary: SubscriptionSummary,
    source: Option<&'static str>,
    leases: &[LeaseRow],
) -> Report {
    let lease = format!("events:{}", summary.name);
    let mut held = leases.iter().filter(|lease| lease.is_held());
    let holder = held.find(|held| held.name == lease);
    let checkpoint = summary.checkpoint;
    let state = match holder {
        _ if checkpoint.paused.is_some() => "paused",
        _ if checkpoint.halted.is_some() => "halted",
        Some(_) => "held",
        None => "not_run",
    };
    let passed = checkpoint.position.map(|place| place.block);
    let lag = checkpoint
        .highest_block
        .zip(passed)
        .filter(|_| summary.open > 0);
    Report {
        configured: source.is_some(),
        source,
        state,
        holder: holder.map(|held| held.holder.clone()),
        position: checkpoint.position.map(|place| Position {
            block: place.block,
            rank: place.rank,
            arrival: place.arrival,
        }),
        highest_block: checkpoint.highest_block,
        lag_blocks: lag.map_or(0, |(highest, passed)| highest.saturating_sub(passed).max(0)),
        open: summary.open,
        counts: summary.counts,
        oldest_open_at: summary.oldest_open.map(|(_, at)| at),
        oldest_open_arrival: summary.oldest_open.map(|(arrival, _)| arrival),
        last_event_at: checkpoint.last_event_at,
        halted: checkpoint
            .halted
            .map(|(arrival, at, error)| Halt { arrival, at, error }),
        paused: checkpoint.paused.map(|(at, reason)| Pause { at, reason }),
        name: summary.name,
    }
}

fn table(reports: &[Report], now: Timestamp) -> String {
    let mut table = output::table(&[
        "subscription",
        "state",
        "source",
        "block",
        "newest",
        "behind",
        "open",
        "pending",
        "last event",
        "oldest open",
        "held up by",
    ]);
    for of in reports {
        table.add_row([
            of.name.clone(),
            of.state.to_owned(),
            of.source.unwrap_or("not configured").to_owned(),
            number(of.position.as_ref().map(|place| place.block)),
            number(of.highest_block),
            of.lag_blocks.to_string(),
            of.open.to_string(),
            of.count("pending").to_string(),
            time(of.last_event_at, now),
            time(of.oldest_open_at, now),
            one_line(&of.held_up_by()),
        ]);
    }
    output::lines(&mut table)
}

fn one(of: &Report, now: Timestamp) -> String {
    let mut table = output::table(&[]);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            table.add_row([name.to_owned(), value]);
        }
    };
    line("subscription", of.name.clone());
    line("state", of.state.to_owned());
    line("source", of.source.unwrap_or("not configured").to_owned());
    line("run by", one_line(of.holder.as_deref().unwrap_or_default()));
    let place = of.position.as_ref();
    line(
        "done up to",
        place.map_or_else(String::new, |place| {
            format!("block {}, arrival {}", place.block, place.arrival)
        }),
    );
    line("newest block", number(of.highest_block));
    line("blocks behind", of.lag_blocks.to_string());
    line("open", of.open.to_string());
    for word in ["pending", "relevant", "processed", "irrelevant", "skipped"] {
        line(word, of.count(word).to_string());
    }
    line("last event", time(of.last_event_at, now));
    let oldest = time(of.oldest_open_at, now);
    line(
        "oldest open",
        of.oldest_open_arrival.map_or_else(String::new, |arrival| {
            format!("arrival {arrival}, {oldest}")
        }),
    );
    if let Some(halted) = &of.halted {
        let since = output::relative(halted.at, now);
        line(
            "halted on",
            format!(
                "arrival {}, {since}: {}",
                halted.arrival,
                one_line(&halted.error)
            ),
        );
    }
    if let Some(paused) = &of.paused {
        let since = output::relative(paused.at, now);
        line("paused", format!("{since}: {}", one_line(&paused.reason)));
    }
    output::lines(&mut table)
}

impl Report {
    fn count(&self, word: &str) -> i64 {
        self.counts.get(word).copied().unwrap_or(0)
    }

    /// Why it does not go on, if so.
    fn held_up_by(&self) -> String {
        match (&self.paused, &self.halted) {
            (Some(paused), _) => paused.reason.clone(),
            (None, Some(halted)) => format!("event {}: {}", halted.arrival, halted.error),
            (None, None) => String::new(),
        }
    }
}

fn number(number: Option<i64>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}

fn time(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(String::new, |at| output::relative(at, now))
}
