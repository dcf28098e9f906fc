//! What the tests of this module share: settings, views, a state on a fresh
//! SQLite file.

use super::followers::{Followers, ReplicaOrder};
use super::state::{Http, HttpState, ReloadReport};
use super::testing_contents::FakeContents;
use crate::config::{
    BatchesSettings, DatabaseLocation, DatabaseSettings, GiveUpAfter, HttpSettings, LedgerRole,
    LedgerSettings, LogFormat, LogSettings, Range, ResourcesSettings, RetentionSettings,
    ServerSettings, Settings, Synchronous, WatchdogSettings,
};
use crate::flows::batches::{
    BatchesView, BreakerPosition, LedgerTotals, LedgerView, ServiceTrouble,
};
use crate::flows::events::{Decision, Heard, Known, OpenEvent, Place, Recorded, SinkError};
use crate::flows::replicas::ReplicasView;
use crate::flows::sites::SitesView;
use crate::ledgers::LedgerKind;
use crate::store::Store;
use crate::time::Timestamp;
use crate::watchdog::{
    IntercomStats, Orders, OwnerStatus, ResourceStatus, ServiceState, ServiceStatus, StateStatus,
    WatchdogQuery, WatchdogStatus,
};
use actix_web::web;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// A batch id of the right shape.
pub(super) fn id(n: usize) -> String {
    format!("{n:0128x}")
}

pub(super) fn ledger(name: &str, kind: LedgerKind) -> LedgerSettings {
    LedgerSettings {
        name: name.into(),
        kind,
        url: "http://127.0.0.1:8008".parse().unwrap(),
        role: LedgerRole::Primary,
        connections: 8,
        ids_per_request: 500,
        timeout: Duration::from_secs(10),
        wait: None,
        max_response_bytes: 8 << 20,
        stream: false,
        token: None,
    }
}

/// Ledgers `trace` (Sawtooth) and `supply` (Splinter), no tokens.
pub(super) fn settings() -> Settings {
    let range = |min, max| Range {
        min: Duration::from_secs(min),
        max: Duration::from_secs(max),
    };
    Settings {
        sites: crate::config::SitesSettings::default(),
        apps: Vec::new(),
        jobs: Vec::new(),
        events: crate::config::EventsSettings::default(),
        gateways: Vec::new(),
        subscriptions: Vec::new(),
        replication: crate::config::ReplicationSettings::default(),
        datasets: Vec::new(),
        replicas: Vec::new(),
        database: DatabaseSettings {
            location: DatabaseLocation::Sqlite("unused.db".into()),
            schema: "highwater".into(),
            connections: 2,
            synchronous: Synchronous::Normal,
        },
        http: HttpSettings {
            listen: ([127, 0, 0, 1], 0).into(),
            control_token: None,
            intake_token: None,
            read_token: None,
            max_body_bytes: 8 << 20,
        },
        server: ServerSettings {
            shutdown_timeout: Duration::from_secs(30),
            lease: Duration::from_secs(10),
        },
        log: LogSettings {
            filter: "info".into(),
            format: LogFormat::Text,
            stderr: true,
            file: None,
            traces: None,
        },
        batches: BatchesSettings {
            poll_interval: Duration::from_secs(5),
            fallback_poll_interval: Duration::from_secs(60),
            repoll: range(1, 60),
            give_up_after: GiveUpAfter {
                age: Duration::from_secs(86_400),
                polls: None,
            },
            backoff: range(1, 300),
            breaker_failures: 5,
            max_in_flight: 64,
            commit_interval: Duration::from_millis(5),
            commit_rows: 5000,
        },
        resources: ResourcesSettings {
            fetch_slots: 256,
            fetch: Vec::new(),
            database: Vec::new(),
        },
        retention: RetentionSettings {
            settled_batches: Duration::from_secs(30 * 86_400),
            audit: Duration::from_secs(365 * 86_400),
            events: Duration::from_secs(90 * 86_400),
            polls_per_site: 20,
            histories: Default::default(),
        },
        watchdog: WatchdogSettings {
            restart_backoff: range(1, 10),
            restart_quiet: Duration::from_secs(30),
            restart_limit: 10,
            restart_period: Duration::from_secs(60),
            deadline: Duration::from_secs(10),
            lost_threads: 4,
        },
        ledgers: vec![
            ledger("trace", LedgerKind::Sawtooth),
            ledger("supply", LedgerKind::Splinter),
        ],
    }
}

