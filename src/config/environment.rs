//! Overrides from the environment: `HIGHWATER_BATCHES__POLL_INTERVAL=2s`.

use std::collections::{BTreeMap, BTreeSet};

/// What every override begins with.
const PREFIX: &str = "HIGHWATER_";

/// Variables with our prefix that are no setting: read by the command line, and
/// by tests and benchmarks.
const NO_SETTINGS: [&str; 5] = [
    "CONFIG",
    "CTL_SERVER",
    "CTL_TOKEN",
    "CTL_TOKEN_FILE",
    "TEST_POSTGRES_URL",
];

/// Reads this process's variables that concern Highwater, in the form that
/// [`load`](super::load) takes. What is not UTF-8 is made so, and refused by
/// the key's form later rather than by a panic here.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        has_prefix(&name).then(|| (name, value.to_string_lossy().into_owned()))
    })
}

pub(super) fn has_prefix(name: &str) -> bool {
    name.get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// The part of a variable's name that stands for a key or a name:
/// upper case, and `_` for what no shell takes in a name.
pub(super) fn variable_part(name: &str) -> String {
    name.to_ascii_uppercase().replace(['-', '.', '/'], "_")
}

/// The overrides, and which of them have been asked for.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// By name without prefix, upper case; as set (name, value).
    set: BTreeMap<String, Vec<(String, String)>>,
    used: BTreeSet<String>,
    asked: Vec<String>,
}

impl Environment {
    pub(super) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            if !has_prefix(&name) {
                continue;
            }
            let key = variable_part(name.get(PREFIX.len()..).unwrap_or_default());
            if !NO_SETTINGS.contains(&key.as_str()) {
                let set = environment.set.entry(key).or_default();
                set.push((name, value));
            }
        }
        environment
    }

    /// Every variable that is set under one of these names (without prefix).
    pub(super) fn take(
        &mut self,
        names: impl IntoIterator<Item = String>,
    ) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for name in names {
            if let Some(set) = self.set.get(&name) {
                found.extend(set.iter().cloned());
                self.used.insert(name.clone());
            }
            self.asked.push(name);
        }
        found
    }

    /// Variables that no key asked for, as set, and what they may have meant.
    pub(super) fn unknown(&self) -> Vec<(String, Option<String>)> {
        self.set
            .iter()
            .filter(|(key, _)| !self.used.contains(*key))
            .flat_map(|(key, set)| {
                let meant = super::hint::nearest(key, self.asked.iter().map(String::as_str));
                set.iter().map(move |(name, _)| {
                    (name.clone(), meant.map(|meant| format!("{PREFIX}{meant}")))
                })
            })
            .collect()
    }
}
