//! `highwater replicas verify` and `bootstrap`.
//!
//! Where a server follows the replica, that server is told over HTTP, and records
//! it. Where none does, the command does the same work itself: it holds the
//! replica's lease meanwhile, so that no server begins beside it.

use super::list::{Report, holder};
use super::show::find;
use crate::app::{FollowOnce, NotFollowed, Once, holder_name};
use crate::cli::audit;
use crate::cli::context;
use crate::cli::ctl::{Client, ServerArgs};
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs, note};
use crate::cli::progress::Progress;
use crate::config::{Loaded, ReplicaSettings};
use crate::flows::events::read_reason;
use crate::flows::replicas::{DatasetName, PlanView, check_verify};
use crate::store::{AuditOutcome, NewAudit, Store};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Begins the name under which a command holds a lease.
const FOLLOWER_PREFIX: &str = "command:";
/// How often a replica that a server works on is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// What is recorded where no reason is given.
const NO_REASON: &str = "ordered from the command line";

/// Compares a replica with its upstream now; ranges that differ are put right.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater replicas verify prices
  highwater replicas verify prices --reason 'the disk was full' --output json | jq .differences")]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    to: ToArgs,
}

/// Copies a replica anew; its copy stays readable until the new one takes its
/// place.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater replicas bootstrap prices --reason 'moved to another upstream'
  highwater replicas bootstrap prices --no-wait")]
pub(in crate::cli) struct BootstrapArgs {
    #[command(flatten)]
    to: ToArgs,
}

#[derive(Debug, Args)]
struct ToArgs {
    /// Name of the replica.
    #[arg(value_name = "REPLICA", value_parser = super::content_name)]
    replica: DatasetName,
    /// Why: 1 to 1000 characters; kept in the audit.
    #[arg(long, value_name = "WHY", value_parser = read_reason)]
    reason: Option<String>,
    /// Longest wait for the end of it.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    #[arg(value_parser = humantime::parse_duration)]
    within: Duration,
    /// Where a server follows it: comes back once that is told.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What came of an order.
#[derive(Debug, Serialize)]
struct Done {
    replica: String,
    ordered: &'static str,
    /// The server that carries it out; null: this command did.
    server: Option<String>,
    /// Whether it is carried out.
    done: bool,
    /// Ranges that differed, of a verification.
    differences: Option<u64>,
    epoch: Option<String>,
    head: Option<i64>,
    len: Option<u64>,
}

pub(super) async fn verify(
    args: &VerifyArgs,
    loaded: &Loaded,
    named: Option<&Path>,
) -> Result<(), Failure> {
    order(&args.to, loaded, named, Once::Verify).await
}

pub(super) async fn bootstrap(
    args: &BootstrapArgs,
    loaded: &Loaded,
    named: Option<&Path>,
) -> Result<(), Failure> {
    order(&args.to, loaded, named, Once::Bootstrap).await
}

const fn word(once: Once) -> &'static str {
    match once {
        Once::Verify => "verify",
        Once::Bootstrap => "bootstrap",
    }
}

async fn order(
    to: &ToArgs,
    loaded: &Loaded,
    named: Option<&Path>,
    once: Once,
) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let name = to.replica.as_str();
    let before = find(&store, loaded, name).await?;
    let Some(settings) = super::configured(loaded, name) else {
        return Err(Failure::Usage(format!(
            "replica \"{name}\" is not in the configuration: nobody knows its upstreams"
        )));
    };
    check(settings, &before, once)?;
    let followed_by = holder(name, &store.leases().await?);
    let (server, done) = match followed_by {
        Some(holder) if holder.starts_with(FOLLOWER_PREFIX) => {
            return Err(Failure::Failed(format!(
                "another command ({}) is at work on replica \"{name}\" at this moment: send the order again when that has ended",
                audit::one_line(&holder)
            )));
        }
        Some(holder) => {
            let client = Client::new(&to.server, named)?;
            tell(to, &client, &holder, once).await?;
            let done = !to.no_wait;
            if done {
                wait(to, &store, loaded, &before, once).await?;
            }
            (Some(holder), done)
        }
        None => {
            by_itself(to, &store, loaded, settings, once).await?;
            (None, true)
        }
    };
    let after = find(&store, loaded, name).await?;
    told(to, once, server, done, &after)
}

fn check(settings: &ReplicaSettings, before: &Report, once: Once) -> Result<(), Failure> {
    match once {
        Once::Verify => check_verify(settings, before.head.is_some())
            .map_err(|error| Failure::Failed(error.to_string())),
        Once::Bootstrap => Ok(()),
    }
}

