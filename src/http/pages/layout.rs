//! What all pages share: head, navigation, the live part, footer.

use super::format::ago;
use crate::http::assets::VERSION;
use crate::http::problem::Refusal;
use crate::http::state::Http;
use crate::time::Timestamp;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use maud::{DOCTYPE, Markup, html};

/// Header by which the script asks for the live part only.
const FRAGMENT: &str = "x-highwater-fragment";

/// A page: what stands still, and what is swapped while it is looked at.
pub(super) struct Page {
    pub(super) title: String,
    /// Path of the navigation's entry that is marked; empty for none.
    pub(super) place: &'static str,
    /// Forms and headings, which must not lose what is typed into them.
    pub(super) still: Markup,
    /// What changes.
    pub(super) live: Markup,
    pub(super) status: StatusCode,
}

impl Page {
    pub(super) fn new(title: impl Into<String>, place: &'static str, live: Markup) -> Self {
        Self {
            title: title.into(),
            place,
            still: html! {},
            live,
            status: StatusCode::OK,
        }
    }

    /// The whole page, or its live part when the script asks.
    pub(super) fn respond(self, http: &Http, request: &HttpRequest) -> HttpResponse {
        let markup = if request.headers().contains_key(FRAGMENT) {
            self.live
        } else {
            let status = footer(http);
            document(
                &self.title,
                self.place,
                true,
                &html! {
                    (self.still)
                    div #live data-live { (self.live) }
                },
                &status,
            )
        };
        html_response(self.status, markup)
    }
}

/// A page that says what went wrong; stays live, so that it mends itself.
pub(super) fn problem_page(http: &Http, request: &HttpRequest, refusal: &Refusal) -> HttpResponse {
    let problem = &refusal.0;
    let live = html! {
        section.headline.bad {
            h1 { (problem.title) }
            p { (problem.detail) }
            @if !problem.errors.is_empty() {
                ul { @for error in &problem.errors { li { code { (error.field) } ": " (error.message) } } }
            }
            p { a href="/" { "Status" } " · " a href="/batches" { "Batches" } " · " a href="/subscriptions" { "Events" } }
        }
    };
    let mut page = Page::new(problem.title, "", live);
    page.status = refusal.status_code();
    page.respond(http, request)
}

/// Answers with HTML that is not stored.
pub(super) fn html_response(status: StatusCode, markup: Markup) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::VARY, FRAGMENT))
        .body(markup.into_string())
}

fn footer(http: &Http) -> Markup {
    let now = Timestamp::now();
    html! {
        "Highwater " (env!("CARGO_PKG_VERSION")) " · server " code { (http.state.holder) }
        " · started " (ago(http.state.started_at, now))
        " · " a href="/metrics" { "metrics" } " · " a href="/openapi.json" { "API" }
    }
}

/// The frame of a page.
pub(super) fn document(
    title: &str,
    place: &str,
    live: bool,
    main: &Markup,
    footer: &Markup,
) -> Markup {
    let places = [
        ("/", "Status"),
        ("/batches", "Batches"),
        ("/jobs", "Jobs"),
        ("/sites", "Sites"),
        ("/subscriptions", "Events"),
        ("/replicas", "Replicas"),
        ("/services", "Services"),
    ];
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Highwater" }
                link rel="icon" type="image/svg+xml" href={ "/assets/highwater.svg?v=" (VERSION) };
                link rel="stylesheet" href={ "/assets/highwater.css?v=" (VERSION) };
                @if live {
                    noscript { meta http-equiv="refresh" content="5"; }
                    script src={ "/assets/highwater.js?v=" (VERSION) } defer {}
                }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    a.brand href="/" {
                        img src={ "/assets/highwater.svg?v=" (VERSION) } alt="" width="22" height="22";
                        span { "Highwater" }
                    }
                    nav aria-label="Pages" {
                        @for (href, word) in places {
                            a href=(href) aria-current=[(href == place).then_some("page")] { (word) }
                        }
                    }
                    p #liveness role="status" hidden {}
                }
                main #main { (main) }
                footer { p { (footer) } }
            }
        }
    }
}
