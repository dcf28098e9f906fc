//! Replicas as API, pages, metrics and probes show them: what is configured, what
//! the Followers of this server say, and what the database says.

use super::dataset_reports::{HistoryBody, SizeBody, StandingBody};
use super::replica_figures::ReplicaFigures;
use super::state::Http;
use crate::config::{HistorySettings, ReplicaProtocol, ReplicaSettings};
use crate::flows::replicas::{
    Bootstrap, BootstrapReason, BootstrapView, DatasetName, Epoch, FollowerView, Head, Holder,
    PlanView, ReplicaState, UpstreamView,
};
use crate::store::ReplicaSummary;
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// A replica, and how it stands.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub(crate) struct ReplicaReport {
    /// Its name.
    pub name: String,
    /// Whether it is in the configuration; one that is not is kept and not followed.
    pub configured: bool,
    /// Where it comes from, the one to prefer first.
    pub upstreams: Vec<String>,
    /// Name of the dataset there; null when it is not in the configuration.
    pub dataset: Option<String>,
    /// What the upstreams speak: `highwater` or `seed`; null when it is not in the
    /// configuration.
    pub protocol: Option<&'static str>,
    /// `waiting`, `bootstrapping`, `live`, `stale` or `failing`.
    pub state: &'static str,
    /// The server that follows it; null where none is known of.
    pub holder: Option<String>,
    /// History that is kept.
    pub history: HistoryBody,
    /// How the copy stands.
    #[serde(flatten)]
    pub standing: StandingBody,
    /// How large the copy is.
    #[serde(flatten)]
    pub size: SizeBody,
    /// Highest head that an upstream told of.
    pub upstream_head: Option<Head>,
    /// Heads that the copy lacks.
    pub lag_heads: u64,
    /// How long ago it had all, where it lacks something; else 0.
    pub lag_seconds: f64,
    /// When it last had all.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub level_at: Option<Timestamp>,
    /// Bytes of keys and values fetched a second, of late; only where it is
    /// followed here.
    pub bytes_per_second: f64,
    /// Bytes of keys and values fetched by this server since it follows.
    pub fetched_bytes: u64,
    /// Since when it cannot be brought up to date, and why; null when it can.
    pub stale: Option<StaleReport>,
    /// The bootstrap under way; null when there is none.
    pub bootstrap: Option<BootstrapReport>,
    /// When the next bootstrap begins at the earliest, and why; null when none is
    /// to begin.
    pub bootstrap_wanted: Option<WantedReport>,
    /// Bootstraps by reason.
    pub bootstraps: BTreeMap<&'static str, u64>,
    /// Bootstraps in a row that the upstream's history was too short for.
    pub outrun: u32,
    /// The last audit; null before the first.
    pub audited: Option<AuditReport>,
    /// Last key that an audit under way compared; null while none is.
    pub auditing: Option<String>,
    /// Ranges that were put right.
    pub repairs: u64,
    /// How its upstreams stand; only where it is followed here.
    pub upstream_reports: Vec<UpstreamReport>,
    /// Why nothing can be done at present; null when something can.
    pub trouble: Option<String>,
}

/// Why a copy cannot be brought up to date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct StaleReport {
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Why.
    pub why: String,
}

/// A bootstrap that is to begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct WantedReport {
    /// When, at the earliest.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Why.
    pub why: String,
}

/// A bootstrap under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct BootstrapReport {
    /// Why: `initial`, `stale-head`, `epoch`, `went-back` or `ordered`.
    pub reason: &'static str,
    /// When it was begun.
    #[schema(value_type = String, format = DateTime)]
    pub begun_at: Timestamp,
    /// Entries fetched.
    pub fetched: u64,
    /// Entries that the upstream had when it began.
    pub len: u64,
    /// When it ends, at the present pace; null while that is not known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends_at: Option<Timestamp>,
    /// Ranges that are fetched side by side.
    pub ranges: usize,
    /// Those of them that lack nothing.
    pub ranges_done: usize,
}

/// An audit that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct AuditReport {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Ranges that differed, and were put right.
    pub differences: u64,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct UpstreamReport {
    /// Its address, without secrets.
    pub place: String,
    /// Its epoch, as it told last.
    #[schema(value_type = Option<String>)]
    pub epoch: Option<Epoch>,
    /// Its head, as it told last.
    pub head: Option<Head>,
    /// When it told that.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub heard_at: Option<Timestamp>,
    /// Failures in a row.
    pub failures: u32,
    /// Its last failure; null when it never failed.
    pub last_error: Option<String>,
    /// When that was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failed_at: Option<Timestamp>,
    /// It is left alone until then.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paused_until: Option<Timestamp>,
}

