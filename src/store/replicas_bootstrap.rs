//! How a bootstrap is written: ranges, chunks, and the switch at its end.

use super::StoreError;
use super::changes::as_json;
use super::connection::{Connection, on_backend};
use super::datasets_entries::{Growth, insert, modify};
use super::datasets_rows::{Generation, count, lock_live, number, size};
use super::events_rows::source;
use super::replicas_apply::{FENCED, NotApplied, Outcome, backwards};
use super::replicas_rows::{RangeRow, ReplicaRow, generation, ranges};
use crate::flows::replicas::{
    Applied, BootstrapReason, ContentKind, Diff, Entry, Epoch, Head, Modification, RangeStart,
    compact,
};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use std::collections::BTreeSet;

/// How a bootstrap begins.
pub(super) struct Beginning<'a> {
    pub(super) reason: BootstrapReason,
    pub(super) why: &'a str,
    pub(super) epoch: &'a Epoch,
    pub(super) head: Head,
    pub(super) len: u64,
    pub(super) ranges: &'a [RangeStart],
    pub(super) outrun: bool,
}

/// A chunk of a range.
pub(super) struct Piece<'a> {
    pub(super) range: usize,
    pub(super) cursor: &'a str,
    pub(super) new_cursor: &'a str,
    pub(super) done: bool,
    pub(super) diff: &'a Diff,
    pub(super) entries: &'a [Entry],
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

fn refused(why: impl Into<String>) -> Outcome {
    Ok(Err(NotApplied::Refused(why.into())))
}

/// The bootstrap under way, locked, if it is this generation.
async fn under_way(
    conn: &mut Connection<'_>,
    row: &ReplicaRow,
    id: i64,
) -> Result<Option<Generation>, StoreError> {
    if row.generation != Some(id) {
        return Ok(None);
    }
    generation(conn, id, true).await
}

pub(super) async fn begin(
    conn: &mut Connection<'_>,
    row: &mut ReplicaRow,
    beginning: Beginning<'_>,
    now: Timestamp,
) -> Outcome {
    if let Some(why) = unfit(beginning.ranges) {
        return refused(why);
    }
    if let Some(old) = row.generation {
        if let Some(begun) = generation(conn, old, true).await? {
            let ranges = ranges(conn, old).await?;
            if is_same(&begun, &ranges, &beginning) {
                // The answer to the first one was lost.
                return Ok(Ok(Applied {
                    generation: Some(old),
                    ..Applied::default()
                }));
            }
        }
        give_up(conn, old, now).await?;
    }
    let id = insert_generation(conn, &row.name, &beginning, now).await?;
    insert_ranges(conn, id, &beginning).await?;
    let names = BTreeSet::from([row.name.as_str()]);
    let copies = lock_live(conn, ContentKind::Replica, &names).await?;
    if !copies.is_empty() {
        row.stale_at.get_or_insert(now);
        row.stale_reason = Some(beginning.why.to_owned());
    }
    let mut bootstraps = row.bootstraps();
    let word = beginning.reason.as_str();
    *bootstraps.entry(word.to_owned()).or_default() += 1;
    row.bootstraps = as_json(&bootstraps)?;
    if beginning.outrun {
        row.outrun += 1;
    }
    row.generation = Some(id);
    row.bootstrap_reason = Some(word.to_owned());
    row.bootstrap_at = Some(now);
    row.bootstrap_len = Some(number(beginning.len));
    (row.upstream_head, row.heard_at) = (Some(beginning.head), Some(now));
    Ok(Ok(Applied {
        generation: Some(id),
        ..Applied::default()
    }))
}

/// Why these are no ranges: they have to follow one another from the first key
/// to the last.
fn unfit(ranges: &[RangeStart]) -> Option<String> {
    let mut after = Some("");
    for range in ranges {
        let follows = after == Some(range.after.as_str());
        let until = range.until.as_deref();
        let rises = until.is_none_or(|until| until > range.after.as_str());
        let is_text = until.is_none_or(|until| !until.contains('\0'));
        if !follows || !rises || !is_text {
            return Some(format!(
                "the range of keys behind {:?} up to {until:?} does not follow the one before it",
                range.after
            ));
        }
        after = until;
    }
    after.map(|after| format!("no range holds the keys behind {after:?}"))
}