/// A ledger that is held and answers.
pub(super) fn ledger_view(name: &str, kind: LedgerKind) -> LedgerView {
    LedgerView {
        name: name.into(),
        kind,
        url: "http://127.0.0.1:8008/".into(),
        role: LedgerRole::Primary,
        held: true,
        holder: None,
        breaker: BreakerPosition::Closed,
        failures: 0,
        last_error: None,
        last_error_at: None,
        last_success_at: Some(Timestamp::now()),
        retry_at: None,
        in_flight: 2,
        queued: 3,
        failing_services: Vec::new(),
        failing_services_total: 0,
        totals: LedgerTotals::default(),
    }
}

pub(super) fn trouble(service_id: &str) -> ServiceTrouble {
    ServiceTrouble {
        service_id: service_id.into(),
        failures: 3,
        last_error: "no answer within 10s".into(),
        retry_at: Timestamp::now().plus(Duration::from_secs(40)),
    }
}

pub(super) fn service(name: &str, state: ServiceState) -> ServiceStatus {
    ServiceStatus {
        name: name.into(),
        state,
        critical: true,
        since: Timestamp::now(),
        restarts: [("panic".to_owned(), 2)].into(),
        last_error: Some("panicked: <injected>".into()),
        intercoms: vec![IntercomStats {
            from: "updater".into(),
            message: "Fetch".into(),
            messages: 12_345,
            ..IntercomStats::default()
        }],
        ..ServiceStatus::default()
    }
}

/// A state that is saved.
pub(super) fn state_status() -> StateStatus {
    StateStatus {
        service: "scheduler".into(),
        version: 1,
        saved_at: Some(Timestamp::now()),
        bytes: Some(1234),
        unsaved: false,
        failures: 0,
        problem: None,
    }
}

/// A resource that somebody waits for.
pub(super) fn resource(name: &str) -> ResourceStatus {
    ResourceStatus {
        name: name.into(),
        capacity: 8,
        used: 8,
        owners: vec![OwnerStatus {
            owner: "http".into(),
            weight: 2,
            minimum: 1,
            priority: 0,
            entitlement: 3,
            used: 8,
            lent: 5,
            waiting: 1234,
            taken_total: 4000,
            waits_total: 400,
            wait_seconds_total: 2.0,
            wait_mean_seconds: 0.0005,
            wait_longest_seconds: 0.25,
        }],
    }
}

/// An event as it is once it is recorded.
fn open_event(heard: &Heard) -> OpenEvent {
    OpenEvent {
        place: Place {
            block: heard.block.unwrap_or_default(),
            rank: heard.rank,
            arrival: 1,
        },
        tx_id: heard.tx_id.clone(),
        event_id: heard.event_id.clone(),
        event_name: heard.event_name.clone(),
        payload: heard.payload.as_str().into(),
        key: heard.key.clone(),
        occurred_at: heard.occurred_at,
        received_at: Timestamp::now(),
        decision: Decision::Pending,
        attempts: 0,
        attempts_before: 0,
        late: false,
    }
}

/// Events of a subscription, each with whether its block is skipped.
pub(super) type HeardBy = (String, Vec<(Heard, bool)>);

