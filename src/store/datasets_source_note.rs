//! What a table of ours and its dataset hold when the table begins to be
//! published, noted in steps: the dataset's keys first, since what the table lost
//! while nobody looked is still there, then the table's. How far it got is kept
//! beside the dataset. Triggers are there by then, so that a row that changes
//! meanwhile is noted by them; one that is noted twice does no harm.

use super::changes::as_json;
use super::connection::{Connection, IN_ORDER, in_transaction, on_backend};
use super::datasets_publish::lock_datasets;
use super::datasets_read::Key;
use super::datasets_source_triggers::{in_order, key_of, tables};
use super::{Store, StoreError};
use crate::config::DatasetSource;
use crate::flows::replicas::DatasetName;
use diesel::QueryableByName;
use diesel::sql_types::{Nullable, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where noting begins, as it is kept.
pub(super) const START: &str = r#"{"entries":""}"#;

/// How far noting got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    /// The dataset's keys up to this one are noted.
    Entries(String),
    /// Those and the table's rows up to this one are, by the JSON list of the
    /// columns in whose order it is gone through; empty: none of them.
    Rows(String),
}

/// The table that a dataset is published from.
#[derive(QueryableByName)]
pub(super) struct Claim {
    #[diesel(sql_type = Nullable<Text>)]
    source: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    source_cursor: Option<String>,
}

impl Claim {
    /// Whether it is this one.
    pub(super) fn is_of(&self, source: DatasetSource) -> bool {
        self.source.as_deref() == Some(source.as_str())
    }
}

#[derive(QueryableByName)]
struct RowKey {
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Text)]
    place: String,
}

impl Store {
    /// Notes one step of what a table and its dataset held when the table began
    /// to be published: up to `limit` keys, of which [`Self::publish_source`] then
    /// sees to what they are. Answers whether nothing is left to be noted, also
    /// where the table is not published as this dataset.
    ///
    /// # Errors
    /// The database is out of reach, or a row is locked; nothing changed.
    pub async fn note_source(
        &self,
        dataset: &DatasetName,
        source: DatasetSource,
        limit: usize,
    ) -> Result<bool, StoreError> {
        let (store, dataset) = (self.clone(), dataset.clone());
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                note(&mut Connection::from(conn), &dataset, source, limit.max(1)).await
            })
        })
        .await
    }
}

/// The table that a generation, which the caller has locked, is published from.
pub(super) async fn claim(conn: &mut Connection<'_>, id: i64) -> Result<Claim, StoreError> {
    let sql = format!("SELECT source, source_cursor FROM dataset_generations WHERE id = {id}");
    Ok(on_backend!(conn, c => diesel::sql_query(&sql).get_result(c).await)?)
}

/// Keeps how far noting got; `None`: to its end.
pub(super) async fn keep_place(
    conn: &mut Connection<'_>,
    id: i64,
    place: Option<&str>,
) -> Result<(), StoreError> {
    let sql = format!("UPDATE dataset_generations SET source_cursor = $1 WHERE id = {id}");
    on_backend!(conn, c => {
        diesel::sql_query(&sql).bind::<Nullable<Text>, _>(place).execute(c).await
    })?;
    Ok(())
}

async fn note(
    conn: &mut Connection<'_>,
    dataset: &DatasetName,
    source: DatasetSource,
    limit: usize,
) -> Result<bool, StoreError> {
    let names = BTreeSet::from([dataset.as_str()]);
    let generations = lock_datasets(conn, &names).await?;
    let Some(generation) = generations.into_iter().next() else {
        return Ok(true);
    };
    let claim = claim(conn, generation.id).await?;
    let (true, Some(cursor)) = (claim.is_of(source), &claim.source_cursor) else {
        return Ok(true);
    };
    if let Connection::Postgres(conn) = conn {
        conn.batch_execute(IN_ORDER).await?;
    }
    // What cannot be read is begun anew.
    let place = serde_json::from_str(cursor).unwrap_or_else(|_| Place::Entries(String::new()));
    let (noted, next) = match place {
        Place::Entries(after) => entries(conn, generation.id, &after, limit).await?,
        Place::Rows(after) => rows(conn, source, &after, limit).await?,
    };
    insert(conn, source, &noted).await?;
    let next = next.map(|place| as_json(&place)).transpose()?;
    keep_place(conn, generation.id, next.as_deref()).await?;
    Ok(next.is_none())
}

