//! `/datasets/{name}`: one dataset, its history, how to publish to it and follow
//! it, and its entries.

use super::entries::{self, Looked};
use super::format::{ago, cut};
use super::jobs::old_figures;
use super::layout::{Page, problem_page};
use super::replica_card as card;
use crate::flows::replicas::ContentKind;
use crate::http::api::datasets::find_dataset;
use crate::http::dataset_reports::DatasetReport;
use crate::http::problem::Answer;
use crate::http::replica_figures::{ReplicaFigures, replica_figures};
use crate::http::state::Http;
use crate::time::Timestamp;
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

/// The page.
pub(in crate::http) async fn dataset(
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
    let looking = entries::read(request)?;
    let figures = replica_figures(http).await;
    let report = find_dataset(http, &figures, name)?;
    let looked = Looked::at(http, ContentKind::Dataset, name, looking).await?;
    let now = Timestamp::now();
    let live = html! {
        (top(&report, &figures, now))
        h2 { "Entries" }
        (looked.rows())
    };
    let mut page = Page::new(format!("Dataset {}", cut(name, 64)), "/replicas", live);
    page.still = html! {
        p.crumb { a href="/replicas" { "Replicas" } }
        h1.name { (name) }
        (looked.form())
    };
    Ok(page)
}

fn top(report: &DatasetReport, figures: &ReplicaFigures, now: Timestamp) -> Markup {
    html! {
        p.lead { (card::dataset_badge(report)) " " (card::origin(report)) }
        (old_figures(figures.problem.as_deref(), figures.read_at, now))
        (card::dataset_figures(&report.standing, &report.size, now))
        div.card {
            h3 { "History" }
            (card::history(&report.history, &report.size, now))
            @if report.size.history_changes.is_none() { p.empty { "Nothing was published yet." } }
            @if let Some(epoch) = &report.standing.epoch {
                p.note { "Epoch " code { (epoch) }
                    @if let Some(at) = report.size.created_at { " · created " (ago(at, now)) }
                }
            }
            p.note { "A follower whose head is older than the oldest one has to copy all entries anew." }
        }
    }
}
