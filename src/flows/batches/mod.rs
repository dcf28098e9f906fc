//! Batches: every batch submitted to a ledger has its true status in the
//! database, soon after the ledger knows it.
//!
//! [`BatchesPlan`] says what is due, [`load`] reads it, [`fetch`] asks the
//! ledger, [`changes_of`] decides what an answer makes of a batch.

mod fetch;
mod health;
mod intake;
mod ledger_plan;
mod listened;
mod load;
mod model;
mod news;
mod plan;
mod poll_log;
mod rules;
mod sweep;
#[cfg(test)]
mod tests;
mod traits;
mod view;
mod work;

pub use fetch::fetch;
pub use health::{Admission, BackoffPolicy, LedgerHealth, ServiceHealth};
pub use intake::check_new_batch;
pub use listened::Listened;
pub use load::{BatchesPage, load};
pub use model::{
    BatchKey, InvalidTransaction, LedgerStatus, Status, StatusReport, UnknownStatusWord,
};
pub use news::{BatchNews, WakeLedger};
pub use plan::{BatchesHealth, BatchesPlan};
pub use poll_log::{poll_log_entry, read_poll_log};
pub use rules::{change_of, changes_of, repoll_after};
pub use traits::{
    BatchError, BatchId, BatchResult, BatchStatus, BatchStatusStore, BatchUpdater,
    PendingBatchStore,
};
pub use view::{BatchesView, BreakerPosition, LedgerTotals, LedgerView, ServiceTrouble};
pub use work::{Answer, BatchesOutcome, BatchesReport, BatchesWork, Failure};
