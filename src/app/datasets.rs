//! The replica flow's composition: what is published goes to the Updater, what
//! it writes goes to the store and wakes those who wait; and the servers of the
//! seed's wire, one for each dataset that has an address for it.

use super::AppError;
use crate::actors::{NoReplicas, ReplicaWriter};
use crate::config::{HistorySettings, Settings};
use crate::flows::replicas::{
    Content, ContentKind, Contents, DatasetName, Digests, Epoch, FetchError, Fetched, Fetching,
    Head, Heads, Info, PublishError, PublishRequest,
};
use crate::http::{Datasets, Publisher, SeedWire, seed_server};
use crate::messages::{Publish, names};
use crate::store::Store;
use crate::watchdog::{Intercom, LookupError, Watchdog};
use actix_web::dev::ServerHandle;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How long a request waits until its modifications are durable. Whoever sends
/// them again with the same Idempotency-Key learns what became of them.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(25);

/// What is served of datasets and replicas.
pub(super) fn contents(_store: Store) -> Arc<dyn Contents> {
    Arc::new(NoContents)
}

/// What writes them; whoever waits for a head is woken through `_heads`.
pub(super) fn replica_writer(_store: Store, _heads: Heads) -> Arc<dyn ReplicaWriter> {
    Arc::new(NoReplicas)
}

/// What HTTP is handed.
pub(super) fn served(
    contents: Arc<dyn Contents>,
    heads: Heads,
    watchdog: &Watchdog,
) -> Result<Datasets, LookupError> {
    let updater = watchdog.intercom::<Publish>("http", names::UPDATER)?;
    Ok(Datasets {
        contents,
        heads,
        publish: publisher(updater),
        replica_state: Arc::new(|_| None),
    })
}

/// Publishes through the Updater.
fn publisher(updater: Intercom<Publish>) -> Publisher {
    Arc::new(move |request: PublishRequest| {
        let updater = updater.clone();
        Box::pin(async move {
            let answer = updater.send(Publish(request), PUBLISHED_WITHIN).await;
            answer.unwrap_or_else(|error| Err(PublishError::Away(error.to_string())))
        })
    })
}

/// History that is kept of each dataset and replica.
pub(super) fn histories(settings: &Settings) -> BTreeMap<Content, HistorySettings> {
    let of = |kind, name: &DatasetName, history: &HistorySettings| {
        let name = name.clone();
        (Content { kind, name }, history.clone())
    };
    let datasets = settings.datasets.iter();
    let datasets = datasets.map(|of_it| of(ContentKind::Dataset, &of_it.name, &of_it.history));
    let replicas = settings.replicas.iter();
    let replicas = replicas.map(|of_it| of(ContentKind::Replica, &of_it.name, &of_it.history));
    datasets.chain(replicas).collect()
}

/// Where there is nothing to serve.
struct NoContents;

fn missing<T>() -> BoxFuture<'static, Result<T, FetchError>>
where
    T: Send + 'static,
{
    Box::pin(std::future::ready(Err(FetchError::Missing)))
}

impl Contents for NoContents {
    fn info<'a>(
        &'a self,
        _: &'a Content,
        _: Option<usize>,
    ) -> BoxFuture<'a, Result<Info, FetchError>> {
        missing()
    }

    fn fetch<'a>(
        &'a self,
        _: &'a Content,
        _: &'a Fetching,
    ) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        missing()
    }

    fn digests<'a>(
        &'a self,
        _: &'a Content,
        _: &'a str,
        _: Option<&'a str>,
        _: u64,
        _: usize,
        _: Option<(&'a Epoch, Head)>,
    ) -> BoxFuture<'a, Result<Digests, FetchError>> {
        missing()
    }

    fn entry<'a>(
        &'a self,
        _: &'a Content,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, FetchError>> {
        missing()
    }
}

/// The servers of the seed's wire.
#[derive(Clone)]
pub(super) struct SeedServers {
    datasets: Datasets,
    settings: watch::Receiver<Arc<Settings>>,
    draining: watch::Receiver<bool>,
    runtime: Handle,
    running: Arc<Mutex<BTreeMap<(DatasetName, SocketAddr), ServerHandle>>>,
}

impl SeedServers {
    /// None yet.
    pub(super) fn new(
        datasets: Datasets,
        settings: watch::Receiver<Arc<Settings>>,
        draining: watch::Receiver<bool>,
        runtime: Handle,
    ) -> Self {
        Self {
            datasets,
            settings,
            draining,
            runtime,
            running: Arc::default(),
        }
    }

    /// Why the addresses that these settings add cannot be listened on.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), String> {
        let running = self.running();
        let taken = |address: &SocketAddr| running.keys().any(|(_, taken)| taken == address);
        for (name, address) in wanted(settings) {
            if taken(&address) {
                continue;
            }
            if let Err(error) = TcpListener::bind(address) {
                return Err(format!(
                    "datasets.{name}.seed_listen: {address} cannot be listened on ({error}); choose another address"
                ));
            }
        }
        Ok(())
    }

    /// Starts all of them at the server's start, where an address that cannot be
    /// listened on is a reason not to start at all.
    pub(super) fn begin(&self, settings: &Settings) -> Result<(), AppError> {
        let begun = self.follow(settings);
        begun.map_err(|(listen, source)| AppError::Listen { listen, source })
    }

    /// Starts what the settings add, and stops what they lack. To be called on
    /// the main actix system.
    ///
    /// # Errors
    /// An address cannot be listened on; the others are.
    pub(super) fn follow(&self, settings: &Settings) -> Result<(), (SocketAddr, std::io::Error)> {
        let wanted = wanted(settings);
        let mut running = self.running();
        let gone: Vec<_> = running
            .keys()
            .filter(|key| !wanted.contains(key))
            .cloned()
            .collect();
        for key in gone {
            if let Some(server) = running.remove(&key) {
                tracing::info!(dataset.name = %key.0, http.listen = %key.1, "the seed's wire is no longer served");
                // The address is free at once; answers under way end by themselves.
                actix_rt::spawn(server.stop(true));
            }
        }
        let mut failed = Ok(());
        for (name, address) in wanted {
            if running.contains_key(&(name.clone(), address)) {
                continue;
            }
            match self.start(&name, address) {
                Ok(server) => {
                    running.insert((name, address), server);
                }
                Err(error) => failed = Err((address, error)),
            }
        }
        failed
    }

    fn start(&self, name: &DatasetName, address: SocketAddr) -> std::io::Result<ServerHandle> {
        let listener = TcpListener::bind(address)?;
        let listens = listener.local_addr()?;
        let wire = SeedWire {
            name: name.clone(),
            datasets: self.datasets.clone(),
            settings: self.settings.clone(),
            draining: self.draining.clone(),
            runtime: self.runtime.clone(),
        };
        let server = seed_server(wire, listener)?;
        let handle = server.handle();
        actix_rt::spawn(server);
        tracing::info!(dataset.name = %name, http.listen = %listens, "the seed's wire is served");
        Ok(handle)
    }

    /// Stops all of them.
    pub(super) async fn stop(&self) {
        let running = std::mem::take(&mut *self.running());
        let stops = running.into_values().map(|server| server.stop(true));
        futures_util::future::join_all(stops).await;
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<(DatasetName, SocketAddr), ServerHandle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wanted(settings: &Settings) -> Vec<(DatasetName, SocketAddr)> {
    let datasets = settings.datasets.iter();
    datasets
        .filter_map(|dataset| Some((dataset.name.clone(), dataset.seed_listen?)))
        .collect()
}
