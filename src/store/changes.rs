//! How results of flows are written: groups of changes, each under the lease
//! its work was done with, in one transaction.

use super::connection::in_transaction;
use super::leases::{HeldLease, LeaseStake, held_leases};
use super::sites_schedule::Seq;
use super::{Store, StoreError};
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use std::collections::HashSet;
use std::sync::Arc;

/// A row's change, as a flow writes it in bulk.
pub trait Change: Clone + Send + Sync + 'static {
    /// The statements that write these changes, in order, each with its one
    /// parameter, a JSON text. The first one tells how many rows were changed.
    ///
    /// # Errors
    /// The changes cannot be worded: a defect.
    fn statements(changes: &[&Self], sqlite: bool) -> Result<Vec<Statement>, StoreError>;

    /// Whether the first statement answers the rows that it changed, as `seq`.
    const TELLS_ROWS: bool = false;

    /// A last statement, made from the rows that the first one told of.
    ///
    /// # Errors
    /// It cannot be worded: a defect.
    fn last_statement(
        _changes: &[&Self],
        _rows: &HashSet<i64>,
        _sqlite: bool,
    ) -> Result<Option<Statement>, StoreError> {
        Ok(None)
    }
}

/// A bulk statement and its parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// SQL with one parameter, `$1`.
    pub sql: String,
    /// The parameter: a JSON array.
    pub rows: String,
}

/// Changes of work that was done under one lease.
#[derive(Clone, Debug)]
pub struct ChangeGroup<C> {
    /// The lease.
    pub stake: LeaseStake,
    /// The changes; shared, since a group may have to be written again.
    pub changes: Arc<[C]>,
}

/// What a transaction of changes did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Positions of the groups that were dropped, their lease being lost.
    pub fenced: Vec<usize>,
    /// Rows changed.
    pub changed: usize,
}

impl Store {
    /// Writes changes in one transaction, each group under the lease its work
    /// was done with: a group whose lease was lost meanwhile is dropped.
    ///
    /// # Errors
    /// The database is out of reach, or refuses a row; nothing is written.
    pub async fn apply_changes<C: Change>(
        &self,
        holder: &str,
        groups: Vec<ChangeGroup<C>>,
    ) -> Result<Applied, StoreError> {
        let store = self.clone();
        let holder = holder.to_owned();
        Self::detached(async move { store.apply(&holder, &groups).await }).await
    }

    async fn apply<C: Change>(
        &self,
        holder: &str,
        groups: &[ChangeGroup<C>],
    ) -> Result<Applied, StoreError> {
        let mut lent = self.writer().await?;
        let sqlite = lent.is_sqlite();
        in_transaction!(lent, conn => {
            let held: Vec<HeldLease> = diesel::sql_query(held_leases(sqlite))
                .bind::<Text, _>(holder)
                .load(conn)
                .await?;
            let is_held = |stake: &LeaseStake| {
                held.iter().any(|lease| lease.name == stake.name && lease.epoch == stake.epoch)
            };
            let mut fenced = Vec::new();
            let mut live = Vec::new();
            for (index, group) in groups.iter().enumerate() {
                if is_held(&group.stake) {
                    live.extend(group.changes.iter());
                } else {
                    fenced.push(index);
                }
            }
            let mut changed = None;
            if !live.is_empty() {
                let mut rows = HashSet::new();
                for Statement { sql, rows: parameter } in C::statements(&live, sqlite)? {
                    let query = diesel::sql_query(sql).bind::<Text, _>(parameter);
                    let count = if C::TELLS_ROWS && changed.is_none() {
                        let told: Vec<Seq> = query.load(conn).await?;
                        rows.extend(told.iter().map(|row| row.seq));
                        told.len()
                    } else {
                        query.execute(conn).await?
                    };
                    changed = changed.or(Some(count));
                }
                if let Some(Statement { sql, rows }) = C::last_statement(&live, &rows, sqlite)? {
                    diesel::sql_query(sql).bind::<Text, _>(rows).execute(conn).await?;
                }
            }
            Ok::<_, StoreError>(Applied { fenced, changed: changed.unwrap_or_default() })
        })
    }
}

/// Words rows as the parameter of a bulk statement.
pub(super) fn as_json<T: serde::Serialize>(rows: &T) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(|error| StoreError::Internal(error.to_string()))
}

/// Times as SQL text, inside the JSON of changes.
pub(super) fn sql_time<S: serde::Serializer>(
    time: &Option<crate::time::Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(&time.to_sql_text()),
        None => serializer.serialize_none(),
    }
}
