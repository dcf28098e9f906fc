//! Our own tables, published: triggers put what changed into
//! `dataset_source_changes`, and what is there is published from time to time.

use super::changes::as_json;
use super::connection::{Connection, in_transaction, on_backend};
use super::datasets_publish::{Writing, lock_datasets};
use super::datasets_source_keys::SourceKey;
use super::datasets_source_note::{START, claim, keep_place};
use super::datasets_source_rows::{present, sizes};
use super::datasets_source_triggers::ANEW;
use super::datasets_source_watch::has_changes;
use super::{Store, StoreError};
use crate::config::{DatasetSource, HistorySettings, ReplicationSettings};
use crate::flows::replicas::{DatasetName, Modification};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Changes that are looked at for one head, at most.
const STEP: usize = 5000;

/// What one step published of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceStep {
    /// Rows; 0: the head did not move.
    pub published: usize,
    /// Whether there may be more to publish.
    pub more: bool,
}

#[derive(QueryableByName)]
struct Noted {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Text)]
    key: String,
}

/// What one head holds at most (but always one row).
#[derive(Clone, Copy)]
struct Most {
    count: usize,
    bytes: usize,
}

impl Store {
    /// Publishes what changed of a table, in one transaction: the oldest changes,
    /// as one head, as many as fit into one answer (`max_chunk`,
    /// `max_chunk_bytes`); a row that alone is larger goes alone. Nothing where the
    /// table is not published as this dataset.
    ///
    /// # Errors
    /// The database is out of reach, or a row is locked; nothing is published.
    pub async fn publish_source(
        &self,
        dataset: &DatasetName,
        source: DatasetSource,
        history: &HistorySettings,
        replication: &ReplicationSettings,
    ) -> Result<SourceStep, StoreError> {
        {
            // Most of the time there is nothing: then nothing is locked.
            let mut lent = self.reader().await?;
            if !has_changes(&mut lent.connection(), source).await? {
                return Ok(SourceStep::default());
            }
        }
        let (store, dataset, history) = (self.clone(), dataset.clone(), history.clone());
        let most = Most {
            count: replication.max_chunk.clamp(1, STEP),
            bytes: replication.max_chunk_bytes,
        };
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                publish(&mut Connection::from(conn), &dataset, source, &history, most).await
            })
        })
        .await
    }
}

/// The oldest changes.
async fn oldest(
    conn: &mut Connection<'_>,
    source: DatasetSource,
    limit: usize,
) -> Result<Vec<Noted>, StoreError> {
    let locked = if conn.is_sqlite() {
        ""
    } else {
        " FOR UPDATE SKIP LOCKED"
    };
    let sql = format!(
        "SELECT seq, key FROM dataset_source_changes WHERE source = '{}' ORDER BY seq \
         LIMIT {limit}{locked}",
        source.as_str()
    );
    Ok(on_backend!(conn, c => diesel::sql_query(&sql).load(c).await)?)
}

/// Changes are published.
async fn remove(conn: &mut Connection<'_>, changes: &[i64]) -> Result<(), StoreError> {
    let which = if conn.is_sqlite() {
        "IN (SELECT value FROM json_each($1))"
    } else {
        "= ANY(ARRAY(SELECT json_array_elements_text($1::json)::bigint))"
    };
    let sql = format!("DELETE FROM dataset_source_changes WHERE seq {which}");
    let changes = as_json(&changes)?;
    on_backend!(conn, c => diesel::sql_query(&sql).bind::<Text, _>(&changes).execute(c).await)?;
    Ok(())
}

/// Changes by the keys that changed: of several changes of a row one is left.
#[derive(Default)]
struct Changes {
    /// Each once, the oldest first.
    order: Vec<String>,
    keys: BTreeMap<String, SourceKey>,
    /// All changes, with their keys.
    seqs: Vec<(i64, String)>,
    /// Those that say that all is to be noted anew.
    anew: Vec<i64>,
}

impl Changes {
    fn of(noted: Vec<Noted>, source: DatasetSource) -> Self {
        let mut changes = Self::default();
        for Noted { seq, key } in noted {
            if key == ANEW {
                changes.anew.push(seq);
                continue;
            }
            let key = SourceKey::noted(&key, source);
            let text = key.text();
            changes.seqs.push((seq, text.clone()));
            if changes.keys.insert(text.clone(), key).is_none() {
                changes.order.push(text);
            }
        }
        changes
    }

