//! The keys of `[replication]` and `[[datasets]]`.

use super::control::PUBLISHED;
use super::credentials::{Missing, token};
use super::dataset_settings::{
    DatasetSettings, DatasetSource, HistorySettings, ReplicationSettings,
};
use super::event_forms::Names;
use super::event_settings::SecretOf;
use super::forms::{DAY, count, duration, size, socket_address, word};
use super::reader::{Reader, own_name};
use super::section::Section;
use super::settings::HttpSettings;
use crate::flows::replicas::DatasetName;
use bytesize::ByteSize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;
use toml_edit::TableLike;

/// Shortest wait between two looks: anything below is a busy loop.
pub(super) const SHORTEST_LOOK: Duration = Duration::from_millis(10);

/// Bounds of how long a follower waits for a head to move.
pub(super) const WATCH: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(600);

/// Bounds of entries in a chunk.
pub(super) const CHUNK: RangeInclusive<u64> = 1..=100_000;

/// Bounds of an entry's value: it stands in a row.
const VALUE: RangeInclusive<ByteSize> = ByteSize::kib(1)..=ByteSize::mib(64);

/// Bounds of the bytes of a chunk: they stand in memory.
const CHUNK_BYTES: RangeInclusive<ByteSize> = ByteSize::kib(64)..=ByteSize::mib(64);

/// Most followers that may wait at once. Each has a connection, of which the HTTP
/// server takes 2048; the rest are for operators, probes and intake.
const MOST_WATCHERS: u64 = 1500;

/// Bounds of the bytes of a history.
const HISTORY_BYTES: RangeInclusive<ByteSize> = ByteSize::kib(64)..=ByteSize::tib(1);

/// Reads `[replication]`.
pub(super) fn replication(s: &mut Section<'_, '_>) -> Option<ReplicationSettings> {
    let moment = Duration::from_millis(1)..=Duration::from_secs(1);
    let commit_interval = s.get("commit_interval", "2ms", duration(moment));
    let sweep_interval = s.get("sweep_interval", "1s", duration(SHORTEST_LOOK..=DAY));
    let max_modifications = s.get("max_modifications", 10_000, count(CHUNK, ""));
    let max_value_bytes = s.get("max_value_bytes", "256KiB", size(VALUE));
    let max_chunk = s.get("max_chunk", 10_000, count(CHUNK, ""));
    let max_chunk_bytes = s.get("max_chunk_bytes", "4MiB", size(CHUNK_BYTES));
    let max_watch = s.get("max_watch", "60s", duration(WATCH));
    let max_watchers = s.get("max_watchers", 1000, count(1..=MOST_WATCHERS, ""));
    if let (Some(modifications), Some(chunk)) = (max_modifications, max_chunk)
        && modifications > chunk
    {
        let message = format!(
            "max_modifications ({modifications}) is above max_chunk ({chunk}); what one request publishes has to fit into one answer, so expected at most that"
        );
        s.fault(&["max_modifications", "max_chunk"], message);
    }
    if let (Some(value), Some(chunk)) = (max_value_bytes, max_chunk_bytes)
        && value > chunk
    {
        let message = format!(
            "max_value_bytes ({value}) is above max_chunk_bytes ({chunk}); an entry has to fit into one answer, so expected at most that"
        );
        s.fault(&["max_value_bytes", "max_chunk_bytes"], message);
    }
    Some(ReplicationSettings {
        commit_interval: commit_interval?,
        sweep_interval: sweep_interval?,
        max_modifications: max_modifications?,
        max_value_bytes: max_value_bytes?,
        max_chunk: max_chunk?,
        max_chunk_bytes: max_chunk_bytes?,
        max_watch: max_watch?,
        max_watchers: max_watchers?,
    })
}

/// How much history is kept.
pub(super) fn history(s: &mut Section<'_, '_>) -> Option<HistorySettings> {
    let example = "{ changes = 100000, bytes = \"64MiB\", age = \"24h\" }";
    s.group("history", example, |s| {
        let changes = s.get("changes", 100_000, count(1..=1_000_000_000, ""));
        let bytes = s.get("bytes", "64MiB", size(HISTORY_BYTES));
        let age = s.get("age", "24h", duration(Duration::from_secs(1)..=DAY * 3650));
        Some(HistorySettings {
            changes: changes?,
            bytes: bytes? as u64,
            age: age?,
        })
    })
}

/// What datasets before have, which each may have once: where it is written.
#[derive(Default)]
struct Given {
    sources: BTreeMap<DatasetSource, String>,
    addresses: Vec<(SocketAddr, String)>,
}

/// Warns of a history that one publication may push out whole: every follower
/// that is not at the head before it would copy anew.
pub(super) fn warn_of_short_history(
    s: &mut Section<'_, '_>,
    history: &HistorySettings,
    replication: &ReplicationSettings,
) {
    let (chunk, modifications) = (
        replication.max_chunk_bytes as u64,
        replication.max_modifications as u64,
    );
    if history.bytes < chunk {
        let message = format!(
            "{} bytes are less than one request may publish ({chunk}, replication.max_chunk_bytes): it would push out all else, and followers that lack more than that one copy anew; expected a few times as much",
            history.bytes
        );
        s.warn(&["history.bytes"], message);
    }
    if history.changes < modifications {
        let message = format!(
            "{} modifications are less than one request may publish ({modifications}, replication.max_modifications): it would push out all else, and followers that lack more than that one copy anew; expected a few times as many",
            history.changes
        );
        s.warn(&["history.changes"], message);
    }
}

