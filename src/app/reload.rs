//! Settings, handed to each service: only what changed for it.

use crate::actors::{LeaseSettings, SchedulerSettings, UpdaterSettings};
use crate::config::{
    self, HttpSettings, LedgerSettings, Loaded, LogSettings, RetentionSettings, Settings,
};
use crate::leases::batches_lease;
use crate::telemetry;
use crate::watchdog::SettingsUpdater;
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// One updater per service.
pub(super) struct SettingsFan {
    pub(super) scheduler: SettingsUpdater<SchedulerSettings>,
    pub(super) ledgers: SettingsUpdater<Vec<LedgerSettings>>,
    pub(super) updater: SettingsUpdater<UpdaterSettings>,
    pub(super) leases: SettingsUpdater<LeaseSettings>,
    pub(super) retention: SettingsUpdater<RetentionSettings>,
    pub(super) log: SettingsUpdater<LogSettings>,
}

/// How much of a reload was applied.
pub(super) enum Applied {
    /// All of it.
    Whole,
    /// All but these keys, which need a restart.
    Except(Vec<String>),
    /// Nothing, for this reason: the settings are sound and cannot be put to use.
    Refused(String),
}

impl SettingsFan {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            scheduler: SettingsUpdater::new(scheduler(settings)),
            ledgers: SettingsUpdater::new(settings.ledgers.clone()),
            updater: SettingsUpdater::new(updater(settings)),
            leases: SettingsUpdater::new(leases(settings)),
            retention: SettingsUpdater::new(settings.retention.clone()),
            log: SettingsUpdater::new(settings.log.clone()),
        }
    }

    /// Applies what can be changed live; the rest keeps its value in force.
    pub(super) fn apply(&self, loaded: Loaded, current: &watch::Sender<Arc<Settings>>) -> Applied {
        let mut settings = loaded.settings;
        let old = current.borrow().clone();
        if old.log != settings.log
            && let Err(error) = telemetry::check_log_settings(&settings.log)
        {
            return Applied::Refused(error.to_string());
        }
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
        for warning in &loaded.warnings {
            tracing::warn!(config.problem = %warning, "the configuration deserves a look");
        }
        tracing::info!(
            ledgers.added = ?diff.ledgers_added,
            ledgers.removed = ?diff.ledgers_removed,
            ledgers.changed = ?diff.ledgers_changed,
            sections.changed = ?diff.sections,
            "configuration changes"
        );
        // Clients first, so that new work finds them.
        self.ledgers.update(settings.ledgers.clone());
        self.updater.update(updater(&settings));
        self.scheduler.update(scheduler(&settings));
        self.leases.update(leases(&settings));
        self.retention.update(settings.retention.clone());
        self.log.update(settings.log.clone());
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

fn scheduler(settings: &Settings) -> SchedulerSettings {
    SchedulerSettings {
        batches: settings.batches.clone(),
        ledgers: settings.ledgers.clone(),
    }
}

fn updater(settings: &Settings) -> UpdaterSettings {
    UpdaterSettings {
        batches: settings.batches.clone(),
    }
}

fn leases(settings: &Settings) -> LeaseSettings {
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
