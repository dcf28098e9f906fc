//! Datasets and replicas that are to be there no more, by an operator's order.

use super::connection::{Connection, in_transaction, on_backend};
use super::datasets_rows::lock_live;
use super::replicas_bootstrap::give_up;
use super::replicas_rows::lock_replicas;
use super::{Store, StoreError};
use crate::flows::replicas::{Content, ContentKind};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;
use std::collections::BTreeSet;

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl Store {
    /// A dataset or a replica is there no more, nor how it stood; its rows go in
    /// steps ([`Self::prune_datasets`]). `false`: there is none. One that is
    /// configured somewhere begins anew, empty.
    ///
    /// # Errors
    /// The database is out of reach, or a row is locked; nothing changed.
    pub async fn drop_content(&self, content: &Content) -> Result<bool, StoreError> {
        let (store, content) = (self.clone(), content.clone());
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                let conn = &mut Connection::from(conn);
                match content.kind {
                    ContentKind::Dataset => drop_dataset(conn, content.name.as_str()).await,
                    ContentKind::Replica => drop_replica(conn, content.name.as_str()).await,
                }
            })
        })
        .await
    }
}

/// The live generation of a content is given up.
async fn drop_live(
    conn: &mut Connection<'_>,
    kind: ContentKind,
    name: &str,
) -> Result<bool, StoreError> {
    let now = Timestamp::now();
    let live = lock_live(conn, kind, &BTreeSet::from([name])).await?;
    for generation in &live {
        give_up(conn, generation.id, now).await?;
    }
    Ok(!live.is_empty())
}

async fn drop_dataset(conn: &mut Connection<'_>, name: &str) -> Result<bool, StoreError> {
    let was_there = drop_live(conn, ContentKind::Dataset, name).await?;
    // One of the same name must not answer what this one did.
    let requests = "DELETE FROM dataset_requests WHERE dataset = $1";
    on_backend!(conn, c => {
        diesel::sql_query(requests).bind::<Text, _>(name).execute(c).await
    })?;
    Ok(was_there)
}

async fn drop_replica(conn: &mut Connection<'_>, name: &str) -> Result<bool, StoreError> {
    let count = "SELECT CAST(count(*) AS BIGINT) AS count FROM replicas WHERE name = $1";
    let known: Count = on_backend!(conn, c => {
        diesel::sql_query(count).bind::<Text, _>(name).get_result(c).await
    })?;
    if known.count == 0 {
        return drop_live(conn, ContentKind::Replica, name).await;
    }
    for row in lock_replicas(conn, &BTreeSet::from([name])).await? {
        if let Some(id) = row.generation {
            give_up(conn, id, Timestamp::now()).await?;
        }
    }
    drop_live(conn, ContentKind::Replica, name).await?;
    let own = "DELETE FROM replicas WHERE name = $1";
    on_backend!(conn, c => diesel::sql_query(own).bind::<Text, _>(name).execute(c).await)?;
    Ok(true)
}
