//! Metrics: one recorder per process, rendered in Prometheus' text format.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Buckets of every `…_seconds` histogram, in seconds.
const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// Installs the recorder; later calls change nothing.
pub fn install_metrics() {
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS);
        let installed = builder.and_then(PrometheusBuilder::install_recorder);
        match installed {
            Ok(handle) => {
                describe();
                // Shown from the start, so that a rate can be taken.
                metrics::counter!("highwater_commit_failures_total").increment(0);
                metrics::counter!("highwater_commit_rows_total").increment(0);
                metrics::counter!("highwater_trace_spans_lost_total").increment(0);
                metrics::counter!("highwater_wrong_tokens_total").increment(0);
                Some(handle)
            }
            Err(error) => {
                tracing::error!(error = %error, "metrics are not recorded");
                None
            }
        }
    });
}

/// The metrics recorded so far.
pub fn render_metrics() -> String {
    match HANDLE.get() {
        Some(Some(handle)) => {
            metrics::counter!("highwater_log_lines_lost_total").absolute(super::file::lost_lines());
            handle.run_upkeep();
            handle.render()
        }
        _ => String::new(),
    }
}

fn describe() {
    use metrics::{describe_counter, describe_histogram};
    describe_counter!(
        "highwater_wrong_tokens_total",
        "Requests with a wrong token."
    );
    describe_counter!(
        "highwater_events_total",
        "Events by subscription and what became of them: recorded, known (they came before), skipped, relevant, irrelevant, processed, and failed, which are tries of handlers."
    );
    describe_counter!(
        "highwater_hook_refused_total",
        "Calls of hooks that were refused, by reason."
    );
    describe_counter!(
        "highwater_dataset_requests_total",
        "Requests for datasets and replicas by kind, name, what was asked, and outcome: ok, or the name of the problem."
    );
    describe_counter!(
        "highwater_dataset_sent_bytes_total",
        "Bytes of answers to followers by kind and name, before they are compressed."
    );
    describe_counter!(
        "highwater_dataset_modifications_total",
        "Modifications that were published, by dataset."
    );
    describe_counter!(
        "highwater_batches_settled_total",
        "Batches settled, by ledger and status."
    );
    describe_counter!(
        "highwater_batches_settled_by_events_total",
        "Batches settled by what a ledger's stream told, by ledger."
    );
    describe_counter!(
        "highwater_ledger_failures_total",
        "Failed requests to ledgers, by kind."
    );
    describe_counter!(
        "highwater_commit_rows_total",
        "Rows changed by the Updater."
    );
    describe_counter!(
        "highwater_commit_failures_total",
        "Commits that failed and were tried again."
    );
    describe_counter!(
        "highwater_state_save_failures_total",
        "Writes of a service's soft state that failed and were tried again."
    );
    describe_counter!(
        "highwater_log_lines_lost_total",
        "Lines that did not get into the log file."
    );
    describe_counter!(
        "highwater_trace_spans_lost_total",
        "Spans of traces that were not sent."
    );
    describe_histogram!("highwater_commit_seconds", "Time of one group commit.");
    describe_histogram!(
        "highwater_fetch_seconds",
        "Time of one piece of network work, by flow; of sites by job."
    );
    describe_counter!(
        "highwater_site_visits_total",
        "Visits of sites, by job and outcome (success, or the kind of failure)."
    );
    describe_histogram!(
        "highwater_site_lateness_seconds",
        "Time from when a site was due until its visit began, by job."
    );
}
