//! How subscriptions stand, from counts that are kept beside the events.

use super::connection::on_backend;
use super::events_rows::{DUE, OPEN, PROCESSED, SUBSCRIPTION_COLUMNS, SubscriptionRow};
use super::{Store, StoreError};
use crate::flows::events::{Checkpoint, Decision};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use std::collections::BTreeMap;

/// How a subscription stands, from the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionSummary {
    /// Its name, also of one that is no longer configured.
    pub name: String,
    /// How far it has come.
    pub checkpoint: Checkpoint,
    /// Events that are kept, by decision; and `processed`, those of the relevant
    /// ones whose handler is done.
    pub counts: BTreeMap<String, i64>,
    /// Events that are not done with; not those of blocks that the ledger
    /// abandoned, which nobody gets.
    pub open: i64,
    /// The first of those in order: its arrival and when it was recorded.
    pub oldest_open: Option<(i64, Timestamp)>,
}

/// Events of one subscription, hour of recording and decision.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct EventCount {
    /// The hour's beginning.
    #[diesel(sql_type = SqlTimestamp)]
    pub bucket_at: Timestamp,
    /// A decision, or `processed`.
    #[diesel(sql_type = Text)]
    pub decision: String,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

#[derive(QueryableByName)]
struct Total {
    #[diesel(sql_type = Text)]
    subscription: String,
    #[diesel(sql_type = Text)]
    decision: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Events that would be open, had the ledger not abandoned their block.
#[derive(QueryableByName)]
struct Abandoned {
    #[diesel(sql_type = Text)]
    subscription: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = Text)]
    subscription: String,
    #[diesel(embed)]
    count: EventCount,
}

#[derive(QueryableByName)]
struct Oldest {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    arrival: Option<i64>,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    received_at: Option<Timestamp>,
}

impl Store {
    /// How all subscriptions stand that are known, by name. Reads the counts of
    /// each hour that is kept, the events of abandoned blocks, which are few, and
    /// one open event each: no table of events.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn subscriptions_summary(&self) -> Result<Vec<SubscriptionSummary>, StoreError> {
        let mut lent = self.reader().await?;
        let rows = format!("SELECT {SUBSCRIPTION_COLUMNS} FROM subscriptions ORDER BY name");
        let first = |column: &str| {
            format!(
                "(SELECT {column} FROM events WHERE subscription = s.name AND {DUE} \
                 ORDER BY block, rank, arrival LIMIT 1) AS {column}"
            )
        };
        let oldest = format!(
            "SELECT s.name, {}, {} FROM subscriptions s",
            first("arrival"),
            first("received_at")
        );
        // Not as a condition: the index of abandoned events is to be taken.
        let abandoned = format!(
            "SELECT subscription, CAST(sum(CASE WHEN {OPEN} THEN 1 ELSE 0 END) AS BIGINT) AS count \
             FROM events WHERE abandoned_at IS NOT NULL GROUP BY subscription"
        );
        let (rows, totals, abandoned, oldest): (
            Vec<SubscriptionRow>,
            Vec<Total>,
            Vec<Abandoned>,
            Vec<Oldest>,
        ) = on_backend!(lent, conn => {
            let rows = diesel::sql_query(rows).load(conn).await?;
            let totals = diesel::sql_query(
                "SELECT subscription, decision, CAST(sum(count) AS BIGINT) AS count \
                 FROM event_counts GROUP BY subscription, decision",
            )
            .load(conn)
            .await?;
            let abandoned = diesel::sql_query(abandoned).load(conn).await?;
            let oldest = diesel::sql_query(oldest).load(conn).await?;
            Ok::<_, StoreError>((rows, totals, abandoned, oldest))
        })?;
        let mut summaries: BTreeMap<String, SubscriptionSummary> = BTreeMap::new();
        for row in rows {
            let summary = SubscriptionSummary {
                name: row.name.clone(),
                checkpoint: row.into(),
                ..SubscriptionSummary::default()
            };
            summaries.insert(summary.name.clone(), summary);
        }
        for total in totals {
            if let Some(summary) = summaries.get_mut(&total.subscription) {
                summary.counts.insert(total.decision, total.count);
            }
        }
        for oldest in oldest {
            if let Some(summary) = summaries.get_mut(&oldest.name) {
                summary.oldest_open = oldest.arrival.zip(oldest.received_at);
            }
        }
        for summary in summaries.values_mut() {
            summary.open = summary.open();
        }
        for abandoned in abandoned {
            if let Some(summary) = summaries.get_mut(&abandoned.subscription) {
                // Read a moment later than the counts.
                summary.open = (summary.open - abandoned.count).max(0);
            }
        }
        Ok(summaries.into_values().collect())
    }

    /// Events of a subscription by hour of recording, from `since` on, oldest
    /// hour first: for charts.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn event_counts(
        &self,
        subscription: &str,
        since: Timestamp,
    ) -> Result<Vec<EventCount>, StoreError> {
        let mut lent = self.reader().await?;
        Ok(on_backend!(lent, conn => {
            diesel::sql_query(
                "SELECT bucket_at, decision, count FROM event_counts \
                 WHERE subscription = $1 AND bucket_at >= $2 ORDER BY bucket_at, decision",
            )
            .bind::<Text, _>(subscription)
            .bind::<SqlTimestamp, _>(since)
            .load(conn)
            .await
        })?)
    }
}

impl Store {
    /// As [`Store::event_counts`], of all subscriptions that have any, by name.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn event_counts_of_all(
        &self,
        since: Timestamp,
    ) -> Result<BTreeMap<String, Vec<EventCount>>, StoreError> {
        let mut lent = self.reader().await?;
        let rows: Vec<Counted> = on_backend!(lent, conn => {
            diesel::sql_query(
                "SELECT subscription, bucket_at, decision, count FROM event_counts \
                 WHERE bucket_at >= $1 ORDER BY subscription, bucket_at, decision",
            )
            .bind::<SqlTimestamp, _>(since)
            .load(conn)
            .await
        })?;
        let mut all: BTreeMap<String, Vec<EventCount>> = BTreeMap::new();
        for Counted {
            subscription,
            count,
        } in rows
        {
            all.entry(subscription).or_default().push(count);
        }
        Ok(all)
    }
}

impl SubscriptionSummary {
    fn open(&self) -> i64 {
        let count = |word: &str| self.counts.get(word).copied().unwrap_or(0);
        count(Decision::Pending.as_str()) + count(Decision::Relevant.as_str()) - count(PROCESSED)
    }
}
