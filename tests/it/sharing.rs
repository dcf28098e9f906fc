//! Two servers on one PostgreSQL: the ledgers are shared out, taken over from
//! a server that dies, stands still or leaves, and a server that wakes up
//! again writes nothing with what it held before.

use crate::support::{
    Database, Installation, PATIENCE, ServerProcess, batch_id, eventually, service_id, tracking,
};
use highwater::ledgers::LedgerKind;
use highwater::sim::{Behaviour, LedgerSim, SimHandle, SimOptions, Span};
use std::time::{Duration, Instant};

const LEDGERS: usize = 10;
/// Batches of each ledger in a round, spread over its services.
const A_ROUND: usize = 200;
const SERVICES: usize = 5;
/// What a busy machine may add to the lease before its heir has noticed.
const SLACK: Duration = Duration::from_secs(3);

/// Notes who writes a batch, and whose its ledger is at that moment.
const WITNESS: &str = "
    CREATE TABLE writes (writer TEXT, holder TEXT, ledger TEXT, batch_id TEXT, status TEXT);
    CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO writes VALUES (
            current_setting('application_name'),
            (SELECT holder FROM leases WHERE name = 'batches:' || NEW.ledger),
            NEW.ledger, NEW.batch_id, NEW.status);
        RETURN NULL;
    END $$;
    CREATE TRIGGER note_write AFTER UPDATE ON batches FOR EACH ROW EXECUTE FUNCTION note_write();";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_servers_ledgers_are_taken_over_within_the_lease() {
    let lease = Duration::from_secs(2);
    let stage = Stage::new(lease, Duration::ZERO);
    let first = stage.places[0].serve().await;
    stage.witness().await;
    stage.holds(&first, LEDGERS).await;
    let second = stage.places[1].serve().await;
    stage.are_even(&first, &second).await;

    first.track(&round(0)).await;
    stage.all_settle(1).await;
    for server in ["first", "second"] {
        let written = stage.written_by(server).await;
        assert!(written >= A_ROUND, "the {server} wrote {written}");
    }

    second.track(&round(1)).await;
    let pid = first.pid();
    first.kill9();
    let killed = Instant::now();
    stage.holds(&second, LEDGERS).await;
    let took = killed.elapsed();
    println!("ledgers of a killed server taken over after {took:.1?} (lease {lease:?})");
    assert!(took <= lease + SLACK, "{took:?}");
    stage.all_settle(2).await;
    stage
        .no_stranger_wrote(&[("first", pid), ("second", second.pid())])
        .await;

    // A third in the place of the first gets its share.
    let third = stage.places[0].serve().await;
    stage.are_even(&third, &second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stood_still_writes_nothing_with_what_it_held() {
    let lease = Duration::from_secs(2);
    // Undecided until after the sleeper has woken: what it writes would show.
    let stage = Stage::new(lease, Duration::from_secs(10));
    let first = stage.places[0].serve().await;
    stage.witness().await;
    stage.holds(&first, LEDGERS).await;
    let second = stage.places[1].serve().await;
    stage.are_even(&first, &second).await;
    let lost = first.held().await;

    stage.sim.set_behaviour(&Behaviour {
        latency: Duration::from_secs(1),
        ..Behaviour::default()
    });
    second.track(&round(0)).await;
    let asked: usize = lost.len() * SERVICES;
    eventually(PATIENCE, "both servers have asked", async || {
        stage.sim.stats().in_flight >= 2 * asked
    })
    .await;
    first.stop_signal();
    let stopped = Instant::now();
    stage.holds(&second, LEDGERS).await;
    let took = stopped.elapsed();
    println!("ledgers of a stopped server taken over after {took:.1?} (lease {lease:?})");
    assert!(took <= lease + SLACK, "{took:?}");
    eventually(PATIENCE, "the heir has asked for all of them", async || {
        stage.database.count("polls = 0").await == 0
    })
    .await;
    assert_eq!(
        stage.database.count("settled_at IS NOT NULL").await,
        0,
        "all are undecided"
    );

    first.cont();
    eventually(
        PATIENCE,
        "the sleeper was told that its work is void",
        async || fenced(&first, &lost).await > 0,
    )
    .await;
    stage.are_even(&first, &second).await;
    stage.sim.set_behaviour(&Behaviour::default());
    stage.all_settle(1).await;
    stage
        .no_stranger_wrote(&[("first", first.pid()), ("second", second.pid())])
        .await;
    first.terminate().await;
    second.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_leaves_gives_its_ledgers_back() {
    let lease = Duration::from_secs(12);
    let stage = Stage::new(lease, Duration::ZERO);
    let first = stage.places[0].serve().await;
    stage.witness().await;
    let second = stage.places[1].serve().await;
    stage.are_even(&first, &second).await;
    first.track(&round(0)).await;
    let pid = first.pid();
    first.terminate().await;
    let left = Instant::now();
    stage.holds(&second, LEDGERS).await;
    let took = left.elapsed();
    println!("ledgers of a server that left taken over after {took:.1?} (lease {lease:?})");
    assert!(took < lease / 2, "{took:?}: they were left to expire");
    stage.all_settle(1).await;
    stage
        .no_stranger_wrote(&[("first", pid), ("second", second.pid())])
        .await;
    let stats = stage.sim.stats();
    assert_eq!(stats.asked_after_final, 0, "the drain let answers fall");
    second.terminate().await;
}

/// A PostgreSQL, ten ledgers, and two places to start servers from.
struct Stage {
    database: Database,
    sim: SimHandle,
    places: [Installation; 2],
}

impl Stage {
    fn new(lease: Duration, commit_after: Duration) -> Self {
        let sim = LedgerSim::start(SimOptions {
            auto_submit: true,
            remember: Some(0),
            commit_after: Span::from(commit_after),
            ..SimOptions::of(LedgerKind::Splinter)
        })
        .unwrap();
        let mut sections = format!(
            "[server]\nlease = \"{}s\"\n\n[batches]\npoll_interval = \"200ms\"\n\
             repoll = {{ min = \"300ms\", max = \"300ms\" }}\n",
            lease.as_secs()
        );
        for n in 0..LEDGERS {
            sections.push_str(&format!(
                "\n[[ledgers]]\nname = \"{}\"\nkind = \"splinter\"\nurl = \"{}\"\n",
                ledger(n),
                sim.url()
            ));
        }
        let database = Database::postgres();
        let places = ["first", "second"].map(|name| Installation::new(&database, name, &sections));
        Self {
            database,
            sim,
            places,
        }
    }

    async fn witness(&self) {
        self.database.run(WITNESS).await.unwrap();
    }

    /// Waits until a server holds so many ledgers, and says so itself.
    async fn holds(&self, server: &ServerProcess, count: usize) {
        eventually(
            PATIENCE,
            "a server holds its share of the ledgers",
            async || {
                let leases = self.database.leases().await;
                leases
                    .iter()
                    .filter(|(_, holder)| server.is_holder(holder))
                    .count()
                    == count
            },
        )
        .await;
        eventually(PATIENCE, "the server says what it holds", async || {
            server.held().await.len() == count
        })
        .await;
    }

    async fn are_even(&self, one: &ServerProcess, other: &ServerProcess) {
        self.holds(one, LEDGERS / 2).await;
        self.holds(other, LEDGERS / 2).await;
    }

    async fn all_settle(&self, rounds: usize) {
        let wanted = i64::try_from(rounds * A_ROUND * LEDGERS).unwrap();
        eventually(PATIENCE, "all batches settle", async || {
            self.database.count("status = 'committed'").await == wanted
        })
        .await;
    }

    /// How many batches a server has written to.
    async fn written_by(&self, server: &str) -> usize {
        let sql = format!(
            "SELECT count(DISTINCT batch_id) AS value FROM writes WHERE writer = '{}'",
            self.database.session_name(server)
        );
        usize::try_from(self.database.number(&sql).await).unwrap()
    }

    /// Each write was made by the process that held the ledger at that moment.
    async fn no_stranger_wrote(&self, servers: &[(&str, u32)]) {
        for (server, pid) in servers {
            let name = self.database.session_name(server);
            let sql = format!(
                "SELECT DISTINCT COALESCE(holder, '') || ' ' || ledger AS value FROM writes \
                 WHERE writer = '{name}' AND position('-{pid}-' IN COALESCE(holder, '')) = 0"
            );
            let strange = self.database.texts(&sql).await;
            assert!(
                strange.is_empty(),
                "{server} wrote what others held: {strange:?}"
            );
        }
    }
}

fn ledger(n: usize) -> String {
    format!("ledger-{n}")
}

/// A round of batches, of every ledger.
fn round(number: usize) -> serde_json::Value {
    let first = number * A_ROUND * LEDGERS;
    tracking((0..A_ROUND * LEDGERS).map(|n| {
        let of = n % LEDGERS;
        let service = service_id(of * SERVICES + n / LEDGERS % SERVICES);
        (ledger(of), service, batch_id(first + n))
    }))
}

/// Pieces of work of these ledgers that a server was not let write.
async fn fenced(server: &ServerProcess, ledgers: &[String]) -> u64 {
    let list = server.get("/v1/ledgers").await;
    let items = list["items"].as_array().unwrap();
    let of_these = items
        .iter()
        .filter(|item| ledgers.iter().any(|name| item["name"] == **name));
    of_these
        .filter_map(|item| item["view"]["totals"]["fenced"].as_u64())
        .sum()
}
