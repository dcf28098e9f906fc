//! How datasets are published: many requests in one transaction, each its own
//! head.

use super::changes::{as_json, sql_time};
use super::connection::{Connection, in_transaction, on_backend};
use super::datasets_entries::modify;
use super::datasets_history::{ChangeRow, record, trim};
use super::datasets_rows::{Generation, create_datasets, lock_live};
use super::events_rows::source;
use super::{Store, StoreError};
use crate::config::HistorySettings;
use crate::flows::replicas::{
    ContentKind, DatasetName, Epoch, Head, Modification, PublishError, PublishRequest, Published,
    compact,
};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What becomes of each request of a group.
pub type PublishOutcomes = Vec<Result<Published, PublishError>>;

/// A first outcome, as it is kept.
#[derive(Clone, QueryableByName, Serialize)]
struct KnownRequest {
    #[diesel(sql_type = Text)]
    dataset: String,
    #[diesel(sql_type = Text)]
    idempotency_key: String,
    #[diesel(sql_type = Text)]
    fingerprint: String,
    #[diesel(sql_type = Text)]
    epoch: String,
    #[diesel(sql_type = BigInt)]
    head: Head,
}

impl Store {
    /// Publishes in one transaction: each request moves its dataset's head by
    /// one, in the order given. One that is refused (`if_head`, a key that was
    /// used for something else) leaves the others as they are. A dataset that is
    /// not there begins to be. Answers each request.
    ///
    /// History beyond its bounds goes with it, some rows at a time; of a dataset
    /// that `history` does not name, beyond the default ones.
    ///
    /// # Errors
    /// The database is out of reach, a row is locked, or it refuses one; nothing
    /// is published.
    pub async fn publish(
        &self,
        requests: impl Into<Arc<[PublishRequest]>>,
        history: BTreeMap<DatasetName, HistorySettings>,
    ) -> Result<PublishOutcomes, StoreError> {
        let store = self.clone();
        let requests = requests.into();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                publish(&mut Connection::from(conn), &requests, &history).await
            })
        })
        .await
    }

    /// A dataset's history ends: a new epoch begins, with the same entries at the
    /// same head, so that every follower begins anew. For a database that was
    /// restored. `None`: there is no such dataset.
    ///
    /// # Errors
    /// The database is out of reach; nothing changed.
    pub async fn new_epoch(
        &self,
        dataset: &DatasetName,
    ) -> Result<Option<(Epoch, Head)>, StoreError> {
        let store = self.clone();
        let dataset = dataset.clone();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                begin_epoch(&mut Connection::from(conn), &dataset).await
            })
        })
        .await
    }
}

async fn begin_epoch(
    conn: &mut Connection<'_>,
    dataset: &DatasetName,
) -> Result<Option<(Epoch, Head)>, StoreError> {
    let names = BTreeSet::from([dataset.as_str()]);
    let locked = lock_live(conn, ContentKind::Dataset, &names).await?;
    let Some(mut generation) = locked.into_iter().next() else {
        return Ok(None);
    };
    let epoch = Epoch::random();
    epoch.as_str().clone_into(&mut generation.epoch);
    generation.oldest_head = generation.head;
    generation.history_changes = 0;
    generation.history_bytes = 0;
    generation.changed_at = Timestamp::now();
    let sql = format!(
        "DELETE FROM dataset_changes WHERE generation = {}",
        generation.id
    );
    on_backend!(conn, c => diesel::sql_query(&sql).execute(c).await)?;
    generation.save(conn).await?;
    Ok(Some((epoch, generation.head)))
}

/// The live generations of datasets, locked; created where they are missing.
pub(super) async fn lock_datasets(
    conn: &mut Connection<'_>,
    names: &BTreeSet<&str>,
) -> Result<Vec<Generation>, StoreError> {
    let rows = lock_live(conn, ContentKind::Dataset, names).await?;
    if rows.len() == names.len() {
        return Ok(rows);
    }
    create_datasets(conn, names).await?;
    lock_live(conn, ContentKind::Dataset, names).await
}

