//! `/subscriptions`: the streams of events, how far each is, and what holds
//! them up.

use super::jobs::old_figures;
use super::layout::Page;
use super::{event_chart, subscription_card};
use crate::http::state::Http;
use crate::http::subscription_figures::subscription_figures;
use crate::http::subscriptions::gather_from;
use crate::time::Timestamp;
use actix_web::{HttpRequest, HttpResponse, web};
use maud::html;

/// The page.
pub(in crate::http) async fn subscriptions(
    http: web::Data<Http>,
    request: HttpRequest,
) -> HttpResponse {
    let figures = subscription_figures(&http).await;
    let all = gather_from(&http, &figures);
    let now = Timestamp::now();
    let live = html! {
        h1 { "Events" }
        p.lead { "Each subscription's events are recorded once, judged, and processed in order. Counts are of all servers; what waits and the rate are of this one." }
        (old_figures(figures.problem.as_deref(), figures.read_at, now))
        @if all.is_empty() {
            p.empty { "No subscription is configured: add [[subscriptions]] to the configuration and reload." }
        }
        @for (index, report) in all.iter().enumerate() {
            section.job {
                (subscription_card::card(report, now))
                div.card {
                    h3 { "Events" }
                    @let counts = figures.counts.get(&report.name).map_or(&[][..], Vec::as_slice);
                    (event_chart::events(&index.to_string(), counts, now))
                }
            }
        }
    };
    Page::new("Events", "/subscriptions", live).respond(&http, &request)
}
