//! `GET /v1/datasets`, `GET /v1/replicas`, and one of each.

use super::read::state_of;
use super::{content, dataset, open, replica};
use crate::config::{DatasetSettings, HistorySettings, ReplicaProtocol, ReplicaSettings};
use crate::flows::replicas::{Content, ContentKind, Epoch, FetchError, Head, Info};
use crate::http::problem::{Answer, Problem};
use crate::http::state::Http;
use actix_web::{HttpRequest, web};
use serde::Serialize;

/// How much history is kept.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct HistoryBody {
    /// Modifications at most.
    pub changes: u64,
    /// Bytes of their keys and values at most.
    pub bytes: u64,
    /// Age at most, in seconds.
    pub age_seconds: u64,
}

/// How a content stands; all is null before there is one.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub(crate) struct StandingBody {
    /// Which history its heads are of.
    #[schema(value_type = Option<String>)]
    pub epoch: Option<Epoch>,
    /// Its version.
    pub head: Option<Head>,
    /// Entries.
    pub len: Option<u64>,
    /// Lowest head from which a diff can be had.
    pub oldest_head: Option<Head>,
}

/// A dataset.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DatasetReport {
    /// Its name.
    pub name: String,
    /// The table that is published; null where modifications are sent in.
    pub source: Option<&'static str>,
    /// Whether reading its entries takes a token of its own.
    pub protected: bool,
    /// Where it is served with the seed's own wire.
    pub seed_listen: Option<String>,
    /// History that is kept.
    pub history: HistoryBody,
    /// How it stands.
    #[serde(flatten)]
    pub standing: StandingBody,
}

/// A replica.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ReplicaReport {
    /// Its name.
    pub name: String,
    /// Where it comes from, the one to prefer first.
    pub upstreams: Vec<String>,
    /// Name of the dataset there.
    pub dataset: String,
    /// What the upstreams speak: `highwater` or `seed`.
    pub protocol: &'static str,
    /// How it stands, in a word; null while nobody knows.
    pub state: Option<String>,
    /// History that is kept.
    pub history: HistoryBody,
    /// How the copy stands.
    #[serde(flatten)]
    pub standing: StandingBody,
}

/// Answer of `GET /v1/datasets`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DatasetList {
    /// Datasets, as configured.
    pub items: Vec<DatasetReport>,
    /// Always null: all of them are here.
    pub next: Option<String>,
}

/// Answer of `GET /v1/replicas`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ReplicaList {
    /// Replicas, as configured.
    pub items: Vec<ReplicaReport>,
    /// Always null: all of them are here.
    pub next: Option<String>,
}

/// Lists the datasets that are published here.
#[utoipa::path(get, path = "/v1/datasets", tag = "datasets", responses(
    (status = 200, description = "The datasets", body = DatasetList),
    (status = 503, description = "The database is out of reach", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn list_datasets(
    http: web::Data<Http>,
) -> Answer<web::Json<DatasetList>> {
    let settings = http.settings();
    let of = |dataset: &DatasetSettings| content(ContentKind::Dataset, &dataset.name);
    let standings = standings(&http, settings.datasets.iter().map(of).collect()).await?;
    let items = settings.datasets.iter().zip(standings);
    Ok(web::Json(DatasetList {
        items: items.map(|(of, info)| dataset_report(of, info)).collect(),
        next: None,
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
    let settings = http.settings();
    let missing = || Problem::content_not_found(content.kind, content.name.as_str());
    let dataset = dataset(&settings, content.name.as_str()).ok_or_else(missing)?;
    let standing = standings(&http, vec![content.clone()]).await?.pop();
    Ok(web::Json(dataset_report(dataset, standing.flatten())))
}

/// Lists the replicas that are kept here.
#[utoipa::path(get, path = "/v1/replicas", tag = "replicas", responses(
    (status = 200, description = "The replicas", body = ReplicaList),
    (status = 503, description = "The database is out of reach", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn list_replicas(
    http: web::Data<Http>,
) -> Answer<web::Json<ReplicaList>> {
    let settings = http.settings();
    let of = |replica: &ReplicaSettings| content(ContentKind::Replica, &replica.name);
    let standings = standings(&http, settings.replicas.iter().map(of).collect()).await?;
    let items = settings.replicas.iter().zip(standings);
    Ok(web::Json(ReplicaList {
        items: items
            .map(|(replica, info)| replica_report(&http, replica, info))
            .collect(),
        next: None,
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
    let settings = http.settings();
    let missing = || Problem::content_not_found(content.kind, content.name.as_str());
    let replica = replica(&settings, content.name.as_str()).ok_or_else(missing)?;
    let standing = standings(&http, vec![content.clone()]).await?.pop();
    Ok(web::Json(replica_report(
        &http,
        replica,
        standing.flatten(),
    )))
}

/// How each stands; `None` where there is none yet.
async fn standings(http: &Http, wanted: Vec<Content>) -> Answer<Vec<Option<Info>>> {
    let datasets = &http.state.datasets;
    let read = datasets.read(&http.runtime, |contents| async move {
        let mut standings = Vec::with_capacity(wanted.len());
        for content in &wanted {
            standings.push(match contents.info(content, None).await {
                Ok(info) => Some(info),
                Err(FetchError::Missing | FetchError::Stale(_)) => None,
                Err(error) => return Err(error),
            });
        }
        Ok(standings)
    });
    Ok(read.await?)
}

fn dataset_report(settings: &DatasetSettings, info: Option<Info>) -> DatasetReport {
    DatasetReport {
        name: settings.name.to_string(),
        source: settings.source.map(|source| source.as_str()),
        protected: settings.token.is_some(),
        seed_listen: settings.seed_listen.map(|address| address.to_string()),
        history: settings.history.clone().into(),
        standing: info.map(StandingBody::from).unwrap_or_default(),
    }
}

fn replica_report(http: &Http, settings: &ReplicaSettings, info: Option<Info>) -> ReplicaReport {
    let told = info.as_ref().and_then(|info| info.state.clone());
    let state = state_of(http, &content(ContentKind::Replica, &settings.name));
    ReplicaReport {
        name: settings.name.to_string(),
        upstreams: settings.upstreams.iter().map(ToString::to_string).collect(),
        dataset: settings.dataset.to_string(),
        protocol: match settings.protocol {
            ReplicaProtocol::Highwater => "highwater",
            ReplicaProtocol::Seed => "seed",
        },
        state: state.or(told),
        history: settings.history.clone().into(),
        standing: info.map(StandingBody::from).unwrap_or_default(),
    }
}

impl From<Info> for StandingBody {
    fn from(info: Info) -> Self {
        Self {
            epoch: Some(info.epoch),
            head: Some(info.head),
            len: Some(info.len),
            oldest_head: Some(info.oldest_head),
        }
    }
}

impl From<HistorySettings> for HistoryBody {
    fn from(history: HistorySettings) -> Self {
        Self {
            changes: history.changes,
            bytes: history.bytes,
            age_seconds: history.age.as_secs(),
        }
    }
}
