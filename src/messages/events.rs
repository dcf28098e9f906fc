//! HTTP, Subscriber → Subscriber: what may concern a subscription.

use crate::flows::events::{Known, OpenEvent, SubscriptionName};

/// Events of a subscription were heard by this server, and these of them are
/// new; none where all were known, which is a sign of life all the same.
///
/// It saves a look: what gets lost is found by the next one.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub struct EventsNews {
    /// The subscription.
    pub subscription: SubscriptionName,
    /// As they were recorded.
    pub recorded: Vec<OpenEvent>,
}

/// The hook did not take events, of this block and later ones perhaps, since the
/// database was away or busy: whoever sent them may not do so again.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub struct EventsRefused {
    /// The lowest block of theirs.
    pub block: i64,
}

/// These ids became known: waits for them end.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub struct KnownNews(pub Known);

/// An operator gave an order, or the subscription's rows were changed: to be
/// looked at now.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub struct LookAgain;
