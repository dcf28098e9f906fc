//! Settings, handed to each service: only what changed for it.

use super::resources::Resources;
use crate::actors::{LeaseSettings, SchedulerSettings, UpdaterSettings};
use crate::config::{self, HttpSettings, Settings};
use crate::leases::batches_lease;
use crate::messages::names;
use crate::telemetry;
use crate::watchdog::{LookupError, RestartPolicy, WatchdogLimits, WatchdogQuery};
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Hands settings to the services that they are of.
pub(super) struct SettingsFan {
    query: WatchdogQuery,
    resources: Resources,
}

/// How much of a reload was applied.
pub(super) enum Applied {
    /// All of it.
    Whole,
    /// All but these keys, which need a restart.
    Except(Vec<String>),
}

impl SettingsFan {
    pub(super) const fn new(query: WatchdogQuery, resources: Resources) -> Self {
        Self { query, resources }
    }

    /// Tells each service what changed for it.
    fn tell(&self, settings: &Settings) -> Result<(), LookupError> {
        self.query.configure(limits(settings));
        self.resources.configure(settings);
        // Clients first, so that new work finds them.
        let query = &self.query;
        query.update_settings(names::FETCHER_POOL, settings.ledgers.clone())?;
        query.update_settings(names::UPDATER, updater(settings))?;
        query.update_settings(names::SCHEDULER, scheduler(settings))?;
        query.update_settings(names::LEASE_KEEPER, leases(settings))?;
        query.update_settings(names::HOUSEKEEPER, settings.retention.clone())?;
        Ok(())
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
            sections.changed = ?diff.sections,
            "configuration changes"
        );
        if old.log != settings.log {
            telemetry::apply_log_settings(&settings.log);
        }
        if let Err(error) = self.tell(&settings) {
            tracing::error!(error = %error, "a service was not told its settings");
        }
        current.send_replace(Arc::new(settings));
        if restart.is_empty() {
            Applied::Whole
        } else {
            Applied::Except(restart)
        }
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
    }
}

pub(super) fn updater(settings: &Settings) -> UpdaterSettings {
    UpdaterSettings {
        batches: settings.batches.clone(),
    }
}

pub(super) fn leases(settings: &Settings) -> LeaseSettings {
    LeaseSettings {
        wanted: settings
            .ledgers
            .iter()
            .map(|ledger| batches_lease(&ledger.name))
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
        idle(Registration::new(names::FETCHER_POOL).settings(base.ledgers.clone()));
        idle(Registration::new(names::UPDATER).settings(updater(&base)));
        idle(Registration::new(names::LEASE_KEEPER).settings(leases(&base)));
        idle(Registration::new(names::HOUSEKEEPER).settings(base.retention.clone()));
        let current = watch::Sender::new(Arc::new(base));
        let resources = Resources::new(&settings(BASE), true);
        SettingsFan::new(query.clone(), resources).apply(&settings(text), &current);
        let services = query.list().into_iter();
        services
            .filter(|service| service.settings_changes == Some(1))
            .map(|service| service.name)
            .collect()
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
        assert_eq!(with("[log]\nfilter = 'warn'"), nobody);
        assert_eq!(with("[http]\nmax_body_bytes = '1MiB'"), nobody);
        assert_eq!(with("[database]\nconnections = 3"), nobody);
        let added = format!("{BASE}{}", BASE.replace("'a'", "'b'"));
        assert_eq!(told(&added), ["scheduler", "fetcher_pool", "lease_keeper"]);
        assert_eq!(told(""), ["scheduler", "fetcher_pool", "lease_keeper"]);
        let changed = format!("{BASE}connections = 3");
        assert_eq!(told(&changed), ["scheduler", "fetcher_pool"]);
    }
}
