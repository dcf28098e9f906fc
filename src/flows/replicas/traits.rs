//! What the replica flow needs of others: contents to serve, rows to read, an
//! upstream to follow.

use super::change::BootstrapReason;
use super::model::{
    Content, DatasetName, Digests, Epoch, Fetched, Fetching, Head, Info, Modification,
};
use super::plan_step::{Answer, Ask};
use crate::store::StoreError;
use crate::time::Timestamp;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::time::Duration;

/// Datasets and replicas, as they are served. Each answer is of one snapshot.
pub trait Contents: Send + Sync + 'static {
    /// How it stands; with `splits`, the keys that cut it into so many ranges.
    ///
    /// # Errors
    /// There is no such content (a replica before its first bootstrap), or the
    /// database did not answer.
    fn info<'a>(
        &'a self,
        content: &'a Content,
        splits: Option<usize>,
    ) -> BoxFuture<'a, Result<Info, FetchError>>;

    /// A chunk and a diff, bounded by count and bytes.
    ///
    /// # Errors
    /// As [`Self::info`]; and [`FetchError::Stale`] where history does not reach
    /// what the follower has.
    fn fetch<'a>(
        &'a self,
        content: &'a Content,
        fetching: &'a Fetching,
    ) -> BoxFuture<'a, Result<Fetched, FetchError>>;

    /// Digests of up to `splits` even ranges of up to `limit` entries behind
    /// `after`, up to `until`, with the diff from `head` on within them.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    fn digests<'a>(
        &'a self,
        content: &'a Content,
        after: &'a str,
        until: Option<&'a str>,
        limit: u64,
        splits: usize,
        since: Option<(&'a Epoch, Head)>,
    ) -> BoxFuture<'a, Result<Digests, FetchError>>;

    /// The value of a key, a JSON text; `None`: there is no such key.
    ///
    /// # Errors
    /// As [`Self::info`].
    fn entry<'a>(
        &'a self,
        content: &'a Content,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, FetchError>>;
}

/// Why nothing was fetched.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no such content.
    #[error("there is no such dataset or replica, or no copy yet")]
    Missing,
    /// History does not reach the head, or it was never of this epoch.
    #[error("history reaches back to head {} of epoch {}", .0.oldest_head, .0.epoch)]
    Stale(Info),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Modifications to publish, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishRequest {
    /// Where.
    pub dataset: DatasetName,
    /// What, in order; not empty, bounded by the caller.
    pub modifications: Vec<Modification>,
    /// Only if this is the head.
    pub if_head: Option<Head>,
    /// Key and fingerprint of the request, to answer it the same way again.
    pub idempotency: Option<(String, String)>,
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Of the dataset.
    pub epoch: Epoch,
    /// The head that these modifications made.
    pub head: Head,
    /// It had been published before, under the same key.
    pub repeated: bool,
}

/// Why nothing was published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The head is another.
    #[error("the head is {0}")]
    HeadMoved(Head),
    /// The key was used for something else.
    #[error("the Idempotency-Key was used for another request")]
    KeyReused,
    /// The database is out of reach: to be tried again.
    #[error("the database is out of reach: {0}")]
    Away(String),
    /// The database refuses it.
    #[error("the database refuses it: {0}")]
    Refused(String),
}

/// How a replica stands, as its rows say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The copy that is served: generation, epoch, head and entries.
    pub live: Option<(i64, Epoch, Head, u64)>,
    /// The bootstrap under way.
    pub bootstrap: Option<Bootstrap>,
    /// Since when it is stale, and why.
    pub stale: Option<(Timestamp, String)>,
    /// When it last held all that its upstream had.
    pub level_at: Option<Timestamp>,
    /// Bootstraps by reason.
    pub bootstraps: BTreeMap<BootstrapReason, u64>,
    /// Bootstraps in a row that came to nothing, since history was too short.
    pub outrun: u32,
    /// When the last audit ended, and how many ranges differed.
    pub audited: Option<(Timestamp, u64)>,
    /// Last key that the present audit compared.
    pub audit_cursor: Option<String>,
}

