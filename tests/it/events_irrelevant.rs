//! A long run of irrelevant events, with the waits that are the default: they
//! wait side by side, and what is relevant behind them comes after them.

use crate::events_support::{Place, all_done, ids, order};
use crate::support::{Database, on_both_databases};
use highwater::sim::{
    Blocks, ConsumerOptions, ConsumerSim, GatewayKnobs, GatewayOptions, GatewaySim,
};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Blocks of a thousand irrelevant events, and of how many each.
const BLOCKS: u32 = 40;
const EACH: i64 = 25;
/// What the configuration says where it says nothing: three looks, 1 s apart.
const DEFAULT: &str = "{ attempts = 3, delay = \"1s\" }";

on_both_databases!(a_thousand_irrelevant_events_wait_side_by_side_and_hold_their_order);

async fn a_thousand_irrelevant_events_wait_side_by_side_and_hold_their_order(database: &Database) {
    let gateway = GatewaySim::start(GatewayOptions {
        relevant: 0.0,
        events: Blocks {
            from: EACH,
            to: EACH,
        },
        knobs: GatewayKnobs {
            mute: true,
            // The waits are looked at, and not how fast a gateway calls.
            list: 25,
            ..GatewayKnobs::default()
        },
        ..GatewayOptions::resting(BLOCKS + 1)
    })
    .unwrap();
    let consumer = ConsumerSim::start(ConsumerOptions::default()).unwrap();
    let place = Place::named(
        "server",
        Duration::from_secs(1),
        database,
        &gateway,
        &[("claims", &consumer, DEFAULT)],
    );
    let server = place.serve().await;
    let mut before = gateway.events(0..=i64::from(BLOCKS));
    // The last transaction of them all.
    let tx_id = before.last().unwrap().tx_id.clone();
    let behind = before.split_off(
        before.partition_point(|event| event.block < i64::from(BLOCKS) || event.tx_id != tx_id),
    );
    let known = json!({ "tx_ids": [tx_id] });
    order(&server, "/v1/known", &known).await;
    let begun = Instant::now();
    gateway.set(|knobs| knobs.mute = false);
    all_done(database, "claims", before.len() + behind.len()).await;
    println!(
        "    {} irrelevant events and {} behind them, hook to processed: {:.1?}",
        before.len(),
        behind.len(),
        begun.elapsed()
    );
    server.terminate().await;

    let taken = consumer.taken();
    assert_eq!(taken.len(), behind.len(), "{taken:?}");
    assert_eq!(
        taken.into_iter().collect::<BTreeSet<_>>(),
        ids("claims", &behind)
    );
    let irrelevant = "decision = 'irrelevant' AND processed_at IS NULL AND attempts = 0";
    let count = format!("SELECT count(*) AS value FROM events WHERE {irrelevant}");
    assert_eq!(
        database.number(&count).await,
        i64::try_from(before.len()).unwrap()
    );
    // Each waited for its three looks, and all before the one behind them.
    let hasty = match database {
        Database::Sqlite(_) => "(julianday(decided_at) - julianday(received_at)) * 86400",
        Database::Postgres { .. } => "extract(epoch FROM decided_at - received_at)",
    };
    let hasty = format!(
        "SELECT count(*) AS value FROM events WHERE {irrelevant} AND ({hasty} < 1.95 \
         OR decided_at > (SELECT min(processed_at) FROM events WHERE decision = 'relevant'))"
    );
    assert_eq!(database.number(&hasty).await, 0);
}
