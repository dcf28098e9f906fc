//! Errors as clients see them: problem+json (RFC 9457), one type for all handlers.
//!
//! The policy:
//!
//! - `type` is `urn:highwater:problem:NAME`; the names are those of
//!   [`Problem`]'s constructors, and stay.
//! - 400 is a request that cannot be read (no JSON, unknown or missing fields,
//!   query parameters), 422 one that can be read and asks for what cannot be
//!   (an unknown ledger, an id of the wrong shape). Both name the field, with
//!   at most [`MOST_ERRORS`] entries; nothing of such a request is done.
//! - The database's failures are 503 with `Retry-After`: the same request may
//!   succeed later. A defect of ours is a 500 that says only where to look.
//! - What a handler could not do is logged here, once: server errors at warn.
//! - A problem never holds a token, nor the address of the database.

use super::shown_path::shown_path;
use crate::flows::events::SinkError;
use crate::store::StoreError;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt;

/// Most entries in `errors`.
pub(super) const MOST_ERRORS: usize = 100;

/// Media type of problems.
pub(in crate::http) const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which a request that found no database may be repeated.
const RETRY_AFTER: u32 = 5;

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct FieldError {
    /// Path of the field, as in `batches[3].batch_id`.
    pub field: String,
    /// What is wrong and what is expected.
    pub message: String,
}

impl FieldError {
    /// Names a field and what is wrong with it.
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// A refused or failed request, as problem+json (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Problem {
    /// `urn:highwater:problem:NAME`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem it is, the same for every occurrence.
    pub title: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What is wrong here, and what to do.
    pub detail: String,
    /// Fields at fault, where the problem is one of fields; at most 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldError>,
    /// Members of this kind of problem, by name.
    #[serde(flatten)]
    #[schema(ignore)]
    members: Map<String, Value>,
    #[serde(skip)]
    #[schema(ignore)]
    headers: Vec<(header::HeaderName, String)>,
    /// What log and audit have of it, where the client's words repeat what was
    /// sent: a secret may have been typed in the wrong place.
    #[serde(skip)]
    #[schema(ignore)]
    record: Option<String>,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        name: &str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Box<Self> {
        Box::new(Self {
            kind: format!("urn:highwater:problem:{name}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            members: Map::new(),
            headers: Vec::new(),
            record: None,
        })
    }

    /// Keeps what the client is told out of log and audit: they have this.
    pub(super) fn recorded_as(mut self: Box<Self>, record: String) -> Box<Self> {
        self.record = Some(record);
        self
    }

    /// What log and audit have of it.
    pub(super) fn record(&self) -> String {
        self.record.clone().unwrap_or_else(|| {
            let errors = self.errors.iter().skip(1);
            let more = errors.map(|error| format!("; {}: {}", error.field, error.message));
            format!("{}{}", self.detail, more.collect::<String>())
        })
    }

    pub(super) fn with_errors(mut self: Box<Self>, mut errors: Vec<FieldError>) -> Box<Self> {
        errors.truncate(MOST_ERRORS);
        self.errors = errors;
        self
    }

    /// Adds a member, as RFC 9457 has it.
    pub(super) fn with_member(mut self: Box<Self>, name: &str, value: Value) -> Box<Self> {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// Adds a header to the answer.
    pub(super) fn with_header(
        mut self: Box<Self>,
        name: header::HeaderName,
        value: String,
    ) -> Box<Self> {
        self.headers.push((name, value));
        self
    }

    pub(super) fn invalid_json(detail: impl Into<String>, error: FieldError) -> Box<Self> {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid-json",
            "The body is not the JSON expected",
            detail,
        )
        .recorded_as(match error.field.as_str() {
            "" => "the body is not the JSON expected".to_owned(),
            field => format!("the body is not the JSON expected, at {field}"),
        })
        .with_errors(vec![error])
    }

    pub(super) fn invalid_query(errors: Vec<FieldError>) -> Box<Self> {
        let detail = errors.first().map_or_else(String::new, |error| {
            format!("query parameter {}: {}", error.field, error.message)
        });
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid-query",
            "The query cannot be read",
            detail,
        )
        .with_errors(errors)
    }

