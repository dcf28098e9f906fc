//! `/batches/{ledger}/{batch_id}`: one batch, its polls, and why it is not
//! polled at this moment.

use super::format::{ago, ago_or_dash, list_href, status_badge, thousands};
use super::layout::{Page, problem_page};
use crate::flows::batches::{BatchKey, InvalidTransaction};
use crate::http::api::{BatchDetail, OneQuery, detail, read_query};
use crate::http::problem::Answer;
use crate::http::state::Http;
use crate::time::Timestamp;
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

/// Most transaction ids shown.
const MOST_IDS: usize = 50;

/// The page.
pub(in crate::http) async fn batch(
    http: web::Data<Http>,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> HttpResponse {
    match page(&http, &request, path.into_inner()).await {
        Ok(page) => page.respond(&http, &request),
        Err(refusal) => problem_page(&http, &request, &refusal),
    }
}

async fn page(http: &Http, request: &HttpRequest, path: (String, String)) -> Answer<Page> {
    let OneQuery { service_id } = read_query(request)?;
    let (ledger, batch_id) = path;
    let key = BatchKey {
        ledger,
        service_id,
        batch_id,
    };
    let detail = detail(http, key).await?;
    let title = format!(
        "Batch {}",
        detail.batch.batch_id.chars().take(12).collect::<String>()
    );
    Ok(Page::new(
        title,
        "/batches",
        show(&detail, Timestamp::now()),
    ))
}

fn show(detail: &BatchDetail, now: Timestamp) -> Markup {
    let batch = &detail.batch;
    html! {
        p.crumb {
            a href="/batches" { "Batches" } " / "
            a href=(list_href(&[("ledger", &batch.ledger)])) { (batch.ledger) }
            @if !batch.service_id.is_empty() {
                " / " a href=(list_href(&[("ledger", &batch.ledger), ("service_id", &batch.service_id)])) { (batch.service_id) }
            }
        }
        h1.batch { (status_badge(&batch.status)) " " span.whole-id { (batch.batch_id) } }
        section.why {
            h2 { "Why not now" }
            p { (detail.why_not_now) }
            @if let Some(at) = detail.polled_next_at {
                p { "Polled next: " @if at > now { (ago(at, now)) } @else { "as soon as it is its turn" } }
            }
        }
        @if let Some(error) = &batch.last_error {
            section.notice.warn { h2 { "What went wrong last" } p.words { (error) } }
        }
        dl.figures {
            div { dt { "Submitted" } dd { (ago(batch.submitted_at, now)) } }
            div { dt { "Last polled" } dd { (ago_or_dash(batch.last_polled_at, now)) } }
            div { dt { "Settled" } dd { (ago_or_dash(batch.settled_at, now)) } }
            div { dt { "Polls" } dd { (thousands(batch.polls)) } }
            div { dt { "Answered unknown" } dd { (thousands(batch.unknowns)) } }
            div { dt { "Sequence" } dd { (thousands(batch.seq)) } }
        }
        (invalid_transactions(&batch.invalid_transactions))
        (history(detail, now))
        @if !detail.transaction_ids.is_empty() {
            h2 { "Transactions" }
            ul.ids {
                @for id in detail.transaction_ids.iter().take(MOST_IDS) { li { code { (id) } } }
            }
            @if detail.transaction_ids.len() > MOST_IDS {
                p.note { "and " (thousands(detail.transaction_ids.len() - MOST_IDS)) " more" }
            }
        }
    }
}

fn history(detail: &BatchDetail, now: Timestamp) -> Markup {
    html! {
        h2 { "Polls" }
        @if detail.history.is_empty() {
            p.empty { "The ledger has not answered for this batch yet." }
        } @else {
            @if detail.history.len() > 1 {
                p.lead { "The last " (thousands(detail.history.len())) ", newest first." }
            }
            div.scroll { table {
                thead { tr { th scope="col" { "When" } th.exact scope="col" { "Time" } th scope="col" { "Answer" } } }
                tbody { @for entry in detail.history.iter().rev() { tr {
                    td { (ago(entry.at, now)) }
                    td.time.exact { (entry.at) }
                    td { (status_badge(entry.answer)) }
                } } }
            } }
        }
    }
}

/// Applications write this column too: what is not ours is shown as it is.
fn invalid_transactions(json: &str) -> Markup {
    if json.trim() == "[]" || json.is_empty() {
        return html! {};
    }
    html! {
        h2 { "Invalid transactions" }
        @match serde_json::from_str::<Vec<InvalidTransaction>>(json) {
            Ok(transactions) => ul.ids {
                @for transaction in transactions.iter().take(MOST_IDS) { li {
                    code { (transaction.id) }
                    @if !transaction.message.is_empty() { p.words { (transaction.message) } }
                } }
            },
            Err(_) => pre { (json) },
        }
    }
}
