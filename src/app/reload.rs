//! Settings, handed to each service: only what changed for it.

use super::datasets::{histories, retention};
use super::replicas::{self, Replicas};
use super::resources::Resources;
use super::seed_servers::SeedServers;
use super::subscriptions::Subscriptions;
use crate::actors::{LeaseSettings, PoolSettings, SchedulerSettings, UpdaterSettings};
use crate::config::{self, HttpSettings, Settings};
use crate::flows::sites::Shard;
use crate::handlers::Listeners;
use crate::leases::{batches_lease, events_lease, sites_lease};
use crate::messages::names;
use crate::telemetry;
use crate::watchdog::{LookupError, RestartPolicy, WatchdogLimits, WatchdogQuery};
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the log's outputs may take to be opened for a check.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

/// Hands settings to the services that they are of.
pub(super) struct SettingsFan {
    query: WatchdogQuery,
    resources: Resources,
    /// What may wait for a disk waits there.
    runtime: Handle,
    /// The program's code for jobs.
    listeners: Listeners,
    /// The Subscribers; `None` until they are wired.
    subscriptions: Option<Subscriptions>,
    /// The Followers; `None` until they are wired.
    replicas: Option<Replicas>,
    /// The servers of the seed's wire; `None` until they are wired.
    seeds: Option<SeedServers>,
}

/// How much of a reload was applied.
pub(super) enum Applied {
    /// All of it.
    Whole,
    /// All but these keys, which need a restart.
    Except(Vec<String>),
}

impl SettingsFan {
    pub(super) const fn new(
        query: WatchdogQuery,
        resources: Resources,
        runtime: Handle,
        listeners: Listeners,
    ) -> Self {
        Self {
            query,
            resources,
            runtime,
            listeners,
            subscriptions: None,
            replicas: None,
            seeds: None,
        }
    }

    /// From now on these follow the settings too.
    pub(super) fn keep(&mut self, subscriptions: Subscriptions, replicas: Replicas) {
        self.subscriptions = Some(subscriptions);
        self.replicas = Some(replicas);
    }

    /// From now on these follow the settings too.
    pub(super) fn serve(&mut self, seeds: SeedServers) {
        self.seeds = Some(seeds);
    }

    /// Why settings that are sound cannot be put to use. Waits for the disk of
    /// a log file, off this thread and not for long; and for an address of the
    /// seed's wire that is given up at this moment.
    pub(super) async fn check(&self, old: &Settings, new: &Settings) -> Result<(), String> {
        // Also a job that control gives to servers.
        let mut jobs = new.jobs.iter().filter(|job| job.server);
        if let Some(problem) = jobs.find_map(|job| self.listeners.lacks(job)) {
            return Err(problem);
        }
        let mut subscriptions = new.subscriptions.iter();
        if let Some(problem) = subscriptions.find_map(|of| self.listeners.lacks_events(of)) {
            return Err(problem);
        }
        if old.log != new.log {
            let log = new.log.clone();
            let check =
                move || telemetry::check_log_settings(&log).map_err(|error| error.to_string());
            within(CHECK_WITHIN, self.runtime.spawn_blocking(check)).await?;
        }
        // The last one: what it binds is held for what is applied now.
        match &self.seeds {
            Some(seeds) => seeds.bind(new).await.map_err(|not| not.told()),
            None => Ok(()),
        }
    }

