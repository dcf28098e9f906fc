//! A subscription's card, on the status page and on the page of subscriptions;
//! and the pieces that other pages of events show too.

use super::format::{Tone, ago, ago_or_dash, badge, counted, cut, encode, thousands};
use super::job_card::bar;
use crate::http::subscription_orders as orders;
use crate::http::subscriptions::{EventPlace, SubscriptionReport};
use crate::time::Timestamp;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Address of a subscription's page.
pub(super) fn subscription_href(name: &str) -> String {
    format!("/subscriptions/{}", encode(name))
}

/// Address of an event's page.
pub(super) fn event_href(name: &str, arrival: i64) -> String {
    format!("/subscriptions/{}/events/{arrival}", encode(name))
}

/// Address of a subscription's events, by the filters that are not empty.
pub(super) fn events_href(name: &str, filters: &[(&str, &str)]) -> String {
    let mut href = subscription_href(name);
    let given = filters.iter().filter(|(_, value)| !value.is_empty());
    for (index, (name, value)) in given.enumerate() {
        href.push(if index == 0 { '?' } else { '&' });
        href.push_str(name);
        href.push('=');
        href.push_str(&encode(value));
    }
    href
}

/// How a subscription fares.
pub(super) fn state_badge(report: &SubscriptionReport) -> Markup {
    if !report.configured {
        return badge(Tone::Warn, "⊘", "not configured");
    }
    let (tone, shape, word) = match report.state {
        "running" => (Tone::Good, "●", "running"),
        "waiting" if report.waiting > 0 => (Tone::Good, "●", "waiting for relevance"),
        "waiting" => (Tone::Good, "●", "waiting for events"),
        "settling" => (Tone::Good, "●", "settling"),
        "paused" => (Tone::Warn, "■", "paused"),
        "halted" => (Tone::Bad, "▲", "halted"),
        "elsewhere" => (Tone::Quiet, "◇", "run elsewhere"),
        _ => (Tone::Quiet, "○", "not run"),
    };
    badge(tone, shape, word)
}

/// What was decided on an event, and whether it is done with.
pub(super) fn decision_badge(decision: &str, processed: bool) -> Markup {
    match (decision, processed) {
        ("relevant", true) => badge(Tone::Good, "●", "processed"),
        ("relevant", false) => badge(Tone::Warn, "◐", "relevant"),
        ("irrelevant", _) => badge(Tone::Quiet, "·", "irrelevant"),
        ("skipped", _) => badge(Tone::Warn, "⊘", "skipped"),
        _ => badge(Tone::Quiet, "○", "pending"),
    }
}

/// The card.
pub(super) fn card(report: &SubscriptionReport, now: Timestamp) -> Markup {
    html! {
        article.card {
            header {
                h3 { a href=(subscription_href(&report.name)) { (cut(&report.name, 80)) } }
                (state_badge(report))
            }
            p.kind { (source(report)) }
            (trouble(report, now))
            (figures(report, now))
            (shares(report))
        }
    }
}

/// Where its events come from, and who runs it.
pub(super) fn source(report: &SubscriptionReport) -> Markup {
    html! {
        @match report.source {
            Some("gateway") => "From a gateway",
            Some("ledger") => "From a ledger",
            Some(_) => "From whoever calls its hook",
            None => "Not in the configuration: its events stay and are not processed",
        }
        @if let Some(place) = report.source_report.as_ref().map(|source| &source.place) {
            " · " span.url { (cut(place, 200)) }
        }
        @match (&report.holder, report.state) {
            (Some(holder), "elsewhere") => { " · run by server " code { (cut(holder, 80)) } },
            _ => {},
        }
        (asked_for(report))
        "."
    }
}

/// What its source asked for, and how that goes.
fn asked_for(report: &SubscriptionReport) -> Markup {
    html! {
        @if let Some(source) = &report.source_report {
            " · "
            @match source.state {
                Some("catching_up") => "catching up",
                Some(word) => (word),
                None => "not connected",
            }
            @if let Some(from) = source.from_block { ", from block " (thousands(from)) }
            @if let Some(to) = source.to_block { " to " (thousands(to)) }
        }
    }
}

