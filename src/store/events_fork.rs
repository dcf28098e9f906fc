//! Events of blocks that a ledger abandoned: they are marked, and stay.

use super::changes::as_json;
use super::connection::in_transaction;
use super::events_rows::{SubscriptionRow, lock_statement};
use super::{Store, StoreError};
use crate::flows::events::{BlockRef, Fork, SubscriptionName};
use crate::time::Timestamp;
use diesel::OptionalExtension;
use diesel::sql_types::{Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;

/// An event of a block: its `event_id` begins with the block's id.
macro_rules! of_blocks {
    ($set:literal, $blocks:literal) => {
        concat!(
            "UPDATE events SET abandoned_at = ",
            $set,
            " AND EXISTS (SELECT 1 FROM ",
            $blocks,
            " WHERE b.number = events.block \
              AND substr(events.event_id, 1, length(b.id) + 1) = b.id || ':')"
        )
    };
}

const SQLITE_ABANDON: &str = of_blocks!(
    "$1 WHERE subscription = $2 AND abandoned_at IS NULL",
    "(SELECT value ->> 0 AS number, value ->> 1 AS id FROM json_each($3)) AS b"
);
const POSTGRES_ABANDON: &str = of_blocks!(
    "$1 WHERE subscription = $2 AND abandoned_at IS NULL",
    "(SELECT (value ->> 0)::bigint AS number, value ->> 1 AS id FROM json_array_elements($3::json)) AS b"
);
const SQLITE_ADOPT: &str = of_blocks!(
    "NULL WHERE subscription = $1 AND abandoned_at IS NOT NULL",
    "(SELECT value ->> 0 AS number, value ->> 1 AS id FROM json_each($2)) AS b"
);
const POSTGRES_ADOPT: &str = of_blocks!(
    "NULL WHERE subscription = $1 AND abandoned_at IS NOT NULL",
    "(SELECT (value ->> 0)::bigint AS number, value ->> 1 AS id FROM json_array_elements($2::json)) AS b"
);

/// Ends a halt on an event that nobody gets any more: nothing waits for it.
const LIFT_HALT: &str = "UPDATE subscriptions SET halted_arrival = NULL, halted_at = NULL, \
    halt_error = NULL WHERE name = $1 AND EXISTS (SELECT 1 FROM events \
    WHERE events.subscription = subscriptions.name \
    AND events.arrival = subscriptions.halted_arrival AND events.abandoned_at IS NOT NULL)";

/// What was decided without knowing of the fork is not written any more, as with
/// operators' orders: a halt on an abandoned event would stay.
const VOID_MARKS: &str = "UPDATE subscriptions SET orders = orders + 1 WHERE name = $1";

impl Store {
    /// Marks the events of blocks that a ledger abandoned, and takes the mark
    /// from those of blocks in their place. A halt on one that is marked ends.
    /// Answers how many were marked. May be done again.
    ///
    /// # Errors
    /// The database is out of reach; nothing is marked.
    pub async fn abandon_events(
        &self,
        subscription: &SubscriptionName,
        fork: &Fork,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let words = |blocks: &[BlockRef]| {
            let pairs: Vec<(i64, &str)> = blocks.iter().map(|b| (b.number, &*b.id)).collect();
            as_json(&pairs)
        };
        let (abandoned, adopted) = (words(&fork.abandoned)?, words(&fork.adopted)?);
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
                let adopted = diesel::sql_query(adopt)
                    .bind::<Text, _>(subscription.as_str())
                    .bind::<Text, _>(&adopted)
                    .execute(conn)
                    .await?;
                let marked = diesel::sql_query(abandon)
                    .bind::<SqlTimestamp, _>(now)
                    .bind::<Text, _>(subscription.as_str())
                    .bind::<Text, _>(&abandoned)
                    .execute(conn)
                    .await?;
                if adopted + marked > 0 {
                    for statement in [LIFT_HALT, VOID_MARKS] {
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
