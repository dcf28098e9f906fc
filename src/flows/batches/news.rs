//! What ledgers' streams bring to the batches: services are polled soon, and
//! batches settle whose transactions are told as committed.
//!
//! A stream only notes ([`NewsQueue`], pure) what a task then does
//! ([`BatchNews::run`]): no stream waits for the database, and any number of
//! streams poll a service at most once a second.

mod queue;

use crate::ledgers::LedgerNews;
use crate::store::Store;
use crate::time::Timestamp;
use queue::{NewsQueue, Next, Order, ServiceKey};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Makes a ledger's plan look for what is due.
pub type WakeLedger = Arc<dyn Fn(&str) + Send + Sync>;

/// Hears the news and does what follows from them.
pub struct BatchNews {
    store: Store,
    wake: WakeLedger,
    queue: Mutex<NewsQueue>,
    rings: Notify,
}

impl BatchNews {
    /// News for the batches of a database. `wake` is called with a ledger's
    /// name after its batches became due.
    pub fn new(store: Store, wake: WakeLedger) -> Arc<Self> {
        Arc::new(Self {
            store,
            wake,
            queue: Mutex::default(),
            rings: Notify::new(),
        })
    }

    /// Does what the news ask for, until it is dropped. Run it once.
    pub async fn run(&self) {
        loop {
            let rung = self.rings.notified();
            let next = self.queue().next(Instant::now());
            match next {
                Next::Order(order) => self.carry_out(order).await,
                Next::At(time) => {
                    tokio::select! {
                        () = rung => {}
                        () = sleep_until(time) => {}
                    }
                }
                Next::Nothing => rung.await,
            }
        }
    }

    async fn carry_out(&self, order: Order) {
        match order {
            Order::Settle(service, tx_ids) => {
                let settled = self
                    .store
                    .settle_by_transactions(
                        &service.ledger,
                        &service.service_id,
                        &tx_ids,
                        Timestamp::now(),
                    )
                    .await;
                match settled {
                    Ok(done) => {
                        count(&service, done.settled);
                        let now = Instant::now();
                        self.queue()
                            .settled(&service, done.waiting, done.locked, now);
                    }
                    Err(error) => {
                        tracing::warn!(
                            ledger.name = service.ledger,
                            service.id = service.service_id,
                            error = %error,
                            "batches whose transactions are committed are not settled yet; tried again"
                        );
                        self.queue().failed(&service, tx_ids, Instant::now());
                    }
                }
            }
            Order::Poll(service) => {
                let due = self
                    .store
                    .poll_service_soon(&service.ledger, &service.service_id)
                    .await;
                match due {
                    Ok(0) => {}
                    Ok(_) => (self.wake)(&service.ledger),
                    // Nothing is lost: they are polled when they are due.
                    Err(error) => tracing::debug!(
                        ledger.name = service.ledger,
                        service.id = service.service_id,
                        error = %error,
                        "batches of a service were not made due"
                    ),
                }
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, NewsQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LedgerNews for BatchNews {
    fn poll_service_now(&self, ledger: &str, service_id: &str) {
        self.queue().poll(ServiceKey::of(ledger, service_id));
        self.rings.notify_one();
    }

    fn transactions_committed(&self, ledger: &str, service_id: &str, tx_ids: Vec<String>) {
        let service = ServiceKey::of(ledger, service_id);
        let left_out = self.queue().committed(service, tx_ids);
        if left_out > 0 {
            tracing::warn!(
                ledger.name = ledger,
                service.id = service_id,
                transactions.left_out = left_out,
                "more transactions are told than the database takes in; their batches are left to polling"
            );
        }
        self.rings.notify_one();
    }

    fn gap(&self, ledger: &str, service_id: &str) {
        self.poll_service_now(ledger, service_id);
    }
}

fn count(service: &ServiceKey, settled: usize) {
    if settled == 0 {
        return;
    }
    metrics::counter!(
        "highwater_batches_settled_total",
        "ledger" => service.ledger.clone(),
        "status" => "committed"
    )
    .increment(settled as u64);
    metrics::counter!(
        "highwater_batches_settled_by_events_total",
        "ledger" => service.ledger.clone()
    )
    .increment(settled as u64);
    tracing::debug!(
        ledger.name = service.ledger,
        service.id = service.service_id,
        batches.settled = settled,
        "batches are committed: the ledger's stream told their transactions"
    );
}
