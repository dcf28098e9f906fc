//! What datasets and replicas no longer need: contents that were given up or
//! replaced, bootstraps that nobody goes on with, history past its age, and
//! outcomes past their retention.

use super::connection::{Connection, IN_ORDER, in_transaction, on_backend};
use super::datasets_history::trim;
use super::datasets_rows::lock_live;
use super::replicas_bootstrap::give_up;
use super::replicas_rows::{generation, lock_replicas};
use super::{Store, StoreError};
use crate::flows::replicas::{Content, ContentKind, Head};
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
/// A bootstrap of a replica that is not configured here, and that no server
/// follows, is given up when nothing was written to it for so long: another
/// server may be configured for it and away just now.
const ABANDONED: Duration = Duration::from_secs(3600);
/// Begins the names of the leases under which replicas are followed.
const FOLLOWED: &str = "replicas:";

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

#[derive(QueryableByName)]
struct Idle {
    #[diesel(sql_type = Text)]
    name: String,
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
    /// and of history that is older than `ages` says, which has all contents that
    /// are configured. Bootstraps of others are given up after an hour in which
    /// nobody went on with them. Answers how many rows it took.
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
        pruned += self.prune_bootstraps(now, ages).await?;
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

    /// Gives up bootstraps that nobody goes on with. Answers how many.
    async fn prune_bootstraps(
        &self,
        now: Timestamp,
        configured: &BTreeMap<Content, Duration>,
    ) -> Result<usize, StoreError> {
        let idle: Vec<Idle> = {
            let mut lent = self.reader().await?;
            on_backend!(lent, conn => {
                diesel::sql_query(
                    "SELECT r.name FROM replicas r JOIN dataset_generations g \
                     ON g.id = r.generation WHERE g.changed_at < $1 ORDER BY r.name",
                )
                .bind::<SqlTimestamp, _>(now.minus(ABANDONED))
                .load(conn)
                .await
            })?
        };
        let is_configured = |name: &str| {
            let mut replicas = configured.keys();
            replicas.any(|of| of.kind == ContentKind::Replica && of.name.as_str() == name)
        };
        let mut idle: Vec<String> = idle.into_iter().map(|row| row.name).collect();
        idle.retain(|name| !is_configured(name));
        if idle.is_empty() {
            return Ok(0);
        }
        // Who follows one just now writes to it soon, and is told that it is gone.
        let leases = self.leases().await?;
        let is_followed = |name: &str| {
            let lease = format!("{FOLLOWED}{name}");
            leases.iter().any(|row| row.name == lease && row.is_held())
        };
        idle.retain(|name| !is_followed(name));
        let store = self.clone();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                give_up_bootstraps(&mut Connection::from(conn), &idle, now).await
            })
        })
        .await
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

/// Gives up the bootstraps of these replicas, where nothing was written since
/// [`ABANDONED`] still.
async fn give_up_bootstraps(
    conn: &mut Connection<'_>,
    replicas: &[String],
    now: Timestamp,
) -> Result<usize, StoreError> {
    let names: BTreeSet<&str> = replicas.iter().map(String::as_str).collect();
    let mut given_up = 0;
    for mut row in lock_replicas(conn, &names).await? {
        let Some(id) = row.generation else {
            continue;
        };
        let begun = generation(conn, id, true).await?;
        if begun.is_some_and(|begun| begun.changed_at >= now.minus(ABANDONED)) {
            continue;
        }
        give_up(conn, id, now).await?;
        row.no_bootstrap();
        row.save(conn).await?;
        given_up += 1;
    }
    Ok(given_up)
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
