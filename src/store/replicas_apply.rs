//! What Followers write: changes of replicas, each whole or not at all, under
//! the lease of its replica.
//!
//! A change tells the cursor and the head that it supposes. Where they are
//! others it was written before, or its Follower knows old rows: it is refused,
//! and nothing is ever written twice.

use super::connection::{Connection, in_transaction, on_backend};
use super::datasets_entries::{Growth, modify};
use super::datasets_history::{ChangeRow, record, trim};
use super::datasets_rows::{Generation, count, lock_live, number};
use super::leases::{HeldLease, LeaseStake, held_leases};
use super::replicas_bootstrap::{Beginning, Piece, begin, chunk, forward, go_live};
use super::replicas_rows::{ReplicaRow, lock_replicas};
use super::{Store, StoreError};
use crate::config::HistorySettings;
use crate::flows::replicas::{
    Applied, ContentKind, DatasetName, Diff, Head, Modification, ReplicaChange, compact,
};
use crate::time::Timestamp;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A change of a replica, under its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaGroup {
    /// The replica.
    pub replica: DatasetName,
    /// The lease under which it is followed.
    pub stake: LeaseStake,
    /// What changes.
    pub change: ReplicaChange,
    /// Bounds of the history that it keeps for its own followers.
    pub history: HistorySettings,
}

/// Why a change of a replica was not written, while others were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotApplied {
    /// The lease was lost, or the rows are not as the change supposes: read how
    /// the replica stands anew.
    #[error("the replica does not stand as it was thought to")]
    Fenced,
    /// It makes no sense, whatever the rows are: what came from the upstream is
    /// wrong.
    #[error("{0}")]
    Refused(String),
}

/// What became of a change; the outer error is the database's.
pub(super) type Outcome = Result<Result<Applied, NotApplied>, StoreError>;

pub(super) const FENCED: Outcome = Ok(Err(NotApplied::Fenced));

impl Store {
    /// Writes changes of replicas in one transaction, in the order given, each
    /// only if `holder` has its lease at that epoch and the rows are as it
    /// supposes. Answers each of them.
    ///
    /// # Errors
    /// The database is out of reach, a row is locked, or it refuses one; nothing
    /// is written.
    pub async fn apply_replicas(
        &self,
        holder: &str,
        groups: impl Into<Arc<[ReplicaGroup]>>,
    ) -> Result<Vec<Result<Applied, NotApplied>>, StoreError> {
        let store = self.clone();
        let (holder, groups) = (holder.to_owned(), groups.into());
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                apply(&mut Connection::from(conn), &holder, &groups).await
            })
        })
        .await
    }
}

