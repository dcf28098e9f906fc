//! What applications and operators change: tracking, polling now, reviving,
//! and pruning what is over.

use super::connection::{in_transaction, on_backend};
use super::{Store, StoreError};
use crate::flows::batches::BatchKey;
use crate::time::Timestamp;
use diesel::sql_types::{BigInt, Text, Timestamp as SqlTimestamp};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};

/// A batch to track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewBatch {
    /// Which batch.
    #[serde(flatten)]
    pub key: BatchKey,
    /// Its transactions, where the application knows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transaction_ids: Vec<String>,
}

/// What tracking did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracked {
    /// Batches that were new.
    pub accepted: usize,
    /// Batches that were known already; they stay as they are.
    pub known: usize,
}

const SQLITE_TRACK: &str = "INSERT INTO batches (ledger, service_id, batch_id) \
    SELECT value ->> 'ledger', value ->> 'service_id', value ->> 'batch_id' FROM json_each($1) WHERE true \
    ON CONFLICT DO NOTHING";
const POSTGRES_TRACK: &str = "INSERT INTO batches (ledger, service_id, batch_id) \
    SELECT ledger, service_id, batch_id \
    FROM json_to_recordset($1::json) AS u (ledger text, service_id text, batch_id text) \
    ON CONFLICT DO NOTHING";
const SQLITE_TRANSACTIONS: &str = "INSERT INTO batch_transactions (ledger, service_id, batch_id, transaction_id) \
    SELECT b.value ->> 'ledger', b.value ->> 'service_id', b.value ->> 'batch_id', t.value \
    FROM json_each($1) AS b, json_each(b.value, '$.transaction_ids') AS t WHERE true \
    ON CONFLICT DO NOTHING";
const POSTGRES_TRANSACTIONS: &str = "INSERT INTO batch_transactions (ledger, service_id, batch_id, transaction_id) \
    SELECT ledger, service_id, batch_id, t.id \
    FROM json_to_recordset($1::json) AS u (ledger text, service_id text, batch_id text, transaction_ids json), \
    LATERAL json_array_elements_text(u.transaction_ids) AS t (id) \
    ON CONFLICT DO NOTHING";

/// [`ORPHANS`] from behind `$after` to `$until`, where that is known.
macro_rules! within {
    ($statement:ident, $after:ident, $until:ident) => {{
        let until = $until.clone().unwrap_or_default();
        diesel::sql_query($statement)
            .bind::<Text, _>(&$after.ledger)
            .bind::<Text, _>(&$after.service_id)
            .bind::<Text, _>(&$after.batch_id)
            .bind::<Text, _>(&$after.transaction_id)
            .bind::<BigInt, _>(i64::from($until.is_some()))
            .bind::<Text, _>(until.ledger)
            .bind::<Text, _>(until.service_id)
            .bind::<Text, _>(until.batch_id)
            .bind::<Text, _>(until.transaction_id)
    }};
}

impl Store {
    /// Tracks batches in one transaction; those already known stay as they
    /// are, and gain the transactions that are new.
    ///
    /// # Errors
    /// The database is out of reach; nothing is tracked.
    pub async fn track_batches(&self, batches: Vec<NewBatch>) -> Result<Tracked, StoreError> {
        let store = self.clone();
        Self::detached(async move {
            let total = batches.len();
            let internal = |error: serde_json::Error| StoreError::Internal(error.to_string());
            let rows = serde_json::to_string(&batches).map_err(internal)?;
            let with_transactions: Vec<&NewBatch> = batches
                .iter()
                .filter(|batch| !batch.transaction_ids.is_empty())
                .collect();
            let transactions = if with_transactions.is_empty() {
                None
            } else {
                Some(serde_json::to_string(&with_transactions).map_err(internal)?)
            };
            let mut lent = store.writer().await?;
            let sqlite = lent.is_sqlite();
            let accepted = in_transaction!(lent, conn => {
                let track = if sqlite { SQLITE_TRACK } else { POSTGRES_TRACK };
                let accepted = diesel::sql_query(track).bind::<Text, _>(&rows).execute(conn).await?;
                if let Some(transactions) = &transactions {
                    let insert = if sqlite { SQLITE_TRANSACTIONS } else { POSTGRES_TRANSACTIONS };
                    diesel::sql_query(insert).bind::<Text, _>(transactions).execute(conn).await?;
                }
                Ok::<_, StoreError>(accepted)
            })?;
            Ok(Tracked {
                accepted,
                known: total.saturating_sub(accepted),
            })
        })
        .await
    }

