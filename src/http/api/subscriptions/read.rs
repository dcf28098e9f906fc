//! Subscriptions and their events, as they stand.

use super::{event_not_found, subscription_not_found};
use crate::flows::events::{Checkpoint, Decision, SubscriptionName};
use crate::http::api::batches::{check_text, read_query};
use crate::http::problem::{Answer, FieldError, Problem};
use crate::http::state::Http;
use crate::http::subscription_figures::{SubscriptionFigures, subscription_figures};
use crate::http::subscriptions::{SubscriptionReport, gather_from};
use crate::store::{EventDetail, EventFilter, EventRow};
use crate::time::Timestamp;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

/// Rows of a page, where none are asked for.
const DEFAULT_LIMIT: usize = 100;
/// Most rows of a page.
const MOST_ROWS: usize = 1000;

/// Answer of `GET /v1/subscriptions`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SubscriptionList {
    /// Configured subscriptions in the configuration's order, then those that
    /// are only in the database.
    pub items: Vec<SubscriptionReport>,
    /// Always null: the list is never paged.
    pub next: Option<String>,
    /// When the counts were read.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub read_at: Option<Timestamp>,
    /// Why newer counts could not be read; null when they are new.
    pub problem: Option<String>,
}

/// Query of `GET /v1/subscriptions/{name}/events`; absent filters let all pass.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// `pending`, `relevant`, `irrelevant` or `skipped`.
    pub decision: Option<String>,
    /// Only of this block.
    #[param(value_type = Option<i64>)]
    pub block: Option<String>,
    /// Only of this transaction.
    pub tx_id: Option<String>,
    /// `true`: only those that are not done with.
    #[param(value_type = Option<bool>)]
    pub open: Option<String>,
    /// Rows of a page, 1 to 1000. Default 100.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000)]
    pub limit: Option<String>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// Answer of `GET /v1/subscriptions/{name}/events`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct EventList {
    /// Events, newest arrival first. May be fewer than asked for, even none,
    /// with more behind the cursor.
    pub items: Vec<EventItem>,
    /// Cursor of the next page; null on the last one.
    pub next: Option<String>,
}

/// An event of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct EventItem {
    /// Block.
    pub block: i64,
    /// Ordinal within the block, 0 where arrival decides.
    pub rank: i64,
    /// In the order of recording.
    pub arrival: i64,
    /// The transaction; empty for events of a block.
    pub tx_id: String,
    /// What tells it from others of its transaction.
    pub event_id: String,
    /// Name of the event.
    pub event_name: String,
    /// The key by which it is judged.
    pub key: Option<String>,
    /// When it happened, where it says so.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub occurred_at: Option<Timestamp>,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// `pending`, `relevant`, `irrelevant` or `skipped`.
    pub decision: String,
    /// When it was decided.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub decided_at: Option<Timestamp>,
    /// When its handler was done with it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub processed_at: Option<Timestamp>,
    /// Times its handler was tried.
    pub attempts: i32,
    /// What went wrong last, or why it was skipped.
    pub last_error: Option<String>,
    /// It came after its place was passed.
    pub late: bool,
    /// When the ledger abandoned its block.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub abandoned_at: Option<Timestamp>,
}

/// An event with all that is known of it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct EventReport {
    /// How it stands.
    #[serde(flatten)]
    pub event: EventItem,
    /// The event as it came; null where it is past its retention.
    #[schema(value_type = Object)]
    pub payload: serde_json::Value,
}

impl From<EventRow> for EventItem {
    fn from(row: EventRow) -> Self {
        Self {
            block: row.block,
            rank: row.rank,
            arrival: row.arrival,
            tx_id: row.tx_id,
            event_id: row.event_id,
            event_name: row.event_name,
            key: row.event_key,
            occurred_at: row.occurred_at,
            received_at: row.received_at,
            decision: row.decision,
            decided_at: row.decided_at,
            processed_at: row.processed_at,
            attempts: row.attempts,
            last_error: row.last_error,
            late: row.late,
            abandoned_at: row.abandoned_at,
        }
    }
}

