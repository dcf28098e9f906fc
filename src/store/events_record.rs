//! How events are recorded: known again or numbered, in the order of arrival.

use super::changes::{as_json, sql_time};
use super::connection::in_transaction;
use super::events_fork::{VOID_MARKS, adopt_known_statement, known_of_blocks};
use super::events_numbering::{Numbered, NumberedEvent, number};
use super::events_outcome::{Inserted, Outcome};
use super::events_rows::{SubscriptionRow, insert_statement, lock_statement, source};
use super::{Store, StoreError};
use crate::flows::events::{Heard, Recorded, SubscriptionName};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Events of one subscription that were heard together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordGroup {
    /// The subscription.
    pub subscription: SubscriptionName,
    /// What was heard, and whether its block is skipped.
    pub heard: Vec<(Heard, bool)>,
    /// What the source is to remember, committed with them; `None` leaves it.
    pub source_state: Option<String>,
}

/// An event that is known by its transaction and event id, and its block.
#[derive(QueryableByName)]
pub(super) struct KnownEvent {
    #[diesel(sql_type = Text)]
    pub(super) subscription: String,
    #[diesel(sql_type = Text)]
    pub(super) tx_id: String,
    #[diesel(sql_type = Text)]
    pub(super) event_id: String,
    #[diesel(sql_type = BigInt)]
    pub(super) block: i64,
}

impl Store {
    /// Records events, all groups in one transaction; answers each of them.
    ///
    /// An event whose identity (subscription, block, transaction, event id) is
    /// known, or came before in the same call, is counted and left as it is.
    /// Where a stream has no block numbers, transaction and event id tell, and a
    /// new transaction gets the next local number. Arrivals of a subscription are
    /// in the order of commits, since its row is locked first.
    ///
    /// # Errors
    /// The database is out of reach, a row is locked, or it refuses an event:
    /// then nothing is recorded, and the caller records smaller groups.
    pub async fn record_events(
        &self,
        groups: Vec<RecordGroup>,
    ) -> Result<Vec<Recorded>, StoreError> {
        self.record_shared(groups.into()).await
    }

    /// The same of groups that the caller keeps, to record them again in parts
    /// where the database refuses an event.
    ///
    /// # Errors
    /// As [`Self::record_events`].
    pub async fn record_shared(
        &self,
        groups: Arc<[RecordGroup]>,
    ) -> Result<Vec<Recorded>, StoreError> {
        let store = self.clone();
        Self::detached(async move { store.record(&groups).await }).await
    }

    async fn record(&self, groups: &[RecordGroup]) -> Result<Vec<Recorded>, StoreError> {
        // In one order everywhere, so that two servers cannot deadlock.
        let names: BTreeSet<&str> = groups.iter().map(|g| g.subscription.as_str()).collect();
        let count = names.len();
        let names = as_json(&names)?;
        let local = local_identities(groups)?;
        let mut lent = self.writer().await?;
        let sqlite = lent.is_sqlite();
        in_transaction!(lent, conn => {
            let lock = lock_statement(sqlite);
            let mut rows: Vec<SubscriptionRow> =
                diesel::sql_query(&lock).bind::<Text, _>(&names).load(conn).await?;
            if rows.len() < count {
                diesel::sql_query(insert_statement(sqlite)).bind::<Text, _>(&names).execute(conn).await?;
                rows = diesel::sql_query(&lock).bind::<Text, _>(&names).load(conn).await?;
            }
            let known: Vec<KnownEvent> = match &local {
                Some(asked) => {
                    diesel::sql_query(known_statement(sqlite)).bind::<Text, _>(asked).load(conn).await?
                }
                None => Vec::new(),
            };
            // Read under the lock, so that times of arrival follow arrivals.
            let now = Timestamp::now();
            let numbered = number(groups, rows, &known);
            let (mut inserted, mut all) = (HashSet::new(), true);
            if !numbered.events.is_empty() {
                let events = as_json(&new_rows(&numbered, now))?;
                let rows: Vec<Inserted> = diesel::sql_query(events_statement(sqlite))
                    .bind::<Text, _>(events)
                    .load(conn)
                    .await?;
                all = rows.len() == numbered.events.len();
                if !all {
                    inserted = rows.into_iter().collect();
                }
            }
            if !all {
                // They are of a block that is part of the ledger now, whatever it was.
                let again = known_of_blocks(&numbered, &inserted);
                if !again.is_empty() {
                    let again = as_json(&again)?;
                    let adopted: Vec<Inserted> = diesel::sql_query(adopt_known_statement(sqlite))
                        .bind::<Text, _>(again)
                        .load(conn)
                        .await?;
                    let names: BTreeSet<&str> = adopted.iter().map(|a| a.subscription.as_str()).collect();
                    for name in names {
                        diesel::sql_query(VOID_MARKS).bind::<Text, _>(name).execute(conn).await?;
                    }
                }
            }
            let outcome = Outcome::of(groups, &numbered, &inserted, now, all);
            if !outcome.subscriptions.is_empty() {
                let rows = as_json(&outcome.subscriptions)?;
                diesel::sql_query(subscriptions_statement(sqlite)).bind::<Text, _>(rows).execute(conn).await?;
            }
            if let Some(counts) = outcome.counting.statement(sqlite)? {
                diesel::sql_query(counts.sql).bind::<Text, _>(counts.rows).execute(conn).await?;
            }
            Ok::<_, StoreError>(outcome.recorded)
        })
    }
}

