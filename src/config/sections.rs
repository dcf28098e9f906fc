//! The keys: name, default, form and bounds of each, in one place.
//!
//! A new key is a field in `settings` and two lines here; unknown keys,
//! environment variables, the dump and the origins follow. A test compares
//! the keys with config/highwater.toml.

use super::apps::apps;
use super::control::NEEDS_RESTART;
use super::credentials::{Missing, shared_secrets, token, warn_of_open_intake};
use super::datasets::{datasets, replication};
use super::event_settings::EventsSettings;
use super::findings::Origin;
use super::forms::{
    DAY, count, database_url, duration, flag, identifier, size, socket_address, word,
};
use super::gateways::gateways;
use super::jobs::jobs;
use super::ledgers::ledgers;
use super::log::log;
use super::reader::Reader;
use super::replicas::replicas;
use super::resources::resources;
use super::section::Section;
use super::settings::{
    BatchesSettings, DatabaseLocation, DatabaseSettings, GiveUpAfter, HttpSettings, Range,
    RetentionSettings, ServerSettings, Settings, Synchronous, WatchdogSettings,
};
use super::site_settings::SitesSettings;
use super::subscriptions::subscriptions;
use bytesize::ByteSize;
use std::path::Path;
use std::time::Duration;
use toml_edit::TableLike;

/// Every section.
const SECTIONS: [&str; 18] = [
    "database",
    "http",
    "server",
    "log",
    "batches",
    "resources",
    "retention",
    "watchdog",
    "ledgers",
    "sites",
    "apps",
    "jobs",
    "events",
    "gateways",
    "subscriptions",
    "replication",
    "datasets",
    "replicas",
];

/// Shortest wait between two looks: anything below is a busy loop.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// Bounds of sizes held in memory.
pub(super) const BODY: std::ops::RangeInclusive<ByteSize> = ByteSize::kib(1)..=ByteSize::gib(1);

/// Bounds of a document that a handler learns: it stands in a row.
const RESULT: std::ops::RangeInclusive<ByteSize> = ByteSize::b(64)..=ByteSize::mib(1);

/// Bounds of an event: it stands in a row.
const EVENT: std::ops::RangeInclusive<ByteSize> = ByteSize::kib(1)..=ByteSize::mib(64);

/// Bounds of `connections`.
pub(super) const CONNECTIONS: std::ops::RangeInclusive<u64> = 1..=1024;

/// Reads everything; `None` when something is wrong, all of which `reader`
/// holds then.
pub(super) fn settings<'d>(
    reader: &mut Reader<'d>,
    root: &'d dyn TableLike,
    base: &Path,
) -> Option<Settings> {
    let database = reader.section(root, "database", |section| database(section, base));
    let http = reader.section(root, "http", |section| http(section, base));
    let server = reader.section(root, "server", server);
    let log = reader.section(root, "log", |section| log(section, base, database.as_ref()));
    let batches = reader.section(root, "batches", batches);
    let sites = reader.section(root, "sites", sites);
    let events = reader.section(root, "events", events);
    let resources = reader.section(root, "resources", |section| {
        resources(section, batches.as_ref(), sites.as_ref(), database.as_ref())
    });
    let retention = reader.section(root, "retention", retention);
    let watchdog = reader.section(root, "watchdog", watchdog);
    let ledgers = ledgers(reader, root, base);
    let apps = apps(reader, root, base);
    let jobs = jobs(reader, root, base, apps.as_deref());
    let gateways = gateways(reader, root, base);
    let subscriptions = subscriptions(reader, root, base, gateways.as_deref(), ledgers.as_deref());
    let replication = reader.section(root, "replication", replication);
    let datasets = datasets(reader, root, base, http.as_ref(), replication.as_ref());
    let replicas = replicas(reader, root, base, http.as_ref(), replication.as_ref());
    if let Some(http) = &http {
        let shared = shared_secrets(apps.as_deref(), jobs.as_deref());
        warn_of_open_intake(reader, http, &shared);
    }
    warn_of_nothing(reader, root);
    reader.refuse_unknown(root, &SECTIONS);
    Some(Settings {
        database: database?,
        http: http?,
        server: server?,
        log: log?,
        batches: batches?,
        resources: resources?,
        retention: retention?,
        watchdog: watchdog?,
        ledgers: ledgers?,
        sites: sites?,
        apps: apps?,
        jobs: jobs?,
        events: events?,
        gateways: gateways?,
        subscriptions: subscriptions?,
        replication: replication?,
        datasets: datasets?,
        replicas: replicas?,
    })
}

