//! `/v1/control/settings`: the settings in force with their origin, and values
//! set by control, which win over all others until the process ends or a
//! reload with `reset`.

use super::{Controls, carried_out};
use crate::http::api::batches::check_text;
use crate::http::audit::{Act, Done};
use crate::http::body::read_json;
use crate::http::problem::{Answer, FieldError, Problem};
use crate::http::state::Http;
use crate::watchdog::{EffectiveSetting, Reloaded, WatchdogQuery};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Largest body.
const MOST_BYTES: usize = 256 * 1024;
/// Most keys in one call.
const MOST_KEYS: usize = 100;

/// Answer of `GET /v1/control/settings`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SettingList {
    /// Every key that has a value, by key.
    pub items: Vec<EffectiveSetting>,
    /// Always null: the list is whole.
    pub next: Option<String>,
}

/// Body of `PATCH /v1/control/settings`: all of it is done, or nothing.
#[derive(Clone, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeBody {
    /// Values by key, as in `{"batches.poll_interval": "2s"}`: strings as in the
    /// environment, numbers or booleans. Tables of a list go by their name:
    /// `ledgers.trace.connections`.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub set: BTreeMap<String, Value>,
    /// Keys whose value set by control is forgotten.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub forget: Vec<String>,
}

/// The settings in force, with where each comes from.
#[utoipa::path(get, path = "/v1/control/settings", tag = "control", responses(
    (status = 200, description = "All settings; secrets read ***", body = SettingList),
    (status = 401, description = "The control token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "No control token is configured", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "Too many wrong tokens", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The server is shutting down, or busy", body = Problem, content_type = "application/problem+json"),
    (status = 504, description = "There was no answer in time", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn list_settings(
    http: web::Data<Http>,
) -> Answer<web::Json<SettingList>> {
    let items = carried_out(Controls::of(&http).query()?.settings())
        .await?
        .map_err(|error| Problem::order(error, Problem::invalid_configuration))?;
    Ok(web::Json(SettingList { items, next: None }))
}

/// Sets values and forgets values set before: all of it or nothing.
#[utoipa::path(patch, path = "/v1/control/settings", tag = "control", request_body = ChangeBody, responses(
    (status = 200, description = "What changed, and what of it waits for a restart", body = Reloaded),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The control token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "No control token is configured", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not application/json", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "A key is unknown, or a value of the wrong type or out of range; nothing was changed", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "Too many wrong tokens", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The server is shutting down, or busy; nothing was changed", body = Problem, content_type = "application/problem+json"),
    (status = 504, description = "There was no outcome in time", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn change_settings(
    http: web::Data<Http>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    let act = Act::of(&request, "settings.change");
    let body: ChangeBody = match read_json(&request, payload, MOST_BYTES).await {
        Ok(body) => body,
        Err(refusal) => return Err(http.refuse(act, refusal).await),
    };
    // Values of a refused call may be secrets in the wrong place: keys alone.
    let keys: Vec<&String> = body.set.keys().take(MOST_KEYS).collect();
    let forget: Vec<&String> = body.forget.iter().take(MOST_KEYS).collect();
    let all: Vec<&str> = keys.iter().chain(&forget).map(|key| key.as_str()).collect();
    let target = all.join(", ");
    let act = act
        .on(target)
        .with(json!({ "set": keys, "forget": forget }));
    let controls = Controls::of(&http);
    let acted = http
        .act(act, async move {
            let query = controls.query()?;
            let changes = changes(&body)?;
            let told = |mistakes| refused(&body, mistakes);
            let done = carried_out(query.change(changes))
                .await?
                .map_err(|error| Problem::order(error, told))?;
            let details = json!({
                "set": values(query, &body).await,
                "forget": body.forget,
                "changed": done.changed,
            });
            Ok(Done {
                value: done,
                details: Some(details),
            })
        })
        .await?;
    Ok(acted.respond(StatusCode::OK))
}

/// What was set, by key, as the list of settings shows it: it hides secrets.
async fn values(query: &WatchdogQuery, body: &ChangeBody) -> BTreeMap<String, Option<String>> {
    let settings = match carried_out(query.settings()).await {
        Ok(Ok(settings)) => settings,
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    let shown = |key: &String| {
        let setting = settings.iter().find(|setting| setting.key == *key);
        setting.map(|setting| setting.value.clone())
    };
    let keys = body.set.keys();
    keys.map(|key| (key.clone(), shown(key))).collect()
}

/// The changes as an order has them.
fn changes(body: &ChangeBody) -> Result<BTreeMap<String, Option<String>>, Box<Problem>> {
    let mut errors = Vec::new();
    let mut changes = BTreeMap::new();
    let count = body.set.len() + body.forget.len();
    if count == 0 {
        errors.push(FieldError::new(
            "set",
            "empty; name a key to set or to forget",
        ));
    } else if count > MOST_KEYS {
        let message = format!("{count} keys; send at most {MOST_KEYS} a call");
        errors.push(FieldError::new("set", message));
    }
    for (key, value) in &body.set {
        let written = match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(flag) => Ok(flag.to_string()),
            Value::Null => Err("null; to take a value back, name its key in forget"),
            Value::Array(_) => Err("a list; expected a string, a number or a boolean"),
            Value::Object(_) => {
                Err("a table; name each of its keys by itself, as in batches.repoll.min")
            }
        };
        let checked =
            written.and_then(|text| check_text(key).and(check_text(&text)).map(|()| text));
        match checked {
            Ok(text) => drop(changes.insert(key.clone(), Some(text))),
            Err(message) => errors.push(FieldError::new(format!("set.{}", short(key)), message)),
        }
    }
    let mut seen = BTreeSet::new();
    for (index, key) in body.forget.iter().enumerate() {
        let field = format!("forget[{index}]");
        if let Err(message) = check_text(key) {
            errors.push(FieldError::new(field, message));
        } else if body.set.contains_key(key) || !seen.insert(key) {
            let message = format!("\"{}\" is named twice", short(key));
            errors.push(FieldError::new(field, message));
        } else {
            changes.insert(key.clone(), None);
        }
    }
    match errors.len() {
        0 => Ok(changes),
        found => Err(Problem::invalid_fields(errors, found)),
    }
}

/// The mistakes, each with the field that it is about; the record has the
/// fields alone, since mistakes repeat the values.
fn refused(body: &ChangeBody, mistakes: Vec<String>) -> Box<Problem> {
    let errors: Vec<FieldError> = mistakes
        .iter()
        .map(|mistake| {
            let text = mistake.strip_prefix("control: ").unwrap_or(mistake);
            let about = |key: &String| text.strip_prefix(key.as_str())?.strip_prefix(": ");
            let set = body.set.keys().find_map(|key| {
                let message = about(key)?;
                Some(FieldError::new(format!("set.{key}"), message))
            });
            let forget = || {
                let mut keys = body.forget.iter().enumerate();
                keys.find_map(|(index, key)| {
                    let message = format!("{key}: {}", about(key)?);
                    Some(FieldError::new(format!("forget[{index}]"), message))
                })
            };
            // What concerns several keys, or another one, names them itself.
            set.or_else(forget)
                .unwrap_or_else(|| FieldError::new("set", text))
        })
        .collect();
    let found = errors.len();
    let mut fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    fields.dedup();
    let record = format!("nothing was done; refused: {}", fields.join(", "));
    Problem::invalid_fields(errors, found).recorded_as(record)
}

fn short(key: &str) -> String {
    key.chars().take(64).collect()
}
