//! Which of our own tables are published, and as which dataset. The dataset's
//! generation says so, for all servers: a table is published as one dataset only,
//! the one that a server was configured for last.

use super::connection::{Connection, in_transaction, on_backend};
use super::datasets_publish::lock_datasets;
use super::datasets_source_note::START;
use super::datasets_source_triggers::{counting, drop_triggers, expected, triggers};
use super::{Store, StoreError};
use crate::config::DatasetSource;
use crate::flows::replicas::DatasetName;
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use std::collections::BTreeSet;

/// Released at the end of the transaction; the number has no meaning but to be
/// ours alone. Who waits for a table's lock keeps its writers waiting: not long.
const ONE_AT_A_TIME: &str =
    "SET LOCAL lock_timeout TO '500ms'; SELECT pg_advisory_xact_lock(5217390462)";

/// Noted changes that are forgotten in one transaction.
const FORGOTTEN: usize = 10_000;

/// Whether a table of ours is published as a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceStand {
    /// It is, and all that it held was noted.
    Whole,
    /// It is, and what it held is still to be noted ([`Store::note_source`]).
    Noting,
    /// It is not, or triggers are missing ([`Store::watch_source`]).
    Unwatched,
    /// It is published as the dataset of this name, which another server is
    /// configured for.
    Taken(String),
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// A dataset that a table is published as.
#[derive(QueryableByName)]
struct ClaimRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Nullable<Text>)]
    source_cursor: Option<String>,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    source_at: Option<Timestamp>,
}

impl Store {
    /// Says whether a table is published as this dataset.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn source_stand(
        &self,
        dataset: &DatasetName,
        source: DatasetSource,
    ) -> Result<SourceStand, StoreError> {
        let mut lent = self.reader().await?;
        let conn = &mut lent.connection();
        let claims = claims(conn, false).await?;
        let claim = claims
            .into_iter()
            .find(|claim| claim.source == source.as_str());
        Ok(match claim {
            None => SourceStand::Unwatched,
            Some(claim) if claim.name != dataset.as_str() => SourceStand::Taken(claim.name),
            Some(_) if !is_watched(conn, source).await? => SourceStand::Unwatched,
            Some(claim) if claim.source_cursor.is_some() => SourceStand::Noting,
            Some(_) => SourceStand::Whole,
        })
    }

    /// A table of ours is published as this dataset from now on, and as no other
    /// one: its changes are noted by triggers. Where they were not until now, or
    /// for another dataset, all that the table and the dataset hold is to be noted
    /// ([`Self::note_source`]): this call does not.
    ///
    /// # Errors
    /// The database is out of reach, or the table is locked for too long;
    /// nothing changed.
    pub async fn watch_source(
        &self,
        dataset: &DatasetName,
        source: DatasetSource,
    ) -> Result<(), StoreError> {
        let (store, dataset) = (self.clone(), dataset.clone());
        Self::detached(async move {
            let mut lent = store.writer().await?;
            in_transaction!(lent, conn => {
                watch(&mut Connection::from(conn), &dataset, source).await
            })
        })
        .await
    }

    /// Tables are published still as these datasets. Others are not any more where
    /// no server has said so since `claimed_before`; what was noted of tables that
    /// are not published is forgotten.
    ///
    /// # Errors
    /// The database is out of reach, or a table is locked for too long; some of it
    /// may be done.
    pub async fn keep_sources(
        &self,
        kept: &BTreeSet<(DatasetName, DatasetSource)>,
        claimed_before: Timestamp,
    ) -> Result<(), StoreError> {
        let (store, kept) = (self.clone(), kept.clone());
        Self::detached(async move {
            {
                let mut lent = store.writer().await?;
                in_transaction!(lent, conn => {
                    keep(&mut Connection::from(conn), &kept, claimed_before).await
                })?;
            }
            for source in DatasetSource::ALL {
                while store.forget(source).await? == FORGOTTEN {}
            }
            Ok(())
        })
        .await
    }

    /// One step of what was noted of a table that is not published.
    async fn forget(&self, source: DatasetSource) -> Result<usize, StoreError> {
        {
            let mut lent = self.reader().await?;
            if !has_changes(&mut lent.connection(), source).await? {
                return Ok(0);
            }
        }
        let mut lent = self.writer().await?;
        in_transaction!(lent, conn => {
            let conn = &mut Connection::from(conn);
            begin_alone(conn).await?;
            let claims = claims(conn, false).await?;
            if claims.iter().any(|claim| claim.source == source.as_str()) {
                return Ok(0);
            }
            let sql = format!(
                "DELETE FROM dataset_source_changes WHERE seq IN \
                 (SELECT seq FROM dataset_source_changes WHERE source = '{}' \
                 ORDER BY seq LIMIT {FORGOTTEN})",
                source.as_str()
            );
            Ok(on_backend!(conn, c => diesel::sql_query(&sql).execute(c).await)?)
        })
    }
}

async fn begin_alone(conn: &mut Connection<'_>) -> Result<(), StoreError> {
    if let Connection::Postgres(conn) = conn {
        conn.batch_execute(ONE_AT_A_TIME).await?;
    }
    Ok(())
}

