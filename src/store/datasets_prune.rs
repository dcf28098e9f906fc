//! What datasets and replicas no longer need: contents that were given up or
//! replaced, history past its age, and outcomes past their retention.

use super::connection::{Connection, IN_ORDER, in_transaction, on_backend};
use super::datasets_history::trim;
use super::datasets_rows::lock_live;
use super::{Store, StoreError};
use crate::flows::replicas::{Content, Head};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text, Timestamp as SqlTimestamp};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long an `Idempotency-Key` answers its first outcome.
const REQUESTS_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Entries that go for each row of anything else: they are small and many, and
/// nobody reads them any more.
const ENTRIES_PER_ROW: i64 = 10;

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

#[derive(QueryableByName)]
struct KeyBound {
    #[diesel(sql_type = Text)]
    key: String,
}

#[derive(QueryableByName)]
struct HeadBound {
    #[diesel(sql_type = BigInt)]
    head: Head,
}

impl Store {
    /// Deletes one step of what is no longer needed: some `limit` rows of
    /// requests past their 24 hours, of contents that were given up or replaced,
    /// and of history that is older than `ages` says. Answers how many.
    ///
    /// # Errors
    /// The database is out of reach; some may be deleted.
    pub async fn prune_datasets(
        &self,
        now: Timestamp,
        ages: &BTreeMap<Content, Duration>,
        limit: i64,
    ) -> Result<usize, StoreError> {
        let mut pruned = self.prune_requests(now, limit).await?;
        pruned += self.prune_dropped(limit).await?;
        for (content, age) in ages {
            pruned += self.prune_history(content, now.minus(*age)).await?;
        }
        Ok(pruned)
    }

    async fn prune_requests(&self, now: Timestamp, limit: i64) -> Result<usize, StoreError> {
        let sql = format!(
            "DELETE FROM dataset_requests WHERE (dataset, idempotency_key) IN \
             (SELECT dataset, idempotency_key FROM dataset_requests WHERE requested_at < $1 \
             ORDER BY requested_at LIMIT {limit})"
        );
        let before = now.minus(REQUESTS_KEPT);
        let mut lent = self.writer().await?;
        Ok(on_backend!(lent, conn => {
            diesel::sql_query(&sql).bind::<SqlTimestamp, _>(before).execute(conn).await
        })?)
    }

    /// One step of the oldest content that was given up.
    async fn prune_dropped(&self, limit: i64) -> Result<usize, StoreError> {
        let dropped: Vec<Id> = {
            let mut lent = self.reader().await?;
            on_backend!(lent, conn => {
                diesel::sql_query(
                    "SELECT id FROM dataset_generations WHERE dropped_at IS NOT NULL \
                     ORDER BY id LIMIT 1",
                )
                .load(conn)
                .await
            })?
        };
        let Some(Id { id }) = dropped.into_iter().next() else {
            return Ok(0);
        };
        let store = self.clone();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                remove_some(&mut Connection::from(conn), id, limit).await
            })
        })
        .await
    }

    /// One step of a content's history from before a time.
    async fn prune_history(
        &self,
        content: &Content,
        before: Timestamp,
    ) -> Result<usize, StoreError> {
        let oldest: Vec<Id> = {
            let mut lent = self.reader().await?;
            on_backend!(lent, conn => {
                diesel::sql_query(
                    "SELECT g.id FROM dataset_generations g WHERE g.kind = $1 AND g.name = $2 AND g.live \
                     AND (SELECT c.changed_at FROM dataset_changes c WHERE c.generation = g.id \
                     AND c.head > g.oldest_head AND c.head < g.head ORDER BY c.head LIMIT 1) < $3",
                )
                .bind::<Text, _>(content.kind.as_str())
                .bind::<Text, _>(content.name.as_str())
                .bind::<SqlTimestamp, _>(before)
                .load(conn)
                .await
            })?
        };
        if oldest.is_empty() {
            return Ok(0);
        }
        let (store, content) = (self.clone(), content.clone());
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                let conn = &mut Connection::from(conn);
                let names = BTreeSet::from([content.name.as_str()]);
                let mut gone = 0;
                for mut generation in lock_live(conn, content.kind, &names).await? {
                    gone += trim(conn, &mut generation, None, Some(before), 0).await?;
                    generation.save(conn).await?;
                }
                Ok::<_, StoreError>(gone)
            })
        })
        .await
    }
}

/// Removes some rows of a content that was given up; with the last ones, its
/// own. Answers how many.
async fn remove_some(conn: &mut Connection<'_>, id: i64, limit: i64) -> Result<usize, StoreError> {
    if let Connection::Postgres(conn) = conn {
        conn.batch_execute(IN_ORDER).await?;
    }
    let entries = limit.saturating_mul(ENTRIES_PER_ROW);
    let bound = format!(
        "SELECT key FROM dataset_entries WHERE generation = {id} ORDER BY key LIMIT 1 OFFSET {entries}"
    );
    let bounds: Vec<KeyBound> = on_backend!(conn, c => diesel::sql_query(&bound).load(c).await)?;
    if let Some(KeyBound { key }) = bounds.into_iter().next() {
        let sql = format!("DELETE FROM dataset_entries WHERE generation = {id} AND key <= $1");
        return Ok(on_backend!(conn, c => {
            diesel::sql_query(&sql).bind::<Text, _>(&key).execute(c).await
        })?);
    }
    let rest = format!("DELETE FROM dataset_entries WHERE generation = {id}");
    let mut gone = on_backend!(conn, c => diesel::sql_query(&rest).execute(c).await)?;
    let bound = format!(
        "SELECT head FROM dataset_changes WHERE generation = {id} ORDER BY head LIMIT 1 OFFSET {limit}"
    );
    let bounds: Vec<HeadBound> = on_backend!(conn, c => diesel::sql_query(&bound).load(c).await)?;
    let bound = bounds.into_iter().next().map(|bound| bound.head);
    let past = bound.map_or_else(String::new, |head| format!(" AND head <= {head}"));
    let changes = format!("DELETE FROM dataset_changes WHERE generation = {id}{past}");
    gone += on_backend!(conn, c => diesel::sql_query(&changes).execute(c).await)?;
    if bound.is_none() {
        let ranges = format!("DELETE FROM replica_ranges WHERE generation = {id}");
        let own = format!("DELETE FROM dataset_generations WHERE id = {id}");
        gone += on_backend!(conn, c => {
            diesel::sql_query(&ranges).execute(c).await?;
            diesel::sql_query(&own).execute(c).await
        })?;
    }
    Ok(gone)
}
