//! Two servers on one PostgreSQL: each subscription is run by one of them; when
//! that one dies or stands still the other goes on, in order, and a server that
//! wakes up again writes nothing with what it held.

use crate::events_support::{
    ALL, Calls, Place, SOON, all_done, calls, check_calls, ids, make_known, relevant, taken_over,
};
use crate::support::{Database, PATIENCE, ServerProcess, eventually};
use highwater::sim::{
    Blocks, ConsumerHandle, ConsumerOptions, ConsumerSim, GatewayHandle, GatewayKnobs,
    GatewayOptions, GatewaySim,
};
use std::time::{Duration, Instant};

const LEASE: Duration = Duration::from_secs(2);
/// What a busy machine may add to the lease before its heir has noticed.
const SLACK: Duration = Duration::from_secs(3);
/// All blocks there will be.
const BLOCKS: i64 = 400;

/// Notes who writes what became of an event, and whose its subscription is then.
const WITNESS: &str = "
    CREATE TABLE writes (writer TEXT, holder TEXT, subscription TEXT);
    CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO writes VALUES (
            current_setting('application_name'),
            (SELECT holder FROM leases WHERE name = 'events:' || NEW.subscription),
            NEW.subscription);
        RETURN NULL;
    END $$;
    CREATE TRIGGER note_write AFTER UPDATE ON events FOR EACH ROW EXECUTE FUNCTION note_write();";

/// A gateway, two consumers and two places to start servers from.
struct Stage {
    database: Database,
    gateway: GatewayHandle,
    claims: ConsumerHandle,
    audits: ConsumerHandle,
    places: [Place; 2],
}

impl Stage {
    fn new() -> Self {
        let database = Database::postgres();
        let gateway = GatewaySim::start(GatewayOptions {
            relevant: 0.6,
            events: Blocks { from: 1, to: 5 },
            knobs: GatewayKnobs {
                duplicates: 0.05,
                reorder: 0.2,
                call_timeout: Duration::from_secs(1),
                ..GatewayKnobs::default()
            },
            ..GatewayOptions::resting(0)
        })
        .unwrap();
        let start = || {
            let consumer = ConsumerSim::start(ConsumerOptions::default()).unwrap();
            // So that a handler is at work nearly always.
            consumer.set(|knobs| knobs.latency = Duration::from_millis(10));
            consumer
        };
        let (claims, audits) = (start(), start());
        let both = [("claims", &claims, SOON), ("audits", &audits, ALL)];
        let places =
            ["first", "second"].map(|name| Place::named(name, LEASE, &database, &gateway, &both));
        Self {
            database,
            gateway,
            claims,
            audits,
            places,
        }
    }

    /// Two servers with a subscription each, which have processed so many blocks;
    /// and the first one's, whose handler is at work.
    async fn two_servers(&self, blocks: u32) -> (ServerProcess, ServerProcess, &'static str) {
        let first = self.places[0].serve().await;
        let second = self.places[1].serve().await;
        self.are_even(&first, &second).await;
        self.database.run(WITNESS).await.unwrap();
        make_known(&first, &self.gateway, BLOCKS).await;
        self.gateway.grow(blocks);
        self.all_done().await;
        let claims = self.runs(&first, "claims").await;
        let of_first = if claims { "claims" } else { "audits" };
        self.is_at_work(of_first).await;
        (first, second, of_first)
    }

    /// Waits until each server runs one subscription.
    async fn are_even(&self, one: &ServerProcess, other: &ServerProcess) {
        eventually(PATIENCE, "each server has a subscription", async || {
            let held = self.held().await;
            let of = |server: &ServerProcess| {
                let all = held.iter();
                all.filter(|(_, holder)| server.is_holder(holder)).count()
            };
            of(one) == 1 && of(other) == 1
        })
        .await;
    }

    /// Subscriptions and who holds them.
    async fn held(&self) -> Vec<(String, String)> {
        let rows = self.database.texts(
            "SELECT name || ' ' || holder AS value FROM leases WHERE name LIKE 'events:%' \
             AND holder <> '' AND expires_at > clock_timestamp() AT TIME ZONE 'utc' ORDER BY name",
        );
        let split = |row: &String| {
            let (name, holder) = row.split_once(' ').unwrap();
            (name.replace("events:", ""), holder.to_owned())
        };
        rows.await.iter().map(split).collect()
    }

    async fn runs(&self, server: &ServerProcess, subscription: &str) -> bool {
        let held = self.held().await;
        held.iter()
            .any(|(name, holder)| name == subscription && server.is_holder(holder))
    }

    async fn takes_over(&self, server: &ServerProcess, subscription: &str) -> Duration {
        let begun = Instant::now();
        eventually(PATIENCE, "the other takes over", async || {
            self.runs(server, subscription).await
        })
        .await;
        begun.elapsed()
    }

    fn consumer(&self, subscription: &str) -> &ConsumerHandle {
        if subscription == "claims" {
            &self.claims
        } else {
            &self.audits
        }
    }

