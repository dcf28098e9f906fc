//! Operators' orders to subscriptions: each with a reason, recorded, and told to
//! the Subscriber at once where it runs on this server; elsewhere it is found at
//! the next look.

use super::{event_not_found, subscription_not_found};
use crate::flows::events::{SubscriptionName, read_reason};
use crate::http::api::refusals::{OperatorRefusals, StoreRefusals};
use crate::http::audit::{Act, Done};
use crate::http::body::read_json;
use crate::http::problem::{Answer, FieldError, Problem};
use crate::http::state::Http;
use crate::store::{Store, SubscriptionOrderError};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Body of an order.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderBody {
    /// Why: 1 to 1000 characters; kept in the audit.
    #[schema(min_length = 1, max_length = 1000)]
    pub reason: String,
}

/// Body of `POST /v1/subscriptions/{name}/skip`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SkipBody {
    /// Why: 1 to 1000 characters; kept in the audit, and with the event.
    #[schema(min_length = 1, max_length = 1000)]
    pub reason: String,
    /// Arrival of the open event; absent: the one on which it is halted.
    pub arrival: Option<i64>,
}

/// Body of `POST /v1/subscriptions/{name}/replay`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayBody {
    /// Why: 1 to 1000 characters; kept in the audit.
    #[schema(min_length = 1, max_length = 1000)]
    pub reason: String,
    /// First block whose events are judged and processed again.
    #[schema(minimum = 0)]
    pub from_block: i64,
}

/// Answer of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct OrderDone {
    /// The subscription.
    pub subscription: String,
    /// Arrival of the event that is tried anew or skipped; null for others.
    pub arrival: Option<i64>,
    /// Events that are open again; null for all but a replay.
    pub events: Option<i64>,
}

/// What is ordered, but for the reason.
#[derive(Clone, Copy, Debug)]
enum Order {
    Retry,
    Skip(Option<i64>),
    Pause,
    Resume,
    Replay(i64),
}

/// What a body says.
trait Ordered {
    /// The field of its number, where it has one.
    const NUMBER: &'static str;

    fn order(self) -> (String, Option<i64>);
}

impl Ordered for OrderBody {
    const NUMBER: &'static str = "";

    fn order(self) -> (String, Option<i64>) {
        (self.reason, None)
    }
}

impl Ordered for SkipBody {
    const NUMBER: &'static str = "arrival";

    fn order(self) -> (String, Option<i64>) {
        (self.reason, self.arrival)
    }
}

impl Ordered for ReplayBody {
    const NUMBER: &'static str = "from_block";

    fn order(self) -> (String, Option<i64>) {
        (self.reason, Some(self.from_block))
    }
}

impl Order {
    const fn action(self) -> &'static str {
        match self {
            Self::Retry => "subscriptions.retry",
            Self::Skip(_) => "subscriptions.skip",
            Self::Pause => "subscriptions.pause",
            Self::Resume => "subscriptions.resume",
            Self::Replay(_) => "subscriptions.replay",
        }
    }

    fn details(self, reason: &str) -> Value {
        match self {
            Self::Skip(arrival) => json!({ "reason": reason, "arrival": arrival }),
            Self::Replay(from_block) => json!({ "reason": reason, "from_block": from_block }),
            Self::Retry | Self::Pause | Self::Resume => json!({ "reason": reason }),
        }
    }

    async fn carry_out(
        self,
        store: &Store,
        name: &str,
        reason: &str,
    ) -> Result<OrderDone, SubscriptionOrderError> {
        let (mut arrival, mut events) = (None, None);
        match self {
            Self::Retry => arrival = Some(store.retry_subscription(name).await?),
            Self::Skip(which) => arrival = Some(store.skip_event(name, which, reason).await?),
            Self::Pause => store.pause_subscription(name, reason).await?,
            Self::Resume => store.resume_subscription(name).await?,
            Self::Replay(from) => events = Some(store.replay_subscription(name, from).await?),
        }
        Ok(OrderDone {
            subscription: name.to_owned(),
            arrival,
            events,
        })
    }
}

/// Has a halted subscription try its event anew.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/retry", tag = "events",
    params(("name" = String, Path, description = "Name of the subscription")),
    request_body = OrderBody, responses(
    (status = 200, description = "It tries the event of this arrival anew", body = OrderDone),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is no such subscription", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It is not halted", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not application/json", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "The reason is missing or too long", body = Problem, content_type = "application/problem+json"),
    OperatorRefusals, StoreRefusals,
), security(("token" = [])))]
pub(in crate::http) async fn retry(
    http: web::Data<Http>,
    request: HttpRequest,
    name: web::Path<String>,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    order::<OrderBody>(&http, &request, &name, payload, |_| Order::Retry).await
}

/// Skips an open event: it counts as done with, and is never processed.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/skip", tag = "events",
    params(("name" = String, Path, description = "Name of the subscription")),
    request_body = SkipBody, responses(
    (status = 200, description = "The event of this arrival is skipped", body = OrderDone),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is no such subscription or event", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It is not halted, or the event is done with", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not application/json", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "The reason is missing or too long", body = Problem, content_type = "application/problem+json"),
    OperatorRefusals, StoreRefusals,
), security(("token" = [])))]
pub(in crate::http) async fn skip(
    http: web::Data<Http>,
    request: HttpRequest,
    name: web::Path<String>,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    order::<SkipBody>(&http, &request, &name, payload, Order::Skip).await
}

