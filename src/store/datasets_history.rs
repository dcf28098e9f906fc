//! The history of contents: a row of modifications for each head that was
//! published or followed, bounded by count, bytes and age.

use super::StoreError;
use super::changes::{as_json, sql_time};
use super::connection::{Connection, on_backend};
use super::datasets_rows::{Generation, number, size};
use super::events_rows::source;
use crate::config::HistorySettings;
use crate::flows::replicas::{Head, Modification};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use serde::Serialize;

/// Rows that are pruned in one transaction, besides as many as it wrote.
const STEP: usize = 200;

/// Heads after which a history's age is looked at where it is written: fewer than
/// are pruned then, so that a fast dataset's does not grow without end. A slow
/// one's is looked at by the Housekeeper.
const AGE_LOOK: Head = 64;

/// A row of `dataset_changes`, as it is written.
#[derive(Serialize)]
pub(super) struct ChangeRow {
    pub(super) generation: i64,
    pub(super) from_head: Head,
    pub(super) head: Head,
    changes: i64,
    bytes: i64,
    #[serde(serialize_with = "sql_time")]
    changed_at: Option<Timestamp>,
    modifications: String,
}

impl ChangeRow {
    /// What brings a content from one head to another.
    pub(super) fn new(
        generation: i64,
        (from_head, head): (Head, Head),
        modifications: &[Modification],
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            generation,
            from_head,
            head,
            changes: size(modifications.len()),
            bytes: modifications.iter().map(|one| size(one.bytes())).sum(),
            changed_at: Some(now),
            modifications: as_json(&modifications)?,
        })
    }
}

impl Generation {
    /// Before when rows of its history are too old, where it is time to look: its
    /// head was `from` before what is being written.
    pub(super) fn too_old(
        &self,
        from: Head,
        bounds: &HistorySettings,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let is_time = from.div_euclid(AGE_LOOK) != self.head.div_euclid(AGE_LOOK);
        is_time.then(|| now.minus(bounds.age))
    }

    /// Counts a row of its history.
    pub(super) const fn remember(&mut self, row: &ChangeRow) {
        self.history_changes += row.changes;
        self.history_bytes += row.bytes;
    }
}

/// Writes rows of history.
pub(super) async fn record(
    conn: &mut Connection<'_>,
    rows: &[ChangeRow],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let source = source(
        conn.is_sqlite(),
        &[
            ("generation", "bigint"),
            ("head", "bigint"),
            ("from_head", "bigint"),
            ("changes", "bigint"),
            ("bytes", "bigint"),
            ("changed_at", "timestamp(3)"),
            ("modifications", "text"),
        ],
    );
    let sql = format!(
        "INSERT INTO dataset_changes (generation, head, from_head, changes, bytes, changed_at, \
         modifications) SELECT u.generation, u.head, u.from_head, u.changes, u.bytes, \
         u.changed_at, u.modifications FROM {source}"
    );
    let rows = as_json(&rows)?;
    on_backend!(conn, c => diesel::sql_query(&sql).bind::<Text, _>(&rows).execute(c).await)?;
    Ok(())
}

#[derive(QueryableByName)]
struct Past {
    #[diesel(sql_type = BigInt)]
    head: Head,
    #[diesel(sql_type = BigInt)]
    changes: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    #[diesel(sql_type = SqlTimestamp)]
    changed_at: Timestamp,
}

/// Deletes the oldest rows of a history that exceeds its bounds, or is from
/// before `before`; never the newest row. Some hundred and as many as were
/// written, at most; the rest goes with the next change. Answers how many.
///
/// The generation's row is the caller's to save.
pub(super) async fn trim(
    conn: &mut Connection<'_>,
    generation: &mut Generation,
    bounds: Option<&HistorySettings>,
    before: Option<Timestamp>,
    written: usize,
) -> Result<usize, StoreError> {
    let (changes, bytes) = bounds.map_or((i64::MAX, i64::MAX), |bounds| {
        (number(bounds.changes), number(bounds.bytes))
    });
    let exceeds = |generation: &Generation| {
        generation.history_changes > changes || generation.history_bytes > bytes
    };
    if before.is_none() && !exceeds(generation) {
        return Ok(0);
    }
    let (id, oldest, newest) = (generation.id, generation.oldest_head, generation.head);
    let sql = format!(
        "SELECT head, changes, bytes, changed_at FROM dataset_changes WHERE generation = {id} \
         AND head > {oldest} AND head < {newest} ORDER BY head LIMIT {}",
        written.saturating_add(STEP)
    );
    let rows: Vec<Past> = on_backend!(conn, c => diesel::sql_query(&sql).load(c).await)?;
    let mut gone = 0;
    for row in rows {
        if !exceeds(generation) && before.is_none_or(|before| row.changed_at >= before) {
            break;
        }
        generation.history_changes -= row.changes;
        generation.history_bytes -= row.bytes;
        generation.oldest_head = row.head;
        gone += 1;
    }
    if gone > 0 {
        let oldest = generation.oldest_head;
        let sql =
            format!("DELETE FROM dataset_changes WHERE generation = {id} AND head <= {oldest}");
        on_backend!(conn, c => diesel::sql_query(&sql).execute(c).await)?;
    }
    Ok(gone)
}

/// What of a history leads on from a head, as far as one answer goes.
pub(super) struct DiffPage {
    /// To this head.
    pub(super) head: Head,
    /// Oldest to newest; a key may be there several times.
    pub(super) modifications: Vec<Modification>,
}

#[derive(QueryableByName)]
struct Texts {
    #[diesel(sql_type = Text)]
    modifications: String,
}

/// Reads modifications from `since` on, whole rows, so many and so many bytes
/// at most, but always one row. `None`: history does not lead on from there.
pub(super) async fn diff_page(
    conn: &mut Connection<'_>,
    generation: &Generation,
    since: Head,
    (most, most_bytes): (u64, u64),
) -> Result<Option<DiffPage>, StoreError> {
    let mut page = DiffPage {
        head: since,
        modifications: Vec::new(),
    };
    if since >= generation.head {
        return Ok(Some(page));
    }
    // Sizes first: what does not fit is never in memory.
    let id = generation.id;
    let sql = format!(
        "SELECT head, changes, bytes, changed_at FROM dataset_changes WHERE generation = {id} \
         AND head > {since} ORDER BY head LIMIT {}",
        most.max(1)
    );
    let rows: Vec<Past> = on_backend!(conn, c => diesel::sql_query(&sql).load(c).await)?;
    let (mut changes, mut bytes) = (0, 0);
    for row in rows {
        changes += row.changes;
        bytes += row.bytes;
        if page.head > since && (changes > number(most) || bytes > number(most_bytes)) {
            break;
        }
        page.head = row.head;
    }
    if page.head == since {
        return Ok(None);
    }
    let sql = format!(
        "SELECT modifications FROM dataset_changes WHERE generation = {id} AND head > {since} \
         AND head <= {} ORDER BY head",
        page.head
    );
    let rows: Vec<Texts> = on_backend!(conn, c => diesel::sql_query(&sql).load(c).await)?;
    for Texts { modifications } in rows {
        let read: Vec<Modification> = serde_json::from_str(&modifications).map_err(|error| {
            StoreError::Refused(format!(
                "a row of dataset_changes (generation {id}, behind head {since}) is not readable: \
                 {error}; begin a new epoch of the dataset, or a new bootstrap of the replica"
            ))
        })?;
        page.modifications.extend(read);
    }
    Ok(Some(page))
}
