//! `highwater datasets drop` and `highwater replicas drop`: what is no longer
//! configured leaves the database.

use crate::cli::audit;
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs};
use crate::config::Loaded;
use crate::flows::events::read_reason;
use crate::flows::replicas::{Content, ContentKind, DatasetName};
use crate::store::{AuditOutcome, NewAudit, Store};
use clap::Args;
use serde::Serialize;
use serde_json::json;

/// Removes a dataset that is not configured any more, with its entries and its
/// history. There is no way back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater datasets drop old-prices --reason 'published by another node now'")]
pub(in crate::cli) struct DropDatasetArgs {
    /// Name of the dataset.
    #[arg(value_name = "DATASET", value_parser = super::content_name)]
    dataset: DatasetName,
    #[command(flatten)]
    order: DropArgs,
}

/// What both commands take.
#[derive(Debug, Args)]
pub(in crate::cli) struct DropArgs {
    /// Why: 1 to 1000 characters; kept in the audit.
    #[arg(long, value_name = "WHY", value_parser = read_reason)]
    reason: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Done<'a> {
    dropped: &'a str,
}

pub(super) async fn run(args: &DropDatasetArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let name = args.dataset.as_str();
    super::check_name(&store, loaded, name).await?;
    let refused = super::configured(loaded, name).map(|_| {
        format!(
            "dataset \"{name}\" is in the configuration: take it out first, or it begins anew, empty"
        )
    });
    let content = Content {
        kind: ContentKind::Dataset,
        name: args.dataset.clone(),
    };
    drop_content(&store, &content, &args.order, refused).await
}

/// Drops a content, unless there is a reason to refuse it, and records it. The
/// Housekeeper removes its rows.
pub(in crate::cli) async fn drop_content(
    store: &Store,
    content: &Content,
    order: &DropArgs,
    refused: Option<String>,
) -> Result<(), Failure> {
    let (kind, plural) = match content.kind {
        ContentKind::Dataset => ("dataset", "datasets"),
        ContentKind::Replica => ("replica", "replicas"),
    };
    let name = content.name.as_str();
    let done = match refused {
        Some(why) => Err(Failure::Failed(why)),
        None => match store.drop_content(content).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::Failed(format!(
                "the database has no {kind} \"{name}\" to drop"
            ))),
            Err(error) => Err(Failure::Store(error)),
        },
    };
    let row = NewAudit {
        who: audit::operator(),
        action: format!("{plural}.drop"),
        target: name.to_owned(),
        details: Some(json!({ "reason": order.reason })),
        outcome: match &done {
            Ok(()) => AuditOutcome::Done,
            Err(Failure::Store(_)) => AuditOutcome::Failed,
            Err(_) => AuditOutcome::Refused,
        },
        problem: done.as_ref().err().map(ToString::to_string),
    };
    audit::record(store, row).await;
    done?;
    if order.output.is_json() {
        return output::print_json(&Done { dropped: name });
    }
    output::print(format_args!(
        "{kind} {name} is dropped; a server that runs removes its rows in steps"
    ))
}
