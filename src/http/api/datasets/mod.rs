//! `/v1/datasets` and `/v1/replicas`: publishing, and what followers read.

mod list;
mod orders;
mod publish;
mod query;
mod read;
mod replicas;

pub(in crate::http) use list::{
    __path_list_datasets, __path_list_replicas, __path_show_dataset, __path_show_replica,
    find_dataset, find_replica, list_datasets, list_replicas, show_dataset, show_replica,
};
pub(in crate::http) use orders::{
    __path_bootstrap_replica, __path_verify_replica, bootstrap_replica, verify_replica,
};
pub(in crate::http) use publish::{__path_publish, publish};
pub(in crate::http) use read::{
    __path_digests, __path_entry, __path_fetch, __path_info, __path_watch, digests, entry, fetch,
    info, watch,
};
pub(in crate::http) use replicas::{
    __path_replica_digests, __path_replica_entry, __path_replica_fetch, __path_replica_info,
    __path_replica_watch, replica_digests, replica_entry, replica_fetch, replica_info,
    replica_watch,
};

use crate::config::{DatasetSettings, ReplicaSettings, SecretOf, Settings};
use crate::flows::replicas::{Content, ContentKind};
use crate::http::auth::{Access, authorize, opens_content};
use crate::http::problem::{Answer, Problem};
use crate::http::state::Http;
use actix_web::HttpRequest;

/// What a request is for, where it may be read.
///
/// A dataset with a token of its own is read with that. So is a replica whose
/// upstreams ask for a token, where this server has no read token: what is
/// guarded there is not open here. All else is read as other things are.
fn open(http: &Http, request: &HttpRequest, kind: ContentKind) -> Answer<Content> {
    let settings = http.settings();
    let asked = request.match_info().get("name").unwrap_or_default();
    let found = match kind {
        ContentKind::Dataset => {
            dataset(&settings, asked).map(|found| (found.name.clone(), found.token.as_ref()))
        }
        ContentKind::Replica => {
            replica(&settings, asked).map(|found| (found.name.clone(), found.token.as_ref()))
        }
    };
    let own = found.as_ref().and_then(|(_, token)| *token);
    let reading = kind == ContentKind::Replica;
    let by_own = own.filter(|_| !(reading && settings.http.read_token.is_some()));
    let refused = match by_own {
        Some(SecretOf(token)) => opens_content(&settings.http, request, token),
        None => authorize(&settings.http, request, Access::Read),
    };
    if let Err(refused) = refused {
        if refused == crate::http::auth::Refused::Wrong {
            let token = if by_own.is_some() {
                kind.as_str()
            } else {
                "read"
            };
            http.wrong_token(request, token)?;
        }
        // The same words whether there is such a thing or not, and whatever token
        // it takes: who may not read does not learn what there is.
        let shown: String = asked.chars().filter(|c| !c.is_control()).take(64).collect();
        let word = kind.as_str();
        return Err(Problem::unauthorized(format!(
            "send Authorization: Bearer with the token of {word} \"{shown}\", or with the read token where it has none of its own"
        ))
        .into());
    }
    let Some((name, _)) = found else {
        return Err(Problem::content_not_found(kind, asked).into());
    };
    Ok(Content { kind, name })
}

/// Whether whoever may look at pages may see its entries: those that take a token
/// of their own are read with that, as [`open`] has it, and of what is not
/// configured nobody knows whether they did.
pub(in crate::http) fn is_shown(settings: &Settings, kind: ContentKind, name: &str) -> bool {
    match kind {
        ContentKind::Dataset => dataset(settings, name).is_some_and(|found| found.token.is_none()),
        ContentKind::Replica => replica(settings, name)
            .is_some_and(|found| found.token.is_none() || settings.http.read_token.is_some()),
    }
}

fn dataset<'s>(settings: &'s Settings, name: &str) -> Option<&'s DatasetSettings> {
    let mut datasets = settings.datasets.iter();
    datasets.find(|dataset| dataset.name.as_str() == name)
}

fn replica<'s>(settings: &'s Settings, name: &str) -> Option<&'s ReplicaSettings> {
    let mut replicas = settings.replicas.iter();
    replicas.find(|replica| replica.name.as_str() == name)
}
