//! Ledgers' streams in the whole server: they feed subscriptions, and settle
//! batches that polling would never settle.

use crate::events_support::{TOKEN, all_done, order};
use crate::support::{Database, Installation, PATIENCE, batch_id, eventually, on_both_databases};
use highwater::ledgers::LedgerKind;
use highwater::sim::{
    ConsumerHandle, ConsumerOptions, ConsumerSim, Fate, LedgerSim, SimHandle, SimOptions,
};
use serde_json::json;

on_both_databases!(
    a_subscription_hears_a_splinter_service_over_dropped_connections,
    a_subscription_hears_sawtooth_over_dropped_connections,
    events_of_an_abandoned_block_that_wait_are_not_handed_over,
    batches_of_splinter_settle_by_events_without_a_subscription,
    batches_of_sawtooth_settle_by_events_without_a_subscription,
);

const SERVICE: &str = "1mtlg-MEz1L::a000";

fn ledger(kind: LedgerKind) -> SimHandle {
    LedgerSim::start(SimOptions::of(kind)).unwrap()
}

fn consumer() -> ConsumerHandle {
    ConsumerSim::start(ConsumerOptions::default()).unwrap()
}

const fn service_of(kind: LedgerKind) -> &'static str {
    match kind {
        LedgerKind::Splinter => SERVICE,
        LedgerKind::Sawtooth => "",
    }
}

fn commit(sim: &SimHandle, kind: LedgerKind, tx_id: &str) {
    match kind {
        LedgerKind::Splinter => sim.commit_transactions(SERVICE, &[tx_id]),
        LedgerKind::Sawtooth => drop(sim.commit_block(&[tx_id])),
    }
}

/// The ledger `trace`; `more` are lines of its own.
fn ledger_section(sim: &SimHandle, kind: LedgerKind, more: &str) -> String {
    format!(
        "[server]\nlease = \"1s\"\n\n[[ledgers]]\nname = \"trace\"\nkind = \"{kind}\"\nurl = \"{}\"\n{more}\n",
        sim.url()
    )
}

/// A place where `deltas` gets all events of a ledger.
fn subscribing(
    database: &Database,
    sim: &SimHandle,
    kind: LedgerKind,
    consumer: &ConsumerHandle,
) -> Installation {
    let service = match kind {
        LedgerKind::Splinter => format!("service = \"{SERVICE}\"\n"),
        LedgerKind::Sawtooth => String::new(),
    };
    // Its first line belongs to [http].
    let sections = format!(
        "control_token_file = \"control.token\"\n\n{}\
         [[subscriptions]]\nname = \"deltas\"\nledger = \"trace\"\n{service}relevance = \"all\"\n\
         [subscriptions.handler.http]\nurl = \"{}\"\n",
        ledger_section(sim, kind, ""),
        consumer.url()
    );
    let place = Installation::new(database, "server", &sections);
    std::fs::write(place.path().join("control.token"), TOKEN).unwrap();
    place
}

async fn recorded(database: &Database, condition: &str, count: i64) {
    let sql = format!("SELECT count(*) AS value FROM events WHERE {condition}");
    eventually(PATIENCE, "events are recorded", async || {
        database.number(&sql).await == count
    })
    .await;
}

async fn a_subscription_hears_a_splinter_service_over_dropped_connections(database: &Database) {
    hears_all_over_dropped_connections(database, LedgerKind::Splinter).await;
}

async fn a_subscription_hears_sawtooth_over_dropped_connections(database: &Database) {
    hears_all_over_dropped_connections(database, LedgerKind::Sawtooth).await;
}

async fn hears_all_over_dropped_connections(database: &Database, kind: LedgerKind) {
    let sim = ledger(kind);
    let consumer = consumer();
    let tx_ids: Vec<String> = (0..40).map(batch_id).collect();
    for tx_id in &tx_ids[..15] {
        commit(&sim, kind, tx_id);
    }
    let place = subscribing(database, &sim, kind, &consumer);
    let server = place.serve().await;
    all_done(database, "deltas", 15).await;
    for part in tx_ids[15..30].chunks(5) {
        sim.drop_streams();
        for tx_id in part {
            commit(&sim, kind, tx_id);
        }
    }
    all_done(database, "deltas", 30).await;
    // Another process knows only what is recorded.
    server.kill9();
    for tx_id in &tx_ids[30..] {
        commit(&sim, kind, tx_id);
    }
    let server = place.serve().await;
    all_done(database, "deltas", 40).await;
    let mut once = Vec::new();
    for id in consumer.taken() {
        // What a handler was at when the process was killed comes again.
        if !once.contains(&id) {
            once.push(id);
        }
    }
    assert_eq!(once.len(), 40);
    let order = "SELECT CASE tx_id WHEN '' THEN event_id ELSE tx_id END AS value FROM events \
                 ORDER BY arrival";
    let heard = database.texts(order).await;
    match kind {
        LedgerKind::Splinter => assert_eq!(heard, tx_ids),
        LedgerKind::Sawtooth => {
            let blocks: Vec<&str> = heard.iter().filter_map(|id| id.split(':').next()).collect();
            assert_eq!(blocks, sim.chain()[1..]);
        }
    }
    for (taken, heard) in once.iter().zip(&heard) {
        assert!(taken.contains(heard.as_str()), "{taken} is not {heard}");
    }
    server.terminate().await;
    eventually(PATIENCE, "nobody listens any more", async || {
        sim.streams().0 == 0
    })
    .await;
}

