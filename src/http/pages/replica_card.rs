//! Cards of datasets and replicas, on the status page and on the page of
//! replicas; and the pieces that the pages of one show too.

use super::format::{Tone, ago, ago_or_dash, badge, counted, cut, encode, span, thousands};
use crate::http::dataset_reports::{
    DatasetReport, Fill, HistoryBody, SizeBody, StandingBody, fills,
};
use crate::http::replica_orders as orders;
use crate::http::replica_report::{BootstrapReport, ReplicaReport};
use crate::time::Timestamp;
use maud::{Markup, html};
use std::time::Duration;

/// Most upstreams named on a card.
const MOST_UPSTREAMS: usize = 3;

/// Address of a replica's page.
pub(super) fn replica_href(name: &str) -> String {
    format!("/replicas/{}", encode(name))
}

/// Address of a dataset's page.
pub(super) fn dataset_href(name: &str) -> String {
    format!("/datasets/{}", encode(name))
}

/// How a replica fares.
pub(super) fn replica_badge(report: &ReplicaReport) -> Markup {
    if !report.configured {
        return badge(Tone::Warn, "⊘", "not configured");
    }
    let (tone, shape, word) = match report.state {
        "live" if report.lag_heads > 0 => (Tone::Good, "●", "live, catching up"),
        "live" => (Tone::Good, "●", "live"),
        "bootstrapping" => (Tone::Quiet, "◐", "bootstrapping"),
        "stale" => (Tone::Warn, "◐", "stale"),
        "failing" => (Tone::Bad, "▲", "failing"),
        _ => (Tone::Quiet, "○", "waiting"),
    };
    badge(tone, shape, word)
}

/// Whether a dataset is published.
pub(super) fn dataset_badge(report: &DatasetReport) -> Markup {
    match (report.configured, report.standing.head, report.source) {
        (false, ..) => badge(Tone::Warn, "⊘", "not configured"),
        (true, None, _) => badge(Tone::Quiet, "○", "nothing published yet"),
        (true, Some(_), Some(_)) => badge(Tone::Good, "●", "published, read-only"),
        (true, Some(_), None) => badge(Tone::Good, "●", "published"),
    }
}

/// A replica's card.
pub(super) fn replica(report: &ReplicaReport, now: Timestamp) -> Markup {
    html! {
        article.card {
            header {
                h3 { a href=(replica_href(&report.name)) { (cut(&report.name, 80)) } }
                (replica_badge(report))
            }
            p.kind { (source(report)) }
            (trouble(report, now))
            @if let Some(bootstrap) = &report.bootstrap { (progress(bootstrap, now)) }
            (replica_figures(report, now))
        }
    }
}

/// A dataset's card.
pub(super) fn dataset(report: &DatasetReport, now: Timestamp) -> Markup {
    html! {
        article.card {
            header {
                h3 { a href=(dataset_href(&report.name)) { (cut(&report.name, 80)) } }
                (dataset_badge(report))
            }
            p.kind { (origin(report)) }
            (dataset_figures(&report.standing, &report.size, now))
            (history(&report.history, &report.size, now))
        }
    }
}

/// Where a dataset's entries come from, and who may read them.
pub(super) fn origin(report: &DatasetReport) -> Markup {
    html! {
        @match (report.configured, report.source) {
            (false, _) => "Not in the configuration: its entries stay and are not served",
            (true, Some(table)) => { "Publishes the table " code { (table) } ", read-only" },
            (true, None) => "Publishes what is sent in",
        }
        @if report.protected { " · read with a token of its own" }
        @if let Some(at) = &report.seed_listen { " · the seed's wire at " code { (at) } }
        "."
    }
}

/// Where a replica comes from, and who follows it.
pub(super) fn source(report: &ReplicaReport) -> Markup {
    let more = report.upstreams.len().saturating_sub(MOST_UPSTREAMS);
    html! {
        @match &report.dataset {
            None => "Not in the configuration: its copy stays and is not followed",
            Some(dataset) => {
                "Follows " code { (cut(dataset, 80)) } " at "
                @for (index, upstream) in report.upstreams.iter().take(MOST_UPSTREAMS).enumerate() {
                    @if index > 0 { ", " }
                    span.url { (cut(upstream, 200)) }
                }
                @if more > 0 { " and " (thousands(more)) " more" }
                @if report.protocol == Some("seed") { " · by the seed's wire" }
            },
        }
        @match (&report.holder, report.upstream_reports.is_empty()) {
            (Some(holder), true) => { " · followed by server " code { (cut(holder, 80)) } },
            _ => {},
        }
        "."
    }
}

