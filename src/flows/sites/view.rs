//! What the site flow shows of itself: pages, API and metrics read this, not
//! the actors.

use super::names::JobKey;
use super::shard::Shard;
use crate::time::Timestamp;
use serde::{Serialize, Serializer};

/// The site flow at a moment, as its Scheduler last saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SitesView {
    /// Configured jobs that servers run, in the configuration's order.
    pub jobs: Vec<JobView>,
}

/// One job, as the Scheduler sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobView {
    /// The job.
    #[serde(serialize_with = "as_text")]
    pub key: JobKey,
    /// Visits under way now.
    pub in_flight: usize,
    /// Sites read from the database that wait for a visit.
    pub waiting: usize,
    /// Its shards, by their codes.
    pub shards: Vec<ShardView>,
    /// Hosts that asked to be left alone, and are.
    pub paused_hosts: usize,
    /// Why the job does not run as it should: a handler that fails itself time
    /// and again, an outcome that the database refuses; `None` when it does, as
    /// with the first visit that goes well.
    pub last_error: Option<String>,
    /// When the next visit is tried, while its handler cannot work at all.
    pub retry_at: Option<Timestamp>,
}

/// A job's shard, and who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardView {
    /// The shard.
    #[serde(serialize_with = "as_text")]
    pub shard: Shard,
    /// Whether this server holds its lease and visits its sites.
    pub held: bool,
    /// Another that holds it, or codes of it, where known.
    pub holder: Option<String>,
}

impl SitesView {
    /// The view of a job.
    pub fn job(&self, key: &JobKey) -> Option<&JobView> {
        self.jobs.iter().find(|job| job.key == *key)
    }
}

fn as_text<S: Serializer>(
    value: &impl std::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
