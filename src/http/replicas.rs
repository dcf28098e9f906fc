//! Replicas as API, pages, metrics and probes show them: what is configured, what
//! the Followers of this server say, and what the database says.

use super::api::datasets::is_shown;
use super::dataset_reports::{SizeBody, StandingBody};
use super::replica_figures::{ReplicaFigures, replica_figures};
use super::replica_report::{
    AuditReport, BootstrapReport, ReplicaReport, StaleReport, UpstreamReport, WantedReport,
};
use super::state::Http;
use crate::config::{HistorySettings, ReplicaProtocol, ReplicaSettings};
use crate::flows::replicas::{
    Bootstrap, BootstrapReason, ContentKind, DatasetName, FollowerView, Head, Holder, PlanView,
    ReplicaState, Standing, without_contents,
};
use crate::store::ReplicaSummary;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// All replicas by these figures: configured ones in the configuration's order,
/// then those that are only in the database.
pub(super) fn gather_replicas(http: &Http, figures: &ReplicaFigures) -> Vec<ReplicaReport> {
    let settings = http.settings();
    let view = http.replicas_view();
    let now = Timestamp::now();
    let found = |name: &str| figures.replicas.iter().find(|of| of.name == name);
    let own = &http.state.holder;
    let configured = settings.replicas.iter().map(|replica| {
        let name = &replica.name;
        let follower = view.replicas.get(name).map(|of| &**of);
        let known = Known {
            settings: Some(replica),
            follower,
            summary: found(name.as_str()),
            is_shown: is_shown(&settings, ContentKind::Replica, name.as_str()),
            own,
        };
        known.report(name.as_str(), now)
    });
    let known = |name: &str| settings.replicas.iter().any(|of| of.name.as_str() == name);
    let others = figures.replicas.iter().filter(|of| !known(&of.name));
    let others = others.map(|summary| {
        let known = Known {
            settings: None,
            follower: None,
            summary: Some(summary),
            is_shown: false,
            own,
        };
        known.report(&summary.name, now)
    });
    configured.chain(others).collect()
}

/// How a replica stands: by who follows it here, else by its rows and who is known
/// to have its lease.
pub(super) async fn state_of_replica(http: &Http, name: &DatasetName) -> ReplicaState {
    let view = http.replicas_view();
    let follower = view.replicas.get(name).map(|of| &**of);
    if let Some(plan) = follower.and_then(|of| of.plan.as_ref()) {
        return plan.state;
    }
    let figures = replica_figures(http).await;
    let mut all = figures.replicas.iter();
    state(follower, all.find(|of| of.name == name.as_str()))
}

fn state(follower: Option<&FollowerView>, summary: Option<&ReplicaSummary>) -> ReplicaState {
    if let Some(plan) = follower.and_then(|of| of.plan.as_ref()) {
        return plan.state;
    }
    let is_held = follower.is_some_and(|of| of.holder != Holder::Nobody);
    let has_copy = summary.is_some_and(|of| of.copy.is_some());
    let none = Standing::default();
    ReplicaState::of_rows(is_held, has_copy, summary.map_or(&none, |of| &of.standing))
}

/// What is known of a replica.
struct Known<'a> {
    settings: Option<&'a ReplicaSettings>,
    follower: Option<&'a FollowerView>,
    summary: Option<&'a ReplicaSummary>,
    /// Whoever may look at this may see its entries.
    is_shown: bool,
    /// Name of this server.
    own: &'a str,
}