/// What holds it up, and the commands by which it goes on.
pub(super) fn trouble(report: &SubscriptionReport, now: Timestamp) -> Markup {
    let failing = report.source_report.as_ref().filter(|of| of.failures > 0);
    html! {
        @if let Some(halted) = &report.halted {
            div.trouble {
                p.words {
                    "Halted on " a href=(event_href(&report.name, halted.arrival)) { "event " (halted.arrival) }
                    ", " (ago(halted.at, now)) ": " (cut(&halted.error, 400))
                }
                p { "When the cause is mended: " code { (orders::retry(&report.name)) } }
                p { "Without this event: " code { (orders::skip(&report.name, halted.arrival)) } }
            }
        }
        @if let Some(paused) = &report.paused {
            div.trouble {
                p.words { "Paused " (ago(paused.at, now)) ": " (cut(&paused.reason, 400)) }
                p { "To go on: " code { (orders::resume(&report.name)) } }
            }
        }
        @if let Some(source) = failing {
            div.trouble {
                p.words { "Its source failed " (counted(source.failures, "time", "times")) " in a row: "
                    (cut(source.last_error.as_deref().unwrap_or("no error was kept"), 400)) }
                @if let Some(at) = source.failed_at { p { "Last " (ago(at, now)) "; it is tried again by itself." } }
            }
        }
        @if let Some(trouble) = &report.trouble {
            div.trouble { p.words { "Its rows cannot be read: " (cut(trouble, 400)) } }
        }
    }
}

/// The numbers of a card.
pub(super) fn figures(report: &SubscriptionReport, now: Timestamp) -> Markup {
    html! {
        dl.figures {
            div { dt { "Done up to block" } dd { (place(report.position)) } }
            div { dt { "Newest block" } dd { @match report.highest_block {
                Some(block) => (thousands(block)),
                None => span.none { "–" },
            } } }
            div { dt { "Blocks behind" } dd { (thousands(report.lag_blocks)) } }
            div { dt { "Open" } dd { (thousands(report.open)) } }
            div { dt { "Waiting for relevance" } dd { (thousands(report.waiting)) } }
            div { dt { "Rate" } dd { (rate(report.per_second)) } }
            div { dt { "Last event" } dd { (ago_or_dash(report.last_event_at, now)) } }
            div { dt { "Oldest open" } dd { (ago_or_dash(report.oldest_open_at, now)) } }
        }
    }
}

fn place(place: Option<EventPlace>) -> Markup {
    html! {
        @match place {
            Some(place) => span title={ "rank " (place.rank) ", arrival " (place.arrival) } { (thousands(place.block)) },
            None => span.none { "–" },
        }
    }
}

/// Events a second; a slow one is not told as none.
fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 0.1 {
        "< 0.1/s".to_owned()
    } else {
        format!("{per_second:.1}/s")
    }
}

/// Events that are kept, by decision: a bar, and the same in words.
pub(super) fn shares(report: &SubscriptionReport) -> Markup {
    let count = |word: &str| report.counts.get(word).copied().unwrap_or(0);
    let mut counts: BTreeMap<String, i64> = report.counts.clone();
    // Those that are processed are counted as relevant, too.
    let unprocessed = (count("relevant") - count("processed")).max(0);
    counts.insert("relevant".to_owned(), unprocessed);
    let total: i64 = counts.values().sum();
    if total <= 0 {
        return html! { p.empty { "No events." } };
    }
    let words = ["processed", "irrelevant", "skipped", "relevant", "pending"];
    bar(&words, &counts, total, |word, count| {
        let href = match word {
            "processed" => events_href(&report.name, &[("decision", "relevant")]),
            "relevant" => events_href(&report.name, &[("decision", word), ("open", "true")]),
            word => events_href(&report.name, &[("decision", word)]),
        };
        let decision = if word == "processed" {
            "relevant"
        } else {
            word
        };
        html! { a href=(href) {
            (decision_badge(decision, word == "processed")) " " span.num { (thousands(count)) }
        } }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_encoded_and_slow_is_not_none() {
        assert_eq!(
            events_href(
                "a.b",
                &[("decision", ""), ("tx_id", "x/y"), ("open", "true")]
            ),
            "/subscriptions/a%2Eb?tx_id=x%2Fy&open=true"
        );
        assert_eq!(event_href("claims", 7), "/subscriptions/claims/events/7");
        assert_eq!((rate(0.0), rate(0.01)), ("0.0/s".into(), "< 0.1/s".into()));
    }
}
