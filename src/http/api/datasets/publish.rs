//! `POST /v1/datasets/{name}/entries`: modifications to publish.

use super::dataset;
use super::query::LONGEST_IDEMPOTENCY_KEY;
use crate::flows::replicas::{ContentKind, Epoch, Head, Modification, PublishRequest};
use crate::http::api::read_query;
use crate::http::body::{check_json, parse_json, read_bytes};
use crate::http::datasets::{check_modifications, count};
use crate::http::problem::{Answer, FieldError, Problem};
use crate::http::state::Http;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Header that names a request, so that it is carried out once.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Query of `POST …/entries`.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PublishQuery {
    /// Only if this is the head.
    #[param(value_type = Option<i64>)]
    pub if_head: Option<String>,
}

/// Answer of `POST …/entries`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct PublishedBody {
    /// Which history the head is of.
    #[schema(value_type = String)]
    pub epoch: Epoch,
    /// The head that these modifications made.
    pub head: Head,
}

/// Publishes modifications, in order and in one transaction: the head moves by
/// one. The body is a list of `{"update":[key, value]}` and `{"delete":key}`. A
/// request that is repeated with its `Idempotency-Key` is answered as the first
/// time.
#[utoipa::path(post, path = "/v1/datasets/{name}/entries", tag = "datasets",
    params(
        ("name" = String, Path, description = "Name of the dataset"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request, so that it is carried out once: 1 to 255 visible ASCII characters"),
        PublishQuery,
    ),
    request_body = Vec<Object>, responses(
    (status = 200, description = "They are durable", body = PublishedBody),
    (status = 400, description = "Not the JSON expected, or a parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The intake token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such dataset", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "head-moved: the head is not if_head; `head` says which it is. Or read-only: a table is published", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body or a value is too large, or there are too many", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not application/json", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "There are none, or the Idempotency-Key was used for another request", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or the server is stopping", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn publish(
    http: web::Data<Http>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer<web::Json<PublishedBody>> {
    if *http.state.draining.borrow() {
        return Err(Problem::draining().into());
    }
    let settings = http.settings();
    let kind = ContentKind::Dataset;
    let asked = request.match_info().get("name").unwrap_or_default();
    let Some(dataset) = dataset(&settings, asked) else {
        return Err(Problem::content_not_found(kind, asked).into());
    };
    let published = async {
        if let Some(source) = dataset.source {
            return Err(Problem::read_only(&dataset.name, source.as_str()).into());
        }
        let if_head = if_head(read_query(&request)?)?;
        let key = idempotency_key(&request)?;
        check_json(&request)?;
        let body = read_bytes(&request, payload, settings.http.max_body_bytes).await?;
        let modifications: Vec<Modification> = parse_json(&body)?;
        if modifications.is_empty() {
            let most = settings.replication.max_modifications;
            let message = format!("no modifications; expected 1 to {most}");
            let error = FieldError::new("", message);
            return Err(Problem::invalid_fields(vec![error], 1).into());
        }
        check_modifications(&modifications, &settings.replication)?;
        let idempotency = key.map(|key| (key, fingerprint(if_head, &body)));
        drop(body);
        let publish = (http.state.datasets.publish)(PublishRequest {
            dataset: dataset.name.clone(),
            modifications,
            if_head,
            idempotency,
        });
        Answer::Ok(publish.await?)
    };
    let published = published.await.inspect_err(|refusal| {
        count(kind, &dataset.name, "publish", Err(refusal.0.name()));
    })?;
    count(kind, &dataset.name, "publish", Ok(0));
    Ok(web::Json(PublishedBody {
        epoch: published.epoch,
        head: published.head,
    }))
}

fn if_head(PublishQuery { if_head }: PublishQuery) -> Answer<Option<Head>> {
    let Some(text) = if_head else {
        return Ok(None);
    };
    let plain = text.bytes().all(|digit| digit.is_ascii_digit());
    match text.parse().ok().filter(|_| plain) {
        Some(head) => Ok(Some(head)),
        None => {
            let shown: String = text.chars().take(60).collect();
            let message = format!("{shown:?} is no head; expected a whole number from 0");
            Err(Problem::invalid_query(vec![FieldError::new("if_head", message)]).into())
        }
    }
}

fn idempotency_key(request: &HttpRequest) -> Answer<Option<String>> {
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    let fits = (1..=LONGEST_IDEMPOTENCY_KEY).contains(&bytes.len())
        && bytes.iter().all(u8::is_ascii_graphic)
        && values.next().is_none();
    match value.to_str() {
        Ok(key) if fits => Ok(Some(key.to_owned())),
        _ => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid-idempotency-key",
            "The Idempotency-Key cannot be kept",
            format!(
                "the Idempotency-Key has {} bytes; expected one such header with 1 to {LONGEST_IDEMPOTENCY_KEY} visible ASCII characters",
                bytes.len()
            ),
        )
        .into()),
    }
}

/// What tells a request from another with the same key: SHA-256 over what was
/// asked.
fn fingerprint(if_head: Option<Head>, body: &[u8]) -> String {
    let condition = if_head.map_or_else(String::new, |head| head.to_string());
    let mut hasher = Sha256::new();
    hasher.update(condition);
    hasher.update([0]);
    hasher.update(body);
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
