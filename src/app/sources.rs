//! The datasets of the configuration: that they are there, and that those which
//! are a table of Highwater's follow the table.
//!
//! Every server does this: what one has taken, the others leave alone.

use crate::config::{DatasetSettings, DatasetSource, Settings};
use crate::flows::replicas::{Content, ContentKind, DatasetName, Heads};
use crate::store::{SourceStand, Store, StoreError};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Keys that are noted in one transaction, when a table begins to be published.
const NOTED: usize = 5000;
/// How often a server says which tables it publishes.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// A table that no server has said so of for this long is not published any more.
/// Long enough for a server to be started again: what changes meanwhile is noted.
const SAID_WITHIN: Duration = Duration::from_secs(600);

/// Keeps datasets as the configuration has them.
pub(super) struct Sources {
    pub(super) store: Store,
    /// Told of heads that moved.
    pub(super) heads: Heads,
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    pub(super) draining: watch::Receiver<bool>,
}

/// Why a dataset is not brought up to date.
#[derive(Debug, thiserror::Error)]
enum SourceProblem {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the table {table} is published as dataset \"{by}\", as another server of this database is \
         configured, and a table is published as one dataset only; give all of them one configuration"
    )]
    Taken { table: &'static str, by: String },
}

/// What is known from one turn to the next.
#[derive(Default)]
struct Known {
    /// The datasets that were prepared.
    prepared: Option<Vec<DatasetSettings>>,
    /// When it was last said which tables are published.
    said_at: Option<Instant>,
}

/// What is wrong, by dataset; `None`: with all of them.
type Problems = BTreeMap<Option<DatasetName>, String>;

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
        let mut known = Known::default();
        let mut problems = Problems::new();
        loop {
            let settings = self.settings.borrow_and_update().clone();
            let told = self.turn(&settings, &mut known).await;
            log(&problems, &told);
            problems = told;
            tokio::select! {
                changed = self.settings.changed() => if changed.is_err() {
                    // The server is being taken down.
                    return;
                },
                () = sleep(settings.replication.sweep_interval) => {}
            }
        }
    }

    async fn turn(&self, settings: &Settings, known: &mut Known) -> Problems {
        let mut problems = Problems::new();
        // A step of each after the other: a large table holds up no other one.
        let mut left: Vec<_> = sources(&settings.datasets).collect();
        loop {
            // Also while there is much to do: others go by when this was said last.
            if let Err(error) = self.prepare(settings, known).await {
                problems.insert(None, error.to_string());
            }
            if left.is_empty() {
                break;
            }
            let mut unfinished = Vec::new();
            for (dataset, source) in left {
                match self.step(dataset, source, settings).await {
                    Ok(true) => unfinished.push((dataset, source)),
                    Ok(false) => {}
                    Err(problem) => {
                        problems.insert(Some(dataset.name.clone()), problem.to_string());
                    }
                }
            }
            left = unfinished;
            if self.settings.has_changed().unwrap_or(true) {
                break;
            }
        }
        problems
    }

    async fn prepare(&self, settings: &Settings, known: &mut Known) -> Result<(), StoreError> {
        if known.prepared.as_ref() != Some(&settings.datasets) {
            prepare(&self.store, &settings.datasets).await?;
            known.prepared = Some(settings.datasets.clone());
        } else if known.said_at.is_none_or(|at| at.elapsed() >= SAID_EVERY) {
            keep(&self.store, &settings.datasets).await?;
        } else {
            return Ok(());
        }
        known.said_at = Some(Instant::now());
        Ok(())
    }

    /// Notes and publishes one step of a table. Answers whether there is more.
    async fn step(
        &self,
        dataset: &DatasetSettings,
        source: DatasetSource,
        settings: &Settings,
    ) -> Result<bool, SourceProblem> {
        let (store, name) = (&self.store, &dataset.name);
        let is_whole = match store.source_stand(name, source).await? {
            SourceStand::Whole => true,
            SourceStand::Noting => store.note_source(name, source, NOTED).await?,
            // Also by a server that is configured otherwise, or by hand.
            SourceStand::Unwatched => {
                store.watch_source(name, source).await?;
                false
            }
            SourceStand::Taken(by) => {
                let table = source.as_str();
                return Err(SourceProblem::Taken { table, by });
            }
        };
        let (history, replication) = (&dataset.history, &settings.replication);
        let step = store
            .publish_source(name, source, history, replication)
            .await?;
        if step.published > 0 {
            self.heads.moved(&Content {
                kind: ContentKind::Dataset,
                name: name.clone(),
            });
        }
        Ok(step.more || !is_whole)
    }
}

/// Logs what is wrong since now, and what is right again.
fn log(before: &Problems, now: &Problems) {
    let name = |dataset: &Option<DatasetName>| dataset.as_ref().map(ToString::to_string);
    for (dataset, problem) in now {
        if before.get(dataset) != Some(problem) {
            tracing::warn!(dataset.name = name(dataset), error = %problem, "datasets could not be brought up to date; tried again");
        }
    }
    for dataset in before.keys().filter(|dataset| !now.contains_key(dataset)) {
        tracing::info!(
            dataset.name = name(dataset),
            "datasets are brought up to date again"
        );
    }
}

/// Creates datasets that are not there, and has the tables watched that are
/// published; what they hold is noted later.
///
/// # Errors
/// The database is out of reach, or a table is locked for too long; what does
/// not depend on it is done.
pub(super) async fn prepare(store: &Store, datasets: &[DatasetSettings]) -> Result<(), StoreError> {
    let names: Vec<DatasetName> = datasets.iter().map(|of| of.name.clone()).collect();
    if !names.is_empty() {
        store.ensure_datasets(&names).await?;
    }
    let mut done = Ok(());
    for (dataset, source) in sources(datasets) {
        done = done.and(store.watch_source(&dataset.name, source).await);
    }
    done.and(keep(store, datasets).await)
}

/// Says which tables are published. On SQLite there is no other server to say
/// so of others.
async fn keep(store: &Store, datasets: &[DatasetSettings]) -> Result<(), StoreError> {
    let sources = sources(datasets);
    let kept: BTreeSet<(DatasetName, DatasetSource)> = sources
        .map(|(dataset, source)| (dataset.name.clone(), source))
        .collect();
    let now = Timestamp::now();
    let claimed_before = if store.is_sqlite() {
        now
    } else {
        now.minus(SAID_WITHIN)
    };
    store.keep_sources(&kept, claimed_before).await
}

fn sources(
    datasets: &[DatasetSettings],
) -> impl Iterator<Item = (&DatasetSettings, DatasetSource)> {
    let all = datasets.iter();
    all.filter_map(|dataset| Some((dataset, dataset.source?)))
}