async fn publish(
    conn: &mut Connection<'_>,
    requests: &[PublishRequest],
    history: &BTreeMap<DatasetName, HistorySettings>,
) -> Result<PublishOutcomes, StoreError> {
    let names: BTreeSet<&str> = requests.iter().map(|one| one.dataset.as_str()).collect();
    let generations = lock_datasets(conn, &names).await?;
    let known = known_requests(conn, requests).await?;
    let now = Timestamp::now();
    let mut publishing = Publishing::new(generations, known);
    let mut outcomes = Vec::with_capacity(requests.len());
    for request in requests {
        outcomes.push(publishing.take(request, now)?);
    }
    for (name, writing) in publishing.datasets {
        if writing.rows.is_empty() {
            continue;
        }
        let default = HistorySettings::default();
        let bounds = DatasetName::parse(&name);
        let bounds = bounds.and_then(|name| history.get(&name));
        writing.write(conn, bounds.unwrap_or(&default), now).await?;
    }
    remember(conn, &publishing.first, now).await?;
    Ok(outcomes)
}

/// What is to be written of one dataset.
pub(super) struct Writing<'a> {
    pub(super) generation: Generation,
    /// The last modification of each key.
    last: HashMap<&'a str, &'a Modification>,
    rows: Vec<ChangeRow>,
}

impl<'a> Writing<'a> {
    pub(super) fn of(generation: Generation) -> Self {
        Self {
            generation,
            last: HashMap::new(),
            rows: Vec::new(),
        }
    }

    /// Moves the head by one, with these modifications.
    pub(super) fn take(
        &mut self,
        modifications: &'a [Modification],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let from = self.generation.head;
        let to = from.saturating_add(1);
        let compacted = compact(modifications.to_vec());
        let row = ChangeRow::new(self.generation.id, (from, to), &compacted, now)?;
        self.generation.remember(&row);
        self.generation.head = to;
        self.rows.push(row);
        for modification in modifications {
            self.last.insert(modification.key(), modification);
        }
        Ok(())
    }

    pub(super) async fn write(
        mut self,
        conn: &mut Connection<'_>,
        bounds: &HistorySettings,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let modifications: Vec<&Modification> = self.last.into_values().collect();
        for growth in modify(conn, self.generation.id, &modifications).await? {
            self.generation.grow(growth);
        }
        record(conn, &self.rows).await?;
        let written = self.rows.len();
        let from = self.rows.iter().map(|row| row.from_head).min();
        let from = from.unwrap_or(self.generation.head);
        let before = self.generation.too_old(from, bounds, now);
        trim(conn, &mut self.generation, Some(bounds), before, written).await?;
        self.generation.changed_at = now;
        self.generation.save(conn).await
    }
}

/// Decides each request of a group.
struct Publishing<'a> {
    datasets: BTreeMap<String, Writing<'a>>,
    known: HashMap<(String, String), KnownRequest>,
    /// Outcomes to be kept.
    first: Vec<KnownRequest>,
}

impl<'a> Publishing<'a> {
    fn new(generations: Vec<Generation>, known: Vec<KnownRequest>) -> Self {
        let datasets = generations.into_iter();
        let known = known.into_iter();
        Self {
            datasets: datasets
                .map(|generation| (generation.name.clone(), Writing::of(generation)))
                .collect(),
            known: known
                .map(|row| ((row.dataset.clone(), row.idempotency_key.clone()), row))
                .collect(),
            first: Vec::new(),
        }
    }

