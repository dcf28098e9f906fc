//! Load benchmark of the batch flow: 100,000 batches over 1,000 services
//! settle, on SQLite and on PostgreSQL, beside bare limits measured in the
//! same run against the same simulated ledger and the same database.
//!
//! `c` is a bare HTTP client asking for the same ids, `d` the bare bulk
//! statement over the same rows with the same durability; where both are used
//! on the same cores the limit is `1 / (1/c + 1/d)`.
//!
//! PostgreSQL is measured where `HIGHWATER_TEST_POSTGRES_URL` names a server
//! (`./scripts/bench` starts one).

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod frame;

use frame::{Place, ROUNDS, Round, Running, resident_mb};
use highwater::config::Loaded;
use highwater::flows::batches::{BatchKey, LedgerStatus, Status};
use highwater::sim::{LedgerSim, SimHandle, SimOptions};
use highwater::store::{BatchChange, BatchFilter, ChangeGroup, LeaseStake, NewBatch, Store};
use highwater::time::Timestamp;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const SERVICES: usize = 1_000;
const BATCHES_PER_SERVICE: usize = 100;
const BATCHES: usize = SERVICES * BATCHES_PER_SERVICE;
const CONNECTIONS: usize = 16;

fn main() {
    let header = [
        "database",
        "c (ids/s)",
        "d (rows/s)",
        "limit (batches/s)",
        "settled (batches/s)",
        "share of the limit",
        "ready (ms)",
        "resident (MB)",
    ];
    let table = frame::compare("bench", header, run_once);
    println!(
        "{BATCHES} batches over {SERVICES} services, {CONNECTIONS} connections; the median of {ROUNDS} rounds"
    );
    println!("{table}");
}

fn service(index: usize) -> String {
    format!("bench-{:05}::a{index:03}", index / 10)
}

fn batch(service: usize, index: usize) -> String {
    format!(
        "{:0>128x}",
        0x1000_0000_u64 + (service * BATCHES_PER_SERVICE + index) as u64
    )
}

fn peer() -> SimHandle {
    let options = SimOptions {
        auto_submit: true,
        remember: Some(0),
        commit_after: "0s..0s".parse().unwrap(),
        latency: Duration::ZERO,
        jitter: Duration::ZERO,
        ..SimOptions::of(highwater::ledgers::LedgerKind::Splinter)
    };
    LedgerSim::start(options).unwrap()
}

fn run_once(runtime: &Runtime, place: &Place) -> Round {
    let client = bare_client(runtime);
    let sim = peer();
    let store_settings = place.database();
    place.clear(runtime);
    let bulk = runtime.block_on(async {
        let store = Store::open(&store_settings).await.unwrap();
        let rate = bare_bulk(&store).await;
        store.close();
        rate
    });
    place.clear(runtime);
    runtime.block_on(async {
        let store = Store::open(&store_settings).await.unwrap();
        track(&store).await;
        store.close();
    });
    let launched = Instant::now();
    let running = Running::start(load(place, &sim.url()));
    let ready_after = launched.elapsed();
    let settled_after = runtime.block_on(async {
        let store = Store::open_as_is(&store_settings).unwrap();
        // Read from an index: watching costs next to nothing.
        let pending = BatchFilter {
            ledger: Some("bench".to_owned()),
            status: Some(Status::Pending),
            limit: 1,
            ..BatchFilter::default()
        };
        frame::until(launched, "the batches settle", async || {
            store.list_batches(&pending).await.unwrap().rows.is_empty()
        })
        .await
    });
    let resident_mb = resident_mb();
    runtime.block_on(async {
        let store = Store::open_as_is(&store_settings).unwrap();
        let filter = BatchFilter {
            status: Some(Status::Committed),
            limit: 1,
            ..BatchFilter::default()
        };
        assert!(!store.list_batches(&filter).await.unwrap().rows.is_empty());
        store.close();
    });
    running.stop();
    assert_eq!(
        sim.stats().asked_after_final,
        0,
        "a batch was asked for after it was final"
    );
    Round {
        client,
        bulk,
        reached: BATCHES as f64 / (settled_after - ready_after).as_secs_f64(),
        more: vec![ready_after.as_millis().to_string(), resident_mb.to_string()],
    }
}

/// Ids per second of a bare client that asks for all batches once.
fn bare_client(runtime: &Runtime) -> f64 {
    let sim = peer();
    let base = sim.url();
    let took = frame::bare_client(runtime, CONNECTIONS, SERVICES, move |client, index| {
        let service = service(index);
        let (circuit, name) = service.split_once("::").unwrap();
        let ids: Vec<String> = (0..BATCHES_PER_SERVICE).map(|b| batch(index, b)).collect();
        let url = format!(
            "{base}/scabbard/{circuit}/{name}/batch_statuses?ids={}",
            ids.join(",")
        );
        client.get(url).header("SplinterProtocolVersion", "1")
    });
    BATCHES as f64 / took.as_secs_f64()
}

async fn track(store: &Store) {
    let batches: Vec<NewBatch> = (0..BATCHES_PER_SERVICE)
        .flat_map(|index| (0..SERVICES).map(move |service| (service, index)))
        .map(|(service_index, index)| NewBatch {
            key: BatchKey {
                ledger: "bench".to_owned(),
                service_id: service(service_index),
                batch_id: batch(service_index, index),
            },
            transaction_ids: Vec::new(),
        })
        .collect();
    for part in batches.chunks(10_000) {
        store.track_batches(part.to_vec()).await.unwrap();
    }
}

/// Rows per second of the bulk statement alone, in groups as large as the
/// Updater's.
async fn bare_bulk(store: &Store) -> f64 {
    track(store).await;
    let stakes = store
        .hold_leases(
            "bare",
            &["batches:bench".to_owned()],
            Duration::from_secs(600),
            false,
        )
        .await
        .unwrap();
    let stake: LeaseStake = stakes.into_iter().next().unwrap();
    let first = store
        .list_batches(&BatchFilter {
            limit: 1,
            ..BatchFilter::default()
        })
        .await
        .unwrap()
        .rows[0]
        .seq;
    let now = Timestamp::now();
    let changes: Vec<BatchChange> = (0..BATCHES as i64)
        .map(|back| BatchChange {
            seq: first - back,
            status: Status::Committed,
            invalid_transactions: None,
            polled_at: Some(now),
            unknown: false,
            next_poll_at: None,
            settled_at: Some(now),
            last_error: None,
            log: highwater::flows::batches::poll_log_entry(now, "committed"),
        })
        .collect();
    let begun = Instant::now();
    for part in changes.chunks(2_000) {
        let group = ChangeGroup {
            stake: stake.clone(),
            changes: part.into(),
        };
        let applied = store.apply_changes("bare", vec![group]).await.unwrap();
        assert_eq!(applied.changed, part.len());
    }
    std::hint::black_box(LedgerStatus::Committed);
    BATCHES as f64 / begun.elapsed().as_secs_f64()
}

/// A configuration with one ledger.
fn load(place: &Place, peer: &str) -> Loaded {
    place.load(&format!(
        "[[ledgers]]\nname = \"bench\"\nkind = \"splinter\"\nurl = \"{peer}\"\nconnections = {CONNECTIONS}\n"
    ))
}
