//! What applications and operators send in about batches: track, poll now, revive.

use super::check::Check;
use crate::config::Settings;
use crate::flows::batches::BatchKey;
use crate::http::audit::{Act, Done};
use crate::http::body::read_json;
use crate::http::problem::{Answer, FieldError, Problem};
use crate::http::state::Http;
use crate::store::NewBatch;
use crate::time::Timestamp;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Batches of a call that are named in the audit.
const RECORDED: usize = 20;

/// Body of `POST /v1/batches`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrackBody {
    /// The batches, 1 to 10,000.
    #[schema(min_items = 1, max_items = 10_000)]
    pub batches: Vec<NewBatchBody>,
}

/// A batch to track.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBatchBody {
    /// Name of a configured ledger.
    pub ledger: String,
    /// `circuit::service` on Splinter; empty on Sawtooth.
    #[serde(default)]
    pub service_id: String,
    /// The id that the ledger knows the batch by: 128 lower case hex digits.
    pub batch_id: String,
    /// Its transactions, where known; at most 1,000.
    #[serde(default)]
    #[schema(max_items = 1000)]
    pub transaction_ids: Vec<String>,
}

/// Answer of `POST /v1/batches`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct TrackedBody {
    /// Batches that are new.
    pub accepted: usize,
    /// Batches that were known already, and stay as they are.
    pub known: usize,
}

/// Which batch.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    /// Name of a configured ledger.
    pub ledger: String,
    /// Service id; empty where the ledger has none.
    #[serde(default)]
    pub service_id: String,
    /// Batch id.
    pub batch_id: String,
}

/// Body of `POST /v1/batches/poll-now`: either `batches`, or `ledger` with or
/// without `service_id`.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PollNowBody {
    /// These batches, 1 to 10,000.
    #[schema(min_items = 1, max_items = 10_000)]
    pub batches: Option<Vec<Keys>>,
    /// Every outstanding batch of this ledger.
    pub ledger: Option<String>,
    /// Of these, only the service's.
    pub service_id: Option<String>,
}

/// Answer of `POST /v1/batches/poll-now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct DueBody {
    /// Outstanding batches that are due at once now.
    pub due: usize,
}

/// Body of `POST /v1/batches/revive`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReviveBody {
    /// The batches, 1 to 10,000.
    #[schema(min_items = 1, max_items = 10_000)]
    pub batches: Vec<Keys>,
}

/// Answer of `POST /v1/batches/revive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct RevivedBody {
    /// Batches that were lost or refused, and are pending again.
    pub revived: usize,
}

/// Tracks batches. Idempotent: those already known stay as they are, and gain
/// the transactions that are new.
#[utoipa::path(post, path = "/v1/batches", tag = "batches", request_body = TrackBody, responses(
    (status = 200, description = "All were known already", body = TrackedBody),
    (status = 202, description = "Accepted; they are polled from now on", body = TrackedBody),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The intake token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not application/json", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "A ledger is unknown or an id has the wrong shape; nothing was stored", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or the server is stopping", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn track(
    http: web::Data<Http>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    let settings = http.settings();
    let body: TrackBody = read_intake(&http, &settings, &request, payload).await?;
    let mut check = Check::new(&settings);
    let batches: Vec<NewBatch> = body.batches.into_iter().map(NewBatch::from).collect();
    check.count("batches", batches.len());
    for (index, batch) in batches.iter().enumerate() {
        check.new_batch(index, batch);
    }
    let ledgers = check.finish()?;
    let tracked = http
        .database(|store| async move { store.track_batches(batches).await })
        .await?;
    wake(&http, &ledgers);
    let mut response = if tracked.accepted > 0 {
        HttpResponse::Accepted()
    } else {
        HttpResponse::Ok()
    };
    Ok(response.json(TrackedBody {
        accepted: tracked.accepted,
        known: tracked.known,
    }))
}

