//! What the queries of events share: rows as they are read, words of SQL that
//! both databases take, and the lock of a subscription.

use super::{Statement, StoreError, changes::as_json};
use crate::flows::events::{Checkpoint, Decision, OpenEvent, Place};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamp as SqlTimestamp};
use std::collections::BTreeMap;

/// Events that are not done with. Word for word the condition of the index
/// `events_open`, so that SQLite takes it.
pub(super) const OPEN: &str =
    "(decision = 'pending' OR (decision = 'relevant' AND processed_at IS NULL))";

/// The same events, where they are found by their arrivals: worded so that no
/// database goes by `events_open`. PostgreSQL did, before its statistics knew the
/// table, and walked through all that had been open for each of them.
pub(super) const STILL_OPEN: &str = "(decision || '' = 'pending' \
    OR (decision || '' = 'relevant' AND processed_at IS NULL))";

/// Of these, what a handler may get: a block that the ledger abandoned holds none.
pub(super) const DUE: &str = "abandoned_at IS NULL \
    AND (decision = 'pending' OR (decision = 'relevant' AND processed_at IS NULL))";

/// What an [`OpenRow`] is read from.
pub(super) const OPEN_COLUMNS: &str = "block, rank, arrival, tx_id, event_id, event_name, payload, \
    event_key, occurred_at, received_at, decision, attempts, attempts_before, late";

/// What a [`SubscriptionRow`] is read from.
pub(super) const SUBSCRIPTION_COLUMNS: &str = "name, last_arrival, highest_block, second_block, \
    position_block, position_rank, position_arrival, last_event_at, orders, paused_at, \
    pause_reason, halted_arrival, halted_at, halt_error, source_state, local_blocks, pruned_arrival, late_to";

/// The parameter `$1`, a JSON array of objects, as a table `u`. `columns` are
/// names and PostgreSQL's types; what an object lacks is NULL. `jsonb_each` hands
/// each object on as it is parsed; `json_each` would write it out as a text, to be
/// parsed anew for each row, which costs a quarter of an insert.
pub(super) fn source(sqlite: bool, columns: &[(&str, &str)]) -> String {
    if sqlite {
        let read = |(name, _): &(&str, &str)| format!("value ->> '{name}' AS {name}");
        let columns: Vec<String> = columns.iter().map(read).collect();
        format!("(SELECT {} FROM jsonb_each($1)) AS u", columns.join(", "))
    } else {
        let typed = |(name, kind): &(&str, &str)| format!("{name} {kind}");
        let columns: Vec<String> = columns.iter().map(typed).collect();
        format!("json_to_recordset($1::json) AS u ({})", columns.join(", "))
    }
}

/// The hour in which an event was recorded, as SQL.
pub(super) const fn hour(sqlite: bool) -> &'static str {
    if sqlite {
        "substr(events.received_at, 1, 13) || ':00:00.000'"
    } else {
        "date_trunc('hour', events.received_at)"
    }
}

/// The same of a time.
pub(super) fn hour_of(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.millis() - at.millis().rem_euclid(3_600_000))
}

/// Reads and locks the subscriptions of `$1`, a JSON array of names, in their
/// order, until the transaction's end: SQLite has one writer anyway.
pub(super) fn lock_statement(sqlite: bool) -> String {
    if sqlite {
        format!(
            "SELECT {SUBSCRIPTION_COLUMNS} FROM subscriptions \
             WHERE name IN (SELECT value FROM json_each($1)) ORDER BY name"
        )
    } else {
        format!(
            "SELECT {SUBSCRIPTION_COLUMNS} FROM subscriptions \
             WHERE name = ANY(ARRAY(SELECT json_array_elements_text($1::json))) \
             ORDER BY name FOR UPDATE"
        )
    }
}

/// Inserts the subscriptions of `$1` that are not there.
pub(super) const fn insert_statement(sqlite: bool) -> &'static str {
    if sqlite {
        "INSERT INTO subscriptions (name) SELECT value FROM json_each($1) \
         WHERE TRUE ORDER BY value ON CONFLICT (name) DO NOTHING"
    } else {
        "INSERT INTO subscriptions (name) SELECT json_array_elements_text($1::json) AS value \
         ORDER BY value ON CONFLICT (name) DO NOTHING"
    }
}

/// A row of `subscriptions`.
#[derive(Clone, Debug, QueryableByName)]
pub(super) struct SubscriptionRow {
    #[diesel(sql_type = Text)]
    pub(super) name: String,
    #[diesel(sql_type = BigInt)]
    pub(super) last_arrival: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) highest_block: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) second_block: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    position_block: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    position_rank: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    position_arrival: Option<i64>,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    last_event_at: Option<Timestamp>,
    #[diesel(sql_type = BigInt)]
    pub(super) orders: i64,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    paused_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    pause_reason: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    halted_arrival: Option<i64>,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    halted_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    halt_error: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    source_state: Option<String>,
    #[diesel(sql_type = Bool)]
    pub(super) local_blocks: bool,
    #[diesel(sql_type = BigInt)]
    pub(super) pruned_arrival: i64,
    #[diesel(sql_type = BigInt)]
    late_to: i64,
}

