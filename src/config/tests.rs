//! Whole configurations: what a person writes, and what they are told.

use super::*;
use secrecy::ExposeSecret as _;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ISSUE: &str = r#"
[database]
url = "sqlite://highwater.db"

[http]
listen = "127.0.0.1:8780"
control_token_file = "control.token"

[batches]
poll_interval = "5s"
repoll = { min = "1s", max = "60s" }
give_up_after = { age = "24h" }

[[ledgers]]
name = "supply-chain"
kind = "splinter"
url = "http://127.0.0.1:8085"
connections = 8
# token_file = "splinter.jwt"      # sent as "Bearer Cylinder:…"
# role = "fallback"

[[ledgers]]
name = "trace"
kind = "sawtooth"
url = "http://127.0.0.1:8008"
"#;

const LEDGER: &str = "[[ledgers]]\nname='trace'\nkind='sawtooth'\nurl='http://h'\n";

fn try_parse(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let base = Path::new("/nonexistent/base");
    parse(
        text,
        "highwater.toml",
        base,
        environment,
        LoadOptions::default(),
    )
}

fn loaded(text: &str, environment: &[(&str, &str)]) -> Loaded {
    try_parse(text, environment).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str, environment: &[(&str, &str)]) -> String {
    match try_parse(text, environment) {
        Ok(loaded) => panic!("accepted: {loaded:?}"),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn the_configuration_of_the_issue_works_on_a_fresh_checkout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("highwater.toml");
    std::fs::write(&path, ISSUE).unwrap();

    let checked = load(&path, [], LoadOptions::default()).unwrap();
    assert_eq!(checked.warnings.len(), 1, "{:?}", checked.warnings);
    assert!(checked.warnings[0].message.contains("creates it"));
    assert!(!folder.path().join("control.token").exists());

    let options = LoadOptions {
        create_control_token: true,
    };
    let served = load(&path, [], options).unwrap();
    assert!(served.warnings.is_empty());
    let token = folder.path().join("control.token");
    assert_eq!(
        served.created_control_token.as_deref(),
        Some(token.as_path())
    );
    let settings = served.settings;
    assert_eq!(
        settings.database.location,
        DatabaseLocation::Sqlite(folder.path().join("highwater.db"))
    );
    let written = std::fs::read_to_string(&token).unwrap();
    let control = settings.http.control_token.unwrap();
    assert_eq!(control.expose_secret(), written.trim());
    assert_eq!(settings.batches.repoll.max, Duration::from_secs(60));
    assert_eq!(settings.batches.give_up_after.polls, None);
    let names: Vec<&str> = settings.ledgers.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["supply-chain", "trace"]);
    let ids: Vec<usize> = settings.ledgers.iter().map(|l| l.ids_per_request).collect();
    assert_eq!(ids, [100, 500]);

    let again = load(&path, [], options).unwrap();
    assert_eq!(again.created_control_token, None);
    assert_eq!(
        again.settings.http.control_token.unwrap().expose_secret(),
        written.trim()
    );
}

#[test]
fn a_broken_configuration_creates_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("highwater.toml");
    std::fs::write(&path, format!("{ISSUE}\nconnections = 0\n")).unwrap();
    let options = LoadOptions {
        create_control_token: true,
    };
    load(&path, [], options).unwrap_err();
    assert!(!folder.path().join("control.token").exists());
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = r#"
[databse]
url = "x"

[http]
listen = "localhost:80"
poll_interval = "1s"
control_token = "do not write this here"

[batches]
poll_interval = "5 parsecs"
fallback_poll_interval = 5
pol_interval = "5s"
repoll = { min = "2m", mx = "1m" }
give_up_after = "24h"
backoff = { min = "0s" }
commit_rows = "many"
max_in_flight = 0
breaker_failures = [1]

[[ledgers]]
name = "trace"
kind = "sawtoot"
url = "http://user:hunter2@h"

[[ledgers]]
name = "trace"
kind = "sawtooth"
ids_per_request = 90000
wait = "0s"

