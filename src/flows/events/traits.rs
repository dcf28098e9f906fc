//! What the Subscriber needs of others: rows to read, and a handler.

use super::model::{Checkpoint, Judgement, OpenEvent, Place, SubscriptionName};
use super::source::Fork;
use crate::store::StoreError;
use crate::time::Timestamp;
use futures_util::future::BoxFuture;

/// The rows of subscriptions, as the Subscriber reads them; its source marks
/// those of abandoned blocks.
pub trait EventRows: Send + Sync + 'static {
    /// How far a subscription has come; of one without a row, the beginning.
    ///
    /// # Errors
    /// The database did not answer.
    fn checkpoint<'a>(
        &'a self,
        subscription: &'a str,
    ) -> BoxFuture<'a, Result<Checkpoint, StoreError>>;

    /// Open events behind a place, in order; a page with fewer than `limit` is
    /// the last one.
    ///
    /// # Errors
    /// The database did not answer.
    fn open_events<'a>(
        &'a self,
        subscription: &'a str,
        after: Option<Place>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<OpenEvent>, StoreError>>;

    /// Open events that were recorded after `arrival`, by arrival; a page with
    /// fewer than `limit` is the last one.
    ///
    /// # Errors
    /// The database did not answer.
    fn recorded_since<'a>(
        &'a self,
        subscription: &'a str,
        arrival: i64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<OpenEvent>, StoreError>>;

    /// Whether the transactions (or keys) of events are known; by the operator's
    /// own `lookup` where there is one.
    ///
    /// # Errors
    /// The database did not answer, or refuses the lookup.
    fn judge<'a>(
        &'a self,
        lookup: Option<&'a str>,
        asked: Vec<(Place, String, Option<String>)>,
    ) -> BoxFuture<'a, Result<Vec<Judgement>, StoreError>>;

    /// Marks the events of blocks that a ledger abandoned, which are not read as
    /// open any more, and takes the mark from those of blocks in their place.
    /// Answers how many were marked; may be done again.
    ///
    /// # Errors
    /// The database did not answer; nothing is marked.
    fn abandon<'a>(
        &'a self,
        subscription: &'a SubscriptionName,
        fork: &'a Fork,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<usize, StoreError>>;
}

/// What is done with a relevant event. An implementation ends within its own
/// time limit and bounds what it reads; its error is bounded text without
/// secrets, and is shown.
pub trait EventHandler: Send + Sync + 'static {
    /// Handles an event for the `attempt`-th time, from 1 on. It may come again
    /// for an event that it handled already, with the same subscription and
    /// place: after a crash, or when an operator replays.
    fn handle<'a>(
        &'a self,
        subscription: &'a SubscriptionName,
        event: &'a OpenEvent,
        attempt: u32,
    ) -> BoxFuture<'a, Result<(), String>>;
}
