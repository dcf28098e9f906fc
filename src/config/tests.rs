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
    insta::assert_snapshot!(told, @"");
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
    insta::assert_snapshot!(told, @"");
}

#[test]
fn wrong_shapes_say_what_shape_is_expected() {
    insta::assert_snapshot!(errors("batches = 5\nledgers = 'x'\nport = 1", &[]), @"");
    insta::assert_snapshot!(errors("[ledgers]\nname = 'x'\n[[http]]\n", &[]), @"");
    insta::assert_snapshot!(errors("a = 1\n[batches\n", &[]), @"");
    insta::assert_snapshot!(errors("[log]\nfilter = 'a'\nfilter = 'b'\n", &[]), @"");
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
    let absolute = loaded("database.url = 'sqlite:///abs/x.db'", &[]);
    let expected = DatabaseLocation::Sqlite(PathBuf::from("/abs/x.db"));
    assert_eq!(absolute.settings.database.location, expected);
}

#[test]
fn another_address_than_loopback_needs_tokens() {
    let told = errors("[http]\nlisten = '0.0.0.0:8780'", &[]);
    insta::assert_snapshot!(told, @"");
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
        warning.starts_with("highwater.toml:1:73: ledgers[0].wait: "),
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
    insta::assert_snapshot!(dumped, @"");
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
    assert!(as_it_stands.warnings.is_empty());

    let folder = tempfile::tempdir().unwrap();
    for token in ["control.token", "intake.token", "read.token", "trace.token"] {
        std::fs::write(folder.path().join(token), "0123456789abcdef").unwrap();
    }
    let text = uncommented(&shipped);
    let full = parse(&text, "f", folder.path(), [], LoadOptions::default())
        .unwrap_or_else(|errors| panic!("{errors}"));
    for entry in &full.entries {
        let path = entry.path();
        assert!(
            matches!(entry.origin, Origin::File { .. }),
            "{path} is not in the file"
        );
        if entry.default.is_some() {
            assert_eq!(entry.value, entry.default, "{path} is not at its default");
        }
    }
    let defaults = loaded(LEDGER, &[]);
    let keys =
        |loaded: &Loaded| -> BTreeSet<String> { loaded.entries.iter().map(Entry::path).collect() };
    assert_eq!(keys(&full), keys(&defaults));
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
    let text = "[http]\nread_token_file = 'read.token'";
    let parse = || parse(text, "f", folder.path(), [], LoadOptions::default());
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
