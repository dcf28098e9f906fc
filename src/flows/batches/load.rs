//! How a page of a sweep is read from the database.

use super::traits::{BatchResult, PendingBatchStore};
use crate::store::{DueCursor, DueQuery, PendingBatch, Store};
use crate::time::Timestamp;

/// A page of due batches, and where the sweep stands after it.
#[derive(Clone, Debug)]
pub struct BatchesPage {
    /// Name of the ledger.
    pub ledger: String,
    /// The batches.
    pub rows: Vec<PendingBatch>,
    /// Where the next page begins.
    pub cursor: DueCursor,
    /// Whether the sweep has come to its end.
    pub done: bool,
    /// When the next batch becomes due, known at the end of a sweep.
    pub next_due: Option<Timestamp>,
}

/// Reads a page: first what is due at once, then what became due.
///
/// # Errors
/// The database is out of reach.
pub async fn load(store: &Store, query: DueQuery) -> BatchResult<BatchesPage> {
    let mut query = query;
    let wanted = query.limit;
    let mut rows = store.get_pending_batch_ids(&query).await?;
    let full = |rows: &Vec<PendingBatch>| i64::try_from(rows.len()).unwrap_or(i64::MAX) >= wanted;
    let mut done = false;
    if !full(&rows) {
        if matches!(query.after, DueCursor::AtOnce(_)) {
            query.after = query.then;
            query.limit = wanted - i64::try_from(rows.len()).unwrap_or(0);
            rows.extend(store.get_pending_batch_ids(&query).await?);
        }
        done = !full(&rows);
    }
    let cursor = match rows.last() {
        Some(PendingBatch {
            next_poll_at: None,
            seq,
            ..
        }) => DueCursor::AtOnce(*seq),
        Some(PendingBatch {
            next_poll_at: Some(at),
            seq,
            ..
        }) => DueCursor::Timed(*at, *seq),
        None => query.after,
    };
    let next_due = if done {
        store.next_due(&query.ledger, query.now).await?
    } else {
        None
    };
    Ok(BatchesPage {
        ledger: query.ledger,
        rows,
        cursor,
        done,
        next_due,
    })
}
