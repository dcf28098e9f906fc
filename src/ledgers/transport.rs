//! The HTTP that both clients share: one request per call, one deadline over
//! connecting, sending and reading, nothing followed, nothing unbounded.

use super::refusal::{Refusal, clean};
use super::{ConnectError, LedgerError, LedgerKind};
use crate::config::LedgerSettings;
use crate::net::{causes, ended_early, read_within};
use crate::telemetry::{TRACE_TARGET, trace_headers};
use crate::time::Timestamp;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span, field};

/// Longest whole address that can be sent at all, by the `http` crate; also
/// the longest target that Splinter accepts.
pub(super) const MAX_URL: usize = 65_534;
/// Read of a body that only explains a refusal.
const MAX_REFUSAL_BODY: usize = 64 * 1024;
/// Longest time to get connected, where the ledger's timeout allows more.
const MAX_CONNECT_TIME: Duration = Duration::from_secs(5);
/// Everything but the characters that mean nothing in any part of a target.
const ENCODED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What differs between the ledgers' HTTP.
pub(super) struct Habits {
    /// How long an idle connection is kept: less than the ledger keeps it.
    pub(super) keep_idle: Duration,
    /// What stands between `Bearer ` and the token.
    pub(super) token_prefix: &'static str,
    /// Headers of every request.
    pub(super) headers: HeaderMap,
}

/// What a websocket needs; see [`Transport::upgrade`].
pub(super) struct Upgrade<'a> {
    /// Whole address, with `http` or `https` in front.
    pub(super) url: String,
    pub(super) headers: &'a HeaderMap,
    pub(super) timeout: Duration,
    pub(super) secure: bool,
}

/// HTTP to one ledger.
pub(super) struct Transport {
    pub(super) ledger: String,
    kind: LedgerKind,
    /// Scheme, host and port.
    origin: String,
    /// Path that the ledger lies under; empty or with `/` in front only.
    path: String,
    timeout: Duration,
    max_response_bytes: usize,
    /// The bare token, for hiding it where the ledger repeats it.
    secret: Option<SecretString>,
    client: ClientSettings,
    pooled: Client,
    /// Keeps no connection, for the second try after a kept one was found
    /// closed. Built when first needed, which on a quiet ledger is never.
    unpooled: OnceLock<Client>,
}

