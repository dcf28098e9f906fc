//! `/sites`: the list, by filters, in an order, page by page.

use super::format::{ago_or_dash, cut, encode, short_id, thousands};
use super::job_card::{sites_href, standing_badge};
use super::layout::{Page, problem_page};
use super::unvisited::unvisited;
use crate::config::Settings;
use crate::flows::sites::JobKey;
use crate::http::api::read_query;
use crate::http::job_figures::job_figures;
use crate::http::problem::{Answer, FieldError, Problem};
use crate::http::revive;
use crate::http::state::Http;
use crate::http::unvisited::without_jobs;
use crate::store::{SiteCursor, SiteFilter, SiteItem, SiteSort, SiteState, StatusRow};
use crate::time::Timestamp;
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// Rows of a page.
const ROWS: i64 = 100;
/// Longest filter.
const LONGEST_FILTER: usize = 1024;

/// Query of the page.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    app: Option<String>,
    job: Option<String>,
    state: Option<String>,
    level: Option<String>,
    text: Option<String>,
    sort: Option<String>,
    descending: Option<String>,
    cursor: Option<String>,
}

/// Columns by which the list is sorted, with their heads.
const COLUMNS: [(SiteSort, &str); 6] = [
    (SiteSort::SiteId, "Site"),
    (SiteSort::Level, "Level"),
    (SiteSort::LastRunAt, "Last visit"),
    (SiteSort::NextDueAt, "Next due"),
    (SiteSort::BatchCode, "Code"),
    (SiteSort::CreatedAt, "Added"),
];

/// The page.
pub(in crate::http) async fn sites(http: web::Data<Http>, request: HttpRequest) -> HttpResponse {
    match page(&http, &request).await {
        Ok(page) => page.respond(&http, &request),
        Err(refusal) => problem_page(&http, &request, &refusal),
    }
}

async fn page(http: &Http, request: &HttpRequest) -> Answer<Page> {
    let filter = read_filter(read_query(request)?)?;
    let settings = http.settings();
    let mut listed = filter.clone();
    listed.job = filter.job.clone().or_else(|| usual_job(&settings, &filter));
    if listed.check().is_err() || narrows(&filter) {
        listed.job.clone_from(&filter.job);
    }
    let now = Timestamp::now();
    let mut asked = listed.clone();
    if let Some(job) = &filter.job {
        let jobs = settings.jobs.iter().map(|job| &job.key);
        let having = jobs.filter(|key| *key.name == **job);
        asked.job_apps = having.map(|key| key.app.to_string()).collect();
    }
    let page = http
        .database(move |store| async move { store.list_sites(&asked, now).await })
        .await?;
    let figures = job_figures(http).await;
    let next = page.next.map(|cursor| cursor.to_string());
    let mut answer = Page::new(
        "Sites",
        "/sites",
        html! {
            (rows(&page.items, &filter, listed.job.as_deref(), now))
            (paging(&filter, next.as_deref()))
            (unvisited(&without_jobs(&settings, &figures.apps), filter.app.as_deref()))
        },
    );
    answer.still = form(&filter, &settings);
    Ok(answer)
}

/// The name of the job that sites are shown with where none is asked for: the
/// only one there is, or the first of an app whose sites these all are.
fn usual_job(settings: &Settings, filter: &SiteFilter) -> Option<String> {
    let app = filter.app.as_deref();
    let jobs = || {
        let of_app = |key: &&JobKey| app.is_none_or(|app| app == key.app.as_str());
        settings.jobs.iter().map(|job| &job.key).filter(of_app)
    };
    let first = jobs().next()?;
    let alike = jobs().all(|job| job.name == first.name) || jobs().all(|job| job.app == first.app);
    alike.then(|| first.name.to_string())
}

/// Whether naming a job would leave sites out.
fn narrows(filter: &SiteFilter) -> bool {
    let of_sites = matches!(
        filter.sort,
        SiteSort::SiteId | SiteSort::BatchCode | SiteSort::CreatedAt
    );
    !of_sites || filter.level.is_some() || !matches!(filter.state, None | Some(SiteState::Disabled))
}

