//! `POST /v1/control/reload` and `/v1/control/shutdown`: the process as a whole.

use super::{Controls, carried_out};
use crate::http::audit::{Act, Done};
use crate::http::body::read_json_or_nothing;
use crate::http::problem::{Answer, Problem};
use crate::http::state::Http;
use crate::watchdog::Reloaded;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Largest body.
const MOST_BYTES: usize = 4096;

/// Body of `POST /v1/control/reload`; may be left out.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReloadBody {
    /// Whether values set by control are forgotten.
    #[serde(default)]
    #[schema(required = false)]
    pub reset: bool,
}

/// Answer of `POST /v1/control/shutdown`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ShutdownBody {
    /// The server that stops, by its name in leases.
    pub server: String,
    /// How long it may take, in seconds.
    pub within_seconds: f64,
}

/// Reads the configuration again, as SIGHUP does.
#[utoipa::path(post, path = "/v1/control/reload", tag = "control", request_body = Option<ReloadBody>, responses(
    (status = 200, description = "What changed, and what of it waits for a restart", body = Reloaded),
    (status = 400, description = "Not the JSON expected", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "The control token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "No control token is configured", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The server was started without a configuration file", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body is not application/json", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "The configuration cannot be used; nothing was changed", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "Too many wrong tokens", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The server is shutting down, or busy; nothing was changed", body = Problem, content_type = "application/problem+json"),
    (status = 504, description = "There was no outcome in time", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn reload(
    http: web::Data<Http>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    let act = Act::of(&request, "reload");
    let read = read_json_or_nothing::<ReloadBody>(&request, payload, MOST_BYTES).await;
    let reset = match read {
        Ok(body) => body.unwrap_or_default().reset,
        Err(refusal) => return Err(http.refuse(act, refusal).await),
    };
    let act = act.with(json!({ "reset": reset }));
    let controls = Controls::of(&http);
    let acted = http
        .act(act, async move {
            let done = carried_out(controls.query()?.reload(reset))
                .await?
                .map_err(|error| Problem::order(error, Problem::invalid_configuration))?;
            let details = json!({
                "reset": reset,
                "changed": done.changed,
                "needs_restart": done.needs_restart,
            });
            Ok(Done {
                value: done,
                details: Some(details),
            })
        })
        .await?;
    Ok(acted.respond(StatusCode::OK))
}

/// Drains the server and ends the process, as SIGTERM does.
#[utoipa::path(post, path = "/v1/control/shutdown", tag = "control", responses(
    (status = 202, description = "It drains, and ends", body = ShutdownBody),
    (status = 401, description = "The control token is needed", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "No control token is configured", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "Too many wrong tokens", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "It is shutting down already, or busy", body = Problem, content_type = "application/problem+json"),
    (status = 504, description = "There was no outcome in time", body = Problem, content_type = "application/problem+json"),
), security(("token" = [])))]
pub(in crate::http) async fn shutdown(
    http: web::Data<Http>,
    request: HttpRequest,
) -> Answer<HttpResponse> {
    let act = Act::of(&request, "shutdown");
    let controls = Controls::of(&http);
    let body = ShutdownBody {
        server: http.state.holder.to_string(),
        within_seconds: http.settings().server.shutdown_timeout.as_secs_f64(),
    };
    let acted = http
        .act(act, async move {
            carried_out(controls.query()?.shut_down())
                .await?
                .map_err(|error| Problem::order(error, Problem::invalid_configuration))?;
            Ok(body.into())
        })
        .await?;
    Ok(acted.respond(StatusCode::ACCEPTED))
}
