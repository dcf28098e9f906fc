//! `highwater ctl` and the real server: each thing asked for is done, refused
//! with a clear message, and recorded.

use crate::command_line::{Ended, program};
use crate::support::{Database, Installation, ServerProcess, eventually, on_both_databases};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

on_both_databases!(
    services_are_stopped_started_and_restarted_by_ctl,
    settings_are_changed_by_ctl_and_wrong_ones_change_nothing,
    wrong_tokens_are_refused_limited_and_recorded,
    ctl_shuts_the_server_down,
);

/// The rest of `[http]`, and a ledger that is never there.
const SECTIONS: &str = r#"control_token_file = "control.token"

[batches]
commit_rows = 700

[[ledgers]]
name = "trace"
kind = "sawtooth"
url = "http://127.0.0.1:9"
"#;

async fn serve(database: &Database) -> (Installation, ServerProcess) {
    let place = Installation::new(database, "controlled", SECTIONS);
    let server = place.serve().await;
    (place, server)
}

/// Runs `highwater ctl` against a server, with what else it is told.
fn ctl_with(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = program(folder);
    command.arg("ctl").args(args).env("USER", "eve");
    command.env_remove("SUDO_USER");
    for (name, value) in variables {
        command.env(name, value);
    }
    Ended::from(command.output().unwrap())
}

struct Ctl<'a> {
    folder: &'a Path,
    server: &'a str,
}

impl<'a> Ctl<'a> {
    fn new(place: &'a Installation, server: &'a ServerProcess) -> Self {
        Self {
            folder: place.path(),
            server: server.address(),
        }
    }

    fn run(&self, args: &[&str]) -> Ended {
        let variables = [
            ("HIGHWATER_CTL_SERVER", self.server),
            ("HIGHWATER_CTL_TOKEN_FILE", "control.token"),
        ];
        ctl_with(self.folder, args, &variables)
    }

    /// What is to succeed; answers its standard output.
    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
        assert_eq!(ended.err, "", "{args:?}");
        ended.out
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[args, &["--json"]].concat())).unwrap()
    }

    /// What is to be refused; answers what is said of it.
    #[track_caller]
    fn refused(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{ended:?}");
        ended.err
    }

    /// (action, target, outcome) of the audit, oldest first.
    fn audit(&self) -> Vec<(String, String, String)> {
        let list = self.json(&["audit", "--limit", "1000"]);
        let rows = list["items"].as_array().unwrap().iter().rev();
        rows.map(|row| {
            let text = |field: &str| row[field].as_str().unwrap().to_owned();
            (text("action"), text("target"), text("outcome"))
        })
        .collect()
    }
}

fn row(action: &str, target: &str, outcome: &str) -> (String, String, String) {
    (action.to_owned(), target.to_owned(), outcome.to_owned())
}

async fn services_are_stopped_started_and_restarted_by_ctl(database: &Database) {
    let (place, server) = serve(database).await;
    let ctl = Ctl::new(&place, &server);
    let listed = ctl.done(&["services"]);
    assert!(listed.starts_with("name"), "{listed}");
    let state = |listed: &str, name: &str| -> Option<String> {
        let line = listed.lines().find(|line| line.starts_with(name))?;
        Some(line.split_whitespace().nth(1)?.to_owned())
    };
    assert_eq!(
        state(&listed, "updater").as_deref(),
        Some("running"),
        "{listed}"
    );
    let shown = ctl.done(&["services", "updater"]);
    assert!(
        shown.contains("critical") && shown.contains("p99"),
        "{shown}"
    );

    assert_eq!(
        ctl.done(&["stop", "housekeeper"]),
        "housekeeper is stopped\n"
    );
    let listed = ctl.done(&["services"]);
    assert_eq!(
        state(&listed, "housekeeper").as_deref(),
        Some("stopped"),
        "{listed}"
    );
    let one = server.get("/v1/services").await;
    let items = one["items"].as_array().unwrap();
    let house = items.iter().find(|s| s["name"] == "housekeeper").unwrap();
    assert_eq!(house["state"], "stopped");
    assert_eq!(
        ctl.done(&["start", "housekeeper"]),
        "housekeeper is running\n"
    );
    let before = ctl.json(&["services", "scheduler"])["generation"].as_u64();
    let after = ctl.json(&["restart", "scheduler"])["generation"].as_u64();
    assert!(after > before, "{before:?} {after:?}");

    let said = ctl.refused(&["stop", "housekeper"]);
    assert!(
        said.contains("cannot stop service \"housekeper\""),
        "{said}"
    );
    assert!(said.contains("404 unknown-service"), "{said}");
    assert!(said.contains("lease_keeper, housekeeper"), "{said}");
    assert!(said.contains(server.address()), "{said}");
    let said = ctl.refused(&["stop", "supervisor"]);
    assert!(said.contains("409 not-allowed"), "{said}");

    assert_eq!(
        ctl.audit(),
        [
            row("services.stop", "housekeeper", "done"),
            row("services.start", "housekeeper", "done"),
            row("services.restart", "scheduler", "done"),
            row("services.stop", "housekeper", "refused"),
            row("services.stop", "supervisor", "refused"),
        ]
    );
    let rows = ctl.json(&["audit", "--target", "scheduler"]);
    let who = rows["items"][0]["who"].as_str().unwrap();
    assert!(
        who.starts_with("control token from 127.0.0.1 (eve"),
        "{who}"
    );
    assert!(
        server.log().contains("highwater::audit"),
        "the log has it too"
    );
    server.terminate().await;
}

