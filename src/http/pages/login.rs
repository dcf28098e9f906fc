//! `/login`: where reading needs a token, a browser shows it once and gets a
//! cookie that opens pages and nothing else.

use super::layout::{document, html_response};
use crate::http::auth::{opens_pages, set_cookie};
use crate::http::body::{media_type, read_bytes};
use crate::http::problem::{Answer, Problem};
use crate::http::state::Http;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use maud::html;
use url::form_urlencoded;

/// Largest login form.
const MOST_BYTES: usize = 4096;

/// Sends a browser to the login page, and back afterwards.
pub(in crate::http) fn to_login(request: &HttpRequest) -> HttpResponse {
    let wanted = request
        .uri()
        .path_and_query()
        .map_or("/", |wanted| wanted.as_str());
    let next: String = form_urlencoded::byte_serialize(wanted.as_bytes()).collect();
    see(&format!("/login?next={next}"))
}

/// The form.
pub(in crate::http) async fn login_form(request: HttpRequest) -> HttpResponse {
    let next = field(request.query_string().as_bytes(), "next").unwrap_or_default();
    form(StatusCode::OK, &next, None)
}

/// Takes the token and sets the cookie.
pub(in crate::http) async fn login(
    http: web::Data<Http>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    if media_type(&request) != "application/x-www-form-urlencoded" {
        return Err(Problem::unsupported_media_type("send the form of /login").into());
    }
    let body = read_bytes(&request, payload, MOST_BYTES).await?;
    let token = field(&body, "token").unwrap_or_default();
    let next = field(&body, "next").unwrap_or_default();
    let token = token.trim();
    if !opens_pages(&http.settings().http, token) {
        if let Err(limited) = http.wrong_token(&request, "read") {
            let mut answer = form(StatusCode::TOO_MANY_REQUESTS, &next, Some(&limited.detail));
            limited.add_headers(answer.headers_mut());
            return Ok(answer);
        }
        let words = "This is neither the read token nor the control token.";
        return Ok(form(StatusCode::UNAUTHORIZED, &next, Some(words)));
    }
    let secure = request.connection_info().scheme() == "https";
    let mut response = see(local(&next));
    if let Ok(cookie) = header::HeaderValue::from_str(&set_cookie(token, secure)) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

fn see(location: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, location))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish()
}

/// A path of this server; anything else could lead a browser elsewhere.
fn local(next: &str) -> &str {
    let mut bytes = next.bytes();
    let leads_away = bytes.next() != Some(b'/')
        || matches!(bytes.next(), Some(b'/' | b'\\'))
        || next.chars().any(|c| c.is_control() || c.is_whitespace());
    if leads_away { "/" } else { next }
}

fn field(form: &[u8], name: &str) -> Option<String> {
    form_urlencoded::parse(form)
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

fn form(status: StatusCode, next: &str, wrong: Option<&str>) -> HttpResponse {
    let main = html! {
        section.login {
            h1 { "Read token" }
            p { "Reading this server's pages needs its read token: the first line of the file that \
                 " code { "http.read_token_file" } " names." }
            form method="post" action="/login" {
                input type="hidden" name="next" value=(local(next));
                label for="token" { "Token" }
                input #token type="password" name="token" autocomplete="current-password"
                    required autofocus aria-describedby=[wrong.map(|_| "wrong")];
                @if let Some(wrong) = wrong {
                    p #wrong.wrong role="alert" { span aria-hidden="true" { "▲ " } (wrong) }
                }
                button type="submit" { "Open the pages" }
            }
        }
    };
    html_response(
        status,
        document("Read token", "", false, &main, &html! { "Highwater" }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_stays_here() {
        for away in ["", "https://x", "//x", "/\\x", "x", "/a\nb", "/\t/x"] {
            assert_eq!(local(away), "/", "{away:?}");
        }
        assert_eq!(local("/batches?ledger=a"), "/batches?ledger=a");
    }
}
