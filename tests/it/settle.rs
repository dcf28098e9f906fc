//! A hundred thousand batches settle, on both databases, also when the server
//! is killed five times in the middle.

use crate::support::{
    Database, Installation, PATIENCE, Tracker, batch_id, eventually, on_both_databases, service_id,
    tracking,
};
use highwater::ledgers::LedgerKind;
use highwater::sim::{LedgerSim, SimHandle, SimOptions, SimStatus, Span};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

const BATCHES: usize = 100_000;
const SERVICES: usize = 1_000;
const A_CALL: usize = 10_000;
const LEDGER: &str = "supply-chain";
const SETTLED: &str = "status IN ('committed', 'invalid')";

on_both_databases!(a_hundred_thousand_settle, five_kills_lose_nothing);

async fn a_hundred_thousand_settle(database: &Database) {
    let sim = ledger();
    let place = Installation::new(database, "server", &sections(&sim, "10s"));
    let server = place.serve().await;
    let begun = Instant::now();
    for call in 0..BATCHES / A_CALL {
        server.track(&body_of(call)).await;
    }
    let tracked = begun.elapsed();
    wait_until_settled(database).await;
    report("without kills", database, &sim, tracked, begun.elapsed());
    server.terminate().await;
    compare_with_the_ledger(database, &sim).await;
    let stats = sim.stats();
    assert_eq!(
        stats.asked_after_final, 0,
        "{:?}",
        stats.asked_after_final_ids
    );
}

async fn five_kills_lose_nothing(database: &Database) {
    let sim = ledger();
    // On PostgreSQL each start waits for the dead server's lease; on SQLite none does.
    let lease = if database.is_sqlite() { "1h" } else { "3s" };
    let place = Installation::new(database, "server", &sections(&sim, lease));
    let mut server = place.serve().await;
    let begun = Instant::now();
    // The last calls are made after the last kill, so that none comes too late
    // however fast the server is.
    let calls = BATCHES / A_CALL;
    let early = Tracker::start(server.address(), (0..calls - 2).map(body_of));
    let mut kills_in_the_middle = 0;
    // How often an answer about a batch may have been lost by a kill.
    let mut may_ask_again: HashMap<String, usize> = HashMap::new();
    for percent in [10, 25, 40, 55, 70] {
        let goal = i64::try_from(BATCHES * percent / 100).unwrap();
        eventually(
            PATIENCE,
            "the next share of the batches is settled",
            async || database.count(SETTLED).await >= goal,
        )
        .await;
        server.kill9();
        database.sessions_are_gone("server").await;
        let open = "SELECT batch_id AS value FROM batches WHERE status IN ('pending', 'valid')";
        let open = database.texts(open).await;
        let settled = database.count(SETTLED).await;
        println!(
            "    killed at {settled} settled, {} outstanding",
            open.len()
        );
        kills_in_the_middle += usize::from(!open.is_empty());
        for id in open {
            *may_ask_again.entry(id).or_default() += 1;
        }
        server = place.serve().await;
        early.moved(server.address());
    }
    assert!(
        kills_in_the_middle >= 3,
        "only {kills_in_the_middle} kills met work under way"
    );
    early.done().await;
    Tracker::start(server.address(), (calls - 2..calls).map(body_of))
        .done()
        .await;
    let tracked = begun.elapsed();
    wait_until_settled(database).await;
    report("with five kills", database, &sim, tracked, begun.elapsed());
    server.terminate().await;
    compare_with_the_ledger(database, &sim).await;
    let stats = sim.stats();
    assert_eq!(
        stats.asked_after_final as usize,
        stats.asked_after_final_ids.len(),
        "all ids kept"
    );
    for id in stats.asked_after_final_ids {
        let left = may_ask_again.get_mut(&id).filter(|left| **left > 0);
        *left.unwrap_or_else(|| panic!("{id} was asked for after it was final here")) -= 1;
    }
}

fn ledger() -> SimHandle {
    LedgerSim::start(SimOptions {
        auto_submit: true,
        remember: Some(0),
        invalid: 0.05,
        commit_after: Span::new(Duration::ZERO, Duration::from_millis(300)),
        keep_ids: BATCHES,
        ..SimOptions::of(LedgerKind::Splinter)
    })
    .unwrap()
}

fn sections(sim: &SimHandle, lease: &str) -> String {
    format!(
        "[server]\nlease = \"{lease}\"\n\n\
         [batches]\npoll_interval = \"200ms\"\nrepoll = {{ min = \"100ms\", max = \"1s\" }}\n\n\
         [[ledgers]]\nname = \"{LEDGER}\"\nkind = \"splinter\"\nurl = \"{}\"\nconnections = 16\n",
        sim.url()
    )
}

fn service_of(n: usize) -> String {
    service_id(n % SERVICES)
}

fn body_of(call: usize) -> serde_json::Value {
    let numbers = call * A_CALL..(call + 1) * A_CALL;
    tracking(numbers.map(|n| (LEDGER.to_owned(), service_of(n), batch_id(n))))
}

async fn wait_until_settled(database: &Database) {
    let open = "SELECT count(*) AS value FROM (SELECT 1 AS one FROM batches \
                WHERE status IN ('pending', 'valid') LIMIT 1) AS open";
    eventually(3 * PATIENCE, "everything is settled", async || {
        database.number(open).await == 0
    })
    .await;
}

async fn compare_with_the_ledger(database: &Database, sim: &SimHandle) {
    let sql = "SELECT ledger || ' ' || service_id || ' ' || batch_id || ' ' || status AS value FROM batches";
    let rows: HashSet<String> = database.texts(sql).await.into_iter().collect();
    assert_eq!(rows.len(), BATCHES);
    let mut invalid = 0;
    for n in 0..BATCHES {
        let (service, id) = (service_of(n), batch_id(n));
        let word = match sim.status_of(&service, &id) {
            SimStatus::Committed => "committed",
            SimStatus::Invalid => {
                invalid += 1;
                "invalid"
            }
            other => panic!("the ledger ends with {other:?} for {id}"),
        };
        let row = format!("{LEDGER} {service} {id} {word}");
        assert!(rows.contains(&row), "the ledger says {row}");
    }
    assert!(
        (BATCHES / 25..BATCHES / 16).contains(&invalid),
        "{invalid} invalid"
    );
    let unexplained = "status = 'invalid' AND invalid_transactions = '[]'";
    assert_eq!(
        database.count(unexplained).await,
        0,
        "what was invalid is kept"
    );
}

fn report(how: &str, database: &Database, sim: &SimHandle, tracked: Duration, settled: Duration) {
    let on = if database.is_sqlite() {
        "SQLite"
    } else {
        "PostgreSQL"
    };
    let stats = sim.stats();
    println!(
        "{BATCHES} batches {how} on {on}: tracked after {:.1} s, settled after {:.1} s, {:.0} a second, \
         {} requests for {} ids",
        tracked.as_secs_f64(),
        settled.as_secs_f64(),
        BATCHES as f64 / settled.as_secs_f64(),
        stats.requests,
        stats.ids_asked
    );
}
