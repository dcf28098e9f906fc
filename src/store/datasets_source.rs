//! Our own tables, published: triggers put what changed into
//! `dataset_source_changes`, and what is there is published from time to time.

use super::connection::{Connection, in_transaction, on_backend};
use super::datasets_publish::{Writing, lock_datasets};
use super::datasets_source_rows::{SourceKey, present};
use super::datasets_source_triggers::{drop_triggers, first_trigger, key_of, tables, triggers};
use super::{Store, StoreError};
use crate::config::{DatasetSource, HistorySettings};
use crate::flows::replicas::{DatasetName, Modification};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use std::collections::{BTreeMap, BTreeSet};

/// Released at the end of the transaction; the number has no meaning but to be
/// ours alone.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(5217390462)";

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct Changed {
    #[diesel(sql_type = Text)]
    key: String,
}

impl Store {
    /// A table of ours is published as this dataset from now on: its changes are
    /// noted by triggers. Where they were not until now, all that the table and
    /// the dataset have is noted once. A table is published as one dataset only.
    ///
    /// # Errors
    /// The database is out of reach, or the table is locked for too long;
    /// nothing changed.
    pub async fn watch_source(
        &self,
        dataset: &DatasetName,
        source: DatasetSource,
    ) -> Result<(), StoreError> {
        let (store, dataset) = (self.clone(), dataset.clone());
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                watch(&mut Connection::from(conn), &dataset, source).await
            })
        })
        .await
    }

    /// Changes of other tables than these are not noted any more; what was noted
    /// of them is forgotten.
    ///
    /// # Errors
    /// The database is out of reach, or a table is locked for too long; nothing
    /// changed.
    pub async fn unwatch_sources_except(
        &self,
        watched: &BTreeSet<DatasetSource>,
    ) -> Result<(), StoreError> {
        let (store, watched) = (self.clone(), watched.clone());
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                let conn = &mut Connection::from(conn);
                begin_alone(conn).await?;
                for source in DatasetSource::ALL {
                    if !watched.contains(&source) && is_watched(conn, source).await? {
                        unwatch(conn, source).await?;
                    }
                }
                Ok::<_, StoreError>(())
            })
        })
        .await
    }

    /// Publishes what changed of a table, in one transaction: up to `limit` of the
    /// oldest changes, as one head. Answers how many; 0 when nothing is left.
    ///
    /// # Errors
    /// The database is out of reach, or a row is locked; nothing is published.
    pub async fn publish_source(
        &self,
        dataset: &DatasetName,
        source: DatasetSource,
        history: &HistorySettings,
        limit: usize,
    ) -> Result<usize, StoreError> {
        {
            // Most of the time there is nothing: then nothing is locked.
            let mut lent = self.reader().await?;
            if !has_changes(&mut lent.connection(), source).await? {
                return Ok(0);
            }
        }
        let (store, dataset, history) = (self.clone(), dataset.clone(), history.clone());
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                publish(&mut Connection::from(conn), &dataset, source, &history, limit).await
            })
        })
        .await
    }
}

async fn begin_alone(conn: &mut Connection<'_>) -> Result<(), StoreError> {
    if let Connection::Postgres(conn) = conn {
        diesel::sql_query(ONE_AT_A_TIME).execute(*conn).await?;
    }
    Ok(())
}

async fn run(conn: &mut Connection<'_>, sql: &str) -> Result<(), StoreError> {
    on_backend!(conn, c => c.batch_execute(sql).await)?;
    Ok(())
}

async fn is_watched(conn: &mut Connection<'_>, source: DatasetSource) -> Result<bool, StoreError> {
    let (trigger, table) = first_trigger(source, conn.is_sqlite());
    let sql = if conn.is_sqlite() {
        format!(
            "SELECT count(*) AS count FROM sqlite_master WHERE type = 'trigger' AND name = '{trigger}'"
        )
    } else {
        format!(
            "SELECT count(*) AS count FROM pg_trigger WHERE tgname = '{trigger}' \
             AND tgrelid = '{table}'::regclass"
        )
    };
    let rows: Vec<Count> = on_backend!(conn, c => diesel::sql_query(&sql).load(c).await)?;
    Ok(rows.iter().any(|row| row.count > 0))
}

