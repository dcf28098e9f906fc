//! `highwater poll`: visits the sites of a job that are due, and ends; for cron.

mod declined;
mod dry_run;

use super::context;
use super::failure::Failure;
use super::output::{self, OutputArgs};
use super::poll_lease::keep_lease;
use crate::app::holder_name;
use crate::config::{JobSettings, Loaded};
use crate::flows::sites::{AppName, JobKey, RetryPolicy, Run, Shard, Summary, Told};
use crate::handlers::{self, Handler, Listeners, SiteClient};
use crate::leases::sites_lease;
use crate::store::{JobRange, RUNNER_PREFIX};
use crate::time::Timestamp;
use clap::Args;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// Visits the sites of a job that are due, once, and ends.
///
/// One runner at a time has a job's batch, over all processes and machines of
/// a database: where another poll or a server has it, or one that overlaps it,
/// this one says so, does nothing and exits 0. What the job does comes from
/// the configuration; what is given here wins over it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater poll org.civicrm.myapp
  highwater poll org.civicrm.myapp --name sync_activities --batch 0/4 \\
    --retry '2 hour (x12); 1 day (x30)'
  highwater poll org.civicrm.myapp --dry-run         what would be visited, and why
  highwater poll org.civicrm.myapp -v --retry '1 sec (x100)'

In a crontab, every five minutes:
  */5 * * * * highwater poll org.civicrm.myapp --config /etc/highwater/highwater.toml

Exit codes: 0 done, or declined; 1 failed; 2 wrong usage or configuration. A
site that fails is no failure of the run.")]
pub(super) struct PollArgs {
    /// Id of the app, with or without `app:`.
    #[arg(value_name = "APP", value_parser = AppName::parse)]
    app: AppName,
    /// Name of the job.
    #[arg(long, value_name = "NAME", default_value = JobKey::DEFAULT)]
    name: String,
    /// Which part of the sites: batch i of n, by their batch codes.
    #[arg(long, value_name = "I/N", default_value_t = Shard::ALL, allow_hyphen_values = true)]
    batch: Shard,
    /// Retry policy, as '20min (x6); 1hour (x24)' [default: the job's].
    #[arg(long, value_name = "EXPR", allow_hyphen_values = true)]
    retry: Option<RetryPolicy>,
    /// Prints a line for each visit.
    #[arg(long, short)]
    verbose: bool,
    /// Says what would be visited and why, and does nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a run is made of, once the configuration was read.
struct Planned {
    configured: Arc<JobSettings>,
    job: Arc<JobSettings>,
    range: JobRange,
    lease: String,
    handler: Arc<dyn Handler>,
}

pub(super) fn run(
    args: &PollArgs,
    config: Option<&Path>,
    listeners: &Listeners,
) -> Result<(), Failure> {
    let loaded = context::load(config)?;
    let planned = plan(args, &loaded, listeners)?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .with_target(false)
        .try_init()
        // Set up already: by the program that this is part of.
        .unwrap_or_default();
    context::block_on(async {
        let database = &loaded.settings.database;
        let done = poll(args, &loaded, planned).await;
        done.map_err(|failure| failure.of_database(database))
    })
}

/// Finds the job, and builds its handler.
fn plan(args: &PollArgs, loaded: &Loaded, listeners: &Listeners) -> Result<Planned, Failure> {
    let settings = &loaded.settings;
    let key = JobKey::new(args.app.clone(), &args.name)
        .map_err(|problem| Failure::Usage(format!("--name: {problem}")))?;
    let Some(configured) = settings.jobs.iter().find(|job| job.key == key) else {
        let mut known: Vec<String> = settings
            .jobs
            .iter()
            .map(|job| job.key.to_string())
            .collect();
        known.sort();
        let known = if known.is_empty() {
            "none is configured; add one with [[jobs]]".to_owned()
        } else {
            format!("configured: {}", known.join(", "))
        };
        return Err(Failure::Usage(format!(
            "no job {key} in the configuration ({known})"
        )));
    };
    let app = settings.apps.iter().find(|app| app.id == key.app);
    let client = SiteClient::new(settings.sites.deny_private_networks);
    let handler = handlers::connect(configured, app, &settings.sites, listeners, &client)
        .map_err(Failure::Usage)?;
    let mut job = configured.clone();
    if let Some(retry) = &args.retry {
        job.retry = retry.clone();
    }
    Ok(Planned {
        configured: Arc::new(configured.clone()),
        job: Arc::new(job),
        lease: sites_lease(&key, args.batch),
        range: JobRange {
            job: key,
            codes: args.batch.codes(),
        },
        handler,
    })
}

async fn poll(args: &PollArgs, loaded: &Loaded, planned: Planned) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    if args.dry_run {
        return dry_run::dry_run(args, &store, &planned).await;
    }
    let holder = format!("{RUNNER_PREFIX}{}", holder_name());
    // As a server takes it: a little less, so that a takeover is in time.
    let ttl = loaded
        .settings
        .server
        .lease
        .max(Duration::from_secs(1))
        .mul_f64(0.9);
    let names = [planned.lease.clone()];
    let asked = Instant::now();
    let stakes = store.hold_leases(&holder, &names, ttl, false).await?;
    let Some(stake) = stakes.into_iter().next() else {
        let holders = store.leases_in_the_way(&holder, &planned.lease).await?;
        return declined::tell(args, &planned, &holders);
    };
    let (stop, stopped) = watch::channel(None);
    let (over, is_over) = oneshot::channel();
    let (renewed, held_until) = watch::channel(asked + ttl);
    let beating = {
        let (store, holder, names) = (store.clone(), holder.clone(), names.clone());
        let kept = stake.clone();
        let renew = async move || {
            let stakes = store.hold_leases(&holder, &names, ttl, false).await?;
            Ok(stakes.contains(&kept))
        };
        tokio::spawn(keep_lease(renew, ttl, renewed, stop.clone(), is_over))
    };
    let told = tokio::spawn(stop_on_signal(stop));
    let run = Run {
        store: store.clone(),
        holder: holder.clone(),
        stake,
        range: planned.range.clone(),
        job: planned.job.clone(),
        configured: planned.configured.clone(),
        handler: planned.handler.clone(),
        settings: loaded.settings.sites.clone(),
        keep: loaded.settings.retention.polls_per_site,
        stop: stopped,
        held_until,
    };
    let verbose = args.verbose && !args.output.is_json();
    let mut broken = None;
    let ended = run
        .go(Timestamp::now(), |told| {
            if verbose && let Err(error) = output::print(line(&told)) {
                broken = Some(error);
            }
        })
        .await;
    told.abort();
    // Not cut off: a heartbeat that comes after the lease was given back would
    // take it again, for a run that is over.
    drop(over);
    drop(beating.await);
    // It expires by itself where it cannot be given back.
    drop(store.release_leases(&holder, &names).await);
    let summary = ended?;
    if let Some(error) = broken {
        return Err(error);
    }
    if args.output.is_json() {
        output::print_json(&summary)?;
    } else {
        output::print(sentence(args, &planned, &summary))?;
    }
    if summary.unwritten > 0 || summary.broken.is_some() {
        return Err(Failure::Said);
    }
    Ok(())
}

