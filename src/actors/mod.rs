//! The actors: thin shells around the flows' decisions, a file each.
//!
//! None imports another: they hold intercoms, and the composition root names
//! and wires them.

mod fetcher_pool;
mod follower;
mod housekeeper;
mod lease_keeper;
mod logging;
mod scheduler;
mod state_saver;
mod subscriber;
mod supervisor;
mod updater;

pub use fetcher_pool::{FetcherPool, PoolParts, PoolSettings};
pub use follower::{ConnectUpstreams, Follower, FollowerParts, FollowerSettings};
pub use housekeeper::{Housekeeper, HousekeeperParts};
pub use lease_keeper::{Beating, LeaseKeeper, LeaseKeeperParts, LeaseSettings};
pub use logging::{ApplyLog, Logging, LoggingParts};
pub use scheduler::{Scheduler, SchedulerParts, SchedulerSettings, SchedulerState};
pub use state_saver::{StateSaver, StateSaverParts};
pub use subscriber::{
    AtWork, ConnectEvents, Connected, Subscriber, SubscriberParts, SubscriberSettings,
};
pub use supervisor::Supervisor;
pub use updater::{NoReplicas, ReplicaEdit, ReplicaWriter, Updater, UpdaterParts, UpdaterSettings};

use crate::watchdog::SettingsReader;
use actix::fut::{ActorStreamExt, wrap_stream};
use actix::{Actor, AsyncContext};

/// Hands each new value of a service's settings to the actor.
fn follow_settings<A, T>(
    ctx: &mut A::Context,
    reader: &SettingsReader<T>,
    mut take: impl FnMut(&mut A, T, &mut A::Context) + 'static,
) where
    A: Actor,
    A::Context: AsyncContext<A>,
    T: Clone + Send + Sync + 'static,
{
    let news = futures_util::stream::unfold(reader.clone(), |mut reader| async move {
        let value = reader.updated().await?;
        Some((value, reader))
    });
    let follow = wrap_stream::<_, A>(news).map(move |value, actor, ctx| take(actor, value, ctx));
    ctx.spawn(follow.finish());
}

/// Calls the actor whenever a bell rings, as often as the future it makes
/// completes.
fn on_each<A, F>(
    ctx: &mut A::Context,
    ring: impl Fn() -> F + 'static,
    mut take: impl FnMut(&mut A, &mut A::Context) + 'static,
) where
    A: Actor,
    A::Context: AsyncContext<A>,
    F: Future<Output = ()> + 'static,
{
    let rings = futures_util::stream::unfold(ring, |ring| async move {
        ring().await;
        Some(((), ring))
    });
    let answer = wrap_stream::<_, A>(rings).map(move |(), actor, ctx| take(actor, ctx));
    ctx.spawn(answer.finish());
}