/// Judges the query; what a form sends empty is not asked for.
fn read_filter(query: Query) -> Answer<SiteFilter> {
    let mut errors = Vec::new();
    let mut given = |field: &'static str, text: Option<String>| {
        let text = text
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())?;
        if text.len() > LONGEST_FILTER || text.chars().any(char::is_control) {
            let message = "longer than 1024 bytes, or holds control characters";
            errors.push(FieldError::new(field, message));
            return None;
        }
        Some(text)
    };
    let app = given("app", query.app);
    let job = given("job", query.job);
    let text = given("text", query.text);
    let words = [
        given("state", query.state),
        given("level", query.level),
        given("sort", query.sort),
    ];
    let descending = given("descending", query.descending).is_some_and(|word| word == "true");
    let [state, level, sort] = words;
    let mut filter = SiteFilter {
        app: app.map(|app| app.strip_prefix("app:").map(str::to_owned).unwrap_or(app)),
        job,
        text,
        descending,
        limit: ROWS,
        ..SiteFilter::default()
    };
    match state.as_deref().map(str::parse).transpose() {
        Ok(state) => filter.state = state,
        Err(error) => errors.push(FieldError::new("state", format!("{error}"))),
    }
    match sort.as_deref().map(str::parse).transpose() {
        Ok(sort) => filter.sort = sort.unwrap_or_default(),
        Err(error) => errors.push(FieldError::new("sort", format!("{error}"))),
    }
    match level.as_deref().map(str::parse::<u32>).transpose() {
        Ok(level) => filter.level = level,
        Err(_) => errors.push(FieldError::new(
            "level",
            "expected a whole number from 0 on",
        )),
    }
    if let Some(cursor) = query.cursor.filter(|cursor| !cursor.is_empty()) {
        filter.cursor = SiteCursor::parse(&cursor);
        if filter.cursor.is_none() {
            let message = "not a cursor of this list; take next of the page before";
            errors.push(FieldError::new("cursor", message));
        }
    }
    if errors.is_empty()
        && let Err((field, message)) = filter.check()
    {
        errors.push(FieldError::new(field, message));
    }
    if errors.is_empty() {
        Ok(filter)
    } else {
        Err(Problem::invalid_query(errors).into())
    }
}

/// The query that a filter was read from, without the cursor.
fn href(filter: &SiteFilter, cursor: &str) -> String {
    let level = filter.level.map(|level| level.to_string());
    sites_href(&[
        ("app", filter.app.as_deref().unwrap_or_default()),
        ("job", filter.job.as_deref().unwrap_or_default()),
        ("state", filter.state.map_or("", SiteState::as_str)),
        ("level", level.as_deref().unwrap_or_default()),
        ("text", filter.text.as_deref().unwrap_or_default()),
        (
            "sort",
            if filter.sort == SiteSort::default() {
                ""
            } else {
                filter.sort.as_str()
            },
        ),
        ("descending", if filter.descending { "true" } else { "" }),
        ("cursor", cursor),
    ])
}

fn form(filter: &SiteFilter, settings: &Settings) -> Markup {
    let apps: BTreeSet<&str> = settings.apps.iter().map(|app| app.id.as_str()).collect();
    let jobs: BTreeSet<&str> = settings.jobs.iter().map(|job| &*job.key.name).collect();
    html! {
        h1 { "Sites" }
        form.filters method="get" action="/sites" {
            (choice("app", "App", filter.app.as_deref(), &apps))
            (choice("job", "Job", filter.job.as_deref(), &jobs))
            div { label for="state" { "State" }
                select #state name="state" {
                    option value="" { "all" }
                    @for state in SiteState::ALL {
                        option value=(state.as_str()) selected[filter.state == Some(*state)] { (words(*state)) }
                    }
                } }
            div { label for="level" { "Level" }
                select #level name="level" {
                    option value="" { "all" }
                    @for level in 0..levels(settings, filter) {
                        option value=(level) selected[filter.level == Some(level)] { (level) }
                    }
                } }
            div.wide { label for="text" { "Id begins with, or address contains" }
                input #text name="text" autocomplete="off" spellcheck="false"
                    value=(filter.text.as_deref().unwrap_or_default()); }
            @if filter.sort != SiteSort::default() { input type="hidden" name="sort" value=(filter.sort.as_str()); }
            @if filter.descending { input type="hidden" name="descending" value="true"; }
            div.actions { button type="submit" { "Show" } a href="/sites" { "All" } }
        }
    }
}

/// Levels to choose from: as many as the longest policy has, and the one chosen.
fn levels(settings: &Settings, filter: &SiteFilter) -> u32 {
    let longest = settings
        .jobs
        .iter()
        .map(|job| job.retry.levels().len())
        .max();
    let longest = u32::try_from(longest.unwrap_or(0)).unwrap_or(0);
    // A policy has 100 levels at most; a query may name any.
    longest.max(filter.level.map_or(0, |level| level.min(99) + 1))
}

fn choice(field: &str, label: &str, chosen: Option<&str>, all: &BTreeSet<&str>) -> Markup {
    let foreign = chosen.filter(|chosen| !all.contains(chosen));
    html! {
        div { label for=(field) { (label) }
            select id=(field) name=(field) {
                option value="" { "all" }
                @for one in all { option value=(one) selected[chosen == Some(one)] { (one) } }
                @if let Some(chosen) = foreign { option value=(chosen) selected { (cut(chosen, 60)) " (not configured)" } }
            } }
    }
}

/// What a state is called on pages.
const fn words(state: SiteState) -> &'static str {
    match state {
        SiteState::Due => "due",
        SiteState::Waiting => "waiting",
        SiteState::GivenUp => "given up",
        SiteState::Disabled => "disabled",
        SiteState::Never => "never visited",
        SiteState::Failing => "failing",
        SiteState::Well => "well",
    }
}

