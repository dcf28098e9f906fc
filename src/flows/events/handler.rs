//! What is done with a relevant event.

use super::model::{OpenEvent, SubscriptionName};
use futures_util::future::BoxFuture;

/// Does what is to be done with an event. An implementation ends within its own
/// time limit, and may be asked again for an event that it did already: after a
/// crash, or when an operator replays.
pub trait EventHandler: Send + Sync {
    /// Handles an event; `attempt` counts from 1. The error is a text for
    /// people: bounded, without secrets.
    fn handle<'a>(
        &'a self,
        subscription: &'a SubscriptionName,
        event: &'a OpenEvent,
        attempt: u32,
    ) -> BoxFuture<'a, Result<(), String>>;
}
