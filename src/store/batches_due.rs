//! What the batch flow reads and writes: due batches, and the changes that
//! polls bring.

use super::changes::{Applied, Change, ChangeGroup, Statement, as_json, sql_time};
use super::connection::on_backend;
use super::schema::batches;
use super::{Store, StoreError};
use crate::flows::batches::{BatchId, BatchResult, BatchUpdater, PendingBatchStore, Status};
use crate::time::Timestamp;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// How the partial indexes word it: a bound parameter would not match them.
const OUTSTANDING: &str = "status IN ('pending', 'valid')";

/// A batch that is due, with what its next status is decided from.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct PendingBatch {
    /// Order of submission; identifies the row.
    pub seq: i64,
    /// Service id; `""` where the ledger has none.
    pub service_id: String,
    /// Batch id.
    pub batch_id: String,
    status: String,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// Last answered poll.
    pub last_polled_at: Option<Timestamp>,
    /// Polls that the ledger answered.
    pub polls: i32,
    /// Of those, answered with unknown.
    pub unknowns: i32,
    /// When it became due; `None` is at once.
    pub next_poll_at: Option<Timestamp>,
}

impl PendingBatch {
    /// Status before this poll: pending or valid.
    pub fn status(&self) -> Status {
        if self.status == "valid" {
            Status::Valid
        } else {
            Status::Pending
        }
    }

    /// A batch as read from the database, for tests and benchmarks of the rules.
    pub fn sample(seq: i64, service_id: &str, batch_id: &str, submitted_at: Timestamp) -> Self {
        Self {
            seq,
            service_id: service_id.to_owned(),
            batch_id: batch_id.to_owned(),
            status: "pending".to_owned(),
            submitted_at,
            last_polled_at: None,
            polls: 0,
            unknowns: 0,
            next_poll_at: None,
        }
    }
}

impl BatchId for PendingBatch {
    fn get_id(&self) -> &str {
        &self.batch_id
    }

    fn get_service_id(&self) -> &str {
        &self.service_id
    }
}

/// Position of a sweep through the due batches of one ledger: first those
/// with no due time (never polled, or polled now on demand) by `seq`, then the
/// others by due time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DueCursor {
    /// Behind this `seq` among those due at once.
    AtOnce(i64),
    /// Behind this due time and `seq` among the others.
    Timed(Timestamp, i64),
}

impl DueCursor {
    /// The start of a sweep.
    pub const START: Self = Self::AtOnce(i64::MIN);
    /// The start of the part that is ordered by due time.
    pub const TIMED_START: Self = Self::Timed(Timestamp::from_millis(0), i64::MIN);
}

/// Which due batches are wanted.
#[derive(Clone, Debug)]
pub struct DueQuery {
    /// Name of the ledger.
    pub ledger: String,
    /// Due means due by now.
    pub now: Timestamp,
    /// Where the sweep stands.
    pub after: DueCursor,
    /// Where it goes on after what is due at once.
    pub then: DueCursor,
    /// Most rows returned.
    pub limit: i64,
    /// Services left out, since they are backed off; bounded by the caller.
    pub without_services: Vec<String>,
}

/// What a poll changes in a row that is still outstanding. Its JSON, which the
/// bulk statement reads, leaves out what is not set.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BatchChange {
    /// The row.
    pub seq: i64,
    /// New status.
    pub status: Status,
    /// New `invalid_transactions` (JSON); `None` leaves them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid_transactions: Option<String>,
    /// When the ledger answered; `None` when it was not asked (refused unasked).
    #[serde(serialize_with = "sql_time", skip_serializing_if = "Option::is_none")]
    pub polled_at: Option<Timestamp>,
    /// Whether the ledger answered unknown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// When it is due again; `None` once settled.
    #[serde(serialize_with = "sql_time", skip_serializing_if = "Option::is_none")]
    pub next_poll_at: Option<Timestamp>,
    /// When it was settled.
    #[serde(serialize_with = "sql_time", skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Timestamp>,
    /// New `last_error`; `None` clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Entry for the poll log.
    pub log: String,
}

impl PendingBatchStore<PendingBatch> for Store {
    type Query = DueQuery;

    fn get_pending_batch_ids<'a>(
        &'a self,
        query: &'a DueQuery,
    ) -> BoxFuture<'a, BatchResult<Vec<PendingBatch>>> {
        async move { Ok(self.due_batches(query).await?) }.boxed()
    }
}

/// Writes batch changes in the name of a holder of leases.
#[derive(Clone, Debug)]
pub struct BatchWriter {
    /// The database.
    pub store: Store,
    /// In whose name: only groups whose lease it holds are written.
    pub holder: String,
}

impl BatchUpdater<ChangeGroup<BatchChange>> for BatchWriter {
    type Outcome = Applied;