    fn take(
        &mut self,
        request: &'a PublishRequest,
        now: Timestamp,
    ) -> Result<Result<Published, PublishError>, StoreError> {
        let name = request.dataset.as_str();
        if let Some((key, fingerprint)) = &request.idempotency
            && let Some(first) = self.known.get(&(name.to_owned(), key.clone()))
        {
            if first.fingerprint != *fingerprint {
                return Ok(Err(PublishError::KeyReused));
            }
            return Ok(Ok(Published {
                epoch: Epoch::told(&first.epoch),
                head: first.head,
                repeated: true,
            }));
        }
        let Some(writing) = self.datasets.get_mut(name) else {
            return Err(StoreError::Internal(format!(
                "dataset {name:?} is not there, though it was created just now"
            )));
        };
        let head = writing.generation.head;
        if request.if_head.is_some_and(|expected| expected != head) {
            return Ok(Err(PublishError::HeadMoved(head)));
        }
        writing.take(&request.modifications, now)?;
        let published = Published {
            epoch: writing.generation.epoch(),
            head: writing.generation.head,
            repeated: false,
        };
        if let Some((key, fingerprint)) = &request.idempotency {
            let row = KnownRequest {
                dataset: name.to_owned(),
                idempotency_key: key.clone(),
                fingerprint: fingerprint.clone(),
                epoch: published.epoch.as_str().to_owned(),
                head: published.head,
            };
            self.known
                .insert((name.to_owned(), key.clone()), row.clone());
            self.first.push(row);
        }
        Ok(Ok(published))
    }
}

/// First outcomes of requests with these keys.
async fn known_requests(
    conn: &mut Connection<'_>,
    requests: &[PublishRequest],
) -> Result<Vec<KnownRequest>, StoreError> {
    #[derive(Serialize)]
    struct Asked<'a> {
        dataset: &'a str,
        idempotency_key: &'a str,
    }
    let asked = |request: &'_ PublishRequest| {
        let (key, _) = request.idempotency.as_ref()?;
        Some((request.dataset.as_str().to_owned(), key.clone()))
    };
    let asked: BTreeSet<(String, String)> = requests.iter().filter_map(asked).collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<Asked<'_>> = asked
        .iter()
        .map(|(dataset, idempotency_key)| Asked {
            dataset,
            idempotency_key,
        })
        .collect();
    let source = source(
        conn.is_sqlite(),
        &[("dataset", "text"), ("idempotency_key", "text")],
    );
    let sql = format!(
        "SELECT r.dataset, r.idempotency_key, r.fingerprint, r.epoch, r.head FROM {source} \
         JOIN dataset_requests r ON r.dataset = u.dataset AND r.idempotency_key = u.idempotency_key"
    );
    let asked = as_json(&asked)?;
    Ok(on_backend!(conn, c => diesel::sql_query(&sql).bind::<Text, _>(&asked).load(c).await)?)
}

/// Keeps first outcomes.
async fn remember(
    conn: &mut Connection<'_>,
    first: &[KnownRequest],
    now: Timestamp,
) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row<'a> {
        #[serde(flatten)]
        request: &'a KnownRequest,
        #[serde(serialize_with = "sql_time")]
        requested_at: Option<Timestamp>,
    }
    if first.is_empty() {
        return Ok(());
    }
    let source = source(
        conn.is_sqlite(),
        &[
            ("dataset", "text"),
            ("idempotency_key", "text"),
            ("fingerprint", "text"),
            ("epoch", "text"),
            ("head", "bigint"),
            ("requested_at", "timestamp(3)"),
        ],
    );
    let sql = format!(
        "INSERT INTO dataset_requests (dataset, idempotency_key, fingerprint, epoch, head, \
         requested_at) SELECT u.dataset, u.idempotency_key, u.fingerprint, u.epoch, u.head, \
         u.requested_at FROM {source}"
    );
    let row = |request| Row {
        request,
        requested_at: Some(now),
    };
    let rows = as_json(&first.iter().map(row).collect::<Vec<_>>())?;
    on_backend!(conn, c => diesel::sql_query(&sql).bind::<Text, _>(&rows).execute(c).await)?;
    Ok(())
}
