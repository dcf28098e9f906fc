//! `/replicas/{name}`: one replica, what holds it up, its upstreams, and its
//! entries.

use super::entries::{self, Looked};
use super::format::{Tone, ago, ago_or_dash, badge, counted, cut, thousands};
use super::jobs::old_figures;
use super::layout::{Page, problem_page};
use super::replica_card as card;
use crate::flows::replicas::ContentKind;
use crate::http::api::datasets::find_replica;
use crate::http::problem::Answer;
use crate::http::replica_figures::{ReplicaFigures, replica_figures};
use crate::http::replica_report::{ReplicaReport, UpstreamReport};
use crate::http::state::Http;
use crate::time::Timestamp;
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

/// The page.
pub(in crate::http) async fn replica(
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
    let report = find_replica(http, &figures, name)?;
    let looked = Looked::at(http, ContentKind::Replica, name, looking).await?;
    let now = Timestamp::now();
    let live = html! {
        (top(&report, &figures, now))
        h2 { "Entries" }
        (looked.rows())
    };
    let mut page = Page::new(format!("Replica {}", cut(name, 64)), "/replicas", live);
    page.still = html! {
        p.crumb { a href="/replicas" { "Replicas" } }
        h1.name { (name) }
        (looked.form())
    };
    Ok(page)
}

fn top(report: &ReplicaReport, figures: &ReplicaFigures, now: Timestamp) -> Markup {
    html! {
        p.lead { (card::replica_badge(report)) " " (card::source(report)) }
        (old_figures(figures.problem.as_deref(), figures.read_at, now))
        @if card::has_trouble(report) {
            @let (tone, shape) = if card::mends_itself(report) { ("warn", "◐ ") } else { ("bad", "▲ ") };
            section class=(format!("notice {tone}")) { h2 { span aria-hidden="true" { (shape) } "What holds it up" } (card::trouble(report, now)) }
        }
        @if let Some(bootstrap) = &report.bootstrap { div.card { (card::progress(bootstrap, now)) } }
        (card::replica_figures(report, now))
        div.card {
            h3 { "Bootstraps and audits" }
            ul.counts { @for (reason, count) in &report.bootstraps { li { (reason) " " span.num { (thousands(*count)) } } } }
            (audits(report, now))
            (card::commands(report))
        }
        div.card {
            h3 { "History that its own followers can catch up from" }
            (card::history(&report.history, &report.size, now))
            @if report.size.history_changes.is_none() { p.empty { "There is no copy yet." } }
            @if let Some(epoch) = &report.standing.epoch { p.note { "Epoch " code { (epoch) } } }
        }
        @if report.configured { h2 { "Upstreams" } (upstreams(report, now)) }
    }
}

fn audits(report: &ReplicaReport, now: Timestamp) -> Markup {
    html! {
        p.note {
            @match &report.audited {
                Some(audit) => {
                    "Compared with its upstream last " (ago(audit.at, now)) ": "
                    @match audit.differences {
                        0 => "no range differed",
                        many => { (counted(many, "range", "ranges")) " differed and " @if many == 1 { "was" } @else { "were" } " put right" },
                    }
                    "; "
                },
                None => "Not compared with its upstream yet; ",
            }
            (counted(report.repairs, "range was", "ranges were")) " put right in all."
        }
        @if let Some(key) = &report.auditing {
            p.note { "It is being compared now"
                @if !key.is_empty() { ", behind key " code { (cut(key, 80)) } }
                "." }
        }
    }
}

fn upstreams(report: &ReplicaReport, now: Timestamp) -> Markup {
    if report.upstream_reports.is_empty() {
        return html! {
            p.empty { "This server does not follow it: how its upstreams stand is told by the server that does." }
            ul { @for upstream in &report.upstreams { li.words { span.url { (cut(upstream, 200)) } } } }
        };
    }
    html! {
        div.scroll { table.cards {
            thead { tr {
                th scope="col" { "Upstream" } th scope="col" { "Health" } th.num scope="col" { "Head" }
                th scope="col" { "Epoch" } th scope="col" { "Heard" } th scope="col" { "Last error" }
            } }
            tbody { @for upstream in &report.upstream_reports { (upstream_row(report, upstream, now)) } }
        } }
    }
}

fn upstream_row(report: &ReplicaReport, upstream: &UpstreamReport, now: Timestamp) -> Markup {
    let other = upstream.epoch.is_some() && upstream.epoch != report.standing.epoch;
    html! { tr {
        th scope="row" { span.url { (cut(&upstream.place, 200)) } }
        td data-label="Health" {
            @if upstream.failures > 0 {
                (badge(Tone::Bad, "▲", "failing"))
                " " (counted(upstream.failures, "failure", "failures")) " in a row"
            } @else if upstream.heard_at.is_none() {
                (badge(Tone::Quiet, "○", "not heard yet"))
            } @else if other && report.standing.epoch.is_some() {
                (badge(Tone::Warn, "◐", "another epoch"))
            } @else { (badge(Tone::Good, "●", "answers")) }
        }
        td.num data-label="Head" { (card::number(upstream.head)) }
        td data-label="Epoch" { @match &upstream.epoch {
            Some(epoch) => code { (cut(epoch.as_str(), 32)) },
            None => span.none { "–" },
        } }
        td data-label="Heard" { (ago_or_dash(upstream.heard_at, now)) }
        td.words data-label="Last error" {
            @match &upstream.last_error {
                Some(error) => {
                    (cut(error, 200))
                    @if let Some(at) = upstream.failed_at { " · " (ago(at, now)) }
                    @if let Some(at) = upstream.paused_until.filter(|at| *at > now) { " · tried again " (ago(at, now)) }
                },
                None => span.none { "–" },
            }
        }
    } }
}
