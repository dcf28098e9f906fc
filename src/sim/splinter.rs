//! The wire format of a Splinter node (splinterd 0.6.14), as recorded:
//! `GET /scabbard/{circuit}/{service}/batch_statuses` and `GET /status`.
//!
//! The limit of 65,534 bytes for a request target (400, empty body above) is
//! actix-web's own, in the real node as here.

use super::hash::{self, Key};
use super::model::Answer;
use super::shared::{self, Shared};
use super::streams;
use super::{Fault, SimStatus};
use crate::time::Timestamp;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use percent_encoding::percent_decode_str;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a `wait` that is no number waits.
const DEFAULT_WAIT: Duration = Duration::from_secs(300);
/// How often a held request looks whether its batches are final.
const WAIT_STEP: Duration = Duration::from_millis(25);

const JSON: &str = "application/json";
const UNAUTHORIZED: &str = r#"{"code":"401","message":"Client is not authorized"}"#;
const NO_ENDPOINT: &str = r#"{"code":"404","message":"endpoint not found"}"#;
const SERVER_ERROR: &str = r#"{"code":"500","message":"The server encountered an error"}"#;
const NO_IDS: &str = r#"{"code":"400","message":"No batch IDs specified"}"#;
const NO_LAST_SEEN: &str = r#"{"code":"400","message":"last_seen_event must not be empty"}"#;
const STATUS: &str = r#"{"node_id":"simulated","display_name":"simulated","network_endpoints":[],"advertised_endpoints":[],"version":"0.6.14"}"#;

/// An answer made before an endpoint is found: without the CORS header.
fn early(status: StatusCode, body: &'static str) -> HttpResponse {
    shared::json(status, JSON).body(body)
}

/// Starts an answer of an endpoint.
fn build(status: StatusCode) -> HttpResponseBuilder {
    let mut response = shared::json(status, JSON);
    response.insert_header((
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        header::HeaderValue::from_static("true"),
    ));
    response
}

/// Answers any request.
pub(super) async fn handle(
    req: &HttpRequest,
    payload: web::Payload,
    shared: &web::Data<Shared>,
) -> HttpResponse {
    let token = shared.options.token.as_deref();
    if !shared::authorized(req, token, "Bearer Cylinder:") {
        return early(StatusCode::UNAUTHORIZED, UNAUTHORIZED);
    }
    if req.method() != Method::GET {
        return early(StatusCode::NOT_FOUND, NO_ENDPOINT);
    }
    let path: Vec<&str> = req.path().split('/').collect();
    match path[..] {
        ["", "status"] => build(StatusCode::OK).body(STATUS),
        ["", "scabbard", circuit, service, "batch_statuses"]
            if !circuit.is_empty() && !service.is_empty() =>
        {
            batch_statuses(req, shared, circuit, service).await
        }
        ["", "scabbard", circuit, service, "ws", "subscribe"]
            if !circuit.is_empty() && !service.is_empty() =>
        {
            subscribe(req, payload, shared, circuit, service)
        }
        _ => early(StatusCode::NOT_FOUND, NO_ENDPOINT),
    }
}

/// Checks `SplinterProtocolVersion`; absent is well.
fn check_protocol(req: &HttpRequest) -> Option<HttpResponse> {
    let given = req.headers().get("SplinterProtocolVersion")?;
    let requested = given.to_str().ok().and_then(|v| v.parse::<u32>().ok());
    let message = match requested {
        Some(1) => return None,
        Some(0) => "Client must support protocol version 1 or greater.".to_owned(),
        Some(newer) => {
            format!("Client requires a newer protocol than can be provided: {newer} > 1")
        }
        None => {
            return Some(build(StatusCode::BAD_REQUEST).body(
                r#"{"message":"SplinterProtocolVersion must be a valid positive integer"}"#,
            ));
        }
    };
    let requested = requested.unwrap_or_default();
    Some(build(StatusCode::BAD_REQUEST).body(format!(
        r#"{{"libsplinter_version":"0.6.14","message":"{message}","requested_protocol":{requested},"splinter_protocol":1}}"#
    )))
}

fn no_service(circuit: &str, service: &str) -> HttpResponse {
    let message = format!("scabbard service {service} on circuit {circuit} not found");
    build(StatusCode::NOT_FOUND).body(serde_json::json!({ "message": message }).to_string())
}

