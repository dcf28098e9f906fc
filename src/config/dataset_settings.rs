//! The settings of the replica flow: `[replication]`, `[[datasets]]` and
//! `[[replicas]]`.

use super::event_settings::SecretOf;
use crate::flows::replicas::DatasetName;
use std::net::SocketAddr;
use std::time::Duration;
use url::Url;

/// `[replication]`: what all datasets and replicas share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationSettings {
    /// The Updater commits modifications after so long at the latest. Default 2ms.
    pub commit_interval: Duration,
    /// How often changes by other servers and of published tables are looked for. Default 1s.
    pub sweep_interval: Duration,
    /// Modifications that one request may publish. Default 10000.
    pub max_modifications: usize,
    /// Largest value of an entry, in bytes. Default 256 KiB.
    pub max_value_bytes: usize,
    /// Entries of a chunk, at most, whoever asks. Default 10000.
    pub max_chunk: usize,
    /// Bytes of the entries of a chunk, and of a diff, at most (one entry, and
    /// the diff of one head, are always answered). Default 4 MiB.
    pub max_chunk_bytes: usize,
    /// Longest that a follower may wait for the head to move. Default 60s.
    pub max_watch: Duration,
    /// Followers that may wait at once, 1500 at most. Default 1000.
    pub max_watchers: usize,
}

/// `history`: how much of it is kept; what exceeds one of them goes, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistorySettings {
    /// Modifications. Default 100000.
    pub changes: u64,
    /// Bytes of their keys and values. Default 64 MiB.
    pub bytes: u64,
    /// Age. Default 24h.
    pub age: Duration,
}

/// `[[datasets]]`: a key→value table that this node publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetSettings {
    /// Its name; distinct.
    pub name: DatasetName,
    /// One of Highwater's own tables, published read-only. Default none: what is
    /// sent in.
    pub source: Option<DatasetSource>,
    /// History that followers can catch up from.
    pub history: HistorySettings,
    /// Bearer token that reading it takes. Default none.
    pub token: Option<SecretOf>,
    /// Address at whose root it is served with the seed's own wire. Default none.
    pub seed_listen: Option<SocketAddr>,
}

/// A table of Highwater's that can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DatasetSource {
    /// `batches`, by `ledger/service_id/batch_id`.
    Batches,
    /// `sites` with `poll_status`, by `app_id/site_id`.
    Sites,
    /// `events`, by `subscription/block/tx_id/event_id`.
    Events,
}

impl DatasetSource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Batches, Self::Sites, Self::Events];

    /// The word in configuration and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Batches => "batches",
            Self::Sites => "sites",
            Self::Events => "events",
        }
    }
}

/// `[[replicas]]`: a local copy of a dataset of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSettings {
    /// Its name; distinct.
    pub name: DatasetName,
    /// Where it comes from, the one to prefer first (`upstream` or `upstreams`).
    /// A dataset is at `URL/v1/datasets/DATASET`, unless the address has a path
    /// that ends in `/v1/datasets/NAME` or `/v1/replicas/NAME` itself.
    pub upstreams: Vec<Url>,
    /// Name of the dataset there. Default: the replica's.
    pub dataset: DatasetName,
    /// What the upstreams speak.
    pub protocol: ReplicaProtocol,
    /// How often an upstream is asked that cannot be waited for. Default 1s.
    pub poll_interval: Duration,
    /// Longest wait for the upstream's head to move. Default 30s.
    pub watch: Duration,
    /// Entries of a chunk. Default 4000.
    pub chunk: usize,
    /// Ranges of a bootstrap, fetched side by side. Default 4.
    pub ranges: usize,
    /// Time limit of a request, besides the wait. Default 30s.
    pub timeout: Duration,
    /// Bearer token for the upstreams. Default none.
    pub token: Option<SecretOf>,
    /// History that its own followers can catch up from.
    pub history: HistorySettings,
    /// Time from one audit's end to the next one's begin; `None`: no audits. Default 24h.
    pub audit_interval: Option<Duration>,
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaProtocol {
    /// `/v1/datasets/{name}/…`
    Highwater,
    /// `/info` and `/fetch` of the seed `polling-replication.md`.
    Seed,
}

impl Default for ReplicationSettings {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_millis(2),
            sweep_interval: Duration::from_secs(1),
            max_modifications: 10_000,
            max_value_bytes: 256 * 1024,
            max_chunk: 10_000,
            max_chunk_bytes: 4 * 1024 * 1024,
            max_watch: Duration::from_secs(60),
            max_watchers: 1000,
        }
    }
}

impl Default for HistorySettings {
    fn default() -> Self {
        Self {
            changes: 100_000,
            bytes: 64 * 1024 * 1024,
            age: Duration::from_secs(24 * 3600),
        }
    }
}
