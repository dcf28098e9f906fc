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

    /// Feeds batches until some are settled and some are not. On a busy machine
    /// all may be settled before they are looked at: then there are more.
    async fn some_are_settled(&mut self, server: &Server) {
        for _ in 0..20 {
            self.feed(server, 300, 20).await;
            let look = async || match server.outstanding("ledger=trace").await {
                outstanding @ ..280 => Ok(outstanding),
                outstanding => Err(format!("{outstanding} outstanding")),
            };
            if until("some are settled", PATIENCE, look).await > 0 {
                return;
            }
        }
        panic!("all were settled before they were looked at, twenty times");
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
        .query
        .list()
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
        stage.some_are_settled(&server).await;
        let message = format!("injected into {service}");
        server.panic(&service, &message);
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

/// Panics of a storm, spread at random over all services.
const STORM: u64 = 1_000;
/// Which database the storm of a process of its own is over.
const STORM_DB: &str = "HIGHWATER_TEST_STORM";
/// How much more memory the last nine tenths of a storm may leave behind.
const LEFT_BEHIND: u64 = 16 << 20;

/// A thousand panics while batches flow, with the intensity limit raised.
async fn a_storm(db: Db, seed: u64) {
    let place = Place::new(db);
    let mut stage = Stage::new();
    let limits = "[watchdog]\nrestart_limit = 100000\n\
        restart_backoff = { min = \"10ms\", max = \"20ms\" }\n";
    let server = Server::start(&place, &format!("{limits}{}", stage.sections()));
    let names = services(&server);
    // The generation of each service that was told to panic last.
    let mut told = vec![0; names.len()];
    let (mut sent, mut draws, mut early) = (0, 0, None);
    while sent < STORM {
        draws += 1;
        let victim = mixed(seed + draws) as usize % names.len();
        let status = server.service(&names[victim]);
        if status.state != ServiceState::Running || status.generation == told[victim] {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        if sent % 50 == 0 {
            stage.feed(&server, 100, 10).await;
        }
        if sent == STORM / 10 {
            early = Some(resident());
        }
        told[victim] = status.generation;
        server.panic(&names[victim], "storm");
        sent += 1;
    }
    let panics = || -> Vec<u64> {
        let status = server.query.list().into_iter();
        status
            .map(|service| service.restarts.get("panic").copied().unwrap_or(0))
            .collect()
    };
    until("every panic is counted", PATIENCE, async || {
        match panics().iter().sum::<u64>() {
            STORM => Ok(()),
            count => Err(format!("{count}")),
        }
    })
    .await;
    // Before the test reads all rows into memory of its own.
    let late = resident();
    // Every service had its share, the Supervisor included.
    assert!(
        panics().iter().all(|count| *count > STORM / 20),
        "{:?}",
        panics()
    );
    stage.feed(&server, 100, 10).await;
    stage.assert_all_true(&server).await;
    for service in names {
        is_running(&server, &service).await;
    }
    let (ready, body) = server.get("/readyz").await;
    assert_eq!(ready, 200, "{body}");
    // Work done again is the exception: less than once a batch.
    let most = (stage.tracked.0 + stage.tracked.1) as u64;
    let again = stage.asked_after_final();
    assert!(
        again <= most,
        "{again} asked after final, of {most} batches"
    );
    let early = early.unwrap();
    println!(
        "resident: {} MB after a tenth of the panics, {} MB after all; batches {:?}, asked after final {}",
        early >> 20,
        late >> 20,
        stage.tracked,
        stage.asked_after_final()
    );
    assert!(
        late < early + LEFT_BEHIND,
        "resident memory grew from {early} to {late}"
    );
    server.stop();
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes * 1024
}

/// The storm itself; other tests beside it would show in its memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the tests below, in a process of its own"]
async fn storm_in_a_process_of_its_own() {
    match std::env::var(STORM_DB).as_deref() {
        Ok("sqlite") => a_storm(Db::Sqlite, 7).await,
        Ok("postgres") => a_storm(Db::Postgres, 11).await,
        other => panic!("{STORM_DB} is {other:?}"),
    }
}

fn storm_over(database: &str) {
    let exact = "life_panics::storm_in_a_process_of_its_own";
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", exact, "--ignored", "--nocapture"])
        .env(STORM_DB, database)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    println!("{told}");
    assert!(
        run.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&run.stderr)
    );
    assert!(told.contains("1 passed"), "{told}");
}

#[test]
fn a_storm_of_panics_is_survived_on_sqlite() {
    storm_over("sqlite");
}

#[test]
fn a_storm_of_panics_is_survived_on_postgres() {
    storm_over("postgres");
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
                server.panic(service, "again and again");
            }
        }
        // The one of which the server says that it tries again for ever.
        let logging = server.service("logging");
        assert_ne!(logging.state, ServiceState::Failed);
        if logging
            .restarts
            .get("panic")
            .is_none_or(|count| *count < 12)
        {
            all = false;
            server.panic("logging", "again and again");
        }
        if all {
            Ok(())
        } else {
            Err(format!("{:?}", server.query.list()))
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
    server.query.start("updater").unwrap();
    stage.assert_all_true(&server).await;
    assert_eq!(server.get("/readyz").await.0, 200);
    server.stop();
}
