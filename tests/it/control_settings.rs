//! Settings changed live, by a reload and by control: what is applied, what is
//! left alone, what is refused and what is said.

use crate::life_support::{Db, PATIENCE, Place, Server, ledger, new_ids, sim, submit, until};
use highwater::ledgers::LedgerKind;
use highwater::sim::SimHandle;
use highwater::watchdog::{EffectiveSetting, OrderError, Reloaded, ServiceState};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

const BATCHES: &str =
    "[batches]\npoll_interval = \"100ms\"\nrepoll = { min = \"50ms\", max = \"200ms\" }\n";

fn trace(name: &str, sim: &SimHandle) -> String {
    ledger(name, LedgerKind::Sawtooth, sim, "connections = 2")
}

fn quick() -> SimHandle {
    sim(LedgerKind::Sawtooth, |_| {})
}

fn set(changes: &[(&str, &str)]) -> BTreeMap<String, Option<String>> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), Some((*value).to_owned()));
    changes.iter().map(owned).collect()
}

fn forget(key: &str) -> BTreeMap<String, Option<String>> {
    BTreeMap::from([(key.to_owned(), None)])
}

fn changed(keys: &[&str]) -> Result<Reloaded, OrderError> {
    Ok(Reloaded {
        changed: keys.iter().map(ToString::to_string).collect(),
        needs_restart: Vec::new(),
    })
}

/// What a refused order says.
fn refusal<T: std::fmt::Debug>(answer: Result<T, OrderError>) -> String {
    match answer {
        Err(OrderError::Refused(told)) => told.join("\n"),
        other => panic!("not refused: {other:?}"),
    }
}

async fn setting(server: &Server, key: &str) -> EffectiveSetting {
    let settings = server.query.settings().await.unwrap();
    let found = settings.into_iter().find(|setting| setting.key == key);
    found.unwrap_or_else(|| panic!("no {key}"))
}

/// Value and origin of a setting.
async fn effective(server: &Server, key: &str) -> (String, String) {
    let setting = setting(server, key).await;
    (setting.value, setting.origin)
}

fn pair(value: &str, origin: &str) -> (String, String) {
    (value.to_owned(), origin.to_owned())
}

/// Since when each service runs, and how often it was restarted.
async fn lives(server: &Server) -> Vec<String> {
    until("all services run", PATIENCE, async || {
        let services = server.query.list();
        if services
            .iter()
            .all(|service| service.state == ServiceState::Running)
        {
            let life = |service: &highwater::watchdog::ServiceStatus| {
                format!("{} {} {:?}", service.name, service.since, service.restarts)
            };
            Ok(services.iter().map(life).collect())
        } else {
            Err(format!("{services:?}"))
        }
    })
    .await
}

