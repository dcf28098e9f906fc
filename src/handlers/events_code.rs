//! The handler `[subscriptions.handler.code]`: Rust code registered for a
//! subscription.

use super::cloud_event::event_id;
use super::listeners::Listeners;
use crate::config::{EventHandlerSettings, SubscriptionSettings};
use crate::flows::events::{EventHandler, HeardProblem, OpenEvent, SubscriptionName};
use crate::net::{one_line, sources};
use crate::time::Timestamp;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// Characters kept of an error.
const MAX_WORDS: usize = 300;

/// A relevant event, as code is told of it. A clone is cheap.
#[derive(Clone, Debug)]
pub struct LedgerEvent {
    inner: Arc<Told>,
}

#[derive(Debug)]
struct Told {
    subscription: SubscriptionName,
    event: OpenEvent,
    attempt: u32,
}

impl LedgerEvent {
    /// The subscription.
    pub fn subscription(&self) -> &str {
        self.inner.subscription.as_str()
    }

    /// What tells the event from all others, the same for every try and every
    /// replay: `SUBSCRIPTION/BLOCK/TRANSACTION/EVENT`.
    pub fn id(&self) -> String {
        event_id(&self.inner.subscription, &self.inner.event)
    }

    /// The block.
    pub fn block(&self) -> i64 {
        self.inner.event.place.block
    }

    /// The transaction; empty for events of a block.
    pub fn tx_id(&self) -> &str {
        &self.inner.event.tx_id
    }

    /// The key by which it was judged, where it carries one.
    pub fn key(&self) -> Option<&str> {
        self.inner.event.key.as_deref()
    }

    /// Name of the event.
    pub fn name(&self) -> &str {
        &self.inner.event.event_name
    }

    /// The event as it came: a JSON text.
    pub fn payload(&self) -> &str {
        &self.inner.event.payload
    }

    /// When it happened, where it says so.
    pub fn occurred_at(&self) -> Option<Timestamp> {
        self.inner.event.occurred_at
    }

    /// When it was recorded.
    pub fn received_at(&self) -> Timestamp {
        self.inner.event.received_at
    }

    /// Which try this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }
}

/// Why code could not handle an event. Made of any error by `?`, or of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventError(String);

// No `Error` itself, or it could not be made of every error.
impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for EventError {
    fn from(error: E) -> Self {
        let error: Box<dyn Error + Send + Sync> = error.into();
        let mut text = error.to_string();
        // A longer chain says nothing more, and could be endless.
        for cause in sources(&*error).take(8) {
            let told = cause.to_string();
            if !text.contains(&told) {
                text = format!("{text}: {told}");
            }
        }
        Self(one_line(&text, MAX_WORDS))
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Code that is called for an event.
pub(super) type EventListener =
    Arc<dyn Fn(LedgerEvent) -> BoxFuture<'static, Result<(), EventError>> + Send + Sync>;

impl Listeners {
    /// Registers code for the events of a subscription. Several are called one
    /// after the other; a failure ends the row, and the next try begins it anew.
    ///
    /// # Errors
    /// The name can be no subscription's.
    pub fn on_event<F, R>(&mut self, subscription: &str, listener: F) -> Result<(), HeardProblem>
    where
        F: Fn(LedgerEvent) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), EventError>> + Send + 'static,
    {
        let name = SubscriptionName::parse(subscription)?;
        let listener: EventListener = Arc::new(move |event| Box::pin(listener(event)));
        self.subscriptions.entry(name).or_default().push(listener);
        Ok(())
    }

    /// Names of subscriptions with code that are not among these: most likely
    /// misspelt.
    pub fn of_no_subscription(&self, subscriptions: &[SubscriptionSettings]) -> Vec<String> {
        let known = |name: &SubscriptionName| subscriptions.iter().any(|one| one.name == *name);
        let names = self.subscriptions.keys().filter(|name| !known(name));
        names.map(ToString::to_string).collect()
    }

    /// Why a subscription's events cannot be handled with these, and what to do:
    /// its handler is code, and there is none for it. `None` for every other.
    pub fn lacks_events(&self, subscription: &SubscriptionSettings) -> Option<String> {
        let code = matches!(subscription.handler, EventHandlerSettings::Code(_));
        let lacking = code && !self.subscriptions.contains_key(&subscription.name);
        lacking.then(|| no_code(&subscription.name))
    }
}

/// What is told where there is no code for a subscription.
pub(super) fn no_code(name: &SubscriptionName) -> String {
    format!(
        "events of subscription {name} are handled by Rust code ([subscriptions.handler.code]), and this program has none for it: \
         register it with Highwater::builder().on_event(\"{name}\", …) in a program of your own, \
         or give the subscription another handler"
    )
}

/// Calls the code of a subscription.
pub(super) struct EventCalls {
    pub(super) listeners: Vec<EventListener>,
    /// How long they may take together.
    pub(super) limit: Duration,
}

impl EventCalls {
    async fn call(&self, event: LedgerEvent) -> Result<(), String> {
        for listener in &self.listeners {
            // What a panic leaves half done is the event's alone.
            let work = AssertUnwindSafe(async { listener(event.clone()).await });
            match work.catch_unwind().await {
                Ok(told) => told.map_err(|error| error.to_string())?,
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                    let text = text.unwrap_or("without a message");
                    return Err(format!("a panic: {}", one_line(text, MAX_WORDS)));
                }
            }
        }
        Ok(())
    }
}

impl EventHandler for EventCalls {
    fn handle<'a>(
        &'a self,
        subscription: &'a SubscriptionName,
        event: &'a OpenEvent,
        attempt: u32,
    ) -> BoxFuture<'a, Result<(), String>> {
        let inner = Arc::new(Told {
            subscription: subscription.clone(),
            event: event.clone(),
            attempt,
        });
        Box::pin(async move {
            let call = self.call(LedgerEvent { inner });
            let ended = tokio::time::timeout(self.limit, call).await;
            ended.unwrap_or_else(|_| {
                Err(format!(
                    "the code did not end within {} (timeout of [subscriptions.handler.code])",
                    humantime::format_duration(self.limit)
                ))
            })
        })
    }
}
