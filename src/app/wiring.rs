//! Builds the parts and wires them: the register of services, who talks to
//! whom, settings, states, leases and HTTP.

use super::drain::drain;
use super::lock::DatabaseLock;
use super::reload::{Applied, SettingsFan};
use super::{AppError, Launch, Reloader};
use crate::actors::{
    Beating, FetcherPool, FetcherPoolParts, Housekeeper, HousekeeperParts, LeaseKeeper,
    LeaseKeeperParts, Logging, LoggingParts, Scheduler, SchedulerParts, StateSaver,
    StateSaverParts, Supervisor, Updater, UpdaterParts,
};
use crate::config::{DatabaseLocation, Settings};
use crate::flows::batches::{BatchesHealth, BatchesView};
use crate::http::{self, HttpState, ReloadReport};
use crate::leases::Holdings;
use crate::messages::{Commit, Drain, Fetch, Flush, InFlight, SaveStates, Settled, Wake};
use crate::store::{BatchWriter, Store};
use crate::telemetry;
use crate::time::Timestamp;
use crate::watchdog::{self, Intercom, Keeper, Registration, Watchdog};
use actix::Arbiter;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};

/// Names of the services, as the watchdog and the pages know them.
pub(super) mod names {
    pub(in crate::app) const SUPERVISOR: &str = "supervisor";
    pub(in crate::app) const SCHEDULER: &str = "scheduler";
    pub(in crate::app) const FETCHER_POOL: &str = "fetcher_pool";
    pub(in crate::app) const UPDATER: &str = "updater";
    pub(in crate::app) const STATE_SAVER: &str = "state_saver";
    pub(in crate::app) const LEASE_KEEPER: &str = "lease_keeper";
    pub(in crate::app) const HOUSEKEEPER: &str = "housekeeper";
    pub(in crate::app) const LOGGING: &str = "logging";
}

/// Version of the Scheduler's saved state.
const HEALTH_VERSION: i32 = 1;
/// Transactions that the Updater has under way at once on PostgreSQL: while one
/// waits for its commit the next is prepared. Their rows are never the same.
const POSTGRES_WRITERS: usize = 2;
/// Workers of the HTTP server.
const HTTP_WORKERS: usize = 2;

/// Told when the server is ready.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Where it listens.
    pub http_addr: SocketAddr,
    /// Stops it.
    pub stop: StopHandle,
    /// Its services, for tests of supervision.
    pub watchdog: Watchdog,
}

/// Stops a server from inside the process, as SIGTERM would.
#[derive(Clone, Debug, Default)]
pub struct StopHandle {
    bell: Arc<Notify>,
}

impl StopHandle {
    /// Begins the drain; a second call cuts it short.
    pub fn stop(&self) {
        self.bell.notify_one();
    }
}

/// What a running server is made of, as the drain needs it.
pub(super) struct Engine {
    pub(super) watchdog: Watchdog,
    pub(super) store: Store,
    pub(super) holder: Arc<str>,
    pub(super) in_flight: InFlight,
    pub(super) drain: Intercom<Drain>,
    pub(super) flush: Intercom<Flush>,
    pub(super) save: Intercom<SaveStates>,
    pub(super) holdings: watch::Receiver<Arc<Holdings>>,
    pub(super) beating: Arc<tokio::sync::Mutex<Beating>>,
    pub(super) draining: watch::Sender<bool>,
    pub(super) http: actix_web::dev::ServerHandle,
    pub(super) shutdown_timeout: Duration,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    stop: StopHandle,
}

pub(super) enum Told {
    Stop(&'static str),
    Reload,
}

impl Signals {
    fn watch(stop: StopHandle) -> Result<Self, AppError> {
        let watch = |kind| signal(kind).map_err(AppError::Runtime);
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
            hangup: watch(SignalKind::hangup())?,
            stop,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            () = self.stop.bell.notified() => Told::Stop("stop"),
            _ = self.hangup.recv() => Told::Reload,
        }
    }
}

