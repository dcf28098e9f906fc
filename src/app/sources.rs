//! The datasets of the configuration: that they are there, and that those which
//! are a table of Highwater's follow the table.
//!
//! Every server does this: what one has taken, the others leave alone.

use crate::config::{DatasetSettings, DatasetSource, Settings};
use crate::flows::replicas::{Content, ContentKind, DatasetName, Heads};
use crate::store::{Store, StoreError};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::sleep;

/// Changes of a table that are published as one head, at most.
const STEP: usize = 5000;

/// Keeps datasets as the configuration has them.
pub(super) struct Sources {
    pub(super) store: Store,
    /// Told of heads that moved.
    pub(super) heads: Heads,
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    pub(super) draining: watch::Receiver<bool>,
}

impl Sources {
    /// Publishes what changes of tables, each `replication.sweep_interval`, until
    /// the server drains.
    pub(super) async fn run(self) {
        let mut draining = self.draining.clone();
        tokio::select! {
            () = self.sweep() => {}
            // Also when whoever says so is gone.
            _ = draining.wait_for(|draining| *draining) => {}
        }
    }

    async fn sweep(mut self) {
        let mut prepared: Option<Vec<DatasetSettings>> = None;
        let mut trouble: Option<String> = None;
        loop {
            let settings = self.settings.borrow_and_update().clone();
            let swept = self.turn(&settings, &mut prepared).await;
            let told = swept.err().map(|error| error.to_string());
            if trouble != told {
                match &told {
                    Some(error) => {
                        tracing::warn!(error = %error, "datasets could not be brought up to date; tried again");
                    }
                    None => tracing::info!("datasets are brought up to date again"),
                }
                trouble = told;
            }
            tokio::select! {
                changed = self.settings.changed() => if changed.is_err() {
                    // The server is being taken down.
                    return;
                },
                () = sleep(settings.replication.sweep_interval) => {}
            }
        }
    }

    async fn turn(
        &self,
        settings: &Settings,
        prepared: &mut Option<Vec<DatasetSettings>>,
    ) -> Result<(), StoreError> {
        if prepared.as_ref() != Some(&settings.datasets) {
            prepare(&self.store, &settings.datasets).await?;
            *prepared = Some(settings.datasets.clone());
        }
        for (dataset, source) in sources(&settings.datasets) {
            self.publish(dataset, source).await?;
        }
        Ok(())
    }

    /// Publishes all that changed of a table.
    async fn publish(
        &self,
        dataset: &DatasetSettings,
        source: DatasetSource,
    ) -> Result<(), StoreError> {
        loop {
            let (name, history) = (&dataset.name, &dataset.history);
            let taken = self
                .store
                .publish_source(name, source, history, STEP)
                .await?;
            if taken > 0 {
                self.heads.moved(&Content {
                    kind: ContentKind::Dataset,
                    name: name.clone(),
                });
            }
            if taken < STEP {
                return Ok(());
            }
        }
    }
}

/// Creates datasets that are not there, and has the tables watched that are
/// published, and no others.
///
/// # Errors
/// The database is out of reach; some of it may be done.
pub(super) async fn prepare(store: &Store, datasets: &[DatasetSettings]) -> Result<(), StoreError> {
    let names: Vec<DatasetName> = datasets.iter().map(|of| of.name.clone()).collect();
    if !names.is_empty() {
        store.ensure_datasets(&names).await?;
    }
    let watched: BTreeSet<DatasetSource> = sources(datasets).map(|(_, source)| source).collect();
    store.unwatch_sources_except(&watched).await?;
    for (dataset, source) in sources(datasets) {
        store.watch_source(&dataset.name, source).await?;
    }
    Ok(())
}

fn sources(
    datasets: &[DatasetSettings],
) -> impl Iterator<Item = (&DatasetSettings, DatasetSource)> {
    let all = datasets.iter();
    all.filter_map(|dataset| Some((dataset, dataset.source?)))
}
