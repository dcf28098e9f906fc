//! Gauges of subscriptions and their events.

use super::Exposition;
use crate::http::subscriptions::SubscriptionReport;
use crate::time::Timestamp;

type Gauge = (
    &'static str,
    &'static str,
    fn(&SubscriptionReport, Timestamp) -> f64,
);

const GAUGES: [Gauge; 5] = [
    (
        "highwater_subscription_lag_blocks",
        "Blocks between what is done with and the highest one known.",
        |subscription, _| subscription.lag_blocks as f64,
    ),
    (
        "highwater_subscription_open_events",
        "Events that are recorded and not done with.",
        |subscription, _| subscription.open as f64,
    ),
    (
        "highwater_subscription_waiting_events",
        "Events whose relevance is waited for, of this server.",
        |subscription, _| subscription.waiting as f64,
    ),
    (
        "highwater_subscription_oldest_open_seconds",
        "How long ago the oldest open event was recorded; 0 when none is open.",
        |subscription, now| {
            let oldest = subscription.oldest_open_at;
            oldest.map_or(0.0, |at| now.since(at).as_secs_f64())
        },
    ),
    (
        "highwater_subscription_source_failures",
        "Times the source failed in a row, of this server.",
        |subscription, _| {
            let source = subscription.source_report.as_ref();
            source.map_or(0.0, |source| f64::from(source.failures))
        },
    ),
];

impl Exposition {
    /// Of configured subscriptions each.
    pub(super) fn subscriptions(&mut self, all: &[SubscriptionReport], now: Timestamp) {
        let all = || all.iter().filter(|subscription| subscription.configured);
        let states = "highwater_subscription_state";
        self.family(
            states,
            "gauge",
            "1 for the state that the subscription is in.",
        );
        for subscription in all() {
            for state in SubscriptionReport::STATES {
                let labels = [
                    ("subscription", subscription.name.as_str()),
                    ("state", state),
                ];
                self.sample(states, &labels, subscription.state == state);
            }
        }
        for (gauge, help, value) in GAUGES {
            self.family(gauge, "gauge", help);
            for subscription in all() {
                let labels = [("subscription", subscription.name.as_str())];
                self.sample(gauge, &labels, value(subscription, now));
            }
        }
    }
}
