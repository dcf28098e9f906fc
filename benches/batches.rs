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

use highwater::app::{self, Launch};
use highwater::config::{self, LoadOptions, Loaded};
use highwater::flows::batches::{BatchKey, LedgerStatus, Status};
use highwater::handlers::Listeners;
use highwater::sim::{LedgerSim, SimHandle, SimOptions};
use highwater::store::{BatchChange, BatchFilter, ChangeGroup, LeaseStake, NewBatch, Store};
use highwater::time::Timestamp;
use std::path::Path;
use std::time::{Duration, Instant};

const SERVICES: usize = 1_000;
const BATCHES_PER_SERVICE: usize = 100;
const BATCHES: usize = SERVICES * BATCHES_PER_SERVICE;
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 3;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut table = comfy_table::Table::new();
    table.set_header([
        "database",
        "c (ids/s)",
        "d (rows/s)",
        "limit (batches/s)",
        "settled (batches/s)",
        "share of the limit",
        "ready (ms)",
        "resident (MB)",
    ]);
    let mut databases = vec![(
        "SQLite",
        format!("sqlite://{}/NAME.db", folder.path().display()),
        "highwater",
    )];
    match std::env::var("HIGHWATER_TEST_POSTGRES_URL") {
        Ok(url) => databases.push(("PostgreSQL", url, "bench")),
        Err(_) => eprintln!("PostgreSQL is left out: HIGHWATER_TEST_POSTGRES_URL is not set"),
    }
    for (label, url, schema) in databases {
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let url = url.replace("NAME", &format!("run{round}"));
            let round = run_once(&runtime, folder.path(), &url, schema);
            eprintln!(
                "{label}: c {:.0}, d {:.0}, settled {:.0} a second, {:.0}% of the limit; ready after {} ms, {} MB resident",
                round.client,
                round.bulk,
                round.settled,
                round.share() * 100.0,
                round.ready.as_millis(),
                round.resident_mb
            );
            rounds.push(round);
        }
        rounds.sort_by(|a, b| a.share().total_cmp(&b.share()));
        let median = &rounds[ROUNDS / 2];
        table.add_row([
            label.to_owned(),
            format!("{:.0}", median.client),
            format!("{:.0}", median.bulk),
            format!("{:.0}", median.limit()),
            format!("{:.0}", median.settled),
            format!("{:.0}%", median.share() * 100.0),
            median.ready.as_millis().to_string(),
            median.resident_mb.to_string(),
        ]);
    }
    println!(
        "{BATCHES} batches over {SERVICES} services, {CONNECTIONS} connections; the median of {ROUNDS} rounds"
    );
    println!("{table}");
}

struct Round {
    client: f64,
    bulk: f64,
    settled: f64,
    ready: Duration,
    resident_mb: u64,
}

impl Round {
    fn limit(&self) -> f64 {
        1.0 / (1.0 / self.client + 1.0 / self.bulk)
    }

    fn share(&self) -> f64 {
        self.settled / self.limit()
    }
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

fn run_once(runtime: &tokio::runtime::Runtime, folder: &Path, url: &str, schema: &str) -> Round {
    let client = bare_client(runtime);
    let loaded = |peer: &str| load(folder, url, schema, peer);
    let sim = peer();
    let store_settings = loaded(&sim.url()).settings.database;
    clear(runtime, url, schema);
    let bulk = runtime.block_on(async {
        let store = Store::open(&store_settings).await.unwrap();
        let rate = bare_bulk(&store).await;
        store.close();
        rate
    });
    clear(runtime, url, schema);
    runtime.block_on(async {
        let store = Store::open(&store_settings).await.unwrap();
        track(&store).await;
        store.close();
    });
    let launched = Instant::now();
    let config = loaded(&sim.url());
    let (ready_sender, ready_receiver) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        app::run(Launch {
            config,
            reload: None,
            on_ready: Some(Box::new(move |ready| ready_sender.send(ready).unwrap())),
            listeners: Listeners::default(),
        })
    });
    let ready = ready_receiver.recv().unwrap();
    let ready_after = launched.elapsed();
    let settled_after = runtime.block_on(async {
        let store = Store::open_as_is(&store_settings).unwrap();
        loop {
            // Read from an index: watching costs next to nothing.
            let filter = BatchFilter {
                ledger: Some("bench".to_owned()),
                status: Some(Status::Pending),
                limit: 1,
                ..BatchFilter::default()
            };
            if store.list_batches(&filter).await.unwrap().rows.is_empty() {
                break launched.elapsed();
            }
            assert!(
                launched.elapsed() < Duration::from_secs(300),
                "the batches do not settle"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
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
    ready.stop.stop();
    server.join().unwrap().unwrap();
    assert_eq!(
        sim.stats().asked_after_final,
        0,
        "a batch was asked for after it was final"
    );
    Round {
        client,
        bulk,
        settled: BATCHES as f64 / (settled_after - ready_after).as_secs_f64(),
        ready: ready_after,
        resident_mb,
    }
}

/// Ids per second of a bare client that asks for all batches once and throws
/// the bodies away.
fn bare_client(runtime: &tokio::runtime::Runtime) -> f64 {
    let sim = peer();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = sim.url();
    let next = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let begun = Instant::now();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (client, base, next) = (client.clone(), base.clone(), next.clone());
                tokio::spawn(async move {
                    loop {
                        let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if index >= SERVICES {
                            break;
                        }
                        let service = service(index);
                        let (circuit, name) = service.split_once("::").unwrap();
                        let ids: Vec<String> =
                            (0..BATCHES_PER_SERVICE).map(|b| batch(index, b)).collect();
                        let url = format!(
                            "{base}/scabbard/{circuit}/{name}/batch_statuses?ids={}",
                            ids.join(",")
                        );
                        let answer = client
                            .get(url)
                            .header("SplinterProtocolVersion", "1")
                            .send()
                            .await
                            .unwrap();
                        assert_eq!(answer.status(), 200);
                        std::hint::black_box(answer.bytes().await.unwrap());
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    BATCHES as f64 / begun.elapsed().as_secs_f64()
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

fn clear(runtime: &tokio::runtime::Runtime, url: &str, schema: &str) {
    if let Some(path) = url.strip_prefix("sqlite://") {
        for ending in ["", "-wal", "-shm", ".lock"] {
            drop(std::fs::remove_file(format!("{path}{ending}")));
        }
        return;
    }
    runtime.block_on(async {
        use diesel_async::{AsyncConnection, SimpleAsyncConnection};
        let mut conn = diesel_async::AsyncPgConnection::establish(url)
            .await
            .unwrap();
        conn.batch_execute(&format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE"))
            .await
            .unwrap();
    });
}

fn load(folder: &Path, url: &str, schema: &str, peer: &str) -> Loaded {
    let text = format!(
        "[database]\nurl = \"{url}\"\nschema = \"{schema}\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"warn\"\n\
         [[ledgers]]\nname = \"bench\"\nkind = \"splinter\"\nurl = \"{peer}\"\nconnections = {CONNECTIONS}\n"
    );
    config::parse(&text, "bench.toml", folder, [], LoadOptions::default()).unwrap()
}

/// Memory of this process that is resident now, in megabytes; the simulated
/// ledger's is in it.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|kb| kb.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}
