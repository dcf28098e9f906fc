//! The store: pools, transactions and, one file per aggregate, the queries,
//! written once for SQLite and PostgreSQL.

mod audit;
mod batches_due;
mod batches_news;
mod batches_read;
mod batches_write;
mod changes;
mod connection;
mod datasets_chunk;
mod datasets_digests;
mod datasets_drop;
mod datasets_entries;
mod datasets_history;
mod datasets_lists;
mod datasets_prune;
mod datasets_publish;
mod datasets_read;
mod datasets_rows;
mod datasets_source;
mod datasets_source_keys;
mod datasets_source_note;
mod datasets_source_rows;
mod datasets_source_triggers;
mod datasets_source_watch;
mod error;
mod events_fork;
mod events_known;
mod events_list;
mod events_mark;
mod events_marks;
mod events_numbering;
mod events_order_error;
mod events_orders;
mod events_outcome;
mod events_prune;
mod events_read;
mod events_record;
mod events_rows;
mod events_runs;
mod events_summary;
mod jobs_read;
mod lease_ranges;
mod leases;
mod migrate;
mod postgres;
mod replicas_apply;
mod replicas_bootstrap;
mod replicas_rows;
mod schema;
mod sites;
mod sites_changes;
mod sites_due;
mod sites_filter;
mod sites_import;
mod sites_list;
mod sites_names;
mod sites_read;
mod sites_schedule;
mod sites_steps;
mod slots;
mod states;

pub use audit::{AuditFilter, AuditOutcome, AuditPage, AuditRow, NewAudit};
pub use batches_due::{BatchChange, BatchWriter, DueCursor, DueQuery, PendingBatch};
pub use batches_news::SettledByTransactions;
pub use batches_read::{
    BatchFilter, BatchPage, BatchRow, LedgerSummary, PollEntry, ServiceCount, ServiceSummary,
};
pub use batches_write::{NewBatch, Tracked};
pub use changes::{Applied, Change, ChangeGroup, Statement};
pub use datasets_lists::{ContentSummary, ReplicaSummary};
pub use datasets_publish::PublishOutcomes;
pub use datasets_read::StoredContents;
pub use datasets_source::SourceStep;
pub use datasets_source_watch::SourceStand;
pub use error::StoreError;
pub use events_list::{EventDetail, EventFilter, EventPage, EventRow};
pub use events_mark::MarkGroup;
pub use events_order_error::SubscriptionOrderError;
pub use events_record::RecordGroup;
pub use events_summary::{EventCount, SubscriptionSummary};
pub use jobs_read::{
    JobLease, JobSummary, OUTCOME_BUCKET, OUTCOMES_SHOWN, OutcomeBucket, Outcomes, outcomes_within,
};
pub use lease_ranges::{RangeName, range_lease};
pub use leases::{LeaseRow, LeaseStake, RUNNER_PREFIX};
pub use replicas_apply::{NotApplied, ReplicaGroup};
pub use sites::{Revival, Revived};
pub use sites_changes::SiteChange;
pub use sites_due::{DueSite, JobRange, MOST_PAUSES};
pub use sites_filter::{
    SiteCursor, SiteFilter, SiteItem, SitePage, SiteSort, SiteState, UnknownSiteWord,
};
pub use sites_import::{Imported, NewSite, RefusedSite};
pub use sites_names::AppSites;
pub use sites_read::{JobDetail, LearnedRow, SiteDetail, SiteRow, StatusRow};
pub use sites_steps::{ClockReading, MOST_IN_A_STEP};
pub use slots::DatabaseSlots;
pub use states::{AsideState, SavedState, StateWrite};

use crate::config::DatabaseSettings;
use batches_write::TransactionKey;
use connection::{Lent, Pools};
use futures_util::future::BoxFuture;
use slots::Access;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Handle of the database; cheap to clone.
#[derive(Clone)]
pub struct Store {
    pools: Pools,
    settings: Arc<DatabaseSettings>,
    /// Where connections are shared out among owners; `None` where there is
    /// one user only (the command line).
    access: Option<Access>,
    /// How far the search for transactions without a batch has come.
    orphans_after: Arc<Mutex<TransactionKey>>,
    /// On SQLite operators' own lookups run one after another.
    lookups: Arc<tokio::sync::Mutex<()>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store")
            .field(&self.settings.location)
            .finish()
    }
}

impl Store {
    /// Opens the database and brings it to this binary's schema: creates what
    /// is missing, runs migrations, refuses a newer database.
    ///
    /// # Errors
    /// Out of reach, not migratable, or newer than this binary.
    pub async fn open(settings: &DatabaseSettings) -> Result<Self, StoreError> {
        migrate::migrate(settings).await?;
        Self::open_as_is(settings)
    }

    /// Opens the database without looking at its schema.
    ///
    /// # Errors
    /// The pool cannot be built; no connection is made yet.
    pub fn open_as_is(settings: &DatabaseSettings) -> Result<Self, StoreError> {
        Ok(Self {
            pools: Pools::build(settings)?,
            settings: Arc::new(settings.clone()),
            access: None,
            orphans_after: Arc::default(),
            lookups: Arc::default(),
        })
    }

    /// Names of the migrations that are embedded and not yet run.
    ///
    /// # Errors
    /// Out of reach, or newer than this binary.
    pub async fn wanted_migrations(settings: &DatabaseSettings) -> Result<Vec<String>, StoreError> {
        migrate::wanted(settings).await
    }

    /// Asks the database for nothing, to see whether it answers.
    ///
    /// # Errors
    /// Out of reach.
    pub async fn ping(&self) -> Result<(), StoreError> {
        use diesel_async::RunQueryDsl;
        let mut lent = self.reader().await?;
        connection::on_backend!(lent, conn => {
            diesel::sql_query("SELECT 1").execute(conn).await
        })?;
        Ok(())
    }

    /// Closes the pools; later calls fail.
    pub fn close(&self) {
        self.pools.close();
    }

    /// Whether this is SQLite.
    pub fn is_sqlite(&self) -> bool {
        self.pools.is_sqlite()
    }

    /// Where the database is, without its password.
    pub fn location(&self) -> String {
        self.settings.location.to_string()
    }

    fn orphans_after(&self) -> MutexGuard<'_, TransactionKey> {
        let locked = self.orphans_after.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> BoxFuture<'_, Result<Lent, StoreError>> {
        Box::pin(async {
            let slot = match &self.access {
                Some(access) => Some(access.reader().await?),
                None => None,
            };
            Ok(Lent::new(self.pools.reader().await?, slot))
        })
    }

    fn writer(&self) -> BoxFuture<'_, Result<Lent, StoreError>> {
        Box::pin(async {
            let slot = match &self.access {
                Some(access) => Some(access.writer().await?),
                None => None,
            };
            Ok(Lent::new(self.pools.writer().await?, slot))
        })
    }

    /// Runs `work` to its end in a task of its own, so that a caller that goes
    /// away cannot leave a transaction open.
    fn detached<T, F>(work: F) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        // Boxed: callers hold a future of no type instead of all of `work`.
        let work: BoxFuture<'static, Result<T, StoreError>> = Box::pin(work);
        Box::pin(async move {
            match tokio::spawn(work).await {
                Ok(result) => result,
                Err(error) => Err(StoreError::Internal(format!(
                    "a database task ended: {error}"
                ))),
            }
        })
    }
}
