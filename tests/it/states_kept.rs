//! No failing ledger is hammered afresh: not after `kill -9` and a restart, and
//! not by the server that takes the ledger over.

use crate::support::{
    Database, Installation, PATIENCE, ServerProcess, batch_id, eventually, tracking,
};
use highwater::ledgers::LedgerKind;
use highwater::sim::{Behaviour, Fault, LedgerSim, SimHandle, SimOptions};
use highwater::time::Timestamp;
use serde_json::Value;
use std::time::Duration;

/// Failures after which the backoff is well grown.
const GROWN: u64 = 6;

fn failing_ledger() -> SimHandle {
    let sim = LedgerSim::start(SimOptions::of(LedgerKind::Sawtooth)).unwrap();
    sim.set_behaviour(&Behaviour::default().with(Fault::Fail, 1.0));
    sim
}

fn section(name: &str, sim: &SimHandle) -> String {
    let url = sim.url();
    format!("\n[[ledgers]]\nname = \"{name}\"\nkind = \"sawtooth\"\nurl = \"{url}\"\n")
}

/// How the Scheduler sees a ledger, once it has looked.
async fn view(server: &ServerProcess, ledger: &str) -> Value {
    let look = async || {
        let list = server.get("/v1/ledgers").await;
        let items = list["items"].as_array().unwrap();
        let item = items.iter().find(|item| item["name"] == ledger).unwrap();
        item["view"].clone()
    };
    eventually(PATIENCE, "the Scheduler has looked", async || {
        look().await.is_object()
    })
    .await;
    look().await
}

fn failures(view: &Value) -> u64 {
    view["failures"].as_u64().unwrap()
}

fn retry_at(view: &Value) -> Timestamp {
    Timestamp::parse(view["retry_at"].as_str().unwrap()).unwrap()
}

/// Waits until a ledger has failed so often that its backoff is long, and all
/// of that is saved; answers when the ledger is to be asked again.
async fn grown(server: &ServerProcess, ledger: &str) -> (u64, Timestamp) {
    eventually(PATIENCE, "the backoff has grown", async || {
        failures(&view(server, ledger).await) >= GROWN
    })
    .await;
    eventually(PATIENCE, "it is saved", async || {
        server.get("/v1/states").await["items"][0]["unsaved"] == false
    })
    .await;
    // Whatever was learnt before this look and after it was saved would show.
    let view = view(server, ledger).await;
    (failures(&view), retry_at(&view))
}

async fn sleep_until(at: Timestamp) {
    tokio::time::sleep(at.since(Timestamp::now())).await;
}

