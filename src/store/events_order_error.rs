//! Why operators' orders to subscriptions are refused.

use super::StoreError;
use crate::time::Timestamp;

/// Why an operator's order was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubscriptionOrderError {
    /// Nothing is known of the subscription.
    #[error("subscription \"{0}\" has recorded no event yet")]
    NothingRecorded(String),
    /// There is nothing to retry.
    #[error("subscription \"{0}\" is not halted: there is nothing to retry")]
    NotHalted(String),
    /// No event to skip was named, and there is none on which it is halted.
    #[error("subscription \"{0}\" is not halted; name the event to be skipped by its arrival")]
    NoneToSkip(String),
    /// It stands still already.
    #[error("subscription \"{name}\" is paused already, since {since}: {reason}")]
    AlreadyPaused {
        /// The subscription.
        name: String,
        /// Since when.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// There is nothing to resume.
    #[error("subscription \"{0}\" is not paused")]
    NotPaused(String),
    /// There is no such event.
    #[error("subscription \"{name}\" has no event of arrival {arrival}")]
    NoSuchEvent {
        /// The subscription.
        name: String,
        /// What was asked for.
        arrival: i64,
    },
    /// The event is done with.
    #[error(
        "event {arrival} of subscription \"{name}\" is {how} already; only open events are skipped"
    )]
    Done {
        /// The subscription.
        name: String,
        /// The event.
        arrival: i64,
        /// `processed`, `irrelevant` or `skipped`.
        how: String,
    },
    /// Nothing is known from that block on.
    #[error(
        "subscription \"{name}\" knows no block from {from_block} on; its highest is {highest}"
    )]
    NothingToReplay {
        /// The subscription.
        name: String,
        /// The first block that was asked for.
        from_block: i64,
        /// The highest block known.
        highest: i64,
    },
    /// It would be too much for one transaction.
    #[error(
        "subscription \"{name}\" has {events} events to replay from block {from_block} on; at most {most} are replayed at once, so begin at a later block"
    )]
    TooMany {
        /// The subscription.
        name: String,
        /// The first block that was asked for.
        from_block: i64,
        /// Events from there on.
        events: i64,
        /// The limit.
        most: i64,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<diesel::result::Error> for SubscriptionOrderError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(error.into())
    }
}
