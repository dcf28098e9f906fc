//! `/subscriptions/{name}`: one subscription, what holds it up, and its newest
//! events.

use super::event_chart;
use super::format::{Tone, ago, ago_or_dash, badge, cut, short_id, thousands};
use super::jobs::old_figures;
use super::layout::{Page, problem_page};
use super::subscription_card::{self as card, decision_badge, event_href, events_href};
use crate::flows::events::Decision;
use crate::http::api::read_query;
use crate::http::api::subscriptions::{EventsQuery, FoundEvents, find_events, find_subscription};
use crate::http::problem::Answer;
use crate::http::state::Http;
use crate::http::subscription_figures::{SubscriptionFigures, subscription_figures};
use crate::http::subscriptions::SubscriptionReport;
use crate::store::{EventFilter, EventRow};
use crate::time::Timestamp;
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

/// The page.
pub(in crate::http) async fn subscription(
    http: web::Data<Http>,
    request: HttpRequest,
    name: web::Path<String>,
) -> HttpResponse {
    match page(&http, &request, &name).await {
        Ok(page) => page.respond(&http, &request),
        Err(refusal) => problem_page(&http, &request, &refusal),
    }
}

async fn page(http: &Http, request: &HttpRequest, name: &str) -> Answer<Page> {
    let mut query: EventsQuery = read_query(request)?;
    // A form sends what was left empty, too.
    for filter in [
        &mut query.decision,
        &mut query.block,
        &mut query.tx_id,
        &mut query.open,
        &mut query.limit,
        &mut query.cursor,
    ] {
        if filter.as_ref().is_some_and(|text| text.trim().is_empty()) {
            *filter = None;
        }
    }
    let figures = subscription_figures(http).await;
    let report = find_subscription(http, &figures, name)?;
    let found = find_events(http, name, query).await?;
    let now = Timestamp::now();
    let live = html! {
        (top(&report, &figures, now))
        h2 { "Newest events" }
        (rows(&found, now))
        (paging(&found))
    };
    let title = format!("Subscription {}", cut(name, 64));
    let mut page = Page::new(title, "/subscriptions", live);
    page.still = html! {
        p.crumb { a href="/subscriptions" { "Events" } }
        h1.name { (name) }
        (form(name, &found.filter))
    };
    Ok(page)
}

fn top(report: &SubscriptionReport, figures: &SubscriptionFigures, now: Timestamp) -> Markup {
    let counts = figures.counts.get(&report.name);
    html! {
        p.lead { (card::state_badge(report)) " " (card::source(report)) }
        (old_figures(figures.problem.as_deref(), figures.read_at, now))
        @if has_trouble(report) {
            section.notice.bad { h2 { span aria-hidden="true" { "▲ " } "What holds it up" } (card::trouble(report, now)) }
        }
        (card::figures(report, now))
        div.card { (card::shares(report)) }
        div.card { (event_chart::events("subscription", counts.map_or(&[][..], Vec::as_slice), now)) }
    }
}

fn has_trouble(report: &SubscriptionReport) -> bool {
    let source = report.source_report.as_ref();
    report.halted.is_some()
        || report.paused.is_some()
        || report.trouble.is_some()
        || source.is_some_and(|source| source.failures > 0)
}

fn form(name: &str, filter: &EventFilter) -> Markup {
    html! {
        form.filters method="get" action=(card::subscription_href(name)) {
            div { label for="decision" { "Decision" }
                select #decision name="decision" {
                    option value="" { "all" }
                    @for decision in Decision::ALL {
                        option value=(decision) selected[filter.decision == Some(decision)] { (decision) }
                    }
                } }
            div { label for="open" { "Which" }
                select #open name="open" {
                    option value="" { "all" }
                    option value="true" selected[filter.open] { "not done with" }
                } }
            div { label for="block" { "Block" }
                input #block name="block" inputmode="numeric" autocomplete="off"
                    value=(filter.block.map(|block| block.to_string()).unwrap_or_default()); }
            div.wide { label for="tx_id" { "Transaction" }
                input #tx_id name="tx_id" autocomplete="off" spellcheck="false"
                    value=(filter.tx_id.as_deref().unwrap_or_default()); }
            div.actions { button type="submit" { "Show" } a href=(card::subscription_href(name)) { "All" } }
        }
    }
}

fn rows(found: &FoundEvents, now: Timestamp) -> Markup {
    if found.rows.is_empty() {
        return html! {
            @if found.next.is_some() { p.empty { "None among the events looked through; older ones may match." } }
            @else { p.empty { "No events match." } }
        };
    }
    let name = &found.filter.subscription;
    html! {
        div.scroll { table.cards {
            thead { tr {
                th.num scope="col" { "Arrival" } th scope="col" { "Decision" } th.num scope="col" { "Block" }
                th scope="col" { "Transaction" } th scope="col" { "Event" } th scope="col" { "Key" }
                th scope="col" { "Recorded" } th scope="col" { "Processed" } th.num scope="col" { "Tries" }
            } }
            tbody { @for row in &found.rows { (event_row(name, row, now)) } }
        } }
    }
}

fn event_row(name: &str, row: &EventRow, now: Timestamp) -> Markup {
    html! { tr {
        th.num scope="row" {
            a href=(event_href(name, row.arrival)) { (row.arrival) }
        }
        td data-label="Decision" {
            (decision_badge(&row.decision, row.processed_at.is_some()))
            @if row.late { " " (badge(Tone::Warn, "◐", "late")) }
            @if row.abandoned_at.is_some() { " " (badge(Tone::Warn, "⊘", "abandoned")) }
            @if let Some(error) = &row.last_error { span.note.trouble { (cut(error, 120)) } }
        }
        td.num data-label="Block" { a href=(events_href(name, &[("block", &row.block.to_string())])) { (row.block) } }
        td data-label="Transaction" { @if row.tx_id.is_empty() { span.none { "of the block" } } @else { (short_id(&row.tx_id)) } }
        td data-label="Event" { (cut(&row.event_name, 60)) }
        td data-label="Key" { @match &row.event_key {
            Some(key) => code { (cut(key, 60)) },
            None => span.none { "–" },
        } }
        td data-label="Recorded" { (ago(row.received_at, now)) }
        td data-label="Processed" { (ago_or_dash(row.processed_at, now)) }
        td.num data-label="Tries" { (thousands(row.attempts)) }
    } }
}

fn paging(found: &FoundEvents) -> Markup {
    let filter = &found.filter;
    let block = filter.block.map(|block| block.to_string());
    let filters = [
        ("decision", filter.decision.map_or("", Decision::as_str)),
        ("block", block.as_deref().unwrap_or_default()),
        ("tx_id", filter.tx_id.as_deref().unwrap_or_default()),
        ("open", if filter.open { "true" } else { "" }),
    ];
    let mut older = filters.to_vec();
    older.push(("cursor", found.next.as_deref().unwrap_or_default()));
    let name = &filter.subscription;
    html! {
        nav.paging aria-label="Pages of the list" {
            @if found.paged { a href=(events_href(name, &filters)) { "← Newest" } }
            @if found.next.is_some() { a rel="next" href=(events_href(name, &older)) { "Older →" } }
        }
    }
}
