//! `/`: what is going on, what is failing and why, since when and until when.

use super::format::{
    Tone, ago, ago_or_dash, badge, counted, cut, list_href, span, status_badge, thousands,
};
use super::job_card::bar;
use super::layout::Page;
use super::{job_status, replica_status, services, subscription_status};
use crate::flows::batches::{BreakerPosition, LedgerView, Status};
use crate::http::api::jobs::gather;
use crate::http::dataset_reports::gather_datasets;
use crate::http::jobs::Jobs;
use crate::http::overview::{LedgerReport, LedgerState, Overview};
use crate::http::replica_figures::replica_figures;
use crate::http::replica_report::ReplicaReport;
use crate::http::replicas::gather_replicas;
use crate::http::service_notices::service_notices;
use crate::http::state::Http;
use crate::http::subscription_figures::subscription_figures;
use crate::http::subscriptions::{SubscriptionReport, gather_from};
use crate::http::summary::{SPLINTER_MEMORY, TOP_SERVICES, summary};
use crate::time::Timestamp;
use crate::watchdog::{ServiceState, ServiceStatus};
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

/// Most backed-off services shown of one ledger.
const MOST_TROUBLES: usize = 10;
/// Most failing ledgers told in the headline.
const MOST_REASONS: usize = 3;

/// The page.
pub(in crate::http) async fn status(http: web::Data<Http>, request: HttpRequest) -> HttpResponse {
    let (figures, jobs, of_events, of_replicas) = tokio::join!(
        summary(&http),
        gather(&http),
        subscription_figures(&http),
        replica_figures(&http)
    );
    let events = gather_from(&http, &of_events);
    let replicas = gather_replicas(&http, &of_replicas);
    let datasets = gather_datasets(&http.settings(), &of_replicas);
    let overview = Overview::gather(&http.settings(), &http.view(), &figures);
    let watchdog = (http.state.services)();
    let services = &watchdog.services;
    let now = Timestamp::now();
    let draining = *http.state.draining.borrow();
    // What ledgers lack is told where there is nothing else.
    let others = jobs.jobs.is_empty() && events.is_empty();
    let others = others && replicas.is_empty() && datasets.is_empty();
    let ledgers = others || !overview.ledgers.is_empty();
    let live = html! {
        (headline(&overview, &jobs, (&events, &replicas), services, draining, now))
        (notices(&http, &overview, services, now))
        @if !draining { (lookers(&service_notices(&watchdog))) }
        (job_status::section(&jobs, overview.problem.is_some(), now))
        (subscription_status::section(&events, now))
        (replica_status::section(&replicas, &datasets, now))
        @if ledgers { h2 { "Ledgers" } }
        @if ledgers && overview.ledgers.is_empty() {
            p.empty { "No ledger is configured: add [[ledgers]] to the configuration and reload." }
        }
        div.ledgers { @for ledger in &overview.ledgers { (card(ledger, now)) } }
        @if overview.more_ledgers.ledgers > 0 {
            p.note { "and " (counted(overview.more_ledgers.ledgers, "more ledger", "more ledgers")) " that the configuration does not have" }
        }
        @if ledgers { (waiting(&overview, now)) }
        h2 { "Inside this server" }
        (services::table(services, now))
    };
    Page::new("Status", "/", live).respond(&http, &request)
}

fn headline(
    overview: &Overview,
    jobs: &Jobs,
    (events, replicas): (&[SubscriptionReport], &[ReplicaReport]),
    services: &[ServiceStatus],
    draining: bool,
    now: Timestamp,
) -> Markup {
    // Rows of ledgers that are no longer configured are told on their cards.
    let polled = || overview.ledgers.iter().filter(|ledger| ledger.configured);
    let judged = judge(overview, services, draining);
    let judged = job_status::worse(judged, jobs, polled().count());
    let alone = jobs.jobs.is_empty() && polled().next().is_none();
    let judged = subscription_status::worse(judged, events, alone && !draining);
    let alone = alone && events.is_empty();
    let judged = replica_status::worse(judged, replicas, alone && !draining);
    let (tone, shape, words) = judged;
    let outstanding: i64 = polled().map(|ledger| ledger.outstanding).sum();
    let due: i64 = polled().map(|ledger| ledger.due).sum();
    let settled: i64 = polled().map(|ledger| ledger.settled).sum();
    let oldest = polled().filter_map(|ledger| ledger.oldest_due_at).min();
    html! {
        section.headline.(tone.class()) {
            h1 { span.shape aria-hidden="true" { (shape) } " " (words) }
            (reasons(overview, now))
            (job_status::reasons(jobs, now))
            (subscription_status::reasons(events))
            (replica_status::reasons(replicas))
            (job_status::totals(jobs, now))
            (subscription_status::totals(events, now))
            (replica_status::totals(replicas))
            @if jobs.jobs.is_empty() && events.is_empty() && replicas.is_empty() || polled().next().is_some() { dl.totals {
                div { dt { "Batches outstanding" } dd { (thousands(outstanding)) } }
                div { dt { "Batches due" } dd { (thousands(due)) } }
                div { dt { "Oldest batch due" } dd {
                    @match oldest {
                        Some(at) => time datetime=(at) title=(at) { (span(now.since(at))) },
                        None => span.none { "–" },
                    }
                } }
                div { dt { "Batches settled" } dd { (thousands(settled)) } }
            } }
        }
    }
}

