//! `/services`: what the watchdog runs, and how its messages travel.

use super::format::{Tone, ago, badge, cut, short_span, thousands};
use super::layout::Page;
use super::resources;
use crate::http::state::Http;
use crate::time::Timestamp;
use crate::watchdog::{ServiceState, ServiceStatus, WatchdogStatus};
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

/// The page.
pub(in crate::http) async fn services(http: web::Data<Http>, request: HttpRequest) -> HttpResponse {
    let watchdog = (http.state.services)();
    let services = &watchdog.services;
    let now = Timestamp::now();
    let saved = super::states::section(&http, now).await;
    let live = html! {
        h1 { "Services" }
        p.lead { "Everything that runs inside this server, as its watchdog sees it." }
        (table(services, now))
        (lost_threads(&watchdog, now))
        h2 { "Intercoms" }
        p.lead { "Messages between services, by pair. Propagation is the time from sending to handling." }
        (intercoms(services))
        (resources::section(&(http.state.resources)()))
        (saved)
    };
    Page::new("Services", "/services", live).respond(&http, &request)
}

/// Threads that services block; nothing where there are none.
fn lost_threads(watchdog: &WatchdogStatus, now: Timestamp) -> Markup {
    let lost = &watchdog.lost_threads;
    if lost.is_empty() && watchdog.recovered_threads == 0 {
        return html! {};
    }
    html! {
        h2 { "Lost threads" }
        p.lead {
            "A service that blocks its thread cannot be killed: it is fenced off and built again on another thread. "
            (lost.len()) " lost now, at most " (watchdog.lost_threads_limit) " are risked, "
            (thousands(watchdog.recovered_threads)) " came back."
        }
        @if !lost.is_empty() {
            div.scroll { table.cards {
                thead { tr {
                    th scope="col" { "Thread" } th scope="col" { "Blocked by" } th scope="col" { "Since" }
                } }
                tbody { @for lost in lost { tr {
                    th scope="row" { (lost.thread) }
                    td data-label="Blocked by" { (lost.service) }
                    td data-label="Since" { (ago(lost.since, now)) }
                } } }
            } }
        }
    }
}

/// State and restarts of all services; the status page shows it too.
pub(super) fn table(services: &[ServiceStatus], now: Timestamp) -> Markup {
    if services.is_empty() {
        return html! { p.empty { "No service is registered." } };
    }
    html! {
        div.scroll { table.cards {
            thead { tr {
                th scope="col" { "Service" } th scope="col" { "State" }
                th scope="col" { "Since" } th.num scope="col" { "Restarts" }
                th scope="col" { "Last error" }
            } }
            tbody { @for service in services { tr {
                th scope="row" { (service.name)
                    @if service.critical { " " span.note title="The server is not ready when it has failed" { "critical" } }
                    @if !service.depends_on.is_empty() { br; span.note { "with " (service.depends_on.join(", ")) } } }
                td data-label="State" { (state_badge(service.state))
                    @if let Some(other) = &service.waits_for { br; span.note { "waits for " (other) } } }
                td data-label="Since" { (ago(service.since, now)) }
                td.num data-label="Restarts" { (restarts(service)) }
                td.words data-label="Last error" {
                    @match &service.last_error {
                        Some(error) => (cut(error, 300)),
                        None => span.none { "–" },
                    }
                }
            } } }
        } }
    }
}

fn restarts(service: &ServiceStatus) -> Markup {
    let total: u64 = service.restarts.values().sum();
    let reasons: Vec<String> = service
        .restarts
        .iter()
        .map(|(reason, count)| format!("{reason} {}", thousands(*count)))
        .collect();
    html! {
        span {
            (thousands(total))
            @if total > 0 { br; span.note { (reasons.join(", ")) } }
        }
    }
}

fn state_badge(state: ServiceState) -> Markup {
    let (tone, shape) = match state {
        ServiceState::Running => (Tone::Good, "●"),
        ServiceState::Registered | ServiceState::Starting => (Tone::Quiet, "○"),
        ServiceState::Stopping | ServiceState::Stopped => (Tone::Quiet, "■"),
        ServiceState::Restarting => (Tone::Warn, "◐"),
        ServiceState::Failed => (Tone::Bad, "▲"),
    };
    badge(tone, shape, state.as_str())
}

fn intercoms(services: &[ServiceStatus]) -> Markup {
    let none = services.iter().all(|service| service.intercoms.is_empty());
    if none {
        return html! { p.empty { "No messages yet." } };
    }
    html! {
        div.scroll { table.cards {
            thead { tr {
                th scope="col" { "From" } th scope="col" { "To" } th scope="col" { "Message" }
                th.num scope="col" { "Handles" }
                th.num scope="col" { "Sent" } th.num scope="col" { "Failed" }
                th.num scope="col" { "In flight" }
                th.num scope="col" { "Mean" } th.num scope="col" { "Deviation" }
                th.num scope="col" { "p50" } th.num scope="col" { "p99" }
            } }
            tbody { @for service in services { @for stats in &service.intercoms { tr {
                th scope="row" { (stats.from) }
                td data-label="To" { (service.name) }
                td data-label="Message" { (stats.message) }
                td.num data-label="Handles" { (thousands(stats.open_handles)) }
                td.num data-label="Sent" { (thousands(stats.messages)) }
                td.num data-label="Failed" { span.hot[stats.failures > 0] { (thousands(stats.failures)) } }
                td.num data-label="In flight" { (thousands(stats.in_flight)) }
                td.num data-label="Mean" { (short_span(stats.propagation_mean_seconds)) }
                td.num data-label="Deviation" { (short_span(stats.propagation_stddev_seconds)) }
                td.num data-label="p50" { (short_span(stats.propagation_p50_seconds)) }
                td.num data-label="p99" { (short_span(stats.propagation_p99_seconds)) }
            } } } }
        } }
    }
}
