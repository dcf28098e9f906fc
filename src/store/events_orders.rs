//! Operators' orders to subscriptions. Each raises `orders`, so that what the
//! Subscriber decided before it knew of it is not written any more.

use super::changes::as_json;
use super::connection::in_transaction;
use super::events_rows::{
    Counting, OPEN, PROCESSED, SubscriptionRow, hour, insert_statement, lock_statement, word,
};
use super::{Store, SubscriptionOrderError};
use crate::flows::events::{Decision, Place};
use crate::time::Timestamp;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp as SqlTimestamp};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

/// Most events that are replayed at once: one transaction's work.
const REPLAY_MOST: i64 = 500_000;

/// An order.
enum Order {
    Retry,
    Skip(Option<i64>, String),
    Pause(String),
    Resume,
    Replay(i64),
}

/// How one event stands.
#[derive(QueryableByName)]
struct Standing {
    #[diesel(sql_type = Text)]
    decision: String,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    processed_at: Option<Timestamp>,
    #[diesel(sql_type = SqlTimestamp)]
    received_at: Timestamp,
}

/// Events of one hour that are replayed.
#[derive(QueryableByName)]
struct Replayed {
    #[diesel(sql_type = SqlTimestamp)]
    bucket_at: Timestamp,
    #[diesel(sql_type = Text)]
    decision: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct PlaceRow {
    #[diesel(sql_type = BigInt)]
    block: i64,
    #[diesel(sql_type = BigInt)]
    rank: i64,
    #[diesel(sql_type = BigInt)]
    arrival: i64,
}

/// Before the halt is lifted: its event gets all its tries anew.
const TRY_ANEW: &str = "UPDATE events SET attempts_before = attempts WHERE subscription = $1 \
    AND arrival = (SELECT halted_arrival FROM subscriptions WHERE name = $2)";

/// Before the halt is lifted, where it is on a late event that was not let pass
/// before: all late ones known by now are processed.
const LET_PASS: &str = "UPDATE subscriptions SET late_to = last_arrival WHERE name = $1 \
    AND halted_arrival > late_to AND EXISTS (SELECT 1 FROM events \
    WHERE events.subscription = subscriptions.name \
    AND events.arrival = subscriptions.halted_arrival AND events.late)";

const LIFT_HALT: &str = "UPDATE subscriptions SET halted_arrival = NULL, halted_at = NULL, \
    halt_error = NULL WHERE name = $1";

// Parameters are numbered in the order in which they stand: SQLite takes them so.

/// What is replayed: `$1` the subscription, `$2` the first block, `$3` what is
/// pruned.
const REPLAYED: &str = "subscription = $1 AND block >= $2 AND arrival > $3 \
    AND abandoned_at IS NULL \
    AND (decision = 'irrelevant' OR (decision = 'relevant' AND processed_at IS NOT NULL))";

impl Store {
    /// Has a halted subscription try its event anew, with all its tries: those
    /// made so far stay counted, and `retry.attempts` more of them halt again.
    /// Halted on a late event, it processes all late ones that are recorded by now.
    /// Answers the event's arrival.
    ///
    /// # Errors
    /// It is not halted, or the database is out of reach; nothing is changed.
    pub async fn retry_subscription(&self, name: &str) -> Result<i64, SubscriptionOrderError> {
        self.order(name, Order::Retry).await
    }

    /// Skips an open event for a reason; `None` is the one on which the
    /// subscription is halted. Answers the event's arrival.
    ///
    /// # Errors
    /// There is no such event, it is done with, nothing is halted, or the
    /// database is out of reach; nothing is changed.
    pub async fn skip_event(
        &self,
        name: &str,
        arrival: Option<i64>,
        reason: &str,
    ) -> Result<i64, SubscriptionOrderError> {
        self.order(name, Order::Skip(arrival, reason.to_owned()))
            .await
    }

    /// Has a subscription process nothing until it is resumed; it goes on
    /// recording. Also before its first event.
    ///
    /// # Errors
    /// It is paused already, or the database is out of reach.
    pub async fn pause_subscription(
        &self,
        name: &str,
        reason: &str,
    ) -> Result<(), SubscriptionOrderError> {
        let order = Order::Pause(reason.to_owned());
        self.order(name, order).await.map(drop)
    }

    /// Has a paused subscription go on; where it was halted too, it tries that
    /// event anew.
    ///
    /// # Errors
    /// It is not paused, or the database is out of reach.
    pub async fn resume_subscription(&self, name: &str) -> Result<(), SubscriptionOrderError> {
        self.order(name, Order::Resume).await.map(drop)
    }

    /// Has the events from a block on judged and processed again: relevant ones
    /// are open again, irrelevant ones pending; skipped ones, and those of
    /// abandoned blocks, stay. The position moves back to before that block. A
    /// halt stays. Answers how many events are open again.
    ///
    /// # Errors
    /// No such block is known, it would be more than 500,000 events, or the
    /// database is out of reach; nothing is changed.
    pub async fn replay_subscription(
        &self,
        name: &str,
        from_block: i64,
    ) -> Result<i64, SubscriptionOrderError> {
        self.order(name, Order::Replay(from_block)).await
    }

