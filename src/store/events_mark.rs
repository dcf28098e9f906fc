//! What the Subscriber decided and did, written in bulk under its lease.

use super::changes::as_json;
use super::connection::in_transaction;
use super::events_marks::{EventMark, Marks};
use super::events_rows::{
    Alike, Counting, PROCESSED, STILL_OPEN, SubscriptionRow, hour, lock_statement, source, word,
};
use super::events_runs::{Run, Stood, parted, run_statement, stood_statement};
use super::leases::{HeldLease, LeaseStake, held_leases};
use super::{Store, StoreError};
use crate::flows::events::{Decision, EventChange, SubscriptionName};
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Changes of one subscription's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkGroup {
    /// The subscription.
    pub subscription: SubscriptionName,
    /// The lease under which it is run.
    pub stake: LeaseStake,
    /// Orders of operators that were known when it was decided.
    pub orders: i64,
    /// What changes, in order; shared, since a group may have to be written again.
    pub changes: Arc<[EventChange]>,
}

impl Store {
    /// Writes changes of events in one transaction, each group only if `holder`
    /// has its lease at that epoch and no operator gave an order meanwhile.
    /// Answers which were written.
    ///
    /// Only events that are open change, so that a group may be written twice. The
    /// position moves forward only.
    ///
    /// # Errors
    /// The database is out of reach, a row is locked, or it refuses one; nothing
    /// is written.
    pub async fn mark_events(
        &self,
        holder: &str,
        groups: Vec<MarkGroup>,
    ) -> Result<Vec<bool>, StoreError> {
        let store = self.clone();
        let holder = holder.to_owned();
        Self::detached(async move { store.mark(&holder, &groups).await }).await
    }

    async fn mark(&self, holder: &str, groups: &[MarkGroup]) -> Result<Vec<bool>, StoreError> {
        let names: BTreeSet<&str> = groups.iter().map(|g| g.subscription.as_str()).collect();
        let names = as_json(&names)?;
        let mut lent = self.writer().await?;
        let sqlite = lent.is_sqlite();
        in_transaction!(lent, conn => {
            let held: Vec<HeldLease> = diesel::sql_query(held_leases(sqlite))
                .bind::<Text, _>(holder)
                .load(conn)
                .await?;
            let rows: Vec<SubscriptionRow> = diesel::sql_query(lock_statement(sqlite))
                .bind::<Text, _>(&names)
                .load(conn)
                .await?;
            let (written, marks) = Marks::of(groups, &held, rows);
            let (runs, rest) = parted(marks.events.values());
            let mut counting = Counting::default();
            for run in &runs {
                let Run { mark, last } = run;
                if mark.settles() {
                    let stood: Vec<Stood> = diesel::sql_query(stood_statement(sqlite))
                        .bind::<Text, _>(mark.subscription)
                        .bind::<BigInt, _>(mark.arrival)
                        .bind::<BigInt, _>(last)
                        .load(conn)
                        .await?;
                    run.recount(&stood, &mut counting);
                }
                diesel::sql_query(run_statement())
                    .bind::<Nullable<Text>, _>(mark.becomes)
                    .bind::<Nullable<SqlTimestamp>, _>(mark.became_at)
                    .bind::<Nullable<SqlTimestamp>, _>(mark.done_at)
                    .bind::<Nullable<Integer>, _>(mark.tries)
                    .bind::<Nullable<Text>, _>(mark.error)
                    .bind::<Text, _>(mark.subscription)
                    .bind::<BigInt, _>(mark.arrival)
                    .bind::<BigInt, _>(last)
                    .execute(conn)
                    .await?;
            }
            if let Some(settled) = settled(&rest)? {
                let alike: Vec<Alike> =
                    diesel::sql_query(alike_statement(sqlite)).bind::<Text, _>(settled).load(conn).await?;
                recount(&alike, &mut counting);
            }
            if !rest.is_empty() {
                let events = as_json(&rest)?;
                diesel::sql_query(events_statement(sqlite)).bind::<Text, _>(&events).execute(conn).await?;
                if rest.iter().any(|mark| mark.done_at.is_some()) {
                    diesel::sql_query(skipped_statement(sqlite)).bind::<Text, _>(events).execute(conn).await?;
                }
            }
            if let Some(counts) = counting.statement(sqlite)? {
                diesel::sql_query(counts.sql).bind::<Text, _>(counts.rows).execute(conn).await?;
            }
            if !marks.subscriptions.is_empty() {
                let rows = as_json(&marks.subscriptions.values().collect::<Vec<_>>())?;
                diesel::sql_query(subscriptions_statement(sqlite)).bind::<Text, _>(rows).execute(conn).await?;
            }
            Ok::<_, StoreError>(written)
        })
    }
}