async fn events_of_an_abandoned_block_that_wait_are_not_handed_over(database: &Database) {
    let kind = LedgerKind::Sawtooth;
    let sim = ledger(kind);
    let consumer = consumer();
    let tx_ids: Vec<String> = (0..20).map(batch_id).collect();
    for tx_id in &tx_ids[..5] {
        commit(&sim, kind, tx_id);
    }
    let place = subscribing(database, &sim, kind, &consumer);
    let server = place.serve().await;
    all_done(database, "deltas", 5).await;
    let reason = json!({ "reason": "to see what waits" });
    order(&server, "/v1/subscriptions/deltas/pause", &reason).await;
    for tx_id in &tx_ids[5..8] {
        commit(&sim, kind, tx_id);
    }
    recorded(database, "1 = 1", 8).await;
    // The newest two blocks are abandoned for three others.
    let others: Vec<[&str; 1]> = tx_ids[10..13].iter().map(|id| [id.as_str()]).collect();
    let others: Vec<&[&str]> = others.iter().map(|block| &block[..]).collect();
    let abandoned = sim.chain().split_off(7);
    sim.fork(2, &others);
    recorded(database, "1 = 1", 11).await;
    recorded(database, "abandoned_at IS NOT NULL", 2).await;
    order(&server, "/v1/subscriptions/deltas/resume", &reason).await;
    eventually(PATIENCE, "what counts is handed over", async || {
        consumer.taken().len() >= 9
    })
    .await;
    commit(&sim, kind, &tx_ids[15]);
    eventually(PATIENCE, "it goes on behind the fork", async || {
        consumer.taken().len() >= 10
    })
    .await;
    let taken = consumer.taken();
    assert_eq!(taken.len(), 10, "{taken:?}");
    let told = |block: &String| taken.iter().any(|id| id.contains(block.as_str()));
    assert_eq!(abandoned.len(), 2);
    assert!(!abandoned.iter().any(told), "{taken:?}");
    assert!(sim.chain()[1..].iter().all(told), "{taken:?}");
    server.terminate().await;
}

async fn batches_of_splinter_settle_by_events_without_a_subscription(database: &Database) {
    settle_by_events(database, LedgerKind::Splinter).await;
}

async fn batches_of_sawtooth_settle_by_events_without_a_subscription(database: &Database) {
    settle_by_events(database, LedgerKind::Sawtooth).await;
}

async fn settle_by_events(database: &Database, kind: LedgerKind) {
    let sim = ledger(kind);
    let place = Installation::new(
        database,
        "server",
        &ledger_section(&sim, kind, "stream = true"),
    );
    let server = place.serve().await;
    for n in 0..2 {
        // The ledger never says by itself that it is decided.
        sim.submit_as(service_of(kind), &batch_id(n), Fate::StayPending);
        server
            .track(&json!({ "batches": [{
                "ledger": "trace",
                "service_id": service_of(kind),
                "batch_id": batch_id(n),
                "transaction_ids": [batch_id(100 + n)],
            }] }))
            .await;
        eventually(PATIENCE, "the ledger is listened to", async || {
            sim.streams().0 == 1
        })
        .await;
        commit(&sim, kind, &batch_id(100 + n));
        let settled = i64::try_from(n).unwrap() + 1;
        eventually(PATIENCE, "the batch settles", async || {
            database.count("status = 'committed'").await == settled
        })
        .await;
        sim.drop_streams();
    }
    let metrics = server.page("/metrics").await;
    let line = "highwater_batches_settled_by_events_total{ledger=\"trace\"} 2";
    assert!(metrics.contains(line), "{metrics}");
    eventually(PATIENCE, "it listens again", async || sim.streams().0 == 1).await;
    place.reconfigure(database, "server", &ledger_section(&sim, kind, ""));
    server.hangup();
    eventually(PATIENCE, "a reload ends it", async || sim.streams().0 == 0).await;
    server.terminate().await;
}
