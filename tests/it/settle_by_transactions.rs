//! What a ledger's stream tells the database, on both databases: batches settle
//! by their transactions, events of abandoned blocks are marked.

use crate::support::{Database, PATIENCE, batch_id, eventually, on_both_databases};
use highwater::config::{self, LoadOptions};
use highwater::flows::batches::{BatchKey, BatchNews, Status, poll_log_entry};
use highwater::flows::events::{BlockRef, Fork, SubscriptionName};
use highwater::ledgers::LedgerNews as _;
use highwater::store::{BatchChange, ChangeGroup, NewBatch, Store};
use highwater::time::Timestamp;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

on_both_databases!(
    batches_settle_when_all_their_transactions_are_told,
    what_is_final_stays_and_an_older_answer_changes_nothing,
    a_row_that_is_being_written_is_told_again_later,
    news_settle_and_poll_and_outlive_a_gap,
    services_with_outstanding_batches_are_listed_each_once,
    events_of_abandoned_blocks_are_marked_until_they_count_again,
);

const NOW: Timestamp = Timestamp::from_millis(1_795_245_931_007);
const LEDGER: &str = "trace";
const SERVICE: &str = "c::a";

async fn open(database: &Database) -> Store {
    let text = database.section("news");
    let base = Path::new("/");
    let loaded = config::parse(&text, "t.toml", base, [], LoadOptions::default()).unwrap();
    Store::open(&loaded.settings.database).await.unwrap()
}

async fn track(store: &Store, service_id: &str, n: usize, tx_ids: &[&str]) {
    let batch = NewBatch {
        key: BatchKey {
            ledger: LEDGER.to_owned(),
            service_id: service_id.to_owned(),
            batch_id: batch_id(n),
        },
        transaction_ids: texts(tx_ids),
    };
    store.track_batches(vec![batch]).await.unwrap();
}

