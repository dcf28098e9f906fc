//! The wire format of Sawtooth's REST API (1.2.6, Python), as recorded:
//! `GET` and `POST /batch_statuses`.

use super::hash::{self, Key};
use super::model::Answer;
use super::shared::{self, Shared};
use super::streams;
use super::{Fault, SimStatus};
use crate::ledgers::LedgerKind;
use crate::time::Timestamp;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use std::borrow::Cow;
use std::time::Duration;
use tokio::time::Instant;

/// Longest request target; 63 ids fit.
const MAX_TARGET: usize = 8190;
/// A body of this size or more is refused; 80,043 ids fit.
const MAX_BODY: usize = 10_485_760;
/// What `wait=0` waits: the validator's own default.
const VALIDATOR_DEFAULT_WAIT: Duration = Duration::from_secs(300);
/// How often a held request looks whether its batches are decided.
const WAIT_STEP: Duration = Duration::from_millis(25);

const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// An error body of the REST API: status, code, title, message.
struct ApiError(StatusCode, u16, &'static str, &'static str);

const BAD_ID: ApiError = ApiError(
    StatusCode::BAD_REQUEST,
    60,
    "Invalid Resource Id",
    "Blockchain items are identified by 128 character hex-strings. A submitted block, batch, or transaction id was invalid: ",
);
const MISSING_ID: ApiError = ApiError(
    StatusCode::BAD_REQUEST,
    66,
    "Id Query Invalid or Missing",
    "Requests for batch statuses sent as a GET request must have an 'id' query parameter with a comma-separated list of at least one batch id.",
);
const WRONG_CONTENT_TYPE: ApiError = ApiError(
    StatusCode::BAD_REQUEST,
    43,
    "Wrong Content Type",
    "Requests for batch statuses sent as a POST must have a 'Content-Type' header of 'application/json'.",
);
const BAD_BODY: ApiError = ApiError(
    StatusCode::BAD_REQUEST,
    46,
    "Bad Status Request",
    "Requests for batch statuses sent as a POST must have a JSON formatted body with an array of at least one id string.",
);
const VALIDATOR_ERROR: ApiError = ApiError(
    StatusCode::INTERNAL_SERVER_ERROR,
    10,
    "Unknown Validator Error",
    "An unknown error occurred with the validator while processing your request.",
);
const TIMED_OUT: ApiError = ApiError(
    StatusCode::SERVICE_UNAVAILABLE,
    17,
    "Validator Timed Out",
    "The request timed out while waiting for a response from the validator. Your request may or may not have been processed.",
);
const DISCONNECTED: ApiError = ApiError(
    StatusCode::SERVICE_UNAVAILABLE,
    18,
    "Validator Disconnected",
    "The validator disconnected before sending a response. Try your request again later.",
);
const QUEUE_FULL: ApiError = ApiError(
    StatusCode::TOO_MANY_REQUESTS,
    31,
    "Unable to Accept Batches",
    "The validator cannot currently accept more batches, due to a full queue.  Please submit your request again.",
);

const NO_BLOCK: ApiError = ApiError(
    StatusCode::NOT_FOUND,
    70,
    "Block Not Found",
    "There is no block with the id specified in the blockchain.",
);
const BAD_PAGING: ApiError = ApiError(
    StatusCode::BAD_REQUEST,
    54,
    "Invalid Paging Query",
    "Paging request failed as written. One or more of the 'min', 'max', or 'count' query parameters were invalid or out of range.",
);

impl ApiError {
    fn answer(&self) -> HttpResponse {
        self.answer_with("", build(self.0, JSON))
    }

    /// With words added to the message.
    fn answer_with(&self, added: &str, mut response: HttpResponseBuilder) -> HttpResponse {
        let Self(_, code, title, message) = self;
        let message = serde_json::Value::from(format!("{message}{added}"));
        response.body(format!(
            "{{\n  \"error\": {{\n    \"code\": {code},\n    \"message\": {message},\n    \"title\": \"{title}\"\n  }}\n}}"
        ))
    }
}

/// Starts an answer with the headers that all of them have.
fn build(status: StatusCode, content_type: &'static str) -> HttpResponseBuilder {
    let mut response = shared::json(status, content_type);
    response.insert_header((
        header::SERVER,
        header::HeaderValue::from_static("Python/3.7 aiohttp/3.7.4"),
    ));
    response
}

