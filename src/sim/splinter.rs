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
mod tests {
    use super::*;
    use crate::ledgers::LedgerKind;
    use crate::sim::{Fate, LedgerSim, SimHandle, SimOptions};
    use hash::test_id;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Path, headers, status, body.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u16, &'a str);

    const SERVICE: &str = "btXBt-Rb4VS::a000";

    fn start(change: impl FnOnce(&mut SimOptions)) -> SimHandle {
        let mut options = SimOptions::of(LedgerKind::Splinter);
        change(&mut options);
        LedgerSim::start(options).unwrap()
    }

    async fn ask(sim: &SimHandle, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let client = reqwest::Client::new();
        let mut request = client.get(format!("{}{path}", sim.url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    fn path(query: &str) -> String {
        format!("/scabbard/btXBt-Rb4VS/a000/batch_statuses{query}")
    }

    async fn list(sim: &SimHandle, ids: &str) -> Vec<Value> {
        let (status, body) = ask(sim, &path(&format!("?ids={ids}")), &[]).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The value with texts and numbers replaced by their kind, but for the
    /// words of the protocol.
    fn shape(value: &Value) -> Value {
        match value {
            Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| {
                    let keep = key == "statusType";
                    (key.clone(), if keep { value.clone() } else { shape(value) })
                })
                .collect(),
            Value::Array(items) => items.iter().map(shape).collect(),
            Value::String(text) => json!(format!("{} characters", text.len().min(128))),
            Value::Number(_) => json!("number"),
            other => other.clone(),
        }
    }

    #[tokio::test]
    async fn entries_have_the_recorded_shape() {
        let sim = start(|_| {});
        let id = "98b0ab2c19fe9b3f7aada1a724c67b17e69f1d74768d1e7d553b346f65cd1891394c37212eba600a0660dbed2f39d5ed0278b9d19fe8aa3fce1a302debead130";
        let transaction = "4ccb3b96f5d973942e40827fb997273e85dae59b02d74e8fa85d3c90f64513733293ac1d8c1d7fe603d9a7ea73e6dd13abd9647d4a6518467bf1eef45bb5af8a";
        let recorded = |word: &str, message: Value| {
            json!({"id": id, "status": {"statusType": word, "message": message},
                "timestamp": {"secs_since_epoch": 1_795_245_931, "nanos_since_epoch": 458_415_925}})
        };
        let none = json!([]);
        let one = json!([{ "transaction_id": transaction }]);
        let at_fault = json!({"transaction_id": transaction,
            "error_message": "Contract Registry does not exist: no-such-registry", "error_data": []});
        let good = json!({"transaction_id": transaction,
            "error_message": format!("containing batch ({id}) is invalid"), "error_data": []});
        for (fate, word, message) in [
            (Fate::Commit, "Committed", one.clone()),
            (Fate::StayValid, "Valid", one),
            (Fate::StayPending, "Pending", none.clone()),
            (Fate::NeverKnown, "Unknown", none),
            (Fate::Invalid, "Invalid", json!([at_fault])),
        ] {
            let id = test_id(hash::draw(hash::key(word), 0));
            sim.submit_as(SERVICE, &id, fate);
            let answered = list(&sim, &id).await;
            assert_eq!(answered[0]["id"], id);
            let expected = shape(&recorded(word, message));
            let with_good = shape(&recorded(word, json!([good, at_fault])));
            let found = shape(&answered[0]);
            assert!(
                found == expected || (word == "Invalid" && found == with_good),
                "{found}"
            );
        }
    }

    #[tokio::test]
    async fn duplicates_are_merged_and_the_order_is_any() {
        let sim = start(|_| {});
        let ids: Vec<String> = (0..20).map(test_id).collect();
        sim.submit_many(SERVICE, ids.iter().map(String::as_str));
        let asked = format!("{0},{0},{1}", ids[0], ids.join(","));
        let mut orders = std::collections::HashSet::new();
        for _ in 0..3 {
            let entries = list(&sim, &asked).await;
            assert_eq!(entries.len(), 20);
            let order: Vec<String> = entries.iter().map(|e| e["id"].to_string()).collect();
            orders.insert(order);
        }
        assert!(orders.len() > 1);
        // Odd ids are their own Unknown entries; of two lists the last counts.
        let entries = list(&sim, &format!("{0}&ids=,%20{0}%2C%22", ids[0])).await;
        let mut odd: Vec<_> = entries.iter().map(|e| e["id"].as_str().unwrap()).collect();
        odd.sort_unstable();
        assert_eq!(odd, ["", &format!(" {}", ids[0]), "\""]);
        assert!(
            entries
                .iter()
                .all(|e| e["status"]["statusType"] == "Unknown")
        );
    }

    #[tokio::test]
    async fn the_newest_100_are_remembered() {
        let sim = start(|_| {});
        let ids: Vec<String> = (0..105).map(test_id).collect();
        sim.submit_many(SERVICE, ids.iter().map(String::as_str));
        let entries = list(&sim, &ids.join(",")).await;
        let unknown = |e: &&Value| e["status"]["statusType"] == "Unknown";
        assert_eq!(entries.iter().filter(unknown).count(), 5);
    }

    #[tokio::test]
    async fn refusals_are_the_recorded_ones() {
        let sim = start(|o| {
            o.token = Some("a.good.token".to_owned());
            o.services = vec![SERVICE.to_owned()];
        });
        let token = ("Authorization", "Bearer Cylinder:a.good.token");
        let version = |v| [token, ("SplinterProtocolVersion", v)];
        let one = path("?ids=a");
        let cases: [Case<'_>; 12] = [
            (&one, &[], 401, UNAUTHORIZED),
            (
                &one,
                &[("Authorization", "Bearer a.good.token")],
                401,
                UNAUTHORIZED,
            ),
            ("/scabbard/x/y/batch_statuses?ids=a", &[], 401, UNAUTHORIZED),
            (&path(""), &[token], 400, NO_IDS),
            (&path("?wait=5"), &[token], 400, NO_IDS),
            (&path("/?ids=a"), &[token], 404, NO_ENDPOINT),
            (
                "/scabbard/x/y/batch_statuses?ids=a",
                &[token],
                404,
                r#"{"message":"scabbard service y on circuit x not found"}"#,
            ),
            (
                &one,
                &version("0"),
                400,
                r#"{"libsplinter_version":"0.6.14","message":"Client must support protocol version 1 or greater.","requested_protocol":0,"splinter_protocol":1}"#,
            ),
            (
                &one,
                &version("2"),
                400,
                r#"{"libsplinter_version":"0.6.14","message":"Client requires a newer protocol than can be provided: 2 > 1","requested_protocol":2,"splinter_protocol":1}"#,
            ),
            (
                &one,
                &version("abc"),
                400,
                r#"{"message":"SplinterProtocolVersion must be a valid positive integer"}"#,
            ),
            (
                &path("?ids=a&wait=18446744073709551615"),
                &[token],
                500,
                SERVER_ERROR,
            ),
            ("/status", &version("1"), 200, STATUS),
        ];
        for (path, headers, status, body) in cases {
            let answer = ask(&sim, path, headers).await;
            assert_eq!(answer, (status, body.to_owned()), "{path}");
        }
    }

    #[tokio::test]
    async fn targets_end_at_65534_bytes() {
        let sim = start(|_| {});
        let ids: Vec<String> = (0..508).map(test_id).collect();
        assert_eq!(list(&sim, &ids[..507].join(",")).await.len(), 507);
        // reqwest does not send a target of this length: by hand, then.
        let mut stream = tokio::net::TcpStream::connect(sim.addr()).await.unwrap();
        let target = path(&format!("?ids={}", ids.join(",")));
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("content-length: 0\r\n") && answer.ends_with("\r\n\r\n"));
    }

    #[tokio::test]
    async fn waits_hold_the_few_workers() {
        let sim = start(|_| {});
        let held = path(&format!("?ids={}&wait=1", test_id(1)));
        let quick = path(&format!("?ids={}", test_id(2)));
        let start = Instant::now();
        let quick_after_two = async {
            while sim.stats().requests < 2 {
                tokio::task::yield_now().await;
            }
            ask(&sim, &quick, &[]).await;
            start.elapsed()
        };
        let (first, second, waited) = tokio::join!(
            ask(&sim, &held, &[]),
            ask(&sim, &held, &[]),
            quick_after_two
        );
        assert!(first.1.contains("Unknown") && second.1.contains("Unknown"));
        assert!(waited >= Duration::from_millis(900), "{waited:?}");
    }
}