/// Whether something holds a replica up.
pub(super) fn has_trouble(report: &ReplicaReport) -> bool {
    report.stale.is_some()
        || report.outrun > 0
        || report.trouble.is_some()
        || report.failing().next().is_some()
}

/// Whether what holds a replica up mends itself: it is stale, and no more.
pub(super) fn mends_itself(report: &ReplicaReport) -> bool {
    report.outrun == 0 && report.trouble.is_none() && report.failing().next().is_none()
}

/// What holds a replica up, and what to do.
pub(super) fn trouble(report: &ReplicaReport, now: Timestamp) -> Markup {
    html! {
        @if let Some(stale) = &report.stale {
            div.trouble.warn {
                p.words { "Stale since " (ago(stale.since, now)) ": " (cut(&stale.why, 400)) }
                p { "Its copy stays readable; a new one takes its place by itself." }
            }
        }
        @if report.outrun > 0 {
            div.trouble {
                p.words { "Bootstraps come to nothing: " (report.outrun_advice()) "." }
                @if let Some(wanted) = &report.bootstrap_wanted {
                    p.words { (cut(&wanted.why, 400)) }
                    p { "The next begins " (ago(wanted.at, now)) "." }
                }
            }
        }
        @for upstream in report.failing().take(MOST_UPSTREAMS) {
            div.trouble {
                p.words {
                    "Upstream " (cut(&upstream.place, 200)) " failed " (counted(upstream.failures, "time", "times"))
                    " in a row: " (cut(upstream.last_error.as_deref().unwrap_or("no error was kept"), 400))
                }
                p {
                    @if let Some(at) = upstream.failed_at { "Last " (ago(at, now)) "; " }
                    @match upstream.paused_until.filter(|at| *at > now) {
                        Some(at) => { "it is tried again " (ago(at, now)) "." },
                        None => "it is tried again by itself.",
                    }
                }
            }
        }
        @if let Some(trouble) = &report.trouble {
            div.trouble { p.words { "It does not go on: " (cut(trouble, 400)) } }
        }
    }
}

/// How far a bootstrap is.
pub(super) fn progress(bootstrap: &BootstrapReport, now: Timestamp) -> Markup {
    let percent = bootstrap.share() * 100.0;
    html! {
        div.progress {
            progress max="100" value=(format!("{percent:.1}")) aria-label="Bootstrap" { (format!("{percent:.0} %")) }
            p.note {
                "Bootstrap (" (bootstrap.reason) "), begun " (ago(bootstrap.begun_at, now)) ": "
                (thousands(bootstrap.fetched)) " of " (thousands(bootstrap.len)) " entries, "
                (thousands(bootstrap.ranges_done)) " of " (counted(bootstrap.ranges, "range", "ranges")) " whole"
                @match bootstrap.ends_at {
                    Some(at) if at > now => { " · whole " (ago(at, now)) " at this pace" },
                    Some(_) => " · nearly whole",
                    None => {},
                }
                "."
            }
        }
    }
}

/// The numbers of a replica.
pub(super) fn replica_figures(report: &ReplicaReport, now: Timestamp) -> Markup {
    html! {
        dl.figures {
            div { dt { "Head" } dd { (number(report.standing.head)) } }
            div { dt { "Upstream at" } dd { (number(report.upstream_head)) } }
            div { dt { "Heads behind" } dd { (number(report.standing.head.map(|_| report.lag_heads))) } }
            div { dt { "Behind for" } dd { (lag(report)) } }
            div { dt { "Entries" } dd { (number(report.standing.len)) } }
            div { dt { "Size" } dd { (bytes_or_dash(report.size.bytes)) } }
            div { dt { "Rate" } dd { (rate(report.bytes_per_second)) } }
            div { dt { "Changed" } dd { (ago_or_dash(report.size.changed_at, now)) } }
            div { dt { "Bootstraps" } dd { (thousands(report.bootstraps.values().sum::<u64>())) } }
        }
    }
}

