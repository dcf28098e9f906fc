//! `highwater replicas list`.

use crate::cli::audit::one_line;
use crate::cli::context;
use crate::cli::datasets::{number, time};
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs, note};
use crate::config::{Loaded, ReplicaSettings};
use crate::flows::replicas::{BootstrapReason, ReplicaState, Standing};
use crate::leases::replicas_lease;
use crate::store::{LeaseRow, ReplicaSummary, Store};
use crate::time::Timestamp;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Lists the copies that are kept here.
///
/// What a server has in memory (how its upstreams stand, the rate) is on its
/// pages and in `GET /v1/replicas`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater replicas list
  highwater replicas list --output json | jq -r '.items[] | select(.state == \"stale\") | .name'")]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// How a replica stands; names and meanings are those of `/v1/replicas`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) name: String,
    pub(super) configured: bool,
    pub(super) upstreams: Vec<String>,
    pub(super) dataset: Option<String>,
    /// `waiting`, `bootstrapping`, `live` or `stale`: whether upstreams answer is
    /// known to the server that follows.
    pub(super) state: &'static str,
    pub(super) holder: Option<String>,
    pub(super) epoch: Option<String>,
    pub(super) head: Option<i64>,
    pub(super) len: Option<u64>,
    pub(super) oldest_head: Option<i64>,
    pub(super) bytes: Option<u64>,
    pub(super) history_changes: Option<u64>,
    pub(super) history_bytes: Option<u64>,
    pub(super) changed_at: Option<Timestamp>,
    pub(super) upstream_head: Option<i64>,
    pub(super) heard_at: Option<Timestamp>,
    pub(super) lag_heads: u64,
    pub(super) lag_seconds: f64,
    pub(super) level_at: Option<Timestamp>,
    pub(super) stale: Option<Stale>,
    pub(super) bootstrap: Option<Bootstrap>,
    pub(super) bootstraps: BTreeMap<&'static str, u64>,
    pub(super) outrun: u32,
    pub(super) audited: Option<Audited>,
    pub(super) repairs: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Stale {
    pub(super) since: Timestamp,
    pub(super) why: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Bootstrap {
    pub(super) reason: &'static str,
    pub(super) begun_at: Timestamp,
    pub(super) fetched: u64,
    pub(super) len: u64,
    pub(super) ranges: usize,
    pub(super) ranges_done: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Audited {
    pub(super) at: Timestamp,
    pub(super) differences: u64,
}

/// The same shape as lists have over HTTP.
#[derive(Serialize)]
struct List<'a> {
    items: &'a [Report],
    next: Option<String>,
}

pub(super) async fn run(args: &ListArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let reports = gather(&store, loaded).await?;
    if args.output.is_json() {
        return output::print_json(&List {
            items: &reports,
            next: None,
        });
    }
    if reports.is_empty() {
        note(&"no replicas");
        return Ok(());
    }
    output::print(table(&reports, Timestamp::now()))
}

/// All replicas: configured ones in the configuration's order, then those that
/// are only in the database.
pub(super) async fn gather(store: &Store, loaded: &Loaded) -> Result<Vec<Report>, Failure> {
    let kept = store.replica_summaries().await?.into_iter();
    let mut kept: BTreeMap<String, ReplicaSummary> = kept
        .map(|summary| (summary.name.clone(), summary))
        .collect();
    let leases = store.leases().await?;
    let now = Timestamp::now();
    let configured = loaded.settings.replicas.iter();
    let mut reports: Vec<Report> = configured
        .map(|replica| {
            let name = replica.name.to_string();
            let summary = kept.remove(&name);
            report(name, Some(replica), summary, &leases, now)
        })
        .collect();
    let others = kept.into_iter();
    reports.extend(others.map(|(name, summary)| report(name, None, Some(summary), &leases, now)));
    Ok(reports)
}

/// Who follows a replica, by the leases.
pub(super) fn holder(name: &str, leases: &[LeaseRow]) -> Option<String> {
    let lease = replicas_lease(name);
    let mut held = leases.iter().filter(|row| row.is_held());
    held.find(|row| row.name == lease)
        .map(|row| row.holder.clone())
}

fn report(
    name: String,
    settings: Option<&ReplicaSettings>,
    summary: Option<ReplicaSummary>,
    leases: &[LeaseRow],
    now: Timestamp,
) -> Report {
    let holder = holder(&name, leases);
    let (upstream_head, heard_at, repairs) = summary.as_ref().map_or((None, None, 0), |of| {
        (of.upstream_head, of.heard_at, of.repairs)
    });
    let (copy, rows) = summary.map_or((None, Standing::default()), |of| (of.copy, of.standing));
    let copy = copy.as_ref();
    let state = ReplicaState::of_rows(holder.is_some(), copy.is_some(), &rows).as_str();
    let heads = upstream_head.zip(copy.map(|of| of.head));
    let lag_heads = heads.map_or(0, |(theirs, ours)| {
        u64::try_from(theirs.saturating_sub(ours)).unwrap_or(0)
    });
    let behind = lag_heads > 0 || rows.stale.is_some();
    let level_at = rows.level_at.filter(|_| behind);
    let lag = level_at.map_or(Duration::ZERO, |at| now.since(at));
    let count = |reason: BootstrapReason| rows.bootstraps.get(&reason).copied().unwrap_or(0);
    let reasons = BootstrapReason::ALL.into_iter();
    Report {
        name,
        configured: settings.is_some(),
        upstreams: settings.map_or_else(Vec::new, |of| {
            of.upstreams.iter().map(ToString::to_string).collect()
        }),
        dataset: settings.map(|of| of.dataset.to_string()),
        state,
        holder,
        epoch: copy.map(|of| of.epoch.to_string()),
        head: copy.map(|of| of.head),
        len: copy.map(|of| of.len),
        oldest_head: copy.map(|of| of.oldest_head),
        bytes: copy.map(|of| of.bytes),
        history_changes: copy.map(|of| of.history_changes),
        history_bytes: copy.map(|of| of.history_bytes),
        changed_at: copy.map(|of| of.changed_at),
        upstream_head,
        heard_at,
        lag_heads,
        lag_seconds: lag.as_secs_f64(),
        level_at: rows.level_at,
        bootstraps: reasons
            .map(|reason| (reason.as_str(), count(reason)))
            .collect(),
        outrun: rows.outrun,
        audited: rows
            .audited
            .map(|(at, differences)| Audited { at, differences }),
        repairs,
        bootstrap: rows.bootstrap.map(|of| Bootstrap {
            reason: of.reason.as_str(),
            begun_at: of.begun_at,
            fetched: of.ranges.iter().map(|range| range.len).sum(),
            len: of.len,
            ranges: of.ranges.len(),
            ranges_done: of.ranges.iter().filter(|range| range.done).count(),
        }),
        stale: rows.stale.map(|(since, why)| Stale { since, why }),
    }
}

fn table(reports: &[Report], now: Timestamp) -> String {
    let mut table = output::table(&[
        "replica", "state", "head", "upstream", "behind", "entries", "bytes", "level", "remark",
    ]);
    for of in reports {
        table.add_row([
            of.name.clone(),
            of.state.to_owned(),
            number(of.head),
            number(of.upstream_head),
            of.lag_heads.to_string(),
            number(of.len),
            number(of.bytes),
            time(of.level_at, now),
            one_line(&of.remark()),
        ]);
    }
    output::lines(&mut table)
}

impl Report {
    /// What is special, in words.
    fn remark(&self) -> String {
        if !self.configured {
            return "not configured".to_owned();
        }
        let bootstrap = self
            .bootstrap
            .as_ref()
            .map(|of| format!("bootstrap: {} of {} entries", of.fetched, of.len));
        let stale = self.stale.as_ref().map(|of| of.why.clone());
        let told: Vec<String> = bootstrap.into_iter().chain(stale).collect();
        told.join("; ")
    }
}