    async fn order(&self, name: &str, order: Order) -> Result<i64, SubscriptionOrderError> {
        let store = self.clone();
        let name = name.to_owned();
        let outcome = Self::detached(async move {
            match store.carry_out(&name, &order).await {
                Err(SubscriptionOrderError::Store(error)) => Err(error),
                outcome => Ok(outcome),
            }
        });
        outcome.await?
    }

    async fn carry_out(&self, name: &str, order: &Order) -> Result<i64, SubscriptionOrderError> {
        let names = as_json(&[name])?;
        let mut lent = self.writer().await?;
        let sqlite = lent.is_sqlite();
        in_transaction!(lent, conn => {
            if matches!(order, Order::Pause(_)) {
                diesel::sql_query(insert_statement(sqlite)).bind::<Text, _>(&names).execute(conn).await?;
            }
            let row: Option<SubscriptionRow> = diesel::sql_query(lock_statement(sqlite))
                .bind::<Text, _>(&names)
                .get_result(conn)
                .await
                .optional()?;
            let row = row.ok_or_else(|| SubscriptionOrderError::NothingRecorded(name.to_owned()))?;
            // Read under the lock: one order after another.
            let now = Timestamp::now();
            let halted = row.halted().map(|(arrival, ..)| arrival);
            let mut counting = Counting::default();
            let answer = match order {
                Order::Retry => {
                    let not_halted = || SubscriptionOrderError::NotHalted(name.to_owned());
                    let arrival = halted.ok_or_else(not_halted)?;
                    diesel::sql_query(TRY_ANEW).bind::<Text, _>(name).bind::<Text, _>(name).execute(conn).await?;
                    diesel::sql_query(LET_PASS).bind::<Text, _>(name).execute(conn).await?;
                    diesel::sql_query(LIFT_HALT).bind::<Text, _>(name).execute(conn).await?;
                    arrival
                }
                Order::Skip(arrival, reason) => {
                    let none = || SubscriptionOrderError::NoneToSkip(name.to_owned());
                    let arrival = arrival.or(halted).ok_or_else(none)?;
                    let standing: Option<Standing> = diesel::sql_query(
                        "SELECT decision, processed_at, received_at FROM events \
                         WHERE subscription = $1 AND arrival = $2",
                    )
                    .bind::<Text, _>(name)
                    .bind::<BigInt, _>(arrival)
                    .get_result(conn)
                    .await
                    .optional()?;
                    let standing = check_open(name, arrival, standing)?;
                    diesel::sql_query(
                        "UPDATE events SET decision = 'skipped', decided_at = $1, last_error = $2 \
                         WHERE subscription = $3 AND arrival = $4",
                    )
                    .bind::<SqlTimestamp, _>(now)
                    .bind::<Text, _>(reason)
                    .bind::<Text, _>(name)
                    .bind::<BigInt, _>(arrival)
                    .execute(conn)
                    .await?;
                    counting.add(name, standing.received_at, word(&standing.decision), -1);
                    counting.add(name, standing.received_at, Decision::Skipped.as_str(), 1);
                    if halted == Some(arrival) {
                        diesel::sql_query(LIFT_HALT).bind::<Text, _>(name).execute(conn).await?;
                    }
                    arrival
                }
                Order::Pause(reason) => {
                    if let Some((since, reason)) = row.paused() {
                        let name = name.to_owned();
                        return Err(SubscriptionOrderError::AlreadyPaused { name, since, reason });
                    }
                    diesel::sql_query(
                        "UPDATE subscriptions SET paused_at = $1, pause_reason = $2 WHERE name = $3",
                    )
                    .bind::<SqlTimestamp, _>(now)
                    .bind::<Text, _>(reason)
                    .bind::<Text, _>(name)
                    .execute(conn)
                    .await?;
                    0
                }
                Order::Resume => {
                    if row.paused().is_none() {
                        return Err(SubscriptionOrderError::NotPaused(name.to_owned()));
                    }
                    diesel::sql_query(
                        "UPDATE subscriptions SET paused_at = NULL, pause_reason = NULL WHERE name = $1",
                    )
                    .bind::<Text, _>(name)
                    .execute(conn)
                    .await?;
                    diesel::sql_query(TRY_ANEW).bind::<Text, _>(name).bind::<Text, _>(name).execute(conn).await?;
                    diesel::sql_query(LET_PASS).bind::<Text, _>(name).execute(conn).await?;
                    diesel::sql_query(LIFT_HALT).bind::<Text, _>(name).execute(conn).await?;
                    0
                }
                Order::Replay(from_block) => {
                    check_known(&row, *from_block)?;
                    let alike: Vec<Replayed> = diesel::sql_query(format!(
                        "SELECT {hour} AS bucket_at, decision, count(*) AS count FROM events \
                         WHERE {REPLAYED} GROUP BY {hour}, decision",
                        hour = hour(sqlite),
                    ))
                    .bind::<Text, _>(name)
                    .bind::<BigInt, _>(from_block)
                    .bind::<BigInt, _>(row.pruned_arrival)
                    .load(conn)
                    .await?;
                    let events = recount(&mut counting, name, *from_block, &alike)?;
                    diesel::sql_query(format!(
                        "UPDATE events SET \
                         decided_at = CASE WHEN decision = 'irrelevant' THEN NULL ELSE decided_at END, \
                         decision = CASE WHEN decision = 'irrelevant' THEN 'pending' ELSE decision END, \
                         processed_at = NULL, attempts = 0, attempts_before = 0, last_error = NULL WHERE {REPLAYED}"
                    ))
                    .bind::<Text, _>(name)
                    .bind::<BigInt, _>(from_block)
                    .bind::<BigInt, _>(row.pruned_arrival)
                    .execute(conn)
                    .await?;
                    // Nothing from there on has been passed any more.
                    diesel::sql_query(format!(
                        "UPDATE events SET late = FALSE \
                         WHERE subscription = $1 AND block >= $2 AND late AND {OPEN}"
                    ))
                    .bind::<Text, _>(name)
                    .bind::<BigInt, _>(from_block)
                    .execute(conn)
                    .await?;
                    if row.position().is_some_and(|position| position.block >= *from_block) {
                        let before: Option<PlaceRow> = diesel::sql_query(
                            "SELECT block, rank, arrival FROM events \
                             WHERE subscription = $1 AND block < $2 \
                             ORDER BY block DESC, rank DESC, arrival DESC LIMIT 1",
                        )
                        .bind::<Text, _>(name)
                        .bind::<BigInt, _>(from_block)
                        .get_result(conn)
                        .await
                        .optional()?;
                        let place = before.map(Place::from);
                        diesel::sql_query(
                            "UPDATE subscriptions SET position_block = $1, position_rank = $2, \
                             position_arrival = $3 WHERE name = $4",
                        )
                        .bind::<Nullable<BigInt>, _>(place.map(|place| place.block))
                        .bind::<Nullable<BigInt>, _>(place.map(|place| place.rank))
                        .bind::<Nullable<BigInt>, _>(place.map(|place| place.arrival))
                        .bind::<Text, _>(name)
                        .execute(conn)
                        .await?;
                    }
                    events
                }
            };
            diesel::sql_query("UPDATE subscriptions SET orders = orders + 1 WHERE name = $1")
                .bind::<Text, _>(name)
                .execute(conn)
                .await?;
            if let Some(counts) = counting.statement(sqlite)? {
                diesel::sql_query(counts.sql).bind::<Text, _>(counts.rows).execute(conn).await?;
            }
            Ok::<_, SubscriptionOrderError>(answer)
        })
    }
}

impl From<PlaceRow> for Place {
    fn from(row: PlaceRow) -> Self {
        Self {
            block: row.block,
            rank: row.rank,
            arrival: row.arrival,
        }
    }
}

fn check_open(
    name: &str,
    arrival: i64,
    standing: Option<Standing>,
) -> Result<Standing, SubscriptionOrderError> {
    let name = name.to_owned();
    let Some(standing) = standing else {
        return Err(SubscriptionOrderError::NoSuchEvent { name, arrival });
    };
    let how = match (Decision::parse(&standing.decision), standing.processed_at) {
        (Some(Decision::Pending), _) | (Some(Decision::Relevant), None) => return Ok(standing),
        (Some(Decision::Relevant), Some(_)) => PROCESSED.to_owned(),
        _ => standing.decision,
    };
    Err(SubscriptionOrderError::Done { name, arrival, how })
}

fn check_known(row: &SubscriptionRow, from_block: i64) -> Result<(), SubscriptionOrderError> {
    let name = row.name.clone();
    match row.highest_block {
        None => Err(SubscriptionOrderError::NothingRecorded(name)),
        Some(highest) if from_block > highest => Err(SubscriptionOrderError::NothingToReplay {
            name,
            from_block,
            highest,
        }),
        Some(_) => Ok(()),
    }
}

/// Counts what is replayed; answers how many events that are.
fn recount(
    counting: &mut Counting,
    name: &str,
    from_block: i64,
    alike: &[Replayed],
) -> Result<i64, SubscriptionOrderError> {
    let events = alike.iter().map(|alike| alike.count).sum();
    if events > REPLAY_MOST {
        return Err(SubscriptionOrderError::TooMany {
            name: name.to_owned(),
            from_block,
            events,
            most: REPLAY_MOST,
        });
    }
    for alike in alike {
        if alike.decision == Decision::Relevant.as_str() {
            counting.add(name, alike.bucket_at, PROCESSED, -alike.count);
        } else {
            counting.add(name, alike.bucket_at, word(&alike.decision), -alike.count);
            counting.add(
                name,
                alike.bucket_at,
                Decision::Pending.as_str(),
                alike.count,
            );
        }
    }
    Ok(events)
}
