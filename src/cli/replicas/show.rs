//! `highwater replicas show`: one replica, also while it is being copied.

use super::list::{Report, gather};
use crate::cli::audit::one_line;
use crate::cli::context;
use crate::cli::datasets::{number, time};
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs};
use crate::cli::progress::Progress;
use crate::config::Loaded;
use crate::flows::replicas::DatasetName;
use crate::store::Store;
use crate::time::Timestamp;
use clap::Args;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often a replica that is watched is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Shows how a replica stands.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater replicas show prices
  highwater replicas show prices --watch              until its copy is whole
  highwater replicas show prices --watch --within 10m && start-the-shop
  highwater replicas show prices --output json | jq .lag_heads")]
pub(in crate::cli) struct ShowArgs {
    /// Name of the replica.
    #[arg(value_name = "REPLICA", value_parser = super::content_name)]
    replica: DatasetName,
    /// Waits until there is a whole copy that is level with its upstream, with a
    /// progress bar on a terminal.
    #[arg(long)]
    watch: bool,
    /// Longest wait.
    #[arg(long, value_name = "TIME", default_value = "1h", requires = "watch")]
    #[arg(value_parser = humantime::parse_duration)]
    within: Duration,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: &ShowArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let name = args.replica.as_str();
    let mut report = find(&store, loaded, name).await?;
    if args.watch {
        let begun = Instant::now();
        let progress = Progress::new("copying entries", Some(0));
        while !report.is_whole() {
            if begun.elapsed() >= args.within {
                return Err(Failure::Failed(format!(
                    "replica \"{name}\" is {} and not whole after {:?}; it is gone on with where a server follows it",
                    report.state, args.within
                )));
            }
            if let Some(bootstrap) = &report.bootstrap {
                progress.at(bootstrap.fetched, bootstrap.len);
            }
            sleep(LOOK).await;
            report = find(&store, loaded, name).await?;
        }
    }
    if args.output.is_json() {
        return output::print_json(&report);
    }
    output::print(text(&report, Timestamp::now()))
}

/// One that is configured or kept.
pub(super) async fn find(store: &Store, loaded: &Loaded, name: &str) -> Result<Report, Failure> {
    let reports = gather(store, loaded).await?;
    let known: BTreeSet<String> = reports.iter().map(|of| of.name.clone()).collect();
    let found = reports.into_iter().find(|of| of.name == name);
    found.ok_or_else(|| {
        let known = match known.len() {
            0 => "there is none, neither in the configuration nor in the database".to_owned(),
            _ => format!(
                "known: {}",
                known.into_iter().collect::<Vec<_>>().join(", ")
            ),
        };
        Failure::Usage(format!("no replica \"{name}\" ({known})"))
    })
}

impl Report {
    /// Whether there is a copy, which is level.
    fn is_whole(&self) -> bool {
        let copied = self.head.is_some() && self.bootstrap.is_none() && self.stale.is_none();
        copied && self.lag_heads == 0
    }
}

fn text(of: &Report, now: Timestamp) -> String {
    let mut table = output::table(&[]);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            table.add_row([name.to_owned(), one_line(&value)]);
        }
    };
    line("replica", of.name.clone());
    if !of.configured {
        line(
            "remark",
            "not configured: it is kept and not followed".to_owned(),
        );
    }
    line("state", of.state.to_owned());
    line("dataset", of.dataset.clone().unwrap_or_default());
    line("upstreams", of.upstreams.join(", "));
    line("followed by", of.holder.clone().unwrap_or_default());
    line("epoch", of.epoch.clone().unwrap_or_default());
    line("head", number(of.head));
    line("upstream's head", number(of.upstream_head));
    line("heads behind", of.lag_heads.to_string());
    line("upstream heard", time(of.heard_at, now));
    line("had all", time(of.level_at, now));
    line("entries", number(of.len));
    line("bytes", number(of.bytes));
    line("oldest head", number(of.oldest_head));
    line("history changes", number(of.history_changes));
    line("history bytes", number(of.history_bytes));
    if let Some(stale) = &of.stale {
        let since = output::relative(stale.since, now);
        line("stale", format!("{since}: {}", stale.why));
    }
    if let Some(bootstrap) = &of.bootstrap {
        line(
            "bootstrap",
            format!(
                "{}, begun {}: {} of {} entries, {} of {} range(s) whole",
                bootstrap.reason,
                output::relative(bootstrap.begun_at, now),
                bootstrap.fetched,
                bootstrap.len,
                bootstrap.ranges_done,
                bootstrap.ranges
            ),
        );
    }
    let bootstraps = of.bootstraps.iter().filter(|(_, count)| **count > 0);
    let bootstraps: Vec<String> = bootstraps
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    line("bootstraps", bootstraps.join(", "));
    if of.outrun > 0 {
        line(
            "outrun",
            format!(
                "{} in a row: the upstream's history is shorter than a bootstrap takes; make it longer, or chunk larger",
                of.outrun
            ),
        );
    }
    if let Some(audited) = &of.audited {
        let at = output::relative(audited.at, now);
        line(
            "compared",
            match audited.differences {
                0 => format!("{at}: no range differed"),
                1 => format!("{at}: 1 range differed"),
                many => format!("{at}: {many} ranges differed"),
            },
        );
    }
    line("put right", of.repairs.to_string());
    output::lines(&mut table)
}
