//! HTTP, Subscriber → Updater: events heard, and what became of them.

use crate::flows::events::{EventChange, Heard, Recorded, SinkError, SubscriptionName};
use crate::store::LeaseStake;

/// Record these events of a subscription; answered when they are durable.
///
/// Any server may record: hooks reach whichever they reach. Only what follows
/// from an event needs the subscription's lease.
#[derive(Debug, actix::Message)]
#[rtype(result = "Result<Recorded, SinkError>")]
pub struct Record {
    /// The subscription.
    pub subscription: SubscriptionName,
    /// What was heard; events of `skip_blocks` are marked by the flag beside.
    pub heard: Vec<(Heard, bool)>,
    /// What the source is to remember, committed with them.
    pub source_state: Option<String>,
}

/// Write decisions, processed marks and the position of a subscription;
/// answered when they are durable, or why they are not.
#[derive(Debug, actix::Message)]
#[rtype(result = "Result<(), SinkError>")]
pub struct Mark {
    /// The subscription.
    pub subscription: SubscriptionName,
    /// The lease under which it is run.
    pub stake: LeaseStake,
    /// Orders of operators that were known when it was decided: with others, it
    /// is refused ([`SinkError::Fenced`]) and the Subscriber reads anew.
    pub orders: i64,
    /// What changes.
    pub changes: Vec<EventChange>,
}
