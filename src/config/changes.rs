//! Which keys have another value than before.

use super::diff::SettingsDiff;
use super::load::Loaded;
use bytesize::ByteSize;
use std::collections::{BTreeMap, BTreeSet};

/// The keys, as control names them, whose effective value is another one in
/// `new` than in `old` (key → value as TOML). `diff` says what differs at all:
/// a value written in another way, `60s` as `1m`, is no change.
///
/// Ledgers, apps, jobs, gateways, subscriptions, datasets and replicas that were
/// added or removed are named as a whole
/// (`ledgers.trace`, `jobs.org.civicrm.myapp/default`),
/// secrets as such (`http.control_token`), wherever they come from.
pub fn changed_keys(
    old: &BTreeMap<String, Option<String>>,
    new: &Loaded,
    diff: &SettingsDiff,
) -> Vec<String> {
    let new: BTreeMap<String, Option<String>> = new
        .keys()
        .map(|(key, entry)| (key, entry.value.clone()))
        .collect();
    let lists = [
        ("ledgers", &diff.ledgers_changed),
        ("apps", &diff.apps_changed),
        ("jobs", &diff.jobs_changed),
        ("gateways", &diff.gateways_changed),
        ("subscriptions", &diff.subscriptions_changed),
        ("datasets", &diff.datasets_changed),
        ("replicas", &diff.replicas_changed),
    ];
    let differs = |key: &str| {
        let (section, below) = key.split_once('.').unwrap_or((key, ""));
        // Names of apps and jobs hold dots themselves.
        let of = |name: &String| {
            let rest = below.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        let changed =
            |(list, names): &(&str, &Vec<String>)| *list == section && names.iter().any(of);
        diff.sections.contains(&section) || lists.iter().any(changed)
    };
    let mut changed = BTreeSet::new();
    for (list, added, removed) in [
        ("ledgers", &diff.ledgers_added, &diff.ledgers_removed),
        ("apps", &diff.apps_added, &diff.apps_removed),
        ("jobs", &diff.jobs_added, &diff.jobs_removed),
        ("gateways", &diff.gateways_added, &diff.gateways_removed),
        (
            "subscriptions",
            &diff.subscriptions_added,
            &diff.subscriptions_removed,
        ),
        ("datasets", &diff.datasets_added, &diff.datasets_removed),
        ("replicas", &diff.replicas_added, &diff.replicas_removed),
    ] {
        let whole = added.iter().chain(removed);
        changed.extend(whole.map(|name| format!("{list}.{name}")));
    }
    // Of these the shown value may be the same: passwords are not shown.
    changed.extend(diff.restart.iter().map(ToString::to_string));
    changed.extend(diff.secrets.iter().cloned());
    for key in old.keys().chain(new.keys()) {
        let value = |values: &BTreeMap<String, Option<String>>| values.get(key).cloned().flatten();
        if differs(key) && !same(value(old), value(&new)) {
            changed.insert(key.clone());
        }
    }
    changed.into_iter().collect()
}

/// Compares two values as TOML; spans of time and sizes by what they mean.
fn same(old: Option<String>, new: Option<String>) -> bool {
    if old == new {
        return true;
    }
    let (Some(old), Some(new)) = (old, new) else {
        return false;
    };
    let (old, new) = (old.trim_matches('"'), new.trim_matches('"'));
    let span = |text: &str| humantime::parse_duration(text.trim()).ok();
    let size = |text: &str| text.trim().parse::<ByteSize>().ok();
    span(old).is_some_and(|old| span(new) == Some(old))
        || size(old).is_some_and(|old| size(new) == Some(old))
}