    /// Leaves out those that do not fit, by what they take at least.
    fn fit(&mut self, sizes: &BTreeMap<String, usize>, bytes: usize) {
        let mut taken = 0_usize;
        let size = |key: &String| key.len() + sizes.get(key).copied().unwrap_or(0);
        let fits = self.order.iter().take_while(|key| {
            let is_first = taken == 0;
            taken = taken.saturating_add(size(key).max(1));
            is_first || taken <= bytes
        });
        let fitting = fits.count();
        for key in self.order.split_off(fitting) {
            self.keys.remove(&key);
        }
    }
}

async fn publish(
    conn: &mut Connection<'_>,
    dataset: &DatasetName,
    source: DatasetSource,
    history: &HistorySettings,
    most: Most,
) -> Result<SourceStep, StoreError> {
    // The lock first: who takes later changes publishes them later, too.
    let names = BTreeSet::from([dataset.as_str()]);
    let generations = lock_datasets(conn, &names).await?;
    let Some(generation) = generations.into_iter().next() else {
        return Ok(SourceStep::default());
    };
    if !claim(conn, generation.id).await?.is_of(source) {
        return Ok(SourceStep::default());
    }
    let noted = oldest(conn, source, most.count).await?;
    let is_full = noted.len() == most.count;
    let mut changes = Changes::of(noted, source);
    let is_anew = !changes.anew.is_empty();
    if is_anew {
        keep_place(conn, generation.id, Some(START)).await?;
    }
    let all = changes.order.len();
    // Sizes first: what does not fit is never in memory.
    changes.fit(&sizes(conn, source, &changes.keys).await?, most.bytes);
    let modifications = read(conn, source, &changes, most.bytes).await?;
    let written: HashSet<&str> = modifications.iter().map(Modification::key).collect();
    let of_written = changes
        .seqs
        .iter()
        .filter(|(_, key)| written.contains(key.as_str()));
    let mut done = std::mem::take(&mut changes.anew);
    done.extend(of_written.map(|(seq, _)| *seq));
    remove(conn, &done).await?;
    let now = Timestamp::now();
    if !modifications.is_empty() {
        let mut writing = Writing::of(generation);
        writing.take(&modifications, now)?;
        writing.write(conn, history, now).await?;
    }
    Ok(SourceStep {
        published: modifications.len(),
        more: is_full || is_anew || modifications.len() < all,
    })
}

/// What became of the rows, as many as fit (but always one).
async fn read(
    conn: &mut Connection<'_>,
    source: DatasetSource,
    changes: &Changes,
    bytes: usize,
) -> Result<Vec<Modification>, StoreError> {
    let mut rows = present(conn, source, &changes.keys).await?;
    let mut modifications: Vec<Modification> = Vec::with_capacity(changes.order.len());
    let mut taken = 0_usize;
    for key in &changes.order {
        let modification = match rows.remove(key) {
            Some(entry) => Modification::Update(entry),
            None => Modification::Delete(key.clone()),
        };
        taken = taken.saturating_add(modification.bytes());
        if taken > bytes && !modifications.is_empty() {
            break;
        }
        modifications.push(modification);
    }
    Ok(modifications)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(keys: &[&str]) -> Changes {
        let noted = keys.iter().enumerate().map(|(seq, key)| Noted {
            seq: i64::try_from(seq).unwrap(),
            key: (*key).to_owned(),
        });
        Changes::of(noted.collect(), DatasetSource::Sites)
    }

    #[test]
    fn of_several_changes_of_a_row_one_is_left_in_the_place_of_the_first() {
        let of = changes(&[r#"["a","1"]"#, r#""b/2""#, "null", r#""a/1""#]);
        assert_eq!(of.order, ["a/1", "b/2"]);
        let seqs: Vec<i64> = of.seqs.iter().map(|(seq, _)| *seq).collect();
        assert_eq!((seqs, of.anew), (vec![0, 1, 3], vec![2]));
    }

    #[test]
    fn what_does_not_fit_waits_and_a_row_that_is_too_large_goes_alone() {
        let sizes: BTreeMap<String, usize> = [("a/1", 10), ("b/2", 5000), ("c/3", 10)]
            .map(|(key, size)| (key.to_owned(), size))
            .into();
        let fitting = |keys: &[&str]| {
            let mut of = changes(keys);
            of.fit(&sizes, 100);
            assert_eq!(of.keys.len(), of.order.len());
            of.order
        };
        let (a, b, c) = (r#""a/1""#, r#""b/2""#, r#""c/3""#);
        assert_eq!(fitting(&[a, b, c]), ["a/1"]);
        assert_eq!(fitting(&[b, c]), ["b/2"]);
        assert_eq!(fitting(&[c, a]), ["c/3", "a/1"]);
        assert!(fitting(&[]).is_empty());
    }
}