async fn settings_are_changed_by_ctl_and_wrong_ones_change_nothing(database: &Database) {
    let (place, server) = serve(database).await;
    let ctl = Ctl::new(&place, &server);
    let value = |key: &str| {
        let list = ctl.json(&["settings", key]);
        let item = &list["items"][0];
        let text = |field: &str| item[field].as_str().unwrap().to_owned();
        (text("value"), text("origin"))
    };
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(value("batches.commit_rows"), pair("700", "file"));
    assert_eq!(value("batches.poll_interval"), pair("5s", "default"));
    let section = ctl.done(&["settings", "batches"]);
    assert!(
        section
            .lines()
            .skip(1)
            .all(|line| line.starts_with("batches."))
    );
    assert!(section.contains("file (highwater.toml:"), "{section}");

    let set = [
        "settings",
        "set",
        "batches.poll_interval=2s",
        "batches.commit_rows=800",
    ];
    let said = ctl.done(&set);
    assert_eq!(
        said,
        "changed: batches.commit_rows\nchanged: batches.poll_interval\n"
    );
    assert_eq!(value("batches.poll_interval"), pair("2s", "control"));

    let wrong = [
        "settings",
        "set",
        "batches.poll_interval=5 parsecs",
        "batches.commit_rows=0",
        "batches.pol=1s",
        "http.control_token=0123456789abcdefX",
        "batches.backoff.min=3s",
    ];
    let said = ctl.refused(&wrong);
    for line in [
        "\n  set.batches.commit_rows: ",
        "\n  set.batches.pol: ",
        "\n  set.batches.poll_interval: ",
        "\n  set.http.control_token: ",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.contains("422 invalid-fields"), "{said}");
    assert!(!said.contains("0123456789abcdefX"), "{said}");
    // The log has the keys alone: any of the values may be a secret.
    let log = server.log();
    assert!(
        log.contains("control changed no setting") && log.contains("batches.poll_interval"),
        "{log}"
    );
    assert!(!log.contains("parsecs"), "{log}");
    assert_eq!(value("batches.poll_interval"), pair("2s", "control"));
    assert_eq!(value("batches.commit_rows"), pair("800", "control"));
    assert_eq!(value("batches.backoff.min"), pair("1s", "default"));
    assert!(
        ctl.refused(&["settings", "no.such"])
            .contains("has no setting")
    );

    let said = ctl.done(&["settings", "forget", "batches.poll_interval"]);
    assert_eq!(said, "changed: batches.poll_interval\n");
    assert_eq!(value("batches.poll_interval"), pair("5s", "default"));

    assert_eq!(ctl.done(&["reload"]), "nothing changed\n");
    let file = place.path().join("highwater.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("commit_rows = 700", "commit_rows = 'x'\nno = 1"),
    )
    .unwrap();
    let said = ctl.refused(&["reload", "--reset"]);
    assert!(said.contains("422 invalid-configuration"), "{said}");
    assert!(
        said.contains("batches.commit_rows") && said.contains("batches.no"),
        "{said}"
    );
    assert_eq!(value("batches.commit_rows"), pair("800", "control"));
    std::fs::write(
        &file,
        text.replace("commit_rows = 700", "commit_rows = 900"),
    )
    .unwrap();
    assert_eq!(
        ctl.done(&["reload", "--reset"]),
        "changed: batches.commit_rows\n"
    );
    assert_eq!(value("batches.commit_rows"), pair("900", "file"));

    assert_eq!(
        ctl.audit(),
        [
            row(
                "settings.change",
                "batches.commit_rows, batches.poll_interval",
                "done"
            ),
            row(
                "settings.change",
                "batches.backoff.min, batches.commit_rows, batches.pol, batches.poll_interval, http.control_token",
                "refused"
            ),
            row("settings.change", "batches.poll_interval", "done"),
            row("reload", "", "done"),
            row("reload", "", "refused"),
            row("reload", "", "done"),
        ]
    );
    let rows = ctl.json(&["audit", "--action", "settings.change"]);
    assert_eq!(
        rows["items"][2]["details"]["set"],
        json!({"batches.poll_interval": "2s", "batches.commit_rows": "800"})
    );
    assert!(!rows.to_string().contains("0123456789abcdefX"), "{rows}");
    assert!(!server.log().contains("0123456789abcdefX"));
    server.terminate().await;
}