impl SubscriptionRow {
    /// All up to here are done with.
    pub(super) fn position(&self) -> Option<Place> {
        Some(Place {
            block: self.position_block?,
            rank: self.position_rank?,
            arrival: self.position_arrival?,
        })
    }

    pub(super) fn halted(&self) -> Option<(i64, Timestamp, String)> {
        let error = self.halt_error.clone().unwrap_or_default();
        Some((
            self.halted_arrival?,
            self.halted_at.unwrap_or_default(),
            error,
        ))
    }

    pub(super) fn paused(&self) -> Option<(Timestamp, String)> {
        Some((
            self.paused_at?,
            self.pause_reason.clone().unwrap_or_default(),
        ))
    }
}

impl From<SubscriptionRow> for Checkpoint {
    fn from(row: SubscriptionRow) -> Self {
        Self {
            position: row.position(),
            paused: row.paused(),
            halted: row.halted(),
            last_arrival: row.last_arrival,
            highest_block: row.highest_block,
            second_block: row.second_block,
            last_event_at: row.last_event_at,
            orders: row.orders,
            source_state: row.source_state,
            late_to: row.late_to,
        }
    }
}

/// An open event, as it is read.
#[derive(QueryableByName)]
pub(super) struct OpenRow {
    #[diesel(sql_type = BigInt)]
    block: i64,
    #[diesel(sql_type = BigInt)]
    rank: i64,
    #[diesel(sql_type = BigInt)]
    arrival: i64,
    #[diesel(sql_type = Text)]
    tx_id: String,
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(sql_type = Text)]
    event_name: String,
    #[diesel(sql_type = Text)]
    payload: String,
    #[diesel(sql_type = Nullable<Text>)]
    event_key: Option<String>,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    occurred_at: Option<Timestamp>,
    #[diesel(sql_type = SqlTimestamp)]
    received_at: Timestamp,
    #[diesel(sql_type = Text)]
    decision: String,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Integer)]
    attempts_before: i32,
    #[diesel(sql_type = Bool)]
    late: bool,
}

impl From<OpenRow> for OpenEvent {
    fn from(row: OpenRow) -> Self {
        Self {
            place: Place {
                block: row.block,
                rank: row.rank,
                arrival: row.arrival,
            },
            tx_id: row.tx_id,
            event_id: row.event_id,
            event_name: row.event_name,
            payload: row.payload.into(),
            key: row.event_key,
            occurred_at: row.occurred_at,
            received_at: row.received_at,
            // The table takes no other words.
            decision: Decision::parse(&row.decision).unwrap_or(Decision::Pending),
            attempts: u32::try_from(row.attempts).unwrap_or(0),
            attempts_before: u32::try_from(row.attempts_before).unwrap_or(0),
            late: row.late,
        }
    }
}

/// Name in `event_counts` of relevant events whose handler is done.
pub(super) const PROCESSED: &str = "processed";

/// What changes in `event_counts`, gathered for one statement.
#[derive(Debug, Default)]
pub(super) struct Counting(BTreeMap<(String, Timestamp, &'static str), i64>);

impl Counting {
    /// So many more (or fewer) events of an hour stand so.
    pub(super) fn add(&mut self, subscription: &str, at: Timestamp, word: &'static str, by: i64) {
        let key = (subscription.to_owned(), hour_of(at), word);
        *self.0.entry(key).or_default() += by;
    }

    /// The statement that writes it, if there is anything to write. Its rows are
    /// guarded by the lock of their subscription.
    pub(super) fn statement(&self, sqlite: bool) -> Result<Option<Statement>, StoreError> {
        let rows: Vec<_> = self
            .0
            .iter()
            .filter(|(_, by)| **by != 0)
            .map(|((subscription, at, word), by)| {
                serde_json::json!({
                    "subscription": subscription, "bucket_at": at.to_sql_text(),
                    "decision": word, "count": by,
                })
            })
            .collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let source = source(
            sqlite,
            &[
                ("subscription", "text"),
                ("bucket_at", "timestamp(3)"),
                ("decision", "text"),
                ("count", "bigint"),
            ],
        );
        Ok(Some(Statement {
            sql: format!(
                "INSERT INTO event_counts (subscription, bucket_at, decision, count) \
                 SELECT u.subscription, u.bucket_at, u.decision, u.count FROM {source} WHERE TRUE \
                 ORDER BY u.subscription, u.bucket_at, u.decision \
                 ON CONFLICT (subscription, bucket_at, decision) DO UPDATE SET \
                 count = event_counts.count + excluded.count"
            ),
            rows: as_json(&rows)?,
        }))
    }
}

/// Events of one hour that stand alike, as a query groups them.
#[derive(QueryableByName)]
pub(super) struct Alike {
    #[diesel(sql_type = Text)]
    pub(super) subscription: String,
    #[diesel(sql_type = SqlTimestamp)]
    pub(super) bucket_at: Timestamp,
    #[diesel(sql_type = Text)]
    pub(super) was: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) becomes: Option<String>,
    #[diesel(sql_type = Bool)]
    pub(super) processed: bool,
    #[diesel(sql_type = BigInt)]
    pub(super) count: i64,
}

/// The decision of the table, as its word in counts.
pub(super) fn word(decision: &str) -> &'static str {
    Decision::parse(decision).map_or("pending", Decision::as_str)
}