/// An error made by aiohttp.
fn text(status: StatusCode, body: impl Into<String>) -> HttpResponse {
    build(status, TEXT).body(body.into())
}

/// A failure inside the REST API.
fn trouble() -> HttpResponse {
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "500 Internal Server Error\n\nServer got itself in trouble",
    )
}

/// Answers any request.
pub(super) async fn handle(
    req: &HttpRequest,
    payload: web::Payload,
    shared: &web::Data<Shared>,
) -> HttpResponse {
    let target = req.uri().path_and_query().map_or(0, |t| t.as_str().len());
    if target > MAX_TARGET {
        let mut response = build(StatusCode::BAD_REQUEST, TEXT);
        return response.force_close().body(format!(
            "Got more than {MAX_TARGET} bytes ({target}) when reading Status line is too long."
        ));
    }
    if !shared::authorized(req, shared.options.token.as_deref(), "Bearer ") {
        return text(StatusCode::UNAUTHORIZED, "401: Unauthorized");
    }
    match (req.path(), req.method()) {
        ("/batch_statuses", &Method::GET | &Method::HEAD) => by_get(req, shared).await,
        ("/batch_statuses", &Method::POST) => by_post(req, payload, shared).await,
        ("/batch_statuses", _) => build(StatusCode::METHOD_NOT_ALLOWED, TEXT)
            .insert_header((header::ALLOW, "GET,HEAD,POST"))
            .body("405: Method Not Allowed"),
        ("/subscriptions", &Method::GET) => streams::sawtooth(req, payload, shared),
        (path, &Method::GET) if path == "/blocks" || path.starts_with("/blocks/") => {
            blocks(req, shared).await
        }
        _ => text(StatusCode::NOT_FOUND, "404: Not Found"),
    }
}

/// `/blocks`, newest first, and `/blocks/ID`.
async fn blocks(req: &HttpRequest, shared: &Shared) -> HttpResponse {
    let mut gone = shared.gone.subscribe();
    if *gone.borrow() {
        let back = async { gone.wait_for(|gone| !*gone).await.is_ok() };
        let back = tokio::time::timeout(shared.options.validator_timeout, back).await;
        if back != Ok(true) {
            return TIMED_OUT.answer();
        }
    }
    let chain = shared.streams.chain();
    let data = if let Some(id) = req.path().strip_prefix("/blocks/") {
        if LedgerKind::Sawtooth.check_batch_id(id).is_err() {
            return BAD_ID.answer_with(id, build(BAD_ID.0, JSON));
        }
        match chain.listed(id) {
            Some(block) => block,
            None => return NO_BLOCK.answer(),
        }
    } else {
        let newest = chain.ids().len().saturating_sub(1);
        let start = match parameter(req, "start") {
            None => newest,
            Some(start) => {
                let digits = start.strip_prefix("0x").filter(|digits| digits.len() == 16);
                let number = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
                match number {
                    Some(number) if number <= newest => number,
                    _ => return BAD_PAGING.answer(),
                }
            }
        };
        let limit = parameter(req, "limit").and_then(|limit| limit.parse().ok());
        let ids = chain.ids()[..=start]
            .iter()
            .rev()
            .take(limit.unwrap_or(100));
        ids.filter_map(|id| chain.listed(id)).collect()
    };
    let body = serde_json::json!({ "data": data });
    build(StatusCode::OK, JSON).body(format!("{body:#}"))
}

async fn by_get(req: &HttpRequest, shared: &Shared) -> HttpResponse {
    // Of two parameters the first one counts.
    let Some(ids) = parameter(req, "id") else {
        return MISSING_ID.answer();
    };
    let asked: Vec<&str> = ids.split(',').collect();
    statuses(req, shared, &asked, Some(&ids)).await
}

async fn by_post(req: &HttpRequest, payload: web::Payload, shared: &Shared) -> HttpResponse {
    match req.headers().get(header::CONTENT_TYPE) {
        None => return trouble(),
        Some(given) if given != "application/json" => return WRONG_CONTENT_TYPE.answer(),
        Some(_) => {}
    }
    let body = match shared::read_body(payload, MAX_BODY).await {
        Ok(body) => body,
        Err(shared::TooLarge { actual }) => {
            return text(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("Maximum request body size {MAX_BODY} exceeded, actual body size {actual}"),
            );
        }
    };
    // Plain ids are borrowed from the body; anything else takes the slow way.
    if let Ok(ids) = serde_json::from_slice::<Vec<&str>>(&body)
        && !ids.is_empty()
    {
        return statuses(req, shared, &ids, None).await;
    }
    match serde_json::from_slice::<serde_json::Value>(&body) {
        Err(_) => trouble(),
        Ok(serde_json::Value::Array(ids)) if ids.first().is_some_and(|id| id.is_string()) => {
            let texts: Option<Vec<&str>> = ids.iter().map(|id| id.as_str()).collect();
            match texts {
                Some(texts) => statuses(req, shared, &texts, None).await,
                None => trouble(),
            }
        }
        Ok(_) => BAD_BODY.answer(),
    }
}

