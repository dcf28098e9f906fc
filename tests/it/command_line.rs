//! What the program says and how it ends: help, wrong usage, configuration.

use assert_cmd::Command;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};
use tempfile::TempDir;

const CONFIG: &str = r#"
[database]
url = "sqlite://highwater.db"

[[ledgers]]
name = "supply-chain"
kind = "splinter"
url = "http://127.0.0.1:8085"

[[ledgers]]
name = "trace"
kind = "sawtooth"
url = "http://127.0.0.1:8008"
"#;

/// A folder with a configuration in it, where commands are run.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(CONFIG)
    }

    pub(crate) fn with(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("highwater.toml"), config).unwrap();
        Self { folder }
    }

    /// Runs the program here, with nothing of our own environment that could
    /// change its settings.
    pub(crate) fn run(&self, args: &[&str], input: &str) -> Ended {
        Ended::from(
            program(self.folder.path())
                .args(args)
                .write_stdin(input)
                .output()
                .unwrap(),
        )
    }

    /// Runs what is to succeed; answers its standard output.
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let ended = self.run(args, "");
        assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
        ended.out
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("ended by itself"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub(crate) fn program(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("highwater").unwrap();
    command.current_dir(folder);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HIGHWATER_")) {
        command.env_remove(name);
    }
    command
}

#[test]
fn every_subcommand_has_help_with_examples() {
    let place = Place::new();
    for command in [
        &["serve"][..],
        &["demo"],
        &["check"],
        &["migrate"],
        &["config", "dump"],
        &["batches", "track"],
        &["batches", "list"],
        &["batches", "show"],
        &["batches", "revive"],
        &["sites", "import"],
        &["sites", "list"],
        &["sites", "show"],
        &["sites", "add"],
        &["sites", "remove"],
        &["sites", "enable"],
        &["sites", "disable"],
        &["sites", "revive"],
        &["audit"],
        &["ctl"],
        &["ctl", "settings"],
        &["states", "list"],
        &["states", "drop"],
        &["sim", "ledger"],
        &["sim", "sites"],
        &["completions"],
        &[],
    ] {
        let help = place.done(&[command, &["--help"]].concat());
        assert!(help.contains("Examples:"), "{command:?}");
        assert!(help.contains("--config"), "{command:?}");
    }
    assert!(place.done(&["--version"]).starts_with("highwater "));
}

#[test]
fn wrong_usage_ends_with_2() {
    let place = Place::new();
    for args in [
        &[][..],
        &["poll"],
        &["check", "--outptu", "json"],
        &["batches", "list", "--status", "done"],
        &["batches", "list", "--limit", "0"],
        &["batches", "show", "--ledger", "trace"],
        &["batches", "track", "aa"],
        &["batches", "revive", "--ledger", "trace"],
        &["batches", "revive", "--ledger", "trace", "--status", "lost"],
        &["sim", "ledger", "--invalid", "7"],
        &["sim", "sites"],
        &["sim", "sites", "5", "--slow", "0.7", "--dead", "0.7"],
        &["sim", "sites", "5", "--app", "a b"],
        &["demo", "--rate", "0"],
        &["completions", "cmd.exe"],
    ] {
        let ended = place.run(args, "");
        assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
        assert!(!ended.err.is_empty() && ended.out.is_empty(), "{args:?}");
    }
    assert!(!place.folder.path().join("highwater.db").exists());
}

#[test]
fn completions_name_the_subcommands() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.done(&["completions", shell]).contains("migrate"));
    }
}

#[test]
fn check_finds_every_mistake_at_once() {
    let place =
        Place::with("[database]\nurl = \"mysql://x\"\n[batches]\npoll_interval = \"soon\"\n");
    let ended = place.run(&["check"], "");
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("highwater.toml:2"), "{}", ended.err);
    assert!(ended.err.contains("highwater.toml:4"), "{}", ended.err);
    assert!(ended.err.contains("batches.poll_interval"));
    // What deserves a look is told as well.
    assert!(
        ended.err.contains("warning: ") && ended.err.contains("no ledger is configured and no job"),
        "{}",
        ended.err
    );

    let ended = place.run(&["check", "--output", "json"], "");
    assert_eq!(ended.code, 2);
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["ok"], false);
    let lines: Vec<_> = report["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["line"].as_i64().unwrap())
        .collect();
    assert_eq!(lines, [2, 4]);
    assert_eq!(report["warnings"][0]["key"], "ledgers");
}

#[test]
fn check_says_what_is_configured() {
    let place = Place::new();
    let said = place.done(&["check"]);
    assert!(said.contains("supply-chain") && said.contains("http://127.0.0.1:8008"));
    let followed = "[database]\nurl = \"sqlite://a.db\"\n[[datasets]]\nname = \"prices\"\n[[replicas]]\nname = \"copy\"\n\
                    upstream = \"http://127.0.0.1:9999\"\ndataset = \"theirs\"\n";
    let replicas = Place::with(followed);
    let told = replicas.done(&["check"]);
    for words in [
        "prices",
        "sent in",
        "copy",
        "theirs",
        "http://127.0.0.1:9999/",
    ] {
        assert!(told.contains(words), "lacks {words}: {told}");
    }
    // It looks, and makes nothing.
    assert!(!place.folder.path().join("highwater.db").exists());
}

