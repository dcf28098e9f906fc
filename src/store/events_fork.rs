//! Events of blocks that a ledger abandoned: they are marked, and stay.

use super::changes::as_json;
use super::connection::in_transaction;
use super::{Store, StoreError};
use crate::flows::events::{BlockRef, Fork, SubscriptionName};
use crate::time::Timestamp;
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

impl Store {
    /// Marks the events of blocks that a ledger abandoned, and takes the mark
    /// from those of blocks in their place. Answers how many were marked. May be
    /// done again.
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
            in_transaction!(lent, conn => {
                diesel::sql_query(adopt)
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
                Ok::<_, StoreError>(marked)
            })
        })
        .await
    }
}
