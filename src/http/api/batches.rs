//! `GET /v1/batches` and `GET /v1/batches/{ledger}/{batch_id}`.

use crate::flows::batches::{BatchKey, Status};
use crate::http::problem::{Answer, FieldError, Problem};
use crate::http::state::Http;
use crate::http::why_not_now::{NextPoll, Situation, why_not_now};
use crate::store::{BatchFilter, BatchRow, PollEntry};
use crate::time::Timestamp;
use actix_web::{HttpRequest, web};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Rows of a page, where none are asked for.
const DEFAULT_LIMIT: i64 = 100;
/// Most rows of a page.
const MOST_ROWS: i64 = 1000;
/// Longest filter.
const LONGEST_FILTER: usize = 1024;

/// Query of `GET /v1/batches`; absent filters let all pass.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only of this ledger.
    pub ledger: Option<String>,
    /// Only of this service; empty for batches of no service.
    pub service_id: Option<String>,
    /// Only with this status.
    pub status: Option<String>,
    /// Only those whose batch id begins so.
    pub batch_id: Option<String>,
    /// Rows of a page, 1 to 1000. Default 100.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000)]
    pub limit: Option<String>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// Query of `GET /v1/batches/{ledger}/{batch_id}`.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OneQuery {
    /// Service id; absent or empty where the ledger has none.
    #[serde(default)]
    #[param(required = false)]
    pub service_id: String,
}

/// Answer of `GET /v1/batches`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct BatchList {
    /// Batches, newest first.
    pub items: Vec<BatchRow>,
    /// Cursor of the next page; null on the last one.
    pub next: Option<String>,
}

/// One batch with its history.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct BatchDetail {
    /// The row.
    #[serde(flatten)]
    pub batch: BatchRow,
    /// The newest polls, oldest first; at most 24.
    pub history: Vec<PollEntry>,
    /// Its transactions, where the application told them; at most 1,000.
    pub transaction_ids: Vec<String>,
    /// When it is polled next; null when it is not polled any more, or nobody can say.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub polled_next_at: Option<Timestamp>,
    /// Why it is not polled at this moment, in a sentence.
    pub why_not_now: String,
}

/// Lists batches, newest first.
#[utoipa::path(get, path = "/v1/batches", tag = "batches", params(ListQuery), responses(
    (status = 200, description = "A page of batches", body = BatchList),
    (status = 400, description = "A query parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn list_batches(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<web::Json<BatchList>> {
    let filter = parse_filter(read_query::<ListQuery>(&request)?)?;
    let page = http
        .database(|store| async move { store.list_batches(&filter).await })
        .await?;
    Ok(web::Json(BatchList {
        items: page.rows,
        next: page.next.map(write_cursor),
    }))
}

