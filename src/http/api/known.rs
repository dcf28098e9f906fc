//! `POST /v1/known`: transaction ids and keys that make events relevant.

use crate::flows::events::{Known, LONGEST_KEY, LONGEST_TX_ID};
use crate::http::body::read_json;
use crate::http::problem::{Answer, FieldError, MOST_ERRORS, Problem};
use crate::http::state::Http;
use actix_web::{HttpRequest, web};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most ids and keys of a call.
const MOST_KNOWN: usize = 10_000;

/// Body of `POST /v1/known`; at most 10,000 ids and keys together.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KnownBody {
    /// Transaction ids, 1 to 256 characters each.
    #[serde(default)]
    #[schema(max_items = 10_000)]
    pub tx_ids: Vec<String>,
    /// Keys, 1 to 1024 characters each.
    #[serde(default)]
    #[schema(max_items = 10_000)]
    pub keys: Vec<String>,
}

/// Answer of `POST /v1/known`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct KnownTaken {
    /// Ids and keys that are new.
    pub added: usize,
    /// Ids and keys that were known already.
    pub known: usize,
}

/// Makes transaction ids and keys known: events that carry one are relevant, and
/// those that wait are judged now. Idempotent.
#[utoipa::path(post, path = "/v1/known", tag = "events", request_body = KnownBody, responses(
    (status = 200, description = "They are known", body = KnownTaken),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The intake token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not application/json", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "There are none or too many, or one has the wrong shape; nothing was stored", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or the server is stopping", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn add_known(
    http: web::Data<Http>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer<web::Json<KnownTaken>> {
    if *http.state.draining.borrow() {
        return Err(Problem::draining().into());
    }
    let limit = http.settings().http.max_body_bytes;
    let body: KnownBody = read_json(&request, payload, limit).await?;
    let known = check(body)?;
    let all = known.tx_ids.len() + known.keys.len();
    let added = (http.state.know)(known).await?;
    Ok(web::Json(KnownTaken {
        added,
        known: all.saturating_sub(added),
    }))
}

/// Ids and keys of the right shape, each once.
fn check(body: KnownBody) -> Answer<Known> {
    let count = body.tx_ids.len() + body.keys.len();
    if count == 0 || count > MOST_KNOWN {
        let message =
            format!("{count} ids and keys; expected 1 to {MOST_KNOWN} in tx_ids and keys together");
        let error = FieldError::new("tx_ids", message);
        return Err(Problem::invalid_fields(vec![error], 1).into());
    }
    let (mut errors, mut found) = (Vec::new(), 0);
    let mut distinct = |field: &str, texts: Vec<String>, longest: usize| -> Vec<String> {
        for (index, text) in texts.iter().enumerate() {
            let length = text.chars().count();
            if !(1..=longest).contains(&length) || text.contains('\0') {
                found += 1;
                if errors.len() < MOST_ERRORS {
                    let message =
                        format!("{length} characters; expected 1 to {longest}, without NUL");
                    errors.push(FieldError::new(format!("{field}[{index}]"), message));
                }
            }
        }
        let distinct: BTreeSet<String> = texts.into_iter().collect();
        distinct.into_iter().collect()
    };
    let known = Known {
        tx_ids: distinct("tx_ids", body.tx_ids, LONGEST_TX_ID),
        keys: distinct("keys", body.keys, LONGEST_KEY),
    };
    if found == 0 {
        Ok(known)
    } else {
        Err(Problem::invalid_fields(errors, found).into())
    }
}