    /// Fields of the wrong shape; `found` counts all of them.
    pub(super) fn invalid_fields(errors: Vec<FieldError>, found: usize) -> Box<Self> {
        let first = errors.first().map_or_else(String::new, |error| {
            // The whole body has no name.
            if error.field.is_empty() {
                return error.message.clone();
            }
            format!("{}: {}", error.field, error.message)
        });
        let detail = match found {
            0 | 1 => format!("nothing was done: {first}"),
            more => format!("nothing was done: {more} fields are wrong; the first is {first}"),
        };
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-fields",
            "Fields of the request are not acceptable",
            detail,
        )
        .with_errors(errors)
    }

    /// As [`Self::invalid_fields`], where every error is an unknown ledger.
    pub(super) fn unknown_ledger(errors: Vec<FieldError>) -> Box<Self> {
        let detail = errors.first().map_or_else(String::new, |error| {
            format!("nothing was done: {}: {}", error.field, error.message)
        });
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "unknown-ledger",
            "The ledger is not configured",
            detail,
        )
        .with_errors(errors)
    }

    pub(super) fn unsupported_media_type(detail: impl Into<String>) -> Box<Self> {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "The body is of another media type",
            detail,
        )
    }

    pub(super) fn body_too_large(limit: usize) -> Box<Self> {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "The body is too large",
            format!(
                "the body is larger than {limit} bytes; send fewer at a time, or raise \
                 http.max_body_bytes"
            ),
        )
    }

    pub(super) fn body_timeout() -> Box<Self> {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-timeout",
            "The body did not arrive in time",
            "the body did not arrive whole in time; send it again",
        )
    }

    pub(super) fn body_broken() -> Box<Self> {
        Self::new(
            StatusCode::BAD_REQUEST,
            "body-broken",
            "The body did not arrive",
            "the body ended early or was sent in broken pieces; send it again",
        )
    }

    pub(super) fn unauthorized(detail: impl Into<String>) -> Box<Self> {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "A token is needed",
            detail,
        )
        .with_header(
            header::WWW_AUTHENTICATE,
            "Bearer realm=\"highwater\"".to_owned(),
        )
    }

    pub(super) fn no_control_token() -> Box<Self> {
        Self::new(
            StatusCode::FORBIDDEN,
            "control-token-not-configured",
            "Operator actions are switched off",
            "no control token is configured: set http.control_token_file and reload, or use the \
             command line (highwater batches, sites or events)",
        )
    }

    pub(super) fn misdirected(host: &str) -> Box<Self> {
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "misdirected",
            "The request is for another host",
            format!(
                "\"{host}\" is no name of this machine; without tokens a server on loopback \
                 answers to localhost and loopback addresses only: let the proxy send such a Host, \
                 or set http.read_token_file and http.intake_token_file"
            ),
        )
    }

    pub(super) fn not_found(path: &str) -> Box<Self> {
        let path = shown_path(path);
        let shown: String = path.chars().take(200).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "There is nothing here",
            format!("{shown} does not exist; /openapi.json lists what does"),
        )
    }

    pub(super) fn site_not_found(site_id: &str) -> Box<Self> {
        Self::new(
            StatusCode::NOT_FOUND,
            "site-not-found",
            "There is no such site",
            format!("site \"{site_id}\" is not kept"),
        )
    }

    pub(super) fn job_not_found(app: &str, name: &str) -> Box<Self> {
        Self::new(
            StatusCode::NOT_FOUND,
            "job-not-found",
            "There is no such job",
            format!(
                "job \"{name}\" of app \"{app}\" is not in the configuration and has visited no site: \
                 /v1/jobs lists those there are"
            ),
        )
    }

    pub(super) fn batch_not_found(ledger: &str, service_id: &str, batch_id: &str) -> Box<Self> {
        let service = if service_id.is_empty() {
            " (or several services have one of that id: name it by ?service_id=)".to_owned()
        } else {
            format!(" and service \"{service_id}\"")
        };
        Self::new(
            StatusCode::NOT_FOUND,
            "batch-not-found",
            "The batch is not tracked",
            if service_id.is_empty() {
                format!("batch \"{batch_id}\" of ledger \"{ledger}\" is not tracked{service}")
            } else {
                format!("batch \"{batch_id}\" of ledger \"{ledger}\"{service} is not tracked")
            },
        )
    }

    pub(super) fn method_not_allowed(method: &str, path: &str, allowed: String) -> Box<Self> {
        let path = shown_path(path);
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "The method is not allowed here",
            format!("{path} does not answer {method}; it answers {allowed}"),
        )
        .with_header(header::ALLOW, allowed)
    }

    pub(super) fn draining() -> Box<Self> {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "The server is stopping",
            "the server is stopping and takes nothing in any more; send it again later or to \
             another server",
        )
        .with_header(header::RETRY_AFTER, RETRY_AFTER.to_string())
    }

    pub(super) fn database(detail: String) -> Box<Self> {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "database-unreachable",
            "The database is out of reach",
            detail,
        )
        .with_header(header::RETRY_AFTER, RETRY_AFTER.to_string())
    }

    pub(super) fn internal() -> Box<Self> {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal-error",
            "A defect of Highwater",
            "Highwater failed to do this; its log says why",
        )
    }

    /// What kind of problem it is, one of few.
    pub(super) fn name(&self) -> &str {
        self.kind.rsplit(':').next().unwrap_or_default()
    }

    /// Whether the request was turned down, rather than begun and not finished.
    pub(super) fn nothing_was_tried(&self) -> bool {
        let refused = ["shutting-down", "busy", "draining"];
        self.status < 500
            || refused
                .iter()
                .any(|name| self.kind.rsplit(':').next() == Some(name))
    }

    /// Adds the headers that go with it.
    pub(super) fn add_headers(&self, headers: &mut header::HeaderMap) {
        for (name, value) in &self.headers {
            if let Ok(value) = header::HeaderValue::from_str(value) {
                headers.insert(name.clone(), value);
            }
        }
    }

    /// The status to answer with.
    pub(super) fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<StoreError> for Box<Problem> {
    fn from(error: StoreError) -> Self {
        tracing::warn!(error = %error, "a request could not be answered by the database");
        match error {
            StoreError::Internal(_) => Problem::internal(),
            // The driver's words may hold statements or addresses: they are for the log.
            StoreError::Unreachable(_) | StoreError::Locked(_) => Problem::database(
                "the database is out of reach; nothing was lost, send the request again".to_owned(),
            ),
            // No request works under a lease.
            StoreError::LeaseLost(_) => Problem::internal(),
            StoreError::Refused(_) => Problem::database(
                "the database refused a statement; the log says which and why".to_owned(),
            ),
            newer @ (StoreError::Newer { .. } | StoreError::Migration(_)) => {
                Problem::database(newer.to_string())
            }
        }
    }
}

impl From<SinkError> for Box<Problem> {
    fn from(error: SinkError) -> Self {
        tracing::warn!(error = %error, "events were not recorded");
        match error {
            // The words may hold statements or addresses: they are for the log.
            SinkError::Away(_) | SinkError::Fenced => Problem::database(
                "the database is out of reach; nothing was lost, send the request again".to_owned(),
            ),
            SinkError::Refused(_) => Problem::database(
                "the database refused a statement; the log says which and why".to_owned(),
            ),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.title, self.status, self.detail)
    }
}

/// What handlers answer: problems are boxed, being much larger than the rest.
pub(super) type Answer<T> = Result<T, Refusal>;

/// A [`Problem`] on its way out of a handler.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) Box<Problem>);

impl<T: Into<Box<Problem>>> From<T> for Refusal {
    fn from(problem: T) -> Self {
        Self(problem.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.0.status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.0.status_code())
            .content_type(PROBLEM_JSON)
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .body(serde_json::to_string(&self.0).unwrap_or_default());
        self.0.add_headers(response.headers_mut());
        response
    }
}

#[cfg(test)]
#[path = "problem_tests.rs"]
mod tests;
