//! Calls to the server to be controlled, and what it answers.

use super::place::{self, Place, ServerArgs};
use crate::cli::audit::{one_line, user_at_host};
use crate::cli::failure::Failure;
use crate::cli::output::note;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::error::Error as _;
use std::path::Path;
use std::time::Duration;
use url::Url;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a call may take: longer than the server gives an order and its
/// row of the audit.
const CALL: Duration = Duration::from_secs(15);
/// Largest answer.
const MOST_BYTES: usize = 16 << 20;
/// Calls a server.
pub(in crate::cli) struct Client {
    http: reqwest::Client,
    base: Url,
}

/// What a server answers when it refuses.
#[derive(Debug, Deserialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
    detail: String,
    #[serde(default)]
    errors: Vec<FieldError>,
}

#[derive(Debug, Deserialize)]
struct FieldError {
    field: String,
    message: String,
}

impl Client {
    /// A client of the server that is meant.
    ///
    /// # Errors
    /// The server or the token is nowhere, or makes no sense.
    pub(in crate::cli) fn new(args: &ServerArgs, named: Option<&Path>) -> Result<Self, Failure> {
        let Place { base, token } = Place::find(args, named)?;
        if base.scheme() == "http" && !place::is_this_machine(&base) {
            note(&format_args!(
                "warning: the control token goes to {base} unencrypted"
            ));
        }
        let http = build(&base, &token)?;
        Ok(Self { http, base })
    }

    /// The server, for messages.
    pub(super) fn server(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Reads.
    ///
    /// # Errors
    /// The server is out of reach, refuses, or answers something else; what
    /// was to be done (`asked`, as in "list the services") is told.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        asked: &str,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<(T, Value), Failure> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.call(asked, Method::GET, url, None).await
    }

    /// Has something done.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        asked: &str,
        method: Method,
        path: &[&str],
        body: Option<Value>,
    ) -> Result<(T, Value), Failure> {
        self.call(asked, method, self.url(path), body).await
    }

    /// Has something done that is not below `/v1/control`; the path begins behind
    /// `/v1`.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub(in crate::cli) async fn order<T: DeserializeOwned>(
        &self,
        asked: &str,
        path: &[&str],
        body: Value,
    ) -> Result<(T, Value), Failure> {
        let url = self.below(&["v1"], path);
        self.call(asked, Method::POST, url, Some(body)).await
    }

    /// Whether the server answers at all.
    pub(super) async fn answers(&self) -> bool {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("livez");
        }
        self.http.get(url).send().await.is_ok()
    }

    fn url(&self, path: &[&str]) -> Url {
        self.below(&["v1", "control"], path)
    }

    fn below(&self, root: &[&str], path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(root).extend(path);
        }
        url
    }

    async fn call<T: DeserializeOwned>(
        &self,
        asked: &str,
        method: Method,
        url: Url,
        body: Option<Value>,
    ) -> Result<(T, Value), Failure> {
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let server = self.server();
        let unreachable = |error: reqwest::Error| {
            Failure::Failed(format!(
                "cannot {asked}: no answer from {server}: {}; does the server run?",
                causes(error)
            ))
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if let Some(warning) = response.headers().get("highwater-warning") {
            let warning = String::from_utf8_lossy(warning.as_bytes()).into_owned();
            note(&format_args!("warning: {}", one_line(&warning)));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MOST_BYTES {
                return Err(Failure::Failed(format!(
                    "cannot {asked}: the answer of {server} is larger than {MOST_BYTES} bytes"
                )));
            }
        }
        if !status.is_success() {
            return Err(Failure::Failed(format!(
                "cannot {asked}: {}",
                refusal(server, status, &bytes)
            )));
        }
        let read = serde_json::from_slice::<Value>(&bytes)
            .and_then(|value| Ok((T::deserialize(&value)?, value)));
        read.map_err(|error| {
            Failure::Failed(format!(
                "cannot {asked}: {server} answered {status} with something else than expected \
                 ({error}); is it a Highwater server of this version?"
            ))
        })
    }
}

/// What a refusal says, an error a line.
fn refusal(server: &str, status: StatusCode, body: &[u8]) -> String {
    let code = status.as_u16();
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
        let hint = if status.is_redirection() {
            "redirects are not followed; name the server itself"
        } else {
            "is it a Highwater server?"
        };
        return format!("{server} answered {code}; {hint}");
    };
    let name = problem.kind.rsplit(':').next().unwrap_or_default();
    let mut text = format!(
        "{server} answered {code} {name}: {}",
        one_line(&problem.detail)
    );
    for error in problem.errors {
        text.push_str(&format!(
            "\n  {}: {}",
            one_line(&error.field),
            one_line(&error.message)
        ));
    }
    text
}

/// A client that follows no redirect and uses no proxy: the token goes to the
/// server that was named.
fn build(base: &Url, token: &SecretString) -> Result<reqwest::Client, Failure> {
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::Failed(format!("no HTTP client can be made: {error}"))
    };
    let bearer = format!("Bearer {}", token.expose_secret());
    let mut bearer = HeaderValue::from_str(&bearer).map_err(|error| unusable(&error))?;
    bearer.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, bearer);
    if let Ok(operator) = HeaderValue::from_bytes(user_at_host().as_bytes()) {
        headers.insert("highwater-operator", operator);
    }
    let builder = reqwest::Client::builder()
        .user_agent(concat!("highwater/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(CALL);
    let builder = if base.scheme() == "https" {
        builder
    } else {
        // Plain HTTP needs no certificates, nor the time to load them.
        builder.tls_certs_only([])
    };
    builder.build().map_err(|error| unusable(&error))
}

fn causes(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "it takes too long".to_owned();
    }
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_an_error_a_line() {
        let body = br#"{"type":"urn:highwater:problem:invalid-fields","title":"t","status":422,
            "detail":"nothing was done","errors":[{"field":"set.a","message":"no\nkey"}]}"#;
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        assert_eq!(
            refusal("http://h", status, body),
            "http://h answered 422 invalid-fields: nothing was done\n  set.a: no key"
        );
        let moved = refusal("http://h", StatusCode::FOUND, b"<html>");
        assert!(moved.contains("302; redirects are not followed"), "{moved}");
    }
}
