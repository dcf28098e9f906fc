//! A panic in any service, while batches flow: the flow goes on by itself.

use crate::life_support::{
    Db, PATIENCE, Place, Server, ledger, mixed, new_ids, sim, submit, until,
};
use highwater::ledgers::LedgerKind;
use highwater::sim::{SimHandle, Span};
use highwater::watchdog::ServiceState;
use std::time::Duration;

const BATCHES: &str = "[batches]\npoll_interval = \"200ms\"\n\
    repoll = { min = \"50ms\", max = \"200ms\" }\nbackoff = { min = \"100ms\", max = \"500ms\" }\n";
/// Of each of the two ledgers; times 25 ids are what can be in flight.
const CONNECTIONS: usize = 4;
const IDS_PER_REQUEST: usize = 25;
const SERVICES: usize = 8;

/// Two ledgers that take up to a second to decide.
struct Stage {
    sawtooth: SimHandle,
    splinter: SimHandle,
    tracked: (usize, usize),
}

impl Stage {
    fn new() -> Self {
        let start = |kind| {
            sim(kind, |options| {
                options.commit_after =
                    Span::new(Duration::from_millis(100), Duration::from_secs(1));
                options.invalid = 0.1;
                options.latency = Duration::from_millis(5);
            })
        };
        Self {
            sawtooth: start(LedgerKind::Sawtooth),
            splinter: start(LedgerKind::Splinter),
            tracked: (0, 0),
        }
    }

    fn sections(&self) -> String {
        let more = format!("connections = {CONNECTIONS}\nids_per_request = {IDS_PER_REQUEST}");
        let sawtooth = ledger("trace", LedgerKind::Sawtooth, &self.sawtooth, &more);
        let splinter = ledger("supply", LedgerKind::Splinter, &self.splinter, &more);
        format!("{BATCHES}{sawtooth}{splinter}")
    }

    /// Submits and tracks batches at both ledgers.
    async fn feed(&mut self, server: &Server, sawtooth: usize, per_service: usize) {
        submit(server, "trace", &self.sawtooth, "", &new_ids(sawtooth)).await;
        for service in 0..SERVICES {
            // Other services each time: a Splinter service remembers 100.
            let service = format!("circuit-{}::s{service}", self.tracked.1);
            submit(
                server,
                "supply",
                &self.splinter,
                &service,
                &new_ids(per_service),
            )
            .await;
        }
        self.tracked.0 += sawtooth;
        self.tracked.1 += per_service * SERVICES;
    }

    async fn assert_all_true(&self, server: &Server) {
        server.all_settle("trace").await;
        server.all_settle("supply").await;
        server
            .assert_true("trace", &self.sawtooth, self.tracked.0)
            .await;
        server
            .assert_true("supply", &self.splinter, self.tracked.1)
            .await;
    }

    fn asked_after_final(&self) -> u64 {
        self.sawtooth.stats().asked_after_final + self.splinter.stats().asked_after_final
    }
}

fn services(server: &Server) -> Vec<String> {
    server
        .watchdog
        .status()
        .into_iter()
        .map(|service| service.name)
        .collect()
}

async fn is_running(server: &Server, service: &str) {
    until(
        &format!("{service} runs"),
        PATIENCE,
        async || match server.service(service).state {
            ServiceState::Running => Ok(()),
            other => Err(other.as_str().to_owned()),
        },
    )
    .await;
}

