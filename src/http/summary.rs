//! Counts from the database, cached: the queries read whole indexes, and any
//! number of viewers looks at them every two seconds.

use super::single_flight::{Given, SingleFlight, Spacing};
use super::state::Http;
use crate::config::Settings;
use crate::flows::batches::Status;
use crate::ledgers::LedgerKind;
use crate::store::{LedgerSummary, ServiceCount, ServiceSummary, Store, StoreError};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Services shown, by outstanding batches.
pub(super) const TOP_SERVICES: usize = 50;

/// Splinter keeps the statuses of a service's newest batches only, in memory:
/// with more than these outstanding, the oldest may be forgotten before they
/// are asked for.
pub(super) const SPLINTER_MEMORY: i64 = 100;

/// Most services named as at risk; the others are counted.
const MOST_AT_RISK: i64 = 50;

/// Most ledgers shown that are not configured; anyone who may insert rows can
/// make names.
const MOST_OTHERS: usize = 50;

/// How long a viewer waits for figures.
const PATIENCE: Duration = Duration::from_secs(3);

const SPACING: Spacing = Spacing {
    at_least: Duration::from_secs(2),
    times_taken: 10,
};

/// What the database says of all batches.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    /// Per ledger, by name; also of ledgers that are no longer configured, of
    /// which those with the most outstanding batches.
    pub(super) ledgers: Vec<LedgerSummary>,
    /// Ledgers that are not configured and not among them.
    pub(super) more_ledgers: MoreLedgers,
    /// Services with the most outstanding batches.
    pub(super) services: Vec<ServiceSummary>,
    /// Services of Splinter ledgers with more than [`SPLINTER_MEMORY`]
    /// outstanding batches, most first.
    pub(super) at_risk: Vec<ServiceCount>,
    /// How many there are of these.
    pub(super) at_risk_total: usize,
    /// When these figures were read; `None` when they never were.
    pub(super) read_at: Option<Timestamp>,
    /// Why newer figures could not be read.
    pub(super) problem: Option<String>,
}

/// What is left out of the list of ledgers, summed.
#[derive(Clone, Debug, Default)]
pub(super) struct MoreLedgers {
    /// How many ledgers.
    pub(super) ledgers: usize,
    /// Their batches by status.
    pub(super) counts: BTreeMap<String, i64>,
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
    let settings = http.settings();
    let given = http
        .summary
        .get(&http.runtime, patience, move || {
            refresh(store, settings, before)
        })
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

async fn refresh(store: Store, settings: Arc<Settings>, before: Option<Arc<Summary>>) -> Summary {
    match read(&store, &settings).await {
        Ok(summary) => summary,
        Err(error) => {
            tracing::warn!(error = %error, "the figures of the status page could not be read");
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

async fn read(store: &Store, settings: &Settings) -> Result<Summary, StoreError> {
    let now = Timestamp::now();
    let names = |kinds: &[LedgerKind]| -> Vec<String> {
        let ledgers = settings.ledgers.iter();
        let wanted = ledgers.filter(|ledger| kinds.contains(&ledger.kind));
        wanted.map(|ledger| ledger.name.clone()).collect()
    };
    let configured = names(&[LedgerKind::Sawtooth, LedgerKind::Splinter]);
    let found = store.summarize_ledgers(&configured, now).await?;
    let (ledgers, more_ledgers) = shorten(found, &configured);
    let (at_risk, at_risk_total) = store
        .services_above(
            &names(&[LedgerKind::Splinter]),
            SPLINTER_MEMORY,
            MOST_AT_RISK,
        )
        .await?;
    Ok(Summary {
        ledgers,
        more_ledgers,
        services: store
            .summarize_services(None, i64::try_from(TOP_SERVICES).unwrap_or(i64::MAX))
            .await?,
        at_risk,
        at_risk_total,
        read_at: Some(now),
        problem: None,
    })
}

/// Leaves out ledgers that are not configured, from [`MOST_OTHERS`] on, those
/// with the fewest outstanding batches.
fn shorten(found: Vec<LedgerSummary>, configured: &[String]) -> (Vec<LedgerSummary>, MoreLedgers) {
    let known: BTreeSet<&str> = configured.iter().map(String::as_str).collect();
    let (mut ledgers, mut others): (Vec<LedgerSummary>, Vec<LedgerSummary>) = found
        .into_iter()
        .partition(|summary| known.contains(summary.ledger.as_str()));
    let outstanding = |summary: &LedgerSummary| -> i64 {
        let words = [Status::Pending, Status::Valid].map(Status::as_str);
        words
            .iter()
            .filter_map(|word| summary.counts.get(*word))
            .sum()
    };
    others.sort_by_cached_key(|summary| std::cmp::Reverse(outstanding(summary)));
    let mut more = MoreLedgers::default();
    for left_out in others.drain(MOST_OTHERS.min(others.len())..) {
        more.ledgers += 1;
        for (word, count) in left_out.counts {
            *more.counts.entry(word).or_default() += count;
        }
    }
    ledgers.append(&mut others);
    ledgers.sort_by(|a, b| a.ledger.cmp(&b.ledger));
    (ledgers, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_made_by_inserting_are_bounded() {
        let found = (0..200).map(|n| LedgerSummary {
            ledger: format!("l{n:03}"),
            counts: [("pending".to_owned(), n), ("lost".to_owned(), 1)].into(),
            due: 0,
            oldest_due_at: None,
        });
        let (ledgers, more) = shorten(found.collect(), &["l000".to_owned()]);
        assert_eq!(ledgers.len(), 51);
        assert_eq!((&*ledgers[0].ledger, &*ledgers[1].ledger), ("l000", "l150"));
        assert_eq!(more.ledgers, 149);
        assert_eq!(more.counts["lost"], 149);
        assert_eq!(more.counts["pending"], (1..150).sum::<i64>());
    }
}
