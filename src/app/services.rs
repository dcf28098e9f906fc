//! The services of a server, as the watchdog is to run them.

use super::reload::{leases, scheduler, updater};
use crate::actors::{
    FetcherPool, Housekeeper, HousekeeperParts, LeaseKeeper, LeaseKeeperParts, Logging,
    LoggingParts, Scheduler, SchedulerParts, SchedulerState, StateSaver, StateSaverParts,
    Supervisor, Updater, UpdaterParts,
};
use crate::config::Settings;
use crate::messages::{Commit, Drain, Fetch, Flush, SaveStates, Settled, Wake, names};
use crate::watchdog::{Keeper, LookupError, Registration, WatchdogQuery};
use std::convert::Infallible;

/// The thread of the actors that talk most: a message costs least there.
const ENGINE: &str = "engine";

/// What the services are built from.
pub(super) struct Parts {
    pub(super) scheduler: SchedulerParts,
    pub(super) updater: UpdaterParts,
    pub(super) saver: StateSaverParts,
    pub(super) leases: LeaseKeeperParts,
    pub(super) house: HousekeeperParts,
    pub(super) logging: LoggingParts,
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
        .accepts::<Flush>()
        .built_by(move |context| Updater::new(context, parts.updater.clone()));
    query.register(writer, keeper)?;
    let fetchers = Registration::<FetcherPool>::new(names::FETCHER_POOL)
        .critical()
        .on_thread(ENGINE)
        .settings(settings.ledgers.clone())
        .answers::<Fetch>()
        .built_by(FetcherPool::new);
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
        .settings(settings.retention.clone())
        .built_by(move |context| Housekeeper::new(context, parts.house.clone()));
    query.register(housekeeper, keeper)?;
    let logging = Registration::<Logging>::new(names::LOGGING)
        .on_thread(ENGINE)
        .settings(settings.log.clone())
        .built_by(move |context| Logging::new(context, parts.logging.clone()));
    query.register(logging, keeper)?;
    let capability = query.clone();
    let supervisor = Registration::<Supervisor>::new(names::SUPERVISOR)
        .critical()
        .built_by(move |context| Ok::<_, Infallible>(Supervisor::new(context, capability.clone())));
    query.register(supervisor, Keeper::Root)
}