/// Runs a server on the current actix system; network and database work runs
/// on `runtime`.
pub(super) async fn serve(launch: Launch, runtime: tokio::runtime::Handle) -> Result<(), AppError> {
    let Launch {
        config,
        reload,
        on_ready,
    } = launch;
    let settings = config.settings;
    let stop = StopHandle::default();
    let mut signals = Signals::watch(stop.clone())?;
    let lock = match &settings.database.location {
        DatabaseLocation::Sqlite(path) => Some(DatabaseLock::acquire(path)?),
        DatabaseLocation::Postgres(_) => None,
    };
    let (store, saved) = tokio::select! {
        opened = open_store(&settings, &runtime) => opened?,
        () = told_to_stop(&mut signals) => return Err(AppError::CutShort(
            "told to stop while the database was being opened".to_owned(),
        )),
    };
    let holder: Arc<str> = holder_name().into();
    let fan = Arc::new(SettingsFan::new(&settings));
    let watchdog = Watchdog::new(runtime.clone());
    let in_flight = InFlight::default();
    let (view_sender, view) = watch::channel(Arc::new(BatchesView::default()));
    let (holdings_sender, holdings) = watch::channel(Arc::new(Holdings::default()));
    let (draining, draining_reader) = watch::channel(false);
    let (health, health_copy) = restore_health(&saved);
    let (trouble_sender, lease_trouble) = watch::channel(None);
    let beating = Arc::new(tokio::sync::Mutex::new(Beating::default()));

    let scheduler = Registration::<Scheduler>::new(names::SCHEDULER)
        .critical()
        .accepts::<Settled>()
        .accepts::<Wake>()
        .accepts::<Drain>();
    let fetchers = Registration::<FetcherPool>::new(names::FETCHER_POOL)
        .critical()
        .accepts::<Fetch>();
    let updater = Registration::<Updater>::new(names::UPDATER)
        .critical()
        .accepts::<Commit>()
        .accepts::<Flush>();
    let saver = Registration::<StateSaver>::new(names::STATE_SAVER).accepts::<SaveStates>();
    let wake = scheduler.intercom::<Wake>()?;
    let drain_line = scheduler.intercom::<Drain>()?;
    let flush = updater.intercom::<Flush>()?;
    let save = saver.intercom::<SaveStates>()?;

    let scheduler_parts = SchedulerParts {
        store: store.clone(),
        settings: fan.scheduler.reader(),
        fetchers: fetchers.intercom::<Fetch>()?,
        in_flight: in_flight.clone(),
        holdings: holdings.clone(),
        health,
        draining: draining_reader.clone(),
        view: Arc::new(view_sender),
    };
    let fetcher_parts = FetcherPoolParts {
        settings: fan.ledgers.reader(),
        updater: updater.intercom::<Commit>()?,
    };
    let updater_parts = UpdaterParts {
        batches: BatchWriter {
            store: store.clone(),
            holder: holder.to_string(),
        },
        settings: fan.updater.reader(),
        scheduler: scheduler.intercom::<Settled>()?,
        writers: if store.is_sqlite() {
            1
        } else {
            POSTGRES_WRITERS
        },
    };
    let saver_parts = StateSaverParts {
        store: store.clone(),
        states: vec![health_copy],
    };
    let lease_parts = LeaseKeeperParts {
        store: store.clone(),
        holder: holder.clone(),
        alone: store.is_sqlite(),
        settings: fan.leases.reader(),
        holdings: Arc::new(holdings_sender),
        trouble: Arc::new(trouble_sender),
        beating: beating.clone(),
    };
    let house_parts = HousekeeperParts {
        store: store.clone(),
        settings: fan.retention.reader(),
    };
    let log_runtime = runtime.clone();
    let logging_parts = LoggingParts {
        settings: fan.log.reader(),
        apply: Arc::new(move |settings| {
            let applied = telemetry::apply_log_settings(settings, &log_runtime);
            applied.map_err(|error| error.to_string())
        }),
    };

    // Actors that talk most share a thread: a message costs least there.
    let engine_arbiter = Arbiter::new();
    let engine = engine_arbiter.handle();
    let main = Arbiter::current();
    let register = Keeper::Supervisor;
    let build = move |context| StateSaver::new(context, saver_parts.clone());
    watchdog.register(saver.built_by(build), &engine, register);
    let build = move |context| Updater::new(context, updater_parts.clone());
    watchdog.register(updater.built_by(build), &engine, register);
    let build = move |context| FetcherPool::new(context, fetcher_parts.clone());
    watchdog.register(fetchers.built_by(build), &engine, register);
    let build = move |context| Scheduler::new(context, scheduler_parts.clone());
    watchdog.register(scheduler.built_by(build), &engine, register);
    let keeper = Registration::<LeaseKeeper>::new(names::LEASE_KEEPER).critical();
    let build = move |context| LeaseKeeper::new(context, lease_parts.clone());
    watchdog.register(keeper.built_by(build), &engine, register);
    let housekeeper = Registration::<Housekeeper>::new(names::HOUSEKEEPER);
    let build = move |context| Housekeeper::new(context, house_parts.clone());
    watchdog.register(housekeeper.built_by(build), &engine, register);
    let logging = Registration::<Logging>::new(names::LOGGING);
    let build = move |context| Logging::new(context, logging_parts.clone());
    watchdog.register(logging.built_by(build), &engine, register);
    let supervisor = Registration::<Supervisor>::new(names::SUPERVISOR).critical();
    watchdog.register(supervisor.built_by(Supervisor::new), &main, Keeper::Root);
    let root = actix_rt::spawn(keep_supervisor(watchdog.clone()));

    let listen = settings.http.listen;
    let failed = |source| AppError::Listen { listen, source };
    let listener = TcpListener::bind(listen).map_err(failed)?;
    let http_addr = listener.local_addr().map_err(failed)?;
    let (settings_sender, settings_reader) = watch::channel(Arc::new(settings));
    let (reload_sender, reload_report) = watch::channel(ReloadReport::default());
    let state = HttpState {
        store: store.clone(),
        settings: settings_reader,
        batches: view,
        services: {
            let watchdog = watchdog.clone();
            Arc::new(move || watchdog.status())
        },
        wake: Arc::new(move |ledger| {
            // A Scheduler that is away looks at everything when it is back.
            drop(wake.post(Wake {
                ledger: Some(ledger.to_owned()),
            }));
        }),
        metrics: Arc::new(telemetry::render_metrics),
        reload: reload_report,
        draining: draining_reader,
        lease_trouble,
        started_at: Timestamp::now(),
        holder: holder.clone(),
    };
    watchdog.start_all();
    let server = http::server(state, listener, HTTP_WORKERS).map_err(failed)?;
    let http = server.handle();
    actix_rt::spawn(server);
    tracing::info!(http.listen = %http_addr, database.location = %store.location(), server.holder = %holder, "ready");
    if let Some(on_ready) = on_ready {
        on_ready(Ready {
            http_addr,
            stop,
            watchdog: watchdog.clone(),
        });
    }

    let engine = Engine {
        watchdog,
        store,
        holder,
        in_flight,
        drain: drain_line,
        flush,
        save,
        holdings,
        beating,
        draining,
        http,
        shutdown_timeout: Duration::ZERO,
    };
    let told = obey(
        &mut signals,
        &fan,
        reload.as_ref(),
        &settings_sender,
        &reload_sender,
    )
    .await;
    tracing::info!(process.signal = told, "draining");
    let shutdown_timeout = settings_sender.borrow().server.shutdown_timeout;
    let engine = Engine {
        shutdown_timeout,
        ..engine
    };
    let again = async { while !matches!(signals.next().await, Told::Stop(_)) {} };
    let result = tokio::select! {
        result = drain(&engine) => result,
        () = again => Err(AppError::CutShort("told to stop a second time".to_owned())),
    };
    root.abort();
    engine.store.close();
    engine_arbiter.stop();
    drop(lock);
    tracing::info!("stopped");
    result
}