fn subscribe(
    req: &HttpRequest,
    payload: web::Payload,
    shared: &web::Data<Shared>,
    circuit: &str,
    service: &str,
) -> HttpResponse {
    if let Some(refusal) = check_protocol(req) {
        return refusal;
    }
    let service_id = format!("{circuit}::{service}");
    let services = &shared.options.services;
    if !services.is_empty() && !services.contains(&service_id) {
        return no_service(circuit, service);
    }
    let last_seen = shared::query(req).find(|(key, _)| key == "last_seen_event");
    let last_seen = last_seen.map(|(_, id)| id.into_owned());
    if last_seen.as_deref() == Some("") {
        return build(StatusCode::BAD_REQUEST).body(NO_LAST_SEEN);
    }
    if !req.headers().contains_key(header::UPGRADE) {
        return build(StatusCode::INTERNAL_SERVER_ERROR).body(SERVER_ERROR);
    }
    streams::splinter(req, payload, shared, service_id, last_seen)
}

async fn batch_statuses(
    req: &HttpRequest,
    shared: &web::Data<Shared>,
    circuit: &str,
    service: &str,
) -> HttpResponse {
    if let Some(refusal) = check_protocol(req) {
        return refusal;
    }
    let circuit = percent_decode_str(circuit).decode_utf8_lossy();
    let service = percent_decode_str(service).decode_utf8_lossy();
    let service_id = format!("{circuit}::{service}");
    let services = &shared.options.services;
    if !services.is_empty() && !services.contains(&service_id) {
        return no_service(&circuit, &service);
    }
    // Of two parameters the last one counts.
    let (mut ids, mut wait) = (None, None);
    for (key, value) in shared::query(req) {
        match &*key {
            "ids" => ids = Some(value),
            "wait" => wait = Some(value),
            _ => {}
        }
    }
    let Some(ids) = ids else {
        return build(StatusCode::BAD_REQUEST).body(NO_IDS);
    };
    let wait = match wait.as_deref() {
        None | Some("false") => None,
        Some(word) => Some(word.parse().map_or(DEFAULT_WAIT, Duration::from_secs)),
    };
    if wait.is_some_and(|wait| Instant::now().checked_add(wait).is_none()) {
        return build(StatusCode::INTERNAL_SERVER_ERROR).body(SERVER_ERROR);
    }
    let mut asked: Vec<(Key, &str)> = ids.split(',').map(|id| (hash::key(id), id)).collect();
    arrange(&mut asked, shared);
    let fault = shared.meet(shared.draw(&service_id, &asked)).await;
    match fault {
        Some(Fault::Fail) => {
            return build(StatusCode::INTERNAL_SERVER_ERROR).body(SERVER_ERROR);
        }
        Some(Fault::Garbage) => return shared.garbage(),
        Some(Fault::Unauthorized) => return early(StatusCode::UNAUTHORIZED, UNAUTHORIZED),
        Some(Fault::NotFound) => return no_service(&circuit, &service),
        Some(Fault::TooMany) => return shared.too_many(&service_id).finish(),
        Some(Fault::Close) => return shared::close(),
        Some(Fault::Redirect) => return shared::redirect(),
        _ => {}
    }
    let now = match wait {
        None => {
            let permit = shared.rest_workers.acquire().await;
            drop(permit);
            Timestamp::now()
        }
        Some(wait) => hold(shared, &service_id, &asked, wait).await,
    };
    let skipped = usize::from(fault == Some(Fault::MissingId));
    let asked = &asked[skipped..];
    let answers = match fault {
        // Nobody has read these answers in full.
        Some(Fault::HalfBody | Fault::Oversize) => shared.ledger().peek(&service_id, asked, now),
        _ => shared.ledger().ask(&service_id, asked, now),
    };
    let body = write_answer(shared, asked, &answers, fault);
    shared.finish(&service_id, build(StatusCode::OK), body, fault)
}

/// Merges duplicates and puts the ids in no order at all, as the map in a real
/// node does; or keeps the order, where that is wished.
fn arrange(asked: &mut Vec<(Key, &str)>, shared: &Shared) {
    if shared.options.in_order {
        let mut seen = std::collections::HashSet::with_capacity(asked.len());
        asked.retain(|(key, _)| seen.insert(*key));
    } else {
        let salt = u128::from(shared.roll_number()) << 64;
        asked.sort_unstable_by_key(|(key, _)| key ^ salt);
        asked.dedup_by_key(|(key, _)| *key);
    }
}

