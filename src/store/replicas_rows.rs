//! How replicas stand: their rows, read and locked.

use super::changes::{as_json, sql_time};
use super::connection::{Connection, in_snapshot, on_backend};
use super::datasets_rows::{GENERATION_COLUMNS, Generation, count, live, texts};
use super::events_rows::source;
use super::{Store, StoreError};
use crate::flows::replicas::{
    Bootstrap, BootstrapReason, Content, ContentKind, DatasetName, Head, RangeState, ReplicaRows,
    Standing,
};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What a [`ReplicaRow`] is read from.
pub(super) const REPLICA_COLUMNS: &str = "name, stale_at, stale_reason, upstream_head, heard_at, \
    level_at, bootstraps, repairs, outrun, audited_at, audit_differences, audit_cursor, \
    generation, bootstrap_reason, bootstrap_at, bootstrap_len";

/// A row of `replicas`.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName, Serialize)]
pub(super) struct ReplicaRow {
    #[diesel(sql_type = Text)]
    pub(super) name: String,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    #[serde(serialize_with = "sql_time")]
    pub(super) stale_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) stale_reason: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) upstream_head: Option<Head>,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    #[serde(serialize_with = "sql_time")]
    pub(super) heard_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    #[serde(serialize_with = "sql_time")]
    pub(super) level_at: Option<Timestamp>,
    #[diesel(sql_type = Text)]
    pub(super) bootstraps: String,
    #[diesel(sql_type = BigInt)]
    pub(super) repairs: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) outrun: i64,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    #[serde(serialize_with = "sql_time")]
    pub(super) audited_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) audit_differences: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) audit_cursor: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) generation: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) bootstrap_reason: Option<String>,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    #[serde(serialize_with = "sql_time")]
    pub(super) bootstrap_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) bootstrap_len: Option<i64>,
}

impl ReplicaRow {
    /// Bootstraps by the word of their reason.
    pub(super) fn bootstraps(&self) -> BTreeMap<String, u64> {
        serde_json::from_str(&self.bootstraps).unwrap_or_default()
    }

    /// The same, by reason.
    pub(super) fn bootstraps_by_reason(&self) -> BTreeMap<BootstrapReason, u64> {
        let known = |(word, count): (String, u64)| Some((BootstrapReason::parse(&word)?, count));
        self.bootstraps().into_iter().filter_map(known).collect()
    }

    /// There is no bootstrap under way any more.
    pub(super) fn no_bootstrap(&mut self) {
        self.generation = None;
        self.bootstrap_reason = None;
        self.bootstrap_at = None;
        self.bootstrap_len = None;
    }

    /// Writes the whole row.
    pub(super) async fn save(&self, conn: &mut Connection<'_>) -> Result<(), StoreError> {
        let columns = [
            ("name", "text"),
            ("stale_at", "timestamp(3)"),
            ("stale_reason", "text"),
            ("upstream_head", "bigint"),
            ("heard_at", "timestamp(3)"),
            ("level_at", "timestamp(3)"),
            ("bootstraps", "text"),
            ("repairs", "bigint"),
            ("outrun", "bigint"),
            ("audited_at", "timestamp(3)"),
            ("audit_differences", "bigint"),
            ("audit_cursor", "text"),
            ("generation", "bigint"),
            ("bootstrap_reason", "text"),
            ("bootstrap_at", "timestamp(3)"),
            ("bootstrap_len", "bigint"),
        ];
        let sets: Vec<String> = columns
            .iter()
            .skip(1)
            .map(|(name, _)| format!("{name} = u.{name}"))
            .collect();
        let sql = format!(
            "UPDATE replicas SET {} FROM {} WHERE replicas.name = u.name",
            sets.join(", "),
            source(conn.is_sqlite(), &columns)
        );
        let row = as_json(&[self])?;
        on_backend!(conn, c => diesel::sql_query(&sql).bind::<Text, _>(&row).execute(c).await)?;
        Ok(())
    }
}

/// A row of `replica_ranges`.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub(super) struct RangeRow {
    #[diesel(sql_type = BigInt)]
    pub(super) place: i64,
    #[diesel(sql_type = Text)]
    pub(super) behind: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) up_to: Option<String>,
    #[diesel(sql_type = Text)]
    pub(super) cursor: String,
    #[diesel(sql_type = BigInt)]
    pub(super) head: Head,
    #[diesel(sql_type = BigInt)]
    pub(super) len: i64,
    #[diesel(sql_type = Bool)]
    pub(super) done: bool,
}

impl RangeRow {
    /// Whether a key is of this range.
    pub(super) fn has(&self, key: &str) -> bool {
        key > self.behind.as_str() && self.up_to.as_deref().is_none_or(|end| key <= end)
    }

    /// Writes what of it changes.
    pub(super) async fn save(
        &self,
        conn: &mut Connection<'_>,
        generation: i64,
    ) -> Result<(), StoreError> {
        let Self {
            place,
            head,
            len,
            done,
            ..
        } = self;
        let sql = format!(
            "UPDATE replica_ranges SET cursor = $1, head = {head}, len = {len}, done = {done} \
             WHERE generation = {generation} AND \"range\" = {place}"
        );
        on_backend!(conn, c => {
            diesel::sql_query(&sql).bind::<Text, _>(&self.cursor).execute(c).await
        })?;
        Ok(())
    }

