//! What the queries of datasets and replicas share: generations as they are
//! read, locked and written.

use super::changes::as_json;
use super::connection::{Connection, on_backend};
use super::{Store, StoreError};
use crate::flows::replicas::{Content, ContentKind, DatasetName, Epoch, Head, Info};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use std::collections::BTreeSet;

/// What a [`Generation`] is read from.
pub(super) const GENERATION_COLUMNS: &str = "id, name, epoch, head, len, bytes, oldest_head, \
    history_changes, history_bytes, changed_at";

/// A row of `dataset_generations`.
#[derive(Clone, Debug, QueryableByName)]
pub(super) struct Generation {
    #[diesel(sql_type = BigInt)]
    pub(super) id: i64,
    #[diesel(sql_type = Text)]
    pub(super) name: String,
    #[diesel(sql_type = Text)]
    pub(super) epoch: String,
    #[diesel(sql_type = BigInt)]
    pub(super) head: Head,
    #[diesel(sql_type = BigInt)]
    pub(super) len: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) bytes: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) oldest_head: Head,
    #[diesel(sql_type = BigInt)]
    pub(super) history_changes: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) history_bytes: i64,
    #[diesel(sql_type = SqlTimestamp)]
    pub(super) changed_at: Timestamp,
}

impl Generation {
    pub(super) fn epoch(&self) -> Epoch {
        Epoch::told(&self.epoch)
    }

    pub(super) fn info(&self) -> Info {
        Info {
            epoch: self.epoch(),
            head: self.head,
            len: count(self.len),
            oldest_head: self.oldest_head,
            splits: None,
            state: None,
        }
    }

    /// Writes all that changes with a content.
    pub(super) async fn save(&self, conn: &mut Connection<'_>) -> Result<(), StoreError> {
        let Self {
            id,
            head,
            len,
            bytes,
            oldest_head,
            history_changes,
            history_bytes,
            ..
        } = self;
        let sql = format!(
            "UPDATE dataset_generations SET changed_at = $1, epoch = $2, head = {head}, len = {len}, \
             bytes = {bytes}, oldest_head = {oldest_head}, history_changes = {history_changes}, \
             history_bytes = {history_bytes} WHERE id = {id}"
        );
        on_backend!(conn, c => {
            diesel::sql_query(&sql)
                .bind::<SqlTimestamp, _>(self.changed_at)
                .bind::<Text, _>(&self.epoch)
                .execute(c)
                .await
        })?;
        Ok(())
    }
}

/// A number of the database's that is never negative.
pub(super) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The same, the other way.
pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A length in memory as a number of the database's.
pub(super) fn size(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The texts of a JSON array, `$1`, as what `IN` takes.
pub(super) const fn texts(sqlite: bool) -> &'static str {
    if sqlite {
        "IN (SELECT value FROM json_each($1))"
    } else {
        "= ANY(ARRAY(SELECT json_array_elements_text($1::json)))"
    }
}

/// The live generation of a content.
pub(super) async fn live(
    conn: &mut Connection<'_>,
    content: &Content,
) -> Result<Option<Generation>, StoreError> {
    let sql = format!(
        "SELECT {GENERATION_COLUMNS} FROM dataset_generations \
         WHERE kind = $1 AND name = $2 AND live"
    );
    let rows: Vec<Generation> = on_backend!(conn, c => {
        diesel::sql_query(&sql)
            .bind::<Text, _>(content.kind.as_str())
            .bind::<Text, _>(content.name.as_str())
            .load(c)
            .await
    })?;
    Ok(rows.into_iter().next())
}

/// The live generations of these names, by name, locked until the transaction's
/// end: in one order everywhere, so that two servers cannot deadlock.
pub(super) async fn lock_live(
    conn: &mut Connection<'_>,
    kind: ContentKind,
    names: &BTreeSet<&str>,
) -> Result<Vec<Generation>, StoreError> {
    let sqlite = conn.is_sqlite();
    let sql = format!(
        "SELECT {GENERATION_COLUMNS} FROM dataset_generations WHERE name {} AND kind = '{}' AND live \
         ORDER BY name{}",
        texts(sqlite),
        kind.as_str(),
        if sqlite { "" } else { " FOR UPDATE" },
    );
    let names = as_json(names)?;
    Ok(on_backend!(conn, c => {
        diesel::sql_query(&sql).bind::<Text, _>(&names).load(c).await
    })?)
}

/// Datasets of these names that are not there begin to be: empty, at head 0.
pub(super) async fn create_datasets(
    conn: &mut Connection<'_>,
    names: &BTreeSet<&str>,
) -> Result<(), StoreError> {
    let now = Timestamp::now();
    for name in names {
        let epoch = Epoch::random();
        on_backend!(conn, c => {
            diesel::sql_query(
                "INSERT INTO dataset_generations (name, epoch, created_at, changed_at, kind, live) \
                 VALUES ($1, $2, $3, $4, 'dataset', TRUE) ON CONFLICT (kind, name) WHERE live DO NOTHING",
            )
            .bind::<Text, _>(*name)
            .bind::<Text, _>(epoch.as_str())
            .bind::<SqlTimestamp, _>(now)
            .bind::<SqlTimestamp, _>(now)
            .execute(c)
            .await
        })?;
    }
    Ok(())
}

impl Store {
    /// Datasets of these names are there from now on: empty, at head 0, with an
    /// epoch of their own, where they were not.
    ///
    /// # Errors
    /// The database is out of reach; nothing changed.
    pub async fn ensure_datasets(&self, names: &[DatasetName]) -> Result<(), StoreError> {
        let store = self.clone();
        let names = names.to_vec();
        Self::detached(async move {
            let names: BTreeSet<&str> = names.iter().map(DatasetName::as_str).collect();
            let mut lent = store.writer().await?;
            super::connection::in_transaction!(lent, conn => {
                create_datasets(&mut Connection::from(conn), &names).await
            })
        })
        .await
    }
}