/// The numbers of a dataset.
pub(super) fn dataset_figures(standing: &StandingBody, size: &SizeBody, now: Timestamp) -> Markup {
    html! {
        dl.figures {
            div { dt { "Head" } dd { (number(standing.head)) } }
            div { dt { "Entries" } dd { (number(standing.len)) } }
            div { dt { "Size" } dd { (bytes_or_dash(size.bytes)) } }
            div { dt { "Oldest head" } dd { (number(standing.oldest_head)) } }
            div { dt { "Changes kept" } dd { (number(size.history_changes)) } }
            div { dt { "Changed" } dd { (ago_or_dash(size.changed_at, now)) } }
        }
    }
}

/// How full a history is: the bound that is nearest first, and each in words.
pub(super) fn history(kept: &HistoryBody, size: &SizeBody, now: Timestamp) -> Markup {
    if size.history_changes.is_none() {
        return html! {};
    }
    let fills = fills(kept, size, now);
    let fullest = fills.iter().map(Fill::share).fold(0.0, f64::max) * 100.0;
    html! {
        div.progress {
            progress.fill max="100" value=(format!("{fullest:.1}")) aria-label="History" { (format!("{fullest:.0} %")) }
            p.note {
                "History: "
                @for (index, fill) in fills.iter().enumerate() {
                    @if index > 0 { ", " }
                    (used(fill)) " of " (amount(fill, fill.most))
                }
                "."
            }
        }
    }
}

fn used(fill: &Fill) -> String {
    match fill.what {
        "changes" => thousands(fill.used),
        _ => amount(fill, fill.used),
    }
}

fn amount(fill: &Fill, value: u64) -> String {
    match fill.what {
        "changes" => counted(value, "change", "changes"),
        "bytes" => bytes(value),
        _ => span(Duration::from_secs(value)),
    }
}

/// The commands that an operator has for a replica.
pub(super) fn commands(report: &ReplicaReport) -> Markup {
    html! {
        @if report.configured {
            p.note { "To compare it with its upstream now: " code { (orders::verify(&report.name)) } }
            p.note { "To copy it anew: " code { (orders::bootstrap(&report.name)) } }
        }
    }
}

fn lag(report: &ReplicaReport) -> Markup {
    html! {
        @if report.lag_seconds > 0.0 {
            @let behind = span(Duration::from_secs_f64(report.lag_seconds));
            @match report.level_at {
                Some(at) => time datetime=(at) title=(at) { (behind) },
                None => (behind),
            }
        } @else { span.none { "–" } }
    }
}

/// A number, or a dash.
pub(super) fn number(value: Option<impl TryInto<i128>>) -> Markup {
    html! {
        @match value {
            Some(value) => (thousands(value)),
            None => span.none { "–" },
        }
    }
}

fn bytes_or_dash(value: Option<u64>) -> Markup {
    html! {
        @match value {
            Some(value) => span title=(counted(value, "byte", "bytes")) { (bytes(value)) },
            None => span.none { "–" },
        }
    }
}

/// A number of bytes, in the unit that suits it.
pub(super) fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut scaled = value as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let word = UNITS.get(unit).copied().unwrap_or("KiB");
    if scaled < 10.0 {
        format!("{scaled:.1} {word}")
    } else {
        format!("{scaled:.0} {word}")
    }
}

/// Bytes a second.
fn rate(per_second: f64) -> String {
    format!("{}/s", bytes(per_second.max(0.0) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_their_unit() {
        let told = [0, 1023, 1024, 10 * 1024, 5 << 20, 1 << 62].map(bytes);
        assert_eq!(
            told,
            ["0 B", "1023 B", "1.0 KiB", "10 KiB", "5.0 MiB", "4096 PiB"]
        );
        assert_eq!(rate(2048.5), "2.0 KiB/s");
        assert_eq!(replica_href("a.b"), "/replicas/a%2Eb");
    }
}
