//! `GET /v1/ledgers` and `GET /v1/services`: short lists, never paged.

use crate::http::overview::{LedgerReport, Overview};
use crate::http::state::Http;
use crate::http::summary::summary;
use crate::store::ServiceCount;
use crate::time::Timestamp;
use crate::watchdog::{LostThread, ServiceStatus, WatchdogStatus};
use actix_web::web;
use serde::Serialize;

/// Answer of `GET /v1/ledgers`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct LedgerList {
    /// Configured ledgers in the configuration's order, then those that are
    /// only in the database.
    pub items: Vec<LedgerReport>,
    /// Always null: the list is never paged.
    pub next: Option<String>,
    /// Ledgers that are only in the database and left out, there being too many.
    pub more_ledgers: usize,
    /// Services of Splinter ledgers with so many batches outstanding that the
    /// oldest may be forgotten by the ledger; most first, at most 50.
    pub at_risk: Vec<ServiceCount>,
    /// How many there are of these.
    pub at_risk_total: usize,
    /// When the counts were read.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub read_at: Option<Timestamp>,
    /// Why newer counts could not be read; null when they are new.
    pub problem: Option<String>,
}

/// Answer of `GET /v1/services`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ServiceList {
    /// The watchdog's services.
    pub items: Vec<ServiceStatus>,
    /// Always null: the list is whole.
    pub next: Option<String>,
    /// Threads that a service blocks, and that were given up for lost.
    pub lost_threads: Vec<LostThread>,
    /// Most threads that may be lost; a service that blocks one more has failed.
    pub lost_threads_limit: usize,
    /// Threads that were lost and came back.
    pub recovered_threads: u64,
}

/// Ledgers: how they fare and what waits for them.
#[utoipa::path(get, path = "/v1/ledgers", tag = "status", responses(
    (status = 200, description = "All ledgers", body = LedgerList),
))]
pub(in crate::http) async fn list_ledgers(http: web::Data<Http>) -> web::Json<LedgerList> {
    let figures = summary(&http).await;
    let overview = Overview::gather(&http.settings(), &http.view(), &figures);
    web::Json(LedgerList {
        items: overview.ledgers,
        next: None,
        more_ledgers: overview.more_ledgers.ledgers,
        at_risk: overview.at_risk,
        at_risk_total: overview.at_risk_total,
        read_at: overview.read_at,
        problem: overview.problem,
    })
}

/// Services of the watchdog: state, restarts and intercoms.
#[utoipa::path(get, path = "/v1/services", tag = "status", responses(
    (status = 200, description = "All services", body = ServiceList),
))]
pub(in crate::http) async fn list_services(http: web::Data<Http>) -> web::Json<ServiceList> {
    web::Json(service_list((http.state.services)()))
}

/// The list, of what the watchdog tells.
pub(super) fn service_list(watchdog: WatchdogStatus) -> ServiceList {
    ServiceList {
        items: watchdog.services,
        next: None,
        lost_threads: watchdog.lost_threads,
        lost_threads_limit: watchdog.lost_threads_limit,
        recovered_threads: watchdog.recovered_threads,
    }
}
