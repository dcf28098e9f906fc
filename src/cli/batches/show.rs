//! `highwater batches show`: all that is known of one batch.

use super::{PlaceArgs, list, lookup};
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs};
use crate::config::Loaded;
use crate::flows::batches::InvalidTransaction;
use crate::store::{BatchRow, PollEntry};
use crate::time::Timestamp;
use clap::Args;
use serde::Serialize;

/// Shows one batch, with its transactions and its newest polls.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater batches show --ledger trace 5e0c41
  highwater batches show --ledger supply-chain --service btXBt-Rb4VS::a000 9f31…
  highwater batches show --ledger trace 5e0c41 --output json | jq .history")]
pub(in crate::cli) struct ShowArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Batch id, or as much of its beginning as makes it the only one.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Details<'a> {
    #[serde(flatten)]
    row: &'a BatchRow,
    transaction_ids: &'a [String],
    history: &'a [PollEntry],
}

pub(super) async fn run(args: &ShowArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let found = lookup::find(&store, &args.place, &args.id).await?;
    let row = found.one(&args.place, &args.id)?;
    let transactions = store.batch_transactions(&row.key()).await?;
    let history = row.history();
    if args.output.is_json() {
        return output::print_json(&Details {
            row: &row,
            transaction_ids: &transactions,
            history: &history,
        });
    }
    output::print(text(&row, &transactions, &history, Timestamp::now()))
}

fn text(row: &BatchRow, transactions: &[String], history: &[PollEntry], now: Timestamp) -> String {
    let time = |at: Timestamp| format!("{at} ({})", output::relative(at, now));
    let mut table = output::table(&[]);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            table.add_row([name.to_owned(), value]);
        }
    };
    line("batch", row.batch_id.clone());
    line("ledger", row.ledger.clone());
    line("service", row.service_id.clone());
    line("status", row.status.clone());
    line("submitted", time(row.submitted_at));
    line("settled", row.settled_at.map(time).unwrap_or_default());
    line("polls", format!("{}, {} unknown", row.polls, row.unknowns));
    line(
        "last poll",
        row.last_polled_at.map(time).unwrap_or_default(),
    );
    line("next poll", list::next_poll(row, now));
    line("last error", row.last_error.clone().unwrap_or_default());
    for transaction in transactions {
        line("transaction", transaction.clone());
    }
    for invalid in invalid_transactions(&row.invalid_transactions) {
        line("invalid", invalid);
    }
    let mut text = output::lines(&mut table);
    if !history.is_empty() {
        let mut polls = output::table(&["polled", "answer"]);
        for entry in history {
            polls.add_row([time(entry.at), entry.answer.to_owned()]);
        }
        text.push_str("\n\n");
        text.push_str(&output::lines(&mut polls));
    }
    text
}

/// A line for each transaction at fault. Applications write this column too:
/// what is no list of them is shown as it is.
fn invalid_transactions(json: &str) -> Vec<String> {
    match serde_json::from_str::<Vec<InvalidTransaction>>(json) {
        Ok(list) => list
            .iter()
            .map(|transaction| format!("{} {}", transaction.id, transaction.message))
            .collect(),
        Err(_) => vec![json.to_owned()],
    }
}
