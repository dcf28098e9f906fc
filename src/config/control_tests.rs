//! Values set by control: notation, precedence, and what is refused.

use super::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const TEXT: &str = "
[batches]
poll_interval = '9s'
repoll = { max = '60s' }

[[ledgers]]
name = 'trace'
kind = 'sawtooth'
url = 'http://h'

[[ledgers]]
name = 'supply-chain'
kind = 'splinter'
url = 'http://h'
";

fn at(base: &Path, text: &str, environment: &[(&str, &str)]) -> Loaded {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let options = LoadOptions {
        create_control_token: true,
    };
    parse(text, "highwater.toml", base, environment, options)
        .unwrap_or_else(|errors| panic!("{errors}"))
}

fn loaded(environment: &[(&str, &str)]) -> Loaded {
    at(Path::new("/nonexistent"), TEXT, environment)
}

fn set(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    values.iter().map(owned).collect()
}

fn errors(values: &[(&str, &str)]) -> String {
    let refused = loaded(&[]).with_control(set(values));
    refused.expect_err("it was accepted").to_string()
}

/// Effective value and origin of a key.
fn effective(loaded: &Loaded, key: &str) -> (String, &'static str) {
    let (_, entry) = loaded.keys().find(|(known, _)| known == key).unwrap();
    (entry.plain().unwrap_or_default(), entry.origin.word())
}

#[test]
fn control_wins_over_environment_file_and_default() {
    let before = loaded(&[("HIGHWATER_BATCHES__POLL_INTERVAL", "2s")]);
    let key = "batches.poll_interval";
    assert_eq!(effective(&before, key), ("2s".to_owned(), "environment"));
    let control = set(&[
        (key, "3s"),
        ("batches.repoll.min", "4s"),
        ("batches.commit_rows", "7"),
        ("ledgers.supply-chain.connections", "5"),
        ("ledgers.trace.wait", "2s"),
        ("log.filter", "highwater=debug"),
    ]);
    let after = before.with_control(control.clone()).unwrap();
    assert_eq!(after.control(), &control);
    let batches = &after.settings.batches;
    assert_eq!(batches.poll_interval, Duration::from_secs(3));
    assert_eq!(batches.repoll.min, Duration::from_secs(4));
    assert_eq!(batches.repoll.max, Duration::from_secs(60));
    assert_eq!(batches.commit_rows, 7);
    assert_eq!(after.settings.ledgers[1].connections, 5);
    assert_eq!(after.settings.ledgers[0].wait, Some(Duration::from_secs(2)));
    for (key, value) in &control {
        assert_eq!(effective(&after, key), (value.clone(), "control"));
    }
    let dumped = dump(&after);
    assert!(
        dumped.contains("poll_interval = \"3s\" # control"),
        "{dumped}"
    );
    // What is forgotten is as if it had never been set.
    let forgotten = after.with_control(BTreeMap::new()).unwrap();
    assert_eq!(forgotten.entries, before.entries);
    assert_eq!(
        diff(&forgotten.settings, &before.settings),
        SettingsDiff::default()
    );
}

