//! What the database says of datasets and replicas, cached: any number of viewers
//! looks at them every two seconds.

use super::single_flight::{Given, SingleFlight, Spacing};
use super::state::Http;
use crate::store::{ContentSummary, ReplicaSummary, Store, StoreError};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// How long a viewer waits for figures.
const PATIENCE: Duration = Duration::from_secs(3);

const SPACING: Spacing = Spacing {
    at_least: Duration::from_millis(500),
    times_taken: 10,
};

/// What the database says of all datasets and replicas.
#[derive(Clone, Debug, Default)]
pub(super) struct ReplicaFigures {
    /// By name; also those that are no longer configured.
    pub(super) datasets: Vec<ContentSummary>,
    /// By name; also those that are no longer configured.
    pub(super) replicas: Vec<ReplicaSummary>,
    /// When these figures were read; `None` when they never were.
    pub(super) read_at: Option<Timestamp>,
    /// Why newer figures could not be read.
    pub(super) problem: Option<String>,
}

/// An empty cache.
pub(super) fn cache() -> Arc<SingleFlight<ReplicaFigures>> {
    SingleFlight::new(SPACING)
}

/// The figures: fresh where the database answers, else the last ones with the
/// problem.
pub(super) async fn replica_figures(http: &Http) -> Arc<ReplicaFigures> {
    replica_figures_within(http, PATIENCE).await
}

/// As [`replica_figures`], by another patience.
pub(super) async fn replica_figures_within(http: &Http, patience: Duration) -> Arc<ReplicaFigures> {
    let store = http.state.store.clone();
    let before = http.replica_figures.newest();
    let read = move || refresh(store, before);
    let given = http.replica_figures.get(&http.runtime, patience, read);
    match given.await {
        Given::Fresh(figures) => figures,
        Given::Stale(last) => {
            let mut figures = last.as_deref().cloned().unwrap_or_default();
            figures.problem.get_or_insert_with(|| {
                format!("the database took longer than {} s", patience.as_secs())
            });
            Arc::new(figures)
        }
    }
}

async fn refresh(store: Store, before: Option<Arc<ReplicaFigures>>) -> ReplicaFigures {
    let read = async {
        let datasets = store.dataset_summaries().await?;
        Ok((datasets, store.replica_summaries().await?))
    };
    let read: Result<_, StoreError> = read.await;
    match read {
        Ok((datasets, replicas)) => ReplicaFigures {
            datasets,
            replicas,
            read_at: Some(Timestamp::now()),
            problem: None,
        },
        Err(error) => {
            tracing::warn!(error = %error, "the figures of datasets and replicas could not be read");
            let problem = if error.is_transient() {
                "the database is out of reach"
            } else {
                "the database refused a statement; the log says which and why"
            };
            ReplicaFigures {
                problem: Some(problem.to_owned()),
                ..before.as_deref().cloned().unwrap_or_default()
            }
        }
    }
}
