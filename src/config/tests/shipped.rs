//! The shipped configuration file.

use super::*;
use std::collections::BTreeSet;

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
    let warnings = told(&as_it_stands.warnings);
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
        "prices.token",
        "our_batches.token",
    ] {
        std::fs::write(folder.path().join(token), "0123456789abcdef").unwrap();
    }
    let text = uncommented(&shipped);
    let read =
        |text: &str| parse_in(folder.path(), text, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    // These two do not go together, so each is left out once.
    let seed = "seed_listen = \"127.0.0.1:8790\"\n";
    assert!(text.contains(seed));
    read(&text.replace("read_token_file = \"read.token\"\n", ""));
    let full = read(&text.replace(seed, ""));
    // In lists one table shows a key, and the next need not repeat it.
    let key = |entry: &Entry| -> String {
        let list = entry.section.split('[').next().unwrap_or_default();
        format!("{list}.{}", entry.key)
    };
    let mut written: BTreeSet<String> = full
        .entries
        .iter()
        .filter(|entry| matches!(entry.origin, Origin::File { .. }))
        .map(key)
        .collect();
    written.insert("datasets.seed_listen".to_owned());
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
    let datasets = "[[datasets]]\nname='d'\n[[replicas]]\nname='r'\nupstream='http://h'\n";
    let text = format!(
        "{LEDGER}{app}{}{gateway}{subscriptions}{datasets}",
        jobs.concat()
    );
    let defaults = read(&text);
    let keys = |loaded: &Loaded| -> BTreeSet<String> { loaded.entries.iter().map(key).collect() };
    assert_eq!(keys(&full), keys(&defaults));
}
