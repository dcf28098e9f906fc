//! `/sites/{site_id}`: one site, how it stands with each job and why, its
//! visits, and what was learned.

use super::app_title::app_title;
use super::format::{Tone, ago, ago_or_dash, badge, counted, cut, short_span};
use super::job_card::{job_href, sites_href, standing_badge};
use super::layout::{Page, problem_page};
use crate::config::{JobSettings, Settings};
use crate::flows::sites::{
    JobToCome, SiteReport, SiteWithJob, SitesView, VisitReport, check_site_url, site_report,
    standing_text,
};
use crate::http::problem::{Answer, Problem};
use crate::http::revive;
use crate::http::state::Http;
use crate::store::{LearnedRow, SiteRow, StatusRow};
use crate::time::Timestamp;
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

/// Longest id that table `sites` takes, in characters.
const LONGEST_ID: usize = 256;
/// Most visits shown of a job.
const MOST_VISITS: usize = 20;
/// Most earlier results shown of a job.
const MOST_EARLIER: usize = 10;
/// Most characters shown of the latest result, and of an earlier one.
const LONGEST_LATEST: usize = 8000;
const LONGEST_EARLIER: usize = 2000;

/// The page.
pub(in crate::http) async fn site(
    http: web::Data<Http>,
    request: HttpRequest,
    path: web::Path<String>,
) -> HttpResponse {
    match page(&http, &path.into_inner()).await {
        Ok(page) => page.respond(&http, &request),
        Err(refusal) => problem_page(&http, &request, &refusal),
    }
}

async fn page(http: &Http, site_id: &str) -> Answer<Page> {
    let missing = || Problem::site_not_found(site_id);
    // The table takes any text of 1 to 256 characters, and the list leads here.
    if site_id.chars().count() > LONGEST_ID || site_id.contains('\0') {
        return Err(missing().into());
    }
    let now = Timestamp::now();
    let (wanted, settings) = (site_id.to_owned(), http.settings());
    let of_report = settings.clone();
    let found = http
        .database(move |store| async move { site_report(&store, &of_report, &wanted, now).await })
        .await?;
    let Some(report) = found else {
        return Err(missing().into());
    };
    let title = format!("Site {}", cut(site_id, 24));
    let live = show(&report, &settings, &http.sites_view(), now);
    Ok(Page::new(title, "/sites", live))
}

fn show(report: &SiteReport, settings: &Settings, view: &SitesView, now: Timestamp) -> Markup {
    let site = &report.site;
    let configured = |name: &str| {
        let mut jobs = settings.jobs.iter();
        jobs.find(|job| job.key.app.as_str() == site.app_id && *job.key.name == *name)
    };
    html! {
        p.crumb { a href="/sites" { "Sites" } " / " a href=(sites_href(&[("app", &site.app_id)])) { (cut(&site.app_id, 80)) } }
        h1.batch {
            @if site.enabled { (badge(Tone::Good, "●", "enabled")) } @else { (standing_badge("disabled")) }
            " " span.whole-id { (site.site_id) }
        }
        (app_title(settings, &site.app_id))
        (what(site, now))
        @if let Some(until) = report.paused_until {
            section.notice.warn {
                h2 { span aria-hidden="true" { "◐ " } "Its host asked to be left alone" }
                p { "It is visited no sooner than " (ago(until, now)) ", whatever its jobs say." }
            }
        }
        @for job in &report.jobs {
            @let found = configured(&job.status.job_name);
            (with_job(site, job, found, now))
            @if let Some(error) = found.and_then(|job| view.job(&job.key)?.last_error.as_deref()) {
                section.notice.bad { h2 { "The job does not run as it should" } p.words { (cut(error, 400)) } }
            }
        }
        @for JobToCome { job_name, next_visit } in &report.jobs_to_come {
            h2 { a href=(job_href(&site.app_id, job_name)) { (job_name) } }
            section.why { p { (standing_badge(if site.enabled { "never" } else { "disabled" })) " " (next_visit.why) } }
        }
        @if report.jobs.is_empty() && report.jobs_to_come.is_empty() {
            p.empty { "No job of app " (site.app_id) " is configured: nothing visits this site." }
        }
    }
}

/// What it is, whatever its jobs say.
fn what(site: &SiteRow, now: Timestamp) -> Markup {
    let link = check_site_url(&site.url).is_ok();
    html! {
        p.words { @if link { a href=(site.url) rel="noreferrer noopener" { (site.url) } } @else { code { (site.url) } " " (badge(Tone::Warn, "⊘", "no address")) } }
        dl.figures {
            div { dt { "Batch code" } dd { (site.batch_code) } }
            div { dt { "Added" } dd { (ago(site.created_at, now)) } }
            @for (name, value) in labels(&site.labels) { div { dt { (cut(&name, 64)) } dd.words { (cut(&value, 200)) } } }
        }
    }
}

