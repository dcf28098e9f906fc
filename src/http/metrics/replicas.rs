//! Gauges and counters of datasets and replicas.

use super::Exposition;
use crate::flows::replicas::{BootstrapReason, ReplicaState};
use crate::http::dataset_reports::{DatasetReport, fills};
use crate::http::replica_report::{BootstrapReport, ReplicaReport};
use crate::http::state::Http;
use crate::time::Timestamp;

type OfDataset = (
    &'static str,
    &'static str,
    fn(&DatasetReport) -> Option<f64>,
);

const OF_DATASETS: [OfDataset; 6] = [
    (
        "highwater_dataset_head",
        "The dataset's version.",
        |dataset| dataset.standing.head.map(|head| head as f64),
    ),
    (
        "highwater_dataset_entries",
        "Entries of the dataset.",
        |dataset| dataset.standing.len.map(|len| len as f64),
    ),
    (
        "highwater_dataset_bytes",
        "Bytes of keys and values of all entries of the dataset.",
        |dataset| dataset.size.bytes.map(|bytes| bytes as f64),
    ),
    (
        "highwater_dataset_oldest_head",
        "Lowest head from which a diff can be had.",
        |dataset| dataset.standing.oldest_head.map(|head| head as f64),
    ),
    (
        "highwater_dataset_history_changes",
        "Modifications in the dataset's history.",
        |dataset| dataset.size.history_changes.map(|changes| changes as f64),
    ),
    (
        "highwater_dataset_history_bytes",
        "Bytes of keys and values of the dataset's history.",
        |dataset| dataset.size.history_bytes.map(|bytes| bytes as f64),
    ),
];

type OfReplica = (
    &'static str,
    &'static str,
    &'static str,
    fn(&ReplicaReport) -> Option<f64>,
);

const OF_REPLICAS: [OfReplica; 12] = [
    (
        "highwater_replica_head",
        "gauge",
        "The version of the replica's copy.",
        |replica| replica.standing.head.map(|head| head as f64),
    ),
    (
        "highwater_replica_lag_heads",
        "gauge",
        "Heads that the replica's copy lacks.",
        |replica| Some(replica.lag_heads as f64),
    ),
    (
        "highwater_replica_lag_seconds",
        "gauge",
        "How long ago the replica had all that its upstream has; 0 while it has.",
        |replica| Some(replica.lag_seconds),
    ),
    (
        "highwater_replica_entries",
        "gauge",
        "Entries of the replica's copy.",
        |replica| replica.standing.len.map(|len| len as f64),
    ),
    (
        "highwater_replica_bytes",
        "gauge",
        "Bytes of keys and values of all entries of the replica's copy.",
        |replica| replica.size.bytes.map(|bytes| bytes as f64),
    ),
    (
        "highwater_replica_history_changes",
        "gauge",
        "Modifications in the history that the replica keeps for its own followers.",
        |replica| replica.size.history_changes.map(|changes| changes as f64),
    ),
    (
        "highwater_replica_history_bytes",
        "gauge",
        "Bytes of keys and values of that history.",
        |replica| replica.size.history_bytes.map(|bytes| bytes as f64),
    ),
    (
        "highwater_replica_bootstrap_ratio",
        "gauge",
        "How much of the bootstrap under way is done, 0 to 1; absent while there is none.",
        |replica| replica.bootstrap.as_ref().map(BootstrapReport::share),
    ),
    (
        "highwater_replica_bootstraps_outrun",
        "gauge",
        "Bootstraps in a row that the upstream's history was too short for.",
        |replica| Some(f64::from(replica.outrun)),
    ),
    (
        "highwater_replica_failing_upstreams",
        "gauge",
        "Upstreams of the replica that failed last, as this server sees them.",
        |replica| Some(replica.failing().count() as f64),
    ),
    (
        "highwater_replica_repairs_total",
        "counter",
        "Ranges of the replica that differed from its upstream and were put right.",
        |replica| Some(replica.repairs as f64),
    ),
    (
        "highwater_replica_fetched_bytes_total",
        "counter",
        "Bytes of keys and values that this server fetched for the replica since it follows.",
        |replica| Some(replica.fetched_bytes as f64),
    ),
];

impl Exposition {
    /// Of configured datasets each; nothing where there are none.
    pub(super) fn datasets(&mut self, all: &[DatasetReport], now: Timestamp) {
        let configured = || all.iter().filter(|dataset| dataset.configured);
        if configured().next().is_none() {
            return;
        }
        for (gauge, help, value) in OF_DATASETS {
            self.family(gauge, "gauge", help);
            for dataset in configured() {
                if let Some(value) = value(dataset) {
                    self.sample(gauge, &[("dataset", &dataset.name)], value);
                }
            }
        }
        let age = "highwater_dataset_history_age_seconds";
        self.family(
            age,
            "gauge",
            "How long ago the oldest modification of the history was published; 0 when there is none.",
        );
        for dataset in configured() {
            let since = dataset.size.history_since;
            let seconds = since.map_or(0.0, |at| now.since(at).as_secs_f64());
            self.sample(age, &[("dataset", &dataset.name)], seconds);
        }
        let fill = "highwater_dataset_history_fill_ratio";
        self.family(
            fill,
            "gauge",
            "How much of the bound of the history is used, 0 to 1.",
        );
        for dataset in configured() {
            for bound in fills(&dataset.history, &dataset.size, now) {
                let labels = [("dataset", dataset.name.as_str()), ("bound", bound.what)];
                self.sample(fill, &labels, bound.share());
            }
        }
    }

    /// How many wait; nothing where there is nothing to wait for.
    pub(super) fn watchers(&mut self, http: &Http) {
        let settings = http.settings();
        if settings.datasets.is_empty() && settings.replicas.is_empty() {
            return;
        }
        let watchers = "highwater_dataset_watchers";
        self.family(
            watchers,
            "gauge",
            "Followers that wait at this server for a head to move.",
        );
        let waiting = http.state.datasets.heads.followers();
        self.sample(watchers, &[], waiting as f64);
    }

    /// Of configured replicas each; nothing where there are none.
    pub(super) fn replicas(&mut self, all: &[ReplicaReport]) {
        let configured = || all.iter().filter(|replica| replica.configured);
        if configured().next().is_none() {
            return;
        }
        let states = "highwater_replica_state";
        self.family(states, "gauge", "1 for the state that the replica is in.");
        for replica in configured() {
            for state in ReplicaState::ALL.map(ReplicaState::as_str) {
                let labels = [("replica", replica.name.as_str()), ("state", state)];
                self.sample(states, &labels, replica.state == state);
            }
        }
        for (name, kind, help, value) in OF_REPLICAS {
            self.family(name, kind, help);
            for replica in configured() {
                if let Some(value) = value(replica) {
                    self.sample(name, &[("replica", &replica.name)], value);
                }
            }
        }
        let bootstraps = "highwater_replica_bootstraps_total";
        self.family(
            bootstraps,
            "counter",
            "Bootstraps that were begun, by reason.",
        );
        for replica in configured() {
            for reason in BootstrapReason::ALL.map(BootstrapReason::as_str) {
                let count = replica.bootstraps.get(reason).copied().unwrap_or(0);
                let labels = [("replica", replica.name.as_str()), ("reason", reason)];
                self.sample(bootstraps, &labels, count);
            }
        }
    }
}
