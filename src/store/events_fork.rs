//! Events of blocks that a ledger abandoned: they are marked, and stay.

use super::changes::as_json;
use super::connection::in_transaction;
use super::events_numbering::Numbered;
use super::events_outcome::Inserted;
use super::events_rows::{SubscriptionRow, lock_statement, source};
use super::{Store, StoreError};
use crate::flows::events::{Fork, SubscriptionName};
use crate::time::Timestamp;
use diesel::OptionalExtension;
use diesel::sql_types::{BigInt, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use std::collections::HashSet;

/// An event is one of an adopted block: its `event_id` begins with the block's id.
macro_rules! of_adopted {
    ($blocks:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM ",
            $blocks,
            " WHERE b.number = events.block \
              AND substr(events.event_id, 1, length(b.id) + 1) = b.id || ':')"
        )
    };
}

// Of a ledger that has forks, all events are events of blocks: without transaction.
// What came otherwise, under the same name, is left alone.

const SQLITE_ABANDON: &str = concat!(
    "UPDATE events SET abandoned_at = $1 WHERE subscription = $2 AND block > $3 AND tx_id = '' \
     AND abandoned_at IS NULL AND NOT ",
    of_adopted!("(SELECT value ->> 0 AS number, value ->> 1 AS id FROM json_each($4)) AS b")
);
const POSTGRES_ABANDON: &str = concat!(
    "UPDATE events SET abandoned_at = $1 WHERE subscription = $2 AND block > $3 AND tx_id = '' \
     AND abandoned_at IS NULL AND NOT ",
    of_adopted!(
        "(SELECT (value ->> 0)::bigint AS number, value ->> 1 AS id FROM json_array_elements($4::json)) AS b"
    )
);
const SQLITE_ADOPT: &str = concat!(
    "UPDATE events SET abandoned_at = NULL WHERE subscription = $1 AND abandoned_at IS NOT NULL AND ",
    of_adopted!("(SELECT value ->> 0 AS number, value ->> 1 AS id FROM json_each($2)) AS b")
);
const POSTGRES_ADOPT: &str = concat!(
    "UPDATE events SET abandoned_at = NULL WHERE subscription = $1 AND abandoned_at IS NOT NULL AND ",
    of_adopted!(
        "(SELECT (value ->> 0)::bigint AS number, value ->> 1 AS id FROM json_array_elements($2::json)) AS b"
    )
);

/// An event of a block that was recorded before.
#[derive(Serialize)]
pub(super) struct KnownOfBlock<'a> {
    name: &'a str,
    block: i64,
    event: &'a str,
}

/// Those of the numbered events that were not inserted, and are of a block as
/// Sawtooth's are.
pub(super) fn known_of_blocks<'a>(
    numbered: &Numbered<'a>,
    inserted: &HashSet<Inserted>,
) -> Vec<KnownOfBlock<'a>> {
    let known = numbered.events.iter().filter(|event| {
        let key = Inserted {
            subscription: event.subscription.to_owned(),
            arrival: event.place.arrival,
        };
        event.heard.block.is_some() && event.heard.tx_id.is_empty() && !inserted.contains(&key)
    });
    known
        .map(|event| KnownOfBlock {
            name: event.subscription,
            block: event.place.block,
            event: &event.heard.event_id,
        })
        .collect()
}

/// Takes the mark from events that are recorded again.
pub(super) fn adopt_known_statement(sqlite: bool) -> String {
    let source = source(
        sqlite,
        &[("name", "text"), ("block", "bigint"), ("event", "text")],
    );
    format!(
        "UPDATE events SET abandoned_at = NULL FROM {source} \
         WHERE events.subscription = u.name AND events.block = u.block AND events.tx_id = '' \
         AND events.event_id = u.event AND events.abandoned_at IS NOT NULL \
         RETURNING subscription, arrival"
    )
}

/// Ends a halt on an event that nobody gets any more: nothing waits for it.
const LIFT_HALT: &str = "UPDATE subscriptions SET halted_arrival = NULL, halted_at = NULL, \
    halt_error = NULL WHERE name = $1 AND EXISTS (SELECT 1 FROM events \
    WHERE events.subscription = subscriptions.name \
    AND events.arrival = subscriptions.halted_arrival AND events.abandoned_at IS NOT NULL)";

/// Before that: if it comes back, it gets all its tries.
const TRY_ANEW: &str = "UPDATE events SET attempts_before = attempts \
    WHERE abandoned_at IS NOT NULL AND subscription = $1 \
    AND arrival = (SELECT halted_arrival FROM subscriptions WHERE name = events.subscription)";

/// What was decided without knowing of the fork is not written any more, as with
/// operators' orders: a halt on an abandoned event would stay.
pub(super) const VOID_MARKS: &str = "UPDATE subscriptions SET orders = orders + 1 WHERE name = $1";

impl Store {
    /// Marks the events of all blocks behind the fork's ancestor but of those that
    /// are adopted, whose mark is taken away. A halt on one that is marked ends.
    /// Answers how many were marked. May be done again.
    ///
    /// Adopted blocks that the fork does not name lose their mark when their events
    /// are recorded again.
    ///
    /// # Errors
    /// The database is out of reach; nothing is marked.
    pub async fn abandon_events(
        &self,
        subscription: &SubscriptionName,
        fork: &Fork,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let adopted: Vec<(i64, &str)> = fork.adopted.iter().map(|b| (b.number, &*b.id)).collect();
        let adopted = as_json(&adopted)?;
        // Where nothing known is left of the ledger, all of it is behind.
        let ancestor = fork.ancestor.as_ref().map_or(-1, |block| block.number);
        let subscription = subscription.clone();
        let store = self.clone();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            let (abandon, adopt) = if lent.is_sqlite() {
                (SQLITE_ABANDON, SQLITE_ADOPT)
            } else {
                (POSTGRES_ABANDON, POSTGRES_ADOPT)
            };
            let names = as_json(&[subscription.as_str()])?;
            let lock = lock_statement(lent.is_sqlite());
            in_transaction!(lent, conn => {
                let row: Option<SubscriptionRow> = diesel::sql_query(lock)
                    .bind::<Text, _>(&names)
                    .get_result(conn)
                    .await
                    .optional()?;
                if row.is_none() {
                    // It has no events.
                    return Ok(0);
                }
                let lifted = diesel::sql_query(adopt)
                    .bind::<Text, _>(subscription.as_str())
                    .bind::<Text, _>(&adopted)
                    .execute(conn)
                    .await?;
                let marked = diesel::sql_query(abandon)
                    .bind::<SqlTimestamp, _>(now)
                    .bind::<Text, _>(subscription.as_str())
                    .bind::<BigInt, _>(ancestor)
                    .bind::<Text, _>(&adopted)
                    .execute(conn)
                    .await?;
                if lifted + marked > 0 {
                    for statement in [TRY_ANEW, LIFT_HALT, VOID_MARKS] {
                        diesel::sql_query(statement)
                            .bind::<Text, _>(subscription.as_str())
                            .execute(conn)
                            .await?;
                    }
                }
                Ok::<_, StoreError>(marked)
            })
        })
        .await
    }
}
