//! `GET /v1/datasets`, `GET /v1/replicas`, and one of each.

use super::open;
use crate::flows::replicas::{Content, ContentKind, DatasetName, FetchError};
use crate::http::dataset_reports::{DatasetReport, StandingBody, gather_datasets};
use crate::http::problem::{Answer, Problem};
use crate::http::replica_figures::{ReplicaFigures, replica_figures};
use crate::http::replica_report::ReplicaReport;
use crate::http::replicas::gather_replicas;
use crate::http::state::Http;
use crate::time::Timestamp;
use actix_web::{HttpRequest, web};
use serde::Serialize;

/// Answer of `GET /v1/datasets`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DatasetList {
    /// Configured datasets in the configuration's order, then those that are only
    /// in the database.
    pub items: Vec<DatasetReport>,
    /// Always null: all of them are here.
    pub next: Option<String>,
    /// When sizes were read.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub read_at: Option<Timestamp>,
    /// Why newer sizes could not be read; null when they are new.
    pub problem: Option<String>,
}

/// Answer of `GET /v1/replicas`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ReplicaList {
    /// Configured replicas in the configuration's order, then those that are only
    /// in the database.
    pub items: Vec<ReplicaReport>,
    /// Always null: all of them are here.
    pub next: Option<String>,
    /// When what the database says was read.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub read_at: Option<Timestamp>,
    /// Why newer figures could not be read; null when they are new.
    pub problem: Option<String>,
}

/// Lists the datasets that are published here.
#[utoipa::path(get, path = "/v1/datasets", tag = "datasets", responses(
    (status = 200, description = "The datasets", body = DatasetList),
    (status = 503, description = "The database is out of reach", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn list_datasets(
    http: web::Data<Http>,
) -> Answer<web::Json<DatasetList>> {
    let figures = replica_figures(&http).await;
    let mut items = gather_datasets(&http.settings(), &figures);
    let configured = items.iter_mut().filter(|of| of.configured);
    let places = configured.map(|of| (of.name.clone(), &mut of.standing));
    renew(&http, ContentKind::Dataset, places.collect()).await?;
    Ok(web::Json(DatasetList {
        items,
        next: None,
        read_at: figures.read_at,
        problem: figures.problem.clone(),
    }))
}

/// One dataset.
#[utoipa::path(get, path = "/v1/datasets/{name}", tag = "datasets",
    params(("name" = String, Path, description = "Name of the dataset")), responses(
    (status = 200, description = "The dataset", body = DatasetReport),
    (status = 401, description = "The dataset's token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such dataset", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn show_dataset(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<web::Json<DatasetReport>> {
    let content = open(&http, &request, ContentKind::Dataset)?;
    let figures = replica_figures(&http).await;
    let mut dataset = find_dataset(&http, &figures, content.name.as_str())?;
    let place = (dataset.name.clone(), &mut dataset.standing);
    renew(&http, content.kind, vec![place]).await?;
    Ok(web::Json(dataset))
}

/// Lists the replicas that are kept here.
#[utoipa::path(get, path = "/v1/replicas", tag = "replicas", responses(
    (status = 200, description = "The replicas", body = ReplicaList),
    (status = 503, description = "The database is out of reach", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn list_replicas(
    http: web::Data<Http>,
) -> Answer<web::Json<ReplicaList>> {
    let figures = replica_figures(&http).await;
    let mut items = gather_replicas(&http, &figures);
    let configured = items.iter_mut().filter(|of| of.configured);
    let places = configured.map(|of| (of.name.clone(), &mut of.standing));
    renew(&http, ContentKind::Replica, places.collect()).await?;
    Ok(web::Json(ReplicaList {
        items,
        next: None,
        read_at: figures.read_at,
        problem: figures.problem.clone(),
    }))
}

/// One replica.
#[utoipa::path(get, path = "/v1/replicas/{name}", tag = "replicas",
    params(("name" = String, Path, description = "Name of the replica")), responses(
    (status = 200, description = "The replica", body = ReplicaReport),
    (status = 401, description = "A token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such replica", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn show_replica(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<web::Json<ReplicaReport>> {
    let content = open(&http, &request, ContentKind::Replica)?;
    let figures = replica_figures(&http).await;
    let mut replica = find_replica(&http, &figures, content.name.as_str())?;
    let place = (replica.name.clone(), &mut replica.standing);
    renew(&http, content.kind, vec![place]).await?;
    Ok(web::Json(replica))
}

/// One that is configured or kept.
///
/// # Errors
/// There is no such dataset.
pub(in crate::http) fn find_dataset(
    http: &Http,
    figures: &ReplicaFigures,
    name: &str,
) -> Answer<DatasetReport> {
    let all = gather_datasets(&http.settings(), figures);
    let found = all.into_iter().find(|of| of.name == name);
    found.ok_or_else(|| Problem::content_not_found(ContentKind::Dataset, name).into())
}

/// One that is configured or kept.
///
/// # Errors
/// There is no such replica.
pub(in crate::http) fn find_replica(
    http: &Http,
    figures: &ReplicaFigures,
    name: &str,
) -> Answer<ReplicaReport> {
    let all = gather_replicas(http, figures);
    let found = all.into_iter().find(|of| of.name == name);
    found.ok_or_else(|| Problem::content_not_found(ContentKind::Replica, name).into())
}

/// Reads how each stands now: programs decide by heads.
async fn renew(
    http: &Http,
    kind: ContentKind,
    places: Vec<(String, &mut StandingBody)>,
) -> Answer<()> {
    let (names, places): (Vec<String>, Vec<&mut StandingBody>) = places.into_iter().unzip();
    let wanted: Vec<Option<Content>> = names
        .iter()
        .map(|name| DatasetName::parse(name).map(|name| Content { kind, name }))
        .collect();
    let read = http
        .state
        .datasets
        .read(&http.runtime, |contents| async move {
            let mut standings = Vec::with_capacity(wanted.len());
            for content in &wanted {
                let Some(content) = content else {
                    standings.push(None);
                    continue;
                };
                standings.push(match contents.info(content, None).await {
                    Ok(info) => Some(info),
                    Err(FetchError::Missing | FetchError::Stale(_)) => None,
                    Err(error) => return Err(error),
                });
            }
            Ok(standings)
        });
    for (place, info) in places.into_iter().zip(read.await?) {
        *place = info.map(StandingBody::from).unwrap_or_default();
    }
    Ok(())
}
