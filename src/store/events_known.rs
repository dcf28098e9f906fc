//! Transactions and keys that are known, and which events that makes relevant.

use super::changes::as_json;
use super::connection::{Connection, boxed, in_transaction, on_backend};
use super::events_rows::source;
use super::{Store, StoreError};
use crate::flows::events::{Judgement, Known, Place};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OwnedMutexGuard;

/// How long the lookups of one call may take in all, and one of them.
const LOOKUPS: Duration = Duration::from_secs(10);

/// PostgreSQL's own limits, so that a lookup cannot change or hold up anything.
const POSTGRES_LOOKUP: &str = "SET TRANSACTION READ ONLY; SET LOCAL statement_timeout TO '5s'";

/// Runs the body where nothing can be written: in a transaction on PostgreSQL,
/// with a connection for reading on SQLite.
macro_rules! reading {
    ($lent:expr, $conn:ident => $body:expr) => {
        match $lent.connection() {
            Connection::Sqlite($conn) => boxed(async { $body }).await,
            Connection::Postgres(outer) => {
                let work =
                    AsyncConnection::transaction(outer, async |$conn: &mut AsyncPgConnection| {
                        $body
                    });
                boxed(work).await
            }
        }
    };
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    at: i64,
}

#[derive(QueryableByName)]
struct IsKnown {
    #[diesel(sql_type = Bool)]
    known: bool,
}

#[derive(QueryableByName)]
struct Word {
    #[diesel(sql_type = Text)]
    value: String,
}

impl Store {
    /// Tells which events carry a known transaction id or key; answers in the
    /// order asked.
    ///
    /// `lookup` is the operator's own SELECT instead of the tables, run for each
    /// event with `$1` (transaction id) and `$2` (key, or empty); a row means
    /// known. It runs where nothing can be written, and for a bounded time: those
    /// that were not come to by then are left out of the answer. On SQLite, which
    /// cannot be told to stop, the next call waits until the query has ended.
    ///
    /// # Errors
    /// The database is out of reach, the lookup of the first event takes too long
    /// (both passing), or the database refuses the lookup.
    pub async fn judge(
        &self,
        lookup: Option<&str>,
        asked: Vec<(Place, String, Option<String>)>,
    ) -> Result<Vec<Judgement>, StoreError> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let Some(lookup) = lookup else {
            return self.judge_by_tables(asked).await;
        };
        let turn = self.lookup_turn().await?;
        let store = self.clone();
        let query = lookup_query(lookup);
        let judged: Arc<Mutex<Vec<Judgement>>> = Arc::default();
        let into = judged.clone();
        let judging = Self::detached(async move {
            let answer = store.judge_by_lookup(&query, asked, &into).await;
            // Kept until the query has really ended.
            drop(turn);
            answer
        });
        let ended = tokio::time::timeout(LOOKUPS + Duration::from_secs(5), judging).await;
        let answer = ended.unwrap_or_else(|_| Err(too_slow()));
        let judged = std::mem::take(&mut *judged.lock().unwrap_or_else(PoisonError::into_inner));
        match answer {
            Err(error) if judged.is_empty() || !error.is_transient() => Err(error),
            _ => Ok(judged),
        }
    }

    /// The turn of a call with a lookup, on SQLite: one at a time, or slow ones
    /// would take one reader after another.
    async fn lookup_turn(&self) -> Result<Option<OwnedMutexGuard<()>>, StoreError> {
        if !self.is_sqlite() {
            return Ok(None);
        }
        let turn = tokio::time::timeout(LOOKUPS, self.lookups.clone().lock_owned()).await;
        turn.map(Some).map_err(|_| {
            StoreError::Unreachable(
                "an earlier lookup of relevance.sql has not ended yet".to_owned(),
            )
        })
    }

    async fn judge_by_tables(
        &self,
        asked: Vec<(Place, String, Option<String>)>,
    ) -> Result<Vec<Judgement>, StoreError> {
        let rows: Vec<_> = asked
            .iter()
            .enumerate()
            .map(
                |(at, (_, tx_id, key))| serde_json::json!({ "at": at, "tx_id": tx_id, "key": key }),
            )
            .collect();
        let rows = as_json(&rows)?;
        let mut lent = self.reader().await?;
        let source = source(
            lent.is_sqlite(),
            &[("at", "bigint"), ("tx_id", "text"), ("key", "text")],
        );
        // Two joins and no OR: each goes by its table's key, however large it is.
        let query = format!(
            "WITH asked AS (SELECT u.at, u.tx_id, u.key FROM {source}) \
             SELECT asked.at FROM asked JOIN known_transactions k ON k.tx_id = asked.tx_id \
             UNION ALL SELECT asked.at FROM asked JOIN known_keys k ON k.key = asked.key"
        );
        let found: Vec<Found> = on_backend!(lent, conn => {
            diesel::sql_query(query).bind::<Text, _>(rows).load(conn).await
        })?;
        let found: HashSet<i64> = found.into_iter().map(|found| found.at).collect();
        let judge = |(at, (place, ..)): (usize, (Place, String, Option<String>))| Judgement {
            place,
            known: i64::try_from(at).is_ok_and(|at| found.contains(&at)),
        };
        Ok(asked.into_iter().enumerate().map(judge).collect())
    }

    async fn judge_by_lookup(
        &self,
        query: &str,
        asked: Vec<(Place, String, Option<String>)>,
        judged: &Mutex<Vec<Judgement>>,
    ) -> Result<(), StoreError> {
        let begun = Instant::now();
        let mut lent = self.reader().await?;
        // A reader of SQLite's can write nothing.
        let begin = (!lent.is_sqlite()).then_some(POSTGRES_LOOKUP);
        reading!(lent, conn => {
            if let Some(begin) = begin {
                conn.batch_execute(begin).await?;
            }
            for (place, tx_id, key) in &asked {
                if begun.elapsed() > LOOKUPS {
                    return Err(too_slow());
                }
                let row: IsKnown = diesel::sql_query(query)
                    .bind::<Text, _>(tx_id)
                    .bind::<Text, _>(key.as_deref().unwrap_or_default())
                    .get_result(conn)
                    .await?;
                let judgement = Judgement { place: *place, known: row.known };
                judged.lock().unwrap_or_else(PoisonError::into_inner).push(judgement);
            }
            Ok::<_, StoreError>(())
        })
    }

    /// Makes transactions and keys known. Answers those that were new.
    ///
    /// # Errors
    /// The database is out of reach, or refuses one (a transaction id has 1 to
    /// 256 characters, a key 1 to 1024); nothing is made known.
    pub async fn make_known(&self, known: &Known) -> Result<Known, StoreError> {
        let insert = |table: &str, column: &str, values: &str| {
            format!(
                "INSERT INTO {table} ({column}) {values} \
                 ON CONFLICT ({column}) DO NOTHING RETURNING {column} AS value"
            )
        };
        self.change_known(known, |sqlite| {
            let values = if sqlite {
                "SELECT value FROM json_each($1) WHERE TRUE ORDER BY value"
            } else {
                "SELECT json_array_elements_text($1::json) AS value ORDER BY value"
            };
            (
                insert("known_transactions", "tx_id", values),
                insert("known_keys", "key", values),
            )
        })
        .await
    }

    /// Forgets transactions and keys; what was judged by them stays. Answers
    /// those that were known.
    ///
    /// # Errors
    /// The database is out of reach; nothing is forgotten.
    pub async fn forget_known(&self, known: &Known) -> Result<Known, StoreError> {
        let delete = |table: &str, column: &str, values: &str| {
            format!("DELETE FROM {table} WHERE {column} IN ({values}) RETURNING {column} AS value")
        };
        self.change_known(known, |sqlite| {
            let values = if sqlite {
                "SELECT value FROM json_each($1)"
            } else {
                "SELECT json_array_elements_text($1::json)"
            };
            (
                delete("known_transactions", "tx_id", values),
                delete("known_keys", "key", values),
            )
        })
        .await
    }

    async fn change_known(
        &self,
        known: &Known,
        statements: impl Fn(bool) -> (String, String),
    ) -> Result<Known, StoreError> {
        // In one order everywhere, so that two callers cannot deadlock.
        let sorted = |values: &[String]| as_json(&values.iter().collect::<BTreeSet<_>>());
        let (tx_ids, keys) = (sorted(&known.tx_ids)?, sorted(&known.keys)?);
        let (of_transactions, of_keys) = statements(self.is_sqlite());
        let store = self.clone();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                let tx_ids: Vec<Word> =
                    diesel::sql_query(of_transactions).bind::<Text, _>(tx_ids).load(conn).await?;
                let keys: Vec<Word> =
                    diesel::sql_query(of_keys).bind::<Text, _>(keys).load(conn).await?;
                let values = |rows: Vec<Word>| rows.into_iter().map(|row| row.value).collect();
                Ok::<_, StoreError>(Known { tx_ids: values(tx_ids), keys: values(keys) })
            })
        })
        .await
    }
}

