//! The services page's part on saved states.

use super::format::{Tone, ago, ago_or_dash, badge, cut, thousands};
use crate::http::state::Http;
use crate::http::states::{self, StateList};
use crate::store::AsideState;
use crate::time::Timestamp;
use crate::watchdog::StateStatus;
use maud::{Markup, html};

/// How states are kept, and what was set aside.
pub(super) async fn section(http: &Http, now: Timestamp) -> Markup {
    let StateList {
        items,
        aside,
        problem,
        ..
    } = states::list(http).await;
    html! {
        h2 { "Saved states" }
        p.lead { "What services keep across restarts: written a second after it changes." }
        @if items.is_empty() {
            p.empty { "No service keeps a state." }
        } @else {
            (table(&items, now))
        }
        @if let Some(problem) = problem {
            p.empty { "What was set aside is not known: " (problem) }
        }
        @if !aside.is_empty() { (set_aside(&aside, now)) }
    }
}

fn table(items: &[StateStatus], now: Timestamp) -> Markup {
    html! {
        div.scroll { table.cards {
            thead { tr {
                th scope="col" { "Service" } th scope="col" { "State" }
                th.num scope="col" { "Version" } th.num scope="col" { "Bytes" }
                th scope="col" { "Saved" } th scope="col" { "Problem" }
            } }
            tbody { @for state in items { tr {
                th scope="row" { (state.service) }
                td data-label="State" { (state_badge(state)) }
                td.num data-label="Version" { (state.version) }
                td.num data-label="Bytes" {
                    @match state.bytes {
                        Some(bytes) => (thousands(bytes as u64)),
                        None => span.none { "–" },
                    }
                }
                td data-label="Saved" { (ago_or_dash(state.saved_at, now)) }
                td.words data-label="Problem" {
                    @match &state.problem {
                        Some(problem) => (cut(problem, 300)),
                        None => span.none { "–" },
                    }
                }
            } } }
        } }
    }
}

fn state_badge(state: &StateStatus) -> Markup {
    if state.problem.is_some() {
        badge(Tone::Warn, "▲", "not saved")
    } else if state.unsaved {
        badge(Tone::Quiet, "○", "unsaved")
    } else {
        badge(Tone::Good, "●", "saved")
    }
}

fn set_aside(aside: &[AsideState], now: Timestamp) -> Markup {
    html! {
        h3 { "Set aside" }
        p.lead {
            "These could not be read, and their services began afresh. "
            code { "highwater states list" } " shows them, "
            code { "highwater states drop SERVICE" } " drops them and this warning."
        }
        div.scroll { table.cards {
            thead { tr {
                th scope="col" { "Service" } th.num scope="col" { "Version" }
                th scope="col" { "Saved" } th scope="col" { "Set aside" }
                th scope="col" { "Why" }
            } }
            tbody { @for state in aside { tr {
                th scope="row" { (state.service) }
                td.num data-label="Version" { (state.version) }
                td data-label="Saved" { (ago(state.saved_at, now)) }
                td data-label="Set aside" { (ago(state.set_aside_at, now)) }
                td.words data-label="Why" { (cut(&state.problem, 300)) }
            } } }
        } }
    }
}
