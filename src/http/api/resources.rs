//! `GET /v1/resources`: who has and who waits for how much.

use crate::http::state::Http;
use crate::watchdog::ResourceStatus;
use actix_web::web;
use serde::Serialize;

/// Answer of `GET /v1/resources`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ResourceList {
    /// What is shared out among owners: fetch slots (`fetch`) and connections to
    /// the database (`database`, and on SQLite `database_writer`).
    pub items: Vec<ResourceStatus>,
    /// Always null: the list is whole.
    pub next: Option<String>,
}

/// Resources: slots and their owners.
#[utoipa::path(get, path = "/v1/resources", tag = "status", responses(
    (status = 200, description = "All resources", body = ResourceList),
))]
pub(in crate::http) async fn list_resources(http: web::Data<Http>) -> web::Json<ResourceList> {
    web::Json(ResourceList {
        items: (http.state.resources)(),
        next: None,
    })
}
