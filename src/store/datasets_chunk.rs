//! Chunks of entries and the diffs that go with them.

use super::StoreError;
use super::changes::as_json;
use super::connection::{Connection, on_backend};
use super::datasets_history::diff_page;
use super::datasets_read::Bounds;
use super::datasets_rows::{Generation, count, live, texts};
use crate::flows::replicas::{
    Chunk, Content, Entry, Epoch, FetchError, Fetched, Fetching, Head, Modification, Next, Since,
    compact,
};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::RunQueryDsl;
use std::collections::HashMap;

/// Keys of which entries are read.
#[derive(Clone, Copy)]
pub(super) struct Slice<'a> {
    /// Behind this one.
    pub(super) after: &'a str,
    /// Up to this one.
    pub(super) until: Option<&'a str>,
    /// So many are passed over.
    pub(super) skip: u64,
    /// So many at most.
    pub(super) limit: u64,
    /// Values of more bytes are left out.
    pub(super) inline: u64,
}

/// An entry as a slice has it.
#[derive(QueryableByName)]
pub(super) struct Row {
    #[diesel(sql_type = Text)]
    pub(super) key: String,
    /// Bytes of the value.
    #[diesel(sql_type = BigInt)]
    pub(super) size: i64,
    /// The value, unless it is larger than asked for.
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) value: Option<String>,
}

#[derive(QueryableByName)]
struct Pair {
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Text)]
    value: String,
}

/// Reads entries in the order of keys: one range of the index.
pub(super) async fn slice(
    conn: &mut Connection<'_>,
    generation: i64,
    slice: Slice<'_>,
) -> Result<Vec<Row>, StoreError> {
    let Slice {
        after,
        until,
        skip,
        limit,
        inline,
    } = slice;
    let (after, until) = (without_nul(after), until.map(without_nul));
    let bound = if until.is_some() { "AND key <= $2" } else { "" };
    let offset = if skip > 0 {
        format!("OFFSET {skip}")
    } else {
        String::new()
    };
    let sql = format!(
        "SELECT key, CAST(octet_length(value) AS BIGINT) AS size, \
         CASE WHEN octet_length(value) <= {inline} THEN value END AS value \
         FROM dataset_entries WHERE generation = {generation} AND key > $1 {bound} \
         ORDER BY key LIMIT {limit} {offset}"
    );
    Ok(on_backend!(conn, c => {
        match until {
            Some(until) => {
                let query = diesel::sql_query(&sql).bind::<Text, _>(after).bind::<Text, _>(until);
                query.load(c).await
            }
            None => diesel::sql_query(&sql).bind::<Text, _>(after).load(c).await,
        }
    })?)
}

/// What a key is compared with instead of a text that PostgreSQL does not take:
/// no key has a NUL, so that none is between the two.
fn without_nul(key: &str) -> &str {
    key.split('\0').next().unwrap_or_default()
}

/// The values of these keys.
pub(super) async fn values(
    conn: &mut Connection<'_>,
    generation: i64,
    keys: &[&str],
) -> Result<HashMap<String, String>, StoreError> {
    let sql = format!(
        "SELECT key, value FROM dataset_entries WHERE generation = {generation} AND key {}",
        texts(conn.is_sqlite())
    );
    let keys = as_json(&keys)?;
    let rows: Vec<Pair> = on_backend!(conn, c => {
        diesel::sql_query(&sql).bind::<Text, _>(&keys).load(c).await
    })?;
    Ok(rows.into_iter().map(|row| (row.key, row.value)).collect())
}

/// Whether history leads from what a follower has to the present head.
pub(super) fn is_stale(generation: &Generation, epoch: Option<&Epoch>, head: Head) -> bool {
    epoch.is_some_and(|epoch| epoch.as_str() != generation.epoch)
        || head < generation.oldest_head
        || head > generation.head
}

