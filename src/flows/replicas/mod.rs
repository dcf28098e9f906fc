//! Replicas: a local copy follows a remote head by chunks and diffs, and knows
//! when it is stale; and datasets, which are published for others to follow.
//!
//! A [`Content`] (a dataset's or a replica's) is served the same way by
//! [`Contents`]: chunks by key or by index, each with the diff that brings what
//! the follower has to the head of the chunk.

mod change;
mod heads;
mod model;
mod traits;

pub use change::{Applied, BootstrapReason, RangeStart, ReplicaChange};
pub use heads::{Heads, WatchError};
pub use model::{
    Chunk, Content, ContentKind, DatasetName, Diff, Digests, Entry, Epoch, Fetched, Fetching, Head,
    Info, KeyProblem, LONGEST_DATASET_KEY, Modification, Next, RangeDigest, Since, check_key,
    compact,
};
pub use traits::{
    Bootstrap, Contents, FetchError, PublishError, PublishRequest, Published, RangeState,
    ReplicaRows, Standing, Upstream, UpstreamError,
};