async fn wrong_tokens_are_refused_limited_and_recorded(database: &Database) {
    let (place, server) = serve(database).await;
    let ctl = Ctl::new(&place, &server);
    let wrong = [
        ("HIGHWATER_CTL_SERVER", server.address()),
        ("HIGHWATER_CTL_TOKEN", "not-the-token-at-all"),
    ];
    for n in 0..12 {
        let ended = ctl_with(place.path(), &["stop", "scheduler"], &wrong);
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{ended:?}");
        let told = if n < 10 {
            "401 unauthorized: this is not the control token"
        } else {
            "429 too-many-wrong-tokens"
        };
        assert!(ended.err.contains(told), "{n}: {ended:?}");
        assert!(!ended.err.contains("not-the-token-at-all"), "{ended:?}");
    }
    // The right one passes, from the same address.
    let scheduler = ctl.json(&["services", "scheduler"]);
    assert_eq!(scheduler["state"], "running");
    // The first is there at once; the others follow as one row within a minute.
    eventually(
        Duration::from_secs(10),
        "the first is recorded",
        async || ctl.audit() == [row("token", "control", "refused")],
    )
    .await;
    let rows = ctl.json(&["audit"]);
    assert_eq!(rows["items"][0]["who"], "wrong token from 127.0.0.1");
    let metrics = server.page("/metrics").await;
    assert!(
        metrics.contains("highwater_wrong_tokens_total 12"),
        "{metrics}"
    );
    server.terminate().await;
}

async fn ctl_shuts_the_server_down(database: &Database) {
    let (place, mut server) = serve(database).await;
    let address = server.address().to_owned();
    let ctl = Ctl {
        folder: place.path(),
        server: &address,
    };
    // The token of the configuration.
    let server_alone = [("HIGHWATER_CTL_SERVER", address.as_str())];
    let ended = ctl_with(place.path(), &["services"], &server_alone);
    assert_eq!(ended.code, 0, "{ended:?}");
    let said = ctl.done(&["shutdown", "--wait"]);
    assert!(said.ends_with("has ended\n"), "{said}");
    assert_eq!(server.end().await.code(), Some(0), "{}", server.log());
    let said = ctl.refused(&["services"]);
    assert!(
        said.contains(&format!("no answer from {address}")),
        "{said}"
    );
    // The database is read by hand: the server is gone.
    let ended = Ended::from(
        program(place.path())
            .args(["audit", "--output", "json"])
            .output()
            .unwrap(),
    );
    let rows: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(rows["items"][0]["action"], "shutdown");
    assert_eq!(rows["items"][0]["outcome"], "done");
}

#[test]
fn without_a_server_or_a_token_nothing_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let config = |http: &str| {
        let text = format!("[database]\nurl = \"sqlite://h.db\"\n[http]\n{http}\n");
        std::fs::write(folder.path().join("highwater.toml"), text).unwrap();
    };
    let wrong = |args: &[&str], said: &str| {
        let ended = ctl_with(folder.path(), args, &[]);
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (2, ""),
            "{args:?}: {ended:?}"
        );
        assert!(ended.err.contains(said), "{args:?}: {ended:?}");
    };
    wrong(&["services"], "no configuration");
    wrong(
        &["services", "--token-file", "gone", "--server", "http://h"],
        "gone does not exist",
    );
    config("control_token_file = \"control.token\"");
    wrong(&["services"], "control.token does not exist");
    config("");
    wrong(&["services"], "no control token is configured");
    std::fs::write(folder.path().join("t"), "short\n").unwrap();
    wrong(&["services", "--token-file", "t"], "too short");
    std::fs::write(folder.path().join("t"), "0123456789abcdef\n").unwrap();
    config("listen = \"127.0.0.1:0\"");
    wrong(&["services", "--token-file", "t"], "port 0");
    wrong(
        &["services", "--token-file", "t", "--server", "ftp://h"],
        "HTTP address",
    );
    wrong(&["settings", "set", "batches.poll_interval"], "KEY=VALUE");
    wrong(&["settings", "set"], "KEY=VALUE");
    wrong(&["restart"], "NAME");
    wrong(&["poll"], "poll");
    config("listen = 7");
    wrong(&["services"], "--server and --token-file");
    wrong(&["services"], "http.listen");
}

#[test]
fn a_redirect_is_not_followed_with_the_token() {
    use std::io::{Read as _, Write as _};
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t"), "0123456789abcdef\n").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).unwrap();
        let answer = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\
                      Connection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
        drop(stream);
        listener.set_nonblocking(true).unwrap();
        (
            String::from_utf8_lossy(&bytes[..read]).into_owned(),
            listener,
        )
    });
    let args = ["stop", "x/y", "--server", &server, "--token-file", "t"];
    let ended = ctl_with(folder.path(), &args, &[]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.err.contains("redirects are not followed"),
        "{ended:?}"
    );
    let (request, listener) = thread.join().unwrap();
    assert!(
        request.starts_with("POST /v1/control/services/x%2Fy/stop "),
        "{request}"
    );
    assert!(request.contains("highwater-operator: eve"), "{request}");
    assert!(listener.accept().is_err(), "nobody came back");
}
