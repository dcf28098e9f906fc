//! What pages, API and command line read of batches.

use super::connection::{Lent, on_backend};
use super::schema::{batch_transactions, batches};
use super::{Store, StoreError};
use crate::flows::batches::{BatchKey, Status};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use std::collections::BTreeMap;

/// A row of `batches`, as shown.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Serialize, utoipa::ToSchema)]
pub struct BatchRow {
    /// Name of the ledger.
    pub ledger: String,
    /// Service id; `""` where the ledger has none.
    pub service_id: String,
    /// Batch id.
    pub batch_id: String,
    /// Order of submission; grows with every insert.
    pub seq: i64,
    /// `pending`, `valid`, `committed`, `invalid`, `lost` or `refused`.
    pub status: String,
    /// Transactions that made it invalid.
    #[serde(serialize_with = "as_json")]
    #[schema(value_type = Vec<Object>)]
    pub invalid_transactions: String,
    /// When it was submitted.
    #[schema(value_type = String, format = DateTime)]
    pub submitted_at: Timestamp,
    /// Last poll that the ledger answered.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_polled_at: Option<Timestamp>,
    /// Polls that the ledger answered.
    pub polls: i32,
    /// Of those, answered with unknown.
    pub unknowns: i32,
    /// When it is due; absent while outstanding means at once.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_poll_at: Option<Timestamp>,
    /// When it was settled.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub settled_at: Option<Timestamp>,
    /// What went wrong last.
    pub last_error: Option<String>,
    #[serde(skip)]
    poll_log: String,
}

fn as_json<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    // Applications write this column too: what is no JSON is shown as text.
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => value.serialize(serializer),
        Err(_) => serializer.serialize_str(text),
    }
}

/// One entry of a batch's poll history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PollEntry {
    /// When the ledger answered.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What it answered: a batch status, `unknown`, or `missing` (asked for, not answered).
    pub answer: &'static str,
}

impl BatchRow {
    /// The key.
    pub fn key(&self) -> BatchKey {
        BatchKey {
            ledger: self.ledger.clone(),
            service_id: self.service_id.clone(),
            batch_id: self.batch_id.clone(),
        }
    }

    /// Whether it is still asked for.
    pub fn is_outstanding(&self) -> bool {
        self.status.parse().is_ok_and(Status::is_outstanding)
    }

    /// The newest polls, oldest first.
    pub fn history(&self) -> Vec<PollEntry> {
        crate::flows::batches::read_poll_log(&self.poll_log)
            .map(|(at, answer)| PollEntry { at, answer })
            .collect()
    }
}

/// Which batches are listed, newest first.
#[derive(Clone, Debug, Default)]
pub struct BatchFilter {
    /// Only of this ledger.
    pub ledger: Option<String>,
    /// Only of this service.
    pub service_id: Option<String>,
    /// Only with this status.
    pub status: Option<Status>,
    /// Only those whose batch id begins so.
    pub batch_id_prefix: Option<String>,
    /// Only those submitted before this `seq` (the cursor of the page before).
    pub before_seq: Option<i64>,
    /// Most rows.
    pub limit: i64,
}

/// A page of batches.
#[derive(Clone, Debug)]
pub struct BatchPage {
    /// The rows, newest first.
    pub rows: Vec<BatchRow>,
    /// Cursor of the next page.
    pub next: Option<i64>,
}

/// Counts of one ledger, from the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LedgerSummary {
    /// Name of the ledger, also of one that is no longer configured.
    pub ledger: String,
    /// Batches by status.
    pub counts: BTreeMap<String, i64>,
    /// Outstanding batches that are due.
    pub due: i64,
    /// Since when the oldest due batch is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest_due_at: Option<Timestamp>,
}

/// Counts of one service's outstanding batches, from the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, QueryableByName, utoipa::ToSchema)]
pub struct ServiceSummary {
    /// Name of the ledger.
    #[diesel(sql_type = Text)]
    pub ledger: String,
    /// Service id.
    #[diesel(sql_type = Text)]
    pub service_id: String,
    /// Outstanding batches.
    #[diesel(sql_type = BigInt)]
    pub outstanding: i64,
    /// Of those, due at once (never polled, or polled now on demand).
    #[diesel(sql_type = BigInt)]
    pub due_at_once: i64,
    /// Earliest due time of the others.
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_poll_at: Option<Timestamp>,
}

