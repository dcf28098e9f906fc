//! The Followers of this server, as HTTP is handed them.

use crate::flows::replicas::{DatasetName, ReplicasView};
use crate::http::{Followers, ReplicaOrder};
use crate::messages::{FollowerOrder, names};
use crate::watchdog::Watchdog;
use std::sync::Arc;
use tokio::sync::watch;

/// What Followers show, and how they are told of orders. A replica that a reload
/// adds has its line once its Follower is registered: so it is opened anew for
/// each order.
pub fn followers(view: watch::Receiver<Arc<ReplicasView>>, watchdog: Watchdog) -> Followers {
    let order = move |name: &DatasetName, order: ReplicaOrder| {
        let order = match order {
            ReplicaOrder::Verify => FollowerOrder::Verify,
            ReplicaOrder::Bootstrap => FollowerOrder::Bootstrap,
        };
        let service = names::follower(name.as_str());
        let line = watchdog.intercom::<FollowerOrder>("http", &service);
        line.is_ok_and(|line| line.post(order).is_ok())
    };
    Followers {
        view,
        order: Arc::new(order),
    }
}
