//! What followers of a replica read: the same as of a dataset, so that replicas
//! can be followed in their turn.

use super::query::{DigestsQuery, FetchQuery, InfoQuery, WatchQuery};
use super::read::{EntryBody, digests_of, entry_of, fetch_of, info_of, watch_of};
use crate::flows::replicas::{ContentKind, Digests, Fetched, Info};
use crate::http::problem::{Answer, Problem};
use crate::http::state::Http;
use actix_web::{HttpRequest, HttpResponse, web};

/// How a replica stands: its state, and epoch, head and entries of the copy.
#[utoipa::path(get, path = "/v1/replicas/{name}/info", tag = "replicas",
    params(("name" = String, Path, description = "Name of the replica"), InfoQuery), responses(
    (status = 200, description = "How it stands", body = Info),
    (status = 400, description = "A query parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "A token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such replica", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or there is no copy yet", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn replica_info(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<HttpResponse> {
    info_of(&http, &request, ContentKind::Replica).await
}

/// A chunk of a replica's copy and a diff, as of a dataset.
#[utoipa::path(get, path = "/v1/replicas/{name}/fetch", tag = "replicas",
    params(("name" = String, Path, description = "Name of the replica"), FetchQuery), responses(
    (status = 200, description = "Entries and the diff", body = Fetched),
    (status = 400, description = "A query parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "A token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such replica", body = Problem, content_type = "application/problem+json"),
    (status = 410, description = "stale-head: history does not reach the head, or it was never of this epoch; `info` says how the replica stands", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or there is no copy yet", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn replica_fetch(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<HttpResponse> {
    fetch_of(&http, &request, ContentKind::Replica).await
}

/// Waits until a replica's head moves, as for a dataset.
#[utoipa::path(get, path = "/v1/replicas/{name}/watch", tag = "replicas",
    params(("name" = String, Path, description = "Name of the replica"), WatchQuery), responses(
    (status = 200, description = "How it stands", body = Info),
    (status = 400, description = "A query parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "A token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such replica", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Too many wait, the server is stopping, the database is out of reach, or there is no copy yet", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn replica_watch(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<HttpResponse> {
    watch_of(&http, &request, ContentKind::Replica).await
}

/// Digests of ranges of a replica's copy, as of a dataset.
#[utoipa::path(get, path = "/v1/replicas/{name}/digests", tag = "replicas",
    params(("name" = String, Path, description = "Name of the replica"), DigestsQuery), responses(
    (status = 200, description = "The digests", body = Digests),
    (status = 400, description = "A query parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "A token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such replica", body = Problem, content_type = "application/problem+json"),
    (status = 410, description = "stale-head: history does not reach the head, or it was never of this epoch; `info` says how the replica stands", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or there is no copy yet", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn replica_digests(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<HttpResponse> {
    digests_of(&http, &request, ContentKind::Replica).await
}

/// One entry of a replica's copy, by its key (percent-encoded).
#[utoipa::path(get, path = "/v1/replicas/{name}/entries/{key}", tag = "replicas",
    params(
        ("name" = String, Path, description = "Name of the replica"),
        ("key" = String, Path, description = "Key of the entry"),
    ), responses(
    (status = 200, description = "The entry", body = EntryBody),
    (status = 400, description = "This is no key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "A token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such replica, or no such entry", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or there is no copy yet", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn replica_entry(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<HttpResponse> {
    entry_of(&http, &request, ContentKind::Replica).await
}
