//! `POST /v1/hooks/{subscription}[/{secret}]`: events that gateways and others
//! send in. Answered only when they are durable.

use crate::config::SubscriptionSettings;
use crate::flows::events::{ExtractProblem, Extraction, Heard, SinkError, SubscriptionName};
use crate::http::auth;
use crate::http::body::{check_json, read_bytes};
use crate::http::problem::{Answer, FieldError, Problem};
use crate::http::state::Http;
use crate::net::webhook::{ID, SIGNATURE, TIMESTAMP, WebhookKey};
use crate::time::Timestamp;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use serde::Serialize;

/// Answer of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct HookTaken {
    /// Events that are new, and are judged and processed from now on.
    pub recorded: usize,
    /// Events that were known already.
    pub known: usize,
    /// Events that are new and done with: their block is skipped.
    pub skipped: usize,
}

/// Takes events, with the secret as bearer token or as a Standard Webhooks
/// signature. The body is one event or a list of them, each as it is or as the
/// `data` of a CloudEvent. Answered when they are durable; an event that was
/// sent before is known again.
#[utoipa::path(post, path = "/v1/hooks/{subscription}", tag = "events",
    params(("subscription" = String, Path, description = "Name of the subscription")),
    request_body = Object, responses(
    (status = 200, description = "All of them are durable", body = HookTaken),
    (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The secret of the hook is needed", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such subscription, or none whose events come by a hook", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body or an event is too large, or there are too many", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "An event lacks something; nothing was recorded", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or the server is stopping: send them again", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn hook(
    http: web::Data<Http>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer<web::Json<HookTaken>> {
    counted(take(&http, &request, payload, None).await)
}

/// The same with the secret in the path, as a gateway is told to call back.
#[utoipa::path(post, path = "/v1/hooks/{subscription}/{secret}", tag = "events",
    params(
        ("subscription" = String, Path, description = "Name of the subscription"),
        ("secret" = String, Path, description = "Secret of its hook"),
    ),
    request_body = Object, responses(
    (status = 200, description = "All of them are durable", body = HookTaken),
    (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "This is not the secret", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such subscription, or none whose events come by a hook", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body or an event is too large, or there are too many", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "An event lacks something; nothing was recorded", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or the server is stopping: send them again", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn hook_with_secret(
    http: web::Data<Http>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer<web::Json<HookTaken>> {
    // As it came: a secret may hold an encoded slash.
    let secret = request.uri().path().rsplit('/').next().unwrap_or_default();
    let secret = percent_decode_str(secret).decode_utf8_lossy().into_owned();
    counted(take(&http, &request, payload, Some(&secret)).await)
}

/// Counts what was refused, by the name of its problem.
fn counted<T>(answer: Answer<T>) -> Answer<T> {
    answer.inspect_err(|refusal| {
        let reason = refusal.0.name().to_owned();
        metrics::counter!("highwater_hook_refused_total", "reason" => reason).increment(1);
    })
}

async fn take(
    http: &Http,
    request: &HttpRequest,
    payload: web::Payload,
    shown: Option<&str>,
) -> Answer<web::Json<HookTaken>> {
    if *http.state.draining.borrow() {
        return Err(Problem::draining().into());
    }
    let settings = http.settings();
    let name = request.match_info().get("subscription").unwrap_or_default();
    let subscriptions = settings.subscriptions.iter();
    let mut with_hook = subscriptions
        .filter_map(|subscription| Some((subscription, &subscription.hook_secret.as_ref()?.0)));
    let Some((subscription, secret)) =
        with_hook.find(|(subscription, _)| subscription.name.as_str() == name)
    else {
        return Err(Problem::hook_not_found(name).into());
    };
    let by_secret = auth::opens_hook(&settings.http, request, shown, secret);
    let signed = Signed::of(request).filter(|_| by_secret != Some(true));
    let limit = settings.http.max_body_bytes;
    let body = match (by_secret, signed) {
        (Some(true), _) => {
            check_json(request)?;
            read_bytes(request, payload, limit).await?
        }
        (_, Some(signed)) => {
            check_json(request)?;
            let body = read_bytes(request, payload, limit).await?;
            if !signed.is_right(secret, &body) {
                return Err(wrong(http, request));
            }
            body
        }
        (Some(false), None) => return Err(wrong(http, request)),
        (None, None) => return Err(Problem::no_hook_secret().into()),
    };
    let heard = heard(
        subscription,
        &Extraction::of(subscription, &settings.events),
        &body,
    )?;
    drop(body);
    let untaken = Untaken {
        http,
        subscription: &subscription.name,
        block: heard.iter().filter_map(|(heard, _)| heard.block).min(),
    };
    let recorded = (http.state.record)(subscription.name.clone(), heard).await;
    if !matches!(recorded, Err(SinkError::Away(_) | SinkError::Fenced)) {
        // Recorded; or refused for good, also if it came again.
        untaken.settle();
    }
    let recorded = recorded?;
    Ok(web::Json(HookTaken {
        recorded: recorded.new.len(),
        known: recorded.known,
        skipped: recorded.skipped,
    }))
}

fn wrong(http: &Http, request: &HttpRequest) -> crate::http::problem::Refusal {
    match http.wrong_token(request, "hook") {
        Ok(()) => Problem::wrong_hook_secret().into(),
        Err(limited) => limited.into(),
    }
}

/// Events that are not recorded yet. If they are never, also since who called did
/// not wait for the answer, the Subscriber is told from which block on events may
/// be lost: the source asks for them again.
struct Untaken<'h> {
    http: &'h Http,
    subscription: &'h SubscriptionName,
    block: Option<i64>,
}

impl Untaken<'_> {
    fn settle(mut self) {
        self.block = None;
    }
}

impl Drop for Untaken<'_> {
    fn drop(&mut self) {
        if let Some(block) = self.block {
            (self.http.state.refused)(self.subscription, block);
        }
    }
}

/// The events of a body, each with whether its block is skipped.
fn heard(
    subscription: &SubscriptionSettings,
    extraction: &Extraction<'_>,
    body: &[u8],
) -> Answer<Vec<(Heard, bool)>> {
    let heard = extraction.extract(body).map_err(|problem| {
        let detail = problem.to_string();
        match problem {
            ExtractProblem::NotJson(message) => {
                Problem::invalid_json(detail, FieldError::new("", message))
            }
            ExtractProblem::TooMany { .. } | ExtractProblem::TooLarge { .. } => {
                Problem::events_too_large(detail)
            }
            ExtractProblem::Field { field, message } => {
                let problem = Problem::invalid_fields(vec![FieldError::new(&*field, message)], 1);
                problem.recorded_as(format!("nothing was recorded: {field} makes no sense"))
            }
        }
    })?;
    let skips = |heard: &Heard| heard.block.is_some_and(|block| subscription.skips(block));
    let marked = heard.into_iter().map(|heard| {
        let skipped = skips(&heard);
        (heard, skipped)
    });
    Ok(marked.collect())
}

/// A Standard Webhooks signature as a request carries it.
struct Signed {
    id: String,
    seconds: String,
    signatures: String,
}

impl Signed {
    fn of(request: &HttpRequest) -> Option<Self> {
        let header = |name: &str| {
            let value = request.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        Some(Self {
            id: header(ID)?,
            seconds: header(TIMESTAMP)?,
            signatures: header(SIGNATURE)?,
        })
    }

    fn is_right(&self, secret: &SecretString, body: &[u8]) -> bool {
        WebhookKey::of(secret).is_ok_and(|key| {
            let Self {
                id,
                seconds,
                signatures,
            } = self;
            key.verifies(id, seconds, signatures, body, Timestamp::now())
        })
    }
}

impl Problem {
    fn no_hook_secret() -> Box<Self> {
        Self::unauthorized(
            "send the secret of the subscription's hook: in the path (/v1/hooks/NAME/SECRET), as \
             Authorization: Bearer, or as a Standard Webhooks signature",
        )
    }

    fn wrong_hook_secret() -> Box<Self> {
        Self::unauthorized(
            "this is not the secret of the subscription's hook, nor a signature made with it less \
             than 5 minutes ago",
        )
    }

    fn hook_not_found(name: &str) -> Box<Self> {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            "hook-not-found",
            "There is no such hook",
            format!(
                "no subscription \"{shown}\" is configured whose events come by a hook; add \
                 [[subscriptions]] with that name and hook_secret_file"
            ),
        )
    }

    fn events_too_large(detail: impl Into<String>) -> Box<Self> {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "events-too-large",
            "Too many events, or one that is too large",
            detail,
        )
    }
}
