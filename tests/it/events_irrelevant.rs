//! A long run of irrelevant events, with the waits that are the default: they
//! wait side by side, and what is relevant behind them comes after them.

use crate::events_support::{Place, all_done, ids, order};
use crate::support::{Database, on_both_databases};
use highwater::sim::{
    Blocks, ConsumerOptions, ConsumerSim, GatewayKnobs, GatewayOptions, GatewaySim,
};
use serde_json::json;
use std::time::{Duration, Instant};

const IRRELEVANT: u32 = 1000;
/// What the configuration says where it says nothing: three looks, 1 s apart.
const DEFAULT: &str = "{ attempts = 3, delay = \"1s\" }";

on_both_databases!(a_thousand_irrelevant_events_wait_side_by_side_and_hold_their_order);

async fn a_thousand_irrelevant_events_wait_side_by_side_and_hold_their_order(database: &Database) {
    let gateway = GatewaySim::start(GatewayOptions {
        relevant: 0.0,
        events: Blocks { from: 1, to: 1 },
        knobs: GatewayKnobs {
            mute: true,
            ..GatewayKnobs::default()
        },
        ..GatewayOptions::resting(IRRELEVANT + 1)
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
    let behind = gateway.events(i64::from(IRRELEVANT)..=i64::from(IRRELEVANT));
    let known = json!({ "tx_ids": [behind[0].tx_id] });
    order(&server, "/v1/known", &known).await;
    let begun = Instant::now();
    gateway.set(|knobs| knobs.mute = false);
    all_done(database, "claims", IRRELEVANT as usize + 1).await;
    println!(
        "    {IRRELEVANT} irrelevant events and one behind them, hook to processed: {:.1?}",
        begun.elapsed()
    );
    server.terminate().await;

    let taken = consumer.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert!(ids("claims", &behind).contains(&taken[0]), "{taken:?}");
    let irrelevant = "decision = 'irrelevant' AND processed_at IS NULL AND attempts = 0";
    let count = format!("SELECT count(*) AS value FROM events WHERE {irrelevant}");
    assert_eq!(database.number(&count).await, i64::from(IRRELEVANT));
    // Each waited for its three looks, and all before the one behind them.
    let hasty = match database {
        Database::Sqlite(_) => "(julianday(decided_at) - julianday(received_at)) * 86400",
        Database::Postgres { .. } => "extract(epoch FROM decided_at - received_at)",
    };
    let hasty = format!(
        "SELECT count(*) AS value FROM events WHERE {irrelevant} AND ({hasty} < 1.95 \
         OR decided_at > (SELECT processed_at FROM events WHERE decision = 'relevant'))"
    );
    assert_eq!(database.number(&hasty).await, 0);
}
