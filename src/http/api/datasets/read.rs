//! What followers of a dataset read: how it stands, chunks with diffs, digests,
//! single entries; and the wait for its head to move.

use super::open;
use super::query::{DigestsQuery, FetchQuery, InfoQuery, WatchQuery};
use crate::flows::replicas::{
    Content, ContentKind, Contents, Digests, FetchError, Fetched, Info, WatchError, check_key,
};
use crate::http::api::read_query;
use crate::http::datasets::count;
use crate::http::problem::{Answer, FieldError, Problem, Refusal};
use crate::http::replicas::state_of_replica;
use crate::http::state::Http;
use crate::store::StoreError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, ContentType};
use actix_web::{HttpRequest, HttpResponse, web};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::value::RawValue;
use std::future::Future;
use std::sync::Arc;

/// One entry.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct EntryBody {
    /// Its key.
    pub key: String,
    /// Its value: any JSON.
    #[schema(value_type = Object)]
    pub value: Box<RawValue>,
}

/// How a dataset stands: its epoch, head, entries, and how far back its history
/// reaches.
#[utoipa::path(get, path = "/v1/datasets/{name}/info", tag = "datasets",
    params(("name" = String, Path, description = "Name of the dataset"), InfoQuery), responses(
    (status = 200, description = "How it stands", body = Info),
    (status = 400, description = "A query parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The dataset's token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such dataset", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or nothing is there yet", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn info(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<HttpResponse> {
    info_of(&http, &request, ContentKind::Dataset).await
}

/// A chunk of entries, by key or by index, and the diff that brings what the
/// follower has to the chunk's head, both of one snapshot. Where the diff is too
/// large for one answer it ends at an earlier head than `latest`, and there are
/// no entries: ask again from that head.
#[utoipa::path(get, path = "/v1/datasets/{name}/fetch", tag = "datasets",
    params(("name" = String, Path, description = "Name of the dataset"), FetchQuery), responses(
    (status = 200, description = "Entries and the diff", body = Fetched),
    (status = 400, description = "A query parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The dataset's token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such dataset", body = Problem, content_type = "application/problem+json"),
    (status = 410, description = "stale-head: history does not reach the head, or it was never of this epoch; `info` says how the dataset stands", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or nothing is there yet", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn fetch(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<HttpResponse> {
    fetch_of(&http, &request, ContentKind::Dataset).await
}

/// Waits until the head is another than `head`, or the epoch than `epoch`, and
/// answers how the dataset stands then; as it is where nothing moved in time.
#[utoipa::path(get, path = "/v1/datasets/{name}/watch", tag = "datasets",
    params(("name" = String, Path, description = "Name of the dataset"), WatchQuery), responses(
    (status = 200, description = "How it stands", body = Info),
    (status = 400, description = "A query parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The dataset's token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such dataset", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Too many wait, the server is stopping, the database is out of reach, or nothing is there yet", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn watch(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<HttpResponse> {
    watch_of(&http, &request, ContentKind::Dataset).await
}

/// Digests of even ranges of keys, to compare a copy with, and the diff within
/// them that brings what the follower has to their head.
#[utoipa::path(get, path = "/v1/datasets/{name}/digests", tag = "datasets",
    params(("name" = String, Path, description = "Name of the dataset"), DigestsQuery), responses(
    (status = 200, description = "The digests", body = Digests),
    (status = 400, description = "A query parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The dataset's token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such dataset", body = Problem, content_type = "application/problem+json"),
    (status = 410, description = "stale-head: history does not reach the head, or it was never of this epoch; `info` says how the dataset stands", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or nothing is there yet", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn digests(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<HttpResponse> {
    digests_of(&http, &request, ContentKind::Dataset).await
}

/// One entry, by its key (percent-encoded).
#[utoipa::path(get, path = "/v1/datasets/{name}/entries/{key}", tag = "datasets",
    params(
        ("name" = String, Path, description = "Name of the dataset"),
        ("key" = String, Path, description = "Key of the entry"),
    ), responses(
    (status = 200, description = "The entry", body = EntryBody),
    (status = 400, description = "This is no key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The dataset's token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such dataset, or no such entry", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or nothing is there yet", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn entry(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<HttpResponse> {
    entry_of(&http, &request, ContentKind::Dataset).await
}

pub(super) async fn info_of(
    http: &Http,
    request: &HttpRequest,
    kind: ContentKind,
) -> Answer<HttpResponse> {
    let content = open(http, request, kind)?;
    let splits = read_query::<InfoQuery>(request)?.judge()?;
    let state = state_of(http, &content).await;
    answer(http, content, "info", move |contents, content| async move {
        let info = contents.info(&content, splits).await?;
        Ok(with_state(info, state))
    })
    .await
}

pub(super) async fn fetch_of(
    http: &Http,
    request: &HttpRequest,
    kind: ContentKind,
) -> Answer<HttpResponse> {
    let content = open(http, request, kind)?;
    let settings = http.settings();
    let fetching = read_query::<FetchQuery>(request)?.judge(&settings.replication)?;
    answer(
        http,
        content,
        "fetch",
        move |contents, content| async move { contents.fetch(&content, &fetching).await },
    )
    .await
}

pub(super) async fn digests_of(
    http: &Http,
    request: &HttpRequest,
    kind: ContentKind,
) -> Answer<HttpResponse> {
    let content = open(http, request, kind)?;
    let settings = http.settings();
    let asked = read_query::<DigestsQuery>(request)?.judge(&settings.replication)?;
    answer(
        http,
        content,
        "digests",
        move |contents, content| async move {
            let since = asked.since.as_ref().map(|(epoch, head)| (epoch, *head));
            let until = asked.until.as_deref();
            contents
                .digests(
                    &content,
                    &asked.after,
                    until,
                    asked.limit,
                    asked.splits,
                    since,
                )
                .await
        },
    )
    .await
}

pub(super) async fn watch_of(
    http: &Http,
    request: &HttpRequest,
    kind: ContentKind,
) -> Answer<HttpResponse> {
    let content = open(http, request, kind)?;
    let settings = http.settings();
    let asked = read_query::<WatchQuery>(request)?.judge(&settings.replication)?;
    let mut draining = http.state.draining.clone();
    let heads = &http.state.datasets.heads;
    let waited = heads.wait(&content, asked.epoch.as_ref(), asked.head, asked.wait);
    let info = tokio::select! {
        // Whoever comes while the server stops is turned away at once.
        biased;
        _ = draining.wait_for(|draining| *draining) => Err(Refusal::from(Problem::draining())),
        waited = waited => waited.map_err(|error| match error {
            WatchError::Fetch(error) => refusal(error, &content),
            full @ WatchError::Full(_) => full.into(),
        }),
    };
    let info = info.inspect_err(|refusal| {
        count(kind, &content.name, "watch", Err(refusal.0.name()));
    })?;
    // What was asked for may have been removed, or closed, meanwhile.
    let content = open(http, request, kind)?;
    let state = state_of(http, &content).await;
    let body = json(&with_state(info, state))?;
    count(kind, &content.name, "watch", Ok(body.len()));
    Ok(respond(body))
}

pub(super) async fn entry_of(
    http: &Http,
    request: &HttpRequest,
    kind: ContentKind,
) -> Answer<HttpResponse> {
    let content = open(http, request, kind)?;
    // As it came: a key may hold an encoded slash.
    let last = request.uri().path().rsplit('/').next().unwrap_or_default();
    let key = percent_decode_str(last)
        .decode_utf8()
        .map_err(|_| wrong_key("the key is no UTF-8; expected its bytes, percent-encoded"))?
        .into_owned();
    check_key(&key).map_err(|problem| wrong_key(&problem.0))?;
    let missing = entry_not_found(&key);
    let found = answer(
        http,
        content,
        "entry",
        move |contents, content| async move {
            let Some(value) = contents.entry(&content, &key).await? else {
                return Ok(None);
            };
            let value = RawValue::from_string(value).map_err(|error| {
                FetchError::Store(StoreError::Internal(format!("a value is no JSON: {error}")))
            })?;
            Ok(Some(EntryBody { key, value }))
        },
    )
    .await?;
    if found.status() == StatusCode::NOT_FOUND {
        return Err(missing.into());
    }
    Ok(found)
}

/// Reads, and answers what was read as JSON; `null` as 404.
async fn answer<T, F>(
    http: &Http,
    content: Content,
    asked: &'static str,
    read: impl FnOnce(Arc<dyn Contents>, Content) -> F + Send + 'static,
) -> Answer<HttpResponse>
where
    T: Serialize + Send + 'static,
    F: Future<Output = Result<T, FetchError>> + Send + 'static,
{
    let asking = content.clone();
    let datasets = &http.state.datasets;
    let body = datasets.read(&http.runtime, move |contents| async move {
        let value = read(contents, asking).await?;
        serde_json::to_vec(&value)
            .map_err(|error| FetchError::Store(StoreError::Internal(error.to_string())))
    });
    let body = body.await.map_err(|error| refusal(error, &content));
    let body = body.inspect_err(|refusal| {
        count(content.kind, &content.name, asked, Err(refusal.0.name()));
    })?;
    if body == b"null" {
        count(content.kind, &content.name, asked, Err("entry-not-found"));
        return Ok(HttpResponse::NotFound().finish());
    }
    count(content.kind, &content.name, asked, Ok(body.len()));
    Ok(respond(body))
}

fn refusal(error: FetchError, content: &Content) -> Refusal {
    if let FetchError::Stale(info) = &error {
        tracing::debug!(
            dataset.name = %content.name,
            dataset.head = info.head,
            dataset.oldest_head = info.oldest_head,
            "a follower is further behind than history reaches"
        );
    }
    error.into()
}

fn json<T: Serialize>(value: &T) -> Answer<Vec<u8>> {
    serde_json::to_vec(value).map_err(|_| Problem::internal().into())
}

fn respond(body: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::json())
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(body)
}

/// How a replica stands, in a word.
async fn state_of(http: &Http, content: &Content) -> Option<String> {
    match content.kind {
        ContentKind::Dataset => None,
        ContentKind::Replica => {
            let state = state_of_replica(http, &content.name).await;
            Some(state.as_str().to_owned())
        }
    }
}

fn with_state(mut info: Info, state: Option<String>) -> Info {
    info.state = state.or(info.state);
    info
}

fn wrong_key(message: &str) -> Refusal {
    Problem::invalid_query(vec![FieldError::new("key", message)]).into()
}

fn entry_not_found(key: &str) -> Box<Problem> {
    let shown: String = key.chars().filter(|c| !c.is_control()).take(100).collect();
    Problem::new(
        StatusCode::NOT_FOUND,
        "entry-not-found",
        "There is no such entry",
        format!("no entry has the key \"{shown}\""),
    )
}
