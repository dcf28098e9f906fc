//! The replica flow's composition: what is published goes to the Updater, what
//! it writes goes to the store and wakes those who wait.

use crate::actors::{ReplicaEdit, ReplicaWriter};
use crate::config::{HistorySettings, RetentionSettings, Settings};
use crate::flows::replicas::{
    Applied, Content, ContentKind, Contents, DatasetName, Digests, Epoch, FetchError, Fetched,
    Fetching, Head, Heads, Info, PublishError, PublishRequest, Published,
};
use crate::http::{Datasets, Publisher};
use crate::messages::{ApplyError, Publish, names};
use crate::store::{NotApplied, ReplicaGroup, Store, StoredContents};
use crate::watchdog::{Intercom, LookupError, Watchdog};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a request waits until its modifications are durable. Whoever sends
/// them again with the same Idempotency-Key learns what became of them.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(25);

/// What is served of datasets and replicas.
pub(super) fn contents(
    store: Store,
    settings: watch::Receiver<Arc<Settings>>,
) -> Arc<dyn Contents> {
    Arc::new(LiveContents { store, settings })
}

/// What writes them; whoever waits for a head is woken through `heads`.
pub(super) fn replica_writer(store: Store, heads: Heads) -> Arc<dyn ReplicaWriter> {
    Arc::new(StoreWriter { store, heads })
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

/// What is kept, with the age of the history of datasets and replicas.
pub(super) fn retention(settings: &Settings) -> RetentionSettings {
    let ages = histories(settings).into_iter();
    RetentionSettings {
        histories: ages.map(|(content, kept)| (content, kept.age)).collect(),
        ..settings.retention.clone()
    }
}

/// The store's contents, within the bounds of the settings in force.
struct LiveContents {
    store: Store,
    settings: watch::Receiver<Arc<Settings>>,
}

impl LiveContents {
    fn now(&self) -> StoredContents {
        StoredContents::new(self.store.clone(), &self.settings.borrow().replication)
    }
}

impl Contents for LiveContents {
    fn info<'a>(
        &'a self,
        content: &'a Content,
        splits: Option<usize>,
    ) -> BoxFuture<'a, Result<Info, FetchError>> {
        let contents = self.now();
        Box::pin(async move { contents.info(content, splits).await })
    }

    fn fetch<'a>(
        &'a self,
        content: &'a Content,
        fetching: &'a Fetching,
    ) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        let contents = self.now();
        Box::pin(async move { contents.fetch(content, fetching).await })
    }

    fn digests<'a>(
        &'a self,
        content: &'a Content,
        after: &'a str,
        until: Option<&'a str>,
        limit: u64,
        splits: usize,
        since: Option<(&'a Epoch, Head)>,
    ) -> BoxFuture<'a, Result<Digests, FetchError>> {
        let contents = self.now();
        Box::pin(async move {
            let digests = contents.digests(content, after, until, limit, splits, since);
            digests.await
        })
    }

    fn entry<'a>(
        &'a self,
        content: &'a Content,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, FetchError>> {
        let contents = self.now();
        Box::pin(async move { contents.entry(content, key).await })
    }
}

/// The store, as the Updater writes to it.
#[derive(Debug)]
struct StoreWriter {
    store: Store,
    heads: Heads,
}

impl ReplicaWriter for StoreWriter {
    fn publish(
        &self,
        requests: Vec<(PublishRequest, HistorySettings)>,
    ) -> BoxFuture<'_, Vec<Result<Published, PublishError>>> {
        Box::pin(async move {
            let count = requests.len();
            let kept = |(request, history): &(PublishRequest, HistorySettings)| {
                (request.dataset.clone(), history.clone())
            };
            let history = requests.iter().map(kept).collect();
            let requests: Vec<PublishRequest> =
                requests.into_iter().map(|(request, _)| request).collect();
            let published = self.store.publish(requests, history).await;
            published.unwrap_or_else(|error| {
                let why = error.to_string();
                let told = if error.is_transient() {
                    PublishError::Away(why)
                } else {
                    // The Updater tries each alone.
                    PublishError::Refused(why)
                };
                vec![Err(told); count]
            })
        })
    }

    fn apply<'a>(
        &'a self,
        holder: &'a str,
        edits: Vec<ReplicaEdit>,
    ) -> BoxFuture<'a, Vec<Result<Applied, ApplyError>>> {
        Box::pin(async move {
            let count = edits.len();
            let group = |edit: ReplicaEdit| ReplicaGroup {
                replica: edit.replica,
                stake: edit.stake,
                change: edit.change,
                history: edit.history,
            };
            let groups: Vec<ReplicaGroup> = edits.into_iter().map(group).collect();
            let told = |outcome: Result<Applied, NotApplied>| {
                outcome.map_err(|not| match not {
                    NotApplied::Fenced => ApplyError::Fenced,
                    NotApplied::Refused(why) => ApplyError::Refused(why),
                })
            };
            match self.store.apply_replicas(holder, groups).await {
                Ok(outcomes) => outcomes.into_iter().map(told).collect(),
                Err(error) => {
                    let why = error.to_string();
                    let told = if error.is_transient() {
                        ApplyError::Away(why)
                    } else {
                        ApplyError::Refused(why)
                    };
                    vec![Err(told); count]
                }
            }
        })
    }

    fn moved(&self, content: &Content) {
        self.heads.moved(content);
    }
}
