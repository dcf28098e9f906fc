//! Counts from the database, cached: the queries read whole indexes, and any
//! number of viewers looks at them every two seconds.

use super::single_flight::{Given, SingleFlight, Spacing};
use super::state::Http;
use crate::store::{LedgerSummary, ServiceSummary, Store, StoreError};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Services shown, by outstanding batches.
pub(super) const TOP_SERVICES: usize = 50;

/// Splinter keeps the statuses of a service's newest batches only, in memory:
/// with more than these outstanding, the oldest may be forgotten before they
/// are asked for.
pub(super) const SPLINTER_MEMORY: i64 = 100;

/// How long a viewer waits for figures.
const PATIENCE: Duration = Duration::from_secs(3);

const SPACING: Spacing = Spacing {
    at_least: Duration::from_secs(2),
    times_taken: 10,
};

/// What the database says of all batches.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    /// Per ledger, by name; also of ledgers that are no longer configured.
    pub(super) ledgers: Vec<LedgerSummary>,
    /// Services with the most outstanding batches.
    pub(super) services: Vec<ServiceSummary>,
    /// When these figures were read; `None` when they never were.
    pub(super) read_at: Option<Timestamp>,
    /// Why newer figures could not be read.
    pub(super) problem: Option<String>,
}

/// An empty cache.
pub(super) fn cache() -> Arc<SingleFlight<Summary>> {
    SingleFlight::new(SPACING)
}

/// The figures: fresh where the database answers, else the last ones with the problem.
pub(super) async fn summary(http: &Http) -> Arc<Summary> {
    summary_within(http, PATIENCE).await
}

/// As [`summary`], by another patience.
pub(super) async fn summary_within(http: &Http, patience: Duration) -> Arc<Summary> {
    let store = http.state.store.clone();
    let before = http.summary.newest();
    let given = http
        .summary
        .get(&http.runtime, patience, move || refresh(store, before))
        .await;
    match given {
        Given::Fresh(summary) => summary,
        Given::Stale(last) => {
            let mut summary = last.as_deref().cloned().unwrap_or_default();
            summary.problem.get_or_insert_with(|| {
                format!("the database took longer than {} s", patience.as_secs())
            });
            Arc::new(summary)
        }
    }
}

async fn refresh(store: Store, before: Option<Arc<Summary>>) -> Summary {
    match read(&store).await {
        Ok(summary) => summary,
        Err(error) => {
            tracing::warn!(%error, "the figures of the status page could not be read");
            let problem = if error.is_transient() {
                "the database is out of reach"
            } else {
                "the database refused a statement; the log says which and why"
            };
            Summary {
                problem: Some(problem.to_owned()),
                ..before.as_deref().cloned().unwrap_or_default()
            }
        }
    }
}

async fn read(store: &Store) -> Result<Summary, StoreError> {
    let now = Timestamp::now();
    Ok(Summary {
        ledgers: store.summarize_ledgers(now).await?,
        services: store
            .summarize_services(None, i64::try_from(TOP_SERVICES).unwrap_or(i64::MAX))
            .await?,
        read_at: Some(now),
        problem: None,
    })
}
