//! How one site is visited.

use super::visit::{FailureKind, Visited};
use super::work::{SitesOutcome, SitesWork};
use crate::handlers::Handler;
use crate::time::Timestamp;
use futures_util::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

/// Visits a site once; a panic in its handler is a failure of the visit.
pub async fn visit(handler: &dyn Handler, work: Arc<SitesWork>) -> SitesOutcome {
    let (begun, start) = (Timestamp::now(), Instant::now());
    let visit = work.visit();
    let visiting = async { handler.visit(&visit).await };
    let visited = AssertUnwindSafe(visiting).catch_unwind().await;
    let visited = visited.unwrap_or_else(|_| {
        let detail = "a defect in the handler; the log has the place";
        Visited::failed(FailureKind::Panic, detail)
    });
    SitesOutcome {
        work,
        visited,
        begun,
        took: start.elapsed(),
    }
}
