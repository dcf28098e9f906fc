//! What a reload changes.

use super::dataset_settings::{DatasetSettings, ReplicaSettings};
use super::event_settings::{EventHandlerSettings, GatewaySettings, SubscriptionSettings};
use super::settings::{HttpSettings, Settings};
use super::site_settings::{HandlerSettings, HttpHandler, JobSettings};
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::BTreeMap;

/// The difference between the settings that run and those just read.
///
/// Ledgers, gateways, subscriptions, datasets and replicas are told apart by
/// name, apps by id, jobs by both (`APP/NAME`), which is their identity: a
/// renamed ledger is one removed and one added.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SettingsDiff {
    /// Names of ledgers only the new settings have.
    pub ledgers_added: Vec<String>,
    /// Names of ledgers only the old settings have.
    pub ledgers_removed: Vec<String>,
    /// Names of ledgers of which something changed.
    pub ledgers_changed: Vec<String>,
    /// Ids of apps only the new settings have.
    pub apps_added: Vec<String>,
    /// Ids of apps only the old settings have.
    pub apps_removed: Vec<String>,
    /// Ids of apps of which something changed.
    pub apps_changed: Vec<String>,
    /// Jobs only the new settings have, as `APP/NAME`.
    pub jobs_added: Vec<String>,
    /// Jobs only the old settings have.
    pub jobs_removed: Vec<String>,
    /// Jobs of which something changed.
    pub jobs_changed: Vec<String>,
    /// Names of gateways only the new settings have.
    pub gateways_added: Vec<String>,
    /// Names of gateways only the old settings have.
    pub gateways_removed: Vec<String>,
    /// Names of gateways of which something changed.
    pub gateways_changed: Vec<String>,
    /// Names of subscriptions only the new settings have.
    pub subscriptions_added: Vec<String>,
    /// Names of subscriptions only the old settings have.
    pub subscriptions_removed: Vec<String>,
    /// Names of subscriptions of which something changed.
    pub subscriptions_changed: Vec<String>,
    /// Names of datasets only the new settings have.
    pub datasets_added: Vec<String>,
    /// Names of datasets only the old settings have.
    pub datasets_removed: Vec<String>,
    /// Names of datasets of which something changed.
    pub datasets_changed: Vec<String>,
    /// Names of replicas only the new settings have.
    pub replicas_added: Vec<String>,
    /// Names of replicas only the old settings have.
    pub replicas_removed: Vec<String>,
    /// Names of replicas of which something changed.
    pub replicas_changed: Vec<String>,
    /// Sections in which something changed, lists aside.
    pub sections: Vec<&'static str>,
    /// Secrets that changed: `http.control_token`, `ledgers.trace.token`,
    /// `apps.org.civicrm.myapp.api_key`, `jobs.APP/NAME.handler.http.token`,
    /// `gateways.customs.token`, `subscriptions.claims.hook_secret`,
    /// `datasets.prices.token`, `replicas.prices.token`.
    pub secrets: Vec<String>,
    /// Keys that changed and take effect only when the process starts again.
    pub restart: Vec<&'static str>,
}

/// Compares two configurations.
pub fn diff(old: &Settings, new: &Settings) -> SettingsDiff {
    // Taken apart in full, so that a new section cannot be forgotten here.
    let Settings {
        database,
        http,
        server,
        log,
        batches,
        resources,
        retention,
        watchdog,
        ledgers,
        sites,
        apps,
        jobs,
        events,
        gateways,
        subscriptions,
        replication,
        datasets,
        replicas,
    } = old;
    let mut diff = SettingsDiff::default();
    let sections = [
        ("database", *database != new.database),
        ("http", !same_http(http, &new.http)),
        ("server", *server != new.server),
        ("log", *log != new.log),
        ("batches", *batches != new.batches),
        ("resources", *resources != new.resources),
        ("retention", *retention != new.retention),
        ("watchdog", *watchdog != new.watchdog),
        ("sites", *sites != new.sites),
        ("events", *events != new.events),
        ("replication", *replication != new.replication),
    ];
    diff.sections = changed(sections);
    diff.restart = changed([
        ("database.url", database.location != new.database.location),
        ("database.schema", database.schema != new.database.schema),
        (
            "database.connections",
            database.connections != new.database.connections,
        ),
        (
            "database.synchronous",
            database.synchronous != new.database.synchronous,
        ),
        ("http.listen", http.listen != new.http.listen),
    ]);
    diff.secrets = changed_http_secrets(http, &new.http);
    let list = compare(ledgers, &new.ledgers, |ledger| ledger.name.clone());
    for (old, now) in &list.pairs {
        if !same_secret(old.token.as_ref(), now.token.as_ref()) {
            diff.secrets.push(format!("ledgers.{}.token", old.name));
        }
    }
    (diff.ledgers_added, diff.ledgers_removed) = (list.added, list.removed);
    diff.ledgers_changed = list.changed;
    let list = compare(apps, &new.apps, |app| app.id.to_string());
    for (old, now) in &list.pairs {
        let keys = [
            ("api_key", old.api_key != now.api_key),
            ("site_key", old.site_key != now.site_key),
        ];
        let changed = changed(keys).into_iter();
        let named = changed.map(|key| format!("apps.{}.{key}", old.id));
        diff.secrets.extend(named);
    }
    (diff.apps_added, diff.apps_removed) = (list.added, list.removed);
    diff.apps_changed = list.changed;
    let list = compare(jobs, &new.jobs, |job| job.key.to_string());
    for (old, now) in &list.pairs {
        let changed = changed_job_secrets(old, now).into_iter();
        let named = changed.map(|key| format!("jobs.{}.handler.http.{key}", old.key));
        diff.secrets.extend(named);
    }
    (diff.jobs_added, diff.jobs_removed) = (list.added, list.removed);
    diff.jobs_changed = list.changed;
    compare_gateways(&mut diff, gateways, &new.gateways);
    compare_subscriptions(&mut diff, subscriptions, &new.subscriptions);
    compare_datasets(&mut diff, datasets, &new.datasets);
    compare_replicas(&mut diff, replicas, &new.replicas);
    diff
}

