//! `highwater datasets list`.

use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs, note};
use crate::config::{DatasetSettings, HistorySettings, Loaded};
use crate::store::{ContentSummary, Store};
use crate::time::Timestamp;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;

/// Lists the datasets that are published here.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater datasets list
  highwater datasets list --output json | jq -r '.items[] | \"\\(.name) \\(.head)\"'")]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// How a dataset stands; names and meanings are those of `/v1/datasets`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) name: String,
    pub(super) configured: bool,
    pub(super) source: Option<&'static str>,
    pub(super) protected: bool,
    pub(super) seed_listen: Option<String>,
    pub(super) history: History,
    pub(super) epoch: Option<String>,
    pub(super) head: Option<i64>,
    pub(super) len: Option<u64>,
    pub(super) oldest_head: Option<i64>,
    pub(super) bytes: Option<u64>,
    pub(super) history_changes: Option<u64>,
    pub(super) history_bytes: Option<u64>,
    pub(super) history_since: Option<Timestamp>,
    pub(super) created_at: Option<Timestamp>,
    pub(super) changed_at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
pub(super) struct History {
    pub(super) changes: u64,
    pub(super) bytes: u64,
    pub(super) age_seconds: u64,
}

/// The same shape as lists have over HTTP.
#[derive(Serialize)]
struct List<'a> {
    items: &'a [Report],
    next: Option<String>,
}

pub(super) async fn run(args: &ListArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let reports = gather(&store, loaded).await?;
    if args.output.is_json() {
        return output::print_json(&List {
            items: &reports,
            next: None,
        });
    }
    if reports.is_empty() {
        note(&"no datasets");
        return Ok(());
    }
    output::print(table(&reports, Timestamp::now()))
}

/// All datasets: configured ones in the configuration's order, then those that
/// are only in the database.
pub(super) async fn gather(store: &Store, loaded: &Loaded) -> Result<Vec<Report>, Failure> {
    let kept = store.dataset_summaries().await?.into_iter();
    let mut kept: BTreeMap<String, ContentSummary> = kept
        .map(|summary| (summary.name.clone(), summary))
        .collect();
    let configured = loaded.settings.datasets.iter();
    let mut reports: Vec<Report> = configured
        .map(|dataset| {
            let name = dataset.name.to_string();
            let summary = kept.remove(&name);
            report(name, Some(dataset), summary)
        })
        .collect();
    let others = kept.into_iter();
    reports.extend(others.map(|(name, summary)| report(name, None, Some(summary))));
    Ok(reports)
}

fn report(
    name: String,
    settings: Option<&DatasetSettings>,
    summary: Option<ContentSummary>,
) -> Report {
    let history = settings.map_or_else(HistorySettings::default, |of| of.history.clone());
    let summary = summary.as_ref();
    Report {
        name,
        configured: settings.is_some(),
        source: settings
            .and_then(|of| of.source)
            .map(|source| source.as_str()),
        protected: settings.is_some_and(|of| of.token.is_some()),
        seed_listen: settings
            .and_then(|of| of.seed_listen)
            .map(|at| at.to_string()),
        history: History {
            changes: history.changes,
            bytes: history.bytes,
            age_seconds: history.age.as_secs(),
        },
        epoch: summary.map(|of| of.epoch.to_string()),
        head: summary.map(|of| of.head),
        len: summary.map(|of| of.len),
        oldest_head: summary.map(|of| of.oldest_head),
        bytes: summary.map(|of| of.bytes),
        history_changes: summary.map(|of| of.history_changes),
        history_bytes: summary.map(|of| of.history_bytes),
        history_since: summary.and_then(|of| of.history_since),
        created_at: summary.map(|of| of.created_at),
        changed_at: summary.map(|of| of.changed_at),
    }
}

fn table(reports: &[Report], now: Timestamp) -> String {
    let mut table = output::table(&[
        "dataset",
        "source",
        "head",
        "entries",
        "bytes",
        "oldest head",
        "changes",
        "changed",
    ]);
    for of in reports {
        table.add_row([
            of.name.clone(),
            of.origin().to_owned(),
            number(of.head),
            number(of.len),
            number(of.bytes),
            number(of.oldest_head),
            number(of.history_changes),
            time(of.changed_at, now),
        ]);
    }
    output::lines(&mut table)
}

impl Report {
    /// Where its entries come from, in a word.
    pub(super) fn origin(&self) -> &'static str {
        match (self.configured, self.source) {
            (false, _) => "not configured",
            (true, Some(table)) => table,
            (true, None) => "sent in",
        }
    }
}

/// A number, or nothing.
pub(in crate::cli) fn number(number: Option<impl ToString>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}

/// A time, or nothing.
pub(in crate::cli) fn time(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(String::new, |at| output::relative(at, now))
}
