//! `/jobs`: what is done on sites, how it goes, and what waits.

use super::format::{ago, counted};
use super::layout::Page;
use super::{chart, job_card};
use crate::http::api::jobs::gather_with_outcomes;
use crate::http::jobs::Jobs;
use crate::http::state::Http;
use crate::time::Timestamp;
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

/// The page.
pub(in crate::http) async fn jobs(http: web::Data<Http>, request: HttpRequest) -> HttpResponse {
    let (jobs, figures) = gather_with_outcomes(&http).await;
    let now = Timestamp::now();
    let live = html! {
        h1 { "Jobs" }
        p.lead { "What is done on the " a href="/sites" { "sites" } " of each app, and when. Times and counts are of all servers, what is in flight of this one." }
        (old_figures(jobs.problem.as_deref(), jobs.read_at, now))
        @if jobs.jobs.is_empty() {
            p.empty { "No job is configured: add [[apps]] and [[jobs]] to the configuration and reload." }
        }
        @for (index, job) in jobs.jobs.iter().enumerate() {
            section.job {
                (job_card::card(job, now))
                @if job.configured {
                    div.card {
                        @let key = (job.app.clone(), job.name.clone());
                        @let outcomes = figures.outcomes.get(&key).map_or(&[][..], Vec::as_slice);
                        h3 { "Visits" }
                        (chart::outcomes(&index.to_string(), outcomes, now))
                    }
                }
            }
        }
        (more(&jobs))
    };
    Page::new("Jobs", "/jobs", live).respond(&http, &request)
}

/// Jobs that are not shown and sites that no job visits, in notes.
pub(super) fn more(jobs: &Jobs) -> Markup {
    let sites: i64 = jobs.apps_without_jobs.iter().map(|app| app.sites).sum();
    html! {
        @if jobs.more > 0 {
            p.note { "and " (counted(jobs.more, "more job", "more jobs")) " that the configuration does not have" }
        }
        @if sites > 0 {
            p.note { a href="/sites" { (counted(sites, "site", "sites")) } " of "
                (counted(jobs.apps_without_jobs.len(), "app", "apps")) " without a job in the configuration: nothing visits them" }
        }
    }
}

/// Says that the figures are not new, and why.
pub(super) fn old_figures(
    problem: Option<&str>,
    read_at: Option<Timestamp>,
    now: Timestamp,
) -> Markup {
    html! {
        @if let Some(problem) = problem {
            section.notice.bad {
                h2 { span aria-hidden="true" { "▲ " } "Figures are not new" }
                p { (problem)
                    @match read_at {
                        Some(at) => { "; those below are from " (ago(at, now)) "." },
                        None => { "; there are none to show yet." },
                    }
                }
            }
        }
    }
}
