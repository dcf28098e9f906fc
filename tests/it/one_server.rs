//! One server per SQLite file: a second one refuses, and right after a kill
//! the next one starts at once.

use crate::support::{Database, Installation, batch_id, eventually, tracking};
use highwater::ledgers::LedgerKind;
use highwater::sim::{LedgerSim, SimOptions};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_a_sqlite_file_refuses_until_the_first_is_killed() {
    let database = Database::sqlite();
    let sim = LedgerSim::start(SimOptions {
        auto_submit: true,
        ..SimOptions::of(LedgerKind::Sawtooth)
    })
    .unwrap();
    // Leases that last far longer than this test: nobody waits for them.
    let sections = format!(
        "[server]\nlease = \"1h\"\n\n\
         [[ledgers]]\nname = \"trace\"\nkind = \"sawtooth\"\nurl = \"{url}\"\n\n\
         [[ledgers]]\nname = \"other\"\nkind = \"sawtooth\"\nurl = \"{url}\"\n",
        url = sim.url()
    );
    let place = Installation::new(&database, "server", &sections);
    let first = place.serve().await;
    first.track(&round(0)).await;

    let mut second = place.start();
    assert_eq!(second.end().await.code(), Some(1));
    let said = second.log();
    assert!(said.contains("highwater.db"), "it names the file: {said}");
    assert!(
        said.contains(&format!("process {}", first.pid())),
        "and the process: {said}"
    );
    // The first was not disturbed.
    first.track(&round(1)).await;
    all_settle(&database, 200).await;

    first.kill9();
    let mut third = place.start();
    let took = third.ready().await;
    println!("ready {took:.2?} after the former server was killed");
    assert!(took < Duration::from_secs(5), "{took:?}");
    eventually(
        Duration::from_secs(5),
        "all leases are taken, though not expired",
        async || {
            let leases = database.leases().await;
            leases.len() == 2 && leases.iter().all(|(_, holder)| third.is_holder(holder))
        },
    )
    .await;
    third.track(&round(2)).await;
    all_settle(&database, 300).await;
    assert_eq!(sim.stats().asked_after_final, 0);
    third.terminate().await;
}

fn round(number: usize) -> serde_json::Value {
    let numbers = number * 100..(number + 1) * 100;
    tracking(numbers.map(|n| ("trace".to_owned(), String::new(), batch_id(n))))
}

async fn all_settle(database: &Database, count: i64) {
    eventually(Duration::from_secs(20), "all batches settle", async || {
        database.count("status = 'committed'").await == count
    })
    .await;
}
