//! Files: the configuration's own, and those it names.

use super::*;
use secrecy::ExposeSecret as _;
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
    let parse = || parse_in(folder.path(), &text, &[]);
    let told = parse().unwrap_err().to_string();
    assert!(
        told.starts_with("highwater.toml:2:19: http.read_token_file: the token file "),
        "{told}"
    );
    std::fs::write(folder.path().join("read.token"), "short").unwrap();
    assert!(parse().unwrap_err().to_string().contains("too short"));
    std::fs::write(folder.path().join("read.token"), "0123456789abcdef\n").unwrap();
    let loaded = parse().unwrap();
    assert_eq!(loaded.warnings.len(), usize::from(cfg!(unix)));
    assert!(loaded.settings.http.read_token.is_some());
}