[[ledgers]]
name = "träce"
kind = "splinter"
url = "ftp://h"
ids_per_request = 508
wait = "10s"
token_file = "missing.jwt"
"#;
    let told = errors(text, &[]);
    assert!(!told.contains("hunter2"));
    insta::assert_snapshot!(told, @r#"
    highwater.toml:2:2: databse: unknown section; did you mean database?; sections are database, http, server, log, batches, resources, retention, watchdog, ledgers, sites, apps, jobs, events, gateways, subscriptions
    highwater.toml:6:10: http.listen: "localhost:80" is not an IP address and port; expected e.g. "127.0.0.1:8780", "[::1]:8780"
    highwater.toml:7:1: http.poll_interval: unknown key; did you mean batches.poll_interval?; known here are listen, control_token_file, intake_token_file, read_token_file, max_body_bytes
    highwater.toml:8:1: http.control_token: a secret does not stand in the configuration; put it in a file and name that with control_token_file
    highwater.toml:11:17: batches.poll_interval: "5 parsecs" is not a duration; expected e.g. "5s", "500ms", "1h 30m"
    highwater.toml:12:26: batches.fallback_poll_interval: 5 is not a duration; expected e.g. "5s", "500ms", "1h 30m"
    highwater.toml:13:1: batches.pol_interval: unknown key; did you mean poll_interval?; known here are poll_interval, fallback_poll_interval, repoll, give_up_after, backoff, breaker_failures, max_in_flight, commit_interval, commit_rows
    highwater.toml:14:18: batches.repoll.min: max (1m) is below min (2m); expected max to be at least min
    highwater.toml:14:24: batches.repoll.mx: unknown key; did you mean max?; known here are min, max
    highwater.toml:15:17: batches.give_up_after: "24h" is not a table; expected { age = "24h", polls = 1000 }
    highwater.toml:16:19: batches.backoff.min: "0s" is too short; expected 10ms to 30days
    highwater.toml:17:15: batches.commit_rows: "many" is not a whole number; expected 1 to 100000
    highwater.toml:18:17: batches.max_in_flight: 0 is out of range; expected 1 to 4096
    highwater.toml:19:20: batches.breaker_failures: a list is not a whole number; expected 1 to 1000
    highwater.toml:23:8: ledgers[0].kind: "sawtoot" is not known; expected "sawtooth" or "splinter"
    highwater.toml:24:7: ledgers[0].url: the address holds a user or password; put the ledger's token in a file and name that with token_file; expected e.g. "http://127.0.0.1:8008"
    highwater.toml:26:1: ledgers[1].url: missing; expected the ledger's address, e.g. url = "http://127.0.0.1:8008"
    highwater.toml:27:8: ledgers[1].name: "trace" is the name of ledgers[0] already; expected a name of its own
    highwater.toml:29:19: ledgers[1].ids_per_request: 90000 is out of range; expected 1 to 10000 (Highwater has about 10,000 batches of a ledger at hand; 500 to 1000 ids are fastest)
    highwater.toml:30:8: ledgers[1].wait: "0s" is not a whole number of seconds from 1s up; Sawtooth takes wait=0 for 300 s and a fraction for 285 s; leave the key out for no wait
    highwater.toml:33:8: ledgers[2].name: "träce" is not a name; expected a letter, then up to 63 letters, digits, "-" or "_"
    highwater.toml:35:7: ledgers[2].url: "ftp://h" is neither http nor https; expected e.g. "http://127.0.0.1:8008"
    highwater.toml:36:19: ledgers[2].ids_per_request: 508 is out of range; expected 1 to 507 (Splinter takes request targets of 65,534 bytes, which hold 507 ids)
    highwater.toml:37:8: ledgers[2].wait: "10s" is not below the request's timeout (10s); expected a shorter wait or a longer timeout
    highwater.toml:38:14: ledgers[2].token_file: the token file /nonexistent/base/missing.jwt does not exist; create it with the token as its first line
    "#);
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    let told = errors(
        LEDGER,
        &[
            ("HIGHWATER_BATCHES__POLL_INTERVAL", "1ms"),
            ("HIGHWATER_BATCHES__POL_INTERVAL", "1s"),
            ("HIGHWATER_LEDGERS__TRACE__CONNECTIONS", "-1"),
            ("HIGHWATER_LEDGERS__OTHER__URL", "http://h"),
            ("HIGHWATER_LEDGERS__0__URL", "http://a"),
            ("HIGHWATER_LEDGERS__trace__URL", "http://b"),
            ("HIGHWATER_HTTP__CONTROL_TOKEN", "hunter2"),
            ("HIGHWATER_CONFIG", "highwater.toml"),
            ("PATH", "/bin"),
        ],
    );
    assert!(!told.contains("hunter2"));
    insta::assert_snapshot!(told, @r#"
    HIGHWATER_HTTP__CONTROL_TOKEN: http.control_token: the token is too short for a token; expected at least 16 characters
    HIGHWATER_BATCHES__POLL_INTERVAL: batches.poll_interval: "1ms" is too short; expected 10ms to 1day
    HIGHWATER_LEDGERS__trace__URL: ledgers[0].url: set by HIGHWATER_LEDGERS__0__URL as well; keep one of the two
    HIGHWATER_LEDGERS__TRACE__CONNECTIONS: ledgers[0].connections: -1 is out of range; expected 1 to 1024
    HIGHWATER_BATCHES__POL_INTERVAL: no setting has this environment variable; did you mean HIGHWATER_BATCHES__POLL_INTERVAL?
    HIGHWATER_LEDGERS__OTHER__URL: no setting has this environment variable; unset it or correct its name
    "#);
}

#[test]
fn wrong_shapes_say_what_shape_is_expected() {
    insta::assert_snapshot!(errors("batches = 5\nledgers = 'x'\nport = 1", &[]), @r#"
    highwater.toml:1:11: batches: 5 is not a table; expected [batches] with keys below it
    highwater.toml:2:11: ledgers: "x" is not a list of tables; expected [[ledgers]], once for each
    highwater.toml:3:1: port: unknown key; sections are database, http, server, log, batches, resources, retention, watchdog, ledgers, sites, apps, jobs, events, gateways, subscriptions
    "#);
    insta::assert_snapshot!(errors("[ledgers]\nname = 'x'\n[[http]]\n", &[]), @r#"
    highwater.toml:1:1: ledgers: a table is not a list of tables; expected [[ledgers]], once for each
    highwater.toml:3:1: http: a list of tables is not a table; expected [http] with keys below it
    "#);
    insta::assert_snapshot!(errors("a = 1\n[batches\n", &[]), @r#"highwater.toml:2:9: not TOML: unclosed table, expected `]`"#);
    insta::assert_snapshot!(errors("[log]\nfilter = 'a'\nfilter = 'b'\n", &[]), @r#"highwater.toml:3:1: not TOML: duplicate key"#);
}

#[test]
fn database_addresses_are_checked_and_their_passwords_never_repeated() {
    for url in [
        "postgres://u:hunter2@h:port/db",
        "mysql://u:hunter2@h/db",
        "host=h password=hunter2",
        "sqlite://",
        "sqlite://:memory:",
        "highwater.db",
    ] {
        let told = errors("", &[("HIGHWATER_DATABASE__URL", url)]);
        assert!(
            told.starts_with("HIGHWATER_DATABASE__URL: database.url: "),
            "{told}"
        );
        assert!(told.contains("expected \"sqlite://FILE\""), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    let text = "[database]\nurl = 'postgresql://u:hunter2@h/db?sslmode=require'";
    let postgres = loaded(text, &[]);
    let DatabaseLocation::Postgres(url) = &postgres.settings.database.location else {
        panic!("not PostgreSQL");
    };
    assert_eq!(url.expose(), "postgresql://u:hunter2@h/db?sslmode=require");
    let shown = format!("{}{postgres:?}", dump(&postgres));
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        shown.contains("postgresql://u:***@h/db?sslmode=require"),
        "{shown}"
    );
    let query = PostgresUrl::new("postgres://u@h/db?sslmode=require&pass%77ord=hunter2");
    assert_eq!(query.to_string(), "postgres://u@h/db");
    let absolute = loaded("database.url = 'sqlite:///abs/x.db'", &[]);
    let expected = DatabaseLocation::Sqlite(PathBuf::from("/abs/x.db"));
    assert_eq!(absolute.settings.database.location, expected);
}

#[test]
fn another_address_than_loopback_needs_tokens() {
    let told = errors("[http]\nlisten = '0.0.0.0:8780'", &[]);
    insta::assert_snapshot!(told, @r#"highwater.toml:2:10: http.listen: "0.0.0.0:8780" is open to other machines, which needs tokens; set control_token_file and intake_token_file, or listen on 127.0.0.1 or [::1]"#);
    let one = errors(
        "[http]\nlisten = '[::]:8780'",
        &[("HIGHWATER_HTTP__CONTROL_TOKEN", "0123456789abcdef")],
    );
    assert!(one.contains("set intake_token_file, or"), "{one}");
    let both = loaded(
        "[http]\nlisten = '0.0.0.0:8780'\ncontrol_token_file = 'c.token'",
        &[("HIGHWATER_HTTP__INTAKE_TOKEN", "0123456789abcdef")],
    );
    assert!(both.settings.http.intake_token.is_some());
    loaded("[http]\nlisten = '[::ffff:127.0.0.1]:0'", &[]);
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = format!(
        "{LEDGER}\n[[ledgers]]\nname='supply-chain'\nkind='splinter'\nurl='http://h'\n[batches]\npoll_interval='9s'\n"
    );
    let loaded = loaded(
        &text,
        &[
            ("HIGHWATER_BATCHES__POLL_INTERVAL", "2s"),
            ("HIGHWATER_BATCHES__REPOLL__MIN", "3s"),
            ("HIGHWATER_BATCHES__COMMIT_ROWS", "7"),
            ("HIGHWATER_LEDGERS__SUPPLY_CHAIN__URL", "http://s"),
            ("HIGHWATER_LEDGERS__0__URL", "http://t"),
        ],
    );
    let batches = &loaded.settings.batches;
    assert_eq!(batches.poll_interval, Duration::from_secs(2));
    assert_eq!(batches.repoll.min, Duration::from_secs(3));
    assert_eq!(batches.repoll.max, Duration::from_secs(60));
    assert_eq!(batches.commit_rows, 7);
    let urls: Vec<&str> = loaded
        .settings
        .ledgers
        .iter()
        .map(|l| l.url.as_str())
        .collect();
    assert_eq!(urls, ["http://t/", "http://s/"]);
}

#[test]
fn a_log_filter_is_checked() {
    for filter in [
        "warn,highwater::ledgers=debug",
        "debug,[span{field=1}]=trace",
    ] {
        let loaded = loaded(LEDGER, &[("HIGHWATER_LOG__FILTER", filter)]);
        assert_eq!(loaded.settings.log.filter, filter);
    }
    for filter in ["highwater=loud", " A\u{c0e}="] {
        let told = errors(LEDGER, &[("HIGHWATER_LOG__FILTER", filter)]);
        assert!(told.contains("is not a log filter"), "{told}");
    }
}

#[test]
fn the_watchdogs_settings_have_bounds() {
    let text = r#"
[watchdog]
restart_backoff = { min = "1ms", max = "31d" }
restart_quiet = "10ms"
restart_limit = -1
restart_period = "2d"
deadline = "99ms"
lost_threads = 65
"#;
    insta::assert_snapshot!(errors(text, &[]), @r#"
    highwater.toml:3:27: watchdog.restart_backoff.min: "1ms" is too short; expected 10ms to 30days
    highwater.toml:3:40: watchdog.restart_backoff.max: "31d" is too long; expected 10ms to 30days
    highwater.toml:4:17: watchdog.restart_quiet: "10ms" is too short; expected 1s to 1day
    highwater.toml:5:17: watchdog.restart_limit: -1 is out of range; expected 0 to 1000000
    highwater.toml:6:18: watchdog.restart_period: "2d" is too long; expected 1s to 1day
    highwater.toml:7:12: watchdog.deadline: "99ms" is too short; expected 100ms to 10m
    highwater.toml:8:16: watchdog.lost_threads: 65 is out of range; expected 0 to 64
    "#);
    let text = "[watchdog]\ndeadline = '10m'\nlost_threads = 0\nrestart_limit = 0";
    let watchdog = loaded(text, &[]).settings.watchdog;
    assert_eq!(watchdog.deadline, Duration::from_secs(600));
    assert_eq!((watchdog.lost_threads, watchdog.restart_limit), (0, 0));
    let difference = diff(&loaded("", &[]).settings, &loaded(text, &[]).settings);
    assert_eq!(difference.sections, ["watchdog"]);
    assert!(difference.restart.is_empty());
}

#[test]
fn no_ledger_at_all_is_a_warning_beside_mistakes_too() {
    for text in ["", "ledgers = []"] {
        let warnings = loaded(text, &[]).warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        insta::allow_duplicates! {
            insta::assert_snapshot!(warnings[0], @"highwater.toml: ledgers: no ledger is configured and no job, nor a subscription, so there is nothing to do; add one with [[ledgers]], [[jobs]] or [[subscriptions]]");
        }
    }
    assert!(loaded(LEDGER, &[]).warnings.is_empty());
    let text = "[http]\ncontrol_token_file = 'new.token'\n[log]\nfilter = 7\n";
    let errors = try_parse(text, &[]).unwrap_err();
    assert_eq!(errors.errors().len(), 1);
    let told: Vec<String> = errors.warnings().iter().map(Finding::to_string).collect();
    assert!(
        told.len() == 2 && told[0].contains("no ledger") && told[1].contains("creates it"),
        "{told:?}"
    );
}

#[test]
fn names_that_share_a_variable_are_told_apart_by_index() {
    let text = format!(
        "{LEDGER}[[ledgers]]\nname='a-b'\nkind='splinter'\nurl='http://h'\n[[ledgers]]\nname='a_b'\nkind='splinter'\nurl='http://h'\n"
    );
    let told = errors(&text, &[("HIGHWATER_LEDGERS__A_B__URL", "http://x")]);
    assert!(
        told.contains("no setting has this environment variable"),
        "{told}"
    );
    let loaded = loaded(&text, &[("HIGHWATER_LEDGERS__2__URL", "http://x")]);
    assert_eq!(loaded.settings.ledgers[2].url.as_str(), "http://x/");
}

#[test]
fn waiting_at_splinter_is_a_warning() {
    let text = "ledgers = [{ name = 's', kind = 'splinter', url = 'http://h', wait = '3s' }]";
    let loaded = loaded(text, &[]);
    assert_eq!(
        loaded.settings.ledgers[0].wait,
        Some(Duration::from_secs(3))
    );
    assert_eq!(loaded.warnings.len(), 1);
    let warning = loaded.warnings[0].to_string();
    assert!(
        warning.starts_with("highwater.toml:1:70: ledgers[0].wait: "),
        "{warning}"
    );
}

#[test]
fn the_dump_shows_every_key_with_its_origin_and_no_secret() {
    let text = format!("{LEDGER}wait = '3s'\n[batches]\npoll_interval = '9s'\n");
    let environment = [
        ("HIGHWATER_BATCHES__REPOLL__MIN", "2s"),
        ("HIGHWATER_BATCHES__COMMIT_ROWS", "7"),
        ("HIGHWATER_HTTP__CONTROL_TOKEN", "hunter2-hunter2-hunter2"),
    ];
    let first = loaded(&text, &environment);
    let dumped = dump(&first);
    insta::assert_snapshot!(dumped, @r#"
    [database]
    url = "sqlite://highwater.db" # default
    schema = "highwater" # default
    connections = 8 # default
    synchronous = "full" # default

    [http]
    listen = "127.0.0.1:8780" # default
    # control_token = "***" # HIGHWATER_HTTP__CONTROL_TOKEN
    # control_token_file is not set
    # intake_token_file is not set
    # read_token_file is not set
    max_body_bytes = "8MiB" # default

    [server]
    shutdown_timeout = "30s" # default
    lease = "10s" # default

    [log]
    filter = "info,actix_server=warn,actix_http=off" # default
    format = "text" # default
    stderr = true # default
    # file.path is not set
    file.rotation = "daily" # default
    file.keep = 7 # default
    # traces.endpoint is not set
    traces.sample = 1.0 # default

    [batches]
    poll_interval = "9s" # file line 7
    fallback_poll_interval = "60s" # default
    repoll.min = "2s" # HIGHWATER_BATCHES__REPOLL__MIN
    repoll.max = "60s" # default
    give_up_after.age = "24h" # default
    # give_up_after.polls is not set
    backoff.min = "1s" # default
    backoff.max = "5min" # default
    breaker_failures = 5 # default
    max_in_flight = 64 # default
    commit_interval = "5ms" # default
    commit_rows = 7 # HIGHWATER_BATCHES__COMMIT_ROWS

    [sites]
    max_in_flight = 64 # default
    sweep_interval = "5s" # default
    deny_private_networks = false # default
    max_result_bytes = "16KiB" # default
    commit_interval = "5ms" # default
    commit_rows = 2000 # default

    [events]
    commit_interval = "2ms" # default
    commit_rows = 2000 # default
    sweep_interval = "1s" # default
    max_events_per_call = 1000 # default
    max_event_bytes = "1MiB" # default

    [resources]
    fetch_slots = 256 # default
    fetch.batches.weight = 1 # default
    fetch.batches.minimum = 8 # default
    fetch.batches.priority = 0 # default
    fetch.sites.weight = 1 # default
    fetch.sites.minimum = 8 # default
    fetch.sites.priority = 0 # default
    database.leases.weight = 1 # default
    database.leases.minimum = 1 # default
    database.leases.priority = 2 # default
    database.updater.weight = 4 # default
    database.updater.minimum = 2 # default
    database.updater.priority = 1 # default
    database.scheduler.weight = 2 # default
    database.scheduler.minimum = 1 # default
    database.scheduler.priority = 1 # default
    database.http.weight = 2 # default
    database.http.minimum = 2 # default
    database.http.priority = 0 # default
    database.upkeep.weight = 1 # default
    database.upkeep.minimum = 1 # default
    database.upkeep.priority = 0 # default

    [retention]
    settled_batches = "30d" # default
    audit = "365d" # default
    polls_per_site = 20 # default

    [watchdog]
    restart_backoff.min = "50ms" # default
    restart_backoff.max = "10s" # default
    restart_quiet = "30s" # default
    restart_limit = 10 # default
    restart_period = "60s" # default
    deadline = "10s" # default
    lost_threads = 4 # default

    [[ledgers]]
    name = "trace" # file line 2
    kind = "sawtooth" # file line 3
    url = "http://h" # file line 4
    role = "primary" # default
    connections = 8 # default
    ids_per_request = 500 # default
    timeout = "10s" # default
    wait = "3s" # file line 5
    max_response_bytes = "8MiB" # default
    # token_file is not set
    "#);
    let second = loaded(&dumped, &[]);
    let difference = diff(&first.settings, &second.settings);
    assert_eq!(difference.sections, ["http"], "only the secret is gone");
    assert!(difference.ledgers_changed.is_empty() && difference.restart.is_empty());
}

/// The shipped file with every key uncommented.
fn uncommented(shipped: &str) -> String {
    let is_key = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = shipped.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if is_key(rest) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_file_holds_every_key_at_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/highwater.toml");
    let shipped = std::fs::read_to_string(&path).unwrap();
    let as_it_stands = load(&path, [], LoadOptions::default()).unwrap();
    let nothing_written = as_it_stands
        .entries
        .iter()
        .all(|e| e.origin == Origin::Default);
    assert!(nothing_written);
    let warnings: Vec<String> = as_it_stands
        .warnings
        .iter()
        .map(Finding::to_string)
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("no ledger is configured"),
        "{warnings:?}"
    );

    let folder = tempfile::tempdir().unwrap();
    for token in [
        "control.token",
        "intake.token",
        "read.token",
        "trace.token",
        "myapp.api.key",
        "sites.password",
        "customs.token",
        "claims.secret",
        "process.secret",
        "process.token",
    ] {
        std::fs::write(folder.path().join(token), "0123456789abcdef").unwrap();
    }
    let text = uncommented(&shipped);
    let full = parse(&text, "f", folder.path(), [], LoadOptions::default())
        .unwrap_or_else(|errors| panic!("{errors}"));
    // In lists one table shows a key, and the next need not repeat it.
    let key = |entry: &Entry| -> String {
        let list = entry.section.split('[').next().unwrap_or_default();
        format!("{list}.{}", entry.key)
    };
    let written: BTreeSet<String> = full
        .entries
        .iter()
        .filter(|entry| matches!(entry.origin, Origin::File { .. }))
        .map(key)
        .collect();
    let examples = ["jobs.name", "jobs.handler.http.path", "subscriptions.order"];
    for entry in &full.entries {
        let path = entry.path();
        assert!(written.contains(&key(entry)), "{path} is not in the file");
        // An example of its own where the default stands before.
        let first = ["jobs[0]", "subscriptions[0]"].contains(&entry.section.as_str());
        if examples.contains(&key(entry).as_str()) && !first {
            continue;
        }
        if entry.default.is_some() {
            assert_eq!(entry.value, entry.default, "{path} is not at its default");
        }
    }
    let handlers = [
        "http = {}",
        "civicrm = { entity = 'E', action = 'a' }",
        "command.args = ['p']",
        "code = {}",
    ];
    let jobs = handlers.map(|handler| {
        let name = handler.split([' ', '.']).next().unwrap();
        format!("[[jobs]]\napp='a'\nname='{name}'\nhandler.{handler}\n")
    });
    let app = "[[apps]]\nid='a'\napi_key_file='myapp.api.key'\n";
    let gateway = "[[gateways]]\nname='g'\nkind='rest'\nurl='http://h'\ncallback_base='http://h'\n";
    let asked =
        "gateway='g'\nchannel='c'\nchaincode='c'\nevent_name='e'\nhook_secret_file='claims.secret'";
    let subscriptions = [
        asked,
        "ledger='trace'\nrelevance='all'",
        "hook_secret_file='claims.secret'\norder='ordinal'\nfields.ordinal='/n'\nhandler.http.url='http://h'",
        "ledger='trace'\nhandler.command.args=['p']",
        "ledger='trace'\nhandler.code={}",
    ];
    let subscriptions = subscriptions
        .iter()
        .enumerate()
        .map(|(index, rest)| format!("[[subscriptions]]\nname='s{index}'\n{rest}\n"));
    let subscriptions: String = subscriptions.collect();
    let text = format!("{LEDGER}{app}{}{gateway}{subscriptions}", jobs.concat());
    let defaults = parse(&text, "f", folder.path(), [], LoadOptions::default())
        .unwrap_or_else(|errors| panic!("{errors}"));
    let keys = |loaded: &Loaded| -> BTreeSet<String> { loaded.entries.iter().map(key).collect() };
    assert_eq!(keys(&full), keys(&defaults));
}

#[test]
fn log_outputs_are_read_and_their_mistakes_told() {
    let log = |keys: &str| loaded(&format!("[log]\n{keys}"), &[]);
    let file = log("file = { path = 'a.log', rotation = 'hourly', keep = 3 }")
        .settings
        .log
        .file;
    let expected = LogFileSettings {
        path: PathBuf::from("/nonexistent/base/a.log"),
        rotation: LogRotation::Hourly,
        keep: 3,
    };
    assert_eq!(file, Some(expected));
    let traces = |keys: &str| log(keys).settings.log.traces.unwrap();
    assert_eq!(
        traces("traces = { endpoint = 'http://h/v1', sample = 0.25 }").sample,
        0.25
    );
    assert_eq!(
        traces("traces = { endpoint = 'http://h/v1', sample = 1 }").sample,
        1.0
    );
    let by_variable = loaded(
        "log.traces.endpoint = 'https://h'",
        &[
            ("HIGHWATER_LOG__TRACES__SAMPLE", "0.5"),
            ("HIGHWATER_LOG__STDERR", "false"),
        ],
    );
    assert_eq!(by_variable.settings.log.traces.unwrap().sample, 0.5);
    assert!(!by_variable.settings.log.stderr);

    let told = errors("[log]\nfilter = 'loud'", &[]);
    assert!(told.contains("\"loud\" is no level"), "{told}");
    let fine = "[log]\nfilter = 'WARN,highwater::ledgers=debug,sqlx=off'";
    assert!(try_parse(fine, &[]).is_ok());
    let warning = |loaded: Loaded| format!("{:?}", loaded.warnings);
    assert!(warning(log("stderr = false")).contains("nothing is logged"));
    assert!(warning(log("file.keep = 3")).contains("no file is named"));

    let wrong = "[log]\nstderr = 'no'\nfile = { path = '/tmp', keep = 0, rotation = 'weekly' }\n\
                 traces = { endpoint = 'http://me:hunter2@h', sample = 1.5 }";
    let told = errors(wrong, &[]);
    for part in [
        "log.stderr: \"no\" is neither; expected true or false",
        "log.file.rotation: \"weekly\" is not known; expected \"daily\" or \"hourly\" or \"never\"",
        "log.file.keep: 0 is out of range; expected 1 to 1000",
        "log.file.path: names a folder",
        "log.traces.endpoint: the address holds a user or password",
        "log.traces.sample: 1.5 is not a share; expected 0.0 (none) to 1.0 (all)",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn the_log_is_not_written_into_the_database() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("b.db"), "").unwrap();
    std::os::unix::fs::symlink("b.db", folder.path().join("link")).unwrap();
    std::os::unix::fs::symlink(".", folder.path().join("here")).unwrap();
    let told = |path: &str| {
        let text = format!(
            "database.url = 'sqlite://b.db'\nlog.file = {{ path = '{path}', rotation = 'never' }}"
        );
        let loaded = parse(&text, "t.toml", folder.path(), [], LoadOptions::default());
        loaded.map_or_else(|errors| errors.to_string(), |_| String::new())
    };
    for path in [
        "b.db",
        "./b.db-wal",
        "b.db-shm",
        "b.db.lock",
        "link",
        "here/b.db-journal",
    ] {
        let told = told(path);
        assert!(
            told.contains("log.file.path") && told.contains("a file of the database"),
            "{path}: {told}"
        );
    }
    assert_eq!(told("b.db.log"), "");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent.toml");
    let told = load(&path, [], LoadOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        told.starts_with(&format!("{}: cannot read", path.display())),
        "{told}"
    );
    std::fs::write(&path, b"[log]\nfilter = \"\xff\"").unwrap();
    let told = load(&path, [], LoadOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        told.starts_with(&format!("{}:2:11: not UTF-8", path.display())),
        "{told}"
    );
}

#[test]
fn token_files_of_others_must_exist_and_should_be_private() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("[http]\nread_token_file = 'read.token'\n{LEDGER}");
    let parse = || parse(&text, "f", folder.path(), [], LoadOptions::default());
    let told = parse().unwrap_err().to_string();
    assert!(
        told.starts_with("f:2:19: http.read_token_file: the token file "),
        "{told}"
    );
    std::fs::write(folder.path().join("read.token"), "short").unwrap();
    assert!(parse().unwrap_err().to_string().contains("too short"));
    std::fs::write(folder.path().join("read.token"), "0123456789abcdef\n").unwrap();
    let loaded = parse().unwrap();
    assert_eq!(loaded.warnings.len(), usize::from(cfg!(unix)));
    assert!(loaded.settings.http.read_token.is_some());
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[0-9]{1,25} ?(ns|ms|s|m|h|d|y|MiB|EiB|k)?",
            "[ -~]{0,30}",
            "[a-z:/@.?#\\[\\]0-9]{0,20}",
            Just("sqlite://".to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            drop(try_parse(&text, &[]));
        }

        #[test]
        fn no_toml_panics(
            section in "(\\[|\\[\\[)?(batches|ledgers|http|log|database)(\\]|\\]\\])?",
            keys in proptest::collection::vec(("(url|wait|name|kind|repoll|repoll.min|filter|listen|max_body_bytes|[a-zé\"'.]{1,6})", value(), any::<bool>()), 0..6),
        ) {
            let mut text = format!("{section}\n");
            for (key, value, quoted) in keys {
                let value = if quoted { toml_edit::Value::from(value).to_string() } else { value };
                text.push_str(&format!("{key} = {value}\n"));
            }
            drop(try_parse(&text, &[]));
        }

        #[test]
        fn no_environment_panics(
            key in "(BATCHES__(POLL_INTERVAL|COMMIT_ROWS|REPOLL__MIN)|LOG__FILTER|HTTP__(LISTEN|MAX_BODY_BYTES|CONTROL_TOKEN)|DATABASE__(URL|SCHEMA)|LEDGERS__(0|TRACE)__(URL|WAIT|NAME)|[A-Z_é]{0,12})",
            value in value(),
        ) {
            let name = format!("HIGHWATER_{key}");
            if let Ok(loaded) = try_parse(LEDGER, &[(&name, &value)]) {
                let dumped = dump(&loaded);
                prop_assert!(toml_edit::Document::parse(dumped.as_str()).is_ok(), "{}", dumped);
            }
        }
    }
}
