//! Whether a replica can be compared with its upstream, by an operator's order.

use super::model::DatasetName;
use crate::config::{ReplicaProtocol, ReplicaSettings};

/// Why a replica cannot be compared with its upstream now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotVerify {
    /// Its upstream has no digests: it can only be copied anew.
    #[error(
        "replica \"{0}\" follows by the seed's wire, which has no digests to compare: `highwater replicas bootstrap {0}` copies it anew"
    )]
    NoDigests(DatasetName),
    /// There is no copy yet: to be asked again once there is one.
    #[error("replica \"{0}\" has no copy yet: there is nothing to compare")]
    NoCopy(DatasetName),
}

/// Checks that a replica can be compared; `has_copy` says whether it has a copy.
///
/// # Errors
/// It cannot.
pub fn check_verify(replica: &ReplicaSettings, has_copy: bool) -> Result<(), CannotVerify> {
    let name = || replica.name.clone();
    if replica.protocol == ReplicaProtocol::Seed {
        return Err(CannotVerify::NoDigests(name()));
    }
    if !has_copy {
        return Err(CannotVerify::NoCopy(name()));
    }
    Ok(())
}