/// A bootstrap under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The generation that it fills.
    pub generation: i64,
    /// Of its upstream.
    pub epoch: Epoch,
    /// Why it was begun.
    pub reason: BootstrapReason,
    /// When.
    pub begun_at: Timestamp,
    /// Entries that the upstream had then.
    pub len: u64,
    /// Its ranges.
    pub ranges: Vec<RangeState>,
}

/// A range of a bootstrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeState {
    /// Keys behind this one.
    pub after: String,
    /// Up to this one, included; `None`: to the end.
    pub until: Option<String>,
    /// Last key that was fetched.
    pub cursor: String,
    /// What is up to the cursor is at this head.
    pub head: Head,
    /// Entries up to the cursor.
    pub len: u64,
    /// Nothing is behind the cursor.
    pub done: bool,
}

/// The rows of replicas, as a Follower reads them.
pub trait ReplicaRows: Send + Sync + 'static {
    /// How a replica stands; of one without rows, the beginning.
    ///
    /// # Errors
    /// The database did not answer.
    fn standing<'a>(
        &'a self,
        replica: &'a DatasetName,
    ) -> BoxFuture<'a, Result<Standing, StoreError>>;
}

/// A publisher, or a replica of it, as it is followed. An implementation ends
/// within its own time limits and bounds what it reads.
pub trait Upstream: Send + Sync + 'static {
    /// How it stands.
    fn info(&self, splits: Option<usize>) -> BoxFuture<'_, Result<Info, UpstreamError>>;

    /// A chunk and a diff.
    fn fetch(&self, fetching: Fetching) -> BoxFuture<'_, Result<Fetched, UpstreamError>>;

    /// Waits until its head is no longer `head` or its epoch another, for `wait`
    /// at most; answers how it stands then. `None` where it cannot be waited for:
    /// then it is polled.
    fn watch(
        &self,
        epoch: Epoch,
        head: Head,
        wait: Duration,
    ) -> Option<BoxFuture<'_, Result<Info, UpstreamError>>>;

    /// Digests of ranges, as [`Contents::digests`]; `None` where it has none.
    fn digests(
        &self,
        after: String,
        until: Option<String>,
        limit: u64,
        splits: usize,
        since: (Epoch, Head),
    ) -> Option<BoxFuture<'_, Result<Digests, UpstreamError>>>;

    /// Chunks are by index, with the seed's wire.
    fn by_index(&self) -> bool {
        false
    }

    /// What it is, for pages and logs: the address without secrets.
    fn place(&self) -> String;
}

/// Why an upstream gave no answer to work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Its history does not reach (410): how it stands, where it says so.
    #[error("the upstream's history does not reach this head")]
    Stale(Option<Info>),
    /// It failed; bounded text without secrets. With what it asked for
    /// (`Retry-After`).
    #[error("{why}")]
    Failed {
        /// The thing, the value and what was expected.
        why: String,
        /// How long to leave it alone.
        retry_after: Option<Duration>,
    },
    /// It does not do this; what else it is asked is not concerned. Bounded text
    /// without secrets.
    #[error("{why}")]
    Unable {
        /// What it answered.
        why: String,
        /// For how long, where it is for now only.
        for_now: Option<Duration>,
    },
}

impl Ask {
    /// Has an upstream answer it.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub async fn put_to(self, upstream: &dyn Upstream) -> Result<Answer, UpstreamError> {
        match self {
            Self::Info { splits } => upstream.info(splits).await.map(Answer::Info),
            Self::Fetch(fetching) => upstream.fetch(fetching).await.map(Answer::Fetched),
            Self::Watch { epoch, head, wait } => match upstream.watch(epoch, head, wait) {
                Some(watch) => watch.await.map(Answer::Info),
                None => Ok(Answer::Unable),
            },
            Self::Digests {
                after,
                until,
                limit,
                splits,
                since,
            } => match upstream.digests(after, until, limit, splits, since) {
                Some(digests) => digests.await.map(Answer::Digests),
                None => Ok(Answer::Unable),
            },
        }
    }
}