async fn each_service_in_turn(db: Db) {
    let place = Place::new(db);
    let mut stage = Stage::new();
    let server = Server::start(&place, &stage.sections());
    let services = services(&server);
    assert_eq!(services.len(), 8, "{services:?}");
    for service in services {
        is_running(&server, &service).await;
        let before = stage.asked_after_final();
        stage.feed(&server, 300, 20).await;
        until("some are settled and some are not", PATIENCE, async || {
            let outstanding = server.outstanding("ledger=trace").await;
            if (1..280).contains(&outstanding) {
                Ok(())
            } else {
                Err(format!("{outstanding} outstanding"))
            }
        })
        .await;
        let message = format!("injected into {service}");
        server.watchdog.panic(&service, &message).unwrap();
        let status = until(&format!("{service} is restarted"), PATIENCE, async || {
            let status = server.service(&service);
            let restarted = status.restarts.get("panic") == Some(&1);
            if restarted {
                Ok(status)
            } else {
                Err(format!("{status:?}"))
            }
        })
        .await;
        let error = status.last_error.unwrap();
        assert!(
            error.contains(&message) && error.contains(".rs:"),
            "{error}"
        );
        let (ready, body) = server.get("/readyz").await;
        assert_eq!(ready, 200, "{body}");
        stage.assert_all_true(&server).await;
        is_running(&server, &service).await;
        let again = stage.asked_after_final() - before;
        let in_flight = 2 * CONNECTIONS * IDS_PER_REQUEST;
        assert!(
            again <= in_flight as u64,
            "{service}: {again} asked after final"
        );
    }
    let (ready, body) = server.get("/readyz").await;
    assert_eq!(ready, 200, "{body}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_each_service_in_turn_is_survived_on_sqlite() {
    each_service_in_turn(Db::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_each_service_in_turn_is_survived_on_postgres() {
    each_service_in_turn(Db::Postgres).await;
}

/// Seven panics in each of seven services, in a seeded order: fewer than the
/// ten in a minute that make a service fail.
async fn a_storm(db: Db, seed: u64) {
    let place = Place::new(db);
    let mut stage = Stage::new();
    let server = Server::start(&place, &stage.sections());
    let mut order: Vec<String> = services(&server)
        .into_iter()
        .flat_map(|name| vec![name; 7])
        .collect();
    for place in (1..order.len()).rev() {
        let other = mixed(seed + place as u64) as usize % (place + 1);
        order.swap(place, other);
    }
    for (number, service) in order.iter().enumerate() {
        if number % 7 == 0 {
            stage.feed(&server, 100, 10).await;
        }
        // One panic for each life of it; those of other services come between.
        let sent = order[..number]
            .iter()
            .filter(|other| *other == service)
            .count() as u64;
        until("its last panic is over", PATIENCE, async || {
            let status = server.service(service);
            let over = status.restarts.get("panic").copied().unwrap_or(0) == sent;
            if over && status.state == ServiceState::Running {
                Ok(())
            } else {
                Err(format!("{status:?}"))
            }
        })
        .await;
        server.watchdog.panic(service, "storm").unwrap();
    }
    until("every panic is counted", PATIENCE, async || {
        let status = server.watchdog.status();
        let count: u64 = status
            .iter()
            .filter_map(|service| service.restarts.get("panic"))
            .sum();
        if count == order.len() as u64 {
            Ok(())
        } else {
            Err(format!("{count}"))
        }
    })
    .await;
    stage.feed(&server, 100, 10).await;
    stage.assert_all_true(&server).await;
    for service in services(&server) {
        is_running(&server, &service).await;
    }
    let (ready, body) = server.get("/readyz").await;
    assert_eq!(ready, 200, "{body}");
    let most = (2 * CONNECTIONS * IDS_PER_REQUEST * order.len()) as u64;
    assert!(stage.asked_after_final() <= most);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_panics_is_survived_on_sqlite() {
    a_storm(Db::Sqlite, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_panics_is_survived_on_postgres() {
    a_storm(Db::Postgres, 11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_keeps_panicking_fails_and_the_server_says_so() {
    let place = Place::new(Db::Sqlite);
    let mut stage = Stage::new();
    let server = Server::start(&place, &stage.sections());
    // One that the server cannot do without, and one that it can.
    for service in ["updater", "housekeeper"] {
        is_running(&server, service).await;
    }
    until("both have failed", Duration::from_secs(90), async || {
        let mut all = true;
        for service in ["updater", "housekeeper"] {
            if server.service(service).state != ServiceState::Failed {
                all = false;
                server.watchdog.panic(service, "again and again").unwrap();
            }
        }
        if all {
            Ok(())
        } else {
            Err(format!("{:?}", server.watchdog.status()))
        }
    })
    .await;
    let (status, body) = server.get("/readyz").await;
    assert_eq!(status, 503, "{body}");
    let reasons = body["reasons"].to_string();
    assert!(
        reasons.contains("service updater has failed") && reasons.contains("again and again"),
        "{reasons}"
    );
    assert!(!reasons.contains("housekeeper"), "{reasons}");
    assert!(
        body["warnings"]
            .to_string()
            .contains("service housekeeper has failed"),
        "{body}"
    );
    let (_, page) = server.text("/").await;
    assert!(page.contains("Service updater has failed"), "{page}");
    // Started by hand it goes on where it was.
    stage.feed(&server, 100, 10).await;
    server.watchdog.start("updater").unwrap();
    stage.assert_all_true(&server).await;
    assert_eq!(server.get("/readyz").await.0, 200);
    server.stop();
}
