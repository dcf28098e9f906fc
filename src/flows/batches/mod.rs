//! Batches: every batch submitted to a ledger has its true status in the
//! database, soon after the ledger knows it.

mod model;
mod poll_log;
mod traits;
mod view;

pub use model::{
    BatchKey, InvalidTransaction, LedgerStatus, Status, StatusReport, UnknownStatusWord,
};
pub use poll_log::{poll_log_entry, read_poll_log};
pub use traits::{
    BatchError, BatchId, BatchResult, BatchStatus, BatchStatusStore, BatchUpdater,
    PendingBatchStore,
};
pub use view::{BatchesView, BreakerPosition, LedgerTotals, LedgerView, ServiceTrouble};