/// Waits until told to stop, passing over reloads.
async fn told_to_stop(signals: &mut Signals) {
    while !matches!(signals.next().await, Told::Stop(_)) {}
}

/// Reloads when told to, until told to stop.
async fn obey(
    signals: &mut Signals,
    fan: &Arc<SettingsFan>,
    reload: Option<&Reloader>,
    settings: &watch::Sender<Arc<Settings>>,
    report: &watch::Sender<ReloadReport>,
) -> &'static str {
    loop {
        match signals.next().await {
            Told::Stop(word) => return word,
            Told::Reload => {
                let Some(reload) = reload else {
                    tracing::warn!("SIGHUP is ignored: there is no configuration file");
                    continue;
                };
                let mut told = ReloadReport {
                    at: Some(Timestamp::now()),
                    ..ReloadReport::default()
                };
                match reload() {
                    Ok(loaded) => match fan.apply(loaded, settings) {
                        Applied::Whole => tracing::info!("configuration reloaded"),
                        Applied::Except(keys) => {
                            tracing::warn!(config.keys = ?keys, "configuration reloaded, except for what needs a restart");
                            told.needs_restart = keys;
                        }
                        Applied::Refused(problem) => {
                            tracing::error!(config.problem = %problem, "the reload changed nothing");
                            told.problem = Some(problem);
                        }
                    },
                    Err(errors) => {
                        for error in errors.errors() {
                            tracing::error!(config.problem = %error, "the reload changed nothing");
                        }
                        told.problem = Some(errors.to_string());
                    }
                }
                report.send_replace(told);
            }
        }
    }
}