#[test]
fn every_mistake_is_told_with_its_key_its_value_and_what_is_allowed() {
    insta::assert_snapshot!(errors(&[
        ("batches.poll_interval", "1ms"),
        ("batches.commit_rows", "many"),
        ("batches.pol_interval", "2s"),
        ("poll_interval", "2s"),
        ("batches.repoll", "2s"),
        ("ledgers.trace.connections", "0"),
        ("ledgers.trace.conections", "1"),
        ("ledgers.trase.url", "http://x"),
        ("ledgers[0].url", "http://x"),
        ("ledgers.0.url", "http://x"),
        ("ledgers", "x"),
        ("", "x"),
        ("nothing.like.it", "hunter2"),
    ]), @r#"
    control: batches.poll_interval: "1ms" is too short; expected 10ms to 1day
    control: batches.commit_rows: "many" is not a whole number; expected 1 to 100000
    control: ledgers.trace.connections: 0 is out of range; expected 1 to 1024
    control: unknown key; expected a section and a key, e.g. batches.poll_interval, ledgers.NAME.url
    control: batches.pol_interval: unknown key; did you mean batches.poll_interval?
    control: batches.repoll: unknown key; did you mean batches.repoll.max?
    control: ledgers: unknown key; ledgers go by name, ledgers.NAME.KEY, and those configured are trace, supply-chain; others are added in the configuration file
    control: ledgers.0.url: unknown key; ledgers go by name, ledgers.NAME.KEY, and those configured are trace, supply-chain; others are added in the configuration file
    control: ledgers.trace.conections: unknown key; did you mean ledgers.trace.connections?
    control: ledgers.trase.url: unknown key; did you mean ledgers.trace.url? ledgers go by name, ledgers.NAME.KEY, and those configured are trace, supply-chain; others are added in the configuration file
    control: ledgers[0].url: unknown key; ledgers go by name, ledgers.NAME.KEY, and those configured are trace, supply-chain; others are added in the configuration file
    control: nothing.like.it: unknown key; expected a section and a key, e.g. batches.poll_interval, ledgers.NAME.url
    control: poll_interval: unknown key; did you mean batches.poll_interval?
    "#);
    // Two values that do not go together: the one that was set is to blame.
    insta::assert_snapshot!(errors(&[("batches.repoll.min", "2m")]), @"control: batches.repoll.min: max (1m) is below min (2m); expected max to be at least min");
}

#[test]
fn secrets_identities_and_what_needs_a_restart_are_refused() {
    let told = errors(&[
        ("http.control_token", "hunter2-hunter2-hunter2"),
        ("http.read_token_file", "read.token"),
        ("ledgers.trace.token", "hunter2-hunter2-hunter2"),
        ("ledgers.trace.token_file", "trace.token"),
        ("ledgers.trace.name", "other"),
        ("log.file.path", "authorized_keys"),
        ("database.url", "sqlite://other.db"),
        ("database.connections", "9"),
        ("http.listen", "127.0.0.1:1"),
    ]);
    assert!(!told.contains("hunter2"), "{told}");
    insta::assert_snapshot!(told, @r"
    control: database.connections: this takes effect only at a start; change the configuration file, and restart the server
    control: database.url: this takes effect only at a start; change the configuration file, and restart the server
    control: http.control_token: control sets no secrets; change what is in the token's file, and reload
    control: http.listen: this takes effect only at a start; change the configuration file, and restart the server
    control: http.read_token_file: control does not choose where secrets come from; change the configuration file, and reload
    control: ledgers.trace.name: a name is an identity, which control does not change; change the configuration file, and reload
    control: ledgers.trace.token: control sets no secrets; change what is in the token's file, and reload
    control: ledgers.trace.token_file: control does not choose where secrets come from; change the configuration file, and reload
    control: log.file.path: control does not choose files to write to; change the configuration file, and reload
    ");
}

#[test]
fn no_key_that_needs_a_restart_is_open_to_control() {
    let loaded = loaded(&[]);
    let other = at(
        Path::new("/nonexistent"),
        "http.listen = '127.0.0.1:1'\n[database]\nurl = 'postgres://h/d'\nschema = 's'\nconnections = 1\nsynchronous = 'normal'\n",
        &[],
    );
    let restart = diff(&loaded.settings, &other.settings).restart;
    assert_eq!(restart.len(), 5);
    for key in restart {
        let problem = loaded.closed_to_control(key).unwrap().to_string();
        assert!(problem.contains("only at a start"), "{problem}");
    }
    assert_eq!(loaded.closed_to_control("ledgers.trace.url"), None);
    assert!(loaded.closed_to_control("ledgers.trace.urls").is_some());
}

#[test]
fn the_address_that_a_token_goes_to_is_closed_to_control() {
    let set = set(&[
        ("ledgers.trace.url", "http://elsewhere"),
        ("ledgers.supply-chain.url", "http://other"),
    ]);
    let variable = ("HIGHWATER_LEDGERS__TRACE__TOKEN", "hunter2-hunter2-hunter2");
    let told = loaded(&[variable]).with_control(set.clone());
    let told = told.expect_err("the token travels").to_string();
    insta::assert_snapshot!(told, @"control: ledgers.trace.url: the ledger's token is sent to this address, which control does not change then; change the configuration file, and reload");
    // No token, nothing to send elsewhere.
    let after = loaded(&[]).with_control(set).unwrap();
    assert_eq!(after.settings.ledgers[0].url.as_str(), "http://elsewhere/");
}

#[test]
fn nothing_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("read.token");
    std::fs::write(&token, "0123456789abcdef").unwrap();
    let text = format!(
        "[http]\nread_token_file = 'read.token'\ncontrol_token_file = 'control.token'\n{TEXT}"
    );
    let before = at(folder.path(), &text, &[]);
    let made = folder.path().join("control.token");
    assert_eq!(
        before.created_control_token.as_deref(),
        Some(made.as_path())
    );
    std::fs::remove_file(&made).unwrap();
    std::fs::write(&token, "another-token-0123456789").unwrap();
    let after = before
        .with_control(set(&[("log.filter", "debug")]))
        .unwrap();
    assert!(!made.exists());
    let difference = diff(&before.settings, &after.settings);
    assert_eq!(difference.sections, ["log"]);
    assert!(difference.secrets.is_empty(), "{difference:?}");
    assert!(!format!("{after:?}").contains("0123456789abcdef"));
    // A load reads them.
    let again = at(folder.path(), &text, &[]);
    let difference = diff(&before.settings, &again.settings);
    assert_eq!(
        difference.secrets,
        ["http.control_token", "http.read_token"]
    );
}

#[test]
fn changed_keys_are_those_with_another_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.token");
    let token = |token: &str| std::fs::write(&path, token).unwrap();
    token("0123456789abcdef");
    let old = TEXT.replace(
        "name = 'trace'",
        "name = 'trace'\ntoken_file = 'trace.token'",
    );
    let before = at(folder.path(), &old, &[]);
    token("another-token-0123456789");
    let new = old
        .replace("'9s'", "'2s'")
        // Written in another way only.
        .replace("'60s'", "'1m'\nmin = '1s'")
        .replace("repoll = {", "[batches.repoll]\n")
        .replace(" }", "")
        .replace("supply-chain", "other");
    let after = at(
        folder.path(),
        &format!("{new}\n[log]\nfilter = 'warn'\n"),
        &[],
    );
    let values = before
        .keys()
        .map(|(key, entry)| (key, entry.value.clone()))
        .collect();
    let difference = diff(&before.settings, &after.settings);
    assert_eq!(
        changed_keys(&values, &after, &difference),
        [
            "batches.poll_interval",
            "ledgers.other",
            "ledgers.supply-chain",
            "ledgers.trace.token",
            "log.filter"
        ]
    );
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_control_panics_and_what_is_accepted_is_effective(
            key in "(batches\\.(poll_interval|repoll\\.min|commit_rows)|log\\.filter|http\\.(listen|max_body_bytes|control_token)|ledgers\\.(trace|0|[a-z]{0,3})\\.(url|wait|name|token)|[a-z.\\[\\]]{0,12})",
            value in "([0-9]{1,6} ?(ms|s|m|h|MiB|k)?|[ -~]{0,20})",
        ) {
            let before = loaded(&[]);
            match before.with_control(set(&[(&key, &value)])) {
                Ok(after) => {
                    prop_assert_eq!(effective(&after, &key).1, "control");
                    prop_assert!(before.closed_to_control(&key).is_none());
                }
                Err(errors) => {
                    let told = errors.to_string();
                    prop_assert!(told.starts_with("control: "), "{}", told);
                }
            }
        }
    }
}