impl Transport {
    pub(super) fn new(settings: &LedgerSettings, habits: Habits) -> Result<Self, ConnectError> {
        let ledger = settings.name.clone();
        let wrong_url = |problem| ConnectError::Url {
            ledger: settings.name.clone(),
            problem,
        };
        let url = &settings.url;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong_url("is not an http address"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong_url("holds credentials, which belong in token_file"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong_url("holds a query or a fragment"));
        }
        let mut headers = habits.headers;
        let secret = settings
            .token
            .as_ref()
            .map(|token| bare_token(token, habits.token_prefix));
        if let Some(secret) = &secret {
            let value = format!("Bearer {}{}", habits.token_prefix, secret.expose_secret());
            let mut value = HeaderValue::from_str(&value).map_err(|_| ConnectError::Token {
                ledger: settings.name.clone(),
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = ClientSettings {
            connect_timeout: (settings.timeout / 2).min(MAX_CONNECT_TIME),
            headers,
            keep_idle: habits.keep_idle,
            secure: url.scheme() == "https",
        };
        let pooled =
            client
                .build(settings.connections.max(1))
                .map_err(|error| ConnectError::Http {
                    ledger: settings.name.clone(),
                    detail: clean(&causes(&error), secret.as_ref()),
                })?;
        Ok(Self {
            ledger,
            kind: settings.kind,
            origin: url.origin().ascii_serialization(),
            path: url.path().trim_end_matches('/').to_owned(),
            timeout: settings.timeout,
            max_response_bytes: settings.max_response_bytes,
            secret,
            client,
            pooled,
            unpooled: OnceLock::new(),
        })
    }

    /// Length of what stands before a route in a request's target.
    pub(super) fn path_len(&self) -> usize {
        self.path.len()
    }

    /// Length of what stands before a route in a whole address.
    pub(super) fn base_len(&self) -> usize {
        self.origin.len() + self.path.len()
    }

    /// What a websocket of a route needs to be as our requests are: address,
    /// headers with the credentials, and time limit.
    pub(super) fn upgrade(&self, route: &str) -> Upgrade<'_> {
        Upgrade {
            url: format!("{}{}{route}", self.origin, self.path),
            headers: &self.client.headers,
            timeout: self.timeout,
            secure: self.client.secure,
        }
    }

    /// Says what a refused request means, as of one of ours.
    pub(super) fn refused(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        route: &str,
    ) -> LedgerError {
        Refusal {
            status,
            headers,
            body: &body[..body.len().min(MAX_REFUSAL_BODY)],
            target_len: self.path.len() + route.len(),
        }
        .classify(self.kind, self.secret.as_ref(), Timestamp::now())
    }

    /// Words as they may be shown: bounded, without our secret.
    pub(super) fn clean(&self, words: &str) -> String {
        clean(words, self.secret.as_ref())
    }

    /// The largest answer that is read, in bytes.
    pub(super) const fn max_response_bytes(&self) -> usize {
        self.max_response_bytes
    }

    /// Where the ledger is, without secrets.
    pub(super) fn place(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }

    /// Asks for a route (path and query) by GET, or by POST where there is a
    /// JSON body, and reads the answer.
    pub(super) async fn fetch(
        &self,
        route: &str,
        body: Option<Bytes>,
    ) -> Result<Vec<u8>, LedgerError> {
        let url = format!("{}{}{route}", self.origin, self.path);
        if url.len() > MAX_URL {
            return Err(LedgerError::TooLarge {
                detail: format!(
                    "an address of {} bytes, of which at most {MAX_URL} can be sent; not sent",
                    url.len()
                ),
            });
        }
        let method = if body.is_some() { "POST" } else { "GET" };
        let span = tracing::info_span!(
            target: TRACE_TARGET,
            "request",
            otel.kind = "client",
            http.request.method = method,
            // Without its query, which may hold hundreds of ids.
            url.full = url.split('?').next(),
            http.response.status_code = field::Empty,
            error = field::Empty,
            otel.status_code = field::Empty,
        );
        let result = self
            .exchange(&url, route, body, &span)
            .instrument(span.clone())
            .await;
        if let Err(error) = &result {
            span.record("error", field::display(error));
            span.record("otel.status_code", "ERROR");
        }
        result
    }

    async fn exchange(
        &self,
        url: &str,
        route: &str,
        body: Option<Bytes>,
        span: &Span,
    ) -> Result<Vec<u8>, LedgerError> {
        let deadline = Instant::now() + self.timeout;
        let mut response = timeout_at(deadline, self.send(url, body, &trace_headers(span)))
            .await
            .map_err(|_| self.timed_out())??;
        let status = response.status();
        span.record("http.response.status_code", i64::from(status.as_u16()));
        let mut read = Vec::new();
        if status == StatusCode::OK {
            timeout_at(deadline, self.read_answer(&mut response, &mut read))
                .await
                .map_err(|_| self.timed_out())??;
            return Ok(read);
        }
        // What the status says holds whether or not its explanation arrives whole.
        let whole = timeout_at(
            deadline,
            read_within(&mut response, &mut read, MAX_REFUSAL_BODY),
        );
        if !matches!(whole.await, Ok(Ok(true))) {
            tracing::debug!(
                ledger.name = self.ledger,
                http.response.status_code = status.as_u16(),
                "the words of a refusal were cut off"
            );
        }
        Err(Refusal {
            status,
            headers: response.headers(),
            body: &read,
            target_len: self.path.len() + route.len(),
        }
        .classify(self.kind, self.secret.as_ref(), Timestamp::now()))
    }

    /// Sends, and sends once more on a new connection when the first one ended
    /// before an answer: that is how a ledger that drops idle connections looks
    /// when it does so just then, and no failure of the ledger. Status requests
    /// change nothing, so that asking twice does no harm.
    async fn send(
        &self,
        url: &str,
        body: Option<Bytes>,
        headers: &HeaderMap,
    ) -> Result<Response, LedgerError> {
        match attempt(&self.pooled, url, body.clone(), headers).await {
            Ok(response) => Ok(response),
            Err(error) if ended_early(&error) => {
                tracing::debug!(
                    ledger.name = self.ledger,
                    error = causes(&error),
                    "connection ended before an answer; asking again on a new one"
                );
                attempt(self.unpooled(), url, body, headers)
                    .await
                    .map_err(|error| self.failed_to_send(&error))
            }
            Err(error) => Err(self.failed_to_send(&error)),
        }
    }

    fn unpooled(&self) -> &Client {
        self.unpooled.get_or_init(|| {
            self.client.build(0).unwrap_or_else(|error| {
                tracing::warn!(
                    ledger.name = self.ledger,
                    error = causes(&error),
                    "no client without kept connections; using the one with them"
                );
                self.pooled.clone()
            })
        })
    }

    async fn read_answer(
        &self,
        response: &mut Response,
        into: &mut Vec<u8>,
    ) -> Result<(), LedgerError> {
        let most = self.max_response_bytes;
        let too_long = |length| usize::try_from(length).is_ok_and(|length: usize| length > most);
        let whole = if response.content_length().is_some_and(too_long) {
            Ok(false)
        } else {
            read_within(response, into, most).await
        };
        match whole {
            Ok(true) => Ok(()),
            Ok(false) => Err(LedgerError::Malformed {
                detail: format!("longer than max_response_bytes = {most}"),
            }),
            Err(error) if error.is_timeout() => Err(self.timed_out()),
            Err(error) => Err(LedgerError::Malformed {
                detail: clean(
                    &format!("cut off after {} bytes: {}", into.len(), causes(&error)),
                    self.secret.as_ref(),
                ),
            }),
        }
    }

    fn failed_to_send(&self, error: &reqwest::Error) -> LedgerError {
        let detail = clean(&causes(error), self.secret.as_ref());
        if error.is_connect() {
            LedgerError::Unreachable { detail }
        } else if error.is_timeout() {
            self.timed_out()
        } else if ended_early(error) {
            LedgerError::Malformed {
                detail: format!("the connection ended before an answer: {detail}"),
            }
        } else {
            LedgerError::Malformed { detail }
        }
    }

    const fn timed_out(&self) -> LedgerError {
        LedgerError::Timeout {
            after: self.timeout,
        }
    }

    /// A body that came whole and is not what the protocol says.
    pub(super) fn not_understood(&self, error: &serde_json::Error, body: &[u8]) -> LedgerError {
        let start = String::from_utf8_lossy(&body[..body.len().min(100)]);
        LedgerError::Malformed {
            detail: clean(
                &format!("{error}; the {} bytes begin: {start}", body.len()),
                self.secret.as_ref(),
            ),
        }
    }
}

/// What an HTTP client is built from.
struct ClientSettings {
    /// Shorter than the whole timeout, so that a host that swallows packets is
    /// told from one that accepts and then says nothing.
    connect_timeout: Duration,
    headers: HeaderMap,
    keep_idle: Duration,
    secure: bool,
}

impl ClientSettings {
    /// A client that never follows a redirect (a token would travel along),
    /// uses no proxy of the environment (what the configuration says is what
    /// happens), and speaks HTTP/1.1, as the ledgers do.
    fn build(&self, kept_connections: usize) -> reqwest::Result<Client> {
        let builder = Client::builder()
            .user_agent(concat!("highwater/", env!("CARGO_PKG_VERSION")))
            .default_headers(self.headers.clone())
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .http1_only()
            .gzip(true)
            .zstd(false)
            .tcp_nodelay(true)
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(self.keep_idle)
            .pool_max_idle_per_host(kept_connections);
        if self.secure {
            return builder.build();
        }
        // Plain HTTP needs no certificates, neither the time to load them nor a
        // machine that has any.
        builder.tls_certs_only([]).build()
    }
}

async fn attempt(
    client: &Client,
    url: &str,
    body: Option<Bytes>,
    headers: &HeaderMap,
) -> reqwest::Result<Response> {
    let request = match body {
        None => client.request(Method::GET, url),
        Some(body) => client
            .request(Method::POST, url)
            // Exactly this: Sawtooth refuses it with a charset (code 43).
            .header(CONTENT_TYPE, "application/json")
            .body(body),
    };
    request.headers(headers.clone()).send().await
}

/// A token as people keep it, without what goes before it in the header.
fn bare_token(token: &SecretString, prefix: &str) -> SecretString {
    let bare = token.expose_secret().trim();
    let bare = bare.strip_prefix("Bearer ").unwrap_or(bare).trim_start();
    let bare = bare.strip_prefix(prefix).unwrap_or(bare);
    SecretString::from(bare)
}

/// Text as one part of a target: a path segment or a value of a query.
pub(super) fn encoded(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, &ENCODED)
}

/// Length of [`encoded`].
pub(super) fn encoded_len(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'-' | b'.' | b'_' | b'~' => 1,
            _ if byte.is_ascii_alphanumeric() => 1,
            _ => 3,
        })
        .sum()
}

/// Whole seconds for a `wait` parameter, at least 1: a Sawtooth REST API takes
/// 0 for 300 seconds.
pub(super) fn wait_seconds(wait: Option<Duration>) -> Option<u64> {
    wait.filter(|wait| !wait.is_zero())
        .map(|wait| wait.as_secs().max(1))
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
