//! Subscriptions as API, metrics and probes show them: what is configured, what
//! the Subscribers of this server say, and what the database says.

use super::state::Http;
use super::subscription_figures::SubscriptionFigures;
use super::subscription_orders;
use crate::config::{Settings, SourceSettings, SubscriptionSettings};
use crate::flows::events::{EventsView, Holder, SourceState, SubscriberView, SubscriptionState};
use crate::store::SubscriptionSummary;
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// A subscription, and how it stands.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub(crate) struct SubscriptionReport {
    /// Its name.
    pub name: String,
    /// Whether it is in the configuration; one that is not is kept and not run.
    pub configured: bool,
    /// Where its events come from: `gateway`, `ledger` or `hook`; null when it
    /// is not in the configuration.
    pub source: Option<&'static str>,
    /// `running`, `waiting`, `settling`, `paused` or `halted`; `elsewhere` where
    /// another server runs it, `not_run` where none does.
    pub state: &'static str,
    /// Who runs it; null where nobody is known to.
    pub holder: Option<String>,
    /// Events before this place, and the one there, are done with.
    pub position: Option<EventPlace>,
    /// Highest block of which an event is known.
    pub highest_block: Option<i64>,
    /// Blocks between the position and the highest one; 0 when nothing is open.
    pub lag_blocks: i64,
    /// Events that are not done with.
    pub open: i64,
    /// Events whose relevance is waited for; only where it is run here.
    pub waiting: usize,
    /// Events that are kept, by decision; `processed` are those of the relevant
    /// ones whose handler is done.
    pub counts: BTreeMap<String, i64>,
    /// When the oldest open event was recorded.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest_open_at: Option<Timestamp>,
    /// When the newest event was recorded.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_event_at: Option<Timestamp>,
    /// Events done with per second, over the last ten; only where it is run here.
    pub per_second: f64,
    /// On which event it is halted; null when it is not.
    pub halted: Option<HaltReport>,
    /// Why it is paused; null when it is not.
    pub paused: Option<PauseReport>,
    /// How its source stands; null where it has none, or is not run here.
    pub source_report: Option<SourceReport>,
    /// Why its rows cannot be read; null when they can.
    pub trouble: Option<String>,
}

/// Place of an event in the order of its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct EventPlace {
    /// Block.
    pub block: i64,
    /// Ordinal within the block, 0 where arrival decides.
    pub rank: i64,
    /// In the order of recording.
    pub arrival: i64,
}

/// Why a subscription is halted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct HaltReport {
    /// Arrival of the event.
    pub arrival: i64,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Why.
    pub error: String,
}

/// Why a subscription is paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct PauseReport {
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What the operator gave as reason.
    pub reason: String,
}

/// How a source stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct SourceReport {
    /// Its address, without secrets.
    pub place: String,
    /// `connecting`, `live`, `catching_up`; null while it does not run.
    pub state: Option<&'static str>,
    /// First block asked for.
    pub from_block: Option<i64>,
    /// Last block asked for, where a window bounds it.
    pub to_block: Option<i64>,
    /// Times it failed in a row.
    pub failures: u32,
    /// Why it ended last; null when it never failed.
    pub last_error: Option<String>,
    /// When that was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failed_at: Option<Timestamp>,
}

impl SubscriptionReport {
    /// All states there are, for metrics.
    pub(super) const STATES: [&'static str; 7] = [
        "running",
        "waiting",
        "settling",
        "paused",
        "halted",
        "elsewhere",
        "not_run",
    ];

    /// What a person should look at.
    pub(super) fn warnings(&self) -> Vec<String> {
        let name = &self.name;
        let mut warnings = Vec::new();
        if let Some(halted) = &self.halted {
            warnings.push(format!(
                "subscription {name} is halted on event {} since {}: {}: mend the cause and retry, or skip the event \
                 ({}; or POST /v1/subscriptions/{name}/retry or …/skip)",
                halted.arrival,
                halted.at,
                halted.error,
                subscription_orders::retry(name)
            ));
        }
        if let Some(paused) = &self.paused {
            warnings.push(format!(
                "subscription {name} is paused since {}: {}",
                paused.at, paused.reason
            ));
        }
        let source = self.source_report.as_ref();
        if let Some(source) = source.filter(|source| source.failures > 0) {
            let why = source.last_error.as_deref().unwrap_or("no error was kept");
            warnings.push(format!(
                "the source of subscription {name} failed {} times in a row: {why}",
                source.failures
            ));
        }
        if let Some(trouble) = &self.trouble {
            warnings.push(format!(
                "the rows of subscription {name} cannot be read: {trouble}"
            ));
        }
        warnings
    }
}

/// All subscriptions by these figures: configured ones in the configuration's
/// order, then those that are only in the database.
pub(super) fn gather_from(http: &Http, figures: &SubscriptionFigures) -> Vec<SubscriptionReport> {
    gather(
        &http.settings(),
        &http.events_view(),
        figures,
        &http.state.holder,
    )
}

