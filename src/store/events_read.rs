//! What the Subscriber reads: how far it has come, and what is open.

use super::connection::{Lent, on_backend};
use super::events_rows::{DUE, OPEN_COLUMNS, OpenRow, SUBSCRIPTION_COLUMNS, SubscriptionRow};
use super::{Store, StoreError};
use crate::flows::events::{
    Checkpoint, EventRows, Fork, Judgement, OpenEvent, OpenPage, PageSize, Place, SubscriptionName,
};
use crate::time::Timestamp;
use diesel::pg::Pg;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;
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
        let numbers = |place: &Place| vec![place.block, place.rank, place.arrival];
        self.page(Reading {
            subscription,
            filter: format!(
                "FROM events WHERE subscription = $1 AND (block, rank, arrival) > ($2, $3, $4) \
                 AND (block, rank, arrival) <= ($5, $6, $7) AND {DUE} \
                 ORDER BY block, rank, arrival LIMIT $8"
            ),
            after: numbers(&after.unwrap_or(FIRST)),
            last: numbers(&LAST),
            cut: |length| vec![length.block, length.rank, length.arrival],
            size,
        })
        .await
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
        self.page(Reading {
            subscription,
            filter: format!(
                "FROM events WHERE subscription = $1 AND arrival > $2 AND arrival <= $3 AND {DUE} \
                 ORDER BY arrival LIMIT $4"
            ),
            after: vec![arrival],
            last: vec![i64::MAX],
            cut: |length| vec![length.arrival],
            size,
        })
        .await
    }

    /// A page: where its bytes are bounded the lengths are read first, since no
    /// database is to gather what is not read.
    async fn page(&self, mut reading: Reading<'_>) -> Result<OpenPage, StoreError> {
        let mut lent = self.reader().await?;
        let mut cut = false;
        let bound = reading.size.bytes.filter(|most| *most < usize::MAX);
        if let Some(most_bytes) = bound {
            let lengths: Vec<Length> = reading.rows(&mut lent, LENGTHS).await?;
            if let Some(last) = cut_at(&lengths, most_bytes) {
                (reading.last, cut) = ((reading.cut)(last), true);
            }
        }
        let columns = columns(reading.size);
        let rows: Vec<OpenRow> = reading
            .rows(&mut lent, &format!("SELECT {columns}"))
            .await?;
        let events = rows.into_iter().map(OpenEvent::from).collect();
        Ok(OpenPage { events, cut })
    }
}

/// What a page is read from.
struct Reading<'r> {
    subscription: &'r str,
    /// All of the query behind its columns. Its parameters: the subscription, what
    /// it begins behind, what it ends with, and how many.
    filter: String,
    after: Vec<i64>,
    last: Vec<i64>,
    /// What a page ends with that ends with this event.
    cut: fn(&Length) -> Vec<i64>,
    size: PageSize,
}

impl Reading<'_> {
    async fn rows<T>(&self, lent: &mut Lent, select: &str) -> Result<Vec<T>, StoreError>
    where
        T: QueryableByName<Sqlite> + QueryableByName<Pg> + Send + 'static,
    {
        let query = format!("{select} {}", self.filter);
        let numbers = self.after.iter().chain(&self.last);
        let limit = most(self.size.rows);
        let rows = on_backend!(lent, conn => {
            let mut query = diesel::sql_query(query)
                .into_boxed()
                .bind::<Text, _>(self.subscription);
            for number in numbers {
                query = query.bind::<BigInt, _>(*number);
            }
            query.bind::<BigInt, _>(limit).load(conn).await
        })?;
        Ok(rows)
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