/// Where there is nothing to do, somebody should know.
fn warn_of_nothing(reader: &mut Reader<'_>, root: &dyn TableLike) {
    let none = |list: &str| match root.get(list) {
        None => true,
        Some(item) => {
            item.as_array().is_some_and(toml_edit::Array::is_empty)
                || item
                    .as_array_of_tables()
                    .is_some_and(toml_edit::ArrayOfTables::is_empty)
        }
    };
    let flows = ["ledgers", "jobs", "subscriptions", "datasets", "replicas"];
    if flows.into_iter().all(none) {
        let message = "no ledger is configured and no job, nor a subscription, dataset or replica, so there is nothing to do; add one with [[ledgers]], [[jobs]], [[subscriptions]], [[datasets]] or [[replicas]]";
        let warning = reader.finding(&Origin::Default, "ledgers", message.to_owned());
        reader.warnings.push(warning);
    }
}

fn database(s: &mut Section<'_, '_>, base: &Path) -> Option<DatabaseSettings> {
    for key in ["url", "schema", "connections", "synchronous"] {
        s.not_by_control(key, NEEDS_RESTART);
    }
    let location = s.get("url", "sqlite://highwater.db", database_url(base));
    if let Some(DatabaseLocation::Postgres(url)) = &location {
        s.show("url", &url.to_string());
    }
    let schema = s.get("schema", "highwater", identifier);
    let connections = s.get("connections", 8, count(CONNECTIONS, ""));
    let levels = [("full", Synchronous::Full), ("normal", Synchronous::Normal)];
    let synchronous = s.get("synchronous", "full", word(levels));
    Some(DatabaseSettings {
        location: location?,
        schema: schema?,
        connections: connections?,
        synchronous: synchronous?,
    })
}

fn http(s: &mut Section<'_, '_>, base: &Path) -> Option<HttpSettings> {
    s.not_by_control("listen", NEEDS_RESTART);
    let listen = s.get("listen", "127.0.0.1:8780", socket_address);
    let control = token(
        s,
        "control_token",
        "control_token_file",
        base,
        Missing::MayBeCreated,
    );
    let intake = token(
        s,
        "intake_token",
        "intake_token_file",
        base,
        Missing::Refused,
    );
    let read = token(s, "read_token", "read_token_file", base, Missing::Refused);
    let max_body_bytes = s.get("max_body_bytes", "8MiB", size(BODY));

    let exposed = listen.filter(|listen| !listen.ip().to_canonical().is_loopback());
    if let Some(listen) = exposed {
        let wanted: Vec<&str> = [
            (&control, "control_token_file"),
            (&intake, "intake_token_file"),
        ]
        .into_iter()
        .filter_map(|(token, key)| (!token.given).then_some(key))
        .collect();
        if !wanted.is_empty() {
            let message = format!(
                "\"{listen}\" is open to other machines, which needs tokens; set {}, or listen on 127.0.0.1 or [::1]",
                wanted.join(" and ")
            );
            s.fault(&["listen"], message);
        }
    }
    Some(HttpSettings {
        listen: listen?,
        control_token: control.token,
        intake_token: intake.token,
        read_token: read.token,
        max_body_bytes: max_body_bytes?,
    })
}

fn server(s: &mut Section<'_, '_>) -> Option<ServerSettings> {
    let second = Duration::from_secs(1);
    let hour = second * 3600;
    let shutdown_timeout = s.get("shutdown_timeout", "30s", duration(second..=hour));
    let lease = s.get("lease", "10s", duration(second..=hour));
    Some(ServerSettings {
        shutdown_timeout: shutdown_timeout?,
        lease: lease?,
    })
}

fn batches(s: &mut Section<'_, '_>) -> Option<BatchesSettings> {
    let interval = || duration(SHORTEST_WAIT..=DAY);
    let poll_interval = s.get("poll_interval", "5s", interval());
    let fallback_poll_interval = s.get("fallback_poll_interval", "60s", interval());
    let repoll = range(s, "repoll", "1s", "60s");
    let give_up_after = s.group("give_up_after", "{ age = \"24h\", polls = 1000 }", |s| {
        let age = s.get("age", "24h", duration(Duration::from_secs(1)..=DAY * 3650));
        let polls = s.optional("polls", count(1..=u64::from(u32::MAX), ""));
        Some(GiveUpAfter {
            age: age?,
            polls: polls?,
        })
    });
    let backoff = range(s, "backoff", "1s", "5min");
    let breaker_failures = s.get("breaker_failures", 5, count(1..=1000, ""));
    let max_in_flight = s.get("max_in_flight", 64, count(1..=4096, ""));
    let (commit_interval, commit_rows) = commits(s, "5ms");
    Some(BatchesSettings {
        poll_interval: poll_interval?,
        fallback_poll_interval: fallback_poll_interval?,
        repoll: repoll?,
        give_up_after: give_up_after?,
        backoff: backoff?,
        breaker_failures: breaker_failures?,
        max_in_flight: max_in_flight?,
        commit_interval: commit_interval?,
        commit_rows: commit_rows?,
    })
}

