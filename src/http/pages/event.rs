//! `/subscriptions/{name}/events/{arrival}`: one event, its story, what it
//! waits for, and the event as it came.

use super::format::{Tone, ago, ago_or_dash, badge, cut, thousands};
use super::indent::indent;
use super::layout::{Page, problem_page};
use super::subscription_card::{decision_badge, events_href, subscription_href};
use crate::flows::events::{Checkpoint, event_story, event_waits_for};
use crate::http::api::subscriptions::find_event;
use crate::http::problem::Answer;
use crate::http::state::Http;
use crate::http::subscription_orders as orders;
use crate::store::EventDetail;
use crate::time::Timestamp;
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

/// Most characters shown of the event as it came.
const LONGEST_PAYLOAD: usize = 16_000;
/// Most characters shown of a sentence.
const LONGEST_WORDS: usize = 1000;

/// The page.
pub(in crate::http) async fn event(
    http: web::Data<Http>,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> HttpResponse {
    let (name, arrival) = path.into_inner();
    match page(&http, &name, &arrival).await {
        Ok(page) => page.respond(&http, &request),
        Err(refusal) => problem_page(&http, &request, &refusal),
    }
}

async fn page(http: &Http, name: &str, arrival: &str) -> Answer<Page> {
    let (detail, checkpoint) = find_event(http, name, arrival).await?;
    let title = format!("Event {} of {}", detail.row.arrival, cut(name, 64));
    let live = show(&detail, &checkpoint, Timestamp::now());
    Ok(Page::new(title, "/subscriptions", live))
}

fn show(detail: &EventDetail, checkpoint: &Checkpoint, now: Timestamp) -> Markup {
    let row = &detail.row;
    let name = &row.subscription;
    let halted = checkpoint.halted.as_ref();
    html! {
        p.crumb {
            a href="/subscriptions" { "Events" } " / " a href=(subscription_href(name)) { (name) }
            " / " a href=(events_href(name, &[("block", &row.block.to_string())])) { "block " (row.block) }
        }
        h1.batch {
            (decision_badge(&row.decision, row.processed_at.is_some()))
            @if row.late { " " (badge(Tone::Warn, "◐", "late")) }
            @if row.abandoned_at.is_some() { " " (badge(Tone::Warn, "⊘", "abandoned")) }
            " Event " (row.arrival)
        }
        @if let Some(waits) = event_waits_for(row, checkpoint) {
            section.why {
                h2 { "Why not now" }
                p.words { (cut(&waits, LONGEST_WORDS)) }
                @if checkpoint.paused.is_some() {
                    p { "To go on: " code { (orders::resume(name)) } }
                } @else if halted.is_some_and(|(arrival, ..)| *arrival == row.arrival) {
                    p { "When the cause is mended: " code { (orders::retry(name)) } }
                    p { "Without this event: " code { (orders::skip(name, row.arrival)) } }
                }
            }
        }
        dl.figures {
            div { dt { "Block" } dd { (thousands(row.block)) } }
            @if row.rank != 0 { div { dt { "Ordinal" } dd { (thousands(row.rank)) } } }
            div { dt { "Event" } dd.words { (cut(&row.event_name, 200)) } }
            div { dt { "Recorded" } dd { (ago(row.received_at, now)) } }
            div { dt { "Processed" } dd { (ago_or_dash(row.processed_at, now)) } }
            div { dt { "Tries" } dd { (thousands(row.attempts)) } }
        }
        p.words {
            @if row.tx_id.is_empty() { "Of the block itself, without a transaction" }
            @else { "Transaction " a href=(events_href(name, &[("tx_id", &row.tx_id)])) { code { (row.tx_id) } } }
            " · event id " code { (cut(&row.event_id, 300)) }
            @if let Some(key) = &row.event_key { " · key " code { (cut(key, 300)) } }
        }
        h2 { "Story" }
        div.scroll { table {
            thead { tr { th scope="col" { "When" } th.exact scope="col" { "Time" } th scope="col" { "What" } } }
            tbody { @for line in event_story(row, checkpoint) { tr {
                td { (ago_or_dash(line.at, now)) }
                td.time.exact { @if let Some(at) = line.at { (at) } }
                td.words { (cut(&line.what, LONGEST_WORDS)) }
            } } }
        } }
        h2 { "The event as it came" }
        (payload(name, row.arrival, &detail.payload))
    }
}

fn payload(name: &str, arrival: i64, payload: &str) -> Markup {
    if payload == "null" {
        return html! { p.empty { "It is past its retention." } };
    }
    let (text, cut) = indent(payload, LONGEST_PAYLOAD);
    html! {
        div.card { pre { (text) @if cut { "…" } } }
        @if cut {
            p.note { (thousands(payload.len())) " bytes; " a href={ "/v1" (super::subscription_card::event_href(name, arrival)) } { "all of it as JSON" } }
        }
    }
}