fn texts(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

async fn status(database: &Database, n: usize) -> Vec<String> {
    let id = batch_id(n);
    database
        .texts(&format!(
            "SELECT service_id || ' ' || status AS value FROM batches WHERE batch_id = '{id}' ORDER BY service_id"
        ))
        .await
}

async fn settle(store: &Store, ids: &[&str]) -> (usize, Vec<String>, bool) {
    let ids = texts(ids);
    let settled = store.settle_by_transactions(LEDGER, SERVICE, &ids, NOW);
    let settled = settled.await.unwrap();
    (settled.settled, settled.waiting, settled.locked)
}

async fn batches_settle_when_all_their_transactions_are_told(database: &Database) {
    let store = open(database).await;
    track(&store, SERVICE, 1, &["a"]).await;
    track(&store, SERVICE, 2, &["b", "c"]).await;
    track(&store, SERVICE, 3, &[]).await;
    track(&store, "c::other", 1, &["a"]).await;
    assert_eq!(settle(&store, &[]).await.0, 0);
    assert_eq!(settle(&store, &["x"]).await, (0, vec![], false));
    assert_eq!(settle(&store, &["a", "b"]).await, (1, texts(&["b"]), false));
    assert_eq!(
        status(database, 1).await,
        ["c::a committed", "c::other pending"]
    );
    assert_eq!(status(database, 2).await, ["c::a pending"]);
    assert_eq!(settle(&store, &["c"]).await, (0, texts(&["c"]), false));
    assert_eq!(settle(&store, &["b", "c"]).await, (1, vec![], false));
    assert_eq!(settle(&store, &["b", "c"]).await, (0, vec![], false));
    assert_eq!(status(database, 3).await, ["c::a pending"]);
    let log = poll_log_entry(NOW, "event");
    let fits = format!(
        "poll_log = '{log}' AND polls = 0 AND settled_at = '{}' AND next_poll_at IS NULL",
        NOW.to_sql_text()
    );
    assert_eq!(database.count(&fits).await, 2);
}

async fn what_is_final_stays_and_an_older_answer_changes_nothing(database: &Database) {
    let store = open(database).await;
    let states = [
        "invalid",
        "committed",
        "refused",
        "lost",
        "valid",
        "pending",
    ];
    for (n, state) in states.iter().enumerate() {
        track(&store, SERVICE, n, &[state]).await;
        let set = format!(
            "UPDATE batches SET status = '{state}' WHERE batch_id = '{}'",
            batch_id(n)
        );
        database.run(&set).await.unwrap();
    }
    assert_eq!(settle(&store, &states).await, (3, vec![], false));
    let expected = [
        "invalid",
        "committed",
        "refused",
        "committed",
        "committed",
        "committed",
    ];
    for (n, state) in expected.iter().enumerate() {
        assert_eq!(status(database, n).await, [format!("{SERVICE} {state}")]);
    }
    // The answer to a question that was asked before comes now.
    let lease = format!("batches:{LEDGER}");
    let names = [lease];
    let held = store.hold_leases("us", &names, Duration::from_secs(600), true);
    let stake = held.await.unwrap().remove(0);
    let seq = format!(
        "SELECT seq AS value FROM batches WHERE batch_id = '{}'",
        batch_id(5)
    );
    let change = BatchChange {
        seq: database.number(&seq).await,
        status: Status::Lost,
        invalid_transactions: None,
        polled_at: Some(NOW),
        unknown: true,
        next_poll_at: Some(NOW),
        settled_at: Some(NOW),
        last_error: Some("given up".to_owned()),
        log: poll_log_entry(NOW, "unknown"),
    };
    let group = ChangeGroup {
        stake,
        changes: Arc::new([change]),
    };
    let applied = store.apply_changes("us", vec![group]).await.unwrap();
    assert_eq!((applied.fenced.len(), applied.changed), (0, 0));
    assert_eq!(status(database, 5).await, ["c::a committed"]);
}

async fn a_row_that_is_being_written_is_told_again_later(database: &Database) {
    if database.is_sqlite() {
        // One writer at a time: it is waited for.
        return;
    }
    let store = open(database).await;
    track(&store, SERVICE, 1, &["a"]).await;
    track(&store, SERVICE, 2, &["b"]).await;
    let lock = format!(
        "SELECT seq FROM batches WHERE batch_id = '{}' FOR UPDATE",
        batch_id(1)
    );
    let held = database.hold(&["BEGIN", &lock]).await;
    assert_eq!(settle(&store, &["a", "b"]).await, (1, texts(&["a"]), true));
    assert_eq!(store.poll_service_soon(LEDGER, SERVICE).await.unwrap(), 0);
    held.release("COMMIT").await;
    assert_eq!(settle(&store, &["a"]).await, (1, vec![], false));
}

async fn news_settle_and_poll_and_outlive_a_gap(database: &Database) {
    let store = open(database).await;
    track(&store, SERVICE, 1, &["a", "b"]).await;
    track(&store, SERVICE, 2, &["c"]).await;
    track(&store, SERVICE, 3, &["d"]).await;
    let later = "UPDATE batches SET next_poll_at = '2999-01-01 00:00:00.000'";
    database.run(later).await.unwrap();
    let woken = Arc::new(Mutex::new(Vec::new()));
    let wakes = Arc::clone(&woken);
    let wake = Arc::new(move |ledger: &str| wakes.lock().unwrap().push(ledger.to_owned()));
    let news = BatchNews::new(store, wake);
    let running = tokio::spawn({
        let news = Arc::clone(&news);
        async move { news.run().await }
    });
    // The transactions of a batch are told one by one.
    news.transactions_committed(LEDGER, SERVICE, texts(&["a"]));
    news.gap(LEDGER, SERVICE);
    eventually(PATIENCE, "what is outstanding is due", async || {
        database.count("next_poll_at IS NULL").await == 3
    })
    .await;
    eventually(PATIENCE, "the scheduler is woken", async || {
        *woken.lock().unwrap() == [LEDGER]
    })
    .await;
    news.transactions_committed(LEDGER, SERVICE, texts(&["b", "c"]));
    eventually(PATIENCE, "both are committed", async || {
        database.count("status = 'committed'").await == 2
    })
    .await;
    assert_eq!(status(database, 3).await, ["c::a pending"]);
    running.abort();
}

async fn services_with_outstanding_batches_are_listed_each_once(database: &Database) {
    let store = open(database).await;
    let listed = async |limit| store.outstanding_services(LEDGER, limit).await.unwrap();
    assert_eq!(listed(10).await, texts(&[]));
    for (n, service) in ["c::b", "c::a", "c::b", "c::d", "c::c"].iter().enumerate() {
        track(&store, service, n, &[]).await;
    }
    let settled = "UPDATE batches SET status = 'committed' WHERE service_id = 'c::c'";
    database.run(settled).await.unwrap();
    assert_eq!(listed(10).await, texts(&["c::a", "c::b", "c::d"]));
    assert_eq!(listed(2).await, texts(&["c::a", "c::b"]));
    assert_eq!(
        store.outstanding_services("other", 10).await.unwrap(),
        texts(&[])
    );
}

async fn events_of_abandoned_blocks_are_marked_until_they_count_again(database: &Database) {
    let store = open(database).await;
    let mut sql = String::from("INSERT INTO subscriptions (name) VALUES ('assets');");
    for (arrival, (block, id)) in [(8, "a8"), (9, "a9"), (9, "b9")].into_iter().enumerate() {
        for change in ["x", "y"] {
            sql.push_str(&format!(
                "INSERT INTO events (subscription, block, tx_id, event_id, arrival, event_name, payload, received_at) \
                 VALUES ('assets', {block}, '', '{id}:{change}', {arrival}{}, 'e', '{{}}', '2026-11-21 10:00:00.000');",
                usize::from(change == "y")
            ));
        }
    }
    database.run(&sql).await.unwrap();
    let block = |number: i64, id: &str| BlockRef {
        number,
        id: id.to_owned(),
    };
    let name = SubscriptionName::parse("assets").unwrap();
    let marked = async || {
        database
            .texts("SELECT event_id AS value FROM events WHERE abandoned_at IS NOT NULL ORDER BY event_id")
            .await
    };
    let mut fork = Fork {
        ancestor: Some(block(8, "a8")),
        abandoned: vec![block(9, "a9")],
        adopted: vec![block(9, "b9")],
    };
    assert_eq!(store.abandon_events(&name, &fork, NOW).await.unwrap(), 2);
    assert_eq!(store.abandon_events(&name, &fork, NOW).await.unwrap(), 0);
    assert_eq!(marked().await, ["a9:x", "a9:y"]);
    std::mem::swap(&mut fork.abandoned, &mut fork.adopted);
    assert_eq!(store.abandon_events(&name, &fork, NOW).await.unwrap(), 2);
    assert_eq!(marked().await, ["b9:x", "b9:y"]);
}
