//! What the batch flow shows of itself: pages, API and metrics read this, not
//! the actors.

use crate::config::LedgerRole;
use crate::ledgers::LedgerKind;
use crate::time::Timestamp;
use serde::Serialize;

/// The batch flow at a moment, as its Scheduler last saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct BatchesView {
    /// Configured ledgers, in the configuration's order.
    pub ledgers: Vec<LedgerView>,
}

/// Position of a ledger's breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerPosition {
    /// Requests pass.
    #[default]
    Closed,
    /// Requests wait until `retry_at`.
    Open,
    /// One request is out to see whether the ledger is back.
    HalfOpen,
}

impl BreakerPosition {
    /// The word on pages and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// One ledger, as the Scheduler sees it.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct LedgerView {
    /// Name.
    pub name: String,
    /// `sawtooth` or `splinter`.
    #[schema(value_type = String)]
    pub kind: LedgerKind,
    /// Base address.
    pub url: String,
    /// `primary` or `fallback`.
    #[schema(value_type = String)]
    pub role: LedgerRole,
    /// Whether this server holds the ledger's lease and polls it.
    pub held: bool,
    /// The other server that holds it, where known.
    pub holder: Option<String>,
    /// Position of the breaker.
    pub breaker: BreakerPosition,
    /// Failures in a row.
    pub failures: u32,
    /// What failed last, while it is failing.
    pub last_error: Option<String>,
    /// When it failed last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_error_at: Option<Timestamp>,
    /// When it answered last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_success_at: Option<Timestamp>,
    /// When it is asked again, while its breaker is open.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retry_at: Option<Timestamp>,
    /// Requests open now.
    pub in_flight: usize,
    /// Batches read from the database that wait for a request.
    pub queued: usize,
    /// Services that are backed off, worst first; bounded.
    pub failing_services: Vec<ServiceTrouble>,
    /// How many services are backed off, those left out included.
    pub failing_services_total: usize,
    /// Counted since the process started.
    pub totals: LedgerTotals,
}

/// A service that is backed off.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ServiceTrouble {
    /// Service id.
    pub service_id: String,
    /// Failures in a row.
    pub failures: u32,
    /// What failed last.
    pub last_error: String,
    /// When it is asked again.
    #[schema(value_type = String, format = DateTime)]
    pub retry_at: Timestamp,
}

/// Counts of one ledger since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LedgerTotals {
    /// Requests answered with statuses.
    pub requests: u64,
    /// Requests that failed.
    pub failed_requests: u64,
    /// Ids answered.
    pub answered: u64,
    /// Batches settled.
    pub settled: u64,
    /// Ids answered with unknown.
    pub unknown: u64,
    /// Ids asked for and not answered.
    pub missing: u64,
    /// Ids answered and not asked for.
    pub unasked: u64,
    /// Outcomes that were not written, the lease being lost.
    pub fenced: u64,
}
