//! Builds the parts and wires them: the register of services, who talks to
//! whom, settings, states, leases and HTTP.

use super::datasets::{contents, replica_writer, served};
use super::drain::{AFTER_FETCHES, drain};
use super::holder::holder_name;
use super::hooks::{knower, looker, recorder, refuser};
use super::live::Live;
use super::lock::DatabaseLock;
use super::notify::Notifier;
use super::reload::limits;
use super::replicas::{self, Replicas};
use super::resources::Resources;
use super::seed_servers::SeedServers;
use super::services::{Parts, register};
use super::signals::{Signals, StopHandle, SystemdReload, obey, told_to_stop, told_to_stop_again};
use super::sources::{Sources, prepare};
use super::streams::{Streams, batch_news};
use super::subscriptions::{Subscriptions, connect};
use super::{AppError, Launch, followers, states};
use crate::actors::{
    AtWork, Beating, FollowerParts, HousekeeperParts, LeaseKeeperParts, LoggingParts, PoolParts,
    SchedulerParts, StateSaverParts, SubscriberParts, UpdaterParts,
};
use crate::config::{DatabaseLocation, Settings, owners};
use crate::flows::batches::BatchesView;
use crate::flows::events::EventsView;
use crate::flows::replicas::{Heads, ReplicasView};
use crate::flows::sites::{SitesView, Spreads};
use crate::http::{self, HttpState};
use crate::leases::Holdings;
use crate::ledgers::LedgerNews;
use crate::messages::{Drain, Flush, InFlight, Record, SaveStates, Wake, names};
use crate::store::{BatchWriter, Store};
use crate::telemetry;
use crate::time::Timestamp;
use crate::watchdog::{
    Intercom, Sentinel, ServiceState, ServiceStatus, StateSource, WatchdogQuery,
};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

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
    /// The capability to control it: services, settings, the process.
    pub query: WatchdogQuery,
    /// What it shares out, for tests of that.
    pub resources: Resources,
}

/// What a running server is made of, as the drain needs it.
pub(super) struct Engine {
    pub(super) query: WatchdogQuery,
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
    pub(super) seeds: SeedServers,
    pub(super) at_work: AtWork,
    pub(super) shutdown_timeout: Duration,
}