/// Has the server that follows it do it.
async fn tell(to: &ToArgs, client: &Client, holder: &str, once: Once) -> Result<(), Failure> {
    let (name, word) = (to.replica.as_str(), word(once));
    let asked = format!(
        "have server \"{}\" {word} replica \"{name}\"",
        audit::one_line(holder)
    );
    let reason = to.reason.as_deref().unwrap_or(NO_REASON);
    let body = json!({ "reason": reason });
    let _: (Value, Value) = client
        .order(&asked, &["replicas", name, word], body)
        .await?;
    Ok(())
}

/// Waits until the server has done it.
async fn wait(
    to: &ToArgs,
    store: &Store,
    loaded: &Loaded,
    before: &Report,
    once: Once,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let (name, progress) = (to.replica.as_str(), progress_of(once));
    loop {
        let now = find(store, loaded, name).await?;
        let done = match once {
            Once::Verify => {
                let at = |of: &Report| of.audited.as_ref().map(|audited| audited.at);
                at(&now) > at(before)
            }
            Once::Bootstrap => {
                let ordered = |of: &Report| of.bootstraps.get("ordered").copied();
                ordered(&now) > ordered(before) && now.bootstrap.is_none()
            }
        };
        if done {
            return Ok(());
        }
        if begun.elapsed() >= to.within {
            return Err(Failure::Failed(format!(
                "the server was told, and replica \"{name}\" is not done after {:?}; it goes on",
                to.within
            )));
        }
        if let Some(bootstrap) = &now.bootstrap {
            progress.at(bootstrap.fetched, bootstrap.len);
        }
        sleep(LOOK).await;
    }
}

fn progress_of(once: Once) -> Progress {
    Progress::new(
        match once {
            Once::Verify => "comparing ranges",
            Once::Bootstrap => "copying entries",
        },
        Some(0),
    )
}

/// Does it without a server, and records it.
async fn by_itself(
    to: &ToArgs,
    store: &Store,
    loaded: &Loaded,
    settings: &ReplicaSettings,
    once: Once,
) -> Result<(), Failure> {
    let name = to.replica.as_str();
    let holder = format!("{FOLLOWER_PREFIX}{}", holder_name());
    let follow = FollowOnce {
        store,
        replication: &loaded.settings.replication,
        replica: settings,
        holder: &holder,
        lease: loaded.settings.server.lease,
        limit: to.within,
    };
    let progress = progress_of(once);
    let show = |view: &PlanView| match &view.bootstrap {
        Some(bootstrap) => progress.at(bootstrap.fetched, bootstrap.len),
        None => progress.at(0, view.len),
    };
    let done = follow.run(once, show).await;
    drop(progress);
    let row = NewAudit {
        who: audit::operator(),
        action: format!("replicas.{}", word(once)),
        target: name.to_owned(),
        details: Some(json!({ "reason": to.reason.as_deref().unwrap_or(NO_REASON) })),
        outcome: match &done {
            Ok(_) => AuditOutcome::Done,
            Err(NotFollowed::Lost) => AuditOutcome::Refused,
            Err(_) => AuditOutcome::Failed,
        },
        problem: done.as_ref().err().map(ToString::to_string),
    };
    audit::record(store, row).await;
    match done {
        Ok(_) => Ok(()),
        Err(NotFollowed::Store(error)) => Err(Failure::Store(error)),
        Err(error) => Err(Failure::Failed(format!(
            "cannot {} replica \"{name}\": {}",
            word(once),
            audit::one_line(&error.to_string())
        ))),
    }
}

fn told(
    to: &ToArgs,
    once: Once,
    server: Option<String>,
    done: bool,
    after: &Report,
) -> Result<(), Failure> {
    let verified = once == Once::Verify && done;
    let audited = after.audited.as_ref().filter(|_| verified);
    let differences = audited.map(|audited| audited.differences);
    if to.output.is_json() {
        return output::print_json(&Done {
            replica: after.name.clone(),
            ordered: word(once),
            server,
            done,
            differences,
            epoch: after.epoch.clone(),
            head: after.head,
            len: after.len,
        });
    }
    let name = &after.name;
    if !done {
        let holder = audit::one_line(server.as_deref().unwrap_or_default());
        note(&format_args!(
            "`highwater replicas show {name} --watch` waits for it"
        ));
        return output::print(format_args!(
            "server {holder} was told to {} {name}",
            word(once)
        ));
    }
    match differences {
        Some(0) => output::print(format_args!("{name} equals its upstream")),
        Some(many) => {
            let many = usize::try_from(many).unwrap_or(usize::MAX);
            let ranges = output::count(many, "range", "ranges");
            let were = if many == 1 { "was" } else { "were" };
            output::print(format_args!(
                "{ranges} of {name} differed and {were} put right"
            ))
        }
        None => {
            let (len, head) = (after.len.unwrap_or(0), after.head.unwrap_or(0));
            output::print(format_args!(
                "{name} was copied anew: {len} entries at head {head}"
            ))
        }
    }
}