/// Whether a bootstrap is this one, and nothing of it was fetched yet.
fn is_same(begun: &Generation, ranges: &[RangeRow], beginning: &Beginning<'_>) -> bool {
    let is_start = |(row, start): (&RangeRow, &RangeStart)| {
        row.behind == start.after
            && row.up_to == start.until
            && row.cursor == start.after
            && row.head == beginning.head
            && !row.done
    };
    begun.epoch == beginning.epoch.as_str()
        && ranges.len() == beginning.ranges.len()
        && ranges.iter().zip(beginning.ranges).all(is_start)
}

/// A generation's rows are to be removed.
pub(super) async fn give_up(
    conn: &mut Connection<'_>,
    id: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let drop = format!(
        "UPDATE dataset_generations SET live = FALSE, dropped_at = $1, source = NULL, \
         source_cursor = NULL, source_at = NULL WHERE id = {id} AND dropped_at IS NULL"
    );
    let ranges = format!("DELETE FROM replica_ranges WHERE generation = {id}");
    on_backend!(conn, c => {
        diesel::sql_query(&drop).bind::<SqlTimestamp, _>(now).execute(c).await?;
        diesel::sql_query(&ranges).execute(c).await
    })?;
    Ok(())
}

async fn insert_generation(
    conn: &mut Connection<'_>,
    name: &str,
    beginning: &Beginning<'_>,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let head = beginning.head;
    let sql = format!(
        "INSERT INTO dataset_generations (name, epoch, created_at, changed_at, kind, live, head, \
         oldest_head) VALUES ($1, $2, $3, $4, 'replica', FALSE, {head}, {head}) RETURNING id"
    );
    let rows: Vec<Id> = on_backend!(conn, c => {
        diesel::sql_query(&sql)
            .bind::<Text, _>(name)
            .bind::<Text, _>(beginning.epoch.as_str())
            .bind::<SqlTimestamp, _>(now)
            .bind::<SqlTimestamp, _>(now)
            .load(c)
            .await
    })?;
    let row = rows.into_iter().next();
    row.map(|row| row.id)
        .ok_or_else(|| StoreError::Internal("a new generation got no number".to_owned()))
}

async fn insert_ranges(
    conn: &mut Connection<'_>,
    id: i64,
    beginning: &Beginning<'_>,
) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row<'a> {
        place: i64,
        behind: &'a str,
        up_to: Option<&'a str>,
    }
    let mut rows = Vec::with_capacity(beginning.ranges.len());
    for (place, range) in beginning.ranges.iter().enumerate() {
        rows.push(Row {
            place: size(place),
            behind: &range.after,
            up_to: range.until.as_deref(),
        });
    }
    let source = source(
        conn.is_sqlite(),
        &[("place", "bigint"), ("behind", "text"), ("up_to", "text")],
    );
    let sql = format!(
        "INSERT INTO replica_ranges (generation, \"range\", \"after\", \"until\", cursor, head) \
         SELECT {id}, u.place, u.behind, u.up_to, u.behind, {} FROM {source}",
        beginning.head
    );
    let rows = as_json(&rows)?;
    on_backend!(conn, c => diesel::sql_query(&sql).bind::<Text, _>(&rows).execute(c).await)?;
    Ok(())
}

pub(super) async fn chunk(
    conn: &mut Connection<'_>,
    row: &ReplicaRow,
    id: i64,
    piece: Piece<'_>,
    now: Timestamp,
) -> Outcome {
    if piece.diff.to < piece.diff.from {
        return Ok(Err(backwards(piece.diff)));
    }
    let Some(mut generation) = under_way(conn, row, id).await? else {
        return FENCED;
    };
    let all = ranges(conn, id).await?;
    let Some(mut range) = all.into_iter().nth(piece.range) else {
        return FENCED;
    };
    if range.done || range.cursor != piece.cursor || range.head != piece.diff.from {
        return FENCED;
    }
    if let Some(why) = misplaced(&range, &piece) {
        return refused(why);
    }
    let is_passed = |one: &Modification| range.has(one.key()) && one.key() <= piece.cursor;
    let mut diff = piece.diff.modifications.clone();
    diff.retain(is_passed);
    let diff = compact(diff);
    let mut growth = Growth::default();
    for one in modify(conn, id, &diff.iter().collect::<Vec<_>>()).await? {
        growth += one;
    }
    growth += insert(conn, id, piece.entries).await?;
    piece.new_cursor.clone_into(&mut range.cursor);
    range.head = piece.diff.to;
    range.len += growth.len;
    range.done = piece.done;
    range.save(conn, id).await?;
    generation.grow(growth);
    generation.changed_at = now;
    generation.save(conn).await?;
    Ok(Ok(Applied {
        generation: Some(id),
        rows: growth.rows,
        len: count(range.len),
        ..Applied::default()
    }))
}