async fn has_changes(conn: &mut Connection<'_>, source: DatasetSource) -> Result<bool, StoreError> {
    let sql = format!(
        "SELECT key FROM dataset_source_changes WHERE source = '{}' LIMIT 1",
        source.as_str()
    );
    let rows: Vec<Changed> = on_backend!(conn, c => diesel::sql_query(&sql).load(c).await)?;
    Ok(!rows.is_empty())
}

async fn watch(
    conn: &mut Connection<'_>,
    dataset: &DatasetName,
    source: DatasetSource,
) -> Result<(), StoreError> {
    begin_alone(conn).await?;
    let sqlite = conn.is_sqlite();
    let names = BTreeSet::from([dataset.as_str()]);
    let generations = lock_datasets(conn, &names).await?;
    let was_watched = is_watched(conn, source).await?;
    if !was_watched {
        run(conn, &triggers(source, sqlite)).await?;
    }
    let word = source.as_str();
    for generation in generations {
        let is_new = generation.head == 0 && !has_changes(conn, source).await?;
        if was_watched && !is_new {
            continue;
        }
        // What the table lost while nobody looked is still in the dataset.
        let quoted = if sqlite {
            "json_quote(key)"
        } else {
            "to_json(key)::text"
        };
        run(
            conn,
            &format!(
                "INSERT INTO dataset_source_changes (source, key) SELECT '{word}', {quoted} \
                 FROM dataset_entries WHERE generation = {}",
                generation.id
            ),
        )
        .await?;
        let (table, columns) = tables(source).0;
        let key = key_of(table, columns, sqlite);
        run(
            conn,
            &format!(
                "INSERT INTO dataset_source_changes (source, key) SELECT '{word}', {key} FROM {table}"
            ),
        )
        .await?;
    }
    Ok(())
}

async fn unwatch(conn: &mut Connection<'_>, source: DatasetSource) -> Result<(), StoreError> {
    run(conn, &drop_triggers(source, conn.is_sqlite())).await?;
    let sql = format!(
        "DELETE FROM dataset_source_changes WHERE source = '{}'",
        source.as_str()
    );
    run(conn, &sql).await
}

/// Takes the oldest changes that nobody else takes.
async fn take(
    conn: &mut Connection<'_>,
    source: DatasetSource,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    let locked = if conn.is_sqlite() {
        ""
    } else {
        " FOR UPDATE SKIP LOCKED"
    };
    let sql = format!(
        "DELETE FROM dataset_source_changes WHERE seq IN (SELECT seq FROM dataset_source_changes \
         WHERE source = '{}' ORDER BY seq LIMIT {limit}{locked}) RETURNING key",
        source.as_str()
    );
    let rows: Vec<Changed> = on_backend!(conn, c => diesel::sql_query(&sql).load(c).await)?;
    Ok(rows.into_iter().map(|row| row.key).collect())
}

async fn publish(
    conn: &mut Connection<'_>,
    dataset: &DatasetName,
    source: DatasetSource,
    history: &HistorySettings,
    limit: usize,
) -> Result<usize, StoreError> {
    // The lock first: who takes later changes publishes them later, too.
    let names = BTreeSet::from([dataset.as_str()]);
    let generations = lock_datasets(conn, &names).await?;
    let Some(generation) = generations.into_iter().next() else {
        return Ok(0);
    };
    let taken = take(conn, source, limit).await?;
    if taken.is_empty() {
        return Ok(0);
    }
    // By key, so that of several changes of a row one is left.
    let keys: BTreeMap<String, SourceKey> = taken
        .iter()
        .map(|noted| SourceKey::noted(noted, source))
        .map(|key| (key.text(), key))
        .collect();
    let mut rows = present(conn, source, &keys).await?;
    let modifications: Vec<Modification> = keys
        .into_keys()
        .map(|key| match rows.remove(&key) {
            Some(entry) => Modification::Update(entry),
            None => Modification::Delete(key),
        })
        .collect();
    let now = Timestamp::now();
    let mut writing = Writing::of(generation);
    writing.take(&modifications, now)?;
    writing.write(conn, history, now).await?;
    Ok(taken.len())
}
