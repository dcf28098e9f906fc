//! What a ledger's stream brings to the batches: transactions that are
//! committed settle them, and a service is polled soon.
//!
//! Both are facts of the ledger's, told to whichever server listens, and need no
//! lease: a batch is settled only while it is not final, by the same guard as
//! the Updater's changes (`status IN …`, looked at under the row's lock), so that
//! whoever writes later changes nothing. On PostgreSQL rows that somebody writes
//! just now are passed over and told: two bulk writes that wait for rows of one
//! another would be a deadlock.

use super::changes::as_json;
use super::connection::{in_transaction, on_backend};
use super::{Store, StoreError};
use crate::flows::batches::poll_log_entry;
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;

/// What transactions that are committed did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettledByTransactions {
    /// Batches that are committed by it.
    pub settled: usize,
    /// Transactions of batches that are still to be settled: others of the batch
    /// were not told. To be told again together with them.
    pub waiting: Vec<String>,
    /// Some of `waiting` wait only because somebody was writing the row: to be
    /// told again soon.
    pub locked: bool,
}

#[derive(QueryableByName)]
struct Left {
    #[diesel(sql_type = Text)]
    transaction_id: String,
    #[diesel(sql_type = BigInt)]
    whole: i64,
}

#[derive(QueryableByName)]
struct Service {
    #[diesel(sql_type = Text)]
    service_id: String,
}

/// What can still become committed: what is outstanding, and what was given up.
macro_rules! open {
    () => {
        "status IN ('pending', 'valid', 'lost')"
    };
}

/// Settles the batches whose transactions are all told: parameters are time,
/// entry of the poll log, ledger, service id, transactions.
macro_rules! settle {
    ($told:literal, $log:literal, $lock:literal) => {
        concat!(
            "UPDATE batches SET status = 'committed', settled_at = $1, next_poll_at = NULL, \
             last_error = NULL, poll_log = ",
            $log,
            " WHERE ",
            open!(),
            " AND seq IN (SELECT b.seq FROM batches b WHERE b.ledger = $3 AND b.service_id = $4 AND b.",
            open!(),
            " AND b.batch_id IN (SELECT t.batch_id FROM batch_transactions t \
              WHERE t.ledger = $3 AND t.service_id = $4 AND t.transaction_id IN ",
            $told,
            ") AND NOT EXISTS (SELECT 1 FROM batch_transactions o WHERE o.ledger = $3 \
              AND o.service_id = $4 AND o.batch_id = b.batch_id AND o.transaction_id NOT IN ",
            $told,
            ")",
            $lock,
            ")"
        )
    };
}

const SQLITE_SETTLE: &str = settle!(
    "(SELECT value FROM json_each($5))",
    "substr(batches.poll_log || $2, -240)",
    ""
);
const POSTGRES_SETTLE: &str = settle!(
    "(SELECT json_array_elements_text($5::json))",
    "right(batches.poll_log || $2, 240)",
    " ORDER BY b.seq FOR UPDATE OF b SKIP LOCKED"
);

/// Transactions told of batches that are not settled, and whether all of the
/// batch's are told: parameters are ledger, service id, transactions.
macro_rules! left {
    ($told:literal) => {
        concat!(
            "SELECT t.transaction_id AS transaction_id, \
             CAST(MAX(CASE WHEN EXISTS (SELECT 1 FROM batch_transactions o WHERE o.ledger = $1 \
             AND o.service_id = $2 AND o.batch_id = t.batch_id AND o.transaction_id NOT IN ",
            $told,
            ") THEN 0 ELSE 1 END) AS BIGINT) AS whole FROM batch_transactions t JOIN batches b \
             ON b.ledger = t.ledger AND b.service_id = t.service_id AND b.batch_id = t.batch_id \
             WHERE t.ledger = $1 AND t.service_id = $2 AND b.",
            open!(),
            " AND t.transaction_id IN ",
            $told,
            " GROUP BY t.transaction_id ORDER BY t.transaction_id"
        )
    };
}

const SQLITE_LEFT: &str = left!("(SELECT value FROM json_each($3))");
const POSTGRES_LEFT: &str = left!("(SELECT json_array_elements_text($3::json))");

