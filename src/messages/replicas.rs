//! HTTP, Follower → Updater: what is published, and what becomes of replicas;
//! HTTP → Follower: orders.

use crate::flows::replicas::{
    Applied, DatasetName, PublishError, PublishRequest, Published, ReplicaChange,
};
use crate::store::LeaseStake;

/// Publish these modifications; answered when they are durable. Any server may.
#[derive(Debug, actix::Message)]
#[rtype(result = "Result<Published, PublishError>")]
pub struct Publish(pub PublishRequest);

/// Write a change of a replica; answered when it is durable, or why it is not.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "Result<Applied, ApplyError>")]
pub struct Apply {
    /// The replica.
    pub replica: DatasetName,
    /// The lease under which it is followed.
    pub stake: LeaseStake,
    /// What changes.
    pub change: ReplicaChange,
}

/// Why a change of a replica was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The rows are not as the change supposes, or another server follows the
    /// replica now: read how it stands anew.
    #[error("the replica does not stand as it was thought to")]
    Fenced,
    /// The database is out of reach: to be tried again.
    #[error("the database is out of reach: {0}")]
    Away(String),
    /// Too much waits to be written: the same change is to be sent again.
    #[error("the Updater takes no more now: {0}")]
    Busy(String),
    /// The database refuses it.
    #[error("the database refuses it: {0}")]
    Refused(String),
}

/// An operator wants a replica to be verified or bootstrapped anew now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, actix::Message)]
#[rtype(result = "()")]
pub enum FollowerOrder {
    /// Compare all ranges with the upstream, and put right what differs.
    Verify,
    /// Begin a new bootstrap.
    Bootstrap,
}
