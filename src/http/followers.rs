//! The Followers of this server as HTTP sees them: what they show, and the orders
//! that they take.

use crate::flows::replicas::{DatasetName, ReplicasView};
use std::sync::Arc;
use tokio::sync::watch;

/// What an operator orders of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaOrder {
    /// Compare all ranges with the upstream, and put right what differs.
    Verify,
    /// Begin a new bootstrap.
    Bootstrap,
}

impl ReplicaOrder {
    /// The word in routes and answers.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Bootstrap => "bootstrap",
        }
    }

    /// The word in the audit.
    pub(super) const fn action(self) -> &'static str {
        match self {
            Self::Verify => "replicas.verify",
            Self::Bootstrap => "replicas.bootstrap",
        }
    }
}

/// Tells the Follower of a replica of an order; answers whether it is told.
pub type ReplicaOrders = Arc<dyn Fn(&DatasetName, ReplicaOrder) -> bool + Send + Sync>;

/// The Followers of this server.
#[derive(Clone)]
pub struct Followers {
    /// What they show.
    pub view: watch::Receiver<Arc<ReplicasView>>,
    /// How they are told.
    pub order: ReplicaOrders,
}

impl Followers {
    /// None: nothing is shown, and no order is taken.
    pub(super) fn none() -> Self {
        Self {
            view: watch::channel(Arc::default()).1,
            order: Arc::new(|_, _| false),
        }
    }
}