/// Identities of events without a block, to look for.
fn local_identities(groups: &[RecordGroup]) -> Result<Option<String>, StoreError> {
    let mut asked = BTreeSet::new();
    for group in groups {
        for (heard, _) in &group.heard {
            if heard.block.is_none() {
                asked.insert((group.subscription.as_str(), heard.tx_id.as_str()));
            }
        }
    }
    if asked.is_empty() {
        return Ok(None);
    }
    let asked: Vec<_> = asked
        .iter()
        .map(|(name, tx_id)| serde_json::json!({ "subscription": name, "tx_id": tx_id }))
        .collect();
    as_json(&asked).map(Some)
}

/// All that is known of these transactions. They are few, and the subscription's
/// events are many: SQLite must not go by the latter.
fn known_statement(sqlite: bool) -> String {
    let source = source(sqlite, &[("subscription", "text"), ("tx_id", "text")]);
    format!(
        "SELECT e.subscription, e.tx_id, e.event_id, e.block FROM {source} \
         JOIN events e ON e.tx_id = u.tx_id AND e.subscription || '' = u.subscription"
    )
}

fn events_statement(sqlite: bool) -> String {
    let source = source(
        sqlite,
        &[
            ("subscription", "text"),
            ("block", "bigint"),
            ("tx_id", "text"),
            ("event_id", "text"),
            ("arrival", "bigint"),
            ("event_name", "text"),
            ("payload", "text"),
            ("received_at", "timestamp(3)"),
            ("decision", "text"),
            ("rank", "bigint"),
            ("event_key", "text"),
            ("occurred_at", "timestamp(3)"),
            ("late", "boolean"),
        ],
    );
    format!(
        "INSERT INTO events (subscription, block, tx_id, event_id, arrival, event_name, payload, \
         received_at, decision, decided_at, rank, event_key, occurred_at, late) \
         SELECT u.subscription, u.block, u.tx_id, u.event_id, u.arrival, u.event_name, u.payload, \
         u.received_at, u.decision, CASE WHEN u.decision = 'skipped' THEN u.received_at END, \
         u.rank, u.event_key, u.occurred_at, u.late FROM {source} WHERE TRUE \
         ON CONFLICT (subscription, block, tx_id, event_id) DO NOTHING \
         RETURNING subscription, arrival"
    )
}

fn subscriptions_statement(sqlite: bool) -> String {
    let source = source(
        sqlite,
        &[
            ("name", "text"),
            ("last_arrival", "bigint"),
            ("highest_block", "bigint"),
            ("second_block", "bigint"),
            ("last_event_at", "timestamp(3)"),
            ("source_state", "text"),
            ("local_blocks", "boolean"),
        ],
    );
    format!(
        "UPDATE subscriptions SET last_arrival = u.last_arrival, highest_block = u.highest_block, \
         second_block = u.second_block, \
         last_event_at = COALESCE(u.last_event_at, subscriptions.last_event_at), \
         source_state = COALESCE(u.source_state, subscriptions.source_state), \
         local_blocks = u.local_blocks FROM {source} WHERE subscriptions.name = u.name"
    )
}

/// A row of `events`, as the statement reads it.
#[derive(Serialize)]
struct NewRow<'a> {
    subscription: &'a str,
    block: i64,
    tx_id: &'a str,
    event_id: &'a str,
    arrival: i64,
    event_name: &'a str,
    payload: &'a str,
    #[serde(serialize_with = "sql_time")]
    received_at: Option<Timestamp>,
    decision: &'static str,
    rank: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_key: Option<&'a str>,
    #[serde(serialize_with = "sql_time", skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Timestamp>,
    late: bool,
}

fn new_rows<'a>(numbered: &Numbered<'a>, now: Timestamp) -> Vec<NewRow<'a>> {
    let row = |event: &NumberedEvent<'a>| NewRow {
        subscription: event.subscription,
        block: event.place.block,
        tx_id: &event.heard.tx_id,
        event_id: &event.heard.event_id,
        arrival: event.place.arrival,
        event_name: &event.heard.event_name,
        payload: &event.heard.payload,
        received_at: Some(now),
        decision: event.decision().as_str(),
        rank: event.place.rank,
        event_key: event.heard.key.as_deref(),
        occurred_at: event.heard.occurred_at,
        late: event.late,
    };
    numbered.events.iter().map(row).collect()
}
