//! Values set through the control channel: `batches.poll_interval` = `2s`.

use super::hint::nearest;
use std::collections::{BTreeMap, BTreeSet};

/// Why control does not set a secret.
pub(super) const SECRET: &str =
    "control sets no secrets; change what is in the token's file, and reload";

/// Why control does not choose the file of a secret.
pub(super) const SECRET_FILE: &str =
    "control does not choose where secrets come from; change the configuration file, and reload";

/// Why control does not set what is read at the start only.
pub(super) const NEEDS_RESTART: &str =
    "this takes effect only at a start; change the configuration file, and restart the server";

/// Why control does not choose a file that is written to.
pub(super) const WRITTEN_FILE: &str =
    "control does not choose files to write to; change the configuration file, and reload";

/// Why control does not send traces, and the token that may go with them, elsewhere.
pub(super) const TRACES_TRAVEL: &str =
    "control does not choose where traces are sent; change the configuration file, and reload";

/// Why control does not send a ledger's token elsewhere.
pub(super) const TOKEN_TRAVELS: &str = "the ledger's token is sent to this address, which control does not change then; change the configuration file, and reload";

/// Why control does not send an app's keys elsewhere.
pub(super) const KEYS_TRAVEL: &str = "handlers may send the app's keys to this address, which control does not change; change the configuration file, and reload";

/// Why control does not change what handlers do.
pub(super) const WORK: &str = "control does not choose what is done on sites, only its limits; change the configuration file, and reload";

/// Why control does not send the secret of a hook elsewhere.
pub(super) const HOOKS_TRAVEL: &str = "the gateway is told the hook's secret, so that control does not choose which gateway that is, nor where it calls; change the configuration file, and reload";

/// Why control does not change what events are.
pub(super) const EVENTS: &str = "control does not choose which events there are and what is done with them, only limits; change the configuration file, and reload";

/// Why control does not change what is published and followed.
pub(super) const PUBLISHED: &str = "control does not choose what is published and followed, nor where, only limits; change the configuration file, and reload";

/// Why control renames nothing.
pub(super) const IDENTITY: &str = "a name is an identity, which control does not change; change the configuration file, and reload";

/// The values set by control, and which of them have been asked for.
///
/// Tables of a list go by their name (`ledgers.trace.url`): an index may mean
/// another one after the next reload.
#[derive(Debug, Default)]
pub(super) struct Control {
    set: BTreeMap<String, String>,
    used: BTreeSet<String>,
    /// Keys that control may set.
    open: BTreeSet<String>,
    /// Keys that it may not, and why.
    closed: BTreeMap<String, &'static str>,
    /// Names of the tables of each list.
    names: BTreeMap<String, Vec<String>>,
}

impl Control {
    pub(super) fn new(set: BTreeMap<String, String>) -> Self {
        Self {
            set,
            ..Self::default()
        }
    }

    /// The value set for a key, unless it is closed.
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        if self.closed.contains_key(key) {
            return None;
        }
        self.open.insert(key.to_owned());
        let value = self.set.get(key)?.clone();
        self.used.insert(key.to_owned());
        Some(value)
    }

    /// Makes a key one that control may not set.
    pub(super) fn close(&mut self, key: String, why: &'static str) {
        self.closed.insert(key, why);
    }

    /// Makes a table of a list known by its name.
    pub(super) fn name(&mut self, list: &str, name: &str) {
        let names = self.names.entry(list.to_owned()).or_default();
        names.push(name.to_owned());
    }

    /// Every value that no key took, with what is wrong. Values are not
    /// repeated: they may be secrets.
    pub(super) fn refused(&self) -> Vec<(String, String)> {
        let left = self.set.keys().filter(|key| !self.used.contains(*key));
        left.map(|key| (key.clone(), self.problem(key))).collect()
    }

    /// What is wrong with a key; `None` when control may set it.
    pub(super) fn problem_with(&self, key: &str) -> Option<String> {
        (!self.open.contains(key)).then(|| self.problem(key))
    }

    /// What is wrong with a key of a list that names no table of it.
    fn stranger(&self, key: &str) -> Option<String> {
        let list = key.split(['.', '[']).next().unwrap_or_default();
        let names = self.names.get(list)?;
        let below = key.strip_prefix(list)?.strip_prefix('.');
        let below = below.unwrap_or_default();
        // Names of apps and jobs hold dots themselves.
        let of = |known: &String| {
            let rest = below.strip_prefix(known.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if names.iter().any(of) {
            return None;
        }
        // All keys there are, since nobody knows where the name ends.
        let here = format!("{list}.");
        let open = self.open.iter().map(String::as_str);
        let name = below.split('.').next().unwrap_or_default();
        let named = || nearest(name, names.iter().map(String::as_str));
        let meant = match named() {
            Some(meant) => {
                let rest = below.strip_prefix(name).unwrap_or_default();
                Some(format!("{here}{meant}{rest}"))
            }
            None => nearest(key, open.filter(|open| open.starts_with(&here))).map(str::to_owned),
        };
        let hint = meant.map_or_else(String::new, |meant| format!("did you mean {meant}? "));
        Some(format!(
            "unknown key; {hint}{list} go by name, {list}.{}.KEY, and those configured are {}; others are added in the configuration file",
            if list == "jobs" { "APP/NAME" } else { "NAME" },
            names.join(", ")
        ))
    }

    fn problem(&self, key: &str) -> String {
        if let Some(why) = self.closed.get(key) {
            return (*why).to_owned();
        }
        if let Some(problem) = self.stranger(key) {
            return problem;
        }
        let known = || self.open.iter().map(String::as_str);
        if let Some(meant) = nearest(key, known()) {
            return format!("unknown key; did you mean {meant}?");
        }
        let last = key.rsplit('.').next().unwrap_or(key);
        let elsewhere = known().find(|known| known.rsplit('.').next() == Some(last));
        match elsewhere {
            Some(meant) => format!("unknown key; did you mean {meant}?"),
            None => "unknown key; expected a section and a key, e.g. batches.poll_interval, ledgers.NAME.url".to_owned(),
        }
    }
}
