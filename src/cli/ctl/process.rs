//! `highwater ctl reload|shutdown`: the server as a whole.

use super::CtlOutput;
use super::client::Client;
use crate::cli::audit::one_line;
use crate::cli::failure::Failure;
use crate::cli::output::{self, note};
use clap::Args;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often a server that stops is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How much longer than it may take a drain is waited for.
const GRACE: Duration = Duration::from_secs(10);

/// Reads the configuration again, as SIGHUP does.
///
/// A configuration with mistakes changes nothing; the mistakes are told.
#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    /// Forgets all values set by `highwater ctl settings set`.
    #[arg(long)]
    reset: bool,
    #[command(flatten)]
    output: CtlOutput,
}

/// Drains the server and ends it, as SIGTERM does.
#[derive(Debug, Args)]
pub(super) struct ShutdownArgs {
    /// Waits until it has ended.
    #[arg(long)]
    wait: bool,
}

/// What a reload or a change did.
#[derive(Debug, Deserialize)]
pub(super) struct Reloaded {
    changed: Vec<String>,
    needs_restart: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Shutdown {
    server: String,
    within_seconds: f64,
}

pub(super) async fn reload(args: &ReloadArgs, client: &Client) -> Result<(), Failure> {
    let body = Some(json!({ "reset": args.reset }));
    let asked = "reload the configuration";
    let (reloaded, raw): (Reloaded, _) =
        client.send(asked, Method::POST, &["reload"], body).await?;
    if args.output.is_json() {
        return output::print_json(&raw);
    }
    tell_reloaded(&reloaded)
}

/// Tells what changed.
pub(super) fn tell_reloaded(reloaded: &Reloaded) -> Result<(), Failure> {
    if reloaded.changed.is_empty() {
        output::print("nothing changed")?;
    }
    for key in &reloaded.changed {
        let waits = if reloaded.needs_restart.contains(key) {
            " (at the next start)"
        } else {
            ""
        };
        output::print(format_args!("changed: {}{waits}", one_line(key)))?;
    }
    if !reloaded.needs_restart.is_empty() {
        note(&format_args!(
            "warning: a restart of the server is needed for: {}",
            one_line(&reloaded.needs_restart.join(", "))
        ));
    }
    Ok(())
}

pub(super) async fn shutdown(args: &ShutdownArgs, client: &Client) -> Result<(), Failure> {
    let asked = "shut the server down";
    let (shutdown, _): (Shutdown, _) = client
        .send(asked, Method::POST, &["shutdown"], None)
        .await?;
    if !args.wait {
        return output::print(format_args!("{} is draining", one_line(&shutdown.server)));
    }
    let within = Duration::try_from_secs_f64(shutdown.within_seconds).unwrap_or(GRACE) + GRACE;
    let begun = Instant::now();
    while client.answers().await {
        if begun.elapsed() >= within {
            return Err(Failure::Failed(format!(
                "{} still answers after {} s; it was told to drain, or another server took its \
                 place",
                client.server(),
                within.as_secs()
            )));
        }
        sleep(LOOK).await;
    }
    output::print(format_args!("{} has ended", one_line(&shutdown.server)))
}