/// Keys of the dataset, as they are noted, and where to go on.
async fn entries(
    conn: &mut Connection<'_>,
    generation: i64,
    after: &str,
    limit: usize,
) -> Result<(Vec<String>, Option<Place>), StoreError> {
    let sql = format!(
        "SELECT key FROM dataset_entries WHERE generation = {generation} AND key > $1 \
         ORDER BY key LIMIT {limit}"
    );
    let keys: Vec<Key> = on_backend!(conn, c => {
        diesel::sql_query(&sql).bind::<Text, _>(after).load(c).await
    })?;
    let is_whole = keys.len() < limit;
    let next = match keys.last() {
        Some(Key { key }) if !is_whole => Place::Entries(key.clone()),
        _ => Place::Rows(String::new()),
    };
    let noted: Result<Vec<String>, StoreError> = keys.iter().map(|of| as_json(&of.key)).collect();
    Ok((noted?, Some(next)))
}

/// Keys of the table's rows, as they are noted, and where to go on.
async fn rows(
    conn: &mut Connection<'_>,
    source: DatasetSource,
    after: &str,
    limit: usize,
) -> Result<(Vec<String>, Option<Place>), StoreError> {
    let sqlite = conn.is_sqlite();
    let ((table, columns), _) = tables(source);
    let order = in_order(source);
    let of_table: Vec<String> = order.iter().map(|column| format!("t.{column}")).collect();
    let of_table = of_table.join(", ");
    let from = |(place, column): (usize, &&str)| match (sqlite, *column) {
        (true, _) => format!("$1 ->> {place}"),
        (false, "block") => format!("($1::json ->> {place})::bigint"),
        (false, _) => format!("$1::json ->> {place}"),
    };
    let from: Vec<String> = order.iter().enumerate().map(from).collect();
    let behind = if after.is_empty() {
        // The parameter is there all the same.
        "$1 = ''".to_owned()
    } else {
        format!("({of_table}) > ({})", from.join(", "))
    };
    let sql = format!(
        "SELECT {} AS key, {} AS place FROM {table} t WHERE {behind} \
         ORDER BY {of_table} LIMIT {limit}",
        key_of("t", columns, sqlite),
        key_of("t", order, sqlite),
    );
    let mut rows: Vec<RowKey> = on_backend!(conn, c => {
        diesel::sql_query(&sql).bind::<Text, _>(after).load(c).await
    })?;
    let is_whole = rows.len() < limit;
    let last = rows.last_mut().map(|row| std::mem::take(&mut row.place));
    let next = last.filter(|_| !is_whole).map(Place::Rows);
    Ok((rows.into_iter().map(|row| row.key).collect(), next))
}

async fn insert(
    conn: &mut Connection<'_>,
    source: DatasetSource,
    noted: &[String],
) -> Result<(), StoreError> {
    if noted.is_empty() {
        return Ok(());
    }
    let rows = if conn.is_sqlite() {
        "value FROM json_each($1)"
    } else {
        "json_array_elements_text($1::json)"
    };
    let sql = format!(
        "INSERT INTO dataset_source_changes (source, key) SELECT '{}', {rows}",
        source.as_str()
    );
    let noted = as_json(&noted)?;
    on_backend!(conn, c => diesel::sql_query(&sql).bind::<Text, _>(&noted).execute(c).await)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noting_begins_with_the_first_key_of_the_dataset() {
        let start: Place = serde_json::from_str(START).unwrap();
        assert_eq!(start, Place::Entries(String::new()));
    }
}
