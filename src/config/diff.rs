//! What a reload changes.

use super::settings::{HttpSettings, LedgerSettings, Settings};
use secrecy::{ExposeSecret as _, SecretString};

/// The difference between the settings that run and those just read.
///
/// Ledgers are told apart by name, which is their identity: a renamed ledger
/// is one removed and one added.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SettingsDiff {
    /// Names of ledgers only the new settings have.
    pub ledgers_added: Vec<String>,
    /// Names of ledgers only the old settings have.
    pub ledgers_removed: Vec<String>,
    /// Names of ledgers of which something changed.
    pub ledgers_changed: Vec<String>,
    /// Sections in which something changed, `ledgers` aside.
    pub sections: Vec<&'static str>,
    /// Secrets that changed: `http.control_token`, `ledgers.trace.token`.
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
        ("apps", *apps != new.apps),
        ("jobs", *jobs != new.jobs),
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
    for ledger in ledgers {
        match find(&new.ledgers, &ledger.name) {
            None => diff.ledgers_removed.push(ledger.name.clone()),
            Some(now) if now != ledger => {
                if !same_secret(ledger.token.as_ref(), now.token.as_ref()) {
                    diff.secrets.push(format!("ledgers.{}.token", ledger.name));
                }
                diff.ledgers_changed.push(ledger.name.clone());
            }
            Some(_) => {}
        }
    }
    let added = new
        .ledgers
        .iter()
        .filter(|ledger| find(ledgers, &ledger.name).is_none());
    diff.ledgers_added = added.map(|ledger| ledger.name.clone()).collect();
    diff
}

fn changed<const N: usize>(what: [(&'static str, bool); N]) -> Vec<&'static str> {
    what.into_iter()
        .filter_map(|(name, changed)| changed.then_some(name))
        .collect()
}

fn find<'l>(ledgers: &'l [LedgerSettings], name: &str) -> Option<&'l LedgerSettings> {
    ledgers.iter().find(|ledger| ledger.name == name)
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
    fn what_needs_a_restart_is_named() {
        let new = settings(
            "database.url='sqlite://b.db'\nhttp.listen='127.0.0.1:1'\nbatches.commit_rows=1",
        );
        let diff = diff(&settings(""), &new);
        assert_eq!(diff.sections, ["database", "http", "batches"]);
        assert_eq!(diff.restart, ["database.url", "http.listen"]);
    }
}