    fn update_batch_ids(
        &self,
        updates: Vec<ChangeGroup<BatchChange>>,
    ) -> BoxFuture<'_, BatchResult<Applied>> {
        async move { Ok(self.store.apply_changes(&self.holder, updates).await?) }.boxed()
    }
}

impl Store {
    /// Reads a page of due batches, behind the query's cursor, in cursor order.
    ///
    /// # Errors
    /// The database is out of reach.
    async fn due_batches(&self, query: &DueQuery) -> Result<Vec<PendingBatch>, StoreError> {
        let mut lent = self.reader().await?;
        let columns = (
            batches::seq,
            batches::service_id,
            batches::batch_id,
            batches::status,
            batches::submitted_at,
            batches::last_polled_at,
            batches::polls,
            batches::unknowns,
            batches::next_poll_at,
        );
        let rows = on_backend!(lent, conn => {
            let base = batches::table
                .select(columns)
                .filter(batches::ledger.eq(&query.ledger))
                .filter(sql::<Bool>(OUTSTANDING))
                .filter(batches::service_id.ne_all(&query.without_services))
                .limit(query.limit);
            match query.after {
                DueCursor::AtOnce(seq) => {
                    base.filter(batches::next_poll_at.is_null())
                        .filter(batches::seq.gt(seq))
                        .order(batches::seq)
                        .load::<PendingBatch>(conn)
                        .await
                }
                DueCursor::Timed(at, seq) => {
                    base.filter(batches::next_poll_at.le(query.now))
                        .filter(
                            batches::next_poll_at
                                .gt(at)
                                .assume_not_null()
                                .or(batches::next_poll_at
                                    .eq(at)
                                    .assume_not_null()
                                    .and(batches::seq.gt(seq))),
                        )
                        .filter(batches::next_poll_at.ge(at))
                        .order((batches::next_poll_at, batches::seq))
                        .load::<PendingBatch>(conn)
                        .await
                }
            }
        })?;
        Ok(rows)
    }

    /// When the next batch of a ledger becomes due, after `now`.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn next_due(
        &self,
        ledger: &str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut lent = self.reader().await?;
        let next = on_backend!(lent, conn => {
            batches::table
                .select(batches::next_poll_at)
                .filter(batches::ledger.eq(ledger))
                .filter(sql::<Bool>(OUTSTANDING))
                .filter(batches::next_poll_at.gt(now))
                .order(batches::next_poll_at)
                .limit(1)
                .first::<Option<Timestamp>>(conn)
                .await
                .optional()
        })?;
        Ok(next.flatten())
    }
}

impl Change for BatchChange {
    /// Rows that are no longer outstanding stay as they are: what is final
    /// stays final.
    fn statements(changes: &[&Self], sqlite: bool) -> Result<Vec<Statement>, StoreError> {
        let sql = if sqlite { SQLITE_APPLY } else { POSTGRES_APPLY };
        Ok(vec![Statement {
            sql: sql.to_owned(),
            rows: as_json(&changes)?,
        }])
    }
}

/// One statement for any number of rows: the changes come as a JSON array.
macro_rules! apply_statement {
    ($source:literal, $log:literal) => {
        concat!(
            "UPDATE batches SET status = u.status, \
             invalid_transactions = COALESCE(u.invalid_transactions, batches.invalid_transactions), \
             last_polled_at = COALESCE(u.polled_at, batches.last_polled_at), \
             polls = batches.polls + CASE WHEN u.polled_at IS NULL THEN 0 ELSE 1 END, \
             unknowns = batches.unknowns + CASE WHEN u.unknown THEN 1 ELSE 0 END, \
             next_poll_at = u.next_poll_at, settled_at = u.settled_at, last_error = u.last_error, \
             poll_log = ",
            $log,
            " FROM ",
            $source,
            " WHERE batches.seq = u.seq AND batches.status IN ('pending', 'valid')"
        )
    };
}

const SQLITE_APPLY: &str = apply_statement!(
    "(SELECT value ->> 'seq' AS seq, value ->> 'status' AS status, \
      value ->> 'invalid_transactions' AS invalid_transactions, value ->> 'polled_at' AS polled_at, \
      value ->> 'unknown' AS unknown, value ->> 'next_poll_at' AS next_poll_at, \
      value ->> 'settled_at' AS settled_at, value ->> 'last_error' AS last_error, \
      value ->> 'log' AS log FROM json_each($1)) AS u",
    "substr(batches.poll_log || u.log, -240)"
);

const POSTGRES_APPLY: &str = apply_statement!(
    "json_to_recordset($1::json) AS u (seq bigint, status text, invalid_transactions text, \
      polled_at timestamp(3), unknown boolean, next_poll_at timestamp, settled_at timestamp(3), \
      last_error text, log text)",
    "right(batches.poll_log || u.log, 240)"
);
