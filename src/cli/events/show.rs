//! `highwater events show`: one event with its story, and as it came.

use super::list::state;
use crate::cli::audit::one_line;
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs};
use crate::config::Loaded;
use crate::flows::events::{StoryLine, SubscriptionName, event_story, event_waits_for};
use crate::store::{EventDetail, EventRow};
use crate::time::Timestamp;
use clap::Args;
use serde::Serialize;

/// Shows one event: its story, what it waits for, and the event as it came.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater events show claims 4711
  highwater events show claims 4711 --output json | jq .payload")]
pub(in crate::cli) struct ShowArgs {
    /// Name of the subscription.
    #[arg(value_name = "SUBSCRIPTION", value_parser = super::subscription)]
    subscription: SubscriptionName,
    /// Its number in the order of recording.
    #[arg(value_name = "ARRIVAL")]
    arrival: i64,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    event: &'a EventRow,
    story: &'a [StoryLine],
    waits_for: Option<&'a str>,
}

pub(super) async fn run(args: &ShowArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let name = args.subscription.as_str();
    super::check_name(&store, loaded, name).await?;
    let Some(detail) = store.event(name, args.arrival).await? else {
        return Err(Failure::Failed(format!(
            "subscription \"{name}\" has no event of arrival {}; it may be past its retention",
            args.arrival
        )));
    };
    let checkpoint = store.checkpoint(name).await?;
    let story = event_story(&detail.row, &checkpoint);
    let waits = event_waits_for(&detail.row, &checkpoint);
    if args.output.is_json() {
        return output::print(json(&detail, &story, waits.as_deref())?);
    }
    output::print(text(&detail, &story, waits.as_deref(), Timestamp::now()))
}

/// The event as it came stands in it byte by byte: numbers keep all their digits.
fn json(
    detail: &EventDetail,
    story: &[StoryLine],
    waits_for: Option<&str>,
) -> Result<String, Failure> {
    let report = Report {
        event: &detail.row,
        story,
        waits_for,
    };
    let mut document = serde_json::to_string(&report)
        .map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))?;
    document.pop();
    document.push_str(",\"payload\":");
    document.push_str(&detail.payload);
    document.push('}');
    Ok(document)
}

fn text(
    detail: &EventDetail,
    story: &[StoryLine],
    waits_for: Option<&str>,
    now: Timestamp,
) -> String {
    let row = &detail.row;
    let mut table = output::table(&[]);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            table.add_row([name.to_owned(), value]);
        }
    };
    line("subscription", one_line(&row.subscription));
    line("arrival", row.arrival.to_string());
    line("block", row.block.to_string());
    if row.rank != 0 {
        line("ordinal", row.rank.to_string());
    }
    line("transaction", one_line(&row.tx_id));
    line("event id", one_line(&row.event_id));
    line("event", one_line(&row.event_name));
    line(
        "key",
        one_line(row.event_key.as_deref().unwrap_or_default()),
    );
    line("state", state(row));
    line("waits", one_line(waits_for.unwrap_or_default()));
    for (index, told) in story.iter().enumerate() {
        let name = if index == 0 { "story" } else { "" };
        let at = told.at.map_or_else(String::new, |at| {
            format!("{at} ({})  ", output::relative(at, now))
        });
        line(name, format!("{at}{}", one_line(&told.what)));
    }
    let mut text = output::lines(&mut table);
    text.push_str("\n\n");
    text.push_str(&if detail.payload == "null" {
        "the event itself is past its retention".to_owned()
    } else {
        detail
            .payload
            .lines()
            .map(one_line)
            .collect::<Vec<_>>()
            .join("\n")
    });
    text
}
