//! Services of a whole server that block their thread, or wait for ever, while
//! batches flow: replaced within the deadline, and nothing is lost or done twice.

use crate::life_support::{Db, PATIENCE, Place, Server, ledger, new_ids, sim, submit, until};
use highwater::ledgers::LedgerKind;
use highwater::sim::Span;
use highwater::watchdog::{Fault, ServiceState};
use std::time::{Duration, Instant};

/// Long enough that a busy machine accuses nobody else.
const DEADLINE: Duration = Duration::from_secs(4);
/// What the replacement takes on a busy machine, once it was decided.
const GRACE: Duration = Duration::from_secs(3);
/// How long a thread is blocked: long after its service was replaced.
const BLOCKED: Duration = Duration::from_secs(12);
const IN_FLIGHT: u64 = 4 * 25;

async fn each_in_turn(db: Db, fault: Fault) {
    let place = Place::new(db);
    let stage = sim(LedgerKind::Sawtooth, |options| {
        options.commit_after = Span::new(Duration::from_millis(100), Duration::from_secs(1));
        options.latency = Duration::from_millis(5);
    });
    let limits = "connections = 4\nids_per_request = 25";
    let sections = format!(
        "[watchdog]\ndeadline = \"{}s\"\nlost_threads = 16\n[batches]\npoll_interval = \"200ms\"\n\
         repoll = {{ min = \"50ms\", max = \"200ms\" }}\n{}",
        DEADLINE.as_secs(),
        ledger("trace", LedgerKind::Sawtooth, &stage, limits)
    );
    let server = Server::start(&place, &sections);
    let mut tracked = 0;
    let services: Vec<String> = server.query.list().into_iter().map(|s| s.name).collect();
    for service in &services {
        let before = until(&format!("{service} runs"), PATIENCE, async || {
            let status = server.service(service);
            match status.state {
                ServiceState::Running => Ok(status.generation),
                state => Err(state.as_str().to_owned()),
            }
        })
        .await;
        submit(&server, "trace", &stage, "", &new_ids(300)).await;
        tracked += 300;
        let begun = Instant::now();
        server.query.inject(service, fault.clone()).unwrap();
        let status = until(&format!("{service} is replaced"), PATIENCE, async || {
            let status = server.service(service);
            if status.generation > before && status.state == ServiceState::Running {
                Ok(status)
            } else {
                Err(format!("{status:?}"))
            }
        })
        .await;
        let took = begun.elapsed();
        assert!(took < DEADLINE + GRACE, "{service}: {took:?}");
        assert_eq!(
            status.restarts.get("unresponsive"),
            Some(&1),
            "{service}: {status:?}"
        );
        server.all_settle("trace").await;
        server.assert_true("trace", &stage, tracked).await;
    }
    let (ready, body) = server.get("/readyz").await;
    assert_eq!(ready, 200, "{body}");
    for service in server.query.list() {
        let unresponsive = service.restarts.get("unresponsive");
        assert_eq!(
            unresponsive,
            Some(&1),
            "nobody else was accused: {service:?}"
        );
    }
    // What came back from a blocked thread did nothing: at most what was in
    // flight at a replacement was asked again.
    let again = stage.stats().asked_after_final;
    assert!(again <= IN_FLIGHT * services.len() as u64, "{again}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_block_their_thread_are_replaced_on_sqlite() {
    each_in_turn(Db::Sqlite, Fault::Block(BLOCKED)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_block_their_thread_are_replaced_on_postgres() {
    each_in_turn(Db::Postgres, Fault::Block(BLOCKED)).await;
}

/// The engine's thread is lost for good, with work in flight everywhere: its
/// tickets are taken from it, and nothing waits for them.
async fn a_thread_that_never_comes_back(db: Db) {
    let place = Place::new(db);
    let stage = sim(LedgerKind::Sawtooth, |options| {
        options.commit_after = Span::new(Duration::from_millis(100), Duration::from_secs(1));
        options.latency = Duration::from_millis(200);
    });
    // One more row in flight than this, and no work would be handed out.
    let limits = "connections = 4\nids_per_request = 25";
    let sections = format!(
        "[watchdog]\ndeadline = \"{}s\"\n[batches]\npoll_interval = \"200ms\"\n\
         commit_rows = 25\nrepoll = {{ min = \"50ms\", max = \"200ms\" }}\n{}",
        DEADLINE.as_secs(),
        ledger("trace", LedgerKind::Sawtooth, &stage, limits)
    );
    let server = Server::start(&place, &sections);
    submit(&server, "trace", &stage, "", &new_ids(1_000)).await;
    until("work is in flight", PATIENCE, async || {
        match server.outstanding("ledger=trace").await {
            outstanding @ 1..1_000 => Ok(outstanding),
            other => Err(format!("{other} are outstanding")),
        }
    })
    .await;
    let fault = Fault::Block(Duration::from_secs(3600));
    server.query.inject("updater", fault).unwrap();
    server.all_settle("trace").await;
    server.assert_true("trace", &stage, 1_000).await;
    let watchdog = server.query.watchdog().status();
    assert_eq!(watchdog.lost_threads.len(), 1);
    // And it goes on.
    submit(&server, "trace", &stage, "", &new_ids(500)).await;
    server.all_settle("trace").await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_never_comes_back_takes_no_work_with_it_on_sqlite() {
    a_thread_that_never_comes_back(Db::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_never_comes_back_takes_no_work_with_it_on_postgres() {
    a_thread_that_never_comes_back(Db::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_never_answer_are_replaced_on_sqlite() {
    each_in_turn(Db::Sqlite, Fault::Hang).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_never_answer_are_replaced_on_postgres() {
    each_in_turn(Db::Postgres, Fault::Hang).await;
}
