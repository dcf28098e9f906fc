//! Posting a form to a gateway: one request, one deadline over connecting,
//! sending and reading, nothing followed, nothing unbounded.

use super::GatewayProblem;
use super::form::{check, secret_in_path};
use crate::config::{GatewaySettings, SubscriptionSettings};
use crate::flows::events::SourceEnd;
use crate::net::{Secrets, causes, one_line, read_within, retry_after};
use crate::telemetry::{TRACE_TARGET, trace_headers};
use crate::time::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use secrecy::ExposeSecret as _;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span, field};
use url::Url;

/// Most read of an answer, in bytes: only a refusal's words are of use.
const MAX_ANSWER: usize = 64 * 1024;
/// Characters shown of what a gateway says.
const MAX_WORDS: usize = 300;
/// Longest `Retry-After` believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Longest time to get connected, where the gateway's timeout allows more.
const MAX_CONNECT_TIME: Duration = Duration::from_secs(5);

/// HTTP to one gateway for one subscription.
pub(super) struct RestClient {
    url: Url,
    timeout: Duration,
    secrets: Secrets,
    client: Client,
}

impl RestClient {
    pub(super) fn new(
        gateway: &GatewaySettings,
        subscription: &SubscriptionSettings,
    ) -> Result<Self, GatewayProblem> {
        check(gateway, "url", &gateway.url)?;
        let mut secrets = Secrets::default();
        let mut headers = HeaderMap::new();
        if let Some(token) = &gateway.token {
            let bearer = format!("Bearer {}", token.0.expose_secret().trim());
            let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| GatewayProblem::Token {
                gateway: gateway.name.clone(),
            })?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
            secrets.add(&token.0);
        }
        if let Some(secret) = &subscription.hook_secret {
            secrets.add(&secret.0);
            // A gateway may repeat the form as it was posted, where the
            // address, encoded already, is encoded once more.
            secrets.add(&secret_in_path(secret));
        }
        let builder = Client::builder()
            .user_agent(concat!("highwater/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout((gateway.timeout / 2).min(MAX_CONNECT_TIME))
            // Minutes lie between two requests: a kept connection would be gone.
            .pool_max_idle_per_host(0);
        let builder = if gateway.url.scheme() == "https" {
            builder
        } else {
            builder.tls_certs_only([])
        };
        let client = builder.build().map_err(|error| GatewayProblem::Http {
            gateway: gateway.name.clone(),
            detail: secrets.hide(&causes(&error)).into_owned(),
        })?;
        Ok(Self {
            url: gateway.url.clone(),
            timeout: gateway.timeout,
            secrets,
            client,
        })
    }

    /// The address without its query.
    pub(super) fn place(&self) -> String {
        let shown = format!(
            "{}{}",
            self.url.origin().ascii_serialization(),
            self.url.path()
        );
        self.secrets.hide(&shown).into_owned()
    }

    /// Posts a form; a 2xx is the gateway's yes.
    ///
    /// # Errors
    /// How a source ends by it: refused, or failed.
    pub(super) async fn post(&self, form: String) -> Result<(), SourceEnd> {
        let span = tracing::info_span!(
            target: TRACE_TARGET,
            "subscribe",
            otel.kind = "client",
            http.request.method = "POST",
            url.full = self.place(),
            http.response.status_code = field::Empty,
            error = field::Empty,
            otel.status_code = field::Empty,
        );
        let result = self.exchange(form, &span).instrument(span.clone()).await;
        if let Err(SourceEnd::Failed { why, .. } | SourceEnd::Refused(why)) = &result {
            span.record("error", why.as_str());
            span.record("otel.status_code", "ERROR");
        }
        result
    }

    async fn exchange(&self, form: String, span: &Span) -> Result<(), SourceEnd> {
        let deadline = Instant::now() + self.timeout;
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .headers(trace_headers(span))
            .body(form)
            .send();
        let mut response = timeout_at(deadline, request)
            .await
            .map_err(|_| self.timed_out())?
            .map_err(|error| self.not_sent(&error))?;
        let status = response.status();
        span.record("http.response.status_code", i64::from(status.as_u16()));
        if status.is_success() {
            return Ok(());
        }
        // The status holds whether or not its explanation arrives whole.
        let mut body = Vec::new();
        let whole = timeout_at(deadline, read_within(&mut response, &mut body, MAX_ANSWER));
        if !matches!(whole.await, Ok(Ok(true))) {
            tracing::debug!(
                http.response.status_code = status.as_u16(),
                "the words of a refusal were cut off"
            );
        }
        Err(self.meaning(status, response.headers(), &body))
    }

    /// What an answer means that is no 2xx.
    fn meaning(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> SourceEnd {
        let words = self.words(&String::from_utf8_lossy(body));
        let words = if words.is_empty() {
            let reason = status.canonical_reason().unwrap_or("no words");
            format!("{reason} (empty answer)")
        } else {
            words
        };
        let place = self.place();
        let code = status.as_u16();
        match code {
            // Not this time, which says nothing of the next.
            408 | 425 | 429 | 500..=599 => SourceEnd::Failed {
                why: format!("{place} answered {code}: {words}"),
                retry_after: retry_after(headers, Timestamp::now(), MAX_RETRY_AFTER),
            },
            300..=399 => SourceEnd::Refused(format!(
                "{place} answered {code}, a redirect, which is not followed; set `url` to the address itself"
            )),
            400..=499 => SourceEnd::Refused(format!("{place} answered {code}: {words}")),
            _ => SourceEnd::Failed {
                why: format!("{place} answered {code} where 200 was expected: {words}"),
                retry_after: None,
            },
        }
    }

    fn timed_out(&self) -> SourceEnd {
        SourceEnd::Failed {
            why: format!(
                "{} did not answer within timeout = {}",
                self.place(),
                humantime::format_duration(self.timeout)
            ),
            retry_after: None,
        }
    }

    fn not_sent(&self, error: &reqwest::Error) -> SourceEnd {
        if error.is_timeout() && !error.is_connect() {
            return self.timed_out();
        }
        SourceEnd::Failed {
            why: format!("{}: {}", self.place(), self.words(&causes(error))),
            retry_after: None,
        }
    }

    fn words(&self, words: &str) -> String {
        one_line(&self.secrets.hide(words), MAX_WORDS)
    }
}
