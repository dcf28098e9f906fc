//! `POST /v1/sites`: sites that applications send in.

use super::{MOST_SITES, sites_changed, taking};
use crate::config::Settings;
use crate::flows::sites::{AppName, SiteEntry, audited};
use crate::http::audit::{Act, Done};
use crate::http::auth::{Access, Refused, authorize};
use crate::http::body::read_json;
use crate::http::problem::{Answer, FieldError, MOST_ERRORS, Problem};
use crate::http::state::{Http, HttpState};
use crate::store::{Imported, NewSite};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Apps without a job that are named.
const MOST_APPS: usize = 20;

/// Body of `POST /v1/sites`: either `sites`, or the fields of one site.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SitesBody {
    /// The sites, 1 to 10,000.
    #[schema(min_items = 1, max_items = 10_000)]
    pub sites: Option<Vec<SiteEntry>>,
    /// As in `sites`.
    pub site_id: Option<String>,
    /// As in `sites`.
    pub app_id: Option<String>,
    /// As in `sites`.
    pub url: Option<String>,
    /// As in `sites`.
    #[schema(value_type = Option<u16>, minimum = 0, maximum = 10_000)]
    pub batch_code: Option<i64>,
    /// As in `sites`.
    pub enabled: Option<bool>,
    /// As in `sites`.
    #[schema(value_type = Option<Object>)]
    pub labels: Option<Map<String, Value>>,
}

/// Answer of `POST /v1/sites`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct SitesTaken {
    /// Sites that are new.
    pub added: usize,
    /// Sites that were known, and have another address, other labels or
    /// another flag now.
    pub changed: usize,
    /// Sites that were known and are as they were.
    pub unchanged: usize,
    /// Sites that are known with another app or another batch code, and stay
    /// as they are.
    pub refused: Vec<RefusedBody>,
    /// Known sites that were to be enabled or disabled and stay as they are,
    /// by id: that takes the control token. All else of them was taken.
    pub enabled_kept: Vec<String>,
    /// Apps of these sites that have no job in the configuration, at most 20:
    /// their sites are kept and not visited.
    pub apps_without_jobs: Vec<String>,
}

/// A site that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct RefusedBody {
    /// Its place among those sent, from 0.
    pub index: usize,
    /// Its id.
    pub site_id: String,
    /// Why.
    pub reason: String,
}

/// Takes sites in. Idempotent: a known site gets the address and labels sent,
/// and keeps its batch code. Whether it is enabled stays as it is, unless
/// `enabled` is sent with the control token: that is an operator's action, and
/// recorded as one.
#[utoipa::path(post, path = "/v1/sites", tag = "sites", request_body = SitesBody, responses(
    (status = 200, description = "Nothing changed: all are as they were, or refused", body = SitesTaken),
    (status = 202, description = "Sites were added or changed; they are visited from now on", body = SitesTaken),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The intake token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not application/json", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "A field has the wrong shape; nothing was stored", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is out of reach, or the server is stopping", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn take_sites(
    http: web::Data<Http>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    taking(&http)?;
    let settings = http.settings();
    let body: SitesBody = read_json(&request, payload, settings.http.max_body_bytes).await?;
    let sites = check(body)?;
    let sent: Vec<(String, AppName)> = sites
        .iter()
        .map(|site| (site.site_id.clone(), site.app_id.clone()))
        .collect();
    let flags = sites.iter().any(|site| site.enabled.is_some());
    if flags {
        match authorize(&settings.http, &request, Access::Control) {
            Ok(()) => return take_as_operator(&http, &request, sites, sent).await,
            // A token that opens the intake is right there; where none is
            // wanted, one that is shown was meant for control, or is a guess.
            Err(refused @ Refused::Wrong) if settings.http.intake_token.is_none() => {
                http.wrong_token(&request, Access::Control.token())?;
                return Err(refused.problem(Access::Control).into());
            }
            Err(_) => {}
        }
    }
    let imported = http
        .database(|store| async move { store.take_sites(sites).await })
        .await?;
    let status = told(&http.state, &imported, &[]);
    Ok(HttpResponse::build(status).json(answer(imported, &sent, &settings)))
}