/// Holds a request, and with it one of the node's few workers, also when the
/// client is gone meanwhile. Returns the time whose statuses are answered: now
/// when all are final, else that of the request's arrival.
async fn hold(
    shared: &web::Data<Shared>,
    service_id: &str,
    asked: &[(Key, &str)],
    wait: Duration,
) -> Timestamp {
    let permit = Arc::clone(&shared.rest_workers).acquire_owned().await;
    let arrived = Timestamp::now();
    let start = Instant::now();
    let (shared, service_id) = (shared.clone(), service_id.to_owned());
    let keys: Vec<Key> = asked.iter().map(|(key, _)| *key).collect();
    let held = actix_web::rt::spawn(async move {
        let asked: Vec<(Key, &str)> = keys.into_iter().map(|key| (key, "")).collect();
        let decided = loop {
            let answers = shared.ledger().peek(&service_id, &asked, Timestamp::now());
            if answers.iter().all(|answer| answer.status.is_final()) {
                break Timestamp::now();
            }
            let Some(left) = wait.checked_sub(start.elapsed()).filter(|l| !l.is_zero()) else {
                break arrived;
            };
            tokio::time::sleep(WAIT_STEP.min(left)).await;
        };
        drop(permit);
        decided
    });
    held.await.unwrap_or(arrived)
}

fn write_answer(
    shared: &Shared,
    asked: &[(Key, &str)],
    answers: &[Answer],
    fault: Option<Fault>,
) -> String {
    let seed = shared.options.seed;
    let mut body = String::with_capacity(16 + answers.len() * 460);
    body.push('[');
    for ((_, id), answer) in asked.iter().zip(answers) {
        write_entry(&mut body, id, answer, seed);
    }
    if fault == Some(Fault::ForeignId) {
        let mut id = String::with_capacity(128);
        hash::write_id(&mut id, shared.roll_number());
        let answer = Answer {
            key: hash::key(&id),
            status: SimStatus::Committed,
            submitted: Timestamp::now(),
            decided_for: Duration::ZERO,
        };
        write_entry(&mut body, &id, &answer, seed);
    }
    if body.ends_with(',') {
        body.pop();
    }
    body.push(']');
    body
}

/// Writes one entry and a comma.
fn write_entry(body: &mut String, id: &str, answer: &Answer, seed: u64) {
    let lot = hash::draw(answer.key, seed ^ 1);
    body.push_str("{\"id\":");
    write_text(body, id);
    body.push_str(",\"status\":{\"statusType\":\"");
    body.push_str(match answer.status {
        SimStatus::Pending => "Pending",
        SimStatus::Valid => "Valid",
        SimStatus::Committed => "Committed",
        SimStatus::Invalid => "Invalid",
        SimStatus::Unknown => "Unknown",
    });
    body.push_str("\",\"message\":[");
    match answer.status {
        SimStatus::Pending | SimStatus::Unknown => {}
        SimStatus::Valid | SimStatus::Committed => {
            body.push_str("{\"transaction_id\":\"");
            hash::write_id(body, lot);
            body.push_str("\"}");
        }
        SimStatus::Invalid => {
            // Of a batch with two transactions the good one is listed too.
            if lot.is_multiple_of(4) {
                body.push_str("{\"transaction_id\":\"");
                hash::write_id(body, lot ^ 1);
                body.push_str("\",\"error_message\":\"containing batch (");
                body.push_str(id);
                body.push_str(") is invalid\",\"error_data\":[]},");
            }
            body.push_str("{\"transaction_id\":\"");
            hash::write_id(body, lot);
            body.push_str(
                "\",\"error_message\":\"Contract Registry does not exist: no-such-registry\",\"error_data\":[]}",
            );
        }
    }
    let millis = u64::try_from(answer.submitted.millis()).unwrap_or(0);
    let nanos = (millis % 1000) * 1_000_000 + lot % 1_000_000;
    body.push_str("]},\"timestamp\":{\"secs_since_epoch\":");
    // Writing to a string cannot fail.
    write!(body, "{},\"nanos_since_epoch\":{nanos}}}}},", millis / 1000).unwrap_or_default();
}

fn write_text(body: &mut String, text: &str) {
    if text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        body.push('"');
        body.push_str(text);
        body.push('"');
    } else {
        body.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
#[path = "splinter_tests.rs"]
mod tests;
