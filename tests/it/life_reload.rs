//! Reload and drain of the program itself: SIGHUP and SIGTERM.

mod process;

use self::process::Process;
use crate::life_support::{Db, PATIENCE, ledger, new_ids, sim, submit, text, until};
use highwater::ledgers::LedgerKind;
use highwater::sim::{Behaviour, SimHandle};
use highwater::store::Store;
use std::time::{Duration, Instant};

const BATCHES: &str =
    "[batches]\npoll_interval = \"100ms\"\nrepoll = { min = \"50ms\", max = \"200ms\" }\n";

fn trace(name: &str, sim: &SimHandle) -> String {
    ledger(
        name,
        LedgerKind::Sawtooth,
        sim,
        "connections = 2\nids_per_request = 20",
    )
}

fn slow() -> SimHandle {
    sim(LedgerKind::Sawtooth, |options| {
        options.latency = Duration::from_millis(30);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_ledgers_intervals_and_logs_without_a_restart() {
    let (stays, goes, comes) = (slow(), slow(), slow());
    let log = "[log]\nfilter = \"warn,highwater::app::wiring=info\"\n";
    let mut process = Process::start(
        Db::Sqlite,
        &format!(
            "{log}{BATCHES}{}{}",
            trace("stays", &stays),
            trace("goes", &goes)
        ),
    );
    let api = process.api.clone();
    goes.set_behaviour(&Behaviour {
        validator_gone: true,
        ..Behaviour::default()
    });
    submit(&api, "stays", &stays, "", &new_ids(1000)).await;
    submit(&api, "goes", &goes, "", &new_ids(20)).await;
    until("work is under way", PATIENCE, async || {
        let settled = api.rows("ledger=stays&status=committed").await.len();
        if settled > 0 {
            Ok(())
        } else {
            Err("nothing settled".to_owned())
        }
    })
    .await;

    let lives = process.lives().await;
    let log = "[log]\nfilter = \"warn,highwater=info\"\nformat = \"json\"\n";
    let batches = BATCHES.replace("100ms", "1h");
    let whole = format!(
        "{log}{batches}{}{}",
        trace("stays", &stays),
        trace("comes", &comes)
    );
    process.reload(&whole);
    process.logged("\"message\":\"log settings applied\"").await;
    submit(&api, "comes", &comes, "", &new_ids(100)).await;
    api.all_settle("stays").await;
    api.all_settle("comes").await;
    api.assert_true("stays", &stays, 1000).await;
    api.assert_true("comes", &comes, 100).await;
    assert_eq!(stays.stats().asked_after_final, 0, "work under way went on");
    // The one that was removed is asked no more; its rows stay.
    assert_eq!(api.rows("ledger=goes&status=pending").await.len(), 20);
    goes.set_behaviour(&Behaviour::default());
    let (_, ledgers) = api.get("/v1/ledgers").await;
    let state = |name: &str| {
        let items = ledgers["items"].as_array().unwrap();
        items
            .iter()
            .find(|item| item["name"] == name)
            .map(|item| text(&item["state"]).to_owned())
    };
    assert_eq!(
        state("goes").as_deref(),
        Some("not_configured"),
        "{ledgers}"
    );
    assert!(
        process
            .warnings()
            .await
            .contains("20 batches wait for ledger goes")
    );
    assert_eq!(
        process.metric("highwater_reload_failed ").await.as_deref(),
        Some("0")
    );

    // The interval is in force: what comes by SQL is not noticed for an hour,
    // and after another reload it is.
    let id = new_ids(1).remove(0);
    stays.submit("", &id);
    insert(&process, "stays", &id);
    process.reload(&whole.replace("1h", "150ms"));
    api.all_settle("stays").await;
    api.assert_true("stays", &stays, 1001).await;
    assert!(
        process.child.try_wait().unwrap().is_none(),
        "the same process all the time"
    );
    assert_eq!(process.lives().await, lives, "and the same services");
}

/// What an application does by SQL.
fn insert(process: &Process, ledger: &str, id: &str) {
    use diesel::connection::{Connection, SimpleConnection};
    let path = process.place.path().join("highwater.db");
    let mut conn = diesel::SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    conn.batch_execute(&format!(
        "PRAGMA busy_timeout = 5000; INSERT INTO batches (ledger, batch_id) VALUES ('{ledger}', '{id}')"
    ))
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_changes_nothing_and_is_reported() {
    let sim = slow();
    let good = format!("{BATCHES}{}", trace("trace", &sim));
    let process = Process::start(Db::Sqlite, &good);
    process.reload(&good.replace("poll_interval", "pol_interval"));
    let warnings = until("the mistake is reported", PATIENCE, async || {
        let warnings = process.warnings().await;
        if warnings.contains("pol_interval") {
            Ok(warnings)
        } else {
            Err(warnings)
        }
    })
    .await;
    assert!(
        warnings.contains("highwater.toml:") && warnings.contains("changed nothing"),
        "{warnings}"
    );
    assert!(
        warnings.contains("the last reload, at 20"),
        "since when: {warnings}"
    );
    // It fails once more: since when is not forgotten.
    process.reload(&good.replace("repoll", "rpoll"));
    until("both times are told", PATIENCE, async || {
        let warnings = process.warnings().await;
        if warnings.contains("rpoll") && warnings.contains("changed nothing, as all since 20") {
            Ok(())
        } else {
            Err(warnings)
        }
    })
    .await;
    let (_, page) = process.api.text("/").await;
    assert!(
        page.contains("The last reload changed nothing")
            && page.contains("none was applied since")
            && page.contains("rpoll"),
        "{page}"
    );
    assert_eq!(
        process.metric("highwater_reload_failed ").await.as_deref(),
        Some("1")
    );
    submit(&process.api, "trace", &sim, "", &new_ids(50)).await;
    process.api.all_settle("trace").await;

    process.reload(&good);
    until("the report is gone", PATIENCE, async || {
        let warnings = process.warnings().await;
        if warnings == "[]" {
            Ok(())
        } else {
            Err(warnings)
        }
    })
    .await;
    assert_eq!(
        process.metric("highwater_reload_failed ").await.as_deref(),
        Some("0")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_address_is_reported_as_needing_a_restart() {
    let sim = slow();
    let process = Process::start(Db::Sqlite, &format!("{BATCHES}{}", trace("trace", &sim)));
    let file = process.place.path().join("highwater.toml");
    let changed = std::fs::read_to_string(&file)
        .unwrap()
        .replace("127.0.0.1:0", "127.0.0.1:1");
    std::fs::write(&file, changed.replace("100ms", "110ms")).unwrap();
    process.signal("-HUP");
    let warnings = until("it is reported", PATIENCE, async || {
        let warnings = process.warnings().await;
        if warnings.contains("http.listen") {
            Ok(warnings)
        } else {
            Err(warnings)
        }
    })
    .await;
    assert!(
        warnings.contains("needs a restart") && !warnings.contains("changed nothing"),
        "{warnings}"
    );
    let (_, page) = process.api.text("/").await;
    assert!(
        page.contains("waits for a restart") && page.contains("http.listen"),
        "{page}"
    );
    assert_eq!(
        process.metric("highwater_reload_failed ").await.as_deref(),
        Some("0")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_drains_and_gives_the_leases_back() {
    for db in [Db::Sqlite, Db::Postgres] {
        let sim = sim(LedgerKind::Sawtooth, |options| {
            options.latency = Duration::from_millis(300);
        });
        let mut process = Process::start(db, &format!("{BATCHES}{}", trace("trace", &sim)));
        submit(&process.api, "trace", &sim, "", &new_ids(400)).await;
        until("requests are out", PATIENCE, async || {
            let stats = sim.stats();
            if stats.in_flight == 2 && stats.requests >= 4 {
                Ok(())
            } else {
                Err(format!("{stats:?}"))
            }
        })
        .await;
        process.signal("-TERM");
        let status = process.ended().await;
        assert_eq!(status.code(), Some(0), "{}", process.log());

        // What was asked was answered and written: 20 ids a request.
        let stats = sim.stats();
        assert!(stats.ids_asked < 400, "it stopped in the middle");
        let store = process.store();
        let (settled, leases) = read(&store).await;
        assert_eq!(settled as u64, stats.ids_asked);
        assert!(
            leases.iter().all(|(_, holder)| holder.is_empty()),
            "{leases:?}"
        );
        assert!(
            leases.iter().any(|(name, _)| name == "batches:trace"),
            "{leases:?}"
        );
        store.close();
    }
}

/// How many batches are committed, and who holds which lease.
async fn read(store: &Store) -> (usize, Vec<(String, String)>) {
    let filter = highwater::store::BatchFilter {
        ledger: Some("trace".to_owned()),
        service_id: None,
        status: Some(highwater::flows::batches::Status::Committed),
        batch_id_prefix: None,
        before_seq: None,
        limit: 1000,
    };
    let settled = store.list_batches(&filter).await.unwrap().rows.len();
    let leases = store.leases().await.unwrap();
    (
        settled,
        leases
            .into_iter()
            .map(|lease| (lease.name, lease.holder))
            .collect(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_quits_at_once() {
    let sim = sim(LedgerKind::Sawtooth, |options| {
        options.latency = Duration::from_secs(8);
    });
    let mut process = Process::start(Db::Sqlite, &format!("{BATCHES}{}", trace("trace", &sim)));
    submit(&process.api, "trace", &sim, "", &new_ids(20)).await;
    until("a request is out", PATIENCE, async || {
        if sim.stats().in_flight > 0 {
            Ok(())
        } else {
            Err(String::new())
        }
    })
    .await;
    process.signal("-TERM");
    process.logged("draining").await;
    assert!(
        process.child.try_wait().unwrap().is_none(),
        "it waits for the request"
    );
    let again = Instant::now();
    process.signal("-TERM");
    let status = process.ended().await;
    assert_ne!(status.code(), Some(0));
    assert!(
        again.elapsed() < Duration::from_secs(3),
        "{:?}",
        again.elapsed()
    );
    assert!(process.log().contains("second time"), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_of_resources_are_changed_live() {
    let sim = slow();
    let sections = format!("{BATCHES}{}", trace("trace", &sim));
    let process = Process::start(Db::Sqlite, &sections);
    let shares = async || {
        let (_, body) = process.api.get("/v1/resources").await;
        let fetch = &body["items"][0];
        let http = body["items"][1]["owners"]
            .as_array()
            .unwrap()
            .iter()
            .find(|owner| owner["owner"] == "http")
            .unwrap()
            .clone();
        (fetch["capacity"].clone(), http["weight"].clone())
    };
    assert_eq!(shares().await, (256.into(), 2.into()));
    process.reload(&format!(
        "{sections}[resources]\nfetch_slots = 5\nfetch.batches.minimum = 2\ndatabase.http.weight = 9\n"
    ));
    until("the shares are changed", PATIENCE, async || {
        match shares().await {
            seen if seen == (5.into(), 9.into()) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await;
    process.reload(&format!(
        "{sections}[resources]\nfetch_slots = 5\nfetch.batches.minimum = 6\n"
    ));
    until("what does not fit is told", PATIENCE, async || {
        let warnings = process.warnings().await;
        let told =
            warnings.contains("the minimums (batches 6, sites 1) are 7 together, more than the 5");
        told.then_some(()).ok_or(warnings)
    })
    .await;
    assert_eq!(shares().await, (5.into(), 9.into()));
}
