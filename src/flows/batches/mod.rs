//! Batches: every batch submitted to a ledger has its true status in the
//! database, soon after the ledger knows it.

mod model;
mod traits;

pub use model::{
    BatchKey, InvalidTransaction, LedgerStatus, Status, StatusReport, UnknownStatusWord,
};
pub use traits::{
    BatchError, BatchId, BatchResult, BatchStatus, BatchStatusStore, BatchUpdater,
    PendingBatchStore,
};