    /// Makes outstanding batches due at once. Answers how many were outstanding.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn poll_batches_now(&self, keys: &[BatchKey]) -> Result<usize, StoreError> {
        self.change_keys(
            keys,
            "UPDATE batches SET next_poll_at = NULL FROM (",
            ") AS u WHERE batches.ledger = u.ledger AND batches.service_id = u.service_id \
             AND batches.batch_id = u.batch_id AND batches.status IN ('pending', 'valid')",
            None,
        )
        .await
    }

    /// Makes every outstanding batch of a service due at once; of all the
    /// ledger's services when `service_id` is `None`.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn poll_service_now(
        &self,
        ledger: &str,
        service_id: Option<&str>,
    ) -> Result<usize, StoreError> {
        use super::schema::batches;
        use diesel::{ExpressionMethods, QueryDsl};
        let store = self.clone();
        let (ledger, service_id) = (ledger.to_owned(), service_id.map(str::to_owned));
        Self::detached(async move {
            let mut lent = store.writer().await?;
            Ok(on_backend!(lent, conn => {
                let none: Option<Timestamp> = None;
                let of_ledger = batches::table
                    .filter(batches::ledger.eq(&ledger))
                    .filter(diesel::dsl::sql::<diesel::sql_types::Bool>(
                        "status IN ('pending', 'valid')",
                    ));
                match &service_id {
                    Some(service_id) => {
                        diesel::update(of_ledger.filter(batches::service_id.eq(service_id)))
                            .set(batches::next_poll_at.eq(none))
                            .execute(conn)
                            .await
                    }
                    None => {
                        diesel::update(of_ledger)
                            .set(batches::next_poll_at.eq(none))
                            .execute(conn)
                            .await
                    }
                }
            })?)
        })
        .await
    }

    /// Makes lost and refused batches pending again, as if submitted now.
    /// Answers how many were lost or refused.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn revive_batches(
        &self,
        keys: &[BatchKey],
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        self.change_keys(
            keys,
            "UPDATE batches SET status = 'pending', settled_at = NULL, next_poll_at = NULL, \
             polls = 0, unknowns = 0, last_error = NULL, submitted_at = $2 FROM (",
            ") AS u WHERE batches.ledger = u.ledger AND batches.service_id = u.service_id \
             AND batches.batch_id = u.batch_id AND batches.status IN ('lost', 'refused')",
            Some(now),
        )
        .await
    }

    async fn change_keys(
        &self,
        keys: &[BatchKey],
        before: &'static str,
        after: &'static str,
        time: Option<Timestamp>,
    ) -> Result<usize, StoreError> {
        let rows =
            serde_json::to_string(keys).map_err(|error| StoreError::Internal(error.to_string()))?;
        let store = self.clone();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            let sqlite = lent.is_sqlite();
            let source = if sqlite {
                "SELECT value ->> 'ledger' AS ledger, value ->> 'service_id' AS service_id, \
                 value ->> 'batch_id' AS batch_id FROM json_each(?1)"
            } else {
                "SELECT * FROM json_to_recordset($1::json) \
                 AS v (ledger text, service_id text, batch_id text)"
            };
            // SQLite numbers `$2` by its place in the text, `?2` by its number.
            let before = if sqlite {
                before.replace("$2", "?2")
            } else {
                before.to_owned()
            };
            let statement = format!("{before}{source}{after}");
            Ok(on_backend!(lent, conn => {
                let query = diesel::sql_query(&statement).bind::<Text, _>(&rows);
                match time {
                    Some(time) => query.bind::<SqlTimestamp, _>(time).execute(conn).await,
                    None => query.execute(conn).await,
                }
            })?)
        })
        .await
    }

    /// Deletes up to `limit` batches settled before `before`, oldest first,
    /// with their transactions. Answers how many. Also looks, a stretch at a
    /// time, for transactions whose batch an application has deleted.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn prune_batches(&self, before: Timestamp, limit: i64) -> Result<usize, StoreError> {
        let store = self.clone();
        Self::detached(async move {
            let pruned = store.prune_settled(before, limit).await?;
            store
                .prune_orphans(limit.saturating_mul(ORPHAN_STRETCH))
                .await?;
            Ok(pruned)
        })
        .await
    }

    /// The rows are chosen once: a second choice could be another one, since a
    /// batch may be revived, or pruned by another server, in between.
    async fn prune_settled(&self, before: Timestamp, limit: i64) -> Result<usize, StoreError> {
        let mut lent = self.writer().await?;
        let sqlite = lent.is_sqlite();
        in_transaction!(lent, conn => {
            if !sqlite {
                let pruned: Count = diesel::sql_query(POSTGRES_PRUNE)
                    .bind::<SqlTimestamp, _>(before)
                    .bind::<BigInt, _>(limit)
                    .get_result(conn)
                    .await?;
                return Ok::<_, StoreError>(usize::try_from(pruned.count).unwrap_or(0));
            }
            let gone: Vec<GoneKey> = diesel::sql_query(SQLITE_PRUNE)
                .bind::<SqlTimestamp, _>(before)
                .bind::<BigInt, _>(limit)
                .load(conn)
                .await?;
            if !gone.is_empty() {
                let keys = serde_json::to_string(&gone)
                    .map_err(|error| StoreError::Internal(error.to_string()))?;
                diesel::sql_query(SQLITE_PRUNE_TRANSACTIONS)
                    .bind::<Text, _>(keys)
                    .execute(conn)
                    .await?;
            }
            Ok(gone.len())
        })
    }

    /// Looks at the next `limit` transactions in order of their key, and from
    /// the first again after the last, for those that have no batch.
    async fn prune_orphans(&self, limit: i64) -> Result<(), StoreError> {
        let after = self.orphans_after().clone();
        let next = self.transaction_at(&after, limit).await?;
        let orphans = {
            let mut lent = self.reader().await?;
            let found: Count = on_backend!(lent, conn => {
                let select = format!("SELECT count(*) AS count {ORPHANS}");
                within!(select, after, next).get_result(conn).await
            })?;
            found.count
        };
        // Mostly there are none, and then SQLite's only writer is not held.
        if orphans > 0 {
            let mut lent = self.writer().await?;
            let deleted = on_backend!(lent, conn => {
                let delete = format!("DELETE {ORPHANS}");
                within!(delete, after, next).execute(conn).await
            })?;
            tracing::debug!(
                transactions.pruned = deleted,
                "transactions of batches that are gone were pruned"
            );
        }
        *self.orphans_after() = next.unwrap_or_default();
        Ok(())
    }

    /// The transaction `distance` places behind `after`, if there are so many.
    async fn transaction_at(
        &self,
        after: &TransactionKey,
        distance: i64,
    ) -> Result<Option<TransactionKey>, StoreError> {
        let mut lent = self.reader().await?;
        Ok(on_backend!(lent, conn => {
            diesel::sql_query(
                "SELECT ledger, service_id, batch_id, transaction_id FROM batch_transactions \
                 WHERE (ledger, service_id, batch_id, transaction_id) > ($1, $2, $3, $4) \
                 ORDER BY ledger, service_id, batch_id, transaction_id LIMIT 1 OFFSET $5",
            )
            .bind::<Text, _>(&after.ledger)
            .bind::<Text, _>(&after.service_id)
            .bind::<Text, _>(&after.batch_id)
            .bind::<Text, _>(&after.transaction_id)
            .bind::<BigInt, _>(distance.saturating_sub(1).max(0))
            .get_result(conn)
            .await
            .optional()
        })?)
    }
}