/// Stands before a ledger and counts the connections made to it.
async fn counted(sim: &SimHandle) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let target = sim.url().trim_start_matches("http://").to_owned();
    let counter = count.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let target = target.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(target).await.unwrap();
                // A side that hangs up ends the connection.
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            });
        }
    });
    (url, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_of_a_reload_is_applied_and_nothing_else_is_touched() {
    let (stays, goes, comes) = (quick(), quick(), quick());
    let (url, connections) = counted(&stays).await;
    let stays_at = format!(
        "[[ledgers]]\nname = \"stays\"\nkind = \"sawtooth\"\nurl = \"{url}\"\nconnections = 1\n"
    );
    let place = Place::new(Db::Sqlite);
    let first = format!("{BATCHES}{stays_at}{}", trace("goes", &goes));
    let server = Server::start_from_file(&place, &first);
    let before = lives(&server).await;
    let works = async |name: &'static str, sim: &SimHandle| {
        submit(&server, name, sim, "", &new_ids(20)).await;
        server.all_settle(name).await;
    };
    works("stays", &stays).await;
    works("goes", &goes).await;
    assert_eq!(connections.load(Ordering::SeqCst), 1);

    let interval = first.replace("100ms", "120ms");
    let log = interval.replace(
        "[batches]",
        "[retention]\nsettled_batches = \"9d\"\n[batches]",
    );
    let added = format!("{log}{}", trace("comes", &comes));
    let removed = format!(
        "{}{stays_at}{}",
        log.split("[[ledgers]]").next().unwrap(),
        trace("comes", &comes)
    );
    let quieter = "off,highwater=off";
    for (text, filter, expected) in [
        (&first, "off", &[][..]),
        (&interval, "off", &["batches.poll_interval"]),
        (&log, "off", &["retention.settled_batches"]),
        (&log, quieter, &["log.filter"]),
        (&added, quieter, &["ledgers.comes"]),
        (&removed, quieter, &["ledgers.goes"]),
    ] {
        place.write(text);
        let file = place.path().join("highwater.toml");
        let whole = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, whole.replace("\"off\"", &format!("\"{filter}\""))).unwrap();
        assert_eq!(server.query.reload(false).await, changed(expected));
        assert_eq!(effective(&server, "log.filter").await.0, filter);
        works("stays", &stays).await;
        assert_eq!(lives(&server).await, before, "nothing was restarted");
    }
    works("comes", &comes).await;
    assert_eq!(
        connections.load(Ordering::SeqCst),
        1,
        "a ledger that did not change keeps its connection"
    );
    let asked = goes.stats().requests;
    for id in new_ids(3) {
        goes.submit("", &id);
        insert(&place.path().join("highwater.db"), "goes", &id);
    }
    works("stays", &stays).await;
    assert_eq!(goes.stats().requests, asked, "it is gone");
    assert_eq!(lives(&server).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_wins_until_it_is_forgotten_and_shows_as_origin() {
    let sim = quick();
    let place = Place::new(Db::Sqlite);
    let slow = BATCHES.replace("100ms", "1h");
    let server = Server::start_from_file(&place, &format!("{slow}{}", trace("trace", &sim)));
    let before = lives(&server).await;
    let written = setting(&server, "batches.poll_interval").await;
    let file = place.path().join("highwater.toml");
    let line = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .position(|line| line.starts_with("poll_interval"))
        .unwrap();
    assert_eq!(
        (written.value.as_str(), written.origin.as_str()),
        ("1h", "file")
    );
    assert_eq!(
        written.place,
        Some(format!("{}:{}", file.display(), line + 1))
    );
    assert_eq!(
        effective(&server, "batches.commit_rows").await,
        pair("2000", "default")
    );

    let id = new_ids(1).remove(0);
    sim.submit("", &id);
    let path = place.path().join("highwater.db");
    insert(&path, "trace", &id);
    let answer = server
        .query
        .change(set(&[
            ("batches.poll_interval", "100ms"),
            ("ledgers.trace.connections", "3"),
        ]))
        .await;
    assert_eq!(
        answer,
        changed(&["batches.poll_interval", "ledgers.trace.connections"])
    );
    // In force: a row that came by SQL would not be looked for within the hour.
    server.all_settle("trace").await;
    let control = setting(&server, "batches.poll_interval").await;
    assert_eq!(
        (
            control.value.as_str(),
            control.origin.as_str(),
            &control.place
        ),
        ("100ms", "control", &None)
    );
    assert_eq!(
        effective(&server, "ledgers.trace.connections").await,
        pair("3", "control")
    );
    // The same value again is set, and is no change.
    let same = set(&[
        ("batches.poll_interval", "100 ms"),
        ("batches.commit_rows", "2000"),
    ]);
    assert_eq!(server.query.change(same).await, changed(&[]));
    assert_eq!(
        effective(&server, "batches.commit_rows").await,
        pair("2000", "control")
    );
    let answer = server.query.change(forget("batches.poll_interval")).await;
    assert_eq!(answer, changed(&["batches.poll_interval"]));
    assert_eq!(
        effective(&server, "batches.poll_interval").await,
        pair("1h", "file")
    );
    // What control has not set can be forgotten as well.
    let answer = server.query.change(forget("batches.poll_interval")).await;
    assert_eq!(answer, changed(&[]));
    assert_eq!(lives(&server).await, before, "nothing was restarted");
}

/// What an application does by SQL.
fn insert(path: &std::path::Path, ledger: &str, id: &str) {
    use diesel::connection::{Connection, SimpleConnection};
    let mut conn = diesel::SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    conn.batch_execute(&format!(
        "PRAGMA busy_timeout = 5000; INSERT INTO batches (ledger, batch_id) VALUES ('{ledger}', '{id}')"
    ))
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_change_changes_nothing_and_says_everything() {
    let sim = quick();
    let place = Place::new(Db::Sqlite);
    let server = Server::start_from_file(&place, &format!("{BATCHES}{}", trace("trace", &sim)));
    let before = server.query.settings().await.unwrap();
    assert!(
        before
            .iter()
            .all(|setting| setting.key != "ledgers.trace.token")
    );
    let mut changes = set(&[
        ("batches.commit_rows", "7"),
        ("batches.poll_interval", "5 parsecs"),
        ("ledgers.trase.url", "http://x"),
        ("http.control_token", "hunter2-hunter2-hunter2"),
        ("database.connections", "9"),
    ]);
    changes.extend(forget("batches.comit_rows"));
    let told = refusal(server.query.change(changes).await);
    for part in [
        "control: batches.poll_interval: \"5 parsecs\" is not a duration; expected",
        "did you mean ledgers.trace.url?",
        "http.control_token: control sets no secrets",
        "database.connections: this takes effect only at a start",
        "batches.comit_rows: unknown key; did you mean batches.commit_rows?",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
    assert_eq!(told.lines().count(), 5, "{told}");
    assert_eq!(server.query.settings().await.unwrap(), before);
    // It was a mistake of the one who asked, not of the configuration.
    let (_, ready) = server.get("/readyz").await;
    assert_eq!(ready["warnings_total"], 0, "{ready}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_keeps_what_control_set_and_a_reset_forgets_it() {
    let sim = quick();
    let place = Place::new(Db::Sqlite);
    let text = format!("{BATCHES}{}", trace("trace", &sim));
    let server = Server::start_from_file(&place, &text);
    // An edit is not applied before somebody says so.
    place.write(&text.replace("100ms", "300ms").replace("200ms", "400ms"));
    let key = "batches.poll_interval";
    assert_eq!(
        server.query.change(set(&[(key, "110ms")])).await,
        changed(&[key])
    );
    assert_eq!(
        effective(&server, "batches.repoll.max").await,
        pair("200ms", "file")
    );
    assert_eq!(
        server.query.reload(false).await,
        changed(&["batches.repoll.max"])
    );
    assert_eq!(effective(&server, key).await, pair("110ms", "control"));
    // A reset that cannot be carried out forgets nothing.
    place.write("nonsense");
    assert!(refusal(server.query.reload(true).await).contains("not TOML"));
    assert_eq!(effective(&server, key).await, pair("110ms", "control"));
    place.write(&text.replace("100ms", "300ms"));
    assert_eq!(
        server.query.reload(true).await,
        changed(&[key, "batches.repoll.max"])
    );
    assert_eq!(effective(&server, key).await, pair("300ms", "file"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_control_does_not_fit_is_refused_until_a_reset() {
    let (stays, goes) = (quick(), quick());
    let place = Place::new(Db::Sqlite);
    let without = format!("{BATCHES}{}", trace("stays", &stays));
    let server = Server::start_from_file(&place, &format!("{without}{}", trace("goes", &goes)));
    let change = set(&[("ledgers.goes.connections", "1")]);
    server.query.change(change).await.unwrap();
    let before = server.query.settings().await.unwrap();
    place.write(&without.replace("100ms", "300ms"));
    let told = refusal(server.query.reload(false).await);
    assert!(
        told.contains("control: ledgers.goes.connections: unknown key")
            && told.contains("reload --reset"),
        "{told}"
    );
    assert_eq!(server.query.settings().await.unwrap(), before);
    let (status, ready) = server.get("/readyz").await;
    let warnings = ready["warnings"].to_string();
    assert_eq!(status, 200);
    assert!(
        warnings.contains("reload --reset") && warnings.contains("changed nothing"),
        "{warnings}"
    );
    assert_eq!(
        server.query.reload(true).await,
        changed(&["batches.poll_interval", "ledgers.goes"])
    );
    assert_eq!(server.get("/readyz").await.1["warnings_total"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_that_fail_in_a_row_tell_since_when() {
    let sim = quick();
    let place = Place::new(Db::Sqlite);
    let text = format!("{BATCHES}{}", trace("trace", &sim));
    let server = Server::start_from_file(&place, &text);
    let time = |warnings: &str, after: &str| {
        let Some((_, rest)) = warnings.split_once(after) else {
            panic!("{warnings}");
        };
        // As in JSON: 2026-03-01T12:00:00.123456Z
        let (time, _) = rest.split_once('Z').unwrap();
        time.to_owned()
    };
    let warnings = async || {
        let (status, body) = server.get("/readyz").await;
        assert_eq!(status, 200, "{body}");
        body["warnings"].to_string()
    };
    place.write(&text.replace("poll_interval", "pol_interval"));
    refusal(server.query.reload(false).await);
    let first = warnings().await;
    assert!(!first.contains("as all since"), "{first}");
    let began = time(&first, "the last reload, at ");
    // Another mistake, a moment later.
    tokio::time::sleep(Duration::from_millis(20)).await;
    place.write(&text.replace("repoll", "rpoll"));
    refusal(server.query.reload(false).await);
    let second = warnings().await;
    assert!(
        second.contains("rpoll") && !second.contains("pol_interval"),
        "{second}"
    );
    assert_eq!(time(&second, "as all since "), began, "{second}");
    assert_ne!(time(&second, "the last reload, at "), began, "{second}");
    let (_, page) = server.text("/").await;
    assert!(page.contains("none was applied since the one"), "{page}");

    place.write(&text);
    assert_eq!(server.query.reload(false).await, changed(&[]));
    assert_eq!(warnings().await, "[]");
    // The next row begins anew.
    place.write(&text.replace("repoll", "rpoll"));
    refusal(server.query.reload(false).await);
    let third = warnings().await;
    assert!(!third.contains("as all since"), "{third}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_restart_stays_in_force_and_waits() {
    let sim = quick();
    let place = Place::new(Db::Sqlite);
    let text = format!("{BATCHES}{}", trace("trace", &sim));
    let server = Server::start_from_file(&place, &text);
    place.write(&text.replace("100ms", "110ms"));
    let file = place.path().join("highwater.toml");
    let written = std::fs::read_to_string(&file).unwrap();
    let listen = written.replace("127.0.0.1:0", "127.0.0.1:1");
    std::fs::write(&file, listen).unwrap();
    let waits = vec!["http.listen".to_owned()];
    let both = Reloaded {
        changed: vec!["batches.poll_interval".to_owned(), "http.listen".to_owned()],
        needs_restart: waits.clone(),
    };
    assert_eq!(server.query.reload(false).await, Ok(both));
    let still = pair("127.0.0.1:0", "file");
    assert_eq!(effective(&server, "http.listen").await, still);
    // A change by control has nothing to do with it.
    let change = server.query.change(set(&[("batches.commit_rows", "9")]));
    assert_eq!(change.await, changed(&["batches.commit_rows"]));
    assert_eq!(effective(&server, "http.listen").await, still);
    let waiting = Reloaded {
        changed: waits.clone(),
        needs_restart: waits,
    };
    assert_eq!(server.query.reload(false).await, Ok(waiting));
    let (_, ready) = server.get("/readyz").await;
    assert!(
        ready["warnings"]
            .to_string()
            .contains("needs a restart of the server: http.listen")
    );
    std::fs::write(&file, written).unwrap();
    assert_eq!(server.query.reload(false).await, changed(&[]));
    assert_eq!(server.get("/readyz").await.1["warnings_total"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_file_settings_are_changed_and_nothing_is_reloaded() {
    let sim = quick();
    let place = Place::new(Db::Sqlite);
    let server = Server::start(&place, &format!("{BATCHES}{}", trace("trace", &sim)));
    assert_eq!(server.query.reload(false).await, Err(OrderError::NoFile));
    assert_eq!(server.query.reload(true).await, Err(OrderError::NoFile));
    let change = server.query.change(set(&[("server.lease", "20s")]));
    assert_eq!(change.await, changed(&["server.lease"]));
    assert_eq!(
        effective(&server, "server.lease").await,
        pair("20s", "control")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_during_the_drain_are_refused() {
    let sim = sim(LedgerKind::Sawtooth, |options| {
        options.latency = Duration::from_secs(3);
    });
    let place = Place::new(Db::Sqlite);
    let server = Server::start_from_file(&place, &format!("{BATCHES}{}", trace("trace", &sim)));
    submit(&server, "trace", &sim, "", &new_ids(5)).await;
    until("a request is out", PATIENCE, async || {
        if sim.stats().in_flight > 0 {
            Ok(())
        } else {
            Err(format!("{:?}", sim.stats()))
        }
    })
    .await;
    let query = server.query.clone();
    assert_eq!(query.shut_down().await, Ok(()));
    // The drain has begun, and waits for the request.
    let (status, ready) = server.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(ready["reasons"].to_string().contains("stopping"), "{ready}");
    let refused = OrderError::ShuttingDown;
    assert_eq!(query.reload(true).await, Err(refused.clone()));
    let change = query.change(set(&[("batches.commit_rows", "9")]));
    assert_eq!(change.await, Err(refused.clone()));
    assert_eq!(query.settings().await, Err(refused.clone()));
    assert_eq!(query.shut_down().await, Err(refused.clone()));
    server.ended();
    assert_eq!(query.settings().await, Err(refused));
}