/// Subscriptions: how far they are, and what holds them up.
#[utoipa::path(get, path = "/v1/subscriptions", tag = "events", responses(
    (status = 200, description = "All subscriptions", body = SubscriptionList),
))]
pub(in crate::http) async fn list_subscriptions(
    http: web::Data<Http>,
) -> web::Json<SubscriptionList> {
    let figures = subscription_figures(&http).await;
    web::Json(SubscriptionList {
        items: gather_from(&http, &figures),
        next: None,
        read_at: figures.read_at,
        problem: figures.problem.clone(),
    })
}

/// One subscription.
#[utoipa::path(get, path = "/v1/subscriptions/{name}", tag = "events",
    params(("name" = String, Path, description = "Name of the subscription")),
    responses(
        (status = 200, description = "The subscription", body = SubscriptionReport),
        (status = 404, description = "There is no such subscription", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn show_subscription(
    http: web::Data<Http>,
    name: web::Path<String>,
) -> Answer<web::Json<SubscriptionReport>> {
    let figures = subscription_figures(&http).await;
    Ok(web::Json(find_subscription(&http, &figures, &name)?))
}

/// How one subscription stands, by these figures.
pub(in crate::http) fn find_subscription(
    http: &Http,
    figures: &SubscriptionFigures,
    name: &str,
) -> Answer<SubscriptionReport> {
    let mut all = gather_from(http, figures).into_iter();
    match all.find(|subscription| subscription.name == *name) {
        Some(subscription) => Ok(subscription),
        None => Err(subscription_not_found(name).into()),
    }
}

/// Events of a subscription, newest arrival first.
#[utoipa::path(get, path = "/v1/subscriptions/{name}/events", tag = "events",
    params(("name" = String, Path, description = "Name of the subscription"), EventsQuery),
    responses(
        (status = 200, description = "A page of events", body = EventList),
        (status = 400, description = "A query parameter is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such subscription", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is out of reach", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn list_events(
    http: web::Data<Http>,
    request: HttpRequest,
    name: web::Path<String>,
) -> Answer<web::Json<EventList>> {
    let found = find_events(&http, &name, read_query::<EventsQuery>(&request)?).await?;
    Ok(web::Json(EventList {
        items: found.rows.into_iter().map(EventItem::from).collect(),
        next: found.next,
    }))
}

/// A page of events, and what was asked for.
pub(in crate::http) struct FoundEvents {
    pub(in crate::http) filter: EventFilter,
    /// Whether it is not the first page.
    pub(in crate::http) paged: bool,
    pub(in crate::http) rows: Vec<EventRow>,
    /// Cursor of the next page.
    pub(in crate::http) next: Option<String>,
}

/// Events of a subscription by a query, for the API and the page.
pub(in crate::http) async fn find_events(
    http: &Http,
    name: &str,
    query: EventsQuery,
) -> Answer<FoundEvents> {
    let (filter, cursor, limit) = parse(name, query)?;
    check_known(http, name).await?;
    let wanted = filter.clone();
    let page = http
        .database(move |store| async move { store.list_events(&wanted, cursor, limit).await })
        .await?;
    Ok(FoundEvents {
        filter,
        paged: cursor.is_some(),
        rows: page.rows,
        next: page.next.map(write_cursor),
    })
}

/// One event, with the event as it came.
#[utoipa::path(get, path = "/v1/subscriptions/{name}/events/{arrival}", tag = "events",
    params(
        ("name" = String, Path, description = "Name of the subscription"),
        ("arrival" = i64, Path, description = "Number of the event in the order of recording"),
    ),
    responses(
        (status = 200, description = "The event", body = EventReport),
        (status = 404, description = "There is no such subscription or event", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is out of reach", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn show_event(
    http: web::Data<Http>,
    path: web::Path<(String, String)>,
) -> Answer<HttpResponse> {
    let (name, arrival) = path.into_inner();
    let (detail, _) = find_event(&http, &name, &arrival).await?;
    let mut document = serde_json::json!(EventItem::from(detail.row)).to_string();
    // The event as it came, byte by byte: numbers keep all their digits.
    document.pop();
    document.push_str(",\"payload\":");
    document.push_str(&detail.payload);
    document.push('}');
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .body(document))
}

/// One event, and how far its subscription has come, for the API and the page.
pub(in crate::http) async fn find_event(
    http: &Http,
    name: &str,
    arrival: &str,
) -> Answer<(EventDetail, Checkpoint)> {
    check_known(http, name).await?;
    let arrival: i64 = arrival.parse().unwrap_or(0);
    let wanted = name.to_owned();
    let found = http
        .database(move |store| async move {
            match store.event(&wanted, arrival).await? {
                Some(detail) => Ok(Some((detail, store.checkpoint(&wanted).await?))),
                None => Ok(None),
            }
        })
        .await?;
    Ok(found.ok_or_else(|| event_not_found(name, arrival))?)
}

/// Of the configuration or the database.
async fn check_known(http: &Http, name: &str) -> Answer<()> {
    if SubscriptionName::parse(name).is_err() {
        return Err(subscription_not_found(name).into());
    }
    let settings = http.settings();
    let mut configured = settings.subscriptions.iter();
    if configured.any(|subscription| subscription.name.as_str() == name) {
        return Ok(());
    }
    let figures = subscription_figures(http).await;
    if figures.summaries.iter().any(|summary| summary.name == name) {
        return Ok(());
    }
    Err(subscription_not_found(name).into())
}

/// Judges the parameters of a list.
fn parse(name: &str, query: EventsQuery) -> Answer<(EventFilter, Option<i64>, usize)> {
    let mut errors = Vec::new();
    let mut wrong = |field: &str, message: String| errors.push(FieldError::new(field, message));
    if let Some(Err(message)) = query.tx_id.as_deref().map(check_text) {
        wrong("tx_id", message.to_owned());
    }
    let decision = query.decision.as_deref().and_then(|word| {
        let decision = Decision::parse(word);
        if decision.is_none() {
            let words = Decision::ALL.map(Decision::as_str).join(", ");
            wrong(
                "decision",
                format!("\"{word}\" is no decision; expected one of {words}"),
            );
        }
        decision
    });
    let block = query.block.as_deref().and_then(|text| {
        let block = text.parse::<i64>().ok().filter(|block| *block >= 0);
        if block.is_none() {
            wrong(
                "block",
                format!("\"{text}\" is no block; expected 0 or more"),
            );
        }
        block
    });
    let open = match query.open.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(word) => {
            wrong("open", format!("\"{word}\" is neither true nor false"));
            false
        }
    };
    let limit = query.limit.as_deref().map_or(Some(DEFAULT_LIMIT), |text| {
        let limit = text
            .parse::<usize>()
            .ok()
            .filter(|limit| (1..=MOST_ROWS).contains(limit));
        if limit.is_none() {
            wrong(
                "limit",
                format!("\"{text}\" is no limit; expected 1 to {MOST_ROWS}"),
            );
        }
        limit
    });
    let cursor = query.cursor.as_deref().map(|text| {
        let cursor = read_cursor(text);
        if cursor.is_none() {
            wrong(
                "cursor",
                "this is no cursor; use `next` of the page before".to_owned(),
            );
        }
        cursor
    });
    match (limit, errors.is_empty()) {
        (Some(limit), true) => Ok((
            EventFilter {
                subscription: name.to_owned(),
                decision,
                block,
                tx_id: query.tx_id,
                open,
            },
            cursor.flatten(),
            limit,
        )),
        _ => Err(Problem::invalid_query(errors).into()),
    }
}

/// Writes a cursor: opaque to clients, so that it may change.
fn write_cursor(arrival: i64) -> String {
    format!("e{arrival:x}")
}

fn read_cursor(cursor: &str) -> Option<i64> {
    let digits = cursor.strip_prefix('e')?;
    let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    plain.then(|| i64::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_parameter_is_told() {
        let text = |text: &str| Some(text.to_owned());
        let query = EventsQuery {
            decision: text("maybe"),
            block: text("-1"),
            tx_id: text("a\nb"),
            open: text("yes"),
            limit: text("0"),
            cursor: text("b1"),
        };
        let problem = parse("claims", query).unwrap_err().0;
        assert_eq!(problem.errors.len(), 6, "{problem:?}");
        let query = EventsQuery {
            cursor: Some(write_cursor(255)),
            ..EventsQuery::default()
        };
        let (filter, cursor, limit) = parse("claims", query).unwrap();
        assert_eq!((cursor, limit), (Some(255), DEFAULT_LIMIT));
        assert_eq!(filter.subscription, "claims");
    }
}