    fn state(self) -> RangeState {
        RangeState {
            after: self.behind,
            until: self.up_to,
            cursor: self.cursor,
            head: self.head,
            len: count(self.len),
            done: self.done,
        }
    }
}

/// The ranges of a bootstrap, in their order.
pub(super) async fn ranges(
    conn: &mut Connection<'_>,
    generation: i64,
) -> Result<Vec<RangeRow>, StoreError> {
    let sql = format!(
        "SELECT \"range\" AS place, \"after\" AS behind, \"until\" AS up_to, cursor, head, len, done \
         FROM replica_ranges WHERE generation = {generation} ORDER BY \"range\""
    );
    Ok(on_backend!(conn, c => diesel::sql_query(&sql).load(c).await)?)
}

/// A generation by its number; with `lock`, until the transaction's end.
pub(super) async fn generation(
    conn: &mut Connection<'_>,
    id: i64,
    lock: bool,
) -> Result<Option<Generation>, StoreError> {
    let sql = format!(
        "SELECT {GENERATION_COLUMNS} FROM dataset_generations WHERE id = {id} \
         AND dropped_at IS NULL{}",
        if lock && !conn.is_sqlite() {
            " FOR UPDATE"
        } else {
            ""
        }
    );
    let rows: Vec<Generation> = on_backend!(conn, c => diesel::sql_query(&sql).load(c).await)?;
    Ok(rows.into_iter().next())
}

/// The rows of these replicas, locked until the transaction's end, in one order
/// everywhere; inserted where they are missing.
pub(super) async fn lock_replicas(
    conn: &mut Connection<'_>,
    names: &BTreeSet<&str>,
) -> Result<Vec<ReplicaRow>, StoreError> {
    let sqlite = conn.is_sqlite();
    let asked = as_json(names)?;
    let lock = format!(
        "SELECT {REPLICA_COLUMNS} FROM replicas WHERE name {} ORDER BY name{}",
        texts(sqlite),
        if sqlite { "" } else { " FOR UPDATE" },
    );
    let rows: Vec<ReplicaRow> = on_backend!(conn, c => {
        diesel::sql_query(&lock).bind::<Text, _>(&asked).load(c).await
    })?;
    if rows.len() == names.len() {
        return Ok(rows);
    }
    let insert = if sqlite {
        "INSERT INTO replicas (name) SELECT value FROM json_each($1) \
         WHERE TRUE ORDER BY value ON CONFLICT (name) DO NOTHING"
    } else {
        "INSERT INTO replicas (name) SELECT json_array_elements_text($1::json) AS value \
         ORDER BY value ON CONFLICT (name) DO NOTHING"
    };
    on_backend!(conn, c => {
        diesel::sql_query(insert).bind::<Text, _>(&asked).execute(c).await?;
        diesel::sql_query(&lock).bind::<Text, _>(&asked).load(c).await
    })
    .map_err(StoreError::from)
}

impl ReplicaRows for Store {
    fn standing<'a>(
        &'a self,
        replica: &'a DatasetName,
    ) -> BoxFuture<'a, Result<Standing, StoreError>> {
        let store = self.clone();
        let content = Content {
            kind: ContentKind::Replica,
            name: replica.clone(),
        };
        Self::detached(async move {
            let mut lent = store.reader().await?;
            in_snapshot!(lent, conn => standing(conn, &content).await)
        })
    }
}

pub(super) async fn standing(
    conn: &mut Connection<'_>,
    content: &Content,
) -> Result<Standing, StoreError> {
    let sql = format!("SELECT {REPLICA_COLUMNS} FROM replicas WHERE name = $1");
    let rows: Vec<ReplicaRow> = on_backend!(conn, c => {
        diesel::sql_query(&sql).bind::<Text, _>(content.name.as_str()).load(c).await
    })?;
    let Some(row) = rows.into_iter().next() else {
        return Ok(Standing::default());
    };
    let copy = live(conn, content).await?;
    let begun = match row.generation {
        Some(id) => generation(conn, id, false).await?,
        None => None,
    };
    let bootstrap = match begun {
        Some(begun) => {
            let reason = row.bootstrap_reason.as_deref();
            let ranges = ranges(conn, begun.id).await?;
            Some(Bootstrap {
                generation: begun.id,
                epoch: begun.epoch(),
                reason: reason
                    .and_then(BootstrapReason::parse)
                    .unwrap_or(BootstrapReason::Initial),
                begun_at: row.bootstrap_at.unwrap_or_default(),
                len: count(row.bootstrap_len.unwrap_or(0)),
                ranges: ranges.into_iter().map(RangeRow::state).collect(),
            })
        }
        None => None,
    };
    let reason = row.stale_reason.clone().unwrap_or_default();
    Ok(Standing {
        live: copy.map(|copy| (copy.id, copy.epoch(), copy.head, count(copy.len))),
        bootstrap,
        stale: row.stale_at.map(|at| (at, reason)),
        level_at: row.level_at,
        bootstraps: row.bootstraps_by_reason(),
        outrun: u32::try_from(row.outrun).unwrap_or(u32::MAX),
        audited: row
            .audited_at
            .map(|at| (at, count(row.audit_differences.unwrap_or(0)))),
        audit_cursor: row.audit_cursor,
    })
}