/// What fails, why, since when and until when, of the first few ledgers: on a
/// phone the cards are below the fold.
fn reasons(overview: &Overview, now: Timestamp) -> Markup {
    let failing = || {
        overview
            .ledgers
            .iter()
            .filter(|ledger| ledger.state == LedgerState::Failing)
    };
    let more = failing().count().saturating_sub(MOST_REASONS);
    html! {
        @for ledger in failing().take(MOST_REASONS) { @if let Some(view) = &ledger.view {
            p.words {
                strong { (ledger.name) } ": "
                (cut(view.last_error.as_deref().unwrap_or("no error was kept"), 160))
                @if let Some(at) = view.last_success_at { " · no answer for " (span(now.since(at))) }
                @if let Some(at) = view.retry_at.filter(|at| *at > now) { " · asked again " (ago(at, now)) }
            }
        } }
        @if more > 0 { p.note { "and " (thousands(more)) " more" } }
    }
}

/// The sentence on top; what is worst is said.
fn judge(
    overview: &Overview,
    services: &[ServiceStatus],
    draining: bool,
) -> (Tone, &'static str, String) {
    let configured = overview.ledgers.iter().filter(|l| l.configured).count();
    let with = |state| overview.ledgers.iter().filter(|l| l.state == state).count();
    let failed = services
        .iter()
        .find(|service| service.critical && service.state == ServiceState::Failed);
    let failing = with(LedgerState::Failing);
    if draining {
        (Tone::Warn, "■", "This server is stopping".to_owned())
    } else if overview.problem.is_some() {
        (Tone::Bad, "▲", "The database does not answer".to_owned())
    } else if let Some(service) = failed {
        (
            Tone::Bad,
            "▲",
            format!("Service {} has failed", service.name),
        )
    } else if configured == 0 {
        (Tone::Quiet, "○", "No ledger is configured".to_owned())
    } else if failing > 0 {
        let verb = if failing == 1 { "is" } else { "are" };
        let noun = if configured == 1 { "ledger" } else { "ledgers" };
        let words = format!("{failing} of {configured} {noun} {verb} failing");
        (Tone::Bad, "▲", words)
    } else if with(LedgerState::Degraded) > 0 {
        let words = "All ledgers answer, some of their services do not".to_owned();
        (Tone::Warn, "◐", words)
    } else if with(LedgerState::Waiting) == configured {
        (Tone::Quiet, "○", "No ledger was asked yet".to_owned())
    } else if with(LedgerState::Answering) == 0 {
        (
            Tone::Quiet,
            "◇",
            "Another server polls the ledgers".to_owned(),
        )
    } else {
        (Tone::Good, "●", "All ledgers answer".to_owned())
    }
}

fn notices(http: &Http, overview: &Overview, services: &[ServiceStatus], now: Timestamp) -> Markup {
    let reload = http.state.reload.borrow().clone();
    let failed: Vec<&ServiceStatus> = services
        .iter()
        .filter(|service| service.state == ServiceState::Failed)
        .collect();
    html! {
        @if let Some(problem) = &overview.problem {
            section.notice.bad {
                h2 { span aria-hidden="true" { "▲ " } "Figures are not new" }
                p { (problem)
                    @match overview.read_at {
                        Some(at) => { "; those below are from " (ago(at, now)) "." },
                        None => { "; there are none to show yet." },
                    }
                }
            }
        }
        @if let Some(problem) = &reload.problem {
            section.notice.bad {
                h2 { span aria-hidden="true" { "▲ " } "The last reload changed nothing" }
                @if let Some(at) = reload.at {
                    p { "Asked for " (ago(at, now))
                        @if let Some(first) = reload.failing_since.filter(|first| *first != at) {
                            "; none was applied since the one asked for " (ago(first, now))
                        }
                        "; the configuration before is in force."
                    }
                }
                pre { (problem) }
            }
        } @else if !reload.needs_restart.is_empty() {
            section.notice.warn {
                h2 { span aria-hidden="true" { "▲ " } "The last reload waits for a restart" }
                @if let Some(at) = reload.at { p { "Asked for " (ago(at, now)) "; applied, except for:" } }
                pre { (reload.needs_restart.join("\n")) }
            }
        }
        @for service in failed {
            section.notice.bad {
                h2 { span aria-hidden="true" { "▲ " } "Service " (service.name) " has failed" }
                p.words { (service.last_error.as_deref().unwrap_or("No error was kept.")) " Since " (ago(service.since, now)) "." }
            }
        }
        @if overview.at_risk_total > 0 {
            section.notice.warn {
                h2 { span aria-hidden="true" { "◐ " } (counted(overview.at_risk_total, "service", "services")) " at risk" }
                p { "More than " (SPLINTER_MEMORY) " batches outstanding: a Splinter node remembers the newest "
                    (SPLINTER_MEMORY) " of a service, and older ones may be forgotten by the ledger before it is asked." }
                (at_risk(overview))
            }
        }
    }
}