fn sites(s: &mut Section<'_, '_>) -> Option<SitesSettings> {
    let max_in_flight = s.get("max_in_flight", 64, count(1..=4096, ""));
    let sweep_interval = s.get("sweep_interval", "5s", duration(SHORTEST_WAIT..=DAY));
    let deny_private_networks = s.get("deny_private_networks", false, flag);
    let max_result_bytes = s.get("max_result_bytes", "16KiB", size(RESULT));
    let (commit_interval, commit_rows) = commits(s, "25ms");
    Some(SitesSettings {
        max_in_flight: max_in_flight?,
        sweep_interval: sweep_interval?,
        deny_private_networks: deny_private_networks?,
        max_result_bytes: max_result_bytes?,
        commit_interval: commit_interval?,
        commit_rows: commit_rows?,
    })
}

/// How outcomes are gathered before they are committed: for how long, and how
/// many rows.
fn commits(s: &mut Section<'_, '_>, interval: &'static str) -> (Option<Duration>, Option<usize>) {
    let a_moment = Duration::from_millis(1)..=Duration::from_secs(1);
    let interval = s.get("commit_interval", interval, duration(a_moment));
    let rows = s.get("commit_rows", 2000, count(1..=100_000, ""));
    (interval, rows)
}

fn events(s: &mut Section<'_, '_>) -> Option<EventsSettings> {
    let (commit_interval, commit_rows) = commits(s, "2ms");
    let sweep_interval = s.get("sweep_interval", "1s", duration(SHORTEST_WAIT..=DAY));
    let max_events_per_call = s.get("max_events_per_call", 1000, count(1..=100_000, ""));
    let max_event_bytes = s.get("max_event_bytes", "1MiB", size(EVENT));
    Some(EventsSettings {
        commit_interval: commit_interval?,
        commit_rows: commit_rows?,
        sweep_interval: sweep_interval?,
        max_events_per_call: max_events_per_call?,
        max_event_bytes: max_event_bytes?,
    })
}

fn retention(s: &mut Section<'_, '_>) -> Option<RetentionSettings> {
    let kept = Duration::from_secs(60)..=DAY * 36_500;
    let settled_batches = s.get("settled_batches", "30d", duration(kept.clone()));
    let audit = s.get("audit", "365d", duration(kept.clone()));
    let events = s.get("events", "90d", duration(kept));
    let polls_per_site = s.get("polls_per_site", 20, count(1..=100, ""));
    Some(RetentionSettings {
        settled_batches: settled_batches?,
        audit: audit?,
        events: events?,
        polls_per_site: polls_per_site?,
        histories: std::collections::BTreeMap::new(),
    })
}

fn watchdog(s: &mut Section<'_, '_>) -> Option<WatchdogSettings> {
    let second = Duration::from_secs(1);
    let restart_backoff = range(s, "restart_backoff", "50ms", "10s");
    let restart_quiet = s.get("restart_quiet", "30s", duration(second..=DAY));
    let restart_limit = s.get("restart_limit", 10, count(0..=1_000_000, ""));
    let restart_period = s.get("restart_period", "60s", duration(second..=DAY));
    let answers = Duration::from_millis(100)..=Duration::from_secs(600);
    let deadline = s.get("deadline", "10s", duration(answers));
    let lost_threads = s.get("lost_threads", 4, count(0..=64, ""));
    Some(WatchdogSettings {
        restart_backoff: restart_backoff?,
        restart_quiet: restart_quiet?,
        restart_limit: restart_limit?,
        restart_period: restart_period?,
        deadline: deadline?,
        lost_threads: lost_threads?,
    })
}

/// A duration that grows; either end may be left at its default.
fn range(s: &mut Section<'_, '_>, key: &'static str, min: &str, max: &str) -> Option<Range> {
    let example = format!("{{ min = \"{min}\", max = \"{max}\" }}");
    s.group(key, &example, |s| {
        let bounds = || duration(SHORTEST_WAIT..=DAY * 30);
        let min = s.get("min", min, bounds());
        let max = s.get("max", max, bounds());
        if let (Some(min), Some(max)) = (min, max)
            && max < min
        {
            let (min, max) = (
                humantime::format_duration(min),
                humantime::format_duration(max),
            );
            s.fault(
                &["max", "min"],
                format!("max ({max}) is below min ({min}); expected max to be at least min"),
            );
        }
        Some(Range {
            min: min?,
            max: max?,
        })
    })
}