/// The root of supervision: keeps the Supervisor, which keeps the others.
async fn keep_supervisor(watchdog: Watchdog) {
    loop {
        let next = watchdog.attend(Keeper::Root, Instant::now());
        let pause = next.map_or(Duration::from_secs(60), |at| {
            at.saturating_duration_since(Instant::now())
        });
        // Either way the register says what is to be done.
        drop(tokio::time::timeout(pause, watchdog.bell(Keeper::Root)).await);
    }
}

async fn open_store(
    settings: &Settings,
    runtime: &tokio::runtime::Handle,
) -> Result<(Store, Vec<crate::store::SavedState>), AppError> {
    let database = settings.database.clone();
    let location = match &database.location {
        DatabaseLocation::Sqlite(path) => format!("sqlite://{}", path.display()),
        DatabaseLocation::Postgres(url) => url.to_string(),
    };
    let open = runtime.spawn(async move {
        let store = Store::open(&database).await?;
        let saved = store.saved_states().await?;
        Ok((store, saved))
    });
    let opened = open
        .await
        .unwrap_or_else(|error| Err(crate::store::StoreError::Internal(error.to_string())));
    opened.map_err(|source| AppError::Store { location, source })
}

/// The Scheduler's state, as saved, or empty.
fn restore_health(
    saved: &[crate::store::SavedState],
) -> (watchdog::StateHandle<BatchesHealth>, watchdog::StateCopy) {
    let saved = saved
        .iter()
        .find(|state| state.service == names::SCHEDULER)
        .map(|state| (state.version, state.value.as_str()));
    let (handle, copy, problem) = watchdog::state(names::SCHEDULER, HEALTH_VERSION, saved);
    if let Some(problem) = problem {
        tracing::warn!(service.name = names::SCHEDULER, error = %problem, "the saved state is not used");
    }
    (handle, copy)
}

/// A name for this server that no other has: host, process, and chance.
fn holder_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
        .take(64)
        .collect();
    let host = if host.is_empty() {
        "server".to_owned()
    } else {
        host
    };
    format!(
        "{host}-{}-{:08x}",
        std::process::id(),
        rand::random::<u32>()
    )
}
