//! Datasets as API, pages and metrics show them: what is configured, and what the
//! database says. And what replicas' copies have in common with them.

use super::replica_figures::ReplicaFigures;
use crate::config::{DatasetSettings, HistorySettings, Settings};
use crate::flows::replicas::{Epoch, Head, Info};
use crate::store::ContentSummary;
use crate::time::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// How much history is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct HistoryBody {
    /// Modifications at most.
    pub changes: u64,
    /// Bytes of their keys and values at most.
    pub bytes: u64,
    /// Age at most, in seconds.
    pub age_seconds: u64,
}

/// How a content stands; all is null before there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct StandingBody {
    /// Which history its heads are of.
    #[schema(value_type = Option<String>)]
    pub epoch: Option<Epoch>,
    /// Its version.
    pub head: Option<Head>,
    /// Entries.
    pub len: Option<u64>,
    /// Lowest head from which a diff can be had.
    pub oldest_head: Option<Head>,
}

/// How large a content and its history are; as of some seconds ago at most, and
/// null before there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct SizeBody {
    /// Bytes of keys and values of all entries.
    pub bytes: Option<u64>,
    /// Modifications in its history.
    pub history_changes: Option<u64>,
    /// Bytes of their keys and values.
    pub history_bytes: Option<u64>,
    /// When the oldest of them was published; null: there is no history.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub history_since: Option<Timestamp>,
    /// When it was created.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// When it changed last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub changed_at: Option<Timestamp>,
}

/// A dataset, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct DatasetReport {
    /// Its name.
    pub name: String,
    /// Whether it is in the configuration; one that is not is kept and not served.
    pub configured: bool,
    /// The table that is published; null where modifications are sent in.
    pub source: Option<&'static str>,
    /// Whether reading its entries takes a token of its own.
    pub protected: bool,
    /// Where it is served with the seed's own wire.
    pub seed_listen: Option<String>,
    /// History that is kept.
    pub history: HistoryBody,
    /// How it stands.
    #[serde(flatten)]
    pub standing: StandingBody,
    /// How large it is.
    #[serde(flatten)]
    pub size: SizeBody,
}

/// A bound of history, and how much of it is used.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fill {
    /// What is bounded: `changes`, `bytes`, `age`.
    pub(super) what: &'static str,
    /// What there is: a count, bytes, or seconds.
    pub(super) used: u64,
    /// What there may be.
    pub(super) most: u64,
}

impl Fill {
    /// Between 0 and 1.
    pub(super) fn share(&self) -> f64 {
        if self.most == 0 {
            return if self.used == 0 { 0.0 } else { 1.0 };
        }
        (self.used as f64 / self.most as f64).min(1.0)
    }
}

/// How full a history is, by each of its bounds.
pub(super) fn fills(kept: &HistoryBody, size: &SizeBody, now: Timestamp) -> [Fill; 3] {
    let age = size
        .history_since
        .map_or(Duration::ZERO, |at| now.since(at));
    [
        Fill {
            what: "changes",
            used: size.history_changes.unwrap_or(0),
            most: kept.changes,
        },
        Fill {
            what: "bytes",
            used: size.history_bytes.unwrap_or(0),
            most: kept.bytes,
        },
        Fill {
            what: "age",
            used: age.as_secs(),
            most: kept.age_seconds,
        },
    ]
}

/// All datasets by these figures: configured ones in the configuration's order,
/// then those that are only in the database.
pub(super) fn gather_datasets(settings: &Settings, figures: &ReplicaFigures) -> Vec<DatasetReport> {
    let found = |name: &str| figures.datasets.iter().find(|of| of.name == name);
    let configured = settings.datasets.iter();
    let configured = configured.map(|dataset| {
        report(
            dataset.name.as_str(),
            Some(dataset),
            found(dataset.name.as_str()),
        )
    });
    let known = |name: &str| settings.datasets.iter().any(|of| of.name.as_str() == name);
    let others = figures.datasets.iter().filter(|of| !known(&of.name));
    let others = others.map(|summary| report(&summary.name, None, Some(summary)));
    configured.chain(others).collect()
}

fn report(
    name: &str,
    settings: Option<&DatasetSettings>,
    summary: Option<&ContentSummary>,
) -> DatasetReport {
    let history = settings.map_or_else(HistorySettings::default, |of| of.history.clone());
    DatasetReport {
        name: name.to_owned(),
        configured: settings.is_some(),
        source: settings
            .and_then(|of| of.source)
            .map(|source| source.as_str()),
        protected: settings.is_some_and(|of| of.token.is_some()),
        seed_listen: settings
            .and_then(|of| of.seed_listen)
            .map(|at| at.to_string()),
        history: history.into(),
        standing: summary.map(StandingBody::from).unwrap_or_default(),
        size: summary.map(SizeBody::from).unwrap_or_default(),
    }
}

impl From<Info> for StandingBody {
    fn from(info: Info) -> Self {
        Self {
            epoch: Some(info.epoch),
            head: Some(info.head),
            len: Some(info.len),
            oldest_head: Some(info.oldest_head),
        }
    }
}

impl From<&ContentSummary> for StandingBody {
    fn from(summary: &ContentSummary) -> Self {
        Self {
            epoch: Some(summary.epoch.clone()),
            head: Some(summary.head),
            len: Some(summary.len),
            oldest_head: Some(summary.oldest_head),
        }
    }
}

impl From<&ContentSummary> for SizeBody {
    fn from(summary: &ContentSummary) -> Self {
        Self {
            bytes: Some(summary.bytes),
            history_changes: Some(summary.history_changes),
            history_bytes: Some(summary.history_bytes),
            history_since: summary.history_since,
            created_at: Some(summary.created_at),
            changed_at: Some(summary.changed_at),
        }
    }
}

impl From<HistorySettings> for HistoryBody {
    fn from(history: HistorySettings) -> Self {
        Self {
            changes: history.changes,
            bytes: history.bytes,
            age_seconds: history.age.as_secs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_as_full_as_its_bounds_say() {
        let now = Timestamp::from_millis(100_000);
        let kept = HistoryBody {
            changes: 10,
            bytes: 0,
            age_seconds: 50,
        };
        let size = SizeBody {
            history_changes: Some(5),
            history_bytes: Some(1),
            history_since: Some(now.minus(Duration::from_secs(60))),
            ..SizeBody::default()
        };
        let shares = fills(&kept, &size, now).map(|fill| fill.share());
        assert_eq!(shares, [0.5, 1.0, 1.0]);
        let none = fills(&kept, &SizeBody::default(), now).map(|fill| fill.share());
        assert_eq!(none, [0.0, 0.0, 0.0]);
    }
}