impl BootstrapReport {
    /// How much of it is done, between 0 and 1.
    pub(super) fn share(&self) -> f64 {
        if self.len == 0 {
            return 0.0;
        }
        (self.fetched as f64 / self.len as f64).min(1.0)
    }
}

impl ReplicaReport {
    /// Upstreams that failed last.
    pub(super) fn failing(&self) -> impl Iterator<Item = &UpstreamReport> {
        self.upstream_reports.iter().filter(|of| of.failures > 0)
    }

    /// What a person should look at, and what to do.
    pub(super) fn warnings(&self) -> Vec<String> {
        let name = &self.name;
        let mut warnings = Vec::new();
        if let Some(stale) = &self.stale {
            let (since, why) = (stale.since, &stale.why);
            let then = match &self.bootstrap {
                Some(of) => format!(
                    "a new bootstrap has {} of {} entries",
                    of.fetched, of.len
                ),
                None => "a new bootstrap begins by itself".to_owned(),
            };
            warnings.push(format!(
                "replica {name} is stale since {since}: {why}; its copy stays readable, and {then}"
            ));
        }
        if self.state == ReplicaState::Failing.as_str() {
            let why = self.failing().next().and_then(|of| of.last_error.as_deref());
            let why = why.unwrap_or("no error was kept");
            warnings.push(format!(
                "no upstream of replica {name} answers, and it is tried again by itself: {why}"
            ));
        }
        if self.outrun > 0 {
            warnings.push(format!("replica {name}: {}", self.outrun_advice()));
        }
        if let Some(trouble) = &self.trouble {
            warnings.push(format!("replica {name} does not go on: {trouble}"));
        }
        warnings
    }

    /// What to do about bootstraps that come to nothing.
    pub(super) fn outrun_advice(&self) -> String {
        let (times, noun) = match self.outrun {
            1 => (1, "bootstrap"),
            many => (many, "bootstraps in a row"),
        };
        format!(
            "the upstream's history is shorter than our bootstrap takes ({times} {noun} came to nothing): make \
             history of the dataset longer there, or chunk of the replica larger"
        )
    }
}

/// All replicas by these figures: configured ones in the configuration's order,
/// then those that are only in the database.
pub(super) fn gather_replicas(http: &Http, figures: &ReplicaFigures) -> Vec<ReplicaReport> {
    let settings = http.settings();
    let view = http.replicas_view();
    let now = Timestamp::now();
    let found = |name: &str| figures.replicas.iter().find(|of| of.name == name);
    let told = |name: &DatasetName| {
        let word = (http.state.datasets.replica_state)(name)?;
        ReplicaState::ALL.into_iter().find(|of| of.as_str() == word)
    };
    let own = &http.state.holder;
    let configured = settings.replicas.iter().map(|replica| {
        let name = &replica.name;
        let follower = view.replicas.get(name).map(|of| &**of);
        let known = Known {
            settings: Some(replica),
            follower,
            summary: found(name.as_str()),
            told: told(name),
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
            told: None,
            own,
        };
        known.report(&summary.name, now)
    });
    configured.chain(others).collect()
}

/// What is known of a replica.
struct Known<'a> {
    settings: Option<&'a ReplicaSettings>,
    follower: Option<&'a FollowerView>,
    summary: Option<&'a ReplicaSummary>,
    /// Its state, as whoever serves it says.
    told: Option<ReplicaState>,
    /// Name of this server.
    own: &'a str,
}

