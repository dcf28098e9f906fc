//! Events past their retention.

use super::changes::as_json;
use super::connection::{in_transaction, on_backend};
use super::events_rows::{Counting, PROCESSED, SubscriptionRow, lock_statement, word};
use super::{Store, StoreError};
use crate::flows::events::Decision;
use crate::time::Timestamp;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp as SqlTimestamp};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

/// How an old event stands.
#[derive(QueryableByName)]
struct Old {
    #[diesel(sql_type = BigInt)]
    arrival: i64,
    #[diesel(sql_type = BigInt)]
    block: i64,
    #[diesel(sql_type = SqlTimestamp)]
    received_at: Timestamp,
    #[diesel(sql_type = Text)]
    decision: String,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    processed_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    abandoned_at: Option<Timestamp>,
}

/// Subscriptions whose oldest event that is left is older than `$1`.
const OUTDATED: &str = "SELECT s.name FROM subscriptions s WHERE (SELECT e.received_at \
    FROM events e WHERE e.subscription = s.name AND e.arrival > s.pruned_arrival \
    ORDER BY e.arrival LIMIT 1) < $1 ORDER BY s.name";

impl Store {
    /// Deletes up to `limit` events that were recorded before `before`, oldest
    /// first. Answers how many.
    ///
    /// An event that is open stays, and so does all that arrived after it; so do
    /// the two highest blocks, from which a source resumes: what it hears again
    /// has to be known. Of a stream without block numbers, which may repeat all,
    /// only payload and key go.
    ///
    /// # Errors
    /// The database is out of reach; some may be deleted.
    pub async fn prune_events(&self, before: Timestamp, limit: i64) -> Result<usize, StoreError> {
        let names: Vec<Name> = {
            let mut lent = self.reader().await?;
            on_backend!(lent, conn => {
                diesel::sql_query(OUTDATED).bind::<SqlTimestamp, _>(before).load(conn).await
            })?
        };
        let mut left = limit;
        for Name { name } in names {
            if left <= 0 {
                break;
            }
            let store = self.clone();
            let prune = async move { store.prune_subscription(&name, before, left).await };
            left -= Self::detached(prune).await?;
        }
        Ok(usize::try_from(limit - left).unwrap_or(0))
    }

    async fn prune_subscription(
        &self,
        name: &str,
        before: Timestamp,
        limit: i64,
    ) -> Result<i64, StoreError> {
        let names = as_json(&[name])?;
        let mut lent = self.writer().await?;
        let sqlite = lent.is_sqlite();
        in_transaction!(lent, conn => {
            let row: Option<SubscriptionRow> = diesel::sql_query(lock_statement(sqlite))
                .bind::<Text, _>(&names)
                .get_result(conn)
                .await
                .optional()?;
            let Some(row) = row else { return Ok(0) };
            let oldest: Vec<Old> = diesel::sql_query(
                "SELECT arrival, block, received_at, decision, processed_at, abandoned_at FROM events \
                 WHERE subscription = $1 AND arrival > $2 ORDER BY arrival LIMIT $3",
            )
            .bind::<Text, _>(name)
            .bind::<BigInt, _>(row.pruned_arrival)
            .bind::<BigInt, _>(limit)
            .load(conn)
            .await?;
            let (last, count, counting) = outdated(&row, before, &oldest);
            if count == 0 {
                return Ok(0);
            }
            let statement = if row.local_blocks {
                "UPDATE events SET payload = 'null', event_key = NULL \
                 WHERE subscription = $1 AND arrival > $2 AND arrival <= $3"
            } else {
                "DELETE FROM events WHERE subscription = $1 AND arrival > $2 AND arrival <= $3"
            };
            diesel::sql_query(statement)
                .bind::<Text, _>(name)
                .bind::<BigInt, _>(row.pruned_arrival)
                .bind::<BigInt, _>(last)
                .execute(conn)
                .await?;
            diesel::sql_query("UPDATE subscriptions SET pruned_arrival = $1 WHERE name = $2")
                .bind::<BigInt, _>(last)
                .bind::<Text, _>(name)
                .execute(conn)
                .await?;
            if let Some(counts) = counting.statement(sqlite)? {
                diesel::sql_query(counts.sql).bind::<Text, _>(counts.rows).execute(conn).await?;
                diesel::sql_query("DELETE FROM event_counts WHERE subscription = $1 AND count = 0")
                    .bind::<Text, _>(name)
                    .execute(conn)
                    .await?;
            }
            Ok::<_, StoreError>(count)
        })
    }
}

/// How far the oldest events may go: the last of them, how many, and what that
/// changes in the counts.
fn outdated(row: &SubscriptionRow, before: Timestamp, oldest: &[Old]) -> (i64, i64, Counting) {
    let is_done = |old: &Old| match Decision::parse(&old.decision) {
        // Nothing is done with what the ledger abandoned, for ever.
        _ if old.abandoned_at.is_some() => true,
        Some(Decision::Relevant) => old.processed_at.is_some(),
        decision => decision != Some(Decision::Pending),
    };
    let goes = |old: &&Old| {
        let is_needed = row.second_block.is_none_or(|second| old.block >= second);
        old.received_at < before && is_done(old) && !is_needed
    };
    let (mut last, mut count, mut counting) = (0, 0, Counting::default());
    for old in oldest.iter().take_while(goes) {
        last = old.arrival;
        count += 1;
        if !row.local_blocks {
            counting.add(&row.name, old.received_at, word(&old.decision), -1);
            if old.processed_at.is_some() && old.decision == Decision::Relevant.as_str() {
                counting.add(&row.name, old.received_at, PROCESSED, -1);
            }
        }
    }
    (last, count, counting)
}
