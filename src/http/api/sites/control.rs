//! What operators do with sites: remove, enable, disable, revive.

use super::{MOST_SITES, site_not_found, sites_changed, taking};
use crate::flows::sites::{AppName, UnknownName, audited, check_named};
use crate::http::api::batches::check_text;
use crate::http::api::refusals::{OperatorRefusals, SiteRefusals, StoreRefusals};
use crate::http::audit::{Act, Done};
use crate::http::body::read_json;
use crate::http::problem::{Answer, FieldError, MOST_ERRORS, Problem};
use crate::http::state::Http;
use crate::store::{Revival, Revived, Store, StoreError};
use crate::time::Timestamp;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::future::Future;

/// Body of `POST /v1/sites/revive`: sites that meet each condition given, of
/// which there has to be one.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReviveSitesBody {
    /// Only these, 1 to 10,000.
    #[schema(min_items = 1, max_items = 10_000)]
    pub site_ids: Option<Vec<String>>,
    /// Only of this app.
    pub app_id: Option<String>,
    /// Only with the job of this name.
    pub job_name: Option<String>,
}

/// Answer of what is done to one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct SiteChanged {
    /// The site.
    pub site_id: String,
}

/// Answer of reviving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct SitesRevived {
    /// Sites that were given up, and are due now; each once.
    pub sites: usize,
    /// Jobs that they are due for: one that two jobs had given up counts twice.
    pub jobs: usize,
}

impl From<Revived> for SitesRevived {
    fn from(revived: Revived) -> Self {
        let Revived { sites, jobs } = revived;
        Self { sites, jobs }
    }
}

/// Removes a site, with how it stood with jobs and what was learned.
#[utoipa::path(delete, path = "/v1/sites/{site_id}", tag = "sites",
    params(("site_id" = String, Path, description = "Site id")),
    responses(
        (status = 200, description = "Removed", body = SiteChanged),
        OperatorRefusals, SiteRefusals,
    ), security(("token" = []))
)]
pub(in crate::http) async fn remove_site(
    http: web::Data<Http>,
    request: HttpRequest,
    site_id: web::Path<String>,
) -> Answer<HttpResponse> {
    let act = Act::of(&request, "sites.remove");
    change(
        &http,
        act,
        &site_id,
        Change::Leaves,
        |store, ids| async move { store.remove_sites(&ids).await },
    )
    .await
}

/// Has a site visited again that was disabled.
#[utoipa::path(post, path = "/v1/sites/{site_id}/enable", tag = "sites",
    params(("site_id" = String, Path, description = "Site id")),
    responses(
        (status = 200, description = "It is enabled", body = SiteChanged),
        OperatorRefusals, SiteRefusals,
    ), security(("token" = []))
)]
pub(in crate::http) async fn enable_site(
    http: web::Data<Http>,
    request: HttpRequest,
    site_id: web::Path<String>,
) -> Answer<HttpResponse> {
    let act = Act::of(&request, "sites.enable");
    change(
        &http,
        act,
        &site_id,
        Change::Comes,
        |store, ids| async move { store.enable_sites(&ids).await },
    )
    .await
}

/// Has a site left alone until it is enabled; how it stands is kept.
#[utoipa::path(post, path = "/v1/sites/{site_id}/disable", tag = "sites",
    params(("site_id" = String, Path, description = "Site id")),
    responses(
        (status = 200, description = "It is disabled", body = SiteChanged),
        OperatorRefusals, SiteRefusals,
    ), security(("token" = []))
)]
pub(in crate::http) async fn disable_site(
    http: web::Data<Http>,
    request: HttpRequest,
    site_id: web::Path<String>,
) -> Answer<HttpResponse> {
    let act = Act::of(&request, "sites.disable");
    change(
        &http,
        act,
        &site_id,
        Change::Leaves,
        |store, ids| async move { store.disable_sites(&ids).await },
    )
    .await
}

/// Has a site visited again by all jobs that gave it up: at level 0, at once.
#[utoipa::path(post, path = "/v1/sites/{site_id}/revive", tag = "sites",
    params(("site_id" = String, Path, description = "Site id")),
    responses(
        (status = 200, description = "With how many jobs it was revived: with none, where none had given it up", body = SitesRevived),
        OperatorRefusals, SiteRefusals,
    ), security(("token" = []))
)]
pub(in crate::http) async fn revive_site(
    http: web::Data<Http>,
    request: HttpRequest,
    site_id: web::Path<String>,
) -> Answer<HttpResponse> {
    let act = Act::of(&request, "sites.revive").on(shortened(&site_id));
    if let Err(refusal) = named(&http, &site_id) {
        return Err(http.refuse(act, refusal).await);
    }
    let ids = vec![site_id.into_inner()];
    let state = http.state.clone();
    let acted = http
        .act(act, async move {
            if state.store.known_sites(&ids).await?.is_empty() {
                return Err(site_not_found(&ids[0]));
            }
            let which = Revival {
                site_ids: Some(ids),
                ..Revival::default()
            };
            let revived = state.store.revive_sites(&which, Timestamp::now()).await?;
            sites_changed(&state);
            Ok(Done {
                value: SitesRevived::from(revived),
                details: Some(json!({ "revived": revived.jobs })),
            })
        })
        .await?;
    Ok(acted.respond(StatusCode::OK))
}