/// One batch: its row, polls, transactions, and why it is not polled now. The
/// service may be left out where only one has a batch of that id.
#[utoipa::path(get, path = "/v1/batches/{ledger}/{batch_id}", tag = "batches",
    params(
        ("ledger" = String, Path, description = "Name of the ledger"),
        ("batch_id" = String, Path, description = "Batch id"),
        OneQuery,
    ),
    responses(
        (status = 200, description = "The batch", body = BatchDetail),
        (status = 400, description = "A query parameter is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The batch is not tracked", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is out of reach", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn show_batch(
    http: web::Data<Http>,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Answer<web::Json<BatchDetail>> {
    let OneQuery { service_id } = read_query(&request)?;
    let (ledger, batch_id) = path.into_inner();
    let key = BatchKey {
        ledger,
        service_id,
        batch_id,
    };
    Ok(web::Json(detail(&http, key).await?))
}

/// Reads all there is to know of a batch; the page shows the same.
pub(in crate::http) async fn detail(http: &Http, key: BatchKey) -> Answer<BatchDetail> {
    let wanted = key.clone();
    let missing = || Problem::batch_not_found(&key.ledger, &key.service_id, &key.batch_id);
    if [&key.ledger, &key.service_id, &key.batch_id]
        .iter()
        .any(|text| check_text(text).is_err())
    {
        return Err(missing().into());
    }
    let (row, transaction_ids) = http
        .database(|store| async move {
            let mut row = store.find_batch(&wanted).await?;
            if row.is_none() && wanted.service_id.is_empty() {
                row = store
                    .find_only_batch(&wanted.ledger, &wanted.batch_id)
                    .await?;
            }
            let transactions = match &row {
                Some(row) => store.batch_transactions(&row.key()).await?,
                None => Vec::new(),
            };
            Ok((row, transactions))
        })
        .await?;
    let Some(batch) = row else {
        return Err(missing().into());
    };
    let NextPoll { at, why } = next_poll(http, &batch, Timestamp::now());
    Ok(BatchDetail {
        history: batch.history(),
        transaction_ids,
        polled_next_at: at,
        why_not_now: why,
        batch,
    })
}

fn next_poll(http: &Http, batch: &BatchRow, now: Timestamp) -> NextPoll {
    let settings = http.settings();
    let view = http.view();
    let situation = Situation {
        ledger: &batch.ledger,
        service_id: &batch.service_id,
        status: &batch.status,
        outstanding: batch.is_outstanding(),
        settled_at: batch.settled_at,
        next_poll_at: batch.next_poll_at,
        configured: settings.ledgers.iter().any(|l| l.name == batch.ledger),
        draining: *http.state.draining.borrow(),
        view: view.ledgers.iter().find(|l| l.name == batch.ledger),
    };
    why_not_now(&situation, now)
}

/// Reads query parameters; the error names the parameter.
pub(in crate::http) fn read_query<T: DeserializeOwned>(request: &HttpRequest) -> Answer<T> {
    web::Query::<T>::from_query(request.query_string())
        .map(web::Query::into_inner)
        .map_err(|error| {
            let words = error.to_string();
            let message = words
                .strip_prefix("Query deserialize error: ")
                .unwrap_or(&words);
            let field = message.split('`').nth(1).unwrap_or_default();
            Problem::invalid_query(vec![FieldError::new(field, message)]).into()
        })
}

/// Judges the parameters of a list.
pub(in crate::http) fn parse_filter(query: ListQuery) -> Answer<BatchFilter> {
    let mut errors = Vec::new();
    for (field, text) in [
        ("ledger", &query.ledger),
        ("service_id", &query.service_id),
        ("batch_id", &query.batch_id),
    ] {
        if let Some(Err(message)) = text.as_deref().map(check_text) {
            errors.push(FieldError::new(field, message));
        }
    }
    let status = query.status.as_deref().and_then(|word| {
        word.parse::<Status>()
            .map_err(|error| errors.push(FieldError::new("status", error.to_string())))
            .ok()
    });
    let limit = match query.limit.as_deref().map(str::parse::<i64>) {
        None => DEFAULT_LIMIT,
        Some(Ok(limit)) if (1..=MOST_ROWS).contains(&limit) => limit,
        Some(_) => {
            let message = format!("expected a whole number from 1 to {MOST_ROWS}");
            errors.push(FieldError::new("limit", message));
            DEFAULT_LIMIT
        }
    };
    let before_seq = query.cursor.as_deref().and_then(|cursor| {
        let read = read_cursor(cursor);
        if read.is_none() {
            let message = "not a cursor of this list; take next of the page before";
            errors.push(FieldError::new("cursor", message));
        }
        read
    });
    if errors.is_empty() {
        Ok(BatchFilter {
            ledger: query.ledger,
            service_id: query.service_id,
            status,
            batch_id_prefix: query.batch_id,
            before_seq,
            limit,
        })
    } else {
        Err(Problem::invalid_query(errors).into())
    }
}

/// What can be in a database's text column and in an id.
pub(super) fn check_text(text: &str) -> Result<(), &'static str> {
    if text.len() > LONGEST_FILTER {
        Err("longer than 1024 bytes")
    } else if text.chars().any(char::is_control) {
        Err("holds control characters")
    } else {
        Ok(())
    }
}

/// Writes a cursor: opaque to clients, so that it may change.
pub(in crate::http) fn write_cursor(seq: i64) -> String {
    format!("b{seq:x}")
}

fn read_cursor(cursor: &str) -> Option<i64> {
    let digits = cursor.strip_prefix('b')?;
    let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    plain.then(|| i64::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_others_are_refused() {
        assert_eq!(read_cursor(&write_cursor(1_234_567)), Some(1_234_567));
        for wrong in ["", "b", "12", "b-5", "bz", "b+1", "bffffffffffffffffff"] {
            assert_eq!(read_cursor(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let refusal = parse_filter(ListQuery {
            ledger: Some("a\u{0}".into()),
            status: Some("done".into()),
            limit: Some("0".into()),
            cursor: Some("x".into()),
            ..ListQuery::default()
        })
        .unwrap_err();
        let fields: Vec<_> = refusal.0.errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(fields, ["ledger", "status", "limit", "cursor"]);
        assert_eq!(refusal.0.status, 400);
    }
}