/// Services with outstanding batches, each found by a step along the index
/// `batches_outstanding`: parameters are ledger, limit.
const SERVICES: &str = "WITH RECURSIVE s (service_id) AS ( \
    SELECT min(service_id) FROM batches WHERE ledger = $1 AND status IN ('pending', 'valid') \
    UNION ALL SELECT (SELECT min(b.service_id) FROM batches b WHERE b.ledger = $1 \
    AND b.status IN ('pending', 'valid') AND b.service_id > s.service_id) \
    FROM s WHERE s.service_id IS NOT NULL) \
    SELECT service_id FROM s WHERE service_id IS NOT NULL LIMIT $2";

const SQLITE_SOON: &str = "UPDATE batches SET next_poll_at = NULL WHERE ledger = $1 \
    AND service_id = $2 AND status IN ('pending', 'valid') AND next_poll_at IS NOT NULL";
const POSTGRES_SOON: &str = "UPDATE batches SET next_poll_at = NULL WHERE seq IN ( \
    SELECT seq FROM batches WHERE ledger = $1 AND service_id = $2 \
    AND status IN ('pending', 'valid') AND next_poll_at IS NOT NULL \
    ORDER BY seq FOR UPDATE SKIP LOCKED) AND status IN ('pending', 'valid')";

impl Store {
    /// Settles batches of a service as committed whose transactions (table
    /// `batch_transactions`) are all among `tx_ids`, which the ledger told as
    /// committed; also those that were given up as lost. What is committed or
    /// invalid already, or was refused, stays as it is.
    ///
    /// # Errors
    /// The database is out of reach; nothing is settled.
    pub async fn settle_by_transactions(
        &self,
        ledger: &str,
        service_id: &str,
        tx_ids: &[String],
        now: Timestamp,
    ) -> Result<SettledByTransactions, StoreError> {
        if tx_ids.is_empty() {
            return Ok(SettledByTransactions::default());
        }
        let told = as_json(&tx_ids)?;
        let log = poll_log_entry(now, "event");
        let (ledger, service_id) = (ledger.to_owned(), service_id.to_owned());
        let store = self.clone();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            let (settle, left) = if lent.is_sqlite() {
                (SQLITE_SETTLE, SQLITE_LEFT)
            } else {
                (POSTGRES_SETTLE, POSTGRES_LEFT)
            };
            in_transaction!(lent, conn => {
                let settled = diesel::sql_query(settle)
                    .bind::<SqlTimestamp, _>(now)
                    .bind::<Text, _>(&log)
                    .bind::<Text, _>(&ledger)
                    .bind::<Text, _>(&service_id)
                    .bind::<Text, _>(&told)
                    .execute(conn)
                    .await?;
                let left: Vec<Left> = diesel::sql_query(left)
                    .bind::<Text, _>(&ledger)
                    .bind::<Text, _>(&service_id)
                    .bind::<Text, _>(&told)
                    .load(conn)
                    .await?;
                Ok::<_, StoreError>(SettledByTransactions {
                    settled,
                    locked: left.iter().any(|left| left.whole == 1),
                    waiting: left.into_iter().map(|left| left.transaction_id).collect(),
                })
            })
        })
        .await
    }

    /// Services of a ledger that have outstanding batches, by their ids, at most
    /// `limit`.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn outstanding_services(
        &self,
        ledger: &str,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut lent = self.reader().await?;
        let services: Vec<Service> = on_backend!(lent, conn => {
            diesel::sql_query(SERVICES)
                .bind::<Text, _>(ledger)
                .bind::<BigInt, _>(limit)
                .load(conn)
                .await
        })?;
        Ok(services.into_iter().map(|s| s.service_id).collect())
    }

    /// Makes outstanding batches of a service due at once that are not so yet.
    /// Answers how many. Rows that somebody writes just now are left out: their
    /// answer is a new one.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn poll_service_soon(
        &self,
        ledger: &str,
        service_id: &str,
    ) -> Result<usize, StoreError> {
        let (ledger, service_id) = (ledger.to_owned(), service_id.to_owned());
        let store = self.clone();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            let sql = if lent.is_sqlite() {
                SQLITE_SOON
            } else {
                POSTGRES_SOON
            };
            Ok(on_backend!(lent, conn => {
                diesel::sql_query(sql)
                    .bind::<Text, _>(&ledger)
                    .bind::<Text, _>(&service_id)
                    .execute(conn)
                    .await
            })?)
        })
        .await
    }
}
