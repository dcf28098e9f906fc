//! `highwater poll --dry-run`: what would be visited, and why.

use super::declined::{self, HolderReport};
use super::{Planned, PollArgs, sites};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::flows::sites::{RetryPolicy, Standing, would_visit};
use crate::store::{DueSite, Store};
use crate::time::Timestamp;
use serde::Serialize;

/// What `--dry-run --output json` prints.
#[derive(Debug, Serialize)]
struct DryRun {
    /// Always true: nothing was done.
    dry_run: bool,
    job: String,
    batch: String,
    /// Who has codes of it, so that a run would decline now.
    holders: Vec<HolderReport>,
    /// Sites that would be visited.
    due: usize,
    /// Of these, sites that the job has never seen.
    new: usize,
    /// The first of them.
    sites: Vec<WouldVisit>,
    /// Sites left out of `sites`, there being too many.
    more: usize,
}

/// A site that would be visited.
#[derive(Debug, Serialize)]
struct WouldVisit {
    site_id: String,
    why: String,
}

/// Sites that the JSON of a dry run names.
const MOST_NAMED: usize = 100_000;

/// New sites of a dry run read at a time.
const NEW_AT_A_TIME: i64 = 1_000;

/// Tells what would be visited.
pub(super) async fn dry_run(
    args: &PollArgs,
    store: &Store,
    planned: &Planned,
) -> Result<(), Failure> {
    let now = Timestamp::now();
    let json = args.output.is_json();
    let mut broken = None;
    let mut named = Vec::new();
    let mut tell = |site_id: &str, why: String| {
        if json {
            if named.len() < MOST_NAMED {
                let site_id = site_id.to_owned();
                named.push(WouldVisit { site_id, why });
            }
        } else if broken.is_none()
            && let Err(error) = output::print(format_args!("{site_id}  {why}"))
        {
            broken = Some(error);
        }
    };
    let holders = store.leases_in_the_way("", &planned.lease).await?;
    let mut new = 0;
    loop {
        let page = store
            .new_site_ids(&planned.range, new, NEW_AT_A_TIME)
            .await?;
        if page.is_empty() {
            break;
        }
        new += i64::try_from(page.len()).unwrap_or(i64::MAX);
        for site in page {
            tell(&site, "never seen by this job".to_owned());
        }
    }
    let due = would_visit(store, &planned.range, &planned.job, now, |site| {
        tell(&site.site_id, why(site, &planned.job.retry, now));
    })
    .await?;
    let new = usize::try_from(new).unwrap_or(usize::MAX);
    let due = due.saturating_add(new);
    if json {
        return output::print_json(&DryRun {
            dry_run: true,
            job: planned.job.key.to_string(),
            batch: args.batch.to_string(),
            holders: holders.iter().map(HolderReport::from).collect(),
            due,
            new,
            more: due.saturating_sub(named.len()),
            sites: named,
        });
    }
    if let Some(error) = broken {
        return Err(error);
    }
    let first = match new {
        0 => String::new(),
        new => format!(", of which {new} for the first time"),
    };
    output::print(format_args!(
        "{} of {}, batch {}: {} would be visited{first}; nothing was done",
        planned.job.key.name,
        planned.job.key.app,
        args.batch,
        sites(due),
    ))?;
    if holders.is_empty() {
        return Ok(());
    }
    output::print(format_args!(
        "a poll now would decline, since the batch is being handled: {}",
        declined::who(&holders)
    ))
}

/// Why a site is due.
fn why(site: &DueSite, policy: &RetryPolicy, now: Timestamp) -> String {
    let Some(last) = site.last_run_at else {
        return "never visited, or revived since".to_owned();
    };
    let standing = Standing {
        level: u32::try_from(site.level).unwrap_or(0),
        last_run_at: Some(last),
        ..Standing::default()
    };
    let due = standing.due_at(policy, now).unwrap_or(now);
    let level = policy.level(usize::try_from(site.level).unwrap_or(0));
    format!(
        "last visited {last}, due since {due}: level {} ({}), {} of {} failures",
        site.level,
        humantime::format_duration(level.period),
        site.count,
        level.count
    )
}
