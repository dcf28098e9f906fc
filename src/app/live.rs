//! The configuration in force, and who changes it: a reload of the file, or
//! values set by control. Each is carried out whole or not at all.

use super::Reloader;
use super::reload::{Applied, SettingsFan};
use super::replicas::Replicas;
use super::resources::Resources;
use super::seed_servers::SeedServers;
use super::subscriptions::Subscriptions;
use crate::config::{self, ConfigError, ConfigErrors, Entry, Loaded, Origin, Settings};
use crate::handlers::Listeners;
use crate::http::ReloadReport;
use crate::time::Timestamp;
use crate::watchdog::{EffectiveSetting, Order, OrderError, Reloaded, Reply, WatchdogQuery};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// What is said of values set by control that a new file has no place for.
const CONTROL_DOES_NOT_FIT: &str = "the configuration can be used by itself, but not with the values set by control; \
     forget those with `reload --reset`, or change the file";

/// Owns the configuration in force.
pub(super) struct Live {
    fan: SettingsFan,
    settings: watch::Sender<Arc<Settings>>,
    report: watch::Sender<ReloadReport>,
    reload: Option<Reloader>,
    /// As it was accepted last, values set by control included.
    loaded: Loaded,
    /// Keys that wait for a restart, with what is in force until then.
    waiting: BTreeMap<String, Entry>,
}

impl Live {
    /// Begins with the configuration that the server started from.
    pub(super) fn new(
        loaded: Loaded,
        reload: Option<Reloader>,
        query: WatchdogQuery,
        resources: Resources,
        runtime: Handle,
        listeners: Listeners,
    ) -> Self {
        Self {
            fan: SettingsFan::new(query, resources, runtime, listeners),
            settings: watch::Sender::new(Arc::new(loaded.settings.clone())),
            report: watch::Sender::new(ReloadReport::default()),
            reload,
            loaded,
            waiting: BTreeMap::new(),
        }
    }

    /// From now on these follow the settings too.
    pub(super) fn keep(&mut self, subscriptions: Subscriptions, replicas: Replicas) {
        self.fan.keep(subscriptions, replicas);
    }

    /// From now on these follow the settings too.
    pub(super) fn serve(&mut self, seeds: SeedServers) {
        self.fan.serve(seeds);
    }

    /// The settings in force, now and later.
    pub(super) fn settings(&self) -> watch::Receiver<Arc<Settings>> {
        self.settings.subscribe()
    }

    /// How reloads went, now and later.
    pub(super) fn report(&self) -> watch::Receiver<ReloadReport> {
        self.report.subscribe()
    }

    /// Carries out an order; hands back who waits for the drain to begin, when
    /// it is the order to shut down. Nobody waiting for an answer any more is
    /// no reason not to do what was asked.
    pub(super) async fn carry_out(&mut self, order: Order) -> Option<Reply<()>> {
        match order {
            Order::Reload { reset, reply } => drop(reply.send(self.reload(reset).await)),
            Order::Change { changes, reply } => drop(reply.send(self.change(changes).await)),
            Order::Settings { reply } => drop(reply.send(Ok(self.effective()))),
            Order::Shutdown { reply } => return Some(reply),
        }
        None
    }

    /// Reads the configuration again. Values set by control stay, unless they
    /// are to be forgotten.
    ///
    /// # Errors
    /// There is no file; or what is wrong with it, by itself or together with
    /// the values set by control. Nothing was changed then, and the report says so.
    pub(super) async fn reload(&mut self, reset: bool) -> Result<Reloaded, OrderError> {
        let Some(reload) = &self.reload else {
            tracing::warn!("nothing to reload: there is no configuration file");
            return Err(OrderError::NoFile);
        };
        let now = Timestamp::now();
        let control = self.loaded.control();
        let read = match reload() {
            Ok(loaded) if reset || control.is_empty() => Ok(loaded),
            Ok(loaded) => loaded.with_control(control.clone()).map_err(|errors| {
                let mut told = sentences(&errors);
                told.push(CONTROL_DOES_NOT_FIT.to_owned());
                told
            }),
            Err(errors) => Err(sentences(&errors)),
        };
        let loaded = match read {
            Ok(loaded) => loaded,
            Err(told) => return Err(self.reload_failed(now, told)),
        };
        for warning in &loaded.warnings {
            tracing::warn!(config.problem = %warning, "the configuration deserves a look");
        }
        let before = self.in_force();
        let diff = config::diff(&self.settings.borrow(), &loaded.settings);
        let changed = config::changed_keys(&before, &loaded, &diff);
        let needs_restart = match self.apply(loaded).await {
            Ok(keys) => keys,
            Err(problem) => return Err(self.reload_failed(now, vec![problem])),
        };
        if needs_restart.is_empty() {
            tracing::info!(config.changed = ?changed, "configuration reloaded");
        } else {
            tracing::warn!(config.changed = ?changed, config.keys = ?needs_restart, "configuration reloaded, except for what needs a restart");
        }
        self.report.send_replace(ReloadReport {
            at: Some(now),
            needs_restart: needs_restart.clone(),
            ..ReloadReport::default()
        });
        Ok(Reloaded {
            changed,
            needs_restart,
        })
    }

