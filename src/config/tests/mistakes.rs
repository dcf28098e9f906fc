//! Every mistake is told with its place, what stands there and what should.

use super::*;
use std::path::PathBuf;
use std::time::Duration;

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
    highwater.toml:2:2: databse: unknown section; did you mean database?; sections are database, http, server, log, batches, resources, retention, watchdog, ledgers, sites, apps, jobs, events, gateways, subscriptions, replication, datasets, replicas
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
fn wrong_shapes_say_what_shape_is_expected() {
    insta::assert_snapshot!(errors("batches = 5\nledgers = 'x'\nport = 1", &[]), @r#"
    highwater.toml:1:11: batches: 5 is not a table; expected [batches] with keys below it
    highwater.toml:2:11: ledgers: "x" is not a list of tables; expected [[ledgers]], once for each
    highwater.toml:3:1: port: unknown key; sections are database, http, server, log, batches, resources, retention, watchdog, ledgers, sites, apps, jobs, events, gateways, subscriptions, replication, datasets, replicas
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
            insta::assert_snapshot!(warnings[0], @"highwater.toml: ledgers: no ledger is configured and no job, nor a subscription, dataset or replica, so there is nothing to do; add one with [[ledgers]], [[jobs]], [[subscriptions]], [[datasets]] or [[replicas]]");
        }
    }
    assert!(loaded(LEDGER, &[]).warnings.is_empty());
    let text = "[http]\ncontrol_token_file = 'new.token'\n[log]\nfilter = 7\n";
    let errors = try_parse(text, &[]).unwrap_err();
    assert_eq!(errors.errors().len(), 1);
    let told = told(errors.warnings());
    assert!(
        told.len() == 2 && told[0].contains("no ledger") && told[1].contains("creates it"),
        "{told:?}"
    );
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