fn too_slow() -> StoreError {
    StoreError::Unreachable(format!(
        "the lookups of relevance.sql took longer than {} s",
        LOOKUPS.as_secs()
    ))
}

/// The operator's SELECT, asked whether it answers a row. The parameters are
/// named before it, so that they are numbered in their order on SQLite too, and
/// none is missing whichever the SELECT names.
fn lookup_query(lookup: &str) -> String {
    let lookup = lookup.trim().trim_end_matches(';');
    format!(
        "SELECT CAST($1 AS TEXT) IS NOT NULL AND CAST($2 AS TEXT) IS NOT NULL \
         AND EXISTS (\n{lookup}\n) AS known"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DatabaseLocation, DatabaseSettings, Synchronous};

    fn asked(arrivals: std::ops::Range<i64>) -> Vec<(Place, String, Option<String>)> {
        let asked = arrivals.map(|arrival| {
            let place = Place {
                arrival,
                ..Place::default()
            };
            (place, format!("t{arrival}"), None)
        });
        asked.collect()
    }

    #[tokio::test]
    async fn on_sqlite_a_lookup_waits_until_the_former_one_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings {
            location: DatabaseLocation::Sqlite(folder.path().join("lookups.db")),
            schema: "highwater".into(),
            connections: 2,
            synchronous: Synchronous::Normal,
        };
        let store = Store::open_as_is(&settings).unwrap();
        let lookup = Some("SELECT 1 WHERE $1 = 't1'");
        let former = store.lookup_turn().await.unwrap();
        tokio::time::pause();
        let error = store.judge(lookup, asked(0..3)).await.unwrap_err();
        assert!(error.to_string().contains("has not ended"), "{error}");
        tokio::time::resume();
        drop(former);
        let judged = store.judge(lookup, asked(0..3)).await.unwrap();
        let known: Vec<bool> = judged.iter().map(|judgement| judgement.known).collect();
        assert_eq!(known, [false, true, false]);
    }
}
