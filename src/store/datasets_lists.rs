//! Datasets and replicas, as pages, API and metrics show them.

use super::connection::{in_snapshot, on_backend};
use super::datasets_rows::count;
use super::replicas_rows::{REPLICA_COLUMNS, ReplicaRow, standing};
use super::{Store, StoreError};
use crate::flows::replicas::{Content, ContentKind, DatasetName, Epoch, Head, Standing};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use std::collections::BTreeMap;

/// How a dataset, or a replica's copy, stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentSummary {
    /// Its name.
    pub name: String,
    /// Which history its heads are of.
    pub epoch: Epoch,
    /// Its version.
    pub head: Head,
    /// Entries.
    pub len: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Lowest head from which a diff can be had.
    pub oldest_head: Head,
    /// Modifications in its history.
    pub history_changes: u64,
    /// Bytes of their keys and values.
    pub history_bytes: u64,
    /// When the oldest of them was published; `None`: there is no history.
    pub history_since: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it changed last.
    pub changed_at: Timestamp,
}

/// How a replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSummary {
    /// Its name.
    pub name: String,
    /// The copy that is served; `None` before the first bootstrap.
    pub copy: Option<ContentSummary>,
    /// What its Follower goes by: the bootstrap under way, staleness, audits.
    pub standing: Standing,
    /// Highest head that an upstream told of.
    pub upstream_head: Option<Head>,
    /// When an upstream was last heard.
    pub heard_at: Option<Timestamp>,
    /// Ranges that were put right.
    pub repairs: u64,
}

#[derive(QueryableByName)]
struct SummaryRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    epoch: String,
    #[diesel(sql_type = BigInt)]
    head: Head,
    #[diesel(sql_type = BigInt)]
    len: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    #[diesel(sql_type = BigInt)]
    oldest_head: Head,
    #[diesel(sql_type = BigInt)]
    history_changes: i64,
    #[diesel(sql_type = BigInt)]
    history_bytes: i64,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    history_since: Option<Timestamp>,
    #[diesel(sql_type = SqlTimestamp)]
    created_at: Timestamp,
    #[diesel(sql_type = SqlTimestamp)]
    changed_at: Timestamp,
}

impl From<SummaryRow> for ContentSummary {
    fn from(row: SummaryRow) -> Self {
        Self {
            name: row.name,
            epoch: Epoch::told(&row.epoch),
            head: row.head,
            len: count(row.len),
            bytes: count(row.bytes),
            oldest_head: row.oldest_head,
            history_changes: count(row.history_changes),
            history_bytes: count(row.history_bytes),
            history_since: row.history_since,
            created_at: row.created_at,
            changed_at: row.changed_at,
        }
    }
}

impl Store {
    /// All datasets of the database, by name, whether they are configured or not.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn dataset_summaries(&self) -> Result<Vec<ContentSummary>, StoreError> {
        self.summaries(ContentKind::Dataset).await
    }

    /// All replicas of the database, by name, whether they are configured or not.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn replica_summaries(&self) -> Result<Vec<ReplicaSummary>, StoreError> {
        let copies = self.summaries(ContentKind::Replica).await?;
        let mut copies: BTreeMap<String, ContentSummary> = copies
            .into_iter()
            .map(|copy| (copy.name.clone(), copy))
            .collect();
        let store = self.clone();
        let rows = Self::detached(async move {
            let mut lent = store.reader().await?;
            in_snapshot!(lent, conn => {
                let sql = format!("SELECT {REPLICA_COLUMNS} FROM replicas ORDER BY name");
                let rows: Vec<ReplicaRow> =
                    on_backend!(conn, c => diesel::sql_query(&sql).load(c).await)?;
                let mut all = Vec::with_capacity(rows.len());
                for row in rows {
                    if let Some(name) = DatasetName::parse(&row.name) {
                        let kind = ContentKind::Replica;
                        let standing = standing(conn, &Content { kind, name }).await?;
                        all.push((row, standing));
                    }
                }
                Ok::<_, StoreError>(all)
            })
        })
        .await?;
        let summary = |(row, standing): (ReplicaRow, Standing)| {
            let copy = copies.remove(&row.name);
            // What was heard is written now and then; a head that was applied was
            // told. A stale copy may be ahead: its upstream went back.
            let applied = copy.as_ref().map(|copy| copy.head);
            let applied = applied.filter(|_| standing.stale.is_none());
            ReplicaSummary {
                copy,
                standing,
                upstream_head: row.upstream_head.max(applied),
                heard_at: row.heard_at,
                repairs: count(row.repairs),
                name: row.name,
            }
        };
        Ok(rows.into_iter().map(summary).collect())
    }

    async fn summaries(&self, kind: ContentKind) -> Result<Vec<ContentSummary>, StoreError> {
        let mut lent = self.reader().await?;
        let rows: Vec<SummaryRow> = on_backend!(lent, conn => {
            diesel::sql_query(
                "SELECT g.name, g.epoch, g.head, g.len, g.bytes, g.oldest_head, g.history_changes, \
                 g.history_bytes, g.created_at, g.changed_at, (SELECT c.changed_at \
                 FROM dataset_changes c WHERE c.generation = g.id AND c.head > g.oldest_head \
                 ORDER BY c.head LIMIT 1) AS history_since \
                 FROM dataset_generations g WHERE g.kind = $1 AND g.live ORDER BY g.name",
            )
            .bind::<Text, _>(kind.as_str())
            .load(conn)
            .await
        })?;
        Ok(rows.into_iter().map(ContentSummary::from).collect())
    }
}
