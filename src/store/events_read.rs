//! What the Subscriber reads: how far it has come, and what is open.

use super::connection::on_backend;
use super::events_rows::{DUE, OPEN_COLUMNS, OpenRow, SUBSCRIPTION_COLUMNS, SubscriptionRow};
use super::{Store, StoreError};
use crate::flows::events::{
    Checkpoint, EventRows, Fork, Judgement, OpenEvent, OpenPage, PageSize, Place, SubscriptionName,
};
use crate::time::Timestamp;
use diesel::sql_types::{BigInt, Text};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use futures_util::future::BoxFuture;

/// Before all places.
const FIRST: Place = Place {
    block: i64::MIN,
    rank: i64::MIN,
    arrival: i64::MIN,
};

/// Behind all places.
const LAST: Place = Place {
    block: i64::MAX,
    rank: i64::MAX,
    arrival: i64::MAX,
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
    /// `after`, at most `limit`, however large they are.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn open_events(
        &self,
        subscription: &str,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<OpenEvent>, StoreError> {
        let page = self.open_page(subscription, after, whole(limit)).await?;
        Ok(page.events)
    }

    /// The same, as much of it as a page holds.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn open_page(
        &self,
        subscription: &str,
        after: Option<Place>,
        size: PageSize,
    ) -> Result<OpenPage, StoreError> {
        let after = after.unwrap_or(FIRST);
        let filter = format!(
            "FROM events WHERE subscription = $1 AND (block, rank, arrival) > ($2, $3, $4) \
             AND (block, rank, arrival) <= ($5, $6, $7) AND {DUE} \
             ORDER BY block, rank, arrival LIMIT $8"
        );
        let mut lent = self.reader().await?;
        let (mut to, mut cut) = (LAST, false);
        if let Some(most_bytes) = size.bytes.filter(|most| *most < usize::MAX) {
            // The lengths first: no database is to gather what is not read.
            let query = format!("{LENGTHS} {filter}");
            let lengths: Vec<Length> = on_backend!(lent, conn => {
                diesel::sql_query(query)
                    .bind::<Text, _>(subscription)
                    .bind::<BigInt, _>(after.block)
                    .bind::<BigInt, _>(after.rank)
                    .bind::<BigInt, _>(after.arrival)
                    .bind::<BigInt, _>(to.block)
                    .bind::<BigInt, _>(to.rank)
                    .bind::<BigInt, _>(to.arrival)
                    .bind::<BigInt, _>(most(size.rows))
                    .load(conn)
                    .await
            })?;
            if let Some(last) = cut_at(&lengths, most_bytes) {
                (to, cut) = (last.place(), true);
            }
        }
        let query = format!("SELECT {} {filter}", columns(size));
        let rows: Vec<OpenRow> = on_backend!(lent, conn => {
            diesel::sql_query(query)
                .bind::<Text, _>(subscription)
                .bind::<BigInt, _>(after.block)
                .bind::<BigInt, _>(after.rank)
                .bind::<BigInt, _>(after.arrival)
                .bind::<BigInt, _>(to.block)
                .bind::<BigInt, _>(to.rank)
                .bind::<BigInt, _>(to.arrival)
                .bind::<BigInt, _>(most(size.rows))
                .load(conn)
                .await
        })?;
        let events = rows.into_iter().map(OpenEvent::from).collect();
        Ok(OpenPage { events, cut })
    }

    /// Events that are not done with, of blocks that count, and arrived after `arrival`, in the order of
    /// their arrivals, at most `limit`, however large they are: what other servers recorded meanwhile.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn recorded_since(
        &self,
        subscription: &str,
        arrival: i64,
        limit: usize,
    ) -> Result<Vec<OpenEvent>, StoreError> {
        let page = self
            .recorded_page(subscription, arrival, whole(limit))
            .await?;
        Ok(page.events)
    }

    /// The same, as much of it as a page holds.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn recorded_page(
        &self,
        subscription: &str,
        arrival: i64,
        size: PageSize,
    ) -> Result<OpenPage, StoreError> {
        let filter = format!(
            "FROM events WHERE subscription = $1 AND arrival > $2 AND arrival <= $3 AND {DUE} \
             ORDER BY arrival LIMIT $4"
        );
        let mut lent = self.reader().await?;
        let (mut to, mut cut) = (i64::MAX, false);
        if let Some(most_bytes) = size.bytes.filter(|most| *most < usize::MAX) {
            let query = format!("{LENGTHS} {filter}");
            let lengths: Vec<Length> = on_backend!(lent, conn => {
                diesel::sql_query(query)
                    .bind::<Text, _>(subscription)
                    .bind::<BigInt, _>(arrival)
                    .bind::<BigInt, _>(to)
                    .bind::<BigInt, _>(most(size.rows))
                    .load(conn)
                    .await
            })?;
            if let Some(last) = cut_at(&lengths, most_bytes) {
                (to, cut) = (last.arrival, true);
            }
        }
        let query = format!("SELECT {} {filter}", columns(size));
        let rows: Vec<OpenRow> = on_backend!(lent, conn => {
            diesel::sql_query(query)
                .bind::<Text, _>(subscription)
                .bind::<BigInt, _>(arrival)
                .bind::<BigInt, _>(to)
                .bind::<BigInt, _>(most(size.rows))
                .load(conn)
                .await
        })?;
        let events = rows.into_iter().map(OpenEvent::from).collect();
        Ok(OpenPage { events, cut })
    }
}

/// How much an event takes.
#[derive(QueryableByName)]
struct Length {
    #[diesel(sql_type = BigInt)]
    block: i64,
    #[diesel(sql_type = BigInt)]
    rank: i64,
    #[diesel(sql_type = BigInt)]
    arrival: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

impl Length {
    const fn place(&self) -> Place {
        Place {
            block: self.block,
            rank: self.rank,
            arrival: self.arrival,
        }
    }
}

/// What a [`Length`] is read from. Neither database reads the text for it.
const LENGTHS: &str = "SELECT block, rank, arrival, CAST(octet_length(payload) AS BIGINT) AS bytes";

/// The last event that a page of so many bytes holds, one at least; `None` where
/// it holds them all.
fn cut_at(lengths: &[Length], most_bytes: usize) -> Option<&Length> {
    let mut sum = 0_i64;
    let too_many = lengths.iter().position(|length| {
        sum = sum.saturating_add(length.bytes);
        sum > most(most_bytes)
    })?;
    let last = too_many.saturating_sub(1);
    lengths.get(last).filter(|_| last + 1 < lengths.len())
}

/// A page of so many events, however large they are.
const fn whole(rows: usize) -> PageSize {
    PageSize {
        rows,
        bytes: Some(usize::MAX),
    }
}

/// What an [`OpenRow`] of such a page is read from.
fn columns(size: PageSize) -> String {
    match size.bytes {
        Some(_) => OPEN_COLUMNS.to_owned(),
        None => OPEN_COLUMNS.replacen("payload", "'' AS payload", 1),
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
        size: PageSize,
    ) -> BoxFuture<'a, Result<OpenPage, StoreError>> {
        Box::pin(self.open_page(subscription, after, size))
    }

    fn recorded_since<'a>(
        &'a self,
        subscription: &'a str,
        arrival: i64,
        size: PageSize,
    ) -> BoxFuture<'a, Result<OpenPage, StoreError>> {
        Box::pin(self.recorded_page(subscription, arrival, size))
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