fn compare_datasets(diff: &mut SettingsDiff, old: &[DatasetSettings], new: &[DatasetSettings]) {
    let list = compare(old, new, |dataset| dataset.name.to_string());
    for (old, now) in &list.pairs {
        if old.token != now.token {
            diff.secrets.push(format!("datasets.{}.token", old.name));
        }
    }
    (diff.datasets_added, diff.datasets_removed) = (list.added, list.removed);
    diff.datasets_changed = list.changed;
}

fn compare_replicas(diff: &mut SettingsDiff, old: &[ReplicaSettings], new: &[ReplicaSettings]) {
    let list = compare(old, new, |replica| replica.name.to_string());
    for (old, now) in &list.pairs {
        if old.token != now.token {
            diff.secrets.push(format!("replicas.{}.token", old.name));
        }
    }
    (diff.replicas_added, diff.replicas_removed) = (list.added, list.removed);
    diff.replicas_changed = list.changed;
}

fn compare_gateways(diff: &mut SettingsDiff, old: &[GatewaySettings], new: &[GatewaySettings]) {
    let list = compare(old, new, |gateway| gateway.name.clone());
    for (old, now) in &list.pairs {
        if old.token != now.token {
            diff.secrets.push(format!("gateways.{}.token", old.name));
        }
    }
    (diff.gateways_added, diff.gateways_removed) = (list.added, list.removed);
    diff.gateways_changed = list.changed;
}

fn compare_subscriptions(
    diff: &mut SettingsDiff,
    old: &[SubscriptionSettings],
    new: &[SubscriptionSettings],
) {
    let list = compare(old, new, |subscription| subscription.name.to_string());
    for (old, now) in &list.pairs {
        let mut keys = changed([("hook_secret", old.hook_secret != now.hook_secret)]);
        // Another handler has other secrets, and its keys say so.
        if let (EventHandlerSettings::Http(old), EventHandlerSettings::Http(now)) =
            (&old.handler, &now.handler)
        {
            keys.extend(changed([
                ("handler.http.secret", old.secret != now.secret),
                ("handler.http.token", old.token != now.token),
            ]));
        }
        let named = keys
            .iter()
            .map(|key| format!("subscriptions.{}.{key}", old.name));
        diff.secrets.extend(named);
    }
    (diff.subscriptions_added, diff.subscriptions_removed) = (list.added, list.removed);
    diff.subscriptions_changed = list.changed;
}

/// How a list differs.
struct ListDiff<'l, T> {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
    /// Those that changed, as they were and as they are.
    pairs: Vec<(&'l T, &'l T)>,
}

/// Compares two lists by what their entries are called.
fn compare<'l, T: PartialEq>(
    old: &'l [T],
    new: &'l [T],
    called: impl Fn(&T) -> String,
) -> ListDiff<'l, T> {
    let by_name = |list: &'l [T]| -> BTreeMap<String, &'l T> {
        list.iter().map(|entry| (called(entry), entry)).collect()
    };
    let (was, is) = (by_name(old), by_name(new));
    let only_in = |list: &'l [T], other: &BTreeMap<String, &T>| -> Vec<String> {
        let names = list.iter().map(&called);
        names.filter(|name| !other.contains_key(name)).collect()
    };
    let mut diff = ListDiff {
        added: only_in(new, &was),
        removed: only_in(old, &is),
        changed: Vec::new(),
        pairs: Vec::new(),
    };
    for before in old {
        let name = called(before);
        if let Some(now) = is.get(&name).filter(|now| **now != before) {
            diff.changed.push(name);
            diff.pairs.push((before, now));
        }
    }
    diff
}

/// Which secrets of a job's handler are other ones. Another handler has other
/// secrets, and its keys say so.
fn changed_job_secrets(old: &JobSettings, new: &JobSettings) -> Vec<&'static str> {
    let (HandlerSettings::Http(old), HandlerSettings::Http(new)) = (&old.handler, &new.handler)
    else {
        return Vec::new();
    };
    let password = |http: &HttpHandler| http.basic.as_ref().map(|(_, password)| password.clone());
    changed([
        ("token", old.token != new.token),
        ("password", password(old) != password(new)),
    ])
}

