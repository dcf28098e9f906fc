//! Database slots: who floods the database with work starves no other.

use crate::life_support::{Db, PATIENCE, Place, Server, ledger, new_ids, sim, submit, until};
use crate::support::{Database, on_both_databases};
use highwater::config::{self, LoadOptions};
use highwater::ledgers::LedgerKind;
use highwater::store::{DatabaseSlots, SavedState, StateWrite, Store, StoreError};
use highwater::watchdog::{OwnerStatus, ResourceStatus, Share};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 2;
/// How many requests for pages there are at once.
const CROWD: usize = 48;
const ROUNDS: usize = 25;

on_both_databases!(
    a_crowd_of_readers_does_not_starve_the_updater,
    a_crowd_of_writers_does_not_starve_the_updater,
);

async fn open(database: &Database) -> (Store, DatabaseSlots) {
    let text = format!(
        "{}connections = {CONNECTIONS}\n",
        database.section("resources")
    );
    let options = LoadOptions::default();
    let settings = config::parse(&text, "t.toml", Path::new("/"), [], options)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .settings;
    let store = Store::open(&settings.database).await.unwrap();
    let slots = DatabaseSlots::new(&settings.database, store.is_sqlite());
    let shares: Vec<(&str, Share)> = settings
        .resources
        .database
        .iter()
        .map(|share| {
            let (weight, minimum, priority) = (share.weight, share.minimum, share.priority);
            (
                share.owner,
                Share {
                    weight,
                    minimum,
                    priority,
                },
            )
        })
        .collect();
    slots.configure(&shares);
    (store, slots)
}

async fn read(store: &Store) -> Result<(), StoreError> {
    store.saved_states().await.map(drop)
}

async fn write(store: &Store, service: &str) -> Result<(), StoreError> {
    let decide = |_: Option<&SavedState>| {
        Ok(StateWrite {
            value: "{}".to_owned(),
            unreadable: None,
        })
    };
    store.save_state(service, 1, decide).await.map(drop)
}

/// A crowd that works without a pause, and counts what is done.
fn crowd(http: &Store, writes: bool) -> (JoinSet<()>, Arc<AtomicUsize>) {
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for number in 0..CROWD {
        let (http, done) = (http.clone(), done.clone());
        tasks.spawn(async move {
            loop {
                if writes {
                    write(&http, &format!("http {number}")).await.unwrap();
                } else {
                    read(&http).await.unwrap();
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    (tasks, done)
}

/// How many of the crowd's turns pass before the updater has had its own, in
/// the middle of many times.
async fn turns_before_the_updater(http: &Store, updater: &Store, writes: bool) -> usize {
    let (mut crowd, done) = crowd(http, writes);
    while done.load(Ordering::Relaxed) < CROWD {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut turns = Vec::new();
    for _ in 0..ROUNDS {
        let before = done.load(Ordering::Relaxed);
        if writes {
            write(updater, "updater").await.unwrap();
        } else {
            read(updater).await.unwrap();
        }
        turns.push(done.load(Ordering::Relaxed) - before);
    }
    crowd.shutdown().await;
    turns.sort_unstable();
    turns[ROUNDS / 2]
}

async fn does_not_starve(database: &Database, writes: bool) {
    let (store, slots) = open(database).await;
    let (http, updater) = (
        store.sharing(&slots, "http"),
        store.sharing(&slots, "updater"),
    );
    let shared = turns_before_the_updater(&http, &updater, writes).await;
    let alone = turns_before_the_updater(&store, &store, writes).await;
    println!("the updater waits for {shared} turns of others, in one queue with them for {alone}");
    assert!(alone >= CROWD / 2, "{alone}: there was no crowd");
    assert!(shared <= CROWD / 4, "{shared}");
    // What the crowd had begun is done to its end.
    let connections = until("all slots are back", PATIENCE, async || {
        let connections = slots.status();
        match connections.iter().all(|resource| resource.used == 0) {
            true => Ok(connections),
            false => Err(format!("{connections:?}")),
        }
    })
    .await;
    assert!(owner(&connections, "updater").taken_total > 0);
    store.close();
}

fn owner(resources: &[ResourceStatus], name: &str) -> OwnerStatus {
    let mut owners = resources.iter().flat_map(|resource| &resource.owners);
    let found = owners.find(|owner| owner.owner == name && owner.taken_total > 0);
    found.unwrap_or_else(|| panic!("{name} took none")).clone()
}

async fn a_crowd_of_readers_does_not_starve_the_updater(database: &Database) {
    does_not_starve(database, false).await;
}

async fn a_crowd_of_writers_does_not_starve_the_updater(database: &Database) {
    does_not_starve(database, true).await;
}

/// The same in a whole server: pages are asked for without a pause, and
/// batches settle.
async fn batches_settle_under_a_crowd_of_viewers(db: Db) {
    let place = Place::new(db);
    let sim = sim(LedgerKind::Sawtooth, |_| ());
    let section = ledger("trace", LedgerKind::Sawtooth, &sim, "ids_per_request = 50");
    let server = Server::start(&place, &section);
    submit(&server, "trace", &sim, "", &new_ids(100)).await;
    let mut viewers = JoinSet::new();
    for _ in 0..CROWD {
        let api = server.api.clone();
        viewers.spawn(async move {
            loop {
                let (status, _) = api.text("/v1/batches?limit=1000").await;
                assert_eq!(status, 200);
            }
        });
    }
    let mut most_waiting = 0;
    for _ in 0..5 {
        submit(&server, "trace", &sim, "", &new_ids(100)).await;
        server.all_settle("trace").await;
        let http = owner(&server.resources.database.status(), "http");
        most_waiting = most_waiting.max(http.waiting);
    }
    let database = server.resources.database.status();
    let updater = owner(&database, "updater");
    println!(
        "{most_waiting} viewers waited; the updater at the longest {} s",
        updater.wait_longest_seconds
    );
    assert!(most_waiting > 0, "there was no crowd: {database:?}");
    assert!(updater.wait_longest_seconds < 5.0, "{updater:?}");
    assert_eq!(server.get("/readyz").await.0, 200);
    viewers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_settle_under_a_crowd_of_viewers_on_sqlite() {
    batches_settle_under_a_crowd_of_viewers(Db::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_settle_under_a_crowd_of_viewers_on_postgres() {
    batches_settle_under_a_crowd_of_viewers(Db::Postgres).await;
}
