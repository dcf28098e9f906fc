//! What pages, API and command line read of events: lists, and one with its
//! story.

use super::connection::{Lent, on_backend};
use super::events_read::most;
use super::events_rows::OPEN;
use super::{Store, StoreError};
use crate::flows::events::{Decision, Place};
use crate::time::Timestamp;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamp as SqlTimestamp};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use serde::Serialize;

/// A list by a decision looks through so many arrivals at a time, and so often:
/// a rare one must not cost a walk through millions.
const STRETCH: i64 = 50_000;
const STRETCHES: usize = 10;

const COLUMNS: &str = "subscription, block, rank, arrival, tx_id, event_id, event_name, event_key, \
    occurred_at, received_at, decision, decided_at, processed_at, attempts, last_error, late, \
    abandoned_at";

/// Which events of a subscription are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// The subscription.
    pub subscription: String,
    /// Only with this decision.
    pub decision: Option<Decision>,
    /// Only of this block.
    pub block: Option<i64>,
    /// Only of this transaction.
    pub tx_id: Option<String>,
    /// Only those that are not done with.
    pub open: bool,
}

/// A row of `events`, as shown; without its payload.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName, Serialize)]
pub struct EventRow {
    /// The subscription.
    #[diesel(sql_type = Text)]
    pub subscription: String,
    /// The ledger's block, or a local number.
    #[diesel(sql_type = BigInt)]
    pub block: i64,
    /// Ordinal within the block, 0 where arrival decides.
    #[diesel(sql_type = BigInt)]
    pub rank: i64,
    /// In the order of recording.
    #[diesel(sql_type = BigInt)]
    pub arrival: i64,
    /// The transaction; empty for events of a block.
    #[diesel(sql_type = Text)]
    pub tx_id: String,
    /// What tells it from others of its transaction.
    #[diesel(sql_type = Text)]
    pub event_id: String,
    /// Name of the event.
    #[diesel(sql_type = Text)]
    pub event_name: String,
    /// The key by which it is judged.
    #[diesel(sql_type = Nullable<Text>)]
    #[serde(rename = "key")]
    pub event_key: Option<String>,
    /// When it happened, where it says so.
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    pub occurred_at: Option<Timestamp>,
    /// When it was recorded.
    #[diesel(sql_type = SqlTimestamp)]
    pub received_at: Timestamp,
    /// `pending`, `relevant`, `irrelevant` or `skipped`.
    #[diesel(sql_type = Text)]
    pub decision: String,
    /// When it was decided.
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    pub decided_at: Option<Timestamp>,
    /// When its handler was done with it.
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    pub processed_at: Option<Timestamp>,
    /// Times its handler was tried.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    /// What went wrong last, or why it was skipped.
    #[diesel(sql_type = Nullable<Text>)]
    pub last_error: Option<String>,
    /// It came after its place was passed.
    #[diesel(sql_type = Bool)]
    pub late: bool,
    /// When the ledger abandoned its block.
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    pub abandoned_at: Option<Timestamp>,
}

/// An event with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDetail {
    /// The row.
    pub row: EventRow,
    /// The event as it came: a JSON text; `null` where it is past its retention.
    pub payload: String,
}

/// A page of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPage {
    /// The rows, newest arrival first. May be fewer than asked for, even none,
    /// with more behind the cursor.
    pub rows: Vec<EventRow>,
    /// Cursor of the next page, if there may be one.
    pub next: Option<i64>,
}

#[derive(QueryableByName)]
struct Payload {
    #[diesel(sql_type = Text)]
    payload: String,
}

#[derive(QueryableByName)]
struct Newest {
    #[diesel(sql_type = Nullable<BigInt>)]
    arrival: Option<i64>,
}

impl EventRow {
    /// Its place in the order.
    pub const fn place(&self) -> Place {
        Place {
            block: self.block,
            rank: self.rank,
            arrival: self.arrival,
        }
    }

    /// Whether it is not done with.
    pub fn is_open(&self) -> bool {
        match Decision::parse(&self.decision) {
            Some(Decision::Pending) => true,
            Some(Decision::Relevant) => self.processed_at.is_none(),
            _ => false,
        }
    }
}

