//! What the engine carries, of whatever flow: a new flow adds an arm to each.

use crate::flows::batches::{BatchesOutcome, BatchesPage, BatchesReport, BatchesWork};
use crate::store::DueQuery;
use std::sync::Arc;

/// What a flow wants to have read from the database.
#[derive(Clone, Debug)]
pub enum Want {
    /// Due batches.
    Batches(DueQuery),
}

/// What was read.
#[derive(Debug)]
pub enum Page {
    /// Due batches.
    Batches(BatchesPage),
}

/// One piece of network work.
#[derive(Clone, Debug)]
pub enum Work {
    /// Statuses of batches of one service.
    Batches(Arc<BatchesWork>),
}

/// What came of a piece of work.
#[derive(Debug)]
pub enum Outcome {
    /// Statuses of batches of one service.
    Batches(BatchesOutcome),
}

/// What the Scheduler learns of a piece of work.
#[derive(Clone, Debug)]
pub enum Report {
    /// Statuses of batches of one service.
    Batches(BatchesReport),
}