/// A state with handles to change what handlers see.
pub(super) struct Fixture {
    pub(super) http: web::Data<Http>,
    pub(super) settings: watch::Sender<Arc<Settings>>,
    pub(super) view: watch::Sender<Arc<BatchesView>>,
    pub(super) sites: watch::Sender<Arc<SitesView>>,
    pub(super) replicas: watch::Sender<Arc<ReplicasView>>,
    /// What Followers were told.
    pub(super) ordered: Arc<Mutex<Vec<(String, ReplicaOrder)>>>,
    pub(super) reload: watch::Sender<ReloadReport>,
    pub(super) draining: watch::Sender<bool>,
    pub(super) services: Arc<Mutex<Vec<ServiceStatus>>>,
    pub(super) states: Arc<Mutex<Vec<StateStatus>>>,
    pub(super) woken: Arc<Mutex<Vec<String>>>,
    pub(super) store: Store,
    /// What was to be recorded of events.
    pub(super) heard: Arc<Mutex<Vec<HeardBy>>>,
    /// Subscription and lowest block of what the hook did not take.
    pub(super) refused: Arc<Mutex<Vec<(String, i64)>>>,
    /// What was to be made known.
    pub(super) known: Arc<Mutex<Vec<Known>>>,
    /// Why that is refused.
    pub(super) sink_trouble: Arc<Mutex<Option<SinkError>>>,
    /// What was published.
    pub(super) contents: Arc<FakeContents>,
    /// What control asks of the application; carried out by nobody until a
    /// test takes it.
    pub(super) orders: Mutex<Option<Orders>>,
    pub(super) state: HttpState,
    _folder: tempfile::TempDir,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut initial = settings();
        initial.database.location = DatabaseLocation::Sqlite(folder.path().join("test.db"));
        change(&mut initial);
        let store = Store::open(&initial.database).await.unwrap();
        let (settings, settings_reader) = watch::channel(Arc::new(initial));
        let (view, view_reader) = watch::channel(Arc::new(BatchesView {
            ledgers: vec![
                ledger_view("trace", LedgerKind::Sawtooth),
                ledger_view("supply", LedgerKind::Splinter),
            ],
        }));
        let (sites, sites_reader) = watch::channel(Arc::new(SitesView::default()));
        let ordered = Arc::new(Mutex::new(Vec::new()));
        let ordering = Arc::clone(&ordered);
        let (replicas, replicas_reader) = watch::channel(Arc::new(ReplicasView::default()));
        let (reload, reload_reader) = watch::channel(ReloadReport::default());
        let (draining, draining_reader) = watch::channel(false);
        let services = Arc::new(Mutex::new(vec![service(
            "scheduler",
            ServiceState::Running,
        )]));
        let woken = Arc::new(Mutex::new(Vec::new()));
        let states = Arc::new(Mutex::new(vec![state_status()]));
        let kept = Arc::clone(&states);
        let (asked, waking) = (Arc::clone(&services), Arc::clone(&woken));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::new(Mutex::new(Vec::new()));
        let sink_trouble = Arc::new(Mutex::new(None));
        let refused = Arc::new(Mutex::new(Vec::new()));
        let refusing = Arc::clone(&refused);
        let (hearing, knowing) = (Arc::clone(&heard), Arc::clone(&known));
        let (trouble, more_trouble) = (Arc::clone(&sink_trouble), Arc::clone(&sink_trouble));
        let (control, orders) = WatchdogQuery::new(tokio::runtime::Handle::current());
        let contents = Arc::new(FakeContents::default());
        let state = HttpState {
            datasets: contents.datasets(settings_reader.clone()),
            control,
            store: store.clone(),
            settings: settings_reader,
            batches: view_reader,
            sites: sites_reader,
            services: Arc::new(move || WatchdogStatus {
                services: asked.lock().unwrap().clone(),
                lost_threads_limit: 4,
                ..WatchdogStatus::default()
            }),
            states: Arc::new(move || kept.lock().unwrap().clone()),
            resources: Arc::new(|| vec![resource("database")]),
            wake_sites: Arc::new(|| {}),
            sites_left: Arc::new(|_| {}),
            events: watch::channel(Arc::new(crate::flows::events::EventsView::default())).1,
            look_again: Arc::new(|_| {}),
            refused: Arc::new(move |subscription, block| {
                let subscription = subscription.to_string();
                refusing.lock().unwrap().push((subscription, block));
            }),
            record: Arc::new(move |subscription, heard: Vec<(Heard, bool)>| {
                let trouble: Option<SinkError> = trouble.lock().unwrap().clone();
                let skipped = heard.iter().filter(|(_, skipped)| *skipped).count();
                let new = heard.iter().filter(|(_, skipped)| !skipped);
                let recorded = Recorded {
                    new: new.map(|(heard, _)| open_event(heard)).collect(),
                    known: 0,
                    skipped,
                };
                if trouble.is_none() {
                    let mut hearing = hearing.lock().unwrap();
                    hearing.push((subscription.to_string(), heard));
                }
                Box::pin(std::future::ready(trouble.map_or(Ok(recorded), Err)))
            }),
            know: Arc::new(move |known: Known| {
                let trouble: Option<SinkError> = more_trouble.lock().unwrap().clone();
                let count = known.tx_ids.len() + known.keys.len();
                if trouble.is_none() {
                    knowing.lock().unwrap().push(known);
                }
                Box::pin(std::future::ready(trouble.map_or(Ok(count), Err)))
            }),
            wake: Arc::new(move |ledger| waking.lock().unwrap().push(ledger.to_owned())),
            metrics: Arc::new(|| "# TYPE highwater_x_total counter\nhighwater_x_total 1".into()),
            reload: reload_reader,
            draining: draining_reader,
            lease_trouble: watch::channel(None).1,
            started_at: Timestamp::now(),
            holder: "host-1".into(),
        };
        Self {
            http: web::Data::new(
                Http::new(state.clone(), tokio::runtime::Handle::current()).with_followers(
                    Followers {
                        view: replicas_reader,
                        order: Arc::new(move |name, order| {
                            ordering.lock().unwrap().push((name.to_string(), order));
                            true
                        }),
                    },
                ),
            ),
            replicas,
            ordered,
            settings,
            view,
            sites,
            reload,
            draining,
            services,
            states,
            woken,
            store,
            heard,
            known,
            refused,
            sink_trouble,
            contents,
            orders: Mutex::new(Some(orders)),
            state,
            _folder: folder,
        }
    }
}