    /// Tells each service what changed for it; answers why some were not. One
    /// that cannot be told is no reason to leave out the others.
    fn tell(&self, settings: &Settings) -> Vec<LookupError> {
        self.query.configure(limits(settings));
        self.resources.configure(settings);
        // Clients first, so that new work finds them.
        let query = &self.query;
        let (subscriptions, replicas) = (self.subscriptions.as_ref(), self.replicas.as_ref());
        let told = [
            query
                .update_settings(names::FETCHER_POOL, pool(settings))
                .map(drop),
            query
                .update_settings(names::UPDATER, updater(settings))
                .map(drop),
            query
                .update_settings(names::SCHEDULER, scheduler(settings))
                .map(drop),
            subscriptions.map_or(Ok(()), |subscriptions| subscriptions.follow(settings)),
            replicas.map_or(Ok(()), |replicas| replicas.follow(&settings.replicas)),
            query
                .update_settings(names::LEASE_KEEPER, leases(settings))
                .map(drop),
            query
                .update_settings(names::HOUSEKEEPER, retention(settings))
                .map(drop),
            query
                .update_settings(names::LOGGING, settings.log.clone())
                .map(drop),
        ];
        told.into_iter().filter_map(Result::err).collect()
    }

    /// Applies what can be changed live; the rest keeps its value in force.
    pub(super) fn apply(
        &self,
        settings: &Settings,
        current: &watch::Sender<Arc<Settings>>,
    ) -> Applied {
        let mut settings = settings.clone();
        let old = current.borrow().clone();
        let diff = config::diff(&old, &settings);
        settings.database = old.database.clone();
        let mut restart: Vec<String> = diff.restart.iter().map(ToString::to_string).collect();
        if settings.http.listen != old.http.listen {
            settings.http.listen = old.http.listen;
            if !old.http.listen.ip().is_loopback() {
                // The open address stays until the restart, and so do its tokens.
                restart.extend(keep_tokens(&old.http, &mut settings.http));
            }
        }
        tracing::info!(
            ledgers.added = ?diff.ledgers_added,
            ledgers.removed = ?diff.ledgers_removed,
            ledgers.changed = ?diff.ledgers_changed,
            apps.added = ?diff.apps_added,
            apps.removed = ?diff.apps_removed,
            apps.changed = ?diff.apps_changed,
            jobs.added = ?diff.jobs_added,
            jobs.removed = ?diff.jobs_removed,
            jobs.changed = ?diff.jobs_changed,
            gateways.added = ?diff.gateways_added,
            gateways.removed = ?diff.gateways_removed,
            gateways.changed = ?diff.gateways_changed,
            subscriptions.added = ?diff.subscriptions_added,
            subscriptions.removed = ?diff.subscriptions_removed,
            subscriptions.changed = ?diff.subscriptions_changed,
            datasets.added = ?diff.datasets_added,
            datasets.removed = ?diff.datasets_removed,
            datasets.changed = ?diff.datasets_changed,
            replicas.added = ?diff.replicas_added,
            replicas.removed = ?diff.replicas_removed,
            replicas.changed = ?diff.replicas_changed,
            sections.changed = ?diff.sections,
            "configuration changes"
        );
        for error in self.tell(&settings) {
            tracing::error!(error = %error, "a service was not told its settings");
        }
        if let Some(seeds) = &self.seeds {
            let failed = seeds.follow(&settings).into_iter();
            restart.extend(failed.map(|name| format!("datasets.{name}.seed_listen")));
        }
        current.send_replace(Arc::new(settings));
        if restart.is_empty() {
            Applied::Whole
        } else {
            Applied::Except(restart)
        }
    }
}

/// The outcome of a check that may hang with its disk.
async fn within(time: Duration, check: JoinHandle<Result<(), String>>) -> Result<(), String> {
    match tokio::time::timeout(time, check).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Err(format!("the log's outputs could not be checked: {error}")),
        Err(_) => Err(format!(
            "the log's outputs could not be checked within {} s: the disk of log.file.path does not answer; name another file, or try again",
            time.as_secs()
        )),
    }
}

/// Keeps the tokens that the new settings lack; answers their keys.
fn keep_tokens(old: &HttpSettings, new: &mut HttpSettings) -> Vec<String> {
    let mut kept = Vec::new();
    let mut keep = |key: &str, old: &Option<SecretString>, new: &mut Option<SecretString>| {
        if new.is_none() && old.is_some() {
            new.clone_from(old);
            kept.push(format!("http.{key}"));
        }
    };
    keep(
        "control_token_file",
        &old.control_token,
        &mut new.control_token,
    );
    keep(
        "intake_token_file",
        &old.intake_token,
        &mut new.intake_token,
    );
    keep("read_token_file", &old.read_token, &mut new.read_token);
    kept
}