/// An event that is decided or processed, for the counts.
#[derive(Serialize)]
struct Settled<'a> {
    subscription: &'a str,
    arrival: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    becomes: Option<&'static str>,
    processed: bool,
}

/// The events that count otherwise from now on, if there are any.
fn settled(marks: &[&EventMark<'_>]) -> Result<Option<String>, StoreError> {
    let settled: Vec<Settled<'_>> = marks
        .iter()
        .filter(|event| event.settles())
        .map(|event| Settled {
            subscription: event.subscription,
            arrival: event.arrival,
            becomes: event.becomes,
            processed: event.done_at.is_some(),
        })
        .collect();
    (!settled.is_empty()).then(|| as_json(&settled)).transpose()
}

/// What the counts become by events that were open.
fn recount(alike: &[Alike], counting: &mut Counting) {
    for alike in alike {
        let Alike {
            subscription,
            bucket_at,
            count,
            ..
        } = alike;
        let (was, becomes) = (
            word(&alike.was),
            alike.becomes.as_deref().map_or(word(&alike.was), word),
        );
        counting.add(subscription, *bucket_at, was, -count);
        counting.add(subscription, *bucket_at, becomes, *count);
        if alike.processed && becomes == Decision::Relevant.as_str() {
            counting.add(subscription, *bucket_at, PROCESSED, *count);
        }
    }
}

/// Groups the events that are open by what they were and become.
fn alike_statement(sqlite: bool) -> String {
    let source = source(
        sqlite,
        &[
            ("subscription", "text"),
            ("arrival", "bigint"),
            ("becomes", "text"),
            ("processed", "boolean"),
        ],
    );
    format!(
        "SELECT events.subscription, {hour} AS bucket_at, events.decision AS was, u.becomes, \
         u.processed, count(*) AS count FROM {source} JOIN events \
         ON events.subscription = u.subscription AND events.arrival = u.arrival WHERE {STILL_OPEN} \
         GROUP BY events.subscription, {hour}, events.decision, u.becomes, u.processed",
        hour = hour(sqlite),
    )
}

fn events_statement(sqlite: bool) -> String {
    let source = source(
        sqlite,
        &[
            ("subscription", "text"),
            ("arrival", "bigint"),
            ("becomes", "text"),
            ("became_at", "timestamp(3)"),
            ("done_at", "timestamp(3)"),
            ("tries", "integer"),
            ("is_late", "boolean"),
            ("error", "text"),
        ],
    );
    format!(
        "UPDATE events SET decision = COALESCE(u.becomes, events.decision), \
         decided_at = COALESCE(u.became_at, events.decided_at, u.done_at), \
         processed_at = u.done_at, attempts = COALESCE(u.tries, events.attempts), \
         late = events.late OR COALESCE(u.is_late, FALSE), \
         last_error = CASE WHEN u.becomes IS NULL AND u.tries IS NULL THEN events.last_error \
         ELSE u.error END FROM {source} \
         WHERE events.subscription = u.subscription AND events.arrival = u.arrival AND {STILL_OPEN}"
    )
}

/// Events that an operator skipped while they were with their handler: that they
/// were processed is noted, and counts for nothing.
fn skipped_statement(sqlite: bool) -> String {
    let source = source(
        sqlite,
        &[
            ("subscription", "text"),
            ("arrival", "bigint"),
            ("done_at", "timestamp(3)"),
            ("tries", "integer"),
        ],
    );
    format!(
        "UPDATE events SET processed_at = u.done_at, attempts = COALESCE(u.tries, events.attempts) \
         FROM {source} WHERE events.subscription = u.subscription AND events.arrival = u.arrival \
         AND events.decision || '' = 'skipped' AND events.processed_at IS NULL \
         AND u.done_at IS NOT NULL"
    )
}

fn subscriptions_statement(sqlite: bool) -> String {
    let source = source(
        sqlite,
        &[
            ("name", "text"),
            ("position_block", "bigint"),
            ("position_rank", "bigint"),
            ("position_arrival", "bigint"),
            ("halted_arrival", "bigint"),
            ("halted_at", "timestamp(3)"),
            ("halt_error", "text"),
        ],
    );
    format!(
        "UPDATE subscriptions SET position_block = u.position_block, \
         position_rank = u.position_rank, position_arrival = u.position_arrival, \
         halted_arrival = u.halted_arrival, halted_at = u.halted_at, halt_error = u.halt_error \
         FROM {source} WHERE subscriptions.name = u.name"
    )
}
