//! Replicas: a local copy follows a remote head by chunks and diffs, and knows
//! when it is stale; and datasets, which are published for others to follow.
//!
//! A [`Content`] (a dataset's or a replica's) is served the same way by
//! [`Contents`]: chunks by key or by index, each with the diff that brings what
//! the follower has to the head of the chunk.

mod audit;
mod backoff;
mod change;
mod digest;
mod heads;
mod model;
mod note;
mod plan;
mod plan_answers;
mod plan_begin;
mod plan_bootstrap;
#[cfg(test)]
mod plan_desk;
mod plan_follow;
#[cfg(test)]
mod plan_model_tests;
mod plan_step;
mod plan_survey;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod plan_upstreams_tests;
mod remote;
#[cfg(test)]
pub(crate) mod testing;
mod traits;
mod verify;
mod view;
mod words;

pub use backoff::Backoff;
pub use change::{Applied, BootstrapReason, RangeStart, ReplicaChange};
pub use digest::{Overlay, RangeHasher};
pub use heads::{Heads, WatchError};
pub use model::{
    Chunk, Content, ContentKind, DatasetName, Diff, Digests, Entry, Epoch, Fetched, Fetching, Head,
    Info, KeyProblem, LEN_UNKNOWN, LONGEST_DATASET_KEY, Modification, Next, RangeDigest, Since,
    check_key, compact,
};
pub use plan::{PlanSettings, ReplicaPlan};
pub use plan_step::{Answer, Ask, Step, Written};
pub use traits::{
    Bootstrap, Contents, FetchError, PublishError, PublishRequest, Published, RangeState,
    ReplicaRows, Standing, Upstream, UpstreamError,
};
pub use verify::{CannotVerify, check_verify};
pub use view::{
    BootstrapView, FollowerView, Holder, PlanView, RangeView, ReplicaState, ReplicasView,
    UpstreamView,
};
pub use words::without_contents;
