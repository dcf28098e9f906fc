//! Subscribers: one for each subscription of the configuration, registered at
//! the start and as reloads add and remove them; and their sources and handlers.

use super::services::ENGINE;
use crate::actors::{Connected, Subscriber, SubscriberParts, SubscriberSettings};
use crate::config::{Settings, SourceSettings};
use crate::flows::events::{
    Checkpoint, EventHandler, EventsView, OpenEvent, Sink, Source, SourceEnd, SubscriptionName,
};
use crate::gateways;
use crate::handlers::{Listeners, connect_event_handler};
use crate::ledgers::{LedgerNews, stream_of};
use crate::messages::{EventsNews, EventsRefused, KnownNews, LookAgain, names};
use crate::watchdog::{Keeper, LookupError, Registration, WatchdogQuery};
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// How long after a reload a subscription is registered whose former service
/// has not ended yet, and how often that is tried.
const ENDS_WITHIN: (Duration, u32) = (Duration::from_millis(100), 300);

/// The Subscribers of a server.
#[derive(Clone)]
pub(super) struct Subscriptions {
    query: WatchdogQuery,
    runtime: Handle,
    parts: SubscriberParts,
    known: Arc<Mutex<Known>>,
}

/// What is configured, and what of it is registered.
#[derive(Default)]
struct Known {
    wanted: BTreeMap<SubscriptionName, SubscriberSettings>,
    registered: BTreeSet<SubscriptionName>,
}

impl Subscriptions {
    /// None yet.
    pub(super) fn new(query: WatchdogQuery, runtime: Handle, parts: SubscriberParts) -> Self {
        Self {
            query,
            runtime,
            parts,
            known: Arc::default(),
        }
    }

    /// Registers what the settings add, tells what they change, and lets go of
    /// what they lack. What is new is registered only: to be started with all
    /// others, or by [`Self::follow`].
    pub(super) fn register(&self, settings: &Settings) -> Result<(), LookupError> {
        self.change(settings, false).map(drop)
    }

    /// The same while the server runs: what is new is started.
    pub(super) fn follow(&self, settings: &Settings) -> Result<(), LookupError> {
        if self.change(settings, true)? {
            return Ok(());
        }
        // A service that is removed and comes back has to end first.
        let this = self.clone();
        self.runtime.spawn(async move {
            let (pause, most) = ENDS_WITHIN;
            for _ in 0..most {
                tokio::time::sleep(pause).await;
                match this.register_wanted(true) {
                    Ok(false) => {}
                    Ok(true) => return,
                    Err(error) => {
                        tracing::error!(error = %error, "a subscription was not registered");
                        return;
                    }
                }
            }
            tracing::error!("a subscription was not registered: its former service does not end");
        });
        Ok(())
    }

    /// Answers whether all of them are registered.
    fn change(&self, settings: &Settings, start: bool) -> Result<bool, LookupError> {
        let wanted = wanted(settings);
        let removed: Vec<SubscriptionName> = {
            let mut known = self.known();
            let registered = known.registered.iter();
            let removed: Vec<_> = registered
                .filter(|name| !wanted.contains_key(*name))
                .cloned()
                .collect();
            known.registered.retain(|name| wanted.contains_key(name));
            known.wanted = wanted;
            removed
        };
        for name in removed {
            self.query.unregister(&names::subscriber(name.as_str()))?;
            self.parts.view.send_if_modified(|view| {
                let shown = view.subscriptions.contains_key(&name);
                if shown {
                    let view: &mut EventsView = Arc::make_mut(view);
                    view.subscriptions.remove(&name);
                }
                shown
            });
        }
        self.register_wanted(start)
    }