/// A ledger is asked nothing until its backoff is over, and then it is; that is
/// at least so many milliseconds away, or nothing would be seen.
async fn left_alone_until(retry: Timestamp, sim: &SimHandle, asked: u64, at_least_ms: u64) {
    let wait = retry.since(Timestamp::now());
    assert!(
        wait > Duration::from_millis(at_least_ms),
        "{wait:?} are too few to see anything"
    );
    sleep_until(retry.minus(Duration::from_millis(200))).await;
    assert_eq!(
        sim.stats().requests,
        asked,
        "asked before its backoff was over"
    );
    eventually(
        PATIENCE,
        "it is asked when its backoff is over",
        async || sim.stats().requests > asked,
    )
    .await;
    println!("no request for {wait:.1?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_ledger_is_not_hammered_after_kill_9() {
    let sim = failing_ledger();
    let database = Database::sqlite();
    let sections = format!(
        "[batches]\npoll_interval = \"100ms\"\nbackoff = {{ min = \"300ms\", max = \"5min\" }}\n{}",
        section("trace", &sim)
    );
    let place = Installation::new(&database, "server", &sections);
    let server = place.serve().await;
    let batches = (0..20).map(|n| ("trace".to_owned(), String::new(), batch_id(n)));
    server.track(&tracking(batches)).await;
    let (failed, retry) = grown(&server, "trace").await;
    let asked = sim.stats().requests;
    server.kill9();

    let server = place.serve().await;
    let restored = view(&server, "trace").await;
    assert_eq!((failures(&restored), retry_at(&restored)), (failed, retry));
    left_alone_until(retry, &sim, asked, 800).await;

    // Killed within the second in which what was learnt is not saved yet: the
    // last failure is forgotten and not the ones before. A ledger without a
    // memory would be asked four times in these three seconds, at least.
    server.kill9();
    let asked = sim.stats().requests;
    let server = place.serve().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let again = sim.stats().requests - asked;
    assert!(again <= 1, "asked {again} times");
    let failed_now = failures(&view(&server, "trace").await);
    assert!(failed_now >= failed, "{failed_now} after {failed}");
    println!("{again} request in 3 s after a restart that forgot the last failure");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_ledger_is_not_hammered_by_the_server_that_takes_it_over() {
    let sims = [failing_ledger(), failing_ledger()];
    let names = ["a", "b"];
    let database = Database::postgres();
    let sections = format!(
        "[server]\nlease = \"1s\"\n\n[batches]\npoll_interval = \"100ms\"\n\
         backoff = {{ min = \"400ms\", max = \"5min\" }}\n{}{}",
        section(names[0], &sims[0]),
        section(names[1], &sims[1])
    );
    let places = ["first", "second"].map(|name| Installation::new(&database, name, &sections));
    let (first, second) = (places[0].serve().await, places[1].serve().await);
    eventually(PATIENCE, "each holds one", async || {
        first.held().await.len() == 1 && second.held().await.len() == 1
    })
    .await;
    let batches = (0..20).map(|n| (names[n % 2].to_owned(), String::new(), batch_id(n)));
    first.track(&tracking(batches)).await;
    let of_first = first.held().await.remove(0);
    let sim = &sims[names.iter().position(|name| *name == of_first).unwrap()];
    let (failed, retry) = grown(&first, &of_first).await;
    // Neither server has overwritten what the other knows.
    let saved = database
        .texts("SELECT value FROM service_states WHERE service = 'scheduler'")
        .await;
    let saved: Value = serde_json::from_str(&saved[0]).unwrap();
    for name in names {
        assert!(
            saved[name]["failures"].as_u64().unwrap() > 0,
            "{name}: {saved}"
        );
    }
    let asked = sim.stats().requests;
    first.kill9();
    eventually(PATIENCE, "the ledger is taken over", async || {
        second.held().await.len() == 2
    })
    .await;
    let heir = view(&second, &of_first).await;
    assert_eq!((failures(&heir), retry_at(&heir)), (failed, retry));
    left_alone_until(retry, sim, asked, 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_learnt_last_is_saved_by_a_drain() {
    let sim = failing_ledger();
    let database = Database::sqlite();
    let sections = format!(
        "[batches]\npoll_interval = \"100ms\"\nbackoff = {{ min = \"4s\", max = \"5min\" }}\n{}",
        section("trace", &sim)
    );
    let place = Installation::new(&database, "server", &sections);
    let server = place.serve().await;
    server
        .track(&tracking([("trace".into(), String::new(), batch_id(1))]))
        .await;
    eventually(PATIENCE, "it has failed twice", async || {
        failures(&view(&server, "trace").await) == 2
    })
    .await;
    let states = server.get("/v1/states").await;
    let metrics = server.page("/metrics").await;
    server.terminate().await;
    assert_eq!(states["items"][0]["unsaved"], true, "{states}");
    let saved = database
        .texts("SELECT value FROM service_states WHERE service = 'scheduler'")
        .await;
    let saved: Value = serde_json::from_str(&saved[0]).unwrap();
    assert_eq!(saved["trace"]["failures"], 2, "{saved}");
    assert!(metrics.contains("highwater_state_save_failures_total{service=\"scheduler\"} 0"));
}