impl Store {
    /// Lists events of a subscription, newest arrival first: `limit` of them (1
    /// to 10,000) from before `cursor`, the one of the page before.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn list_events(
        &self,
        filter: &EventFilter,
        cursor: Option<i64>,
        limit: usize,
    ) -> Result<EventPage, StoreError> {
        let limit = limit.clamp(1, 10_000);
        let mut lent = self.reader().await?;
        let mut below = cursor.unwrap_or(i64::MAX);
        if filter.is_narrow() || filter.decision.is_none() {
            let mut rows = page(&mut lent, filter, below, i64::MIN, limit + 1).await?;
            let more = rows.len() > limit;
            rows.truncate(limit);
            let next = rows.last().filter(|_| more).map(|row| row.arrival);
            return Ok(EventPage { rows, next });
        }
        let newest = newest(&mut lent, &filter.subscription).await?;
        below = below.min(newest.saturating_add(1));
        let mut rows = Vec::new();
        for _ in 0..STRETCHES {
            let above = below.saturating_sub(STRETCH);
            let left = limit - rows.len();
            rows.extend(page(&mut lent, filter, below, above, left).await?);
            if rows.len() == limit {
                let next = rows.last().map(|row| row.arrival);
                return Ok(EventPage { rows, next });
            }
            below = above;
            if below <= 1 {
                return Ok(EventPage { rows, next: None });
            }
        }
        let next = Some(below);
        Ok(EventPage { rows, next })
    }

    /// One event, by its arrival.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn event(
        &self,
        subscription: &str,
        arrival: i64,
    ) -> Result<Option<EventDetail>, StoreError> {
        let mut lent = self.reader().await?;
        on_backend!(lent, conn => {
            let of_event = "FROM events WHERE subscription = $1 AND arrival = $2";
            let row: Option<EventRow> = diesel::sql_query(format!("SELECT {COLUMNS} {of_event}"))
                .bind::<Text, _>(subscription)
                .bind::<BigInt, _>(arrival)
                .get_result(conn)
                .await
                .optional()?;
            let payload: Option<Payload> = diesel::sql_query(format!("SELECT payload {of_event}"))
                .bind::<Text, _>(subscription)
                .bind::<BigInt, _>(arrival)
                .get_result(conn)
                .await
                .optional()?;
            let detail = |(row, payload): (EventRow, Payload)| {
                let Payload { payload } = payload;
                EventDetail { row, payload }
            };
            Ok::<_, StoreError>(row.zip(payload).map(detail))
        })
    }
}

impl EventFilter {
    /// Whether only open events can be found.
    fn wants_open(&self) -> bool {
        self.open || self.decision == Some(Decision::Pending)
    }

    /// Few events are found by an index of their own.
    fn is_narrow(&self) -> bool {
        self.block.is_some() || self.tx_id.is_some() || self.wants_open()
    }

    /// What orders the list. The sign keeps SQLite from the index by arrival,
    /// which it takes for the order's sake, however many events it walks through.
    fn order(&self) -> &'static str {
        if self.is_narrow() {
            "+arrival"
        } else {
            "arrival"
        }
    }

    /// The conditions; `$1` to `$6` are subscription, below, above, block,
    /// transaction and decision.
    fn conditions(&self) -> String {
        // Each parameter is named, in order, for SQLite's sake.
        let part = |wanted: bool, condition: &'static str, parameter: &'static str| {
            if wanted {
                format!(" AND {condition}")
            } else {
                format!(" AND {parameter} IS NULL")
            }
        };
        let arrival = self.order();
        let mut sql = format!("subscription = $1 AND {arrival} < $2 AND {arrival} >= $3");
        sql += &part(self.block.is_some(), "block = $4", "$4");
        sql += &part(self.tx_id.is_some(), "tx_id = $5", "$5");
        sql += &part(self.decision.is_some(), "decision = $6", "$6");
        if self.wants_open() {
            sql += " AND ";
            sql += OPEN;
        }
        if self.open {
            sql += " AND abandoned_at IS NULL";
        }
        sql
    }
}

/// Rows in `[above, below)`, newest first.
async fn page(
    lent: &mut Lent,
    filter: &EventFilter,
    below: i64,
    above: i64,
    limit: usize,
) -> Result<Vec<EventRow>, StoreError> {
    let by_open = filter.wants_open() && filter.tx_id.is_none() && filter.block.is_none();
    let index = if lent.is_sqlite() && by_open {
        "INDEXED BY events_open"
    } else {
        ""
    };
    let query = format!(
        "SELECT {COLUMNS} FROM events {index} WHERE {} ORDER BY {} DESC LIMIT $7",
        filter.conditions(),
        filter.order()
    );
    Ok(on_backend!(lent, conn => {
        diesel::sql_query(query)
            .bind::<Text, _>(&filter.subscription)
            .bind::<BigInt, _>(below)
            .bind::<BigInt, _>(above)
            .bind::<Nullable<BigInt>, _>(filter.block)
            .bind::<Nullable<Text>, _>(&filter.tx_id)
            .bind::<Nullable<Text>, _>(filter.decision.map(Decision::as_str))
            .bind::<BigInt, _>(most(limit))
            .load(conn)
            .await
    })?)
}

async fn newest(lent: &mut Lent, subscription: &str) -> Result<i64, StoreError> {
    let newest: Newest = on_backend!(lent, conn => {
        diesel::sql_query("SELECT max(arrival) AS arrival FROM events WHERE subscription = $1")
            .bind::<Text, _>(subscription)
            .get_result(conn)
            .await
    })?;
    Ok(newest.arrival.unwrap_or(0))
}
