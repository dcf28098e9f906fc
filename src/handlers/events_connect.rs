//! Builds the handler of a subscription.

use super::events_code::{EventCalls, no_code};
use super::events_command::EventCommands;
use super::events_http::EventPosts;
use super::listeners::Listeners;
use crate::config::EventHandlerSettings;
use crate::flows::events::{EventHandler, OpenEvent, SubscriptionName};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Builds the handler of a subscription.
///
/// # Errors
/// Its handler is code, and none is registered for it; or it cannot work as it
/// is configured. Says what to do.
pub fn connect_event_handler(
    settings: &EventHandlerSettings,
    subscription: &SubscriptionName,
    listeners: &Listeners,
) -> Result<Arc<dyn EventHandler>, String> {
    Ok(match settings {
        EventHandlerSettings::Http(http) => Arc::new(EventPosts::new(http.clone())?),
        EventHandlerSettings::Command(command) => Arc::new(EventCommands::new(command.clone())?),
        EventHandlerSettings::Table => Arc::new(ReadByOthers),
        EventHandlerSettings::Code(code) => {
            let listeners = listeners.subscriptions.get(subscription);
            Arc::new(EventCalls {
                listeners: listeners.ok_or_else(|| no_code(subscription))?.clone(),
                limit: code.timeout,
            })
        }
    })
}

/// `handler = "table"`: the consumer reads the table, and nothing is to be done.
struct ReadByOthers;

impl EventHandler for ReadByOthers {
    fn handle<'a>(
        &'a self,
        _: &'a SubscriptionName,
        _: &'a OpenEvent,
        _: u32,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
