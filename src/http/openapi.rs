//! `/openapi.json`: the API, described from the code that answers.

use super::api;
use super::{health, metrics};
use actix_web::HttpResponse;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Highwater",
        description = "Keeps an application's database level with ledgers, sites, events and other nodes' data. Errors are \
            application/problem+json (RFC 9457); times are RFC 3339 in UTC; lists are \
            {\"items\":[…],\"next\":cursor or null}."
    ),
    paths(
        api::batches::list_batches,
        api::batches::show_batch,
        api::intake::track,
        api::intake::poll_now,
        api::intake::revive,
        api::hooks::hook,
        api::hooks::hook_with_secret,
        api::known::add_known,
        api::subscriptions::list_subscriptions,
        api::subscriptions::show_subscription,
        api::subscriptions::list_events,
        api::subscriptions::show_event,
        api::subscriptions::retry,
        api::subscriptions::skip,
        api::subscriptions::pause,
        api::subscriptions::resume,
        api::subscriptions::replay,
        api::datasets::list_datasets,
        api::datasets::show_dataset,
        api::datasets::publish,
        api::datasets::info,
        api::datasets::fetch,
        api::datasets::watch,
        api::datasets::digests,
        api::datasets::entry,
        api::datasets::list_replicas,
        api::datasets::show_replica,
        api::datasets::verify_replica,
        api::datasets::bootstrap_replica,
        api::datasets::replica_info,
        api::datasets::replica_fetch,
        api::datasets::replica_watch,
        api::datasets::replica_digests,
        api::datasets::replica_entry,
        api::overview::list_ledgers,
        api::overview::list_services,
        api::jobs::list_jobs,
        api::jobs::show_job,
        api::control::services::list,
        api::control::services::show,
        api::control::services::start,
        api::control::services::stop,
        api::control::services::restart,
        api::control::settings::list_settings,
        api::control::settings::change_settings,
        api::control::process::reload,
        api::control::process::shutdown,
        api::control::audit::list_audit,
        api::states::list_states,
        api::resources::list_resources,
        api::sites::list_sites,
        api::sites::show_site,
        api::sites::take_sites,
        api::sites::remove_site,
        api::sites::enable_site,
        api::sites::disable_site,
        api::sites::revive_site,
        api::sites::revive_sites,
        health::livez,
        health::readyz,
        metrics::metrics,
        openapi_json,
    ),
    tags(
        (name = "batches", description = "What applications submitted to ledgers"),
        (name = "sites", description = "What is visited, by which job, and when"),
        (name = "events", description = "What ledgers tell of, and what makes it relevant"),
        (name = "datasets", description = "What this node publishes for others to follow"),
        (name = "replicas", description = "Copies of what other nodes publish, to be followed in their turn"),
        (name = "status", description = "What is going on"),
        (name = "control", description = "What an operator with the control token may do"),
        (name = "health", description = "For probes and monitoring"),
    )
)]
struct Document;

/// The whole document.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "Read, intake or control token, as configured; the control token is accepted \
             wherever another is. A wrong one is answered 401, too many of them 429.",
        ))
        .build();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    document
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "health", responses(
    (status = 200, description = "This document", body = Object),
))]
pub(super) async fn openapi_json() -> HttpResponse {
    HttpResponse::Ok().json(document())
}