#[test]
fn other_commands_refuse_a_wrong_configuration_too() {
    let place = Place::with("[database]\nurl = 7\n");
    for args in [
        &["serve"][..],
        &["migrate"],
        &["config", "dump"],
        &["batches", "list"],
    ] {
        let ended = place.run(args, "");
        assert_eq!(ended.code, 2, "{args:?}");
        assert!(ended.err.contains("highwater.toml:2"), "{}", ended.err);
    }
}

#[test]
fn a_missing_configuration_is_named() {
    let place = Place::new();
    let ended = place.run(&["check", "--config", "other.toml"], "");
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("other.toml"), "{}", ended.err);
}

#[test]
fn the_environment_names_the_configuration_and_overrides_it() {
    let place = Place::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let output = program(elsewhere.path())
        .args(["config", "dump"])
        .env(
            "HIGHWATER_CONFIG",
            place.folder.path().join("highwater.toml"),
        )
        .env("HIGHWATER_BATCHES__POLL_INTERVAL", "7s")
        .output()
        .unwrap();
    let ended = Ended::from(output);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended
            .out
            .contains("poll_interval = \"7s\" # HIGHWATER_BATCHES__POLL_INTERVAL"),
        "{}",
        ended.out
    );
}

#[test]
fn a_fresh_database_is_migrated_once() {
    let place = Place::new();
    let would = place.done(&["migrate", "--dry-run", "--output", "json"]);
    let would: serde_json::Value = serde_json::from_str(&would).unwrap();
    assert!(!would["migrations"].as_array().unwrap().is_empty());
    assert!(!place.folder.path().join("highwater.db").exists());
    assert!(place.done(&["migrate"]).starts_with("ran "));
    assert!(place.done(&["migrate"]).contains("nothing to do"));
}

#[test]
fn the_demo_settles_batches_visits_sites_processes_events_follows_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let output = program(temp.path())
        .args(["demo", "--duration", "12s", "--port", "0"])
        .env("TMPDIR", temp.path())
        .output()
        .unwrap();
    let ended = Ended::from(output);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("Status page:    http://127.0.0.1:"));
    let last = ended.out.lines().rfind(|line| line.contains("tracked"));
    let last = last.unwrap_or_default();
    assert!(
        !last.contains("settled 0") && !last.contains("tracked 0"),
        "{}",
        ended.out
    );
    // Sites are visited meanwhile, and what is told of them happens to them.
    for words in [
        "/sites\n",
        "/subscriptions\n",
        "/replicas\n",
        "highwater replicas show prices_copy",
        "highwater ctl services --server http://127.0.0.1:",
        "500 sites are put into the database",
        "begin to fail",
    ] {
        assert!(ended.out.contains(words), "lacks {words}: {}", ended.out);
    }
    assert!(
        last.contains("; sites: ") && !last.contains(" 0 well"),
        "{}",
        ended.out
    );
    // So are events.
    assert!(
        last.contains("; events: ") && !last.contains(": 0 processed"),
        "{}",
        ended.out
    );
    // The copy of the prices is whole, and in the end it equals what is published.
    let words = "prices_copy equals prices: ";
    assert!(ended.out.contains(words), "lacks {words}: {}", ended.out);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn ctrl_c_ends_the_demo_cleanly() {
    let temp = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(["demo", "--port", "0"])
        .current_dir(temp.path())
        .env("TMPDIR", temp.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Batches are on their way when the first line of the story is told.
    assert!(lines.any(|line| line.unwrap().contains("batches at once")));
    let interrupt = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupt.success());
    assert_eq!(lines.filter_map(Result::err).count(), 0);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn simulated_sites_are_written_to_a_file_and_answer_until_they_are_told_to_stop() {
    let temp = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args([
            "sim",
            "sites",
            "3",
            "--failing",
            "1",
            "--app",
            "org.example.a",
        ])
        .args(["--sites-file", "sites.ndjson"])
        .current_dir(temp.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let told = lines.next().unwrap().unwrap();
    assert!(told.starts_with("3 simulated sites listening: http://127.0.0.1:"));
    let file = std::fs::read_to_string(temp.path().join("sites.ndjson")).unwrap();
    let sites: Vec<serde_json::Value> = file
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(sites.len(), 3);
    assert_eq!(sites[2]["site_id"], "site-000002");
    assert_eq!(sites[2]["app_id"], "org.example.a");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer = runtime.block_on(reqwest::get(sites[2]["url"].as_str().unwrap()));
    assert_eq!(answer.unwrap().status(), 500);
    let terminate = std::process::Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(terminate.success());
    let last = lines.last().unwrap().unwrap();
    assert!(last.starts_with("1 visits: 0 ok, 1 failed"), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = Place::new().run(&["demo", "--port", &port], "");
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains(&port) && ended.err.contains("--port"));
}

#[test]
fn a_database_without_tls_is_refused_where_tls_is_required() {
    let url = std::env::var("HIGHWATER_TEST_POSTGRES_URL")
        .expect("HIGHWATER_TEST_POSTGRES_URL names a PostgreSQL server; ./scripts/test starts one");
    let place = Place::with(&format!("[database]\nurl = \"{url}?sslmode=require\"\n"));
    let ended = place.run(&["migrate"], "");
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.err.contains("server does not support TLS"),
        "{ended:?}"
    );
}