impl Known<'_> {
    fn report(&self, name: &str, now: Timestamp) -> ReplicaReport {
        let plan = self.follower.and_then(|of| of.plan.as_ref());
        let summary = self.summary;
        let rows = summary.map(|of| &of.standing);
        let copy = summary.and_then(|of| of.copy.as_ref());
        let history = self.settings.map_or_else(HistorySettings::default, |of| of.history.clone());
        let (upstream_head, lag_heads, lag) = lag(plan, summary, now);
        // Whoever follows it knows more than what was read of its rows.
        let bootstrap = match plan {
            Some(plan) => plan.bootstrap.as_ref().map(BootstrapReport::from),
            None => rows.and_then(|of| of.bootstrap.as_ref()).map(|of| rows_bootstrap(of, now)),
        };
        let stale = plan.map_or_else(|| rows.and_then(|of| of.stale.clone()), |of| of.stale.clone());
        let audited = plan.map_or_else(|| rows.and_then(|of| of.audited), |of| of.audited);
        let bootstraps = plan.map(|of| &of.bootstraps).or(rows.map(|of| &of.bootstraps));
        let trouble = self.follower.and_then(|of| of.trouble.clone());
        let state = match plan {
            Some(plan) => plan.state,
            None => self.told.unwrap_or(ReplicaState::Waiting),
        };
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
            stale: stale.map(|(since, why)| StaleReport { since, why }),
            bootstrap,
            bootstrap_wanted: plan.and_then(|of| of.bootstrap_wanted.clone()).map(|(at, why)| WantedReport { at, why }),
            bootstraps: counts(bootstraps),
            outrun: plan.map_or_else(|| rows.map_or(0, |of| of.outrun), |of| of.outrun),
            audited: audited.map(|(at, differences)| AuditReport { at, differences }),
            auditing: plan.and_then(|of| of.auditing.clone()),
            repairs: summary.map_or(0, |of| of.repairs),
            upstream_reports: self.follower.map_or_else(Vec::new, |of| {
                of.upstreams.iter().map(UpstreamReport::from).collect()
            }),
            trouble: trouble.or_else(|| plan.and_then(|of| of.trouble.clone())),
        }
    }
}

/// The upstream's head, how many heads the copy lacks, and for how long.
fn lag(
    plan: Option<&PlanView>,
    summary: Option<&ReplicaSummary>,
    now: Timestamp,
) -> (Option<Head>, u64, Duration) {
    if let Some(plan) = plan {
        return (plan.upstream_head, plan.lag_heads, plan.lag);
    }
    let Some(summary) = summary else {
        return (None, 0, Duration::ZERO);
    };
    let copy = summary.copy.as_ref();
    let heads = match (summary.upstream_head, copy) {
        (Some(theirs), Some(copy)) => {
            u64::try_from(theirs.saturating_sub(copy.head)).unwrap_or(0)
        }
        _ => 0,
    };
    let behind = heads > 0 || summary.standing.stale.is_some();
    let level_at = summary.standing.level_at.filter(|_| behind);
    let lag = level_at.map_or(Duration::ZERO, |at| now.since(at));
    (summary.upstream_head, heads, lag)
}

/// Of each reason, so that one that never was is told as 0.
fn counts(told: Option<&BTreeMap<BootstrapReason, u64>>) -> BTreeMap<&'static str, u64> {
    let count = |reason| told.and_then(|told| told.get(&reason)).copied().unwrap_or(0);
    let reasons = BootstrapReason::ALL.into_iter();
    reasons.map(|reason| (reason.as_str(), count(reason))).collect()
}

fn rows_bootstrap(bootstrap: &Bootstrap, now: Timestamp) -> BootstrapReport {
    let fetched: u64 = bootstrap.ranges.iter().map(|range| range.len).sum();
    let passed = now.since(bootstrap.begun_at);
    let left = bootstrap.len.saturating_sub(fetched);
    let ends_at = (fetched > 0 && !passed.is_zero()).then(|| {
        let millis = passed.as_millis().saturating_mul(u128::from(left)) / u128::from(fetched);
        now.plus(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
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

impl From<&BootstrapView> for BootstrapReport {
    fn from(view: &BootstrapView) -> Self {
        Self {
            reason: view.reason.as_str(),
            begun_at: view.begun_at,
            fetched: view.fetched,
            len: view.len,
            ends_at: view.ends_at,
            ranges: view.ranges.len(),
            ranges_done: view.ranges.iter().filter(|range| range.done).count(),
        }
    }
}

impl From<&UpstreamView> for UpstreamReport {
    fn from(view: &UpstreamView) -> Self {
        let told = view.told.as_ref();
        Self {
            place: view.place.clone(),
            epoch: told.map(|(epoch, ..)| epoch.clone()),
            head: told.map(|(_, head, _)| *head),
            heard_at: told.map(|(.., at)| *at),
            failures: view.failures,
            last_error: view.last_error.as_ref().map(|(_, error)| error.clone()),
            failed_at: view.last_error.as_ref().map(|(at, _)| *at),
            paused_until: view.paused_until,
        }
    }
}