/// What the watchdog holds all services to.
pub(super) fn limits(settings: &Settings) -> WatchdogLimits {
    let watchdog = &settings.watchdog;
    WatchdogLimits {
        restart: RestartPolicy {
            min: watchdog.restart_backoff.min,
            max: watchdog.restart_backoff.max,
            quiet: watchdog.restart_quiet,
            intensity: watchdog.restart_limit,
            period: watchdog.restart_period,
        },
        deadline: watchdog.deadline,
        lost_threads: watchdog.lost_threads,
    }
}

pub(super) fn scheduler(settings: &Settings) -> SchedulerSettings {
    SchedulerSettings {
        batches: settings.batches.clone(),
        ledgers: settings.ledgers.clone(),
        sites: settings.sites.clone(),
        jobs: settings.jobs.clone(),
    }
}

pub(super) fn pool(settings: &Settings) -> PoolSettings {
    PoolSettings {
        ledgers: settings.ledgers.clone(),
        sites: settings.sites.clone(),
        apps: settings.apps.clone(),
        jobs: settings.jobs.clone(),
    }
}

pub(super) fn updater(settings: &Settings) -> UpdaterSettings {
    UpdaterSettings {
        batches: settings.batches.clone(),
        sites: settings.sites.clone(),
        polls_per_site: settings.retention.polls_per_site,
        events: settings.events.clone(),
        replication: settings.replication.clone(),
        histories: histories(settings),
    }
}

