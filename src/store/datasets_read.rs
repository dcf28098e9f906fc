//! Datasets and replicas as they are served: each answer is of one snapshot.

use super::connection::{Connection, in_snapshot, on_backend};
use super::datasets_chunk::fetch;
use super::datasets_digests::{Slices, digests};
use super::datasets_rows::live;
use super::{Store, StoreError};
use crate::config::ReplicationSettings;
use crate::flows::replicas::{
    Content, Contents, Digests, Epoch, FetchError, Fetched, Fetching, Head, Info,
};
use diesel::QueryableByName;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use futures_util::future::BoxFuture;

/// Ranges that a content is cut into, at most, and digests of one answer.
pub(super) const MOST_SPLITS: usize = 1000;

/// What one answer holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Entries, and modifications of a diff (but always those of one head).
    pub(super) count: u64,
    /// Bytes of either (but always one entry, and one head's modifications).
    pub(super) bytes: u64,
}

/// The contents of a store, with the bounds of what one answer holds.
#[derive(Clone, Debug)]
pub struct StoredContents {
    store: Store,
    bounds: Bounds,
}

impl StoredContents {
    /// Serves a store's contents by chunks and diffs of `max_chunk` and
    /// `max_chunk_bytes` at most.
    pub fn new(store: Store, settings: &ReplicationSettings) -> Self {
        let as_count = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
        Self {
            store,
            bounds: Bounds {
                count: as_count(settings.max_chunk.max(1)),
                bytes: as_count(settings.max_chunk_bytes.max(1)),
            },
        }
    }

    /// Runs a read to its end, whoever goes away meanwhile.
    async fn reading<T: Send + 'static>(
        work: impl Future<Output = Result<T, FetchError>> + Send + 'static,
    ) -> Result<T, FetchError> {
        Store::detached(async { Ok(work.await) }).await?
    }
}

#[derive(QueryableByName)]
pub(super) struct Key {
    #[diesel(sql_type = Text)]
    pub(super) key: String,
}

#[derive(QueryableByName)]
struct Value {
    #[diesel(sql_type = Text)]
    value: String,
}

/// Keys that cut a generation into so many even ranges, in one pass.
async fn splits(
    conn: &mut Connection<'_>,
    (generation, len): (i64, u64),
    ranges: usize,
) -> Result<Vec<String>, StoreError> {
    let ranges = u64::try_from(ranges.clamp(1, MOST_SPLITS)).unwrap_or(1);
    let mut keys: Vec<String> = Vec::new();
    let mut passed = 0;
    for range in 1..ranges {
        // The last key of each range but the last.
        let place = (u128::from(len) * u128::from(range) / u128::from(ranges)) as u64;
        if place <= passed {
            continue;
        }
        let sql = format!(
            "SELECT key FROM dataset_entries WHERE generation = {generation} AND key > $1 \
             ORDER BY key LIMIT 1 OFFSET {}",
            place - passed - 1
        );
        let after = keys.last().map_or("", String::as_str);
        let rows: Vec<Key> = on_backend!(conn, c => {
            diesel::sql_query(&sql).bind::<Text, _>(after).load(c).await
        })?;
        let Some(Key { key }) = rows.into_iter().next() else {
            break;
        };
        keys.push(key);
        passed = place;
    }
    Ok(keys)
}

async fn info(
    conn: &mut Connection<'_>,
    content: &Content,
    ranges: Option<usize>,
) -> Result<Info, FetchError> {
    let generation = live(conn, content).await?.ok_or(FetchError::Missing)?;
    let mut info = generation.info();
    if let Some(ranges) = ranges {
        info.splits = Some(splits(conn, (generation.id, info.len), ranges).await?);
    }
    Ok(info)
}

async fn entry(
    conn: &mut Connection<'_>,
    content: &Content,
    key: &str,
) -> Result<Option<String>, FetchError> {
    let generation = live(conn, content).await?.ok_or(FetchError::Missing)?;
    if key.contains('\0') {
        // PostgreSQL has no such texts, and so no such key is anywhere.
        return Ok(None);
    }
    let sql = format!(
        "SELECT value FROM dataset_entries WHERE generation = {} AND key = $1",
        generation.id
    );
    let rows: Vec<Value> = on_backend!(conn, c => {
        diesel::sql_query(&sql).bind::<Text, _>(key).load(c).await
    })?;
    Ok(rows.into_iter().next().map(|row| row.value))
}

impl Contents for StoredContents {
    fn info<'a>(
        &'a self,
        content: &'a Content,
        splits: Option<usize>,
    ) -> BoxFuture<'a, Result<Info, FetchError>> {
        let (store, content) = (self.store.clone(), content.clone());
        Box::pin(Self::reading(async move {
            let mut lent = store.reader().await?;
            in_snapshot!(lent, conn => info(conn, &content, splits).await)
        }))
    }

    fn fetch<'a>(
        &'a self,
        content: &'a Content,
        fetching: &'a Fetching,
    ) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        let (store, bounds) = (self.store.clone(), self.bounds);
        let (content, fetching) = (content.clone(), fetching.clone());
        Box::pin(Self::reading(async move {
            let mut lent = store.reader().await?;
            in_snapshot!(lent, conn => fetch(conn, &content, &fetching, bounds).await)
        }))
    }

    fn digests<'a>(
        &'a self,
        content: &'a Content,
        after: &'a str,
        until: Option<&'a str>,
        limit: u64,
        splits: usize,
        since: Option<(&'a Epoch, Head)>,
    ) -> BoxFuture<'a, Result<Digests, FetchError>> {
        let (store, bounds, content) = (self.store.clone(), self.bounds, content.clone());
        let slices = Slices {
            after: after.to_owned(),
            until: until.map(str::to_owned),
            limit,
            ranges: splits.clamp(1, MOST_SPLITS),
        };
        let since = since.map(|(epoch, head)| (epoch.clone(), head));
        Box::pin(Self::reading(async move {
            let mut lent = store.reader().await?;
            in_snapshot!(lent, conn => {
                digests(conn, &content, &slices, since.as_ref(), bounds).await
            })
        }))
    }

    fn entry<'a>(
        &'a self,
        content: &'a Content,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, FetchError>> {
        let (store, content, key) = (self.store.clone(), content.clone(), key.to_owned());
        Box::pin(Self::reading(async move {
            let mut lent = store.reader().await?;
            in_snapshot!(lent, conn => entry(conn, &content, &key).await)
        }))
    }
}
