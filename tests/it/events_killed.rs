//! `kill -9` at random moments while events come in: none is lost, and none but
//! the one that was with its handler comes twice.

use crate::events_support::{Place, all_done, blocks, ids, make_known, relevant};
use crate::support::{Database, PATIENCE, eventually, on_both_databases};
use highwater::sim::{
    Blocks, ConsumerHandle, ConsumerOptions, ConsumerSim, GatewayKnobs, GatewayOptions, GatewaySim,
    SimEvent,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::BTreeSet;
use std::time::Duration;

const KILLS: usize = 10;
/// Blocks that come between two kills, at most.
const BETWEEN: u32 = 20;

on_both_databases!(ten_kills_lose_no_event_and_keep_the_order);

fn consumer() -> ConsumerHandle {
    ConsumerSim::start(ConsumerOptions::default()).unwrap()
}

async fn ten_kills_lose_no_event_and_keep_the_order(database: &Database) {
    let seed: u64 = rand::random();
    println!("seed {seed:#018x}");
    let mut random = SmallRng::seed_from_u64(seed);
    let gateway = GatewaySim::start(GatewayOptions {
        seed,
        relevant: 0.6,
        events: Blocks { from: 1, to: 5 },
        knobs: GatewayKnobs {
            duplicates: 0.05,
            reorder: 0.2,
            ..GatewayKnobs::default()
        },
        ..GatewayOptions::resting(1)
    })
    .unwrap();
    let (claims, audits) = (consumer(), consumer());
    let place = Place::new(database, &gateway, &claims, &audits);
    let mut server = place.serve().await;
    make_known(
        &server,
        &gateway,
        i64::from(BETWEEN) * (KILLS as i64 + 1) + 1,
    )
    .await;
    for kill in 0..KILLS {
        gateway.grow(random.random_range(5..=BETWEEN));
        let goal = gateway.stats().events_acknowledged + random.random_range(1..30);
        let soon = Duration::from_millis(random.random_range(0..50));
        // It may be that fewer are sent any more.
        let begun = std::time::Instant::now();
        eventually(PATIENCE, "events are taken", async || {
            let enough = gateway.stats().events_acknowledged >= goal;
            enough || begun.elapsed() > Duration::from_secs(2)
        })
        .await;
        tokio::time::sleep(soon).await;
        server.kill9();
        if kill % 3 == 2 {
            // The gateway crashes as well, and knows no subscription any more.
            gateway.crash();
        }
        database.sessions_are_gone("server").await;
        server = place.serve().await;
    }
    let events = gateway.events(0..=gateway.blocks() - 1);
    all_done(database, "claims", events.len()).await;
    all_done(database, "audits", events.len()).await;
    server.terminate().await;
    check("claims", &claims, &relevant(&events));
    check("audits", &audits, &events);
}

/// All of them came, in order; again came only what a kill met with the handler.
fn check(subscription: &str, consumer: &ConsumerHandle, expected: &[SimEvent]) {
    let taken = consumer.taken();
    let mut seen = BTreeSet::new();
    let first: Vec<String> = taken
        .iter()
        .filter(|id| seen.insert((*id).clone()))
        .cloned()
        .collect();
    assert_eq!(seen, ids(subscription, expected));
    assert!(blocks(&first).is_sorted(), "not in order: {first:?}");
    let again = taken.len() - first.len();
    println!(
        "    {subscription}: {} events, {again} of them twice",
        first.len()
    );
    assert!(again <= KILLS, "{again} came again after {KILLS} kills");
    for (index, id) in taken.iter().enumerate() {
        let before = taken[..index].iter().rposition(|other| other == id);
        if let Some(before) = before {
            assert_eq!(before, index - 1, "{id} came again behind others");
        }
    }
}