/// Labels, a value that is no text as JSON; applications write them too.
fn labels(json: &str) -> Vec<(String, String)> {
    match serde_json::from_str(json) {
        Ok(serde_json::Value::Object(labels)) => labels
            .into_iter()
            .take(50)
            .map(|(name, value)| match value {
                serde_json::Value::String(text) => (name, text),
                other => (name, other.to_string()),
            })
            .collect(),
        _ => vec![("labels".to_owned(), json.to_owned())],
    }
}

fn with_job(
    site: &SiteRow,
    detail: &SiteWithJob,
    job: Option<&JobSettings>,
    now: Timestamp,
) -> Markup {
    let SiteWithJob {
        status,
        next_visit: next,
        ..
    } = detail;
    html! {
        h2 { a href=(job_href(&site.app_id, &status.job_name)) { (cut(&status.job_name, 80)) } }
        section.why {
            p { (standing_badge(word(site, status))) " " (standing_text(status, job)) }
            p { "Next visit: "
                @match next.at {
                    Some(at) if at > now => { (ago(at, now)) " (" (next.why) ")" },
                    Some(at) if status.last_run_at.is_some() => { "due since " (ago(at, now)) " (" (next.why) ")" },
                    Some(_) => { (next.why) },
                    None => { "none (" (next.why) ")" },
                }
            }
            @if status.given_up_at.is_some() {
                p { "To revive it: " code { (revive::of_site(&site.site_id, &status.job_name)) } }
            }
        }
        @if let Some(error) = &status.last_error {
            section.notice.warn { h2 { "What went wrong last" } p.words { (cut(error, 1000)) } }
        }
        dl.figures {
            div { dt { "Last visit" } dd { (ago_or_dash(status.last_run_at, now)) } }
            div { dt { "Outcome" } dd { (status.last_outcome.as_deref().unwrap_or("–")) } }
            div { dt { "Took" } dd { @match status.last_duration_ms {
                Some(millis) => (took(u64::try_from(millis).unwrap_or(0))),
                None => span.none { "–" },
            } } }
            @if status.given_up_at.is_some() { div { dt { "Given up" } dd { (ago_or_dash(status.given_up_at, now)) } } }
        }
        (visits(&detail.visits, now))
        (results(&status.job_name, &detail.results, now))
    }
}

/// How it stands, by the word of the counts.
fn word(site: &SiteRow, status: &StatusRow) -> &'static str {
    if !site.enabled {
        "disabled"
    } else if status.given_up_at.is_some() {
        "given_up"
    } else if status.is_revived() {
        "revived"
    } else if status.last_run_at.is_none() {
        "never"
    } else if status.last_outcome.as_deref() == Some("success") {
        "well"
    } else {
        "failing"
    }
}

/// How long a visit took; nothing shorter than a millisecond is kept.
fn took(millis: u64) -> String {
    match millis {
        0 => "< 1 ms".to_owned(),
        millis => short_span(millis as f64 / 1000.0),
    }
}

fn visits(visits: &[VisitReport], now: Timestamp) -> Markup {
    let visits = &visits[..visits.len().min(MOST_VISITS)];
    html! {
        @if !visits.is_empty() {
            h3 { "Visits" }
            @if visits.len() > 1 { p.lead { "The last " (visits.len()) ", newest first." } }
            div.scroll { table {
                thead { tr { th scope="col" { "When" } th.exact scope="col" { "Time" } th scope="col" { "Outcome" } th.num scope="col" { "Took" } } }
                tbody { @for visit in visits { tr {
                    td { (ago(visit.at, now)) }
                    td.time.exact { (visit.at) }
                    td { @match visit.kind {
                        None => (badge(Tone::Good, "●", visit.outcome)),
                        Some(kind) => (badge(Tone::Warn, "◐", kind)),
                    } }
                    td.num { (took(visit.duration_ms)) }
                } } }
            } }
        }
    }
}

/// What was learned: the latest, and the versions before it.
fn results(job: &str, results: &[LearnedRow], now: Timestamp) -> Markup {
    let Some((latest, earlier)) = results.split_first() else {
        return html! {};
    };
    html! {
        h3 { "Result" }
        p.lead { "Learned " (ago(latest.run_at, now)) ", and the same ever since." }
        div.card { pre { (pretty(&latest.document, LONGEST_LATEST)) } }
        @if !earlier.is_empty() {
            details id={ "earlier-" (job) } {
                summary { (counted(earlier.len(), "earlier version", "earlier versions")) }
                @for version in earlier.iter().take(MOST_EARLIER) {
                    p.note { "From " (ago(version.run_at, now)) }
                    div.card { pre { (pretty(&version.document, LONGEST_EARLIER)) } }
                }
                @if earlier.len() > MOST_EARLIER { p.note { "and " (earlier.len() - MOST_EARLIER) " more" } }
            }
        }
    }
}

/// A document with line breaks, cut where it is too long for a page.
fn pretty(document: &str, most: usize) -> String {
    let read = serde_json::from_str::<serde_json::Value>(document);
    let text = read.and_then(|value| serde_json::to_string_pretty(&value));
    cut(text.as_deref().unwrap_or(document), most)
}
