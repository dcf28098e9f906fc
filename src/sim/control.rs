//! The simulator's own endpoints under `/sim`: no ledger has them. With them
//! a test or a script drives a simulator that runs in another process.
//!
//! | request | does |
//! |---|---|
//! | `GET /sim/stats` | what was counted ([`SimStats`](super::SimStats)) |
//! | `POST /sim/submit` | takes batches in: a JSON list of [`SimBatch`] |
//! | `POST /sim/truth` | what the ledger says of them in the end: the same list in, a list of [`SimTruth`] out |
//! | `POST /sim/behaviour` | changes the fields given of the [`Behaviour`], with `"service_id"` for one service |
//! | `POST /sim/restart` | restarts the ledger |
//! | `POST /sim/commit` | commits `{"service_id", "tx_ids"}`: events on Splinter's streams, a block on Sawtooth's |
//! | `POST /sim/drop_streams` | ends all streams without a close frame |

use super::shared::{self, Shared};
use super::{Behaviour, Fate, SimStatus};
use crate::ledgers::LedgerKind;
use crate::time::Timestamp;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Largest body of these endpoints, in bytes.
const MAX_BODY: usize = 64 << 20;

/// A batch to take in, or to ask about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimBatch {
    /// `circuit::service` on Splinter, `""` on Sawtooth.
    #[serde(default)]
    pub service_id: String,
    /// 128 lower case hex digits.
    pub batch_id: String,
    /// What becomes of it; drawn from the id when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fate: Option<Fate>,
}

/// Transactions that are committed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct SimCommit {
    #[serde(default)]
    service_id: String,
    tx_ids: Vec<String>,
}

/// What the ledger says of a batch in the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimTruth {
    /// As asked.
    pub service_id: String,
    /// As asked.
    pub batch_id: String,
    /// See [`SimLedger::status_of`](super::SimLedger::status_of).
    pub status: SimStatus,
}

/// Answers a request under `/sim`.
pub(super) async fn handle(
    req: &HttpRequest,
    payload: web::Payload,
    shared: &Shared,
) -> HttpResponse {
    let result = match (req.method(), req.path()) {
        (&Method::GET, "/sim/stats") => Ok(HttpResponse::Ok().json(shared.stats())),
        (&Method::POST, "/sim/submit") => read(payload)
            .await
            .map(|list: Vec<_>| submit(shared, &list)),
        (&Method::POST, "/sim/truth") => {
            read(payload).await.map(|list: Vec<_>| truth(shared, &list))
        }
        (&Method::POST, "/sim/behaviour") => match read(payload).await {
            Ok(change) => change_behaviour(shared, change),
            Err(error) => Err(error),
        },
        (&Method::POST, "/sim/restart") => {
            shared.ledger().restart(Timestamp::now());
            Ok(HttpResponse::Ok().json(json!({})))
        }
        (&Method::POST, "/sim/commit") => read(payload)
            .await
            .map(|commit: SimCommit| self::commit(shared, &commit)),
        (&Method::POST, "/sim/drop_streams") => {
            shared.streams.drop_all();
            Ok(HttpResponse::Ok().json(json!({})))
        }
        _ => {
            let error = "no such endpoint; there are GET /sim/stats and POST /sim/submit, \
                         /sim/truth, /sim/behaviour, /sim/restart, /sim/commit, /sim/drop_streams";
            return HttpResponse::NotFound().json(json!({ "error": error }));
        }
    };
    result.unwrap_or_else(|error| HttpResponse::BadRequest().json(json!({ "error": error })))
}

async fn read<T: DeserializeOwned>(payload: web::Payload) -> Result<T, String> {
    let body = shared::read_body(payload, MAX_BODY)
        .await
        .map_err(|large| format!("{} bytes are too many; send less at once", large.actual))?;
    serde_json::from_slice(&body).map_err(|error| format!("the body makes no sense: {error}"))
}

fn submit(shared: &Shared, list: &[SimBatch]) -> HttpResponse {
    let now = Timestamp::now();
    let mut ledger = shared.ledger();
    for batch in list {
        ledger.submit(&batch.service_id, &batch.batch_id, batch.fate, now);
    }
    HttpResponse::Ok().json(json!({ "submitted": list.len() }))
}

fn truth(shared: &Shared, list: &[SimBatch]) -> HttpResponse {
    let now = Timestamp::now();
    let ledger = shared.ledger();
    let truths: Vec<SimTruth> = list
        .iter()
        .map(|batch| SimTruth {
            service_id: batch.service_id.clone(),
            batch_id: batch.batch_id.clone(),
            status: ledger.status_of(&batch.service_id, &batch.batch_id, now),
        })
        .collect();
    HttpResponse::Ok().json(truths)
}

fn commit(shared: &Shared, commit: &SimCommit) -> HttpResponse {
    match shared.options.kind {
        LedgerKind::Splinter => {
            let tx_ids: Vec<&str> = commit.tx_ids.iter().map(String::as_str).collect();
            shared.commit_transactions(&commit.service_id, &tx_ids);
        }
        LedgerKind::Sawtooth => drop(shared.commit_block(commit.tx_ids.clone())),
    }
    HttpResponse::Ok().json(json!({ "committed": commit.tx_ids.len() }))
}

/// Lays the given fields over the behaviour there is.
fn change_behaviour(
    shared: &Shared,
    mut change: Map<String, Value>,
) -> Result<HttpResponse, String> {
    let service_id = match change.remove("service_id") {
        None | Some(Value::Null) => None,
        Some(Value::String(service_id)) => Some(service_id),
        Some(other) => return Err(format!("service_id {other} is no text")),
    };
    let old = shared.behaviour(service_id.as_deref());
    let mut merged = serde_json::to_value(old).map_err(|error| error.to_string())?;
    if let Value::Object(fields) = &mut merged {
        fields.append(&mut change);
    }
    let new: Behaviour = serde_json::from_value(merged).map_err(|error| error.to_string())?;
    shared.set_behaviour(service_id.as_deref(), &new);
    Ok(HttpResponse::Ok().json(new))
}