/// Why a chunk's entries are not those behind the cursor: the upstream's answer
/// is wrong.
fn misplaced(range: &RangeRow, piece: &Piece<'_>) -> Option<String> {
    let mut last = piece.cursor;
    for entry in piece.entries {
        if entry.key.as_str() <= last || !range.has(&entry.key) || entry.key.contains('\0') {
            return Some(format!(
                "the chunk has key {:?} behind {last:?}; keys must rise, within the range behind \
                 {:?} up to {:?}",
                entry.key, range.behind, range.up_to
            ));
        }
        last = &entry.key;
    }
    if piece.new_cursor < last || piece.new_cursor.contains('\0') {
        return Some(format!(
            "the new cursor {:?} is before the chunk's last key {last:?}",
            piece.new_cursor
        ));
    }
    let is_beyond = |until: &String| piece.new_cursor > until.as_str();
    range
        .up_to
        .as_ref()
        .filter(|until| is_beyond(until))
        .map(|until| {
            format!(
                "the new cursor {:?} is behind the end of its range, {until:?}",
                piece.new_cursor
            )
        })
}

pub(super) async fn forward(
    conn: &mut Connection<'_>,
    row: &ReplicaRow,
    id: i64,
    places: &[usize],
    diff: &Diff,
    now: Timestamp,
) -> Outcome {
    if diff.to < diff.from {
        return Ok(Err(backwards(diff)));
    }
    let Some(mut generation) = under_way(conn, row, id).await? else {
        return FENCED;
    };
    let mut brought = Vec::new();
    let all = ranges(conn, id).await?;
    for place in places {
        match all.get(*place) {
            // What it has is behind the diff's begin: something would be left out.
            Some(range) if range.done && range.head >= diff.from => {
                if range.head < diff.to {
                    brought.push(range.clone());
                }
            }
            _ => return FENCED,
        }
    }
    let modifications = compact(diff.modifications.clone());
    let mut written = Vec::new();
    let mut of_range = Vec::new();
    for modification in &modifications {
        if let Some(place) = brought
            .iter()
            .position(|range| range.has(modification.key()))
        {
            written.push(modification);
            of_range.push(place);
        }
    }
    let mut growth = Growth::default();
    let growths = modify(conn, id, &written).await?;
    for (one, place) in growths.into_iter().zip(of_range) {
        growth += one;
        if let Some(range) = brought.get_mut(place) {
            range.len += one.len;
        }
    }
    for range in &mut brought {
        range.head = diff.to;
        range.save(conn, id).await?;
    }
    generation.grow(growth);
    generation.changed_at = now;
    generation.save(conn).await?;
    let len_of = |place: &usize| {
        let range = all.get(*place)?;
        let brought = brought.iter().find(|one| one.place == range.place);
        Some(count(brought.unwrap_or(range).len))
    };
    Ok(Ok(Applied {
        generation: Some(id),
        rows: growth.rows,
        len: count(generation.len),
        lens: places.iter().filter_map(len_of).collect(),
    }))
}

/// The bootstrap takes the place of the copy, which readers had until now. Its
/// history begins here: what led to its head was never whole.
pub(super) async fn go_live(
    conn: &mut Connection<'_>,
    row: &mut ReplicaRow,
    id: i64,
    head: Head,
    now: Timestamp,
) -> Outcome {
    let Some(mut generation) = under_way(conn, row, id).await? else {
        return FENCED;
    };
    let all = ranges(conn, id).await?;
    if !all.iter().all(|range| range.done && range.head == head) {
        return FENCED;
    }
    let names = BTreeSet::from([row.name.as_str()]);
    for copy in lock_live(conn, ContentKind::Replica, &names).await? {
        give_up(conn, copy.id, now).await?;
    }
    generation.head = head;
    generation.oldest_head = head;
    generation.changed_at = now;
    generation.save(conn).await?;
    let live = format!("UPDATE dataset_generations SET live = TRUE WHERE id = {id}");
    let ranges = format!("DELETE FROM replica_ranges WHERE generation = {id}");
    on_backend!(conn, c => {
        diesel::sql_query(&live).execute(c).await?;
        diesel::sql_query(&ranges).execute(c).await
    })?;
    row.stale_at = None;
    row.stale_reason = None;
    row.outrun = 0;
    row.audit_cursor = None;
    row.no_bootstrap();
    Ok(Ok(Applied {
        generation: Some(id),
        len: count(generation.len),
        ..Applied::default()
    }))
}
