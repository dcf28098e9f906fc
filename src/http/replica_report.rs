//! What API, pages, metrics and probes tell of one replica.

use super::dataset_reports::{HistoryBody, SizeBody, StandingBody};
use crate::flows::replicas::{BootstrapView, Epoch, Head, ReplicaState, UpstreamView};
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

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
    /// Last key that an audit under way compared, empty at its beginning and where
    /// entries take a token of their own; null while none is.
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
                Some(of) => format!("a new bootstrap has {} of {} entries", of.fetched, of.len),
                None => "a new bootstrap begins by itself".to_owned(),
            };
            warnings.push(format!(
                "replica {name} is stale since {since}: {why}; its copy stays readable, and {then}"
            ));
        }
        if self.state == ReplicaState::Failing.as_str() {
            let why = self
                .failing()
                .next()
                .and_then(|of| of.last_error.as_deref());
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