fn gather(
    settings: &Settings,
    view: &EventsView,
    figures: &SubscriptionFigures,
    own: &str,
) -> Vec<SubscriptionReport> {
    let summary = |name: &str| figures.summaries.iter().find(|of| of.name == name);
    let configured = settings.subscriptions.iter().map(|subscription| {
        let subscriber = view.subscriptions.get(&subscription.name);
        let summary = summary(subscription.name.as_str()).cloned();
        let summary = summary.unwrap_or_else(|| SubscriptionSummary {
            name: subscription.name.to_string(),
            ..SubscriptionSummary::default()
        });
        report(
            summary,
            Some(subscription),
            subscriber.map(|view| &**view),
            own,
        )
    });
    let known = |name: &str| {
        let mut all = settings.subscriptions.iter();
        all.any(|subscription| subscription.name.as_str() == name)
    };
    let summaries = figures.summaries.iter();
    let others = summaries
        .filter(|summary| !known(&summary.name))
        .map(|summary| report(summary.clone(), None, None, own));
    configured.chain(others).collect()
}

fn report(
    summary: SubscriptionSummary,
    settings: Option<&SubscriptionSettings>,
    view: Option<&SubscriberView>,
    own: &str,
) -> SubscriptionReport {
    let plan = view.and_then(|view| view.plan.as_ref());
    let holder = view.map_or(&Holder::Nobody, |view| &view.holder);
    let checkpoint = summary.checkpoint;
    // Whoever runs it knows more than what was written.
    let (halted, paused) = match plan {
        Some(plan) => (plan.halted.clone(), plan.paused.clone()),
        None => (checkpoint.halted, checkpoint.paused),
    };
    let state = match (plan, holder) {
        (Some(plan), _) => plan.state.as_str(),
        (None, _) if paused.is_some() => SubscriptionState::Paused.as_str(),
        (None, _) if halted.is_some() => SubscriptionState::Halted.as_str(),
        (None, Holder::Other(_)) => "elsewhere",
        (None, _) => "not_run",
    };
    let position = plan.map_or(checkpoint.position, |plan| plan.position);
    let open = summary.open;
    let oldest = plan.and_then(|plan| plan.oldest_open);
    let passed = position
        .map(|place| place.block)
        .or_else(|| oldest.map(|(place, _)| place.block));
    let lag = checkpoint.highest_block.zip(passed).filter(|_| open > 0);
    SubscriptionReport {
        configured: settings.is_some(),
        source: settings.map(|settings| match settings.source {
            SourceSettings::Gateway(_) => "gateway",
            SourceSettings::Ledger(_) => "ledger",
            SourceSettings::Hook => "hook",
        }),
        state,
        holder: match holder {
            Holder::Here => Some(own.to_owned()),
            Holder::Other(other) => Some(other.clone()),
            Holder::Nobody => None,
        },
        position: position.map(|place| EventPlace {
            block: place.block,
            rank: place.rank,
            arrival: place.arrival,
        }),
        highest_block: checkpoint.highest_block,
        lag_blocks: lag.map_or(0, |(highest, passed)| highest.saturating_sub(passed).max(0)),
        open,
        waiting: plan.map_or(0, |plan| plan.waiting),
        counts: summary.counts,
        oldest_open_at: summary.oldest_open.map(|(_, at)| at),
        last_event_at: checkpoint.last_event_at,
        per_second: plan.map_or(0.0, |plan| plan.per_second),
        halted: halted.map(|(arrival, at, error)| HaltReport { arrival, at, error }),
        paused: paused.map(|(at, reason)| PauseReport { at, reason }),
        source_report: view.and_then(|view| view.source.as_ref()).map(|source| {
            let (word, from_block, to_block) = match &source.state {
                None => (None, None, None),
                Some(SourceState::Connecting) => (Some("connecting"), None, None),
                Some(SourceState::Live { from, to }) => (Some("live"), *from, *to),
                Some(SourceState::CatchingUp { .. }) => (Some("catching_up"), None, None),
            };
            let last = source.last_error.clone();
            SourceReport {
                place: source.place.clone(),
                state: word,
                from_block,
                to_block,
                failures: source.failures,
                failed_at: last.as_ref().map(|(at, _)| *at),
                last_error: last.map(|(_, error)| error),
            }
        }),
        trouble: view.and_then(|view| view.trouble.clone()),
        name: summary.name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::events::{Checkpoint, Place};
    use crate::http::testing::settings;

    #[test]
    fn a_subscription_that_only_the_database_knows_is_shown_with_its_halt() {
        let place = |block| Place {
            block,
            rank: 0,
            arrival: block,
        };
        let figures = SubscriptionFigures {
            summaries: vec![SubscriptionSummary {
                name: "claims".to_owned(),
                checkpoint: Checkpoint {
                    highest_block: Some(9),
                    position: Some(place(4)),
                    halted: Some((5, Timestamp::from_millis(0), "503".to_owned())),
                    ..Checkpoint::default()
                },
                open: 3,
                ..SubscriptionSummary::default()
            }],
            ..SubscriptionFigures::default()
        };
        let all = gather(&settings(), &EventsView::default(), &figures, "own");
        let [claims] = all.as_slice() else {
            panic!("{all:?}");
        };
        assert_eq!((claims.state, claims.lag_blocks), ("halted", 5));
        assert!(!claims.configured && claims.holder.is_none());
        let told = claims.warnings().concat();
        assert!(
            told.contains("claims is halted on event 5") && told.contains("503"),
            "{told}"
        );
    }
}