/// A chunk and a diff.
pub(super) async fn fetch(
    conn: &mut Connection<'_>,
    content: &Content,
    fetching: &Fetching,
    bounds: Bounds,
) -> Result<Fetched, FetchError> {
    let generation = live(conn, content).await?.ok_or(FetchError::Missing)?;
    let mut fetched = Fetched {
        epoch: generation.epoch(),
        head: generation.head,
        latest: generation.head,
        entries: Vec::new(),
        diff: Vec::new(),
        len: count(generation.len),
        next: None,
    };
    if let Some(since) = &fetching.since {
        let stale = || FetchError::Stale(generation.info());
        if is_stale(&generation, since.epoch.as_ref(), since.head) {
            return Err(stale());
        }
        let most = (bounds.count, bounds.bytes);
        let page = diff_page(conn, &generation, since.head, most).await?;
        let page = page.ok_or_else(stale)?;
        let mut diff = page.modifications;
        diff.retain(|modification| is_asked(modification, since, &fetching.chunk));
        fetched.diff = compact(diff);
        fetched.head = page.head;
    }
    if fetched.head < fetched.latest {
        // Entries would be at another head than the diff: first the diff.
        fetched.next = Some(match &fetching.chunk {
            Chunk::Index { begin, .. } => Next::Index(*begin),
            Chunk::Key { after, .. } => Next::Key(after.clone()),
        });
        return Ok(fetched);
    }
    match &fetching.chunk {
        Chunk::Key {
            after,
            until,
            limit,
        } => {
            let slice = Slice {
                after,
                until: until.as_deref(),
                skip: 0,
                limit: *limit,
                inline: 0,
            };
            let (entries, more) = entries(conn, generation.id, slice, bounds).await?;
            let last = entries.last().map_or(after, |entry| &entry.key);
            fetched.next = more.then(|| Next::Key(last.clone()));
            fetched.entries = entries;
        }
        Chunk::Index { begin, end } => {
            let slice = Slice {
                after: "",
                until: None,
                skip: *begin,
                limit: end.saturating_sub(*begin),
                inline: 0,
            };
            let (entries, _) = entries(conn, generation.id, slice, bounds).await?;
            let taken = u64::try_from(entries.len()).unwrap_or(u64::MAX);
            let next = begin.saturating_add(taken);
            fetched.next = (next < fetched.len).then_some(Next::Index(next));
            fetched.entries = entries;
        }
    }
    Ok(fetched)
}

/// Whether a diff is to have this modification.
fn is_asked(modification: &Modification, since: &Since, chunk: &Chunk) -> bool {
    let Some(from) = &since.from else { return true };
    let key = modification.key();
    let is_passed = match chunk {
        Chunk::Key { after, .. } => key <= after.as_str(),
        Chunk::Index { .. } => true,
    };
    key > from.as_str() && is_passed
}

/// Entries of a slice as far as one answer goes, and whether there are more.
async fn entries(
    conn: &mut Connection<'_>,
    generation: i64,
    asked: Slice<'_>,
    bounds: Bounds,
) -> Result<(Vec<Entry>, bool), StoreError> {
    let limit = asked.limit.min(bounds.count);
    if limit == 0 {
        return Ok((Vec::new(), true));
    }
    // With each value at most four times as large as fits on average, all of
    // them are bounded too; the larger ones follow one by one, as far as they fit.
    let inline = (4 * bounds.bytes / limit).max(512);
    let mut rows = slice(
        conn,
        generation,
        Slice {
            limit: limit + 1,
            inline,
            ..asked
        },
    )
    .await?;
    let fits = fitting(&rows, limit, bounds.bytes);
    let more = rows.len() > fits;
    rows.truncate(fits);
    let large: Vec<&str> = rows
        .iter()
        .filter(|row| row.value.is_none())
        .map(|row| row.key.as_str())
        .collect();
    let mut missing = if large.is_empty() {
        HashMap::new()
    } else {
        values(conn, generation, &large).await?
    };
    let entry = |Row { key, value, .. }| {
        let value = value.or_else(|| missing.remove(&key)).unwrap_or_default();
        Entry { key, value }
    };
    Ok((rows.into_iter().map(entry).collect(), more))
}

/// How many of these rows one answer holds: at least one.
fn fitting(rows: &[Row], limit: u64, most_bytes: u64) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut bytes = 0_u64;
    let mut fits = 0;
    for row in rows.iter().take(limit) {
        let key = u64::try_from(row.key.len()).unwrap_or(u64::MAX);
        bytes = bytes.saturating_add(count(row.size)).saturating_add(key);
        if fits > 0 && bytes > most_bytes {
            break;
        }
        fits += 1;
    }
    fits
}