/// Lets the run end after what is under way, on SIGTERM and SIGINT.
async fn stop_on_signal(stop: watch::Sender<Option<String>>) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return;
    };
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    stop.send_replace(Some(format!("told to stop by {name}")));
    // A second one quits.
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    std::process::exit(1);
}

fn line(told: &Told<'_>) -> String {
    let (outcome, change) = (told.outcome, told.change);
    let took = output::millis(u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX));
    let site = &outcome.work.site.site_id;
    match &outcome.visited.result {
        Ok(_) => format!("{site}  success  {took}"),
        Err(error) => {
            let next = if change.given_up_at.is_some() {
                "given up".to_owned()
            } else {
                format!("level {}, {} failures", change.level, change.count)
            };
            format!("{site}  failure  {took}  {error}  ({next})")
        }
    }
}

fn sentence(args: &PollArgs, planned: &Planned, summary: &Summary) -> String {
    let mut text = format!(
        "{} of {}, batch {}: {} visited, {} well, {} failed",
        planned.job.key.name,
        planned.job.key.app,
        args.batch,
        sites(summary.successes + summary.failures),
        summary.successes,
        summary.failures,
    );
    for (count, what) in [
        (summary.given_up, "given up"),
        (summary.new, "new"),
        (summary.left_alone, "left alone, as their host asked"),
        (summary.unwritten, "not written, the lease being lost"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    if let Some(why) = &summary.cut_short {
        text.push_str(&format!("; ended early: {why}"));
    }
    text
}

fn sites(count: usize) -> String {
    if count == 1 {
        "1 site".to_owned()
    } else {
        format!("{count} sites")
    }
}
