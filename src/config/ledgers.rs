//! The keys of `[[ledgers]]`.

use super::control::TOKEN_TRAVELS;
use super::credentials::{Missing, token};
use super::forms::{count, duration, flag, ledger_url, name, size, word};
use super::reader::{Reader, own_name};
use super::section::Section;
use super::sections::{BODY, CONNECTIONS};
use super::settings::{LedgerRole, LedgerSettings};
use crate::ledgers::LedgerKind;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use toml_edit::TableLike;

/// Longest that one request may take.
const LONGEST_REQUEST: Duration = Duration::from_secs(3600);

/// Reads all ledgers; `None` when something is wrong.
pub(super) fn ledgers<'d>(
    reader: &mut Reader<'d>,
    root: &'d dyn TableLike,
    base: &Path,
) -> Option<Vec<LedgerSettings>> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut index = 0;
    let ledgers = reader.list(root, "ledgers", own_name, |section| {
        let ledger = ledger(section, base, index, &mut names);
        index += 1;
        ledger
    });
    ledgers.into_iter().collect()
}

fn ledger(
    s: &mut Section<'_, '_>,
    base: &Path,
    index: usize,
    names: &mut BTreeMap<String, usize>,
) -> Option<LedgerSettings> {
    let name = s.required("name", "a name, e.g. name = \"trace\"", name);
    if let Some(name) = &name {
        s.named(name, &["name"]);
        if let Some(first) = names.get(name) {
            let message = format!(
                "\"{name}\" is the name of ledgers[{first}] already; expected a name of its own"
            );
            s.fault(&["name"], message);
        } else {
            names.insert(name.clone(), index);
        }
    }
    let kinds = [
        ("sawtooth", LedgerKind::Sawtooth),
        ("splinter", LedgerKind::Splinter),
    ];
    let kind = s.required("kind", "\"sawtooth\" or \"splinter\"", word(kinds));
    let example = "the ledger's address, e.g. url = \"http://127.0.0.1:8008\"";
    let url = s.required("url", example, ledger_url);
    let roles = [
        ("primary", LedgerRole::Primary),
        ("fallback", LedgerRole::Fallback),
    ];
    let role = s.get("role", "primary", word(roles));
    let connections = s.get("connections", 8, count(CONNECTIONS, ""));
    let (usual, limit, why) = ids_of(kind);
    let ids_per_request = s.get("ids_per_request", usual, count(1..=limit, why));
    let limits = Duration::from_millis(100)..=LONGEST_REQUEST;
    let timeout = s.get("timeout", "10s", duration(limits));
    let wait = s.optional("wait", duration(Duration::ZERO..=LONGEST_REQUEST));
    if let Some(Some(wait)) = wait {
        check_wait(s, wait, kind, timeout);
    }
    let max_response_bytes = s.get("max_response_bytes", "8MiB", size(BODY));
    let stream = s.get("stream", false, flag);
    let token = token(s, "token", "token_file", base, Missing::Refused);
    if token.given && s.is_by_control("url") {
        s.fault(&["url"], TOKEN_TRAVELS.to_owned());
    }
    Some(LedgerSettings {
        name: name?,
        kind: kind?,
        url: url?,
        role: role?,
        connections: connections?,
        ids_per_request: ids_per_request?,
        timeout: timeout?,
        wait: wait?,
        max_response_bytes: max_response_bytes?,
        stream: stream?,
        token: token.token,
    })
}

/// Ids in a request: default, limit, and where the limit comes from
/// (recordings of both ledgers).
fn ids_of(kind: Option<LedgerKind>) -> (i64, u64, &'static str) {
    match kind {
        Some(LedgerKind::Splinter) => (
            100,
            507,
            "Splinter takes request targets of 65,534 bytes, which hold 507 ids",
        ),
        // Its own mistake is told; this one only if it is one for any kind.
        None => (500, 10_000, ""),
        Some(LedgerKind::Sawtooth) => (
            500,
            10_000,
            "Highwater has about 10,000 batches of a ledger at hand; 500 to 1000 ids are fastest",
        ),
    }
}

/// What the recordings say about asking a ledger to wait.
fn check_wait(
    s: &mut Section<'_, '_>,
    wait: Duration,
    kind: Option<LedgerKind>,
    timeout: Option<Duration>,
) {
    let shown = humantime::format_duration(wait);
    if wait.is_zero() || wait.subsec_nanos() != 0 {
        let message = format!(
            "\"{shown}\" is not a whole number of seconds from 1s up; Sawtooth takes wait=0 for 300 s and a fraction for 285 s; leave the key out for no wait"
        );
        s.fault(&["wait"], message);
        return;
    }
    if let Some(timeout) = timeout.filter(|timeout| wait >= *timeout) {
        let message = format!(
            "\"{shown}\" is not below the request's timeout ({}); expected a shorter wait or a longer timeout",
            humantime::format_duration(timeout)
        );
        s.fault(&["wait", "timeout"], message);
    }
    if kind == Some(LedgerKind::Splinter) {
        let message = "a waiting request holds one of Splinter's REST worker threads, even after Highwater hangs up, and two of them stop the node's API; leave the key out";
        s.warn(&["wait"], message.to_owned());
    }
}