/// So many transactions are looked at for each batch that may be pruned.
const ORPHAN_STRETCH: i64 = 10;

/// One statement, so one choice. `MATERIALIZED`, since a subquery with a limit
/// may be run, and so choose, more than once; rows that another server prunes
/// are left to it.
const POSTGRES_PRUNE: &str = "WITH chosen AS MATERIALIZED (SELECT seq FROM batches \
    WHERE settled_at < $1 ORDER BY settled_at, seq LIMIT $2 FOR UPDATE SKIP LOCKED), \
    gone AS (DELETE FROM batches b USING chosen WHERE b.seq = chosen.seq AND b.settled_at < $1 \
    RETURNING b.ledger, b.service_id, b.batch_id), \
    theirs AS (DELETE FROM batch_transactions t USING gone WHERE t.ledger = gone.ledger \
    AND t.service_id = gone.service_id AND t.batch_id = gone.batch_id) \
    SELECT count(*) AS count FROM gone";
const SQLITE_PRUNE: &str = "DELETE FROM batches WHERE seq IN (SELECT seq FROM batches \
    WHERE settled_at < $1 ORDER BY settled_at, seq LIMIT $2) \
    RETURNING ledger, service_id, batch_id";
const SQLITE_PRUNE_TRANSACTIONS: &str = "DELETE FROM batch_transactions \
    WHERE (ledger, service_id, batch_id) IN (SELECT value ->> 'ledger', value ->> 'service_id', \
    value ->> 'batch_id' FROM json_each($1))";

/// Transactions of one stretch whose batch is gone.
const ORPHANS: &str = "FROM batch_transactions \
    WHERE (ledger, service_id, batch_id, transaction_id) > ($1, $2, $3, $4) \
    AND ($5 = 0 OR (ledger, service_id, batch_id, transaction_id) <= ($6, $7, $8, $9)) \
    AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.ledger = batch_transactions.ledger \
    AND b.service_id = batch_transactions.service_id AND b.batch_id = batch_transactions.batch_id)";

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName, Serialize)]
struct GoneKey {
    #[diesel(sql_type = Text)]
    ledger: String,
    #[diesel(sql_type = Text)]
    service_id: String,
    #[diesel(sql_type = Text)]
    batch_id: String,
}

/// Key of a row of `batch_transactions`; the default is before all of them.
#[derive(Clone, Debug, Default, QueryableByName)]
pub(super) struct TransactionKey {
    #[diesel(sql_type = Text)]
    ledger: String,
    #[diesel(sql_type = Text)]
    service_id: String,
    #[diesel(sql_type = Text)]
    batch_id: String,
    #[diesel(sql_type = Text)]
    transaction_id: String,
}

#[cfg(test)]
#[path = "batches_write_tests.rs"]
mod tests;
