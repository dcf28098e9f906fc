//! `kill -9` at random moments while events come in: what was acknowledged is
//! recorded, none is missing, and again comes only the one that was with its
//! handler and whose processing was not committed.

use crate::events_support::{
    ALL, Calls, Place, SOON, all_done, calls, check_calls, ids, make_known, relevant, taken_over,
};
use crate::support::{Database, PATIENCE, eventually, on_both_databases};
use highwater::sim::{
    Blocks, ConsumerHandle, ConsumerOptions, ConsumerSim, GatewayHandle, GatewayKnobs,
    GatewayOptions, GatewaySim,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How often the server is killed, where another number is not wanted: quick
/// enough for every run.
const KILLS: u32 = 10;
/// Has another number of kills.
const KILLS_VARIABLE: &str = "HIGHWATER_TEST_KILLS";
/// Blocks that come between two kills, at most.
const BETWEEN: u32 = 20;
/// How many events that were processed last are looked at: more than there can
/// be with a handler.
const NEWEST: usize = 20;

on_both_databases!(kills_lose_no_event_and_keep_the_order);

/// A subscription with its consumer, and what was found at each kill.
struct Side {
    name: &'static str,
    consumer: ConsumerHandle,
    /// The newest ids whose processing was committed when a start was killed, by
    /// the start.
    committed: Vec<Vec<String>>,
    /// Takeovers within a start, beyond the first.
    flaps: usize,
}

impl Side {
    fn new(name: &'static str) -> Self {
        let consumer = ConsumerSim::start(ConsumerOptions::default()).unwrap();
        // So that kills meet the handler at work.
        consumer.set(|knobs| knobs.latency = Duration::from_millis(2));
        Self {
            name,
            consumer,
            committed: Vec::new(),
            flaps: 0,
        }
    }

    /// What the database says after a kill.
    async fn note(&mut self, database: &Database, gateway: &GatewayHandle, log: &str) {
        let name = self.name;
        self.flaps += taken_over(log, name).saturating_sub(1);
        let processed = format!(
            "SELECT '{name}/' || block || '/' || tx_id || '/' || event_id AS value FROM events \
             WHERE subscription = '{name}' AND processed_at IS NOT NULL \
             ORDER BY block DESC, arrival DESC LIMIT {NEWEST}"
        );
        self.committed.push(database.texts(&processed).await);
        // What was answered by 200 is there, before anybody sends it again.
        let recorded = format!(
            "SELECT block || '/' || event_id AS value FROM events WHERE subscription = '{name}'"
        );
        let recorded: BTreeSet<String> = database.texts(&recorded).await.into_iter().collect();
        let hook = format!("/v1/hooks/{name}/");
        for sent in gateway.record() {
            let id = format!("{}/{}", sent.block, sent.index);
            assert!(
                sent.acknowledged == 0 || !sent.callback.contains(&hook) || recorded.contains(&id),
                "{name} acknowledged {id} and lost it"
            );
        }
    }

    /// What came again after a kill is exactly what was with the handler and not
    /// committed.
    fn check(&self, expected: &BTreeSet<String>) -> usize {
        let all = calls(&self.consumer);
        let again = check_calls(&all, expected, self.flaps);
        let first_of = |calls: &Calls| calls.ids.first().cloned();
        for pair in all.windows(2) {
            let (before, after) = (&pair[0], first_of(&pair[1]));
            let last = before.ids.last().cloned();
            let start: usize = before.by.rsplit('-').next().unwrap().parse().unwrap();
            // Starts that called nobody changed nothing.
            let committed = self.committed[start - 1].contains(last.as_ref().unwrap());
            assert_eq!(
                committed,
                last != after,
                "{last:?} of start {start}, then {after:?}"
            );
        }
        again
    }
}

async fn kills_lose_no_event_and_keep_the_order(database: &Database) {
    let kills = std::env::var(KILLS_VARIABLE).map_or(KILLS, |kills| kills.parse().unwrap());
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
        ..GatewayOptions::resting(0)
    })
    .unwrap();
    let (mut claims, mut audits) = (Side::new("claims"), Side::new("audits"));
    let both = [
        ("claims", &claims.consumer, SOON),
        ("audits", &audits.consumer, ALL),
    ];
    let place = Place::named("server", Duration::from_secs(1), database, &gateway, &both);
    let begun = Instant::now();
    let mut server = place.serve().await;
    make_known(&server, &gateway, i64::from(BETWEEN * (kills + 1)) + 1).await;
    for kill in 0..kills {
        // As many as there is time for, so that the end is not all the work.
        let heard = "SELECT COALESCE(min(highest_block), 0) AS value FROM subscriptions";
        if gateway.blocks() - database.number(heard).await < i64::from(BETWEEN) {
            gateway.grow(random.random_range(5..=BETWEEN));
        }
        let goal = gateway.stats().events_acknowledged + random.random_range(1..30);
        let soon = Duration::from_millis(random.random_range(0..50));
        // It may be that fewer are sent any more.
        let begun = Instant::now();
        eventually(PATIENCE, "events are taken", async || {
            let enough = gateway.stats().events_acknowledged >= goal;
            enough || begun.elapsed() > Duration::from_secs(2)
        })
        .await;
        tokio::time::sleep(soon).await;
        let log = server.kill9();
        if kill % 3 == 2 {
            // The gateway crashes as well, and knows no subscription any more.
            gateway.crash();
        }
        database.sessions_are_gone("server").await;
        for side in [&mut claims, &mut audits] {
            side.note(database, &gateway, &log).await;
        }
        server = place.serve().await;
    }
    let events = gateway.events(0..=gateway.blocks() - 1);
    all_done(database, "claims", events.len()).await;
    all_done(database, "audits", events.len()).await;
    let took = begun.elapsed();
    for side in [&mut claims, &mut audits] {
        side.flaps += taken_over(&server.log(), side.name).saturating_sub(1);
    }
    server.terminate().await;
    let sent: BTreeSet<(i64, u32)> = gateway
        .record()
        .iter()
        .map(|e| (e.block, e.index))
        .collect();
    assert_eq!(sent.len(), events.len(), "the gateway sent all of them");
    for (side, expected) in [(&claims, relevant(&events)), (&audits, events.clone())] {
        let again = side.check(&ids(side.name, &expected));
        println!(
            "    {}: {} events, {} handed over, {again} of them again after {kills} kills, {} regained leases; {took:.1?} in all",
            side.name,
            events.len(),
            expected.len(),
            side.flaps
        );
    }
}
