//! `GET /v1/states`: how the soft state of services is kept.

use crate::http::state::Http;
use crate::http::states::{self, StateList};
use actix_web::web;

/// Soft state of services: when it was saved, why not, and what was set aside.
#[utoipa::path(get, path = "/v1/states", tag = "status", responses(
    (status = 200, description = "All states", body = StateList),
))]
pub(in crate::http) async fn list_states(http: web::Data<Http>) -> web::Json<StateList> {
    web::Json(states::list(&http).await)
}