/// Takes sites in with the word of an operator, and records it.
async fn take_as_operator(
    http: &Http,
    request: &HttpRequest,
    sites: Vec<NewSite>,
    sent: Vec<(String, AppName)>,
) -> Answer<HttpResponse> {
    let ids: Vec<String> = sent.iter().map(|(id, _)| id.clone()).collect();
    let off: Vec<String> = sites
        .iter()
        .filter(|site| site.enabled == Some(false))
        .map(|site| site.site_id.clone())
        .collect();
    let (target, mut details) = audited(&ids);
    let act = Act::of(request, "sites.import").on(target);
    let (state, settings) = (http.state.clone(), http.settings());
    let acted = http
        .act(act.with(details.clone()), async move {
            let imported = state.store.import_sites(sites).await?;
            let status = told(&state, &imported, &off);
            details["added"] = imported.added.into();
            details["changed"] = imported.changed.into();
            details["refused"] = imported.refused.len().into();
            Ok(Done {
                value: (answer(imported, &sent, &settings), status),
                details: Some(details),
            })
        })
        .await?;
    let status = acted.value.1;
    Ok(acted.map(|(answer, _)| answer).respond(status))
}

/// Has new sites visited, and those that are `off` no more; answers the status
/// of the answer.
fn told(state: &HttpState, imported: &Imported, off: &[String]) -> StatusCode {
    if imported.added + imported.changed == 0 {
        return StatusCode::OK;
    }
    (state.sites_left)(off);
    sites_changed(state);
    StatusCode::ACCEPTED
}

fn answer(imported: Imported, sent: &[(String, AppName)], settings: &Settings) -> SitesTaken {
    let id = |index: usize| {
        sent.get(index)
            .map_or_else(String::new, |(id, _)| id.clone())
    };
    let refused: BTreeSet<usize> = imported.refused.iter().map(|one| one.index).collect();
    let taken = sent.iter().enumerate();
    // What was refused is of another app, if the name is right at all.
    let apps: BTreeSet<&AppName> = taken
        .filter(|(index, _)| !refused.contains(index))
        .map(|(_, (_, app))| app)
        .collect();
    let visited = |app: &AppName| settings.jobs.iter().any(|job| job.key.app == *app);
    SitesTaken {
        added: imported.added,
        changed: imported.changed,
        unchanged: imported.unchanged,
        enabled_kept: imported.flags_kept.into_iter().map(id).collect(),
        refused: imported
            .refused
            .into_iter()
            .map(|refused| RefusedBody {
                index: refused.index,
                site_id: id(refused.index),
                reason: refused.reason,
            })
            .collect(),
        apps_without_jobs: apps
            .into_iter()
            .filter(|app| !visited(app))
            .take(MOST_APPS)
            .map(|app| app.as_str().to_owned())
            .collect(),
    }
}

/// The sites of a body, all of the right shape.
fn check(body: SitesBody) -> Answer<Vec<NewSite>> {
    let one = |field: &str, message: &str| -> Answer<Vec<NewSite>> {
        Err(Problem::invalid_fields(vec![FieldError::new(field, message)], 1).into())
    };
    let (entries, many) = match body {
        SitesBody {
            sites: Some(sites),
            site_id: None,
            app_id: None,
            url: None,
            batch_code: None,
            enabled: None,
            labels: None,
        } => (sites, true),
        SitesBody { sites: Some(_), .. } => {
            return one("sites", "give either sites, or the fields of one site");
        }
        SitesBody {
            site_id: Some(site_id),
            app_id,
            url: Some(url),
            batch_code,
            enabled,
            labels,
            ..
        } => {
            let entry = SiteEntry {
                site_id,
                app_id,
                url,
                batch_code,
                enabled,
                labels,
            };
            (vec![entry], false)
        }
        SitesBody {
            site_id: Some(_), ..
        } => return one("url", "missing: where is the site?"),
        _ => return one("site_id", "give either sites, or site_id, app_id and url"),
    };
    if entries.is_empty() {
        return one("sites", "empty; name at least one site");
    }
    if entries.len() > MOST_SITES {
        let message = format!("{} sites; send at most {MOST_SITES} a call", entries.len());
        return one("sites", &message);
    }
    let mut sites = Vec::with_capacity(entries.len());
    let (mut errors, mut found) = (Vec::new(), 0);
    for (index, entry) in entries.into_iter().enumerate() {
        match entry.check(None) {
            Ok(site) => sites.push(site),
            Err(mistakes) => {
                for (field, message) in mistakes {
                    found += 1;
                    if errors.len() < MOST_ERRORS {
                        let path = if many {
                            format!("sites[{index}].{field}")
                        } else {
                            field
                        };
                        errors.push(FieldError::new(path, message));
                    }
                }
            }
        }
    }
    if found == 0 {
        Ok(sites)
    } else {
        Err(Problem::invalid_fields(errors, found).into())
    }
}