async fn run(conn: &mut Connection<'_>, sql: &str) -> Result<(), StoreError> {
    on_backend!(conn, c => c.batch_execute(sql).await)?;
    Ok(())
}

/// Which tables are published, by dataset; with `lock`, until the transaction's
/// end, in the order in which all lock them.
async fn claims(conn: &mut Connection<'_>, lock: bool) -> Result<Vec<ClaimRow>, StoreError> {
    let sql = format!(
        "SELECT id, name, source, source_cursor, source_at FROM dataset_generations \
         WHERE kind = 'dataset' AND live AND source IS NOT NULL ORDER BY name{}",
        if lock && !conn.is_sqlite() {
            " FOR UPDATE"
        } else {
            ""
        }
    );
    Ok(on_backend!(conn, c => diesel::sql_query(&sql).load(c).await)?)
}

async fn count_triggers(
    conn: &mut Connection<'_>,
    source: DatasetSource,
) -> Result<usize, StoreError> {
    let sql = counting(source, conn.is_sqlite());
    let counted: Count = on_backend!(conn, c => diesel::sql_query(&sql).get_result(c).await)?;
    Ok(usize::try_from(counted.count).unwrap_or(0))
}

async fn is_watched(conn: &mut Connection<'_>, source: DatasetSource) -> Result<bool, StoreError> {
    Ok(count_triggers(conn, source).await? == expected(source, conn.is_sqlite()))
}

/// Whether changes of a table are noted that nobody published yet.
pub(super) async fn has_changes(
    conn: &mut Connection<'_>,
    source: DatasetSource,
) -> Result<bool, StoreError> {
    let sql = format!(
        "SELECT CAST(count(*) AS BIGINT) AS count FROM (SELECT seq FROM dataset_source_changes \
         WHERE source = '{}' LIMIT 1) AS t",
        source.as_str()
    );
    let counted: Count = on_backend!(conn, c => diesel::sql_query(&sql).get_result(c).await)?;
    Ok(counted.count > 0)
}

async fn watch(
    conn: &mut Connection<'_>,
    dataset: &DatasetName,
    source: DatasetSource,
) -> Result<(), StoreError> {
    begin_alone(conn).await?;
    let claims = claims(conn, false).await?;
    let word = source.as_str();
    let of_it = claims.iter().filter(|claim| claim.source == word);
    let mut names: BTreeSet<&str> = of_it.map(|claim| claim.name.as_str()).collect();
    let was_ours = names.contains(dataset.as_str());
    names.insert(dataset.as_str());
    let generations = lock_datasets(conn, &names).await?;
    let sqlite = conn.is_sqlite();
    let there = count_triggers(conn, source).await?;
    let was_watched = there == expected(source, sqlite);
    if !was_watched {
        if there > 0 {
            run(conn, &drop_triggers(source, sqlite)).await?;
        }
        run(conn, &triggers(source, sqlite)).await?;
    }
    // The others first: a table is published as one dataset.
    for other in generations.iter().filter(|of| of.name != dataset.as_str()) {
        release(conn, other.id).await?;
    }
    let set = if was_ours && was_watched {
        String::new()
    } else {
        format!("source = '{word}', source_cursor = '{START}', ")
    };
    for own in generations.iter().filter(|of| of.name == dataset.as_str()) {
        say(conn, own.id, &set, Timestamp::now()).await?;
    }
    Ok(())
}

async fn keep(
    conn: &mut Connection<'_>,
    kept: &BTreeSet<(DatasetName, DatasetSource)>,
    claimed_before: Timestamp,
) -> Result<(), StoreError> {
    begin_alone(conn).await?;
    let mut published = BTreeSet::new();
    for claim in claims(conn, true).await? {
        let is_kept = kept
            .iter()
            .any(|(name, source)| name.as_str() == claim.name && source.as_str() == claim.source);
        if is_kept {
            say(conn, claim.id, "", Timestamp::now()).await?;
        } else if claim.source_at.is_none_or(|at| at <= claimed_before) {
            release(conn, claim.id).await?;
            continue;
        }
        published.insert(claim.source);
    }
    for source in DatasetSource::ALL {
        let is_over = !published.contains(source.as_str());
        if is_over && count_triggers(conn, source).await? > 0 {
            run(conn, &drop_triggers(source, conn.is_sqlite())).await?;
        }
    }
    Ok(())
}

/// A dataset is no table of ours any more.
async fn release(conn: &mut Connection<'_>, id: i64) -> Result<(), StoreError> {
    let sql = format!(
        "UPDATE dataset_generations SET source = NULL, source_cursor = NULL, source_at = NULL \
         WHERE id = {id}"
    );
    run(conn, &sql).await
}

/// A dataset is a table of ours, says a server now.
async fn say(
    conn: &mut Connection<'_>,
    id: i64,
    set: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = format!("UPDATE dataset_generations SET {set}source_at = $1 WHERE id = {id}");
    on_backend!(conn, c => {
        diesel::sql_query(&sql).bind::<SqlTimestamp, _>(now).execute(c).await
    })?;
    Ok(())
}