fn changed<const N: usize>(what: [(&'static str, bool); N]) -> Vec<&'static str> {
    what.into_iter()
        .filter_map(|(name, changed)| changed.then_some(name))
        .collect()
}

fn same_http(old: &HttpSettings, new: &HttpSettings) -> bool {
    let HttpSettings {
        listen,
        control_token,
        intake_token,
        read_token,
        max_body_bytes,
    } = old;
    *listen == new.listen
        && same_secret(control_token.as_ref(), new.control_token.as_ref())
        && same_secret(intake_token.as_ref(), new.intake_token.as_ref())
        && same_secret(read_token.as_ref(), new.read_token.as_ref())
        && *max_body_bytes == new.max_body_bytes
}

fn changed_http_secrets(old: &HttpSettings, new: &HttpSettings) -> Vec<String> {
    let changed = changed([
        (
            "http.control_token",
            !same_secret(old.control_token.as_ref(), new.control_token.as_ref()),
        ),
        (
            "http.intake_token",
            !same_secret(old.intake_token.as_ref(), new.intake_token.as_ref()),
        ),
        (
            "http.read_token",
            !same_secret(old.read_token.as_ref(), new.read_token.as_ref()),
        ),
    ]);
    changed.into_iter().map(str::to_owned).collect()
}

/// Compares two configured secrets; both are ours, so time tells nobody anything.
fn same_secret(old: Option<&SecretString>, new: Option<&SecretString>) -> bool {
    old.map(|secret| secret.expose_secret()) == new.map(|secret| secret.expose_secret())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, parse};
    use std::path::Path;

    fn settings(text: &str) -> Settings {
        parse(
            text,
            "t.toml",
            Path::new("/base"),
            [],
            LoadOptions::default(),
        )
        .unwrap_or_else(|errors| panic!("{errors}"))
        .settings
    }

    fn ledger(name: &str, more: &str) -> String {
        format!("[[ledgers]]\nname='{name}'\nkind='sawtooth'\nurl='http://h'\n{more}\n")
    }

    #[test]
    fn nothing_changed_is_empty() {
        let text = ledger("a", "");
        assert_eq!(
            diff(&settings(&text), &settings(&text)),
            SettingsDiff::default()
        );
    }

    #[test]
    fn ledgers_are_compared_by_name_and_not_by_place() {
        let old = [ledger("a", ""), ledger("b", ""), ledger("c", "")].concat();
        let new = [
            ledger("c", ""),
            ledger("b", "connections=2"),
            ledger("d", ""),
        ]
        .concat();
        let diff = diff(&settings(&old), &settings(&new));
        assert_eq!(diff.ledgers_added, ["d"]);
        assert_eq!(diff.ledgers_removed, ["a"]);
        assert_eq!(diff.ledgers_changed, ["b"]);
        assert!(diff.sections.is_empty() && diff.restart.is_empty());
    }

    #[test]
    fn apps_and_jobs_are_compared_by_what_they_are_called() {
        let folder = tempfile::tempdir().unwrap();
        let key = |key: &str| std::fs::write(folder.path().join("key"), key).unwrap();
        let read = |text: &str| {
            let options = LoadOptions::default();
            parse(text, "t.toml", folder.path(), [], options)
                .unwrap_or_else(|errors| panic!("{errors}"))
                .settings
        };
        let app = |id: &str| format!("[[apps]]\nid='{id}'\napi_key_file='key'\n");
        let job = |name: &str, more: &str| {
            format!("[[jobs]]\napp='app:a.b'\nname='{name}'\nhandler.http={{ {more} }}\n")
        };
        let token = "token_file='key'";
        key("hunter2-1");
        let old = [
            app("a.b"),
            app("gone"),
            job("same", ""),
            job("one", token),
            job("two", ""),
        ];
        let old = read(&old.concat());
        key("hunter2-2");
        let new = [
            job("two", "path='/x'"),
            job("one", token),
            job("same", ""),
            job("new", "token_file='key'"),
            app("new"),
            app("a.b"),
        ];
        let diff = diff(&old, &read(&new.concat()));
        assert_eq!(diff.apps_added, ["new"]);
        assert_eq!(diff.apps_removed, ["gone"]);
        assert_eq!(diff.apps_changed, ["a.b"]);
        assert_eq!(diff.jobs_added, ["a.b/new"]);
        assert!(diff.jobs_removed.is_empty());
        assert_eq!(diff.jobs_changed, ["a.b/one", "a.b/two"]);
        assert_eq!(
            diff.secrets,
            ["apps.a.b.api_key", "jobs.a.b/one.handler.http.token"]
        );
        assert!(diff.sections.is_empty() && diff.restart.is_empty());
        assert!(!format!("{diff:?}").contains("hunter2"));
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let new = settings(
            "database.url='sqlite://b.db'\nhttp.listen='127.0.0.1:1'\nbatches.commit_rows=1",
        );
        let diff = diff(&settings(""), &new);
        assert_eq!(diff.sections, ["database", "http", "batches"]);
        assert_eq!(diff.restart, ["database.url", "http.listen"]);
    }
}
