//! What the status page tells of subscriptions; nothing where there are none.

use super::format::{Tone, cut, span, thousands};
use super::job_status::Verdict;
use super::subscription_card;
use crate::http::subscriptions::SubscriptionReport;
use crate::time::Timestamp;
use maud::{Markup, html};

/// Most sentences told of subscriptions in the headline.
const MOST_REASONS: usize = 3;

/// The sentence on top where subscriptions are configured; what is worst is said.
fn verdict(all: &[SubscriptionReport]) -> Option<Verdict> {
    let configured = || all.iter().filter(|report| report.configured);
    let total = configured().count();
    if total == 0 {
        return None;
    }
    let noun = if total == 1 {
        "subscription"
    } else {
        "subscriptions"
    };
    let count = |is: &dyn Fn(&SubscriptionReport) -> bool| configured().filter(|of| is(of)).count();
    let told = |count: usize, one: &str, many: &str| {
        format!(
            "{count} of {total} {noun} {}",
            if count == 1 { one } else { many }
        )
    };
    let halted = count(&|of| of.halted.is_some());
    let unread = count(&|of| of.trouble.is_some());
    let deaf = count(&|of| of.source_report.as_ref().is_some_and(|of| of.failures > 0));
    let paused = count(&|of| of.paused.is_some());
    let here = count(&|of| matches!(of.state, "running" | "waiting" | "settling"));
    let elsewhere = count(&|of| of.state == "elsewhere");
    Some(if halted > 0 {
        (Tone::Bad, "▲", told(halted, "is halted", "are halted"))
    } else if unread > 0 {
        let words = format!("The rows of {unread} of {total} {noun} cannot be read");
        (Tone::Bad, "▲", words)
    } else if deaf > 0 {
        let fails = if deaf == 1 { "source" } else { "sources" };
        let verb = if deaf == 1 { "fails" } else { "fail" };
        let words = format!("The {fails} of {deaf} of {total} {noun} {verb}");
        (Tone::Warn, "◐", words)
    } else if paused > 0 {
        (Tone::Warn, "■", told(paused, "is paused", "are paused"))
    } else if here > 0 {
        (Tone::Good, "●", "All subscriptions run".to_owned())
    } else if elsewhere > 0 {
        let words = "Another server runs the subscriptions".to_owned();
        (Tone::Quiet, "◇", words)
    } else {
        (Tone::Quiet, "○", "No subscription runs yet".to_owned())
    })
}

/// The sentence on top, of what is told of all else and of subscriptions: the
/// worse one; that of all else where both are as bad, unless there is nothing else.
pub(super) fn worse(told: Verdict, all: &[SubscriptionReport], alone: bool) -> Verdict {
    let rank = |tone| match tone {
        Tone::Bad => 2,
        Tone::Warn => 1,
        Tone::Good | Tone::Quiet => 0,
    };
    match verdict(all) {
        Some(of_events) if rank(of_events.0) > rank(told.0) => of_events,
        Some(of_events) if alone && rank(told.0) == 0 => of_events,
        Some((Tone::Good, ..)) if told.0 == Tone::Good => {
            let (tone, shape, words) = told;
            (tone, shape, format!("{words}, and all subscriptions run"))
        }
        _ => told,
    }
}

/// Sums over the configured subscriptions.
pub(super) fn totals(all: &[SubscriptionReport], now: Timestamp) -> Markup {
    let configured = || all.iter().filter(|report| report.configured);
    let open: i64 = configured().map(|of| of.open).sum();
    let waiting: usize = configured().map(|of| of.waiting).sum();
    let behind: i64 = configured().map(|of| of.lag_blocks).max().unwrap_or(0);
    let oldest = configured().filter_map(|of| of.oldest_open_at).min();
    html! {
        @if configured().next().is_some() {
            dl.totals {
                div { dt { "Events open" } dd { (thousands(open)) } }
                div { dt { "Waiting for relevance" } dd { (thousands(waiting)) } }
                div { dt { "Oldest event open" } dd {
                    @match oldest {
                        Some(at) => time datetime=(at) title=(at) { (span(now.since(at))) },
                        None => span.none { "–" },
                    }
                } }
                div { dt { "Blocks behind, at most" } dd { (thousands(behind)) } }
            }
        }
    }
}

/// What is wrong with subscriptions, of the first few.
pub(super) fn reasons(all: &[SubscriptionReport]) -> Markup {
    let warnings: Vec<String> = all
        .iter()
        .filter(|report| report.configured)
        .flat_map(SubscriptionReport::warnings)
        .collect();
    html! {
        @for warning in warnings.iter().take(MOST_REASONS) { p.words { (cut(warning, 300)) } }
        @if warnings.len() > MOST_REASONS { p.note { "and " (thousands(warnings.len() - MOST_REASONS)) " more" } }
    }
}

/// The cards.
pub(super) fn section(all: &[SubscriptionReport], now: Timestamp) -> Markup {
    html! {
        @if !all.is_empty() {
            h2 { "Events" }
            div.ledgers { @for report in all { (subscription_card::card(report, now)) } }
        }
    }
}