impl Known<'_> {
    fn report(&self, name: &str, now: Timestamp) -> ReplicaReport {
        let plan = self.follower.and_then(|of| of.plan.as_ref());
        let summary = self.summary;
        let rows = summary.map(|of| &of.standing);
        let copy = summary.and_then(|of| of.copy.as_ref());
        let history = self
            .settings
            .map_or_else(HistorySettings::default, |of| of.history.clone());
        let is_followed = self.follower.is_some_and(|of| of.holder != Holder::Nobody);
        let is_here = self.follower.is_some_and(|of| of.holder == Holder::Here);
        // Held here and yet without a plan: its service does not run.
        let is_heard = is_followed && (plan.is_some() || !is_here);
        let (upstream_head, lag_heads, lag) = lag(plan, summary, is_heard, now);
        // Whoever follows it knows more than what was read of its rows.
        let bootstrap = match plan {
            Some(plan) => plan.bootstrap.as_ref().map(BootstrapReport::from),
            None => rows
                .and_then(|of| of.bootstrap.as_ref())
                .map(|of| rows_bootstrap(of, now)),
        };
        let stale = plan.map_or_else(
            || rows.and_then(|of| of.stale.clone()),
            |of| of.stale.clone(),
        );
        let audited = plan.map_or_else(|| rows.and_then(|of| of.audited), |of| of.audited);
        let bootstraps = plan
            .map(|of| &of.bootstraps)
            .or(rows.map(|of| &of.bootstraps));
        // What an upstream answered is told with the upstream, and not twice.
        let told = |why: &String| {
            let mut upstreams = self.follower.iter().flat_map(|of| &of.upstreams);
            upstreams.any(|of| {
                of.failures > 0 && matches!(&of.last_error, Some((_, error)) if error == why)
            })
        };
        let trouble = self.follower.and_then(|of| of.trouble.clone());
        let trouble = trouble.or_else(|| {
            plan.and_then(|of| of.trouble.clone())
                .filter(|why| !told(why))
        });
        let state = state(self.follower, summary);
        let words = |words: String| self.words(words);
        ReplicaReport {
            name: name.to_owned(),
            configured: self.settings.is_some(),
            upstreams: self.settings.map_or_else(Vec::new, |of| {
                of.upstreams.iter().map(ToString::to_string).collect()
            }),
            dataset: self.settings.map(|of| of.dataset.to_string()),
            protocol: self.settings.map(|of| match of.protocol {
                ReplicaProtocol::Highwater => "highwater",
                ReplicaProtocol::Seed => "seed",
            }),
            state: state.as_str(),
            holder: match self.follower.map_or(&Holder::Nobody, |of| &of.holder) {
                Holder::Here => Some(self.own.to_owned()),
                Holder::Other(other) => Some(other.clone()),
                Holder::Nobody => None,
            },
            history: history.into(),
            standing: copy.map(StandingBody::from).unwrap_or_default(),
            size: copy.map(SizeBody::from).unwrap_or_default(),
            upstream_head,
            lag_heads,
            lag_seconds: lag.as_secs_f64(),
            level_at: plan.map_or_else(|| rows.and_then(|of| of.level_at), |of| of.level_at),
            bytes_per_second: self.follower.map_or(0.0, |of| of.bytes_per_second),
            fetched_bytes: plan.map_or(0, |of| of.bytes),
            stale: stale.map(|(since, why)| StaleReport {
                since,
                why: words(why),
            }),
            bootstrap,
            bootstrap_wanted: plan
                .and_then(|of| of.bootstrap_wanted.clone())
                .map(|(at, why)| WantedReport {
                    at,
                    why: words(why),
                }),
            bootstraps: counts(bootstraps),
            outrun: plan.map_or_else(|| rows.map_or(0, |of| of.outrun), |of| of.outrun),
            audited: audited.map(|(at, differences)| AuditReport { at, differences }),
            auditing: plan
                .and_then(|of| of.auditing.clone())
                .map(|key| if self.is_shown { key } else { String::new() }),
            repairs: summary.map_or(0, |of| of.repairs),
            upstream_reports: self.follower.map_or_else(Vec::new, |of| {
                let reports = of.upstreams.iter().map(UpstreamReport::from);
                let told = reports.map(|report| UpstreamReport {
                    last_error: report.last_error.clone().map(words),
                    ..report
                });
                told.collect()
            }),
            trouble: trouble.map(words),
        }
    }

    /// Words that may quote entries, for those who may not see these.
    fn words(&self, words: String) -> String {
        if self.is_shown {
            words
        } else {
            without_contents(&words)
        }
    }
}

/// The upstream's head, how many heads the copy lacks, and for how long.
fn lag(
    plan: Option<&PlanView>,
    summary: Option<&ReplicaSummary>,
    is_heard: bool,
    now: Timestamp,
) -> (Option<Head>, u64, Duration) {
    if let Some(plan) = plan {
        // The rows that are shown beside it may be read later.
        let head = summary.and_then(|of| of.copy.as_ref()).map(|of| of.head);
        let lacks = |head: Head| plan.upstream_head.map_or(0, |of| of.saturating_sub(head));
        let heads = head.map_or(plan.lag_heads, |head| {
            u64::try_from(lacks(head)).map_or(0, |heads| heads.min(plan.lag_heads))
        });
        let upstream_head = plan
            .upstream_head
            .max(head.filter(|_| plan.upstream_head.is_some()));
        return (upstream_head, heads, plan.lag);
    }
    let Some(summary) = summary else {
        return (None, 0, Duration::ZERO);
    };
    let copy = summary.copy.as_ref();
    let heads = match (summary.upstream_head, copy) {
        (Some(theirs), Some(copy)) => u64::try_from(theirs.saturating_sub(copy.head)).unwrap_or(0),
        _ => 0,
    };
    let behind = heads > 0 || !is_heard || summary.standing.stale.is_some();
    let level_at = summary.standing.level_at.filter(|_| behind);
    let lag = level_at.map_or(Duration::ZERO, |at| now.since(at));
    (summary.upstream_head, heads, lag)
}

/// Of each reason, so that one that never was is told as 0.
fn counts(told: Option<&BTreeMap<BootstrapReason, u64>>) -> BTreeMap<&'static str, u64> {
    let count = |reason| {
        told.and_then(|told| told.get(&reason))
            .copied()
            .unwrap_or(0)
    };
    let reasons = BootstrapReason::ALL.into_iter();
    reasons
        .map(|reason| (reason.as_str(), count(reason)))
        .collect()
}

fn rows_bootstrap(bootstrap: &Bootstrap, now: Timestamp) -> BootstrapReport {
    let fetched: u64 = bootstrap.ranges.iter().map(|range| range.len).sum();
    let passed = now.since(bootstrap.begun_at);
    let left = bootstrap.len.saturating_sub(fetched);
    let ends_at = (fetched > 0 && !passed.is_zero()).then(|| {
        let millis = passed.as_millis().saturating_mul(u128::from(left)) / u128::from(fetched);
        now.plus(Duration::from_millis(
            u64::try_from(millis).unwrap_or(u64::MAX),
        ))
    });
    BootstrapReport {
        reason: bootstrap.reason.as_str(),
        begun_at: bootstrap.begun_at,
        fetched,
        len: bootstrap.len,
        ends_at,
        ranges: bootstrap.ranges.len(),
        ranges_done: bootstrap.ranges.iter().filter(|range| range.done).count(),
    }
}
