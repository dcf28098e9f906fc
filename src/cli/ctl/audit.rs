//! `highwater ctl audit`: the audit of a server, where its database is out of
//! reach from here; `highwater audit` reads the database itself.

use super::CtlOutput;
use super::client::Client;
use crate::cli::audit::one_line;
use crate::cli::failure::Failure;
use crate::cli::output::{self, note};
use crate::time::Timestamp;
use clap::Args;
use serde::Deserialize;

/// Lists what operators changed or tried to change, newest first.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Only this action, as in services.stop.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only what was done to this: a service, a key, a ledger.
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// Only what this one did, as listed.
    #[arg(long, value_name = "WHO")]
    who: Option<String>,
    /// Rows on a page, at most 1000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    #[arg(value_name = "N")]
    limit: u16,
    /// Goes on after an earlier page: its "next".
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    #[command(flatten)]
    output: CtlOutput,
}

#[derive(Debug, Deserialize)]
struct AuditList {
    items: Vec<Row>,
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Row {
    id: i64,
    at: Timestamp,
    who: String,
    action: String,
    target: String,
    outcome: String,
    problem: Option<String>,
}

pub(super) async fn list(args: &AuditArgs, client: &Client) -> Result<(), Failure> {
    let mut query = vec![("limit", args.limit.to_string())];
    for (name, value) in [
        ("action", &args.action),
        ("target", &args.target),
        ("who", &args.who),
        ("cursor", &args.cursor),
    ] {
        query.extend(value.clone().map(|value| (name, value)));
    }
    let (list, raw): (AuditList, _) = client.get("list the audit", &["audit"], &query).await?;
    if args.output.is_json() {
        return output::print_json(&raw);
    }
    if list.items.is_empty() {
        note(&"nothing is recorded");
        return Ok(());
    }
    let now = Timestamp::now();
    let mut table = output::table(&[
        "id", "when", "who", "action", "target", "outcome", "problem",
    ]);
    for row in &list.items {
        table.add_row([
            row.id.to_string(),
            output::relative(row.at, now),
            one_line(&row.who),
            one_line(&row.action),
            one_line(&row.target),
            one_line(&row.outcome),
            one_line(row.problem.as_deref().unwrap_or_default()),
        ]);
    }
    output::print(output::lines(&mut table))?;
    if let Some(next) = list.next {
        note(&format_args!("more: --cursor {}", one_line(&next)));
    }
    Ok(())
}
