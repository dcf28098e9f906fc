//! Ledgers' streams without a subscription: on the server that polls a ledger
//! with `stream = true`, one for Sawtooth, for Splinter one for each service with
//! outstanding batches. And what all streams tell the batches.

use crate::config::{LedgerSettings, Settings, SourceSettings};
use crate::flows::batches::{BatchNews, BatchesView, Listened};
use crate::leases::{Holdings, batches_lease, events_lease};
use crate::ledgers::{LedgerKind, LedgerWatch, StreamLimits};
use crate::messages::{Wake, names};
use crate::store::Store;
use crate::watchdog::Watchdog;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// What messages of streams count under.
const SENDER: &str = "streams";
/// Changes are followed so often at most …
const NOT_SOONER: Duration = Duration::from_secs(1);
/// … and without any it is looked so often which services have batches.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What streams tell the batches of a database; a ledger whose batches became
/// due is told to the Scheduler of this server.
pub(super) fn batch_news(store: Store, watchdog: Watchdog) -> Arc<BatchNews> {
    let wake = move |ledger: &str| {
        // A Scheduler that is away looks at everything when it is back.
        if let Ok(line) = watchdog.intercom::<Wake>(SENDER, names::SCHEDULER) {
            drop(line.post(Wake::Ledger(ledger.to_owned())));
        }
    };
    BatchNews::new(store, Arc::new(wake))
}

/// Listens to ledgers.
pub(super) struct Streams {
    /// Where it is read which services have outstanding batches.
    pub(super) store: Store,
    /// What the streams tell; carried out here.
    pub(super) news: Arc<BatchNews>,
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    pub(super) holdings: watch::Receiver<Arc<Holdings>>,
    /// Changes as batches come and settle.
    pub(super) view: watch::Receiver<Arc<BatchesView>>,
    pub(super) draining: watch::Receiver<bool>,
}

/// A stream that ends when this is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The streams of one ledger.
struct Listening {
    settings: LedgerSettings,
    listened: Listened,
    /// By service; on Sawtooth one without a name. `None` where the settings
    /// allow none.
    tasks: BTreeMap<String, Option<Task>>,
}

impl Streams {
    /// Carries out what streams tell, and listens to ledgers, until the server
    /// drains.
    pub(super) async fn run(self) {
        let mut draining = self.draining.clone();
        let news = self.news.clone();
        tokio::select! {
            () = news.run() => {}
            () = self.listen() => {}
            // Also when whoever says so is gone.
            _ = draining.wait_for(|draining| *draining) => {}
        }
    }

    async fn listen(mut self) {
        let mut ledgers: BTreeMap<String, Listening> = BTreeMap::new();
        loop {
            let settings = self.settings.borrow_and_update().clone();
            let holdings = self.holdings.borrow_and_update().clone();
            self.view.mark_unchanged();
            let wanted = |ledger: &LedgerSettings| {
                ledger.stream && holdings.held.contains_key(&batches_lease(&ledger.name))
            };
            let all = || settings.ledgers.iter().filter(|ledger| wanted(ledger));
            ledgers.retain(|_, listening| all().any(|ledger| *ledger == listening.settings));
            for ledger in all() {
                let listening = ledgers
                    .entry(ledger.name.clone())
                    .or_insert_with(|| Listening::new(ledger.clone()));
                let heard = heard_by_subscriptions(&settings, &holdings, &ledger.name);
                listening.follow(&self.store, &self.news, &heard).await;
            }
            sleep(NOT_SOONER).await;
            let splinter = ledgers
                .values()
                .any(|listening| listening.settings.kind == LedgerKind::Splinter);
            let goes_on = tokio::select! {
                changed = self.settings.changed() => changed.is_ok(),
                changed = self.holdings.changed() => changed.is_ok(),
                changed = self.view.changed(), if splinter => changed.is_ok(),
                () = sleep(LOOK_EVERY) => true,
            };
            if !goes_on {
                // The server is being taken down.
                return;
            }
        }
    }
}

/// Services of a ledger that subscriptions which are run here listen to: their
/// streams tell the batches the same, and a second connection would be waste.
fn heard_by_subscriptions<'a>(
    settings: &'a Settings,
    holdings: &Holdings,
    ledger: &str,
) -> BTreeSet<&'a str> {
    let subscriptions = settings.subscriptions.iter();
    let heard = subscriptions.filter_map(|subscription| match &subscription.source {
        SourceSettings::Ledger(source)
            // With prefixes a ledger keeps back what the batches want to hear.
            if source.ledger == ledger
                && source.address_prefixes.is_empty()
                && holdings
                    .held
                    .contains_key(&events_lease(subscription.name.as_str())) =>
        {
            Some(source.service.as_str())
        }
        _ => None,
    });
    heard.collect()
}

impl Listening {
    fn new(settings: LedgerSettings) -> Self {
        Self {
            settings,
            listened: Listened::default(),
            tasks: BTreeMap::new(),
        }
    }

    /// Begins and ends streams as services have outstanding batches; none to
    /// those that are `heard` anyway.
    async fn follow(&mut self, store: &Store, news: &Arc<BatchNews>, heard: &BTreeSet<&str>) {
        let mut services: Vec<String> = match self.settings.kind {
            LedgerKind::Sawtooth => vec![String::new()],
            LedgerKind::Splinter => {
                self.look(store).await;
                self.listened.services().map(str::to_owned).collect()
            }
        };
        services.retain(|service| !heard.contains(service.as_str()));
        self.tasks.retain(|service, task| {
            // One that ended had a defect; the log says where.
            let ended = task.as_ref().is_some_and(|task| task.0.is_finished());
            services.contains(service) && !ended
        });
        for service in services {
            let settings = &self.settings;
            self.tasks
                .entry(service)
                .or_insert_with_key(|service| listen_to(settings, service, news));
        }
    }

    async fn look(&mut self, store: &Store) {
        let ledger = &self.settings.name;
        match store
            .outstanding_services(ledger, Listened::LOOKED_AT)
            .await
        {
            Ok(mut services) => {
                // A batch of no service is refused by Splinter.
                services.retain(|service| !service.is_empty());
                self.listened.follow(&services, Instant::now());
            }
            // Who is listened to stays.
            Err(error) => {
                tracing::debug!(ledger.name = ledger, error = %error, "services with outstanding batches were not read");
            }
        }
    }
}

/// Begins a stream; says why where it cannot.
fn listen_to(ledger: &LedgerSettings, service: &str, news: &Arc<BatchNews>) -> Option<Task> {
    match LedgerWatch::new(ledger, service, news.clone(), StreamLimits::default()) {
        Ok(watch) => {
            let task = tokio::spawn(async move { watch.run().await });
            Some(Task(task.abort_handle()))
        }
        Err(error) => {
            tracing::warn!(ledger.name = ledger.name, service.id = service, error = %error, "a ledger's stream is not listened to; its batches are polled all the same");
            None
        }
    }
}
