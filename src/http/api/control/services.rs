//! `/v1/control/services`: looks at services, starts, stops and restarts them.

use super::Controls;
use crate::http::api::overview::{ServiceList, service_list};
use crate::http::api::refusals::OperatorRefusals;
use crate::http::audit::{Act, Done};
use crate::http::problem::{Answer, Problem};
use crate::http::state::Http;
use crate::watchdog::{LookupError, ServiceStatus, WatchdogQuery};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

/// Most characters taken of a name: it is repeated in answers.
const NAME_CHARS: usize = 64;

/// Services of the watchdog: state, restarts and intercoms.
#[utoipa::path(get, path = "/v1/control/services", tag = "control", responses(
    (status = 200, description = "All services", body = ServiceList),
    OperatorRefusals,
), security(("token" = [])))]
pub(in crate::http) async fn list(http: web::Data<Http>) -> web::Json<ServiceList> {
    web::Json(service_list(http.state.control.watchdog().status()))
}

/// One service.
#[utoipa::path(get, path = "/v1/control/services/{name}", tag = "control",
    params(("name" = String, Path, description = "Name of the service")),
    responses(
        (status = 200, description = "The service", body = ServiceStatus),
        OperatorRefusals,
        (status = 404, description = "There is no such service; those there are are named", body = Problem, content_type = "application/problem+json"),
    ), security(("token" = []))
)]
pub(in crate::http) async fn show(
    http: web::Data<Http>,
    name: web::Path<String>,
) -> Answer<web::Json<ServiceStatus>> {
    match http.state.control.status(&shortened(&name)) {
        Ok(status) => Ok(web::Json(status)),
        Err(error) => Err(Problem::lookup(&error).into()),
    }
}

/// Starts a service that is stopped or failed; its former ends are forgotten.
#[utoipa::path(post, path = "/v1/control/services/{name}/start", tag = "control",
    params(("name" = String, Path, description = "Name of the service")),
    responses(
        (status = 202, description = "Told to start; the service as it was right after", body = ServiceStatus),
        OperatorRefusals,
        (status = 404, description = "There is no such service; those there are are named", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The server is shutting down", body = Problem, content_type = "application/problem+json"),
    ), security(("token" = []))
)]
pub(in crate::http) async fn start(
    http: web::Data<Http>,
    request: HttpRequest,
    name: web::Path<String>,
) -> Answer<HttpResponse> {
    tell(
        &http,
        &request,
        &name,
        "services.start",
        WatchdogQuery::start,
    )
    .await
}

/// Stops a service, until it is started or the process ends.
#[utoipa::path(post, path = "/v1/control/services/{name}/stop", tag = "control",
    params(("name" = String, Path, description = "Name of the service")),
    responses(
        (status = 202, description = "Told to stop; the service as it was right after", body = ServiceStatus),
        OperatorRefusals,
        (status = 404, description = "There is no such service; those there are are named", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "That service cannot be stopped", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The server is shutting down", body = Problem, content_type = "application/problem+json"),
    ), security(("token" = []))
)]
pub(in crate::http) async fn stop(
    http: web::Data<Http>,
    request: HttpRequest,
    name: web::Path<String>,
) -> Answer<HttpResponse> {
    tell(&http, &request, &name, "services.stop", WatchdogQuery::stop).await
}

/// Stops a service and builds it again; its former ends are forgotten.
#[utoipa::path(post, path = "/v1/control/services/{name}/restart", tag = "control",
    params(("name" = String, Path, description = "Name of the service")),
    responses(
        (status = 202, description = "Told to restart; the service as it was right after", body = ServiceStatus),
        OperatorRefusals,
        (status = 404, description = "There is no such service; those there are are named", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The server is shutting down", body = Problem, content_type = "application/problem+json"),
    ), security(("token" = []))
)]
pub(in crate::http) async fn restart(
    http: web::Data<Http>,
    request: HttpRequest,
    name: web::Path<String>,
) -> Answer<HttpResponse> {
    tell(
        &http,
        &request,
        &name,
        "services.restart",
        WatchdogQuery::restart,
    )
    .await
}

async fn tell(
    http: &Http,
    request: &HttpRequest,
    name: &str,
    action: &'static str,
    order: fn(&WatchdogQuery, &str) -> Result<(), LookupError>,
) -> Answer<HttpResponse> {
    let name = shortened(name);
    let act = Act::of(request, action).on(name.clone());
    let controls = Controls::of(http);
    let acted = http
        .act(act, async move {
            let query = controls.query()?;
            order(query, &name).map_err(|error| Problem::lookup(&error))?;
            let status = query
                .status(&name)
                .map_err(|error| Problem::lookup(&error))?;
            let details = json!({ "state": status.state, "generation": status.generation });
            Ok(Done {
                value: status,
                details: Some(details),
            })
        })
        .await?;
    Ok(acted.respond(StatusCode::ACCEPTED))
}

fn shortened(name: &str) -> String {
    name.chars().take(NAME_CHARS).collect()
}
