//! `highwater datasets show`: one dataset, or a value in it.

use super::list::{Report, gather, number, time};
use crate::cli::audit::one_line;
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs};
use crate::config::Loaded;
use crate::flows::replicas::{Content, ContentKind, Contents as _, DatasetName, FetchError};
use crate::store::StoredContents;
use crate::time::Timestamp;
use clap::Args;

/// Shows how a dataset stands; or, with --key, a value in it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater datasets show prices
  highwater datasets show prices --key eur/usd
  highwater datasets show prices --output json | jq .head")]
pub(in crate::cli) struct ShowArgs {
    /// Name of the dataset.
    #[arg(value_name = "DATASET", value_parser = super::content_name)]
    dataset: DatasetName,
    /// Prints the value of this key, which is JSON, and nothing else.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: &ShowArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let name = args.dataset.as_str();
    super::check_name(&store, loaded, name).await?;
    if let Some(key) = &args.key {
        let contents = StoredContents::new(store, &loaded.settings.replication);
        let content = Content {
            kind: ContentKind::Dataset,
            name: args.dataset.clone(),
        };
        return match contents.entry(&content, key).await {
            Ok(Some(value)) => output::print(value),
            Ok(None) | Err(FetchError::Missing) => Err(Failure::Failed(format!(
                "dataset \"{name}\" has no key {key:?}"
            ))),
            Err(FetchError::Store(error)) => Err(error.into()),
            Err(error) => Err(Failure::Failed(error.to_string())),
        };
    }
    let reports = gather(&store, loaded).await?;
    let Some(report) = reports.into_iter().find(|of| of.name == name) else {
        return Err(Failure::Failed(format!("dataset \"{name}\" is gone")));
    };
    if args.output.is_json() {
        return output::print_json(&report);
    }
    output::print(text(&report, Timestamp::now()))
}

fn text(of: &Report, now: Timestamp) -> String {
    let mut table = output::table(&[]);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            table.add_row([name.to_owned(), one_line(&value)]);
        }
    };
    line("dataset", of.name.clone());
    line("source", of.origin().to_owned());
    if of.protected {
        line("read with", "a token of its own".to_owned());
    }
    line("seed's wire", of.seed_listen.clone().unwrap_or_default());
    line("epoch", of.epoch.clone().unwrap_or_default());
    line("head", number(of.head));
    line("oldest head", number(of.oldest_head));
    line("entries", number(of.len));
    line("bytes", number(of.bytes));
    let of_most = |used: Option<u64>, most: u64| {
        used.map_or_else(String::new, |used| format!("{used} of {most}"))
    };
    line(
        "history changes",
        of_most(of.history_changes, of.history.changes),
    );
    line("history bytes", of_most(of.history_bytes, of.history.bytes));
    let age = of.history_since.map(|since| now.since(since).as_secs());
    line("history seconds", of_most(age, of.history.age_seconds));
    line("created", time(of.created_at, now));
    line("changed", time(of.changed_at, now));
    output::lines(&mut table)
}
