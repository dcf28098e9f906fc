//! What the status page tells of datasets and replicas; nothing where there are
//! none.

use super::format::{Tone, cut, span, thousands};
use super::job_status::Verdict;
use super::replica_card;
use crate::http::dataset_reports::DatasetReport;
use crate::http::replica_report::ReplicaReport;
use crate::time::Timestamp;
use maud::{Markup, html};
use std::time::Duration;

/// Most sentences told of replicas in the headline.
const MOST_REASONS: usize = 3;

/// The sentence on top where replicas are configured; what is worst is said.
fn verdict(all: &[ReplicaReport]) -> Option<Verdict> {
    let configured = || all.iter().filter(|report| report.configured);
    let total = configured().count();
    if total == 0 {
        return None;
    }
    let noun = if total == 1 { "replica" } else { "replicas" };
    let count = |state: &str| configured().filter(|of| of.state == state).count();
    let told = |count: usize, word: &str| {
        let verb = if count == 1 { "is" } else { "are" };
        format!("{count} of {total} {noun} {verb} {word}")
    };
    let stuck = configured().filter(|of| of.trouble.is_some()).count();
    let (failing, stale, first) = (count("failing"), count("stale"), count("bootstrapping"));
    Some(if failing > 0 {
        (Tone::Bad, "▲", told(failing, "failing"))
    } else if stuck > 0 {
        (Tone::Bad, "▲", told(stuck, "held up"))
    } else if stale > 0 {
        (Tone::Warn, "◐", told(stale, "stale"))
    } else if first > 0 {
        (Tone::Quiet, "◐", told(first, "bootstrapping"))
    } else if count("live") > 0 {
        (Tone::Good, "●", "All replicas are live".to_owned())
    } else {
        (Tone::Quiet, "◇", "No replica is followed here".to_owned())
    })
}

/// The sentence on top, of what is told of all else and of replicas: the worse
/// one; that of all else where both are as bad, unless there is nothing else.
pub(super) fn worse(told: Verdict, all: &[ReplicaReport], alone: bool) -> Verdict {
    let rank = |tone| match tone {
        Tone::Bad => 2,
        Tone::Warn => 1,
        Tone::Good | Tone::Quiet => 0,
    };
    match verdict(all) {
        Some(of_replicas) if rank(of_replicas.0) > rank(told.0) => of_replicas,
        Some(of_replicas) if alone && rank(told.0) == 0 => of_replicas,
        _ => told,
    }
}

/// Sums over the configured replicas.
pub(super) fn totals(all: &[ReplicaReport]) -> Markup {
    let configured = || all.iter().filter(|report| report.configured);
    let live = configured().filter(|of| of.state == "live").count();
    let entries: u64 = configured().filter_map(|of| of.standing.len).sum();
    let heads = configured().map(|of| of.lag_heads).max().unwrap_or(0);
    let behind = configured().map(|of| of.lag_seconds).fold(0.0, f64::max);
    html! {
        @if configured().next().is_some() {
            dl.totals {
                div { dt { "Replicas live" } dd { (thousands(live)) " of " (thousands(configured().count())) } }
                div { dt { "Entries in replicas" } dd { (thousands(entries)) } }
                div { dt { "Heads behind, at most" } dd { (thousands(heads)) } }
                div { dt { "Behind for, at most" } dd {
                    @if behind > 0.0 { (span(Duration::from_secs_f64(behind))) } @else { span.none { "–" } }
                } }
            }
        }
    }
}

/// What is wrong with replicas, of the first few.
pub(super) fn reasons(all: &[ReplicaReport]) -> Markup {
    let warnings: Vec<String> = all
        .iter()
        .filter(|report| report.configured)
        .flat_map(ReplicaReport::warnings)
        .collect();
    html! {
        @for warning in warnings.iter().take(MOST_REASONS) { p.words { (cut(warning, 300)) } }
        @if warnings.len() > MOST_REASONS { p.note { "and " (thousands(warnings.len() - MOST_REASONS)) " more" } }
    }
}

/// The cards.
pub(super) fn section(
    replicas: &[ReplicaReport],
    datasets: &[DatasetReport],
    now: Timestamp,
) -> Markup {
    html! {
        @if !replicas.is_empty() || !datasets.is_empty() {
            h2 { "Replicas" }
            div.ledgers {
                @for report in replicas { (replica_card::replica(report, now)) }
                @for report in datasets { (replica_card::dataset(report, now)) }
            }
        }
    }
}