/// What does not come back by itself.
fn lookers(sentences: &[String]) -> Markup {
    html! {
        @if !sentences.is_empty() {
            section.notice.warn {
                h2 { span aria-hidden="true" { "◐ " } "Not all of this server works" }
                @for sentence in sentences { p.words { (sentence) } }
            }
        }
    }
}

/// Names the services at risk.
fn at_risk(overview: &Overview) -> Markup {
    let more = overview
        .at_risk_total
        .saturating_sub(overview.at_risk.len());
    html! {
        details id="at-risk" {
            summary { "Which" }
            ul { @for service in &overview.at_risk { li {
                a href=(list_href(&[("ledger", &service.ledger), ("service_id", &service.service_id)])) {
                    @if service.service_id.is_empty() { "(no service)" } @else { code { (cut(&service.service_id, 60)) } }
                }
                " of " (service.ledger) ": " (thousands(service.outstanding)) " outstanding"
            } } }
            @if more > 0 { p.note { "and " (thousands(more)) " more" } }
        }
    }
}

fn state_badge(state: LedgerState) -> Markup {
    let (tone, shape) = match state {
        LedgerState::Answering => (Tone::Good, "●"),
        LedgerState::Degraded => (Tone::Warn, "◐"),
        LedgerState::Failing => (Tone::Bad, "▲"),
        LedgerState::Waiting => (Tone::Quiet, "○"),
        LedgerState::Elsewhere => (Tone::Quiet, "◇"),
        LedgerState::NotConfigured => (Tone::Warn, "⊘"),
    };
    badge(tone, shape, state.as_str())
}

fn card(ledger: &LedgerReport, now: Timestamp) -> Markup {
    let view = ledger.view.as_ref();
    html! {
        article.card {
            header { h3 { (ledger.name) } (state_badge(ledger.state)) }
            @match view {
                Some(view) => p.kind { (view.kind) " · " span.url { (view.url) }
                    @if view.role == crate::config::LedgerRole::Fallback { " · fallback" } },
                None if !ledger.configured => p.kind { "Not in the configuration: its batches stay and are not polled." },
                None => p.kind { "Not started yet." },
            }
            @if let Some(view) = view { (trouble(view, ledger.state, now)) }
            dl.figures {
                div { dt { "Outstanding" } dd { (thousands(ledger.outstanding)) } }
                @if ledger.configured {
                    div { dt { "Due" } dd { (thousands(ledger.due)) } }
                    div { dt { "Oldest due" } dd {
                        @match ledger.oldest_due_at {
                            Some(at) => time datetime=(at) title=(at) { (span(now.since(at))) },
                            None => span.none { "–" },
                        }
                    } }
                    div { dt { "In flight" } dd { (thousands(view.map_or(0, |view| view.in_flight))) } }
                    div { dt { "Queued" } dd { (thousands(view.map_or(0, |view| view.queued))) } }
                }
                div { dt { "Settled" } dd { (thousands(ledger.settled)) } }
            }
            (shares(ledger))
            @if let Some(view) = view {
                (troubled_services(view, now))
                @if view.held { (since_start(view)) }
            }
        }
    }
}

