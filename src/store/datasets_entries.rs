//! Entries, written in bulk, and what that does to length and bytes: exactly.

use super::StoreError;
use super::changes::as_json;
use super::connection::{Connection, boxed, on_backend};
use super::datasets_rows::{Generation, size, texts};
use crate::flows::replicas::{Entry, Modification};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Text};
use diesel_async::RunQueryDsl;
use std::collections::HashMap;
use std::ops::AddAssign;

/// By how much a content grows, and the rows that it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Growth {
    pub(super) len: i64,
    pub(super) bytes: i64,
    pub(super) rows: usize,
}

impl AddAssign for Growth {
    fn add_assign(&mut self, other: Self) {
        self.len += other.len;
        self.bytes += other.bytes;
        self.rows += other.rows;
    }
}

impl Generation {
    pub(super) const fn grow(&mut self, growth: Growth) {
        self.len += growth.len;
        self.bytes += growth.bytes;
    }

    /// Counts all entries, which reads each of them.
    pub(super) async fn recount(&mut self, conn: &mut Connection<'_>) -> Result<(), StoreError> {
        let sql = format!(
            "SELECT CAST(count(*) AS BIGINT) AS len, \
             CAST(coalesce(sum(octet_length(key) + octet_length(value)), 0) AS BIGINT) AS bytes \
             FROM dataset_entries WHERE generation = {}",
            self.id
        );
        let counted: Counted = on_backend!(conn, c => {
            diesel::sql_query(&sql).get_result(c).await
        })?;
        (self.len, self.bytes) = (counted.len, counted.bytes);
        Ok(())
    }
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    len: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

#[derive(QueryableByName)]
struct Sized {
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = BigInt)]
    size: i64,
}

/// Writes modifications, at most one a key. Answers what each of them did.
pub(super) async fn modify(
    conn: &mut Connection<'_>,
    generation: i64,
    modifications: &[&Modification],
) -> Result<Vec<Growth>, StoreError> {
    if modifications.is_empty() {
        return Ok(Vec::new());
    }
    let sizes = sizes(conn, generation, modifications).await?;
    let growth = |modification: &&Modification| {
        let old = sizes.get(modification.key()).copied();
        let key = size(modification.key().len());
        match (modification, old) {
            (Modification::Update(entry), None) => Growth {
                len: 1,
                bytes: size(entry.bytes()),
                rows: 1,
            },
            (Modification::Update(entry), Some(old)) => Growth {
                len: 0,
                bytes: size(entry.value.len()) - old,
                rows: 1,
            },
            (Modification::Delete(_), Some(old)) => Growth {
                len: -1,
                bytes: -(key + old),
                rows: 1,
            },
            (Modification::Delete(_), None) => Growth::default(),
        }
    };
    let growths = modifications.iter().map(growth).collect();
    let mut updates = Vec::new();
    let mut deletes = Vec::new();
    for modification in modifications {
        match modification {
            Modification::Update(entry) => updates.push(entry),
            Modification::Delete(key) if sizes.contains_key(key) => deletes.push(key.as_str()),
            Modification::Delete(_) => {}
        }
    }
    if !deletes.is_empty() {
        let sql = format!(
            "DELETE FROM dataset_entries WHERE generation = {generation} AND key {}",
            texts(conn.is_sqlite())
        );
        let deletes = as_json(&deletes)?;
        on_backend!(conn, c => {
            diesel::sql_query(&sql).bind::<Text, _>(&deletes).execute(c).await
        })?;
    }
    if !updates.is_empty() {
        updates.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let over = "ON CONFLICT (generation, key) DO UPDATE SET value = excluded.value";
        write(conn, generation, &updates, over).await?;
    }
    Ok(growths)
}

/// Writes entries whose keys the generation does not have, in the order of keys.
pub(super) async fn insert(
    conn: &mut Connection<'_>,
    generation: i64,
    entries: &[Entry],
) -> Result<Growth, StoreError> {
    if entries.is_empty() {
        return Ok(Growth::default());
    }
    let all: Vec<&Entry> = entries.iter().collect();
    // PostgreSQL takes half as long again where a row might be there already.
    write(conn, generation, &all, "").await?;
    Ok(Growth {
        len: size(entries.len()),
        bytes: entries.iter().map(|entry| size(entry.bytes())).sum(),
        rows: entries.len(),
    })
}

/// Writes entries; `conflict` says what is done where there is one of the key.
async fn write(
    conn: &mut Connection<'_>,
    generation: i64,
    entries: &[&Entry],
    conflict: &str,
) -> Result<(), StoreError> {
    let insert = "INSERT INTO dataset_entries (generation, key, value) SELECT";
    match conn {
        Connection::Sqlite(c) => {
            // Lists of two instead of objects: a third less to write and to read.
            let rows: Vec<(&str, &str)> = entries
                .iter()
                .map(|entry| (entry.key.as_str(), entry.value.as_str()))
                .collect();
            let rows = as_json(&rows)?;
            let sql = format!(
                "{insert} {generation}, value ->> 0, value ->> 1 FROM json_each($1) \
                 WHERE TRUE {conflict}"
            );
            let query = diesel::sql_query(&sql).bind::<Text, _>(&rows);
            boxed(query.execute(*c)).await?;
        }
        Connection::Postgres(c) => {
            // Arrays instead of JSON: a third less for the server to do.
            let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
            let values: Vec<&str> = entries.iter().map(|entry| entry.value.as_str()).collect();
            let sql = format!(
                "{insert} {generation}, u.key, u.value FROM unnest($1, $2) AS u (key, value) \
                 {conflict}"
            );
            let query = diesel::sql_query(&sql)
                .bind::<Array<Text>, _>(&keys)
                .bind::<Array<Text>, _>(&values);
            boxed(query.execute(*c)).await?;
        }
    }
    Ok(())
}

/// Bytes of the values that these keys have so far.
async fn sizes(
    conn: &mut Connection<'_>,
    generation: i64,
    modifications: &[&Modification],
) -> Result<HashMap<String, i64>, StoreError> {
    let keys: Vec<&str> = modifications.iter().map(|one| one.key()).collect();
    let keys = as_json(&keys)?;
    let sql = format!(
        "SELECT key, CAST(octet_length(value) AS BIGINT) AS size FROM dataset_entries \
         WHERE generation = {generation} AND key {}",
        texts(conn.is_sqlite())
    );
    let rows: Vec<Sized> = on_backend!(conn, c => {
        diesel::sql_query(&sql).bind::<Text, _>(&keys).load(c).await
    })?;
    Ok(rows.into_iter().map(|row| (row.key, row.size)).collect())
}
