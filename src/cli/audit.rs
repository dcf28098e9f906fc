//! `highwater audit`: what operators did; and how commands add to it.

use super::context;
use super::failure::Failure;
use super::output::{self, OutputArgs, note};
use crate::config::Loaded;
use crate::store::{AuditFilter, AuditRow, NewAudit, Store};
use crate::time::Timestamp;
use clap::Args;
use serde::Serialize;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Lists what operators changed or tried to change, newest first.
///
/// Rows are kept for `retention.audit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater audit
  highwater audit --action batches.revive --limit 10
  highwater audit --output json | jq -r '.items[] | select(.outcome != \"done\")'
  highwater audit --cursor 412            the page after an earlier one")]
pub(super) struct AuditArgs {
    /// Only this action, as in batches.revive.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only what was done to this: a ledger, a service, a batch.
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// Only what this one did, as listed.
    #[arg(long, value_name = "WHO")]
    who: Option<String>,
    /// Rows on a page, at most 10000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    #[arg(value_name = "N")]
    limit: i64,
    /// Goes on after an earlier page: its "next".
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<i64>,
    #[command(flatten)]
    output: OutputArgs,
}

/// The same shape as lists have over HTTP.
#[derive(Serialize)]
struct Page<'a> {
    items: &'a [AuditRow],
    next: Option<i64>,
}

pub(super) fn run(args: &AuditArgs, named: Option<&Path>) -> Result<(), Failure> {
    let loaded = context::load(named)?;
    context::block_on(list(args, &loaded))
}

async fn list(args: &AuditArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let filter = AuditFilter {
        action: args.action.clone(),
        target: args.target.clone(),
        who: args.who.clone(),
    };
    let page = store.list_audit(&filter, args.limit, args.cursor).await?;
    if args.output.is_json() {
        return output::print_json(&Page {
            items: &page.rows,
            next: page.next,
        });
    }
    if page.rows.is_empty() {
        note(&"nothing is recorded");
        return Ok(());
    }
    output::print(table(&page.rows, Timestamp::now()))?;
    if let Some(next) = page.next {
        note(&format_args!("more: --cursor {next}"));
    }
    Ok(())
}

fn table(rows: &[AuditRow], now: Timestamp) -> String {
    let mut table = output::table(&[
        "id", "when", "who", "action", "target", "outcome", "problem",
    ]);
    for row in rows {
        table.add_row([
            row.id.to_string(),
            output::relative(row.at, now),
            one_line(&row.who),
            one_line(&row.action),
            one_line(&row.target),
            row.outcome.clone(),
            one_line(row.problem.as_deref().unwrap_or_default()),
        ]);
    }
    output::lines(&mut table)
}

/// A text from outside, which must not break a line or steer a terminal.
pub(super) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Records what a command did. It is done by then, so a row that cannot be
/// written is told and fails nothing.
pub(super) async fn record(store: &Store, row: NewAudit) {
    if let Err(error) = store.record_audit(row).await {
        note(&format_args!(
            "warning: this was not recorded in the audit: {error}"
        ));
    }
}

/// Who runs this command: `command line (USER@HOST)`. It says so itself; the
/// database's own access rules are what keeps others out.
pub(super) fn operator() -> String {
    format!("command line ({})", user_at_host())
}

/// `USER@HOST`, as far as is known.
pub(super) fn user_at_host() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    // The user number where no variable says who it is, as in a container.
    let number = || {
        let own = std::fs::metadata("/proc/self").ok()?;
        Some(format!("user {}", own.uid()))
    };
    let user = variable("SUDO_USER")
        .or_else(|| variable("USER"))
        .or_else(|| variable("LOGNAME"))
        .or_else(number)
        .unwrap_or_else(|| "somebody".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => user,
        host => format!("{user}@{host}"),
    }
}