/// Has sites visited again that were given up: at level 0, at once.
#[utoipa::path(post, path = "/v1/sites/revive", tag = "sites", request_body = ReviveSitesBody, responses(
    (status = 200, description = "How many were revived", body = SitesRevived),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    OperatorRefusals, StoreRefusals,
    (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not application/json", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "No condition is given, one has the wrong shape, or names an app or a job that nothing has", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn revive_sites(
    http: web::Data<Http>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    let act = Act::of(&request, "sites.revive");
    let limit = http.settings().http.max_body_bytes;
    let read = match taking(&http) {
        Ok(()) => read_json(&request, payload, limit).await,
        Err(refusal) => Err(refusal),
    };
    let (which, details) = match read.and_then(judge) {
        Ok(judged) => judged,
        Err(refusal) => return Err(http.refuse(act, refusal).await),
    };
    let target = target(&which);
    let (state, settings) = (http.state.clone(), http.settings());
    let acted = http
        .act(act.on(target).with(details.clone()), async move {
            let (app, job) = (which.app.as_deref(), which.job.as_deref());
            let named = check_named(&state.store, &settings, app, job).await?;
            if let Err(UnknownName { field, message }) = named {
                let field = if field == "app" { "app_id" } else { "job_name" };
                return Err(Problem::invalid_fields(
                    vec![FieldError::new(field, message)],
                    1,
                ));
            }
            let revived = state.store.revive_sites(&which, Timestamp::now()).await?;
            sites_changed(&state);
            let mut details = details;
            if let Value::Object(details) = &mut details {
                details.insert("revived".to_owned(), revived.jobs.into());
                details.insert("revived_sites".to_owned(), revived.sites.into());
            }
            Ok(Done {
                value: SitesRevived::from(revived),
                details: Some(details),
            })
        })
        .await?;
    Ok(acted.respond(StatusCode::OK))
}

/// What was to be revived, for the record: the sites that were named, else the
/// app, else the job.
fn target(which: &Revival) -> String {
    match &which.site_ids {
        Some(ids) => audited(ids).0,
        None => which
            .app
            .clone()
            .or_else(|| which.job.clone())
            .unwrap_or_default(),
    }
}

/// What is to be revived, and what is recorded of it.
fn judge(body: ReviveSitesBody) -> Answer<(Revival, Value)> {
    let (mut errors, mut found) = (Vec::new(), 0);
    let mut wrong = |field: String, message: String| {
        found += 1;
        if errors.len() < MOST_ERRORS {
            errors.push(FieldError::new(field, message));
        }
    };
    let app = body.app_id.as_deref().and_then(|text| {
        AppName::parse(text)
            .map_err(|problem| wrong("app_id".to_owned(), problem.to_string()))
            .ok()
    });
    if let Some(Err(message)) = body.job_name.as_deref().map(check_text) {
        wrong("job_name".to_owned(), message.to_owned());
    }
    let ids = body.site_ids.as_deref().unwrap_or_default();
    if body.site_ids.is_some() && !(1..=MOST_SITES).contains(&ids.len()) {
        let message = format!("{} sites; name 1 to {MOST_SITES} a call", ids.len());
        wrong("site_ids".to_owned(), message);
    }
    for (index, id) in ids.iter().enumerate() {
        if let Err(message) = check_text(id) {
            wrong(format!("site_ids[{index}]"), message.to_owned());
        }
    }
    if body.site_ids.is_none() && body.app_id.is_none() && body.job_name.is_none() {
        let message = "give site_ids, app_id or job_name: all that were given up are too many";
        wrong("app_id".to_owned(), message.to_owned());
    }
    if found > 0 {
        return Err(Problem::invalid_fields(errors, found).into());
    }
    let mut details = json!({ "app_id": body.app_id, "job_name": body.job_name });
    if let Some(ids) = &body.site_ids {
        let (_, named) = audited(ids);
        details["sites"] = named["sites"].clone();
        details["site_ids"] = named["site_ids"].clone();
    }
    let which = Revival {
        site_ids: body.site_ids,
        app: app.map(|app| app.as_str().to_owned()),
        job: body.job_name,
    };
    Ok((which, details))
}

/// What a change means for visits.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// The site may be due now.
    Comes,
    /// It is not to be visited any more.
    Leaves,
}

/// Does something to one site and records it.
async fn change<F>(
    http: &Http,
    act: Act,
    site_id: &str,
    what: Change,
    work: impl FnOnce(Store, Vec<String>) -> F + Send + 'static,
) -> Answer<HttpResponse>
where
    F: Future<Output = Result<BTreeSet<String>, StoreError>> + Send + 'static,
{
    let act = act.on(shortened(site_id));
    if let Err(refusal) = named(http, site_id) {
        return Err(http.refuse(act, refusal).await);
    }
    let site_id = site_id.to_owned();
    let state = http.state.clone();
    let acted = http
        .act(act, async move {
            let found = work(state.store.clone(), vec![site_id.clone()]).await?;
            if found.is_empty() {
                return Err(site_not_found(&site_id));
            }
            match what {
                Change::Comes => sites_changed(&state),
                Change::Leaves => (state.sites_left)(std::slice::from_ref(&site_id)),
            }
            Ok(Done::from(SiteChanged { site_id }))
        })
        .await?;
    Ok(acted.respond(StatusCode::OK))
}

/// Refuses while the server is stopping, and what no site can be called.
fn named(http: &Http, site_id: &str) -> Answer<()> {
    taking(http)?;
    check_text(site_id).map_err(|_| site_not_found(site_id).into())
}

fn shortened(site_id: &str) -> String {
    site_id.chars().take(256).collect()
}
