//! The servers of the seed's wire, one for each address that a dataset has for it.
//!
//! An address is bound while it can still be said that it cannot be: before the
//! server starts its services, and before a reload is applied. A server belongs to
//! its address and asks the settings in force whose it is, so that an address which
//! passes to another dataset is never given up in between.

use super::AppError;
use crate::config::Settings;
use crate::flows::replicas::DatasetName;
use crate::http::{Datasets, SeedWire, seed_server};
use actix_web::dev::ServerHandle;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// How long an address may stay taken that a former server of ours gives up, and
/// how often it is tried.
const FREE_WITHIN: (Duration, Duration) = (Duration::from_secs(3), Duration::from_millis(50));

/// An address; with port 0, which is another one each time, of that dataset.
type Place = (SocketAddr, Option<DatasetName>);

/// The servers of the seed's wire.
#[derive(Clone)]
pub(super) struct SeedServers {
    datasets: Datasets,
    settings: watch::Receiver<Arc<Settings>>,
    draining: watch::Receiver<bool>,
    runtime: Handle,
    servers: Arc<Mutex<Servers>>,
}

#[derive(Default)]
struct Servers {
    running: BTreeMap<Place, ServerHandle>,
    /// Bound, for settings that are about to be applied.
    bound: BTreeMap<Place, TcpListener>,
    /// Stopped a moment ago: the address may be taken still.
    stopped: BTreeSet<SocketAddr>,
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub(super) struct NotBound {
    dataset: DatasetName,
    address: SocketAddr,
    error: std::io::Error,
}

impl NotBound {
    /// In words, for a reload.
    pub(super) fn told(&self) -> String {
        format!(
            "datasets.{}.seed_listen: {} cannot be listened on ({}); choose another address",
            self.dataset, self.address, self.error
        )
    }
}

impl From<NotBound> for AppError {
    fn from(not: NotBound) -> Self {
        Self::SeedListen {
            dataset: not.dataset,
            listen: not.address,
            source: not.error,
        }
    }
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
            servers: Arc::default(),
        }
    }

    /// Binds the addresses that these settings add, for [`Self::follow`]. One that
    /// a server of ours gave up just now is waited for.
    ///
    /// # Errors
    /// One cannot be listened on; none is bound then.
    pub(super) async fn bind(&self, settings: &Settings) -> Result<(), NotBound> {
        self.servers().bound.clear();
        let mut bound = BTreeMap::new();
        for (place, dataset) in wanted(settings) {
            let address = place.0;
            let stopped = {
                let servers = self.servers();
                if servers.running.contains_key(&place) {
                    continue;
                }
                servers.stopped.contains(&address)
            };
            let until = Instant::now() + FREE_WITHIN.0;
            let listener = loop {
                match TcpListener::bind(address) {
                    Ok(listener) => break listener,
                    Err(_) if stopped && Instant::now() < until => sleep(FREE_WITHIN.1).await,
                    Err(error) => {
                        return Err(NotBound {
                            dataset,
                            address,
                            error,
                        });
                    }
                }
            };
            bound.insert(place, listener);
        }
        self.servers().bound = bound;
        Ok(())
    }

    /// Starts what the settings add, on the addresses that [`Self::bind`] bound for
    /// them, and stops what they lack. To be called on the main actix system.
    /// Answers the datasets of which none could be started.
    pub(super) fn follow(&self, settings: &Settings) -> Vec<DatasetName> {
        let wanted = wanted(settings);
        let mut servers = self.servers();
        let Servers {
            running,
            bound,
            stopped,
        } = &mut *servers;
        stopped.clear();
        let gone: Vec<Place> = running
            .keys()
            .filter(|place| !wanted.contains_key(place))
            .cloned()
            .collect();
        for place in gone {
            if let Some(server) = running.remove(&place) {
                tracing::info!(http.listen = %place.0, "the seed's wire is no longer served");
                stopped.insert(place.0);
                // Answers under way end by themselves.
                actix_rt::spawn(server.stop(true));
            }
        }
        let mut failed = Vec::new();
        for (place, dataset) in wanted {
            if running.contains_key(&place) {
                continue;
            }
            let listener = bound.remove(&place).map_or_else(
                || TcpListener::bind(place.0),
                Ok::<TcpListener, std::io::Error>,
            );
            match listener.and_then(|listener| self.start(&place, &dataset, listener)) {
                Ok(server) => {
                    running.insert(place, server);
                }
                Err(error) => {
                    tracing::error!(
                        dataset.name = %dataset,
                        http.listen = %place.0,
                        error = %error,
                        "the seed's wire is not served there"
                    );
                    failed.push(dataset);
                }
            }
        }
        bound.clear();
        failed
    }

    fn start(
        &self,
        place: &Place,
        dataset: &DatasetName,
        listener: TcpListener,
    ) -> std::io::Result<ServerHandle> {
        let listens = listener.local_addr()?;
        let wire = SeedWire {
            listen: place.0,
            only: place.1.clone(),
            datasets: self.datasets.clone(),
            settings: self.settings.clone(),
            draining: self.draining.clone(),
            runtime: self.runtime.clone(),
        };
        let server = seed_server(wire, listener)?;
        let handle = server.handle();
        actix_rt::spawn(server);
        tracing::info!(dataset.name = %dataset, http.listen = %listens, "the seed's wire is served");
        Ok(handle)
    }

    /// Stops all of them.
    pub(super) async fn stop(&self) {
        let running = std::mem::take(&mut self.servers().running);
        let stops = running.into_values().map(|server| server.stop(true));
        futures_util::future::join_all(stops).await;
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses, each with the dataset that it is of. None while a read token is
/// in force: a reload that takes that away may leave it until a restart, and the
/// wire knows no token.
fn wanted(settings: &Settings) -> BTreeMap<Place, DatasetName> {
    if settings.http.read_token.is_some() {
        return BTreeMap::new();
    }
    let datasets = settings.datasets.iter();
    datasets
        .filter_map(|dataset| {
            let address = dataset.seed_listen?;
            let only = (address.port() == 0).then(|| dataset.name.clone());
            Some(((address, only), dataset.name.clone()))
        })
        .collect()
}