/// Makes outstanding batches due at once.
#[utoipa::path(post, path = "/v1/batches/poll-now", tag = "batches", request_body = PollNowBody, responses(
    (status = 200, description = "How many are due now", body = DueBody),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The intake token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "A ledger is unknown", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or the server is stopping", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn poll_now(
    http: web::Data<Http>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer<web::Json<DueBody>> {
    let settings = http.settings();
    let body: PollNowBody = read_intake(&http, &settings, &request, payload).await?;
    let mut check = Check::new(&settings);
    let due = match body {
        PollNowBody {
            batches: Some(keys),
            ledger: None,
            service_id: None,
        } => {
            check.keys(&keys);
            let ledgers = check.finish()?;
            let keys: Vec<BatchKey> = keys.into_iter().map(BatchKey::from).collect();
            let due = http
                .database(|store| async move { store.poll_batches_now(&keys).await })
                .await?;
            wake(&http, &ledgers);
            due
        }
        PollNowBody {
            batches: None,
            ledger: Some(ledger),
            service_id,
        } => {
            check.ledger("ledger".to_owned(), &ledger);
            if let Some(service_id) = &service_id {
                check.text("service_id".to_owned(), service_id);
            }
            let ledgers = check.finish()?;
            let due = http
                .database(|store| async move {
                    store.poll_service_now(&ledger, service_id.as_deref()).await
                })
                .await?;
            wake(&http, &ledgers);
            due
        }
        _ => {
            let message = "give either batches, or ledger with or without service_id";
            return Err(
                Problem::invalid_fields(vec![FieldError::new("batches", message)], 1).into(),
            );
        }
    };
    Ok(web::Json(DueBody { due }))
}

/// Makes lost and refused batches pending again, as if submitted now.
#[utoipa::path(post, path = "/v1/batches/revive", tag = "batches", request_body = ReviveBody, responses(
    (status = 200, description = "How many were revived", body = RevivedBody),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The control token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "No control token is configured", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "A ledger is unknown", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "Too many wrong tokens", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or the server is stopping", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn revive(
    http: web::Data<Http>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    let settings = http.settings();
    let act = Act::of(&request, "batches.revive");
    let body: ReviveBody = match read_intake(&http, &settings, &request, payload).await {
        Ok(body) => body,
        Err(refusal) => return Err(http.refuse(act, refusal).await),
    };
    let mut check = Check::new(&settings);
    check.keys(&body.batches);
    let act = recorded(act, &body.batches);
    let ledgers = match check.finish() {
        Ok(ledgers) => ledgers,
        Err(refusal) => return Err(http.refuse(act, refusal).await),
    };
    let keys: Vec<BatchKey> = body.batches.into_iter().map(BatchKey::from).collect();
    let details = act.details();
    let state = http.state.clone();
    let acted = http
        .act(act, async move {
            let revived = state.store.revive_batches(&keys, Timestamp::now()).await?;
            for ledger in &ledgers {
                (state.wake)(ledger);
            }
            let mut details = details;
            if let Some(Value::Object(details)) = &mut details {
                details.insert("revived".to_owned(), revived.into());
            }
            Ok(Done {
                value: RevivedBody { revived },
                details,
            })
        })
        .await?;
    Ok(acted.respond(StatusCode::OK))
}

/// What is recorded of a call: its ledger, and the first of its batches.
fn recorded(act: Act, batches: &[Keys]) -> Act {
    let ledgers: BTreeSet<&str> = batches
        .iter()
        .map(|keys| keys.ledger.as_str())
        .take(RECORDED)
        .collect();
    let ids: Vec<&str> = batches
        .iter()
        .map(|keys| keys.batch_id.as_str())
        .take(RECORDED)
        .collect();
    act.on(ledgers.into_iter().collect::<Vec<_>>().join(", "))
        .with(json!({ "batches": batches.len(), "batch_ids": ids }))
}

async fn read_intake<T: serde::de::DeserializeOwned>(
    http: &Http,
    settings: &Settings,
    request: &HttpRequest,
    payload: web::Payload,
) -> Answer<T> {
    if *http.state.draining.borrow() {
        return Err(Problem::draining().into());
    }
    read_json(request, payload, settings.http.max_body_bytes).await
}

fn wake(http: &Http, ledgers: &BTreeSet<String>) {
    for ledger in ledgers {
        (http.state.wake)(ledger);
    }
}

impl From<NewBatchBody> for NewBatch {
    fn from(body: NewBatchBody) -> Self {
        Self {
            key: BatchKey {
                ledger: body.ledger,
                service_id: body.service_id,
                batch_id: body.batch_id,
            },
            transaction_ids: body.transaction_ids,
        }
    }
}

impl From<Keys> for BatchKey {
    fn from(keys: Keys) -> Self {
        Self {
            ledger: keys.ledger,
            service_id: keys.service_id,
            batch_id: keys.batch_id,
        }
    }
}