fn parameter<'a>(req: &'a HttpRequest, name: &str) -> Option<Cow<'a, str>> {
    shared::query(req).find_map(|(key, value)| (key == name).then_some(value))
}

/// Answers for a list of ids; `given` is the list as a GET had it.
async fn statuses(
    req: &HttpRequest,
    shared: &Shared,
    ids: &[&str],
    given: Option<&str>,
) -> HttpResponse {
    let wrong = |id: &&&str| LedgerKind::Sawtooth.check_batch_id(id).is_err();
    if let Some(id) = ids.iter().find(wrong) {
        return BAD_ID.answer_with(id, build(BAD_ID.0, JSON));
    }
    let asked: Vec<(Key, &str)> = ids.iter().map(|id| (hash::key(id), *id)).collect();
    let lot = shared.draw("", &asked);
    let behaviour = shared.behaviour(None);
    if behaviour.most_ids > 0 && ids.len() > behaviour.most_ids {
        return text(
            StatusCode::PAYLOAD_TOO_LARGE,
            "413: Request Entity Too Large",
        );
    }
    let refused = |id: &&&str| behaviour.refused_ids.iter().any(|refused| refused == *id);
    if let Some(id) = ids.iter().find(refused) {
        return BAD_ID.answer_with(id, build(BAD_ID.0, JSON));
    }
    let mut gone = shared.gone.subscribe();
    if *gone.borrow() {
        let back = async { gone.wait_for(|gone| !*gone).await.is_ok() };
        let back = tokio::time::timeout(shared.options.validator_timeout, back).await;
        if back != Ok(true) {
            return TIMED_OUT.answer();
        }
    }
    let work = async {
        let fault = shared.meet(lot).await;
        match fault {
            Some(Fault::Fail) => return VALIDATOR_ERROR.answer(),
            Some(Fault::Garbage) => return shared.garbage(),
            Some(Fault::Unauthorized) => {
                return text(StatusCode::UNAUTHORIZED, "401: Unauthorized");
            }
            Some(Fault::NotFound) => return text(StatusCode::NOT_FOUND, "404: Not Found"),
            Some(Fault::Close) => return shared::close(),
            Some(Fault::Redirect) => return shared::redirect(),
            Some(Fault::TooMany) => {
                let mut response = shared.too_many("");
                response.content_type(JSON);
                return QUEUE_FULL.answer_with("", response);
            }
            _ => {}
        }
        if !hold(req, shared, &asked).await {
            return TIMED_OUT.answer();
        }
        let link = given.map(|ids| link(req, ids));
        answer(shared, &asked, link.as_deref(), fault)
    };
    tokio::select! {
        biased;
        response = work => response,
        _ = async { gone.wait_for(|gone| *gone).await.map(drop) } => DISCONNECTED.answer(),
    }
}

/// Holds a request as its `wait` says. False when the validator timeout came
/// first.
async fn hold(req: &HttpRequest, shared: &Shared, asked: &[(Key, &str)]) -> bool {
    let limit = shared.options.validator_timeout;
    let wait = match parameter(req, "wait") {
        None => return true,
        Some(word) if word.eq_ignore_ascii_case("false") => return true,
        Some(word) => match word.parse() {
            Ok(0) => VALIDATOR_DEFAULT_WAIT,
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => Duration::from_secs(limit.mul_f64(0.95).as_secs()),
        },
    };
    let start = Instant::now();
    loop {
        let answers = shared.ledger().peek("", asked, Timestamp::now());
        let waited = start.elapsed();
        if answers.iter().all(|a| a.status != SimStatus::Pending) {
            return true;
        }
        if waited >= limit {
            return false;
        }
        if waited >= wait {
            return true;
        }
        tokio::time::sleep(WAIT_STEP.min(wait.min(limit) - waited)).await;
    }
}

