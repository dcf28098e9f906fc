//! Followers: one for each replica of the configuration, registered at the start
//! and as reloads add and remove them; and their upstreams.

use super::services::ENGINE;
use crate::actors::{Follower, FollowerParts, FollowerSettings};
use crate::config::ReplicaSettings;
use crate::flows::replicas::{
    DatasetName, Digests, Epoch, Fetched, Fetching, Head, Info, ReplicasView, Upstream,
    UpstreamError,
};
use crate::leases::replicas_lease;
use crate::messages::{FollowerOrder, names};
use crate::upstreams;
use crate::watchdog::{Keeper, LookupError, Registration, WatchdogQuery};
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// How long after a reload a replica is registered whose former service has not
/// ended yet, and how often that is tried.
const ENDS_WITHIN: (Duration, u32) = (Duration::from_millis(100), 300);

/// The Followers of a server.
#[derive(Clone)]
pub(super) struct Replicas {
    query: WatchdogQuery,
    runtime: Handle,
    parts: FollowerParts,
    known: Arc<Mutex<Known>>,
}

/// What is configured, and what of it is registered.
#[derive(Default)]
struct Known {
    wanted: BTreeMap<DatasetName, FollowerSettings>,
    registered: BTreeSet<DatasetName>,
}

impl Replicas {
    /// None yet.
    pub(super) fn new(query: WatchdogQuery, runtime: Handle, parts: FollowerParts) -> Self {
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
    pub(super) fn register(&self, replicas: &[ReplicaSettings]) -> Result<(), LookupError> {
        self.change(replicas, false).map(drop)
    }

    /// The same while the server runs: what is new is started.
    pub(super) fn follow(&self, replicas: &[ReplicaSettings]) -> Result<(), LookupError> {
        if self.change(replicas, true)? {
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
                        tracing::error!(error = %error, "a replica was not registered");
                        return;
                    }
                }
            }
            tracing::error!("a replica was not registered: its former service does not end");
        });
        Ok(())
    }

    /// Answers whether all of them are registered.
    fn change(&self, replicas: &[ReplicaSettings], start: bool) -> Result<bool, LookupError> {
        let wanted = wanted(replicas);
        let removed: Vec<DatasetName> = {
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
            self.query.unregister(&names::follower(name.as_str()))?;
            self.parts.view.send_if_modified(|view| {
                let shown = view.replicas.contains_key(&name);
                if shown {
                    let view: &mut ReplicasView = Arc::make_mut(view);
                    view.replicas.remove(&name);
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
            let service = names::follower(name.as_str());
            if registered.contains(name) {
                self.query.update_settings(&service, settings.clone())?;
                continue;
            }
            let parts = self.parts.clone();
            let follower = Registration::<Follower>::new(&service)
                .on_thread(ENGINE)
                .settings(settings.clone())
                .accepts::<FollowerOrder>()
                .built_by(move |context| Follower::new(context, parts.clone()));
            match self.query.register(follower, Keeper::Supervisor) {
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

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wanted(replicas: &[ReplicaSettings]) -> BTreeMap<DatasetName, FollowerSettings> {
    let settings = |replica: &ReplicaSettings| {
        let settings = FollowerSettings {
            replica: replica.clone(),
        };
        (replica.name.clone(), settings)
    };
    replicas.iter().map(settings).collect()
}

/// Names of the leases under which replicas are followed.
pub(super) fn leases(replicas: &[ReplicaSettings]) -> impl Iterator<Item = String> {
    replicas
        .iter()
        .map(|replica| replicas_lease(replica.name.as_str()))
}

/// Makes the upstreams of a replica. What cannot be made is told by what stands in
/// its place, so that pages, log and metrics show it.
pub(super) fn connect(settings: &ReplicaSettings) -> Vec<Arc<dyn Upstream>> {
    upstreams::connect(settings).unwrap_or_else(|problem| {
        let none = |_| -> Arc<dyn Upstream> {
            Arc::new(NoUpstream {
                why: problem.to_string(),
            })
        };
        settings.upstreams.iter().map(none).collect()
    })
}

/// In place of an upstream that cannot be made.
struct NoUpstream {
    why: String,
}

impl NoUpstream {
    fn fails<T: Send + 'static>(&self) -> BoxFuture<'_, Result<T, UpstreamError>> {
        let failed = UpstreamError::Failed {
            why: self.why.clone(),
            retry_after: None,
        };
        Box::pin(std::future::ready(Err(failed)))
    }
}

impl Upstream for NoUpstream {
    fn info(&self, _: Option<usize>) -> BoxFuture<'_, Result<Info, UpstreamError>> {
        self.fails()
    }

    fn fetch(&self, _: Fetching) -> BoxFuture<'_, Result<Fetched, UpstreamError>> {
        self.fails()
    }

    fn watch(
        &self,
        _: Epoch,
        _: Head,
        _: Duration,
    ) -> Option<BoxFuture<'_, Result<Info, UpstreamError>>> {
        None
    }

    fn digests(
        &self,
        _: String,
        _: Option<String>,
        _: u64,
        _: usize,
        _: (Epoch, Head),
    ) -> Option<BoxFuture<'_, Result<Digests, UpstreamError>>> {
        None
    }

    fn place(&self) -> String {
        "none".to_owned()
    }
}