/// How many batches of a service are outstanding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, QueryableByName, utoipa::ToSchema)]
pub struct ServiceCount {
    /// Name of the ledger.
    #[diesel(sql_type = Text)]
    pub ledger: String,
    /// Service id.
    #[diesel(sql_type = Text)]
    pub service_id: String,
    /// Outstanding batches.
    #[diesel(sql_type = BigInt)]
    pub outstanding: i64,
}

#[derive(QueryableByName)]
struct CountedService {
    #[diesel(embed)]
    service: ServiceCount,
    #[diesel(sql_type = BigInt)]
    services: i64,
}

#[derive(QueryableByName)]
struct StatusCount {
    #[diesel(sql_type = Text)]
    ledger: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl Store {
    /// Lists batches, newest first.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn list_batches(&self, filter: &BatchFilter) -> Result<BatchPage, StoreError> {
        let mut lent = self.reader().await?;
        let limit = filter.limit.clamp(1, 10_000);
        let mut rows = on_backend!(lent, conn => {
            let mut query = batches::table.into_boxed();
            if let Some(ledger) = &filter.ledger {
                query = query.filter(batches::ledger.eq(ledger));
            }
            if let Some(service_id) = &filter.service_id {
                query = query.filter(batches::service_id.eq(service_id));
            }
            if let Some(status) = filter.status {
                query = query.filter(batches::status.eq(status.as_str()));
            }
            if let Some(prefix) = &filter.batch_id_prefix {
                let end = format!("{prefix}\u{10ffff}");
                query = query.filter(batches::batch_id.ge(prefix)).filter(batches::batch_id.lt(end));
            }
            if let Some(before) = filter.before_seq {
                query = query.filter(batches::seq.lt(before));
            }
            query.order(batches::seq.desc()).limit(limit + 1).load::<BatchRow>(conn).await
        })?;
        let mut next = None;
        if rows.len() > usize::try_from(limit).unwrap_or(usize::MAX) {
            rows.pop();
            next = rows.last().map(|row| row.seq);
        }
        Ok(BatchPage { rows, next })
    }

