//! What a browser is told of an address that leads nowhere.

use super::layout::{document, html_response};
use crate::http::problem::Problem;
use crate::http::shown_path::shown_path;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};
use maud::html;

/// The page for somebody who looks; `None` for a program, which gets JSON.
/// Tells nothing of the server, since whoever asks may not have a token.
pub(in crate::http) fn not_found(request: &HttpRequest) -> Option<HttpResponse> {
    let accepted = request.headers().get(header::ACCEPT)?.to_str().ok()?;
    let api = request.path().starts_with("/v1/");
    if api || !accepted.contains("text/html") {
        return None;
    }
    let problem = Problem::not_found(request.path());
    let path: String = shown_path(request.path()).chars().take(200).collect();
    let main = html! {
        section.headline {
            h1 { (problem.title) }
            p.words { code { (path) } " does not exist." }
            p { a href="/" { "Status" } " · " a href="/batches" { "Batches" } " · " a href="/sites" { "Sites" } " · " a href="/subscriptions" { "Events" } " · " a href="/replicas" { "Replicas" } }
        }
    };
    let footer = html! { "Highwater" };
    let page = document(problem.title, "", false, &main, &footer);
    Some(html_response(StatusCode::NOT_FOUND, page))
}
