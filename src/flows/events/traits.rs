//! What the Subscriber needs of others: rows to read, and a handler.

use super::model::{Checkpoint, Judgement, OpenEvent, Place, SubscriptionName};
use super::source::Fork;
use crate::store::StoreError;
use crate::time::Timestamp;
use futures_util::future::BoxFuture;

/// How large a page of open events may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize {
    /// Most events.
    pub rows: usize,
    /// Most bytes of payloads, but for one event that is larger; `None` where
    /// nobody reads payloads, and they are left empty.
    pub bytes: Option<usize>,
}

/// A page of open events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenPage {
    /// The events.
    pub events: Vec<OpenEvent>,
    /// It ends before its rows are used up, since more would be too large.
    pub cut: bool,
}

impl OpenPage {
    /// Whether more may follow a page that was asked to hold `limit` events.
    pub const fn is_full(&self, limit: usize) -> bool {
        self.cut || self.events.len() >= limit
    }
}

impl From<Vec<OpenEvent>> for OpenPage {
    /// Those that there are, none too large.
    fn from(events: Vec<OpenEvent>) -> Self {
        Self { events, cut: false }
    }
}

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

    /// Open events behind a place, in order; a page that is not full is the last
    /// one.
    ///
    /// # Errors
    /// The database did not answer.
    fn open_events<'a>(
        &'a self,
        subscription: &'a str,
        after: Option<Place>,
        size: PageSize,
    ) -> BoxFuture<'a, Result<OpenPage, StoreError>>;

    /// Open events that were recorded after `arrival`, by arrival; a page that is
    /// not full is the last one.
    ///
    /// # Errors
    /// The database did not answer.
    fn recorded_since<'a>(
        &'a self,
        subscription: &'a str,
        arrival: i64,
        size: PageSize,
    ) -> BoxFuture<'a, Result<OpenPage, StoreError>>;

    /// Whether the transactions (or keys) of events are known; by the operator's
    /// own `lookup` where there is one. Those for which there was no time are left
    /// out.
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