    fn register_wanted(&self, start: bool) -> Result<bool, LookupError> {
        let mut known = self.known();
        let Known { wanted, registered } = &mut *known;
        let mut all = true;
        for (name, settings) in wanted.iter() {
            let service = names::subscriber(name.as_str());
            if registered.contains(name) {
                self.query.update_settings(&service, settings.clone())?;
                continue;
            }
            let parts = self.parts.clone();
            let subscriber = Registration::<Subscriber>::new(&service)
                .on_thread(ENGINE)
                .settings(settings.clone())
                .accepts::<EventsNews>()
                .accepts::<KnownNews>()
                .accepts::<LookAgain>()
                .accepts::<EventsRefused>()
                .built_by(move |context| Subscriber::new(context, parts.clone()));
            match self.query.register(subscriber, Keeper::Supervisor) {
                Ok(()) => {
                    registered.insert(name.clone());
                    if start {
                        self.query.start(&service)?;
                    }
                }
                Err(LookupError::Exists(_)) => all = false,
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Names of those that are registered.
    pub(super) fn names(&self) -> Vec<SubscriptionName> {
        self.known().registered.iter().cloned().collect()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wanted(settings: &Settings) -> BTreeMap<SubscriptionName, SubscriberSettings> {
    let subscriptions = settings.subscriptions.iter();
    let wanted = subscriptions.map(|subscription| {
        let gateway = match &subscription.source {
            SourceSettings::Gateway(asked) => settings
                .gateways
                .iter()
                .find(|gateway| gateway.name == asked.gateway)
                .cloned(),
            SourceSettings::Ledger(_) | SourceSettings::Hook => None,
        };
        let ledger = match &subscription.source {
            SourceSettings::Ledger(asked) => settings
                .ledgers
                .iter()
                .find(|ledger| ledger.name == asked.ledger)
                .cloned(),
            SourceSettings::Gateway(_) | SourceSettings::Hook => None,
        };
        let settings = SubscriberSettings {
            subscription: subscription.clone(),
            gateway,
            ledger,
            events: settings.events.clone(),
        };
        (subscription.name.clone(), settings)
    });
    wanted.collect()
}

/// Makes source and handler of a subscription. What cannot be made is told by
/// what stands in its place, so that pages, log and metrics show it. A ledger's
/// stream also tells `news` what concerns the batches.
pub(super) fn connect(
    settings: &SubscriberSettings,
    listeners: &Listeners,
    news: &Arc<dyn LedgerNews>,
) -> Connected {
    let subscription = &settings.subscription;
    let unable = |why: String| -> Arc<dyn Source> { Arc::new(NoSource { why }) };
    let source = match &subscription.source {
        SourceSettings::Hook => None,
        SourceSettings::Ledger(source) => Some(match &settings.ledger {
            Some(ledger) => stream_of(ledger, source, Some(news.clone()))
                .unwrap_or_else(|problem| unable(problem.to_string())),
            None => unable(format!("no ledger is called {}", source.ledger)),
        }),
        SourceSettings::Gateway(source) => Some(match &settings.gateway {
            Some(gateway) => gateways::connect(gateway, subscription)
                .unwrap_or_else(|problem| unable(problem.to_string())),
            None => unable(format!("no gateway is called {}", source.gateway)),
        }),
    };
    let handler = connect_event_handler(&subscription.handler, &subscription.name, listeners);
    let handler = handler.unwrap_or_else(|why| Arc::new(NoHandler { why }));
    Connected {
        source,
        handler: Some(handler),
    }
}

/// In place of a source that cannot be made.
struct NoSource {
    why: String,
}

impl Source for NoSource {
    fn run<'a>(&'a self, _: Checkpoint, _: &'a dyn Sink) -> BoxFuture<'a, SourceEnd> {
        Box::pin(std::future::ready(SourceEnd::Refused(self.why.clone())))
    }

    fn place(&self) -> String {
        "none".to_owned()
    }
}

/// In place of a handler that cannot be made.
struct NoHandler {
    why: String,
}

impl EventHandler for NoHandler {
    fn handle<'a>(
        &'a self,
        _: &'a SubscriptionName,
        _: &'a OpenEvent,
        _: u32,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(std::future::ready(Err(self.why.clone())))
    }
}