    /// Grows the chain, and waits until a subscription is in the middle of it.
    async fn is_at_work(&self, subscription: &str) {
        let consumer = self.consumer(subscription);
        let goal = consumer.stats().calls + 20;
        self.gateway.grow(60);
        eventually(PATIENCE, "its handler is at work", async || {
            consumer.stats().calls >= goal
        })
        .await;
    }

    async fn all_done(&self) {
        let events = self.gateway.events(0..=self.gateway.blocks() - 1);
        all_done(&self.database, "claims", events.len()).await;
        all_done(&self.database, "audits", events.len()).await;
    }

    /// Everything was handed over in order, as often as it may be.
    fn check(&self, logs: &[String]) {
        let events = self.gateway.events(0..=self.gateway.blocks() - 1);
        for (name, expected) in [("claims", relevant(&events)), ("audits", events.clone())] {
            let all = calls(self.consumer(name));
            let takeovers: usize = logs.iter().map(|log| taken_over(log, name)).sum();
            let runs = by_runs(self.consumer(name));
            // On a busy machine a server may lose its lease and regain it.
            let regained = takeovers.saturating_sub(runs.len());
            let again = check_calls(&runs, &ids(name, &expected), regained);
            println!(
                "    {name}: {} handed over by {} starts, {again} of them again, {takeovers} takeovers",
                expected.len(),
                all.len()
            );
            assert!(runs.len() <= takeovers, "two ran {name} at once: {runs:?}");
        }
    }

    /// Each write was made by the process that held the subscription then.
    async fn no_stranger_wrote(&self, server: &str, pid: u32) {
        let name = self.database.session_name(server);
        let strange = format!(
            "SELECT DISTINCT COALESCE(holder, '') || ' ' || subscription AS value FROM writes \
             WHERE writer = '{name}' AND position('-{pid}-' IN COALESCE(holder, '')) = 0"
        );
        let strange = self.database.texts(&strange).await;
        assert!(
            strange.is_empty(),
            "{server} wrote what others held: {strange:?}"
        );
    }
}

/// What a consumer was called with, cut where the caller changes.
fn by_runs(consumer: &ConsumerHandle) -> Vec<Calls> {
    let mut runs: Vec<Calls> = Vec::new();
    for call in consumer.received() {
        match runs.last_mut().filter(|run| run.by == call.path) {
            Some(run) => run.ids.push(call.id),
            None => runs.push(Calls {
                by: call.path,
                ids: vec![call.id],
            }),
        }
    }
    runs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_one_of_two_servers_is_killed_the_other_goes_on_with_its_events() {
    let stage = Stage::new();
    let (first, second, of_first) = stage.two_servers(60).await;
    let pid = first.pid();
    let log = first.kill9();
    let took = stage.takes_over(&second, of_first).await;
    println!("    {of_first} of a killed server taken over after {took:.1?} (lease {LEASE:?})");
    assert!(took <= LEASE + SLACK, "{took:?}");
    stage.all_done().await;

    // One in the place of the first gets its share again.
    let third = stage.places[0].serve().await;
    stage.are_even(&third, &second).await;
    stage.gateway.grow(60);
    stage.all_done().await;
    stage.check(&[log, second.log(), third.log()]);
    stage.no_stranger_wrote("second", second.pid()).await;
    let writer = stage.database.session_name("first");
    let strange = format!(
        "SELECT count(*) AS value FROM writes WHERE writer = '{writer}' \
         AND position('-{pid}-' IN COALESCE(holder, '')) = 0 \
         AND position('-{}-' IN COALESCE(holder, '')) = 0",
        third.pid()
    );
    assert_eq!(stage.database.number(&strange).await, 0);
    third.terminate().await;
    second.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stood_still_writes_nothing_of_events_that_another_runs() {
    let stage = Stage::new();
    let (first, second, of_first) = stage.two_servers(20).await;
    first.stop_signal();
    let took = stage.takes_over(&second, of_first).await;
    println!("    {of_first} of a stopped server taken over after {took:.1?} (lease {LEASE:?})");
    assert!(took <= LEASE + SLACK, "{took:?}");
    let consumer = stage.consumer(of_first);
    let goal = consumer.stats().calls + 20;
    eventually(PATIENCE, "the heir is at work", async || {
        consumer.stats().calls >= goal
    })
    .await;
    let runs = taken_over(&first.log(), of_first);
    first.cont();
    eventually(PATIENCE, "the sleeper lets go of it", async || {
        first
            .log()
            .contains("a subscription is not run here any more")
            || taken_over(&first.log(), of_first) > runs
    })
    .await;
    stage.are_even(&first, &second).await;
    stage.gateway.grow(20);
    stage.all_done().await;
    stage.check(&[first.log(), second.log()]);
    stage.no_stranger_wrote("first", first.pid()).await;
    stage.no_stranger_wrote("second", second.pid()).await;
    first.terminate().await;
    second.terminate().await;
}
