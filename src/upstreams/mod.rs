//! What replicas are read from: other nodes, over HTTP.
//!
//! [`connect`] makes the [`Upstream`]s of a replica, the one to prefer first.
//!
//! | file | holds |
//! |---|---|
//! | `client` | one bounded request and what its answer means |
//! | `http` | `/v1/datasets/{name}/…` of another Highwater |
//! | `seed` | the seed's own wire, `/info` and `/fetch` |

mod client;
mod http;
mod seed;
#[cfg(test)]
mod tests;

use crate::config::{ReplicaProtocol, ReplicaSettings};
use crate::flows::replicas::Upstream;
use std::sync::Arc;

/// Why an upstream cannot be used. Only a change of configuration mends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamProblem {
    /// The address.
    #[error("replica {replica}: the address of an upstream {problem}")]
    Url {
        /// Name of the replica.
        replica: String,
        /// What is wrong with it, and what is expected.
        problem: &'static str,
    },
    /// The token cannot stand in a header.
    #[error("replica {replica}: the token holds characters that no header may; use visible ASCII")]
    Token {
        /// Name of the replica.
        replica: String,
    },
    /// No HTTP client can be made.
    #[error("replica {replica}: no HTTP client can be made: {detail}")]
    Http {
        /// Name of the replica.
        replica: String,
        /// Why.
        detail: String,
    },
}

/// The upstreams of a replica, in the order of its settings.
///
/// # Errors
/// An address or the token cannot be used, or no HTTP client can be made.
pub fn connect(settings: &ReplicaSettings) -> Result<Vec<Arc<dyn Upstream>>, UpstreamProblem> {
    let upstreams = settings.upstreams.iter();
    upstreams
        .map(|url| {
            let client = client::Client::new(settings, url)?;
            Ok(match settings.protocol {
                ReplicaProtocol::Highwater => {
                    Arc::new(http::HttpUpstream::new(client, &settings.dataset))
                        as Arc<dyn Upstream>
                }
                ReplicaProtocol::Seed => Arc::new(seed::SeedUpstream::new(client)),
            })
        })
        .collect()
}
