//! `/batches`: the list, by filters, newest first.

use super::format::{
    ago, ago_or_dash, batch_href, cut, list_href, short_id, status_badge, thousands,
};
use super::layout::{Page, problem_page};
use crate::flows::batches::Status;
use crate::http::api::{ListQuery, parse_filter, read_query, write_cursor};
use crate::http::problem::Answer;
use crate::http::state::Http;
use crate::store::{BatchFilter, BatchRow};
use crate::time::Timestamp;
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

/// The page.
pub(in crate::http) async fn batches(http: web::Data<Http>, request: HttpRequest) -> HttpResponse {
    match page(&http, &request).await {
        Ok(page) => page.respond(&http, &request),
        Err(refusal) => problem_page(&http, &request, &refusal),
    }
}

async fn page(http: &Http, request: &HttpRequest) -> Answer<Page> {
    let mut query: ListQuery = read_query(request)?;
    // A form sends what was left empty, too.
    for filter in [
        &mut query.ledger,
        &mut query.service_id,
        &mut query.status,
        &mut query.batch_id,
        &mut query.cursor,
    ] {
        if filter.as_ref().is_some_and(|text| text.trim().is_empty()) {
            *filter = None;
        }
    }
    let filter = parse_filter(query)?;
    let listed = filter.clone();
    let page = http
        .database(|store| async move { store.list_batches(&listed).await })
        .await?;
    let next = page.next.map(write_cursor);
    let ledgers: Vec<String> = http
        .settings()
        .ledgers
        .iter()
        .map(|ledger| ledger.name.clone())
        .collect();
    let mut answer = Page::new(
        "Batches",
        "/batches",
        html! {
            (rows(&page.rows, Timestamp::now()))
            (paging(&filter, next.as_deref()))
        },
    );
    answer.still = form(&filter, &ledgers);
    Ok(answer)
}

fn form(filter: &BatchFilter, ledgers: &[String]) -> Markup {
    let chosen = filter.ledger.as_deref().unwrap_or_default();
    let foreign = !chosen.is_empty() && !ledgers.iter().any(|ledger| ledger == chosen);
    html! {
        h1 { "Batches" }
        form.filters method="get" action="/batches" {
            div { label for="ledger" { "Ledger" }
                select #ledger name="ledger" {
                    option value="" { "all" }
                    @for ledger in ledgers {
                        option value=(ledger) selected[ledger == chosen] { (ledger) }
                    }
                    @if foreign { option value=(chosen) selected { (chosen) " (not configured)" } }
                } }
            div { label for="status" { "Status" }
                select #status name="status" {
                    option value="" { "all" }
                    @for status in Status::ALL {
                        option value=(status) selected[filter.status == Some(status)] { (status) }
                    }
                } }
            div { label for="service_id" { "Service" }
                input #service_id name="service_id" autocomplete="off" spellcheck="false"
                    placeholder="circuit::service" value=(filter.service_id.as_deref().unwrap_or_default()); }
            div.wide { label for="batch_id" { "Batch id begins with" }
                input #batch_id name="batch_id" autocomplete="off" spellcheck="false"
                    value=(filter.batch_id_prefix.as_deref().unwrap_or_default()); }
            div.actions { button type="submit" { "Show" } a href="/batches" { "All" } }
        }
    }
}

fn rows(rows: &[BatchRow], now: Timestamp) -> Markup {
    if rows.is_empty() {
        return html! { p.empty { "No batches match." } };
    }
    html! {
        div.scroll { table.cards {
            thead { tr {
                th scope="col" { "Batch" } th scope="col" { "Status" } th scope="col" { "Ledger" }
                th scope="col" { "Service" } th scope="col" { "Submitted" }
                th scope="col" { "Last polled" } th.num scope="col" { "Polls" }
                th scope="col" { "Settled or next poll" }
            } }
            tbody { @for row in rows { tr {
                th scope="row" {
                    a href=(batch_href(&row.ledger, &row.service_id, &row.batch_id)) { (short_id(&row.batch_id)) }
                    @if let Some(error) = &row.last_error { br; span.note.trouble { (cut(error, 120)) } }
                }
                td data-label="Status" { (status_badge(&row.status)) }
                td data-label="Ledger" { (row.ledger) }
                td data-label="Service" { @if row.service_id.is_empty() { span.none { "–" } } @else { code { (cut(&row.service_id, 60)) } } }
                td data-label="Submitted" { (ago(row.submitted_at, now)) }
                td data-label="Last polled" { (ago_or_dash(row.last_polled_at, now)) }
                td.num data-label="Polls" { (thousands(row.polls)) }
                td data-label="Settled or next poll" { (settled_or_next(row, now)) }
            } } }
        } }
    }
}

fn settled_or_next(row: &BatchRow, now: Timestamp) -> Markup {
    html! {
        span {
            @match row.next_poll_at {
                _ if !row.is_outstanding() => { "settled " (ago_or_dash(row.settled_at, now)) },
                Some(at) if at > now => { "due " (ago(at, now)) },
                Some(at) => { "due since " (ago(at, now)) },
                None => "due now",
            }
        }
    }
}

fn paging(filter: &BatchFilter, next: Option<&str>) -> Markup {
    let filters = [
        ("ledger", filter.ledger.as_deref().unwrap_or_default()),
        (
            "service_id",
            filter.service_id.as_deref().unwrap_or_default(),
        ),
        ("status", filter.status.map_or("", Status::as_str)),
        (
            "batch_id",
            filter.batch_id_prefix.as_deref().unwrap_or_default(),
        ),
    ];
    let mut older = filters.to_vec();
    older.push(("cursor", next.unwrap_or_default()));
    html! {
        nav.paging aria-label="Pages of the list" {
            @if filter.before_seq.is_some() { a href=(list_href(&filters)) { "← Newest" } }
            @if next.is_some() { a rel="next" href=(list_href(&older)) { "Older →" } }
        }
    }
}
