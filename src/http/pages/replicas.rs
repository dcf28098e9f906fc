//! `/replicas`: what is published here, the copies that are kept here, and how
//! each stands.

use super::jobs::old_figures;
use super::layout::Page;
use super::replica_card as card;
use crate::http::dataset_reports::gather_datasets;
use crate::http::replica_figures::replica_figures;
use crate::http::replicas::gather_replicas;
use crate::http::state::Http;
use crate::time::Timestamp;
use actix_web::{HttpRequest, HttpResponse, web};
use maud::html;

/// The page.
pub(in crate::http) async fn replicas(http: web::Data<Http>, request: HttpRequest) -> HttpResponse {
    let figures = replica_figures(&http).await;
    let datasets = gather_datasets(&http.settings(), &figures);
    let replicas = gather_replicas(&http, &figures);
    let now = Timestamp::now();
    let live = html! {
        h1 { "Replicas" }
        p.lead { "A dataset is published here for other nodes to follow; a replica is a local copy of another node's dataset. Rates and upstreams are of this server, all else is of the database." }
        (old_figures(figures.problem.as_deref(), figures.read_at, now))
        h2 { "Copies kept here" }
        @if replicas.is_empty() {
            p.empty { "No replica is configured: add [[replicas]] to the configuration and reload." }
        }
        div.ledgers { @for report in &replicas { (card::replica(report, now)) } }
        h2 { "Published here" }
        @if datasets.is_empty() {
            p.empty { "No dataset is configured: add [[datasets]] to the configuration and reload." }
        }
        div.ledgers { @for report in &datasets { (card::dataset(report, now)) } }
    };
    Page::new("Replicas", "/replicas", live).respond(&http, &request)
}
