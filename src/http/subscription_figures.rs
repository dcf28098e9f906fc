//! What the database says of subscriptions, cached: any number of viewers looks
//! at them every two seconds.

use super::single_flight::{Given, SingleFlight, Spacing};
use super::state::Http;
use crate::store::{EventCount, Store, StoreError, SubscriptionSummary};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a viewer waits for figures.
const PATIENCE: Duration = Duration::from_secs(3);

/// How far back events are counted by the hour.
pub(super) const COUNTED: Duration = Duration::from_secs(48 * 3600);

const SPACING: Spacing = Spacing {
    at_least: Duration::from_secs(1),
    times_taken: 10,
};

/// What the database says of all subscriptions.
#[derive(Clone, Debug, Default)]
pub(super) struct SubscriptionFigures {
    /// By name; also those that are no longer configured.
    pub(super) summaries: Vec<SubscriptionSummary>,
    /// Events by hour and decision, of the last [`COUNTED`]; by name.
    pub(super) counts: BTreeMap<String, Vec<EventCount>>,
    /// When these figures were read; `None` when they never were.
    pub(super) read_at: Option<Timestamp>,
    /// Why newer figures could not be read.
    pub(super) problem: Option<String>,
}

/// An empty cache.
pub(super) fn cache() -> Arc<SingleFlight<SubscriptionFigures>> {
    SingleFlight::new(SPACING)
}

/// The figures: fresh where the database answers, else the last ones with the
/// problem.
pub(super) async fn subscription_figures(http: &Http) -> Arc<SubscriptionFigures> {
    subscription_figures_within(http, PATIENCE).await
}

/// As [`subscription_figures`], by another patience.
pub(super) async fn subscription_figures_within(
    http: &Http,
    patience: Duration,
) -> Arc<SubscriptionFigures> {
    let store = http.state.store.clone();
    let before = http.subscriptions.newest();
    let read = move || refresh(store, before);
    match http.subscriptions.get(&http.runtime, patience, read).await {
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

async fn refresh(store: Store, before: Option<Arc<SubscriptionFigures>>) -> SubscriptionFigures {
    let since = Timestamp::now().minus(COUNTED);
    let read = async {
        let summaries = store.subscriptions_summary().await?;
        Ok((summaries, store.event_counts_of_all(since).await?))
    };
    let read: Result<_, StoreError> = read.await;
    match read {
        Ok((summaries, counts)) => SubscriptionFigures {
            summaries,
            counts,
            read_at: Some(Timestamp::now()),
            problem: None,
        },
        Err(error) => {
            tracing::warn!(error = %error, "the figures of subscriptions could not be read");
            let problem = if error.is_transient() {
                "the database is out of reach"
            } else {
                "the database refused a statement; the log says which and why"
            };
            SubscriptionFigures {
                problem: Some(problem.to_owned()),
                ..before.as_deref().cloned().unwrap_or_default()
            }
        }
    }
}