fn rows(items: &[SiteItem], filter: &SiteFilter, job: Option<&str>, now: Timestamp) -> Markup {
    if items.is_empty() {
        return html! { p.empty { "No sites match." } };
    }
    html! {
        @if let Some(job) = job.filter(|_| filter.job.is_none()) {
            p.lead { "As they stand with job " strong { (job) } "; choose another above." }
        }
        div.scroll { table.cards {
            thead { tr { @for (sort, head) in COLUMNS {
                (column(filter, sort, head))
                @if sort == SiteSort::SiteId { th scope="col" { "App" } th scope="col" { "State" } }
            } } }
            tbody { @for item in items { (row(item, job, now)) } }
        } }
        @if items.iter().any(|item| item.state(now) == Some(SiteState::GivenUp)) {
            p.note { "Sites that were given up are not visited until they are revived: "
                @match filter.app.as_deref().zip(job) {
                    Some((app, job)) => code { (revive::of_job(app, job)) },
                    None => code { "highwater sites revive SITE …" },
                }
            }
        }
    }
}

/// A head that sorts, where that goes together with the filters.
fn column(filter: &SiteFilter, sort: SiteSort, head: &str) -> Markup {
    let current = filter.sort == sort;
    let numeric = matches!(sort, SiteSort::Level | SiteSort::BatchCode);
    let sorted = SiteFilter {
        sort,
        descending: current && !filter.descending,
        cursor: None,
        ..filter.clone()
    };
    let (order, arrow) = match (current, filter.descending) {
        (false, _) => (None, ""),
        (true, false) => (Some("ascending"), " ↑"),
        (true, true) => (Some("descending"), " ↓"),
    };
    html! {
        th.num[numeric] scope="col" aria-sort=[order] {
            @if sorted.check().is_ok() { a.sort href=(href(&sorted, "")) { (head) span aria-hidden="true" { (arrow) } } }
            @else { (head) }
        }
    }
}

fn row(item: &SiteItem, job: Option<&str>, now: Timestamp) -> Markup {
    let site = &item.site;
    let status = item.status.as_ref();
    html! { tr {
        th scope="row" {
            a href={ "/sites/" (encode(&site.site_id)) } { (short_id(&site.site_id)) }
            br; span.note { (cut(&site.url, 70)) }
            @if let Some(error) = status.filter(|_| site.enabled).and_then(|status| status.last_error.as_deref()) {
                br; span.note.trouble { (cut(error, 120)) }
            }
        }
        td data-label="App" { (cut(&site.app_id, 60))
            @if let Some(status) = status.filter(|status| Some(status.job_name.as_str()) != job) { br; span.note { (cut(&status.job_name, 60)) } } }
        td data-label="State" { (standing_of(item, job.is_some(), now)) }
        td.num data-label="Level" {
            @match status.filter(|status| status.last_run_at.is_some() && status.given_up_at.is_none()) {
                Some(status) => span { (status.level)
                    @if status.count > 0 { br; span.note { (thousands(status.count)) " failed" } } },
                None => span.none { "–" },
            }
        }
        td data-label="Last visit" { (ago_or_dash(status.and_then(|status| status.last_run_at), now)) }
        td data-label="Next due" { (next(item, now)) }
        td.num data-label="Code" { (site.batch_code) }
        td data-label="Added" { (ago_or_dash(Some(site.created_at), now)) }
    } }
}

fn next(item: &SiteItem, now: Timestamp) -> Markup {
    let at = item.status.as_ref().and_then(|status| status.next_due_at);
    html! {
        @match (item.state(now), at) {
            (Some(SiteState::Disabled | SiteState::GivenUp), _) => span.none { "–" },
            (_, Some(at)) if at <= now => span { "since " (super::format::span(now.since(at))) },
            // Not yet: "now" would say that it is due.
            (_, Some(at)) if at.since(now) < Duration::from_secs(1) => span { "in 1 s" },
            (_, at) => (ago_or_dash(at, now)),
        }
    }
}

/// How a site stands, as the counts of jobs have it.
fn standing_of(item: &SiteItem, of_a_job: bool, now: Timestamp) -> Markup {
    let status = item.status.as_ref();
    let visited = status.is_some_and(|status| status.last_run_at.is_some());
    let well = status.is_some_and(|status| status.last_outcome.as_deref() == Some("success"));
    let word = match item.state(now) {
        Some(SiteState::Disabled) => "disabled",
        Some(SiteState::GivenUp) => "given_up",
        Some(_) if visited && well => "well",
        Some(_) if visited => "failing",
        Some(_) if status.is_some_and(StatusRow::is_revived) => "revived",
        None if !of_a_job => return html! { span.none { "–" } },
        _ => "never",
    };
    standing_badge(word)
}

fn paging(filter: &SiteFilter, next: Option<&str>) -> Markup {
    html! {
        nav.paging aria-label="Pages of the list" {
            @if filter.cursor.is_some() { a href=(href(filter, "")) { "← First page" } }
            @if let Some(next) = next { a rel="next" href=(href(filter, next)) { "Next →" } }
        }
    }
}
