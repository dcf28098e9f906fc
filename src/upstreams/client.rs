//! One request to an upstream: one deadline over connecting, sending and reading,
//! nothing followed, nothing unbounded, the token never shown.

use super::UpstreamProblem;
use crate::config::ReplicaSettings;
use crate::flows::replicas::{Info, UpstreamError};
use crate::net::{Secrets, causes, one_line, read_within, retry_after};
use crate::telemetry::{TRACE_TARGET, trace_headers};
use crate::time::Timestamp;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span, field};
use url::Url;

/// Most read of an answer, in bytes after decompression: far more than a server
/// of ours puts into one (4 MiB of entries and as much diff by default, or one
/// large publication).
const MAX_ANSWER: usize = 256 * 1024 * 1024;
/// Most read of a refusal.
const MAX_REFUSAL: usize = 64 * 1024;
/// Characters shown of what an upstream says.
const MAX_WORDS: usize = 300;
/// Longest `Retry-After` believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Longest time to get connected, where the timeout allows more.
const MAX_CONNECT_TIME: Duration = Duration::from_secs(5);

/// HTTP to one upstream.
pub(super) struct Client {
    /// Without a slash at its end.
    base: Url,
    timeout: Duration,
    has_token: bool,
    secrets: Secrets,
    client: reqwest::Client,
}

/// A problem document, as far as it is of use.
#[derive(Deserialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: Option<String>,
    info: Option<Info>,
    detail: Option<String>,
}

/// What an upstream that holds as many waits as it can says.
const TOO_MANY_WATCHERS: &str = "urn:highwater:problem:too-many-watchers";
/// How long it is polled then.
const POLLED_FOR: Duration = Duration::from_secs(60);

