//! `/metrics`: what the process counted, and gauges of what is going on now.
//!
//! Labels are of bounded sets only: configured ledgers (rows of all others are
//! summed as `other`), configured jobs (as ledgers), configured
//! subscriptions, datasets and replicas, statuses, the watchdog's services, owners of resources.

mod jobs;
mod replicas;
mod resources;
mod subscriptions;

use super::api::jobs::gather;
use super::dataset_reports::gather_datasets;
use super::health;
use super::overview::{LedgerReport, Overview};
use super::replica_figures::replica_figures;
use super::replicas::gather_replicas;
use super::state::Http;
use super::subscription_figures::subscription_figures;
use super::subscriptions::gather_from as gather_subscriptions;
use super::summary::summary;
use crate::flows::batches::{BreakerPosition, Status};
use crate::time::Timestamp;
use crate::watchdog::{IntercomStats, ServiceState, ServiceStatus, WatchdogStatus};
use actix_web::{HttpResponse, web};
use std::fmt::Write as _;

/// Label value of ledgers that are not configured.
const OTHER: &str = "other";

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, description = "Metrics in Prometheus' text format", body = String, content_type = "text/plain"),
))]
pub(super) async fn metrics(http: web::Data<Http>) -> HttpResponse {
    let mut text = (http.state.metrics)();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let figures = summary(&http).await;
    let overview = Overview::gather(&http.settings(), &http.view(), &figures);
    let ready = health::ready(&http).await.ready();
    let mut out = Exposition { text };
    out.ledgers(&overview, Timestamp::now());
    out.jobs(&gather(&http).await, Timestamp::now());
    let figures = subscription_figures(&http).await;
    let subscriptions = gather_subscriptions(&http, &figures);
    out.subscriptions(&subscriptions, Timestamp::now());
    let figures = replica_figures(&http).await;
    out.datasets(
        &gather_datasets(&http.settings(), &figures),
        Timestamp::now(),
    );
    out.replicas(&gather_replicas(&http, &figures));
    out.watchers(&http);
    out.watchdog(&(http.state.services)());
    out.resources(&(http.state.resources)());
    out.family("highwater_ready", "gauge", "Whether the server is ready.");
    out.sample("highwater_ready", &[], ready);
    out.family(
        "highwater_reload_failed",
        "gauge",
        "Whether the last reload changed nothing, its configuration being wrong.",
    );
    let failed = http.state.reload.borrow().problem.is_some();
    out.sample("highwater_reload_failed", &[], failed);
    out.family(
        "highwater_start_time_seconds",
        "gauge",
        "When the process started, in seconds since 1970.",
    );
    let started = http.state.started_at.millis() as f64 / 1000.0;
    out.sample("highwater_start_time_seconds", &[], started);
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .insert_header(("Cache-Control", "no-store"))
        .body(out.text)
}

/// A value of a sample.
trait Value {
    fn value(self) -> f64;
}
impl Value for f64 {
    fn value(self) -> f64 {
        self
    }
}
impl Value for bool {
    fn value(self) -> f64 {
        f64::from(u8::from(self))
    }
}
macro_rules! count_value {
    ($($kind:ty),*) => {$(impl Value for $kind {
        fn value(self) -> f64 {
            self as f64
        }
    })*};
}
count_value!(i64, u64, usize);

