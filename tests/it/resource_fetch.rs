//! Fetch slots in the whole engine: a flow that wakes up gets its minimum from
//! one that saturates them, and no slot is lost on the way.

use crate::life_support::{Db, PATIENCE, Place, Server, ledger, new_ids, sim, submit, text, until};
use highwater::ledgers::LedgerKind;
use highwater::sim::SimHandle;
use highwater::watchdog::{OwnerStatus, Share, Slot};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long the ledger takes for a request.
const REQUEST: Duration = Duration::from_secs(1);
const SLOTS: usize = 8;
const MINIMUM: usize = 3;
/// What a busy machine may add to a request.
const SLACK: Duration = Duration::from_secs(1);

/// Far more requests than slots, of one batch each.
fn start(place: &Place, latency: Duration) -> (Server, SimHandle) {
    let sim = sim(LedgerKind::Sawtooth, |options| options.latency = latency);
    let sections = format!(
        "[batches]\npoll_interval = \"200ms\"\n\
         [resources]\nfetch_slots = {SLOTS}\nfetch.batches.minimum = {MINIMUM}\n{}",
        ledger(
            "trace",
            LedgerKind::Sawtooth,
            &sim,
            "connections = 32\nids_per_request = 1"
        )
    );
    let server = Server::start(place, &sections);
    // What another flow's settings would say.
    let sites = Share {
        minimum: MINIMUM,
        ..Share::default()
    };
    let batches = Share {
        minimum: MINIMUM,
        ..Share::default()
    };
    let shares = [("sites", sites), ("batches", batches)];
    server.resources.fetch.configure(SLOTS, &shares);
    (server, sim)
}

fn status(server: &Server, owner: &str) -> OwnerStatus {
    let mut owners = server.resources.fetch.status().owners.into_iter();
    owners.find(|status| status.owner == owner).unwrap()
}

async fn batches_use(server: &Server, what: &str, enough: impl Fn(usize) -> bool) {
    until(what, PATIENCE, async || {
        match status(server, "batches").used {
            used if enough(used) => Ok(()),
            used => Err(format!("{used} in use; {}", server.view("trace").await)),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_that_wakes_up_gets_its_minimum_within_one_request_time() {
    let place = Place::new(Db::Sqlite);
    let (server, sim) = start(&place, REQUEST);
    let ids = new_ids(200);
    submit(&server, "trace", &sim, "", &ids).await;
    batches_use(&server, "batches saturate", |used| used == SLOTS).await;
    let lent = status(&server, "batches");
    assert!(lent.lent > 0 && lent.waiting > 0, "{lent:?}");

    let woken = Instant::now();
    let sites = server.resources.fetch.owner("sites");
    // All of it is asked for at once, as a flow that wakes up does.
    let slots: Vec<Slot> =
        futures_util::future::join_all((0..MINIMUM).map(|_| sites.acquire())).await;
    let took = woken.elapsed();
    println!("the minimum was there after {took:?}");
    assert!(took <= REQUEST + SLACK, "{took:?}");
    assert!(status(&server, "batches").used <= SLOTS - MINIMUM);

    // Both go on: the slots are shown, and the ledger is asked with the rest.
    let (_, shown) = server.get("/v1/resources").await;
    let fetch = &shown["items"][0];
    assert_eq!(
        (text(&fetch["name"]), &fetch["capacity"]),
        ("fetch", &SLOTS.into())
    );
    assert!(fetch["used"].as_u64() <= Some(SLOTS as u64), "{fetch}");
    let before = status(&server, "batches").taken_total;
    until(
        "batches go on with the rest",
        PATIENCE,
        async || match status(&server, "batches").taken_total {
            taken if taken >= before + 10 => Ok(()),
            taken => Err(format!("{before} and then {taken}")),
        },
    )
    .await;
    drop(slots);
    batches_use(&server, "batches are lent all again", |used| used == SLOTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_wake_up_get_their_minimum_from_another_flow() {
    let place = Place::new(Db::Sqlite);
    let (server, sim) = start(&place, REQUEST);
    let mut sites = JoinSet::new();
    for number in 0..3 * SLOTS as u64 {
        let owner = server.resources.fetch.owner("sites");
        sites.spawn(async move {
            loop {
                let slot = owner.acquire().await;
                tokio::time::sleep(REQUEST * 3 / 4 + Duration::from_millis(number * 7)).await;
                drop(slot);
            }
        });
    }
    until("sites saturate", PATIENCE, async || {
        match status(&server, "sites") {
            sites if sites.used == SLOTS && sites.waiting > 0 => Ok(()),
            sites => Err(format!("{sites:?}")),
        }
    })
    .await;
    let ids = new_ids(30);
    sim.submit_many("", ids.iter().map(String::as_str));
    let woken = Instant::now();
    server.track("trace", "", &ids).await;
    batches_use(&server, "batches have their minimum", |used| {
        used >= MINIMUM
    })
    .await;
    let took = woken.elapsed();
    println!("the minimum was there after {took:?}");
    assert!(took <= REQUEST + SLACK, "{took:?}");
    // A Scheduler that dies with its demand standing holds nothing up.
    server.panic("scheduler", "as asked");
    server.all_settle("trace").await;
    server.assert_true("trace", &sim, ids.len()).await;
    assert!(status(&server, "sites").used >= SLOTS - MINIMUM);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_slot_is_lost_when_services_panic() {
    let place = Place::new(Db::Sqlite);
    let (server, sim) = start(&place, Duration::from_millis(20));
    let ids = new_ids(600);
    submit(&server, "trace", &sim, "", &ids).await;
    for service in [
        "fetcher_pool",
        "scheduler",
        "updater",
        "fetcher_pool",
        "scheduler",
    ] {
        batches_use(&server, "work goes on", |used| used > 0).await;
        let before = server.service(service).restarts.values().sum::<u64>();
        server.panic(service, "as asked");
        until("the panic is noticed", PATIENCE, async || {
            match server.service(service).restarts.values().sum::<u64>() {
                after if after > before => Ok(()),
                same => Err(format!("{same} restarts of {service}")),
            }
        })
        .await;
    }
    server.all_settle("trace").await;
    server.assert_true("trace", &sim, ids.len()).await;
    batches_use(&server, "all slots are back", |used| used == 0).await;
    assert_eq!(status(&server, "batches").waiting, 0);
}