/// Runs a server on the current actix system; network and database work runs
/// on `runtime`.
pub(super) async fn serve(launch: Launch, runtime: tokio::runtime::Handle) -> Result<(), AppError> {
    let Launch {
        config,
        reload,
        on_ready,
        listeners,
    } = launch;
    let settings = config.settings.clone();
    let stop = StopHandle::default();
    let mut signals = Signals::watch(stop.clone())?;
    let notifier = Notifier::from_environment();
    notifier.status("opening the database");
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
    let (query, mut orders) = WatchdogQuery::new(runtime.clone());
    let watchdog = query.watchdog().clone();
    query.configure(limits(&settings));
    query.remember(states::remembered(&saved));
    let resources = Resources::new(&settings, store.is_sqlite());
    let share_of = |owner| store.sharing(&resources.database, owner);
    let mut live = Live::new(
        config,
        reload,
        query.clone(),
        resources.clone(),
        runtime.clone(),
        listeners.clone(),
    );
    let in_flight = InFlight::default();
    let (view_sender, view) = watch::channel(Arc::new(BatchesView::default()));
    let (sites_view_sender, sites_view) = watch::channel(Arc::new(SitesView::default()));
    let (events_view_sender, events_view) = watch::channel(Arc::new(EventsView::default()));
    let (replicas_view_sender, replicas_view) = watch::channel(Arc::new(ReplicasView::default()));
    let spreads = Spreads::default();
    let (holdings_sender, holdings) = watch::channel(Arc::new(Holdings::default()));
    let (held_until_sender, held_until) = watch::channel(None);
    let (draining, draining_reader) = watch::channel(false);
    let (trouble_sender, lease_trouble) = watch::channel(None);
    let beating = Arc::new(tokio::sync::Mutex::new(Beating::default()));
    let at_work = AtWork::default();
    let news = batch_news(share_of(owners::UPDATER), watchdog.clone());
    let subscriptions = Subscriptions::new(
        query.clone(),
        runtime.clone(),
        SubscriberParts {
            rows: Arc::new(share_of(owners::SCHEDULER)),
            connect: {
                let (listeners, news) = (listeners.clone(), news.clone());
                let news: Arc<dyn LedgerNews> = news;
                Arc::new(move |settings| connect(settings, &listeners, &news))
            },
            holdings: holdings.clone(),
            held_until: held_until.clone(),
            draining: draining_reader.clone(),
            view: Arc::new(events_view_sender),
            at_work: at_work.clone(),
        },
    );
    let settings_reader = live.settings();
    let contents = contents(share_of(owners::HTTP), settings_reader.clone());
    let replicas = Replicas::new(
        query.clone(),
        runtime.clone(),
        FollowerParts {
            rows: Arc::new(share_of(owners::SCHEDULER)),
            contents: contents.clone(),
            connect: Arc::new(replicas::connect),
            fetch_slots: resources.fetch.owner("replicas"),
            holdings: holdings.clone(),
            held_until: held_until.clone(),
            draining: draining_reader.clone(),
            view: Arc::new(replicas_view_sender),
        },
    );
    let heads = Heads::new(contents.clone(), settings_reader.clone(), runtime.clone());
    register(
        &query,
        &settings,
        Parts {
            scheduler: SchedulerParts {
                store: share_of(owners::SCHEDULER),
                in_flight: in_flight.clone(),
                fetch_slots: resources.fetch.clone(),
                holdings: holdings.clone(),
                held_until,
                draining: draining_reader.clone(),
                spreads: spreads.clone(),
                view: Arc::new(view_sender),
                sites_view: Arc::new(sites_view_sender),
            },
            pool: PoolParts {
                in_flight: in_flight.clone(),
                listeners,
            },
            updater: UpdaterParts {
                spreads,
                replicas: replica_writer(share_of(owners::UPDATER), heads.clone()),
                writer: BatchWriter {
                    store: share_of(owners::UPDATER),
                    holder: holder.to_string(),
                },
                in_flight: in_flight.clone(),
                writers: if store.is_sqlite() {
                    1
                } else {
                    POSTGRES_WRITERS
                },
            },
            saver: StateSaverParts {
                store: share_of(owners::UPKEEP),
                states: {
                    let query = query.clone();
                    Arc::new(move || query.states())
                },
            },
            leases: LeaseKeeperParts {
                in_flight: in_flight.clone(),
                store: share_of(owners::LEASES),
                holder: holder.clone(),
                alone: store.is_sqlite(),
                holdings: Arc::new(holdings_sender),
                held_until: Arc::new(held_until_sender),
                trouble: Arc::new(trouble_sender),
                beating: beating.clone(),
            },
            house: HousekeeperParts {
                store: share_of(owners::UPKEEP),
            },
            logging: LoggingParts {
                apply: {
                    let runtime = runtime.clone();
                    Arc::new(move |settings| {
                        let applied = telemetry::apply_log_settings(settings, &runtime);
                        applied.map_err(|error| error.to_string())
                    })
                },
            },
        },
    )?;
    subscriptions.register(&settings)?;
    replicas.register(&settings.replicas)?;
    live.keep(subscriptions.clone(), replicas);
    states::set_unusable_aside(&query, saved, &store, &runtime).await;
    let wake = watchdog.intercom::<Wake>("http", names::SCHEDULER)?;
    let drain_line = watchdog.intercom::<Drain>("drain", names::SCHEDULER)?;
    let flush = watchdog.intercom::<Flush>("drain", names::UPDATER)?;
    let save = watchdog.intercom::<SaveStates>("drain", names::STATE_SAVER)?;

    let listen = settings.http.listen;
    let failed = |source| AppError::Listen { listen, source };
    let listener = TcpListener::bind(listen).map_err(failed)?;
    let http_addr = listener.local_addr().map_err(failed)?;
    let sources = Sources {
        store: share_of(owners::UPDATER),
        heads: heads.clone(),
        settings: settings_reader.clone(),
        draining: draining_reader.clone(),
    };
    let streams = Streams {
        store: share_of(owners::SCHEDULER),
        news,
        settings: settings_reader.clone(),
        holdings: holdings.clone(),
        view: view.clone(),
        draining: draining_reader.clone(),
    };
    let datasets = served(contents, heads, &watchdog)?;
    let followers = followers(replicas_view, watchdog.clone());
    let seeds = SeedServers::new(
        datasets.clone(),
        settings_reader.clone(),
        draining_reader.clone(),
        runtime.clone(),
    );
    seeds.bind(&settings).await?;
    let state = HttpState {
        datasets,
        store: share_of(owners::HTTP),
        settings: settings_reader.clone(),
        batches: view,
        sites: sites_view,
        services: {
            let watchdog = watchdog.clone();
            Arc::new(move || watchdog.status())
        },
        control: query.clone(),
        states: {
            let query = query.clone();
            Arc::new(move || query.states().iter().map(StateSource::status).collect())
        },
        wake_sites: {
            let wake = wake.clone();
            // As above: what is missed is found by the next look.
            Arc::new(move || drop(wake.post(Wake::Sites)))
        },
        sites_left: {
            let wake = wake.clone();
            Arc::new(move |sites| {
                if !sites.is_empty() {
                    drop(wake.post(Wake::SitesLeft(sites.to_vec())));
                }
            })
        },
        wake: Arc::new(move |ledger| {
            // A Scheduler that is away looks at everything when it is back.
            drop(wake.post(Wake::Ledger(ledger.to_owned())));
        }),
        resources: {
            let resources = resources.clone();
            Arc::new(move || resources.status())
        },
        // An Updater that takes no events yet: hooks are told to come again.
        record: recorder(
            watchdog.intercom::<Record>("hooks", names::UPDATER)?,
            watchdog.clone(),
        ),
        know: knower(
            share_of(owners::HTTP),
            runtime.clone(),
            watchdog.clone(),
            subscriptions,
        ),
        events: events_view,
        look_again: looker(watchdog.clone()),
        refused: refuser(watchdog.clone()),
        metrics: Arc::new(telemetry::render_metrics),
        reload: live.report(),
        draining: draining_reader,
        lease_trouble,
        started_at: Timestamp::now(),
        holder: holder.clone(),
    };
    query.start_all();
    // Ends when the server drains.
    runtime.spawn(streams.run());
    runtime.spawn(sources.run());
    let sentinel = Sentinel::start(&query);
    let server = http::server_with(state, followers, listener, HTTP_WORKERS).map_err(failed)?;
    let http = server.handle();
    actix_rt::spawn(server);
    seeds.follow(&settings);
    live.serve(seeds.clone());
    tracing::info!(http.listen = %http_addr, database.location = %store.location(), server.holder = %holder, "ready");
    let serving = format!("serving http://{http_addr}");
    notifier.ready(&serving);
    let alive = {
        let (notifier, watchdog) = (notifier.clone(), watchdog.clone());
        let healthy = move || {
            let failed =
                |service: &ServiceStatus| service.critical && service.state == ServiceState::Failed;
            watchdog.is_well() && !watchdog.status().services.iter().any(failed)
        };
        // On the main thread: while that is blocked, nothing is fed.
        actix_rt::spawn(async move { notifier.keep_alive(healthy).await })
    };
    if let Some(on_ready) = on_ready {
        on_ready(Ready {
            http_addr,
            stop,
            query: query.clone(),
            resources: resources.clone(),
        });
    }

    let engine = Engine {
        query: query.clone(),
        store: store.sharing(&resources.database, owners::LEASES),
        holder,
        in_flight,
        drain: drain_line,
        flush,
        save,
        holdings,
        beating,
        draining,
        http,
        seeds,
        at_work,
        shutdown_timeout: Duration::ZERO,
    };
    let systemd = SystemdReload {
        notifier: &notifier,
        serving: &serving,
    };
    let (told, asked) = obey(&mut signals, &mut orders, &mut live, &systemd).await;
    tracing::info!(process.signal = told, "draining");
    engine.draining.send_replace(true);
    if let Some(asked) = asked {
        drop(asked.send(Ok(())));
    }
    let shutdown_timeout = settings_reader.borrow().server.shutdown_timeout;
    notifier.stopping(&format!("draining ({told})"));
    let engine = Engine {
        shutdown_timeout,
        ..engine
    };
    let again = told_to_stop_again(&mut signals, &mut orders);
    let result = tokio::select! {
        result = drain(&engine) => result,
        () = again => Err(AppError::CutShort("told to stop a second time".to_owned())),
        never = notifier.draining(shutdown_timeout + AFTER_FETCHES) => match never {},
    };
    alive.abort();
    sentinel.stop();
    engine.store.close();
    query.stop_threads();
    drop(lock);
    tracing::info!("stopped");
    result
}

async fn open_store(
    settings: &Settings,
    runtime: &tokio::runtime::Handle,
) -> Result<(Store, Vec<crate::store::SavedState>), AppError> {
    let (database, datasets) = (settings.database.clone(), settings.datasets.clone());
    let location = database.location.to_string();
    let open = runtime.spawn(async move {
        let store = Store::open(&database).await?;
        let saved = store.saved_states().await?;
        // Before anybody asks for one; what fails now is tried again.
        if let Err(error) = prepare(&store, &datasets).await {
            tracing::warn!(error = %error, "datasets are not as configured yet");
        }
        Ok((store, saved))
    });
    let opened = open
        .await
        .unwrap_or_else(|error| Err(crate::store::StoreError::Internal(error.to_string())));
    opened.map_err(|source| AppError::Store { location, source })
}
