//! The services of a server, as the watchdog is to run them.

use super::datasets::retention;
use super::reload::{leases, limits, pool, scheduler, updater};
use crate::actors::{
    FetcherPool, Housekeeper, HousekeeperParts, LeaseKeeper, LeaseKeeperParts, Logging,
    LoggingParts, PoolParts, Scheduler, SchedulerParts, SchedulerState, StateSaver,
    StateSaverParts, Supervisor, Updater, UpdaterParts,
};
use crate::config::Settings;
use crate::messages::{
    Apply, Commit, Drain, Fetch, Flush, Mark, Publish, Record, SaveStates, Settled, Wake, names,
};
use crate::watchdog::{Keeper, LookupError, Registration, RestartPolicy, WatchdogQuery};
use std::convert::Infallible;

/// The thread of the actors that talk most: a message costs least there.
pub(super) const ENGINE: &str = "engine";

/// What the services are built from.
pub(super) struct Parts {
    pub(super) scheduler: SchedulerParts,
    pub(super) pool: PoolParts,
    pub(super) updater: UpdaterParts,
    pub(super) saver: StateSaverParts,
    pub(super) leases: LeaseKeeperParts,
    pub(super) house: HousekeeperParts,
    pub(super) logging: LoggingParts,
}

/// As a policy of the start, without its limit: a disk may be full for hours,
/// and the log is to come back when it is not.
const fn for_ever(policy: RestartPolicy) -> RestartPolicy {
    RestartPolicy {
        intensity: u32::MAX,
        ..policy
    }
}

/// Registers all services, with their settings as they are now; those that
/// others write to come first.
pub(super) fn register(
    query: &WatchdogQuery,
    settings: &Settings,
    parts: Parts,
) -> Result<(), LookupError> {
    let keeper = Keeper::Supervisor;
    let saver = Registration::<StateSaver>::new(names::STATE_SAVER)
        .on_thread(ENGINE)
        .accepts::<SaveStates>()
        .built_by(move |context| {
            Ok::<_, Infallible>(StateSaver::new(context, parts.saver.clone()))
        });
    query.register(saver, keeper)?;
    let writer = Registration::<Updater>::new(names::UPDATER)
        .critical()
        .on_thread(ENGINE)
        .settings(updater(settings))
        .answers::<Commit>()
        // Answered when they are durable, which a database that is away delays.
        .accepts::<Record>()
        .accepts::<Mark>()
        .accepts::<Publish>()
        .accepts::<Apply>()
        .accepts::<Flush>()
        .built_by(move |context| Updater::new(context, parts.updater.clone()));
    query.register(writer, keeper)?;
    let fetchers = Registration::<FetcherPool>::new(names::FETCHER_POOL)
        .critical()
        .on_thread(ENGINE)
        .settings(pool(settings))
        .answers::<Fetch>()
        .built_by(move |context| FetcherPool::new(context, parts.pool.clone()));
    query.register(fetchers, keeper)?;
    let decider = Registration::<Scheduler>::new(names::SCHEDULER)
        .critical()
        .on_thread(ENGINE)
        .settings(scheduler(settings))
        .state::<SchedulerState>()
        .answers::<Settled>()
        .answers::<Wake>()
        .answers::<Drain>()
        .built_by(move |context| Scheduler::new(context, parts.scheduler.clone()));
    query.register(decider, keeper)?;
    let lease_keeper = Registration::<LeaseKeeper>::new(names::LEASE_KEEPER)
        .critical()
        .on_thread(ENGINE)
        .settings(leases(settings))
        .built_by(move |context| LeaseKeeper::new(context, parts.leases.clone()));
    query.register(lease_keeper, keeper)?;
    let housekeeper = Registration::<Housekeeper>::new(names::HOUSEKEEPER)
        .on_thread(ENGINE)
        .settings(retention(settings))
        .built_by(move |context| Housekeeper::new(context, parts.house.clone()));
    query.register(housekeeper, keeper)?;
    let logging = Registration::<Logging>::new(names::LOGGING)
        .on_thread(ENGINE)
        .restarted_by(for_ever(limits(settings).restart))
        .settings(settings.log.clone())
        .built_by(move |context| Logging::new(context, parts.logging.clone()));
    query.register(logging, keeper)?;
    let capability = query.clone();
    let supervisor = Registration::<Supervisor>::new(names::SUPERVISOR)
        .critical()
        .built_by(move |context| Ok::<_, Infallible>(Supervisor::new(context, capability.clone())));
    query.register(supervisor, Keeper::Root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::{RestartDecision, RestartHistory};
    use std::time::{Duration, Instant};

    #[test]
    fn a_log_whose_disk_stays_full_is_tried_again_for_ever() {
        let policy = RestartPolicy::default();
        let mut history = RestartHistory::default();
        let mut now = Instant::now();
        for _ in 0..10_000 {
            match history.on_exit(&for_ever(policy), now, Duration::ZERO, 1.0) {
                RestartDecision::RestartAfter(delay) => {
                    assert!(delay <= policy.max);
                    now += delay;
                }
                RestartDecision::Fail => panic!("given up"),
            }
        }
    }
}