/// Text being written.
struct Exposition {
    text: String,
}

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.text
            .push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Value) {
        self.text.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            self.text.push_str(&format!("{open}{label}=\"{value}\""));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        // Writing to a string cannot fail.
        writeln!(self.text, " {}", value.value()).unwrap_or_default();
    }

    fn ledgers(&mut self, overview: &Overview, now: Timestamp) {
        let age = |at: Option<Timestamp>| at.map_or(0.0, |at| now.since(at).as_secs_f64());
        let (configured, others): (Vec<&LedgerReport>, Vec<&LedgerReport>) = overview
            .ledgers
            .iter()
            .partition(|ledger| ledger.configured);
        self.family(
            "highwater_batches",
            "gauge",
            "Batches in the database by ledger and status.",
        );
        for status in Status::ALL {
            let word = status.as_str();
            let count = |ledger: &LedgerReport| ledger.counts.get(word).copied().unwrap_or(0);
            for ledger in &configured {
                let labels = [("ledger", ledger.name.as_str()), ("status", word)];
                self.sample("highwater_batches", &labels, count(ledger));
            }
            if !others.is_empty() {
                let left_out = overview.more_ledgers.counts.get(word).copied().unwrap_or(0);
                let sum = left_out + others.iter().map(|ledger| count(ledger)).sum::<i64>();
                self.sample(
                    "highwater_batches",
                    &[("ledger", OTHER), ("status", word)],
                    sum,
                );
            }
        }
        self.per_ledger(
            &configured,
            "highwater_batches_due",
            "Outstanding batches that are due.",
            |ledger| Some(ledger.due as f64),
        );
        self.per_ledger(
            &configured,
            "highwater_batches_oldest_due_seconds",
            "How long the oldest due batch has been due; 0 when none is.",
            |ledger| Some(age(ledger.oldest_due_at)),
        );
        self.per_ledger(
            &configured,
            "highwater_ledger_held",
            "Whether this server holds the ledger's lease.",
            |ledger| Some(ledger.view.as_ref()?.held.value()),
        );
        self.per_ledger(
            &configured,
            "highwater_ledger_breaker_open",
            "Whether the ledger's breaker keeps requests back.",
            |ledger| Some((ledger.view.as_ref()?.breaker != BreakerPosition::Closed).value()),
        );
        self.per_ledger(
            &configured,
            "highwater_ledger_failing_services",
            "Services of the ledger that are backed off.",
            |ledger| Some(ledger.view.as_ref()?.failing_services_total.value()),
        );
        self.per_ledger(
            &configured,
            "highwater_ledger_in_flight",
            "Requests to the ledger open now.",
            |ledger| Some(ledger.view.as_ref()?.in_flight.value()),
        );
        self.per_ledger(
            &configured,
            "highwater_ledger_queued",
            "Batches that wait for a request to the ledger.",
            |ledger| Some(ledger.view.as_ref()?.queued.value()),
        );
    }

    fn per_ledger(
        &mut self,
        ledgers: &[&LedgerReport],
        name: &str,
        help: &str,
        value: impl Fn(&LedgerReport) -> Option<f64>,
    ) {
        self.family(name, "gauge", help);
        for ledger in ledgers {
            if let Some(value) = value(ledger) {
                self.sample(name, &[("ledger", &ledger.name)], value);
            }
        }
    }

    fn watchdog(&mut self, watchdog: &WatchdogStatus) {
        self.services(&watchdog.services);
        self.family(
            "highwater_lost_threads",
            "gauge",
            "Threads that a service blocks, and that were given up for lost.",
        );
        let lost = watchdog.lost_threads.len() as u64;
        self.sample("highwater_lost_threads", &[], lost);
        self.family(
            "highwater_recovered_threads_total",
            "counter",
            "Threads that were given up for lost and came back.",
        );
        let recovered = watchdog.recovered_threads;
        self.sample("highwater_recovered_threads_total", &[], recovered);
    }

    fn services(&mut self, services: &[ServiceStatus]) {
        self.family(
            "highwater_service_running",
            "gauge",
            "Whether progress of the service was seen.",
        );
        for service in services {
            let running = service.state == ServiceState::Running;
            self.sample(
                "highwater_service_running",
                &[("service", &service.name)],
                running,
            );
        }
        self.family(
            "highwater_service_restarts_total",
            "counter",
            "Restarts of the service by exit reason.",
        );
        for service in services {
            for (reason, count) in &service.restarts {
                self.sample(
                    "highwater_service_restarts_total",
                    &[("service", &service.name), ("reason", reason)],
                    *count,
                );
            }
        }
        for (name, kind, help, value) in INTERCOM {
            self.family(name, kind, help);
            for service in services {
                for intercom in &service.intercoms {
                    let labels = [
                        ("service", service.name.as_str()),
                        ("from", intercom.from.as_str()),
                        ("message", intercom.message.as_str()),
                    ];
                    self.sample(name, &labels, value(intercom));
                }
            }
        }
    }
}

type Intercom = (
    &'static str,
    &'static str,
    &'static str,
    fn(&IntercomStats) -> f64,
);

const INTERCOM: [Intercom; 8] = [
    (
        "highwater_intercom_open_handles",
        "gauge",
        "Handles open now.",
        |stats| stats.open_handles as f64,
    ),
    (
        "highwater_intercom_messages_total",
        "counter",
        "Messages handed over.",
        |stats| stats.messages as f64,
    ),
    (
        "highwater_intercom_failures_total",
        "counter",
        "Messages that found no mailbox, no room or no answer in time.",
        |stats| stats.failures as f64,
    ),
    (
        "highwater_intercom_in_flight",
        "gauge",
        "Messages sent and not yet handled.",
        |stats| stats.in_flight as f64,
    ),
    (
        "highwater_intercom_propagation_mean_seconds",
        "gauge",
        "Mean time from sending to handling.",
        |stats| stats.propagation_mean_seconds,
    ),
    (
        "highwater_intercom_propagation_stddev_seconds",
        "gauge",
        "Standard deviation of the time from sending to handling.",
        |stats| stats.propagation_stddev_seconds,
    ),
    (
        "highwater_intercom_propagation_p50_seconds",
        "gauge",
        "Median time from sending to handling.",
        |stats| stats.propagation_p50_seconds,
    ),
    (
        "highwater_intercom_propagation_p99_seconds",
        "gauge",
        "99th percentile of the time from sending to handling.",
        |stats| stats.propagation_p99_seconds,
    ),
];
