//! What handlers are handed by the composition root.

use crate::config::Settings;
use crate::flows::batches::BatchesView;
use crate::store::Store;
use crate::time::Timestamp;
use crate::watchdog::ServiceStatus;
use std::sync::Arc;
use tokio::sync::watch;

/// How the last reload went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadReport {
    /// When it was asked for; `None` before the first.
    pub at: Option<Timestamp>,
    /// What was wrong; `None` when it was applied.
    pub problem: Option<String>,
}

/// Shared by all handlers; cheap to clone.
#[derive(Clone)]
pub struct HttpState {
    /// The database.
    pub store: Store,
    /// Settings in force.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// The batch flow, as its Scheduler last saw it.
    pub batches: watch::Receiver<Arc<BatchesView>>,
    /// Asks the watchdog how its services are.
    pub services: Arc<dyn Fn() -> Vec<ServiceStatus> + Send + Sync>,
    /// Tells the Scheduler that batches of a ledger are due now.
    pub wake: Arc<dyn Fn(&str) + Send + Sync>,
    /// Renders the metrics in Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// How the last reload went.
    pub reload: watch::Receiver<ReloadReport>,
    /// Whether the server is draining.
    pub draining: watch::Receiver<bool>,
    /// When the process started.
    pub started_at: Timestamp,
    /// Name of this server in leases.
    pub holder: Arc<str>,
}