/// Reads all datasets; `None` when something is wrong. `http` is where the rest
/// is served, and `replication` what they share, where those are right.
pub(super) fn datasets<'d>(
    reader: &mut Reader<'d>,
    root: &'d dyn TableLike,
    base: &Path,
    http: Option<&HttpSettings>,
    replication: Option<&ReplicationSettings>,
) -> Option<Vec<DatasetSettings>> {
    let mut names = Names::default();
    let mut given = Given::default();
    if let Some(http) = http {
        let listen = (http.listen, "http.listen".to_owned());
        given.addresses.push(listen);
    }
    let mut index = 0;
    let datasets = reader.list(root, "datasets", own_name, |section| {
        let place = format!("datasets[{index}]");
        index += 1;
        let read = dataset(section, base, &mut names, http, &mut given, &place);
        if let (Some(read), Some(replication)) = (&read, replication)
            && read.source.is_none()
        {
            warn_of_short_history(section, &read.history, replication);
        }
        read
    });
    datasets.into_iter().collect()
}

fn dataset(
    s: &mut Section<'_, '_>,
    base: &Path,
    names: &mut Names,
    http: Option<&HttpSettings>,
    given: &mut Given,
    place: &str,
) -> Option<DatasetSettings> {
    let name = names.read(s, "datasets", "a name, e.g. name = \"prices\"");
    for key in ["source", "seed_listen"] {
        s.not_by_control(key, PUBLISHED);
    }
    let sources = DatasetSource::ALL.map(|source| (source.as_str(), source));
    let source = s.optional("source", word(sources));
    if let Some(Some(source)) = source {
        if let Some(first) = given.sources.get(&source) {
            let message = format!(
                "\"{}\" is the source of {first} already, and a table is published as one dataset only; expected another table, or followers of that dataset",
                source.as_str()
            );
            s.fault(&["source"], message);
        } else {
            given.sources.insert(source, place.to_owned());
        }
    }
    let history = history(s);
    let token = token(s, "token", "token_file", base, Missing::Refused);
    let seed_listen = s.optional("seed_listen", socket_address);
    if let Some(Some(address)) = seed_listen {
        if token.given {
            let message = "the dataset asks for a token, and the seed's wire knows none, so that it could be read without; leave out seed_listen or the token";
            s.fault(&["seed_listen"], message.to_owned());
        } else if http.is_some_and(|http| http.read_token.is_some()) {
            let message = "http.read_token_file is set, and the seed's wire knows no token, so that the dataset could be read without; leave out seed_listen or that token";
            s.fault(&["seed_listen"], message.to_owned());
        }
        seed_address(s, address, given, place);
    }
    let is_open = || http.is_some_and(|http| http.intake_token.is_none());
    if token.given && source == Some(None) && is_open() {
        let message = "reading takes a token, and there is no intake token: whoever reaches this server may publish to the dataset without one, and learn its head by that; set http.intake_token_file";
        s.warn(&["token_file", "token"], message.to_owned());
    }
    Some(DatasetSettings {
        name: DatasetName::parse(&name?)?,
        source: source?,
        history: history?,
        token: token.token.map(SecretOf),
        seed_listen: seed_listen?,
    })
}

/// The seed's wire carries no token: whoever reaches the address reads and sends
/// in, so it is to be reached from this machine alone.
fn seed_address(s: &mut Section<'_, '_>, address: SocketAddr, given: &mut Given, place: &str) {
    if !address.ip().to_canonical().is_loopback() {
        let message = format!(
            "\"{address}\" is open to other machines, and the seed's wire knows no token; expected an address of loopback, e.g. \"127.0.0.1:{}\"",
            address.port()
        );
        s.fault(&["seed_listen"], message);
    }
    // Port 0 is another one each time.
    if address.port() == 0 {
        return;
    }
    let mut before = given.addresses.iter();
    if let Some((other, first)) = before.find(|(other, _)| takes(*other, address)) {
        let whole = if *other == address {
            String::new()
        } else {
            format!(" (\"{other}\", which takes this port on every address)")
        };
        let message = format!(
            "\"{address}\" is {first}{whole} already; expected an address of the dataset's own"
        );
        s.fault(&["seed_listen"], message);
    } else {
        let place = format!("{place}.seed_listen");
        given.addresses.push((address, place));
    }
}

/// Whether who listens on `first` keeps `second` from being listened on.
fn takes(first: SocketAddr, second: SocketAddr) -> bool {
    let (wide, narrow) = (first.ip().to_canonical(), second.ip().to_canonical());
    let every = wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4());
    first.port() == second.port() && (every || wide == narrow)
}
