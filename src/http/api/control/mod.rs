//! `/v1/control`: what an operator with the control token may do to a running
//! server. Everything that changes something is recorded in the audit.

pub(in crate::http) mod audit;
mod problems;
pub(in crate::http) mod process;
pub(in crate::http) mod services;
pub(in crate::http) mod settings;

use crate::http::problem::Problem;
use crate::http::state::Http;
use crate::watchdog::{OrderError, WatchdogQuery};
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;

/// How long an order may take.
const ORDER: Duration = Duration::from_secs(10);

/// What a control call works with; `'static`, to outlive its client.
struct Controls {
    query: WatchdogQuery,
    draining: watch::Receiver<bool>,
}

impl Controls {
    fn of(http: &Http) -> Self {
        Self {
            query: http.state.control.clone(),
            draining: http.state.draining.clone(),
        }
    }

    /// The capability, while the server is not stopping.
    fn query(&self) -> Result<&WatchdogQuery, Box<Problem>> {
        if *self.draining.borrow() {
            return Err(Problem::shutting_down());
        }
        Ok(&self.query)
    }
}

/// Waits for an order, not for ever.
async fn carried_out<T>(
    order: impl Future<Output = Result<T, OrderError>>,
) -> Result<Result<T, OrderError>, Box<Problem>> {
    tokio::time::timeout(ORDER, order)
        .await
        .map_err(|_| Problem::control_timeout(ORDER))
}
