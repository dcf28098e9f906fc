//! The database goes away under the server and comes back: nothing is lost,
//! and no batch is the worse for it.

use crate::support::{
    Database, Installation, PATIENCE, Tracker, batch_id, eventually, service_id, tracking,
};
use highwater::ledgers::LedgerKind;
use highwater::sim::{LedgerSim, SimOptions, Span};
use std::time::{Duration, Instant};

const BATCHES: usize = 20_000;
const SERVICES: usize = 200;
const A_CALL: usize = 1_000;
/// How long sessions are ended again and again.
const OUTAGE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_ended_again_and_again_cost_nothing_but_time() {
    let database = Database::postgres();
    let sim = LedgerSim::start(SimOptions {
        auto_submit: true,
        remember: Some(0),
        commit_after: Span::new(Duration::ZERO, Duration::from_millis(300)),
        ..SimOptions::of(LedgerKind::Splinter)
    })
    .unwrap();
    let sections = format!(
        "[batches]\npoll_interval = \"200ms\"\nrepoll = {{ min = \"100ms\", max = \"1s\" }}\n\n\
         [[ledgers]]\nname = \"trace\"\nkind = \"splinter\"\nurl = \"{}\"\n",
        sim.url()
    );
    let place = Installation::new(&database, "server", &sections);
    let server = place.serve().await;
    let tracker = Tracker::start(server.address(), (0..BATCHES / A_CALL).map(body_of));
    eventually(PATIENCE, "batches flow", async || {
        database.count("settled_at IS NOT NULL").await >= 1_000
    })
    .await;

    let end_sessions = format!(
        "SELECT count(pg_terminate_backend(pid)) AS value FROM pg_stat_activity \
         WHERE application_name = '{}'",
        database.session_name("server")
    );
    let begun = Instant::now();
    let mut ended = 0;
    while begun.elapsed() < OUTAGE {
        ended += database.number(&end_sessions).await;
        // Long enough for some work to begin, and to be cut off.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let settled = database.count("settled_at IS NOT NULL").await;
    println!(
        "{ended} sessions ended in {OUTAGE:?}; {settled} of {BATCHES} batches settled by then"
    );
    assert!(ended > 10, "{ended} sessions ended");
    assert!(
        settled < BATCHES as i64,
        "everything was over before the outage"
    );

    tracker.done().await;
    eventually(PATIENCE, "everything is settled", async || {
        database.count("status = 'committed'").await == BATCHES as i64
    })
    .await;
    assert_eq!(database.count("true").await, BATCHES as i64);
    let harmed = "unknowns > 0 OR last_error IS NOT NULL";
    assert_eq!(
        database.count(harmed).await,
        0,
        "an outage is counted against a batch"
    );
    let ledgers = server.get("/v1/ledgers").await;
    let view = &ledgers["items"][0]["view"];
    assert_eq!(
        view["totals"]["failed_requests"], 0,
        "an outage is counted against the ledger: {view}"
    );
    assert_eq!(view["breaker"], "closed", "{view}");
    let stats = sim.stats();
    assert_eq!(
        stats.asked_after_final, 0,
        "answers were thrown away: {:?}",
        stats.asked_after_final_ids
    );
    eventually(PATIENCE, "the server is ready", async || {
        server.get("/readyz").await["ready"] == true
    })
    .await;
    let services = server.get("/v1/services").await;
    for service in services["items"].as_array().unwrap() {
        assert_eq!(service["state"], "running", "{service}");
    }
    server.terminate().await;
}

fn body_of(call: usize) -> serde_json::Value {
    let numbers = call * A_CALL..(call + 1) * A_CALL;
    tracking(numbers.map(|n| ("trace".to_owned(), service_id(n % SERVICES), batch_id(n))))
}