fn trouble(view: &LedgerView, state: LedgerState, now: Timestamp) -> Markup {
    match state {
        LedgerState::Failing => html! {
            div.trouble {
                p.words { (cut(view.last_error.as_deref().unwrap_or("No error was kept."), 400)) }
                p {
                    @match view.last_success_at {
                        Some(at) => { "Answered last " (ago(at, now)) },
                        None => "Has not answered since this server started",
                    }
                    " · " (counted(view.failures, "failure", "failures")) " in a row · "
                    @match (view.breaker, view.retry_at) {
                        (BreakerPosition::HalfOpen, _) => "one request is out to see whether it is back",
                        (_, Some(at)) if at > now => { "its breaker is open; asked again " (ago(at, now)) },
                        _ => "asked again soon",
                    }
                }
            }
        },
        LedgerState::Elsewhere | LedgerState::Waiting => html! {
            @match &view.holder {
                Some(holder) => p.kind { "Polled by server " code { (holder) } "." },
                None if !view.held => p.kind { "No server holds it at the moment." },
                None => {},
            }
        },
        _ => html! {},
    }
}

/// Batches by status: a bar, and the same in words.
fn shares(ledger: &LedgerReport) -> Markup {
    let total: i64 = ledger.counts.values().sum();
    if total <= 0 {
        return html! { p.empty { "No batches." } };
    }
    let words = Status::ALL.map(Status::as_str);
    bar(&words, &ledger.counts, total, |word, count| {
        html! { a href=(list_href(&[("ledger", &ledger.name), ("status", word)])) {
            (status_badge(word)) " " span.num { (thousands(count)) }
        } }
    })
}

fn troubled_services(view: &LedgerView, now: Timestamp) -> Markup {
    if view.failing_services_total == 0 {
        return html! {};
    }
    let shown = view.failing_services.len().min(MOST_TROUBLES);
    let more = view.failing_services_total.saturating_sub(shown);
    html! {
        details id={ "troubles-" (view.name) } {
            summary { (counted(view.failing_services_total, "service", "services")) " backed off" }
            ul.troubles { @for trouble in view.failing_services.iter().take(MOST_TROUBLES) { li {
                code { @if trouble.service_id.is_empty() { "(no service)" } @else { (trouble.service_id) } }
                " · " (counted(trouble.failures, "failure", "failures")) " · again " (ago(trouble.retry_at, now))
                p.words { (cut(&trouble.last_error, 200)) }
            } } }
            @if more > 0 { p.note { "and " (thousands(more)) " more" } }
        }
    }
}

fn since_start(view: &LedgerView) -> Markup {
    let totals = &view.totals;
    html! {
        p.note {
            "Since the start: " (counted(totals.requests, "request", "requests")) " answered, "
            (thousands(totals.failed_requests)) " failed; " (thousands(totals.settled)) " settled, "
            (thousands(totals.unknown)) " unknown"
            @if totals.missing > 0 { ", " (thousands(totals.missing)) " asked for and not answered" }
            @if totals.unasked > 0 { ", " (thousands(totals.unasked)) " answered unasked" }
            @if totals.fenced > 0 { ", " (thousands(totals.fenced)) " dropped, the lease being lost" }
            "."
        }
    }
}

fn waiting(overview: &Overview, now: Timestamp) -> Markup {
    html! {
        h2 { "Outstanding by service" }
        @if overview.services.is_empty() {
            p.empty { "Nothing is outstanding." }
        } @else {
            @if overview.services.len() >= TOP_SERVICES { p.lead { "The " (TOP_SERVICES) " services with the most." } }
            div.scroll { table.cards {
                thead { tr {
                    th scope="col" { "Service" } th scope="col" { "Ledger" }
                    th.num scope="col" { "Outstanding" }
                    th scope="col" { "Next poll" } th scope="col" { "Remark" }
                } }
                tbody { @for service in &overview.services { tr {
                    th scope="row" {
                        @let summary = &service.summary;
                        a href=(list_href(&[("ledger", &summary.ledger), ("service_id", &summary.service_id)])) {
                            @if summary.service_id.is_empty() { "(no service)" } @else { code { (cut(&summary.service_id, 60)) } }
                        }
                    }
                    td data-label="Ledger" { (service.summary.ledger) }
                    td.num data-label="Outstanding" { (thousands(service.summary.outstanding)) }
                    td data-label="Next poll" {
                        @if !service.configured { "not polled" }
                        @else if service.summary.due_at_once > 0 || service.summary.next_poll_at.is_some_and(|at| at <= now) { "due now" }
                        @else { (ago_or_dash(service.summary.next_poll_at, now)) }
                    }
                    td data-label="Remark" {
                        @if service.at_risk {
                            span title="may be forgotten by the ledger before it is asked" { (badge(Tone::Warn, "◐", "at risk")) }
                        } @else if !service.configured {
                            (badge(Tone::Warn, "⊘", "not configured"))
                        } @else { span.none { "–" } }
                    }
                } } }
            } }
        }
    }
}
