//! What is past its retention goes with its transactions, whichever server
//! prunes it; and what the figures say of services.

use crate::support::{Database, on_both_databases};
use highwater::config::{self, LoadOptions};
use highwater::flows::batches::BatchKey;
use highwater::store::{NewBatch, Store};
use highwater::time::Timestamp;
use std::path::Path;
use std::time::Duration;

on_both_databases!(
    two_servers_prune_beside_a_revival,
    services_over_the_memory_are_found,
);

async fn open(database: &Database) -> Store {
    let text = database.section("pruner");
    let base = Path::new("/");
    let loaded = config::parse(&text, "t.toml", base, [], LoadOptions::default()).unwrap();
    Store::open(&loaded.settings.database).await.unwrap()
}

fn batch(ledger: &str, service_id: &str, n: usize) -> NewBatch {
    NewBatch {
        key: BatchKey {
            ledger: ledger.to_owned(),
            service_id: service_id.to_owned(),
            batch_id: format!("b{n:04}"),
        },
        transaction_ids: vec![format!("t{n}"), format!("u{n}")],
    }
}

async fn two_servers_prune_beside_a_revival(database: &Database) {
    let (one, two) = (open(database).await, open(database).await);
    let batches: Vec<NewBatch> = (0..600).map(|n| batch("trace", "", n)).collect();
    let keys: Vec<BatchKey> = batches.iter().map(|batch| batch.key.clone()).collect();
    one.track_batches(batches).await.unwrap();
    database
        .run("UPDATE batches SET status = 'lost', settled_at = '2026-01-01 00:00:00'")
        .await
        .unwrap();
    let before = Timestamp::parse("2026-02-01 00:00:00").unwrap();
    let prune = async |store: &Store| {
        let mut pruned = 0;
        loop {
            match store.prune_batches(before, 20).await.unwrap() {
                0 => return pruned,
                more => pruned += more,
            }
        }
    };
    let revive = async {
        let mut revived = 0;
        for some in keys.rchunks(10).take(20) {
            revived += one.revive_batches(some, before).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        revived
    };
    let (by_one, by_two, revived) = tokio::join!(prune(&one), prune(&two), revive);
    // What one server skipped, the other having chosen it, is gone all the same.
    let rest = prune(&one).await;
    let left = database.count("true").await;
    assert_eq!(by_one + by_two + rest + revived, 600);
    assert_eq!(usize::try_from(left).unwrap(), revived);
    assert_eq!(database.count("status <> 'pending'").await, 0);
    let transactions = "SELECT count(*) AS value FROM batch_transactions";
    assert_eq!(database.number(transactions).await, 2 * left);

    // An application deletes some of its own: the search comes round to theirs.
    database
        .run("DELETE FROM batches WHERE batch_id > 'b0550'")
        .await
        .unwrap();
    for _ in 0..20 {
        assert_eq!(one.prune_batches(before, 20).await.unwrap(), 0);
    }
    let left = database.count("true").await;
    assert_eq!(database.number(transactions).await, 2 * left);
}

async fn services_over_the_memory_are_found(database: &Database) {
    let store = open(database).await;
    let of = |ledger: &'static str, service: &'static str, count: usize| {
        (0..count).map(move |n| batch(ledger, service, n))
    };
    let batches = of("trace", "", 9)
        .chain(of("supply", "c::a", 3))
        .chain(of("supply", "c::b", 4))
        .chain(of("supply", "c::c", 6))
        .chain(of("gone", "c::c", 8));
    store.track_batches(batches.collect()).await.unwrap();
    let supply = ["supply".to_owned()];
    let (first, total) = store.services_above(&supply, 3, 1).await.unwrap();
    assert_eq!((first.len(), total), (1, 2));
    assert_eq!((&*first[0].service_id, first[0].outstanding), ("c::c", 6));
    let (none, total) = store.services_above(&[], 3, 1).await.unwrap();
    assert_eq!((none.len(), total), (0, 0));

    let ledgers = store
        .summarize_ledgers(&supply, Timestamp::now())
        .await
        .unwrap();
    let found: Vec<(&str, i64, i64)> = ledgers
        .iter()
        .map(|found| (&*found.ledger, found.counts["pending"], found.due))
        .collect();
    assert_eq!(found, [("gone", 8, 0), ("supply", 13, 13), ("trace", 9, 0)]);
}