pub(super) fn leases(settings: &Settings) -> LeaseSettings {
    let ledgers = settings.ledgers.iter();
    let jobs = settings.jobs.iter().filter(|job| job.server);
    let shards =
        jobs.flat_map(|job| Shard::all(job.batches).map(|shard| sites_lease(&job.key, shard)));
    let subscriptions = settings.subscriptions.iter();
    LeaseSettings {
        wanted: ledgers
            .map(|ledger| batches_lease(&ledger.name))
            .chain(shards)
            .chain(subscriptions.map(|subscription| events_lease(subscription.name.as_str())))
            .chain(replicas::leases(&settings.replicas))
            .collect(),
        // A little less, so that a takeover is done within the lease's time.
        ttl: settings
            .server
            .lease
            .max(Duration::from_secs(1))
            .mul_f64(0.9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, parse};
    use crate::watchdog::{Keeper, Registration, ServiceContext};
    use actix::{Actor, Context};
    use std::convert::Infallible;
    use std::path::Path;

    const BASE: &str = "[[ledgers]]\nname = 'a'\nkind = 'sawtooth'\nurl = 'http://h'\n";

    fn settings(text: &str) -> Settings {
        let base = Path::new("/base");
        parse(text, "t.toml", base, [], LoadOptions::default())
            .unwrap_or_else(|errors| panic!("{errors}"))
            .settings
    }

    /// Stands for each service.
    struct Idle(#[expect(dead_code, reason = "kept as services keep it")] ServiceContext);

    impl Actor for Idle {
        type Context = Context<Self>;
    }

    /// Which services hear of a change from the base.
    fn told(text: &str) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (query, _orders) = WatchdogQuery::new(runtime.handle().clone());
        let base = settings(BASE);
        let idle = |service: Registration<Idle>| {
            let service = service.built_by(|context| Ok::<_, Infallible>(Idle(context)));
            query.register(service, Keeper::Supervisor).unwrap();
        };
        idle(Registration::new(names::SCHEDULER).settings(scheduler(&base)));
        idle(Registration::new(names::FETCHER_POOL).settings(pool(&base)));
        idle(Registration::new(names::UPDATER).settings(updater(&base)));
        idle(Registration::new(names::LEASE_KEEPER).settings(leases(&base)));
        idle(Registration::new(names::HOUSEKEEPER).settings(retention(&base)));
        idle(Registration::new(names::LOGGING).settings(base.log.clone()));
        let current = watch::Sender::new(Arc::new(base));
        let resources = Resources::new(&settings(BASE), true);
        SettingsFan::new(
            query.clone(),
            resources,
            runtime.handle().clone(),
            Listeners::default(),
        )
        .apply(&settings(text), &current);
        let services = query.list().into_iter();
        services
            .filter(|service| service.settings_changes == Some(1))
            .map(|service| service.name)
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_refuses_the_settings_after_a_while() {
        let hangs = tokio::spawn(std::future::pending());
        let begun = tokio::time::Instant::now();
        let told = within(CHECK_WITHIN, hangs).await.unwrap_err();
        assert_eq!(begun.elapsed(), CHECK_WITHIN);
        assert!(told.contains("log.file.path does not answer"), "{told}");
        let fine = tokio::spawn(async { Ok(()) });
        assert_eq!(within(CHECK_WITHIN, fine).await, Ok(()));
    }

    #[tokio::test]
    async fn a_check_opens_the_log_file_removes_nothing_and_looks_for_code() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("log.2020-01-01");
        std::fs::write(&old, "old").unwrap();
        std::fs::write(folder.path().join("log.2020-01-02"), "old").unwrap();
        let runtime = Handle::current();
        let (query, _orders) = WatchdogQuery::new(runtime.clone());
        let base = settings(BASE);
        let fan = SettingsFan::new(
            query,
            Resources::new(&base, true),
            runtime,
            Listeners::default(),
        );
        let path = folder.path().display();
        let with = |file: &str| {
            settings(&format!(
                "log.file = {{ path = '{path}/{file}', keep = 1 }}\n{BASE}"
            ))
        };
        assert_eq!(fan.check(&base, &with("log")).await, Ok(()));
        assert!(old.exists());
        let told = fan.check(&base, &with("log.2020-01-01/log")).await;
        assert!(told.unwrap_err().contains("correct log.file.path"));

        // Control may give a job to servers whose code this program lacks.
        let job = |server: bool| {
            settings(&format!(
                "[[jobs]]\napp = 'a'\nserver = {server}\nhandler.code = {{}}\n{BASE}"
            ))
        };
        assert_eq!(fan.check(&base, &job(false)).await, Ok(()));
        let told = fan.check(&job(false), &job(true)).await;
        assert!(told.unwrap_err().contains("app:a:job=default:poll"));
    }

    #[test]
    fn a_reload_hands_each_service_only_what_changed_for_it() {
        let nobody: [&str; 0] = [];
        assert_eq!(told(BASE), nobody);
        let with = |section: &str| told(&format!("{section}\n{BASE}"));
        // Both work on batches.
        let batches = with("[batches]\npoll_interval = '2s'");
        assert_eq!(batches, ["scheduler", "updater"]);
        assert_eq!(with("[retention]\nsettled_batches = '9d'"), ["housekeeper"]);
        assert_eq!(with("[server]\nlease = '20s'"), ["lease_keeper"]);
        assert_eq!(with("[server]\nshutdown_timeout = '9s'"), nobody);
        assert_eq!(with("[log]\nfilter = 'warn'"), ["logging"]);
        assert_eq!(with("[http]\nmax_body_bytes = '1MiB'"), nobody);
        assert_eq!(with("[database]\nconnections = 3"), nobody);
        let added = format!("{BASE}{}", BASE.replace("'a'", "'b'"));
        assert_eq!(told(&added), ["scheduler", "fetcher_pool", "lease_keeper"]);
        assert_eq!(told(""), ["scheduler", "fetcher_pool", "lease_keeper"]);
        let changed = format!("{BASE}connections = 3");
        assert_eq!(told(&changed), ["scheduler", "fetcher_pool"]);
    }
}