/// The address of a GET, as the client (or the proxy before us) sees it.
fn link(req: &HttpRequest, ids: &str) -> String {
    let forwarded = |name: &str| {
        let value = req.headers().get(name).and_then(|v| v.to_str().ok());
        value.map(str::to_owned)
    };
    let info = req.connection_info();
    let scheme = forwarded("x-forwarded-proto").unwrap_or_else(|| "http".to_owned());
    let host = forwarded("x-forwarded-host").unwrap_or_else(|| info.host().to_owned());
    let path = forwarded("x-forwarded-path").unwrap_or_default();
    let wait = match parameter(req, "wait") {
        None => String::new(),
        Some(word) if word.is_empty() => "&wait".to_owned(),
        Some(word) => format!("&wait={word}"),
    };
    format!("{scheme}://{host}{path}/batch_statuses?id={ids}{wait}")
}

/// Writes the list of statuses: sorted keys, indented by two, in the order
/// asked, duplicates as often as asked.
fn answer(
    shared: &Shared,
    asked: &[(Key, &str)],
    link: Option<&str>,
    fault: Option<Fault>,
) -> HttpResponse {
    let now = Timestamp::now();
    let skipped = usize::from(fault == Some(Fault::MissingId));
    let asked = &asked[skipped..];
    let answers = match fault {
        // Nobody has read these answers in full.
        Some(Fault::HalfBody | Fault::Oversize) => shared.ledger().peek("", asked, now),
        _ => shared.ledger().ask("", asked, now),
    };
    let mut body = String::with_capacity(64 + answers.len() * 256 + link.map_or(0, str::len));
    body.push_str("{\n  \"data\": [");
    let mut first = true;
    let mut open = |body: &mut String| {
        body.push_str(if first {
            "\n    {\n      \"id\": \""
        } else {
            ",\n    {\n      \"id\": \""
        });
        first = false;
    };
    for ((_, id), answer) in asked.iter().zip(&answers) {
        open(&mut body);
        body.push_str(id);
        body.push_str("\",\n      \"invalid_transactions\": [");
        if answer.status == SimStatus::Invalid {
            write_entries(&mut body, shared, answer);
        }
        body.push_str("],\n      \"status\": \"");
        body.push_str(word(answer.status));
        body.push_str("\"\n    }");
    }
    if fault == Some(Fault::ForeignId) {
        open(&mut body);
        hash::write_id(&mut body, shared.roll_number());
        body.push_str(
            "\",\n      \"invalid_transactions\": [],\n      \"status\": \"COMMITTED\"\n    }",
        );
    }
    body.push_str(if first { "]" } else { "\n  ]" });
    if let Some(link) = link {
        body.push_str(",\n  \"link\": ");
        body.push_str(&serde_json::Value::from(link).to_string());
    }
    body.push_str("\n}");
    shared.finish("", build(StatusCode::OK, JSON), body, fault)
}

const fn word(status: SimStatus) -> &'static str {
    match status {
        SimStatus::Pending | SimStatus::Valid => "PENDING",
        SimStatus::Committed => "COMMITTED",
        SimStatus::Invalid => "INVALID",
        SimStatus::Unknown => "UNKNOWN",
    }
}

/// One invalid transaction, listed once more for about each second since.
/// Some have extended data, some no message.
fn write_entries(body: &mut String, shared: &Shared, answer: &Answer) {
    let lot = hash::draw(answer.key, shared.options.seed ^ 1);
    let mut entry = String::with_capacity(320);
    entry.push_str("\n        {");
    if lot.is_multiple_of(8) {
        entry.push_str("\n          \"extended_data\": \"eyJjb2RlIjo0Mn0=\",");
    }
    entry.push_str("\n          \"id\": \"");
    hash::write_id(&mut entry, lot);
    entry.push('"');
    if lot % 8 != 1 {
        entry.push_str(
            ",\n          \"message\": \"Verb is \\\"set\\\", but already exists: Name: aaaa, Value 7\"",
        );
    }
    entry.push_str("\n        }");
    let seconds = answer.decided_for.as_secs();
    let repeats = seconds.min(u64::from(shared.options.repeats));
    for _ in 0..repeats {
        body.push_str(&entry);
        body.push(',');
    }
    body.push_str(&entry);
    body.push_str("\n      ");
}

#[cfg(test)]
#[path = "sawtooth_tests.rs"]
mod tests;
