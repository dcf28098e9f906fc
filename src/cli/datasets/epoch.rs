//! `highwater datasets new-epoch`: after a backup was restored.

use crate::cli::audit;
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs};
use crate::config::Loaded;
use crate::flows::events::read_reason;
use crate::flows::replicas::DatasetName;
use crate::store::{AuditOutcome, NewAudit};
use clap::Args;
use serde::Serialize;
use serde_json::json;

/// Begins a new epoch of a dataset, so that every follower copies it anew. For a
/// database that was restored from a backup: followers may have seen heads that
/// the backup does not know.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater datasets new-epoch prices --reason 'the backup of Monday was restored'")]
pub(in crate::cli) struct NewEpochArgs {
    /// Name of the dataset.
    #[arg(value_name = "DATASET", value_parser = super::content_name)]
    dataset: DatasetName,
    /// Why: 1 to 1000 characters; kept in the audit.
    #[arg(long, value_name = "WHY", value_parser = read_reason)]
    reason: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Done {
    epoch: String,
    head: i64,
}

pub(super) async fn run(args: &NewEpochArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let name = &args.dataset;
    super::check_name(&store, loaded, name.as_str()).await?;
    let begun = store.new_epoch(name).await.map_err(Failure::Store);
    let begun = begun.and_then(|begun| {
        begun.ok_or_else(|| {
            Failure::Failed(format!(
                "nothing was published to \"{name}\" yet: it has no epoch to end"
            ))
        })
    });
    let epoch = begun.as_ref().ok().map(|(epoch, _)| epoch.to_string());
    let row = NewAudit {
        who: audit::operator(),
        action: "datasets.new-epoch".to_owned(),
        target: name.to_string(),
        details: Some(json!({ "reason": args.reason, "epoch": epoch })),
        outcome: match &begun {
            Ok(_) => AuditOutcome::Done,
            Err(Failure::Store(_)) => AuditOutcome::Failed,
            Err(_) => AuditOutcome::Refused,
        },
        problem: begun.as_ref().err().map(ToString::to_string),
    };
    audit::record(&store, row).await;
    let (epoch, head) = begun?;
    if args.output.is_json() {
        return output::print_json(&Done {
            epoch: epoch.to_string(),
            head,
        });
    }
    output::print(format_args!(
        "epoch {epoch} of {name} begins at head {head}; its followers copy it anew"
    ))
}