async fn apply(
    conn: &mut Connection<'_>,
    holder: &str,
    groups: &[ReplicaGroup],
) -> Result<Vec<Result<Applied, NotApplied>>, StoreError> {
    let leases = held_leases(conn.is_sqlite());
    let held: Vec<HeldLease> = on_backend!(conn, c => {
        diesel::sql_query(leases).bind::<Text, _>(holder).load(c).await
    })?;
    let is_held = |stake: &LeaseStake| {
        held.iter()
            .any(|lease| lease.name == stake.name && lease.epoch == stake.epoch)
    };
    let names: BTreeSet<&str> = groups
        .iter()
        .filter(|group| is_held(&group.stake))
        .map(|group| group.replica.as_str())
        .collect();
    let rows = lock_replicas(conn, &names).await?;
    let mut rows: BTreeMap<String, ReplicaRow> = rows
        .into_iter()
        .map(|row| (row.name.clone(), row))
        .collect();
    let now = Timestamp::now();
    let mut outcomes = Vec::with_capacity(groups.len());
    for group in groups {
        let row = rows.get_mut(group.replica.as_str());
        let outcome = match row.filter(|_| is_held(&group.stake)) {
            Some(row) => {
                let before = row.clone();
                let outcome = change(conn, row, group, now).await?;
                if *row != before {
                    row.save(conn).await?;
                }
                outcome
            }
            None => Err(NotApplied::Fenced),
        };
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

async fn change(
    conn: &mut Connection<'_>,
    row: &mut ReplicaRow,
    group: &ReplicaGroup,
    now: Timestamp,
) -> Outcome {
    match &group.change {
        ReplicaChange::Begin {
            reason,
            why,
            epoch,
            head,
            len,
            ranges,
            outrun,
        } => {
            let beginning = Beginning {
                reason: *reason,
                why,
                epoch,
                head: *head,
                len: *len,
                ranges,
                outrun: *outrun,
            };
            begin(conn, row, beginning, now).await
        }
        ReplicaChange::Chunk {
            generation,
            range,
            cursor,
            new_cursor,
            done,
            diff,
            entries,
        } => {
            let piece = Piece {
                range: *range,
                cursor,
                new_cursor,
                done: *done,
                diff,
                entries,
            };
            chunk(conn, row, *generation, piece, now).await
        }
        ReplicaChange::Forward {
            generation,
            ranges,
            diff,
        } => forward(conn, row, *generation, ranges, diff, now).await,
        ReplicaChange::Live { generation, head } => {
            go_live(conn, row, *generation, *head, now).await
        }
        ReplicaChange::Follow { generation, diff } => {
            follow(conn, row, *generation, diff, &group.history, now).await
        }
        ReplicaChange::Repair {
            generation,
            head,
            modifications,
        } => repair(conn, row, (*generation, *head), modifications, now).await,
        ReplicaChange::Heard {
            upstream_head,
            at,
            level,
        } => {
            row.upstream_head = Some(*upstream_head);
            row.heard_at = Some(*at);
            if *level {
                row.level_at = Some(*at);
            }
            Ok(Ok(Applied::default()))
        }
        ReplicaChange::Audited {
            cursor,
            differences,
        } => audited(conn, row, cursor.as_ref(), *differences, now).await,
    }
}

/// Takes note of how far an audit is. At the end of one that found differences
/// the copy is counted: who wrote to its rows kept no account of it.
async fn audited(
    conn: &mut Connection<'_>,
    row: &mut ReplicaRow,
    cursor: Option<&String>,
    differences: u64,
    now: Timestamp,
) -> Outcome {
    row.audit_cursor = cursor.cloned();
    if cursor.is_some() {
        return Ok(Ok(Applied::default()));
    }
    row.audited_at = Some(now);
    row.audit_differences = Some(number(differences));
    let mut applied = Applied::default();
    if differences > 0 {
        let names = BTreeSet::from([row.name.as_str()]);
        if let Some(mut copy) = lock_live(conn, ContentKind::Replica, &names).await?.pop() {
            copy.recount(conn).await?;
            copy.save(conn).await?;
            applied.generation = Some(copy.id);
            applied.len = count(copy.len);
        }
    }
    Ok(Ok(applied))
}

/// The copy, locked, if it is this generation at this head.
async fn copy_at(
    conn: &mut Connection<'_>,
    row: &ReplicaRow,
    (generation, head): (i64, Head),
) -> Result<Option<Generation>, StoreError> {
    let names = BTreeSet::from([row.name.as_str()]);
    let copies = lock_live(conn, ContentKind::Replica, &names).await?;
    let copy = copies.into_iter().next();
    Ok(copy.filter(|copy| copy.id == generation && copy.head == head))
}

/// Writes modifications of a copy, of each key the last.
async fn write(
    conn: &mut Connection<'_>,
    copy: &mut Generation,
    modifications: &[Modification],
) -> Result<Growth, StoreError> {
    let mut all = Growth::default();
    let written: Vec<&Modification> = modifications.iter().collect();
    for growth in modify(conn, copy.id, &written).await? {
        all += growth;
    }
    copy.grow(all);
    Ok(all)
}

async fn follow(
    conn: &mut Connection<'_>,
    row: &ReplicaRow,
    generation: i64,
    diff: &Diff,
    history: &HistorySettings,
    now: Timestamp,
) -> Outcome {
    if diff.to < diff.from {
        return Ok(Err(backwards(diff)));
    }
    let Some(mut copy) = copy_at(conn, row, (generation, diff.from)).await? else {
        return FENCED;
    };
    let mut rows = 0;
    if diff.to > diff.from {
        let modifications = compact(diff.modifications.clone());
        rows = write(conn, &mut copy, &modifications).await?.rows;
        let change = ChangeRow::new(copy.id, (diff.from, diff.to), &modifications, now)?;
        copy.remember(&change);
        record(conn, &[change]).await?;
        copy.head = diff.to;
        let before = copy.too_old(diff.from, history, now);
        trim(conn, &mut copy, Some(history), before, 1).await?;
        copy.changed_at = now;
        copy.save(conn).await?;
    }
    Ok(Ok(Applied {
        generation: Some(generation),
        rows,
        len: count(copy.len),
        ..Applied::default()
    }))
}

async fn repair(
    conn: &mut Connection<'_>,
    row: &mut ReplicaRow,
    (generation, head): (i64, Head),
    modifications: &[Modification],
    now: Timestamp,
) -> Outcome {
    let Some(mut copy) = copy_at(conn, row, (generation, head)).await? else {
        return FENCED;
    };
    let modifications = compact(modifications.to_vec());
    let rows = write(conn, &mut copy, &modifications).await?.rows;
    if rows > 0 {
        copy.changed_at = now;
        copy.save(conn).await?;
        row.repairs += 1;
    }
    Ok(Ok(Applied {
        generation: Some(generation),
        rows,
        len: count(copy.len),
        ..Applied::default()
    }))
}

/// Says that a diff leads backwards.
pub(super) fn backwards(diff: &Diff) -> NotApplied {
    NotApplied::Refused(format!(
        "a diff leads from head {} to {}; it must lead on",
        diff.from, diff.to
    ))
}
