//! The servers of the seed's wire, one for each dataset that has an address for it.

use super::AppError;
use crate::config::Settings;
use crate::flows::replicas::DatasetName;
use crate::http::{Datasets, SeedWire, seed_server};
use actix_web::dev::ServerHandle;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::watch;

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
