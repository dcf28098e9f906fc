//! The public traits of the batch flow, by the names of the DLT polling
//! monitor (seed `dlt-polling-monitor.md`), made async and generic.
//!
//! `PendingBatchStore` → grouped by ledger and service → `BatchStatusStore` →
//! validated against what was asked → `BatchUpdater`.

use crate::ledgers::LedgerError;
use futures_util::future::BoxFuture;
use std::fmt::Debug;

/// Result of the batch flow's traits.
pub type BatchResult<T> = Result<T, BatchError>;

/// Why a step of the batch flow failed, by what the caller does about it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BatchError {
    /// The ledger did not answer as asked: back off by the ledger error's kind.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The database is out of reach: keep what is at hand and try again.
    #[error("database: {0}")]
    Store(String),
    /// Somebody else holds a lock on a row: write the others, try this again.
    #[error("a row is locked by somebody else: {0}")]
    Locked(String),
    /// The database will not take a statement (a trigger, a check): write the
    /// others, report this.
    #[error("{0}")]
    Refused(String),
    /// A defect of Highwater itself; reported, and the batch stays as it is.
    #[error("internal error: {0}")]
    InternalError(String),
}

/// What a ledger says of one batch.
pub trait BatchStatus: Debug {
    /// Batch id.
    fn get_id(&self) -> &str;
    /// Whether the ledger does not know the batch; such a status changes nothing.
    fn is_unknown(&self) -> bool;
}

/// What is needed to ask for one batch.
pub trait BatchId: Debug + Clone {
    /// Batch id.
    fn get_id(&self) -> &str;
    /// Service id; `""` where the ledger has no services.
    fn get_service_id(&self) -> &str;
}

/// The queue of batches whose status is wanted.
pub trait PendingBatchStore<T: BatchId>: Send + Sync {
    /// Which part of the queue is asked for.
    type Query: Send + Sync;

    /// Reads due batches: never polled first, then by last poll, then in the
    /// order submitted.
    fn get_pending_batch_ids<'a>(
        &'a self,
        query: &'a Self::Query,
    ) -> BoxFuture<'a, BatchResult<Vec<T>>>;
}

/// Whatever answers for batch statuses.
pub trait BatchStatusStore<T: BatchStatus>: Send + Sync {
    /// Asks once for the statuses of `batch_ids` of one service. The answer
    /// may be in any order, incomplete, or hold ids that were not asked for.
    fn get_batch_statuses<'a>(
        &'a self,
        service_id: &'a str,
        batch_ids: &'a [&'a str],
    ) -> BoxFuture<'a, BatchResult<Vec<T>>>;
}

/// Whatever keeps the statuses.
pub trait BatchUpdater<T>: Send + Sync {
    /// What the update did.
    type Outcome;

    /// Writes updates of any number of ledgers and services in one transaction.
    fn update_batch_ids(&self, updates: Vec<T>) -> BoxFuture<'_, BatchResult<Self::Outcome>>;
}