    /// One batch.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn find_batch(&self, key: &BatchKey) -> Result<Option<BatchRow>, StoreError> {
        let mut lent = self.reader().await?;
        Ok(on_backend!(lent, conn => {
            batches::table
                .filter(batches::ledger.eq(&key.ledger))
                .filter(batches::service_id.eq(&key.service_id))
                .filter(batches::batch_id.eq(&key.batch_id))
                .first::<BatchRow>(conn)
                .await
                .optional()
        })?)
    }

    /// The batch of that id, where only one service of the ledger has one.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn find_only_batch(
        &self,
        ledger: &str,
        batch_id: &str,
    ) -> Result<Option<BatchRow>, StoreError> {
        let mut lent = self.reader().await?;
        let mut rows = on_backend!(lent, conn => {
            batches::table
                .filter(batches::ledger.eq(ledger))
                .filter(batches::batch_id.eq(batch_id))
                .limit(2)
                .load::<BatchRow>(conn)
                .await
        })?;
        Ok(rows.pop().filter(|_| rows.is_empty()))
    }

    /// The transactions known of a batch, at most 1,000.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn batch_transactions(&self, key: &BatchKey) -> Result<Vec<String>, StoreError> {
        let mut lent = self.reader().await?;
        Ok(on_backend!(lent, conn => {
            batch_transactions::table
                .select(batch_transactions::transaction_id)
                .filter(batch_transactions::ledger.eq(&key.ledger))
                .filter(batch_transactions::service_id.eq(&key.service_id))
                .filter(batch_transactions::batch_id.eq(&key.batch_id))
                .order(batch_transactions::transaction_id)
                .limit(1000)
                .load::<String>(conn)
                .await
        })?)
    }

    /// Counts per ledger and status, of every ledger that has batches, by name;
    /// what is due of the `configured` ones only, since nothing else is polled.
    /// Reads the whole index: cache the answer.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn summarize_ledgers(
        &self,
        configured: &[String],
        now: Timestamp,
    ) -> Result<Vec<LedgerSummary>, StoreError> {
        let mut lent = self.reader().await?;
        let counts: Vec<StatusCount> = on_backend!(lent, conn => {
            diesel::sql_query(
                "SELECT ledger, status, count(*) AS count FROM batches GROUP BY ledger, status",
            )
            .load(conn)
            .await
        })?;
        let mut summaries: BTreeMap<String, LedgerSummary> = BTreeMap::new();
        for count in counts {
            summaries
                .entry(count.ledger)
                .or_insert_with_key(|ledger| LedgerSummary {
                    ledger: ledger.clone(),
                    counts: BTreeMap::new(),
                    due: 0,
                    oldest_due_at: None,
                })
                .counts
                .insert(count.status, count.count);
        }
        for name in configured {
            if let Some(summary) = summaries.get_mut(name) {
                (summary.due, summary.oldest_due_at) = due(&mut lent, name, now).await?;
            }
        }
        Ok(summaries.into_values().collect())
    }

    /// Services by outstanding batches, most first, at most `limit`; of one
    /// ledger or of all.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn summarize_services(
        &self,
        ledger: Option<&str>,
        limit: i64,
    ) -> Result<Vec<ServiceSummary>, StoreError> {
        let mut lent = self.reader().await?;
        Ok(on_backend!(lent, conn => {
            diesel::sql_query(
                "SELECT ledger, service_id, count(*) AS outstanding, \
                 sum(CASE WHEN next_poll_at IS NULL THEN 1 ELSE 0 END) AS due_at_once, \
                 min(next_poll_at) AS next_poll_at FROM batches \
                 WHERE status IN ('pending', 'valid') AND ledger = COALESCE($1, ledger) \
                 GROUP BY ledger, service_id \
                 ORDER BY outstanding DESC, ledger, service_id LIMIT $2",
            )
            .bind::<Nullable<Text>, _>(ledger)
            .bind::<BigInt, _>(limit)
            .load(conn)
            .await
        })?)
    }

    /// Services of these ledgers with more than `outstanding` batches
    /// outstanding, most first, at most `limit`; and how many there are.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn services_above(
        &self,
        ledgers: &[String],
        outstanding: i64,
        limit: i64,
    ) -> Result<(Vec<ServiceCount>, usize), StoreError> {
        if ledgers.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let ledgers = serde_json::to_string(ledgers)
            .map_err(|error| StoreError::Internal(error.to_string()))?;
        let mut lent = self.reader().await?;
        let names = if lent.is_sqlite() {
            "SELECT value FROM json_each($1)"
        } else {
            "SELECT json_array_elements_text($1::json)"
        };
        let found: Vec<CountedService> = on_backend!(lent, conn => {
            diesel::sql_query(format!(
                "SELECT ledger, service_id, count(*) AS outstanding, count(*) OVER () AS services \
                 FROM batches WHERE status IN ('pending', 'valid') AND ledger IN ({names}) \
                 GROUP BY ledger, service_id HAVING count(*) > $2 \
                 ORDER BY outstanding DESC, ledger, service_id LIMIT $3"
            ))
            .bind::<Text, _>(&ledgers)
            .bind::<BigInt, _>(outstanding)
            .bind::<BigInt, _>(limit)
            .load(conn)
            .await
        })?;
        let services = found.iter().map(|found| found.services).max();
        Ok((
            found.into_iter().map(|found| found.service).collect(),
            usize::try_from(services.unwrap_or(0)).unwrap_or(0),
        ))
    }
}

/// How many batches of a ledger are due, and since when the oldest is.
async fn due(
    lent: &mut Lent,
    ledger: &str,
    now: Timestamp,
) -> Result<(i64, Option<Timestamp>), StoreError> {
    on_backend!(lent, conn => {
        let outstanding = || {
            batches::table
                .filter(batches::ledger.eq(ledger))
                .filter(diesel::dsl::sql::<diesel::sql_types::Bool>(
                    "status IN ('pending', 'valid')",
                ))
        };
        let at_once = outstanding()
            .select(batches::submitted_at)
            .filter(batches::next_poll_at.is_null())
            .order(batches::seq)
            .limit(1)
            .first::<Timestamp>(conn)
            .await
            .optional()?;
        let timed = outstanding()
            .select(batches::next_poll_at)
            .filter(batches::next_poll_at.le(now))
            .order(batches::next_poll_at)
            .limit(1)
            .first::<Option<Timestamp>>(conn)
            .await
            .optional()?
            .flatten();
        let due = outstanding()
            .filter(batches::next_poll_at.is_null().or(batches::next_poll_at.le(now)))
            .count()
            .get_result::<i64>(conn)
            .await?;
        let oldest = match (at_once, timed) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Ok((due, oldest))
    })
}
