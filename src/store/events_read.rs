//! What the Subscriber reads: how far it has come, and what is open.

use super::connection::on_backend;
use super::events_rows::{DUE, OPEN_COLUMNS, OpenRow, SUBSCRIPTION_COLUMNS, SubscriptionRow};
use super::{Store, StoreError};
use crate::flows::events::{
    Checkpoint, EventRows, Fork, Judgement, OpenEvent, Place, SubscriptionName,
};
use crate::time::Timestamp;
use diesel::OptionalExtension;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;
use futures_util::future::BoxFuture;

/// Before all places.
const FIRST: Place = Place {
    block: i64::MIN,
    rank: i64::MIN,
    arrival: i64::MIN,
};

impl Store {
    /// How far a subscription has come; the default where nothing is recorded.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn checkpoint(&self, subscription: &str) -> Result<Checkpoint, StoreError> {
        let mut lent = self.reader().await?;
        let query = format!("SELECT {SUBSCRIPTION_COLUMNS} FROM subscriptions WHERE name = $1");
        let row: Option<SubscriptionRow> = on_backend!(lent, conn => {
            diesel::sql_query(query)
                .bind::<Text, _>(subscription)
                .get_result(conn)
                .await
                .optional()
        })?;
        Ok(row.map(Checkpoint::from).unwrap_or_default())
    }

    /// Events that are not done with, of blocks that count, in the order of their places, behind
    /// `after`, at most `limit`.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn open_events(
        &self,
        subscription: &str,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<OpenEvent>, StoreError> {
        let after = after.unwrap_or(FIRST);
        let mut lent = self.reader().await?;
        let query = format!(
            "SELECT {OPEN_COLUMNS} FROM events WHERE subscription = $1 \
             AND (block, rank, arrival) > ($2, $3, $4) AND {DUE} \
             ORDER BY block, rank, arrival LIMIT $5"
        );
        let rows: Vec<OpenRow> = on_backend!(lent, conn => {
            diesel::sql_query(query)
                .bind::<Text, _>(subscription)
                .bind::<BigInt, _>(after.block)
                .bind::<BigInt, _>(after.rank)
                .bind::<BigInt, _>(after.arrival)
                .bind::<BigInt, _>(most(limit))
                .load(conn)
                .await
        })?;
        Ok(rows.into_iter().map(OpenEvent::from).collect())
    }

    /// Events that are not done with, of blocks that count, and arrived after `arrival`, in the order of
    /// their arrivals, at most `limit`: what other servers recorded meanwhile.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn recorded_since(
        &self,
        subscription: &str,
        arrival: i64,
        limit: usize,
    ) -> Result<Vec<OpenEvent>, StoreError> {
        let mut lent = self.reader().await?;
        let query = format!(
            "SELECT {OPEN_COLUMNS} FROM events WHERE subscription = $1 AND arrival > $2 AND {DUE} \
             ORDER BY arrival LIMIT $3"
        );
        let rows: Vec<OpenRow> = on_backend!(lent, conn => {
            diesel::sql_query(query)
                .bind::<Text, _>(subscription)
                .bind::<BigInt, _>(arrival)
                .bind::<BigInt, _>(most(limit))
                .load(conn)
                .await
        })?;
        Ok(rows.into_iter().map(OpenEvent::from).collect())
    }
}

impl EventRows for Store {
    fn checkpoint<'a>(
        &'a self,
        subscription: &'a str,
    ) -> BoxFuture<'a, Result<Checkpoint, StoreError>> {
        Box::pin(self.checkpoint(subscription))
    }

    fn open_events<'a>(
        &'a self,
        subscription: &'a str,
        after: Option<Place>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<OpenEvent>, StoreError>> {
        Box::pin(self.open_events(subscription, after, limit))
    }

    fn recorded_since<'a>(
        &'a self,
        subscription: &'a str,
        arrival: i64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<OpenEvent>, StoreError>> {
        Box::pin(self.recorded_since(subscription, arrival, limit))
    }

    fn judge<'a>(
        &'a self,
        lookup: Option<&'a str>,
        asked: Vec<(Place, String, Option<String>)>,
    ) -> BoxFuture<'a, Result<Vec<Judgement>, StoreError>> {
        Box::pin(self.judge(lookup, asked))
    }

    fn abandon<'a>(
        &'a self,
        subscription: &'a SubscriptionName,
        fork: &'a Fork,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<usize, StoreError>> {
        Box::pin(self.abandon_events(subscription, fork, now))
    }
}

/// A limit as SQL takes it.
pub(super) fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