/// Has a subscription process nothing until it is resumed; it goes on recording.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/pause", tag = "events",
    params(("name" = String, Path, description = "Name of the subscription")),
    request_body = OrderBody, responses(
    (status = 200, description = "It is paused", body = OrderDone),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is no such subscription", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It is paused already", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not application/json", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "The reason is missing or too long", body = Problem, content_type = "application/problem+json"),
    OperatorRefusals, StoreRefusals,
), security(("token" = [])))]
pub(in crate::http) async fn pause(
    http: web::Data<Http>,
    request: HttpRequest,
    name: web::Path<String>,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    order::<OrderBody>(&http, &request, &name, payload, |_| Order::Pause).await
}

/// Has a paused subscription go on; where it is halted too, it tries that event
/// anew.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/resume", tag = "events",
    params(("name" = String, Path, description = "Name of the subscription")),
    request_body = OrderBody, responses(
    (status = 200, description = "It goes on", body = OrderDone),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is no such subscription", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It is not paused", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not application/json", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "The reason is missing or too long", body = Problem, content_type = "application/problem+json"),
    OperatorRefusals, StoreRefusals,
), security(("token" = [])))]
pub(in crate::http) async fn resume(
    http: web::Data<Http>,
    request: HttpRequest,
    name: web::Path<String>,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    order::<OrderBody>(&http, &request, &name, payload, |_| Order::Resume).await
}

/// Has the events from a block on judged and processed again, with the same ids;
/// skipped ones stay skipped.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/replay", tag = "events",
    params(("name" = String, Path, description = "Name of the subscription")),
    request_body = ReplayBody, responses(
    (status = 200, description = "So many events are open again", body = OrderDone),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is no such subscription", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "No such block is known, or there is too much from there on", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not application/json", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "The reason is missing or too long, or the block is below zero", body = Problem, content_type = "application/problem+json"),
    OperatorRefusals, StoreRefusals,
), security(("token" = [])))]
pub(in crate::http) async fn replay(
    http: web::Data<Http>,
    request: HttpRequest,
    name: web::Path<String>,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    let order_of = |from_block: Option<i64>| Order::Replay(from_block.unwrap_or(0));
    order::<ReplayBody>(&http, &request, &name, payload, order_of).await
}

/// Reads what is ordered, does it and records it.
async fn order<B: Ordered + DeserializeOwned>(
    http: &Http,
    request: &HttpRequest,
    name: &str,
    payload: web::Payload,
    order_of: impl FnOnce(Option<i64>) -> Order,
) -> Answer<HttpResponse> {
    let limit = http.settings().http.max_body_bytes;
    let name_shown: String = name.chars().take(64).collect();
    let read = match known(http, name) {
        Ok(known) => match read_json::<B>(request, payload, limit).await {
            Ok(body) => check(body).map(|(reason, number)| (known, reason, number)),
            Err(refusal) => Err(refusal),
        },
        Err(refusal) => Err(refusal),
    };
    let (name, reason, number) = match read {
        Ok(read) => read,
        Err(refusal) => {
            let act = Act::of(request, order_of(None).action()).on(name_shown);
            return Err(http.refuse(act, refusal).await);
        }
    };
    let order = order_of(number);
    let act = Act::of(request, order.action())
        .on(name_shown)
        .with(order.details(&reason));
    let state = http.state.clone();
    let acted = http
        .act(act, async move {
            let done = order.carry_out(&state.store, name.as_str(), &reason).await;
            let done = done.map_err(refused)?;
            (state.look_again)(&name);
            let mut details = order.details(&reason);
            if let Some(arrival) = done.arrival {
                details["arrival"] = arrival.into();
            }
            if let Some(events) = done.events {
                details["events"] = events.into();
            }
            Ok(Done {
                value: done,
                details: Some(details),
            })
        })
        .await?;
    Ok(acted.respond(StatusCode::OK))
}

/// Of the configuration; refused while the server is stopping.
fn known(http: &Http, name: &str) -> Answer<SubscriptionName> {
    if *http.state.draining.borrow() {
        return Err(Problem::draining().into());
    }
    let settings = http.settings();
    let mut subscriptions = settings.subscriptions.iter();
    let found = subscriptions.find(|subscription| subscription.name.as_str() == name);
    match found {
        Some(subscription) => Ok(subscription.name.clone()),
        None => Err(subscription_not_found(name).into()),
    }
}

fn check<B: Ordered>(body: B) -> Answer<(String, Option<i64>)> {
    let (reason, number) = body.order();
    let mut errors = Vec::new();
    let reason = read_reason(&reason).unwrap_or_else(|message| {
        errors.push(FieldError::new("reason", message));
        String::new()
    });
    if let Some(number) = number.filter(|number| *number < 0) {
        let message = format!("{number} is below zero");
        errors.push(FieldError::new(B::NUMBER, message));
    }
    match errors.len() {
        0 => Ok((reason, number)),
        found => Err(Problem::invalid_fields(errors, found).into()),
    }
}

fn refused(error: SubscriptionOrderError) -> Box<Problem> {
    match error {
        SubscriptionOrderError::Store(error) => error.into(),
        SubscriptionOrderError::NoSuchEvent { name, arrival } => event_not_found(&name, arrival),
        error => Problem::new(
            StatusCode::CONFLICT,
            "subscription-order",
            "The subscription does not stand so",
            error.to_string(),
        ),
    }
}
