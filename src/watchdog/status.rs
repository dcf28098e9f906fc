//! What is known of a service, for pages, API and metrics.

use crate::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// Where a service stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Known, not started yet.
    #[default]
    Registered,
    /// Built; no progress seen yet.
    Starting,
    /// Progress was seen.
    Running,
    /// Told to stop.
    Stopping,
    /// Ended as told.
    Stopped,
    /// Ended unasked; waits to be built again.
    Restarting,
    /// Ended unasked too often; not built again by itself.
    Failed,
}

impl ServiceState {
    /// The word on pages and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
        }
    }
}

/// A service as the watchdog sees it.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ServiceStatus {
    /// Name.
    pub name: String,
    /// State.
    pub state: ServiceState,
    /// Whether the server is not ready when it has failed.
    pub critical: bool,
    /// Since when it is in this state.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// How often it was restarted, by exit reason.
    pub restarts: BTreeMap<String, u64>,
    /// How it ended last, unasked.
    pub last_error: Option<String>,
    /// Intercoms that point at it.
    pub intercoms: Vec<IntercomStats>,
}

/// Statistics of the messages of one type to one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct IntercomStats {
    /// Type of the message.
    pub message: String,
    /// Messages handed over.
    pub messages: u64,
    /// Messages that found no mailbox, no room or no answer in time.
    pub failures: u64,
    /// Messages sent and not yet handled.
    pub in_flight: u64,
    /// Mean time from sending to handling, in seconds.
    pub propagation_mean_seconds: f64,
    /// Variance of that time, in square seconds.
    pub propagation_variance: f64,
    /// Standard deviation of that time, in seconds.
    pub propagation_stddev_seconds: f64,
    /// Median of that time, in seconds.
    pub propagation_p50_seconds: f64,
    /// 99th percentile of that time, in seconds.
    pub propagation_p99_seconds: f64,
}
