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
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
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
    /// For how long it has been up, in seconds; null while it is not.
    pub uptime_seconds: Option<f64>,
    /// How often it has been built.
    pub generation: u64,
    /// Thread that it runs on; services may share one.
    pub thread: String,
    /// Services with which it is restarted.
    pub depends_on: Vec<String>,
    /// The service that it waits for, to be built after it.
    pub waits_for: Option<String>,
    /// Signs of progress so far: messages handled, turns of its own work.
    pub progress: u64,
    /// How often its live settings were changed; null when it has none.
    pub settings_changes: Option<u64>,
    /// How often it was restarted, by exit reason.
    pub restarts: BTreeMap<String, u64>,
    /// How it ended last, unasked.
    pub last_error: Option<String>,
    /// Intercoms that point at it.
    pub intercoms: Vec<IntercomStats>,
}

/// The watchdog itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct WatchdogStatus {
    /// All services, in the order in which they were registered.
    pub services: Vec<ServiceStatus>,
    /// Threads that a service blocks, and that were given up for lost.
    pub lost_threads: Vec<LostThread>,
    /// Most threads that may be lost; a service that blocks one more has failed.
    pub lost_threads_limit: usize,
    /// Threads that were lost and came back.
    pub recovered_threads: u64,
}

/// A thread that is blocked and cannot be killed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct LostThread {
    /// Its name.
    pub thread: String,
    /// The service that blocks it.
    pub service: String,
    /// Since when it is given up.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// Statistics of the messages of one type from one service to another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct IntercomStats {
    /// Service that the messages come from.
    pub from: String,
    /// Type of the message.
    pub message: String,
    /// Handles open now.
    pub open_handles: u64,
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