impl Client {
    pub(super) fn new(settings: &ReplicaSettings, url: &Url) -> Result<Self, UpstreamProblem> {
        let replica = || settings.name.to_string();
        check(url).map_err(|problem| UpstreamProblem::Url {
            replica: replica(),
            problem,
        })?;
        let mut headers = HeaderMap::new();
        let token = settings.token.as_ref().map(|token| &token.0);
        if let Some(token) = token {
            let bearer = format!("Bearer {}", token.expose_secret().trim());
            let unusable = |_| UpstreamProblem::Token { replica: replica() };
            let mut bearer = HeaderValue::from_str(&bearer).map_err(unusable)?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let secrets = Secrets::from(token);
        let builder = reqwest::Client::builder()
            .user_agent(concat!("highwater/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout((settings.timeout / 2).min(MAX_CONNECT_TIME));
        let builder = if url.scheme() == "https" {
            builder
        } else {
            builder.tls_certs_only([])
        };
        let client = builder.build().map_err(|error| UpstreamProblem::Http {
            replica: replica(),
            detail: secrets.hide(&causes(&error)).into_owned(),
        })?;
        Ok(Self {
            base: url.clone(),
            timeout: settings.timeout,
            has_token: settings.token.is_some(),
            secrets,
            client,
        })
    }

    /// The address that all others are made of.
    pub(super) const fn base(&self) -> &Url {
        &self.base
    }

    /// The address without query, for pages and logs.
    pub(super) fn place(&self) -> String {
        let origin = self.base.origin().ascii_serialization();
        let shown = format!("{origin}{}", self.base.path().trim_end_matches('/'));
        self.secrets.hide(&shown).into_owned()
    }

    /// Gets a JSON document, within the time limit and `more`.
    ///
    /// # Errors
    /// It was refused, is no such document, is too large, or did not come in time.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        url: Url,
        body: Option<String>,
        more: Duration,
    ) -> Result<T, UpstreamError> {
        let span = tracing::info_span!(
            target: TRACE_TARGET,
            "replicate",
            otel.kind = "client",
            http.request.method = "GET",
            url.full = self.place(),
            http.response.status_code = field::Empty,
            error = field::Empty,
            otel.status_code = field::Empty,
        );
        let limit = self.timeout.saturating_add(more);
        let exchange = self.exchange(url, body, limit, &span);
        let result = exchange.instrument(span.clone()).await;
        let result = result.and_then(|body| {
            serde_json::from_slice(&body).map_err(|error| {
                // Without the error's own words, which repeat what was answered.
                let words = format!(
                    "the answer cannot be read as what was asked for: {} in line {}, column {}",
                    what_is_wrong(&error),
                    error.line(),
                    error.column()
                );
                self.failed(&words, None)
            })
        });
        if let Err(error) = &result {
            span.record("error", field::display(error));
            span.record("otel.status_code", "ERROR");
        }
        result
    }

    async fn exchange(
        &self,
        url: Url,
        body: Option<String>,
        limit: Duration,
        span: &Span,
    ) -> Result<Bytes, UpstreamError> {
        let deadline = Instant::now() + limit;
        let mut request = self.client.get(url).headers(trace_headers(span));
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let mut response = timeout_at(deadline, request.send())
            .await
            .map_err(|_| self.timed_out(limit))?
            .map_err(|error| self.not_sent(&error, limit))?;
        let status = response.status();
        span.record("http.response.status_code", i64::from(status.as_u16()));
        if status != StatusCode::OK {
            return Err(self.refusal(&mut response, deadline).await);
        }
        let mut read = Vec::new();
        let whole = timeout_at(deadline, read_within(&mut response, &mut read, MAX_ANSWER))
            .await
            .map_err(|_| self.timed_out(limit))?
            .map_err(|error| {
                let words = format!("the answer was cut off: {}", causes(&error));
                self.failed(&words, None)
            })?;
        if !whole {
            let words = format!("the answer is longer than {MAX_ANSWER} bytes; not read");
            return Err(self.failed(&words, None));
        }
        Ok(read.into())
    }

    /// What an answer means that is no 200.
    async fn refusal(&self, response: &mut Response, deadline: Instant) -> UpstreamError {
        let status = response.status();
        let mut body = Vec::new();
        let whole = timeout_at(deadline, read_within(response, &mut body, MAX_REFUSAL));
        if !matches!(whole.await, Ok(Ok(true))) {
            // The status holds whether or not its explanation arrives whole.
            tracing::debug!(
                http.response.status_code = status.as_u16(),
                "the words of a refusal were cut off"
            );
        }
        let problem: Option<Problem> = serde_json::from_slice(&body).ok();
        if status == StatusCode::GONE {
            return UpstreamError::Stale(problem.and_then(|problem| problem.info));
        }
        let kind = problem.as_ref().and_then(|problem| problem.kind.clone());
        let words = problem
            .and_then(|problem| problem.detail)
            .unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
        let words = if words.trim().is_empty() {
            let reason = status.canonical_reason().unwrap_or("no words");
            format!("{reason} (empty answer)")
        } else {
            words
        };
        let code = status.as_u16();
        let words = match code {
            300..=399 => format!(
                "answered {code}, a redirect, which is not followed; give the address itself"
            ),
            401 | 403 if self.has_token => {
                format!(
                    "answered {code}: the token in the replica's `token_file` is not the one that is wanted; it says: {words}"
                )
            }
            401 | 403 => {
                format!("answered {code}: {words} (set the replica's `token_file` to its token)")
            }
            _ => format!("answered {code}: {words}"),
        };
        let pause = retry_after(response.headers(), Timestamp::now(), MAX_RETRY_AFTER);
        if kind.as_deref() == Some(TOO_MANY_WATCHERS) {
            return UpstreamError::Unable {
                why: self.shown(&words),
                for_now: Some(POLLED_FOR),
            };
        }
        if matches!(code, 404 | 405 | 501) {
            return UpstreamError::Unable {
                why: self.shown(&words),
                for_now: None,
            };
        }
        self.failed(&words, pause)
    }

    fn shown(&self, words: &str) -> String {
        let words = one_line(&self.secrets.hide(words), MAX_WORDS);
        format!("{}: {words}", self.place())
    }

    /// It failed, in words that may be shown.
    pub(super) fn failed(&self, words: &str, retry_after: Option<Duration>) -> UpstreamError {
        UpstreamError::Failed {
            why: self.shown(words),
            retry_after,
        }
    }

    fn timed_out(&self, limit: Duration) -> UpstreamError {
        let limit = humantime::format_duration(limit);
        self.failed(&format!("no whole answer within {limit}"), None)
    }

    fn not_sent(&self, error: &reqwest::Error, limit: Duration) -> UpstreamError {
        if error.is_timeout() && !error.is_connect() {
            return self.timed_out(limit);
        }
        self.failed(&causes(error), None)
    }
}

fn check(url: &Url) -> Result<(), &'static str> {
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("is not an http address");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds credentials, which belong in token_file");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("holds a query or a fragment; give scheme, host, port and path alone");
    }
    Ok(())
}

fn what_is_wrong(error: &serde_json::Error) -> &'static str {
    use serde_json::error::Category;
    match error.classify() {
        Category::Io => "it could not be read",
        Category::Syntax => "no JSON",
        Category::Data => "other JSON than was expected",
        Category::Eof => "cut off",
    }
}
