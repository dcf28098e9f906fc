//! `/jobs/{app}/{name}`: one job, its shards and levels, and its visits over
//! time.

use super::app_title::app_title;
use super::chart;
use super::format::{cut, thousands};
use super::job_card::{self, shard_row, sites_href};
use super::jobs::old_figures;
use super::layout::{Page, problem_page};
use crate::config::Settings;
use crate::http::api::jobs::{JobWithOutcomes, job_detail};
use crate::http::jobs::JobReport;
use crate::http::problem::Answer;
use crate::http::state::Http;
use crate::time::Timestamp;
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

/// Most shards shown.
const MOST_SHARDS: usize = 100;

/// The page.
pub(in crate::http) async fn job(
    http: web::Data<Http>,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> HttpResponse {
    let (app, name) = path.into_inner();
    match page(&http, &app, &name).await {
        Ok(page) => page.respond(&http, &request),
        Err(refusal) => problem_page(&http, &request, &refusal),
    }
}

async fn page(http: &Http, app: &str, name: &str) -> Answer<Page> {
    let detail = job_detail(http, app, name).await?;
    let title = format!("Job {}/{}", detail.job.app, detail.job.name);
    let live = show(&detail, &http.settings(), Timestamp::now());
    Ok(Page::new(title, "/jobs", live))
}

fn show(detail: &JobWithOutcomes, settings: &Settings, now: Timestamp) -> Markup {
    let job = &detail.job;
    html! {
        p.crumb { a href="/jobs" { "Jobs" } " / " a href=(sites_href(&[("app", &job.app)])) { (job.app) } }
        h1.batch { (job_card::state_badge(job)) " " span.whole-id { (job.app) "/" (job.name) } }
        @match &job.retry {
            Some(retry) => p.lead { "Sites are visited by the retry policy " code { (retry) } "."
                @if job.server == Some(false) { " Servers leave the job to " code { "highwater poll" } " (" code { "server = false" } ")." } },
            None => p.lead { "Not in the configuration: its rows stay, and its sites are not visited." },
        }
        (app_title(settings, &job.app))
        (old_figures(detail.problem.as_deref(), detail.read_at, now))
        @if let Some(error) = &job.last_error {
            section.notice.bad { h2 { span aria-hidden="true" { "▲ " } "It does not run as it should" } p.words { (error) } (job_card::tried_again(job, now)) }
        }
        (job_card::figures(job, now))
        div.card { (job_card::shares(job)) (job_card::given_up(job)) }
        @if job.configured {
            h2 { "Visits" }
            div.card { (chart::outcomes("job", &detail.outcomes, now)) }
        }
        (levels(job))
        (shards(job, now))
        @if job.paused_hosts > 0 {
            p.note { "Hosts that asked to be left alone, and are: " (thousands(job.paused_hosts)) "." }
        }
    }
}

fn levels(job: &JobReport) -> Markup {
    html! {
        @if !job.levels.is_empty() {
            h2 { "Levels" }
            p.lead { "A site that fails as often in a row as its level says goes on to the next; past the last it is given up. A visit that goes well leads back to level 0." }
            div.scroll { table {
                thead { tr { th scope="col" { "Level" } th scope="col" { "Retry" } th.num scope="col" { "Sites" } } }
                tbody { @for level in &job.levels { tr {
                    th scope="row" { a href=(sites_href(&[("app", &job.app), ("job", &job.name), ("level", &level.level.to_string())])) { (level.level) } }
                    td { @match &level.retry {
                        Some(retry) => (retry),
                        None => span.none { "as the last level" },
                    } }
                    td.num { (thousands(level.sites)) }
                } } }
            } }
        }
    }
}

fn shards(job: &JobReport, now: Timestamp) -> Markup {
    let head = || {
        html! { thead { tr {
            th scope="col" { "Shard" } th scope="col" { "Codes" } th scope="col" { "Held by" } th scope="col" { "Since" }
        } } }
    };
    html! {
        @if !job.shards.is_empty() {
            h2 { "Shards" }
            div.scroll { table.cards {
                (head())
                tbody { @for shard in job.shards.iter().take(MOST_SHARDS) { (shard_row(shard, now)) } }
            } }
            @if job.shards.len() > MOST_SHARDS {
                p.note { "and " (thousands(job.shards.len() - MOST_SHARDS)) " more: " a href={ "/v1" (job_card::job_href(&job.app, &job.name)) } { "all of them as JSON" } }
            }
        }
        @if !job.other_runs.is_empty() {
            h2 { "Other runs" }
            p.lead { "Runs of the command line, and servers that split the job otherwise: whoever holds codes keeps all others from them." }
            div.scroll { table.cards {
                (head())
                tbody { @for run in job.other_runs.iter().take(MOST_SHARDS) { (shard_row(run, now)) } }
            } }
        }
        @if !job.configured && job.other_runs.is_empty() {
            p.note { "Nobody holds a shard of " (cut(&job.name, 80)) "." }
        }
    }
}
