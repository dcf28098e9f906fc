//! What hooks and operators hand on: events to the Updater, ids that became
//! known to the database; and the Subscribers are told.

use super::subscriptions::Subscriptions;
use crate::flows::events::{Known, SinkError, SubscriptionName};
use crate::http::{Knower, Recorder, Refuser};
use crate::messages::{EventsNews, EventsRefused, KnownNews, LookAgain, Record, names};
use crate::store::{Store, StoreError};
use crate::watchdog::{Intercom, Watchdog};
use actix::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How long a call of a hook waits until its events are durable. Whoever calls
/// sends them again later; they are known again then.
const RECORDED_WITHIN: Duration = Duration::from_secs(25);

/// What messages to Subscribers count under.
const SENDER: &str = "http";

/// Records events through the Updater. Also where all were known already, the
/// Subscriber hears of it, since that is a sign of life.
pub(super) fn recorder(updater: Intercom<Record>, watchdog: Watchdog) -> Recorder {
    Arc::new(move |subscription: SubscriptionName, heard| {
        let (updater, watchdog) = (updater.clone(), watchdog.clone());
        Box::pin(async move {
            let record = Record {
                subscription: subscription.clone(),
                heard,
                source_state: None,
            };
            let answer = updater.send(record, RECORDED_WITHIN).await;
            let recorded =
                answer.unwrap_or_else(|error| Err(SinkError::Away(error.to_string())))?;
            let news = EventsNews {
                subscription: subscription.clone(),
                recorded: recorded.new.clone(),
            };
            tell(&watchdog, &subscription, news);
            Ok(recorded)
        })
    })
}

/// Makes ids known, and tells all Subscribers of this server of the new ones.
/// Works on `runtime`, where the store's connections live.
pub(super) fn knower(
    store: Store,
    runtime: Handle,
    watchdog: Watchdog,
    subscriptions: Subscriptions,
) -> Knower {
    Arc::new(move |known: Known| {
        let (store, runtime) = (store.clone(), runtime.clone());
        let (watchdog, subscriptions) = (watchdog.clone(), subscriptions.clone());
        Box::pin(async move {
            let task = runtime.spawn(async move { store.make_known(&known).await });
            let made = task.await;
            let made = made.unwrap_or_else(|error| Err(StoreError::Internal(error.to_string())));
            let new = made.map_err(|error| {
                if error.is_transient() {
                    SinkError::Away(error.to_string())
                } else {
                    SinkError::Refused(error.to_string())
                }
            })?;
            let count = new.tx_ids.len() + new.keys.len();
            if count > 0 {
                for name in subscriptions.names() {
                    tell(&watchdog, &name, KnownNews(new.clone()));
                }
            }
            Ok(count)
        })
    })
}

/// Tells a Subscriber to look at its rows now.
pub(super) fn looker(watchdog: Watchdog) -> Arc<dyn Fn(&SubscriptionName) + Send + Sync> {
    Arc::new(move |name: &SubscriptionName| tell(&watchdog, name, LookAgain))
}

/// Tells a Subscriber the lowest block of events that the hook did not take.
pub(super) fn refuser(watchdog: Watchdog) -> Refuser {
    Arc::new(move |name: &SubscriptionName, block| {
        tell(&watchdog, name, EventsRefused { block });
    })
}

/// Tells a Subscriber something. What it does not take, it finds at its next
/// look.
fn tell<M>(watchdog: &Watchdog, subscription: &SubscriptionName, message: M)
where
    M: Message<Result = ()> + Send + 'static,
{
    let service = names::subscriber(subscription.as_str());
    if let Ok(line) = watchdog.intercom::<M>(SENDER, &service) {
        drop(line.post(message));
    }
}
