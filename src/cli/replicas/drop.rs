//! `highwater replicas drop`.

use super::list::holder;
use super::show::find;
use crate::cli::context;
use crate::cli::datasets::{DropArgs, content_name, drop_content};
use crate::cli::failure::Failure;
use crate::config::Loaded;
use crate::flows::replicas::{Content, ContentKind, DatasetName};
use clap::Args;

/// Removes a replica that is not configured any more: its copy, its history and a
/// bootstrap that was not finished. There is no way back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater replicas drop prices --reason 'nobody reads it here'")]
pub(in crate::cli) struct DropReplicaArgs {
    /// Name of the replica.
    #[arg(value_name = "REPLICA", value_parser = content_name)]
    replica: DatasetName,
    #[command(flatten)]
    order: DropArgs,
}

pub(super) async fn run(args: &DropReplicaArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let name = args.replica.as_str();
    find(&store, loaded, name).await?;
    let refused = if super::configured(loaded, name).is_some() {
        Some(format!(
            "replica \"{name}\" is in the configuration: take it out first, or its server copies it anew"
        ))
    } else {
        let holder = holder(name, &store.leases().await?);
        holder.map(|holder| {
            format!(
                "replica \"{name}\" is followed by {holder}: take it out of that server's configuration first"
            )
        })
    };
    let content = Content {
        kind: ContentKind::Replica,
        name: args.replica.clone(),
    };
    drop_content(&store, &content, &args.order, refused).await
}