    fn reload_failed(&self, now: Timestamp, told: Vec<String>) -> OrderError {
        for problem in &told {
            tracing::error!(config.problem = %problem, "the reload changed nothing");
        }
        let problem = told.join("\n");
        self.report
            .send_modify(|report| report.failed(now, problem));
        OrderError::Refused(told)
    }

    /// Sets and forgets values by control, all of them or none. The file is
    /// not read again.
    ///
    /// # Errors
    /// What is wrong with the values; nothing was changed then.
    pub(super) async fn change(
        &mut self,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<Reloaded, OrderError> {
        let mut control = self.loaded.control().clone();
        let mut wrong = Vec::new();
        for (key, value) in changes {
            match value {
                Some(value) => drop(control.insert(key, value)),
                None if control.remove(&key).is_some() => {}
                // Nothing to forget: that is no mistake, a wrong key is.
                None => wrong.extend(self.loaded.closed_to_control(&key)),
            }
        }
        let loaded = match self.loaded.with_control(control) {
            Ok(loaded) if wrong.is_empty() => loaded,
            Ok(_) => return Err(refused(&wrong)),
            Err(errors) => {
                wrong.extend(errors.errors().iter().cloned());
                return Err(refused(&wrong));
            }
        };
        let known = &self.loaded.warnings;
        for warning in loaded.warnings.iter().filter(|new| !known.contains(new)) {
            tracing::warn!(config.problem = %warning, "the configuration deserves a look");
        }
        let before = values(&self.loaded);
        let diff = config::diff(&self.loaded.settings, &loaded.settings);
        let changed = config::changed_keys(&before, &loaded, &diff);
        // What waits for a restart waits since a reload, not for this.
        if let Err(problem) = self.apply(loaded).await {
            tracing::warn!(config.keys = ?changed, "control changed no setting: they cannot be put to use");
            return Err(OrderError::Refused(vec![problem]));
        }
        tracing::info!(config.changed = ?changed, "settings changed by control");
        Ok(Reloaded {
            changed,
            needs_restart: Vec::new(),
        })
    }

    /// Every key that has a value, with the value in force and its origin.
    fn effective(&self) -> Vec<EffectiveSetting> {
        let file = self.loaded.file_name();
        let keys = self.loaded.keys().filter_map(|(key, new)| {
            let waiting = self.waiting.get(&key);
            let entry = waiting.unwrap_or(new);
            let place = match &entry.origin {
                Origin::Default | Origin::Control => None,
                // The line is one of the file as it was.
                Origin::File { .. } if waiting.is_some() => Some(file.to_owned()),
                Origin::File { line, .. } => Some(format!("{file}:{line}")),
                Origin::Environment { variable } => Some(variable.clone()),
            };
            Some(EffectiveSetting {
                value: entry.plain()?,
                origin: entry.origin.word().to_owned(),
                place,
                key,
            })
        });
        keys.collect()
    }

    /// Hands new settings to the services; answers the keys that wait for a
    /// restart.
    async fn apply(&mut self, loaded: Loaded) -> Result<Vec<String>, String> {
        let current = Arc::clone(&self.settings.borrow());
        self.fan.check(&current, &loaded.settings).await?;
        let keys = match self.fan.apply(&loaded.settings, &self.settings) {
            Applied::Whole => Vec::new(),
            Applied::Except(keys) => keys,
        };
        let in_force = |key: &String| {
            let waited = self.waiting.get(key).cloned();
            let mut entries = self.loaded.keys();
            let entry = waited.or_else(|| {
                let found = entries.find(|(known, _)| known == key);
                found.map(|(_, entry)| entry.clone())
            })?;
            Some((key.clone(), entry))
        };
        self.waiting = keys.iter().filter_map(in_force).collect();
        self.loaded = loaded;
        Ok(keys)
    }

    /// Values in force by key, as TOML.
    fn in_force(&self) -> BTreeMap<String, Option<String>> {
        let mut values = values(&self.loaded);
        for (key, entry) in &self.waiting {
            values.insert(key.clone(), entry.value.clone());
        }
        values
    }
}

fn values(loaded: &Loaded) -> BTreeMap<String, Option<String>> {
    let keys = loaded.keys();
    keys.map(|(key, entry)| (key, entry.value.clone()))
        .collect()
}

fn sentences(errors: &ConfigErrors) -> Vec<String> {
    errors.errors().iter().map(ToString::to_string).collect()
}

/// Who asked is told all. The log has the keys alone: the sentences repeat what
/// was written, and that may be a secret in the wrong place.
fn refused(wrong: &[ConfigError]) -> OrderError {
    let keys: BTreeSet<&str> = wrong.iter().filter_map(|it| it.key.as_deref()).collect();
    tracing::warn!(config.keys = ?keys, "control changed no setting: these were refused");
    OrderError::Refused(wrong.iter().map(ToString::to_string).collect())
}
