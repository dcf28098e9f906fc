//! Load benchmark of the replica flow: 1,000,000 entries are bootstrapped while
//! 1,000 modifications a second go on, on SQLite and on PostgreSQL, beside the
//! database's own bulk tool copying the same rows in the same run.
//!
//! Publisher and follower are processes of the real binary, with a database each
//! (on PostgreSQL a schema each), and speak over a wire that counts bytes. The
//! modifications begin before the bootstrap and go on until the copy is live;
//! then the publisher rests, and the copy has to be the same, entry by entry.
//!
//! The same is done with 100,000 entries first: peak memory should not depend on
//! how many there are.
//!
//! PostgreSQL is measured where `HIGHWATER_TEST_POSTGRES_URL` names a server
//! (`./scripts/bench` starts one); its bulk tool needs `psql`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs
)]

#[expect(dead_code, reason = "this benchmark has no server of its own process")]
mod frame;
mod replicas_bare;
mod replicas_sides;
mod replicas_wire;
#[expect(dead_code, reason = "no bare statements are measured here")]
mod session;

use frame::{Place, ROUNDS};
use replicas_sides::{Memory, Side};
use replicas_wire::Wire;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Entries, in rounds of the warm-up and in those that count.
const FEW: u64 = 100_000;
const MANY: u64 = 1_000_000;
/// Entries that a call of the beginning publishes.
const LIST: u64 = 5_000;
/// Calls a second while the copy is made, and modifications of each.
const CALLS: u32 = 20;
const MODIFICATIONS: u64 = 50;
/// How long they go on before the bootstrap begins.
const BEFORE: Duration = Duration::from_secs(2);
/// Rounds that take longer are not repeated.
const LONG_ROUND: Duration = Duration::from_secs(60);
const PUBLISHER: &str = "bench_publisher";
const FOLLOWER: &str = "bench_follower";
const BULK: &str = "bench_bulk";
const DATASET: &str = "[[datasets]]\nname = \"prices\"\n";
/// What the follower has before it is told of the replica: a server needs
/// something to do.
const OTHER: &str = "[[datasets]]\nname = \"other\"\n";

fn main() {
    let header = [
        "database",
        "entries",
        "bulk tool (s)",
        "bootstrap (s)",
        "times the bulk tool",
        "entries/s",
        "modifications/s",
        "wire (MB)",
        "keys and values (MB)",
        "publisher: idle, peak (MB)",
        "follower: idle, peak (MB)",
        "level after (s)",
    ];
    let mut table = comfy_table::Table::new();
    table.set_header(header);
    frame::on_databases(PUBLISHER, |runtime, label, place| {
        for entries in [FEW, MANY] {
            let mut rounds = Vec::new();
            let begun = Instant::now();
            while rounds.is_empty()
                || (rounds.len() < ROUNDS && begun.elapsed() < LONG_ROUND * rounds.len() as u32)
            {
                let places = Places {
                    publisher: place("publisher"),
                    follower: place("follower").in_schema(FOLLOWER),
                    bulk: place("bulk").in_schema(BULK),
                };
                let round = run_once(runtime, &places, entries);
                let cells = round.cells();
                let told = header[1..].iter().zip(&cells);
                let told: Vec<String> = told.map(|(what, cell)| format!("{what} {cell}")).collect();
                eprintln!("{label}: {}; {}", told.join(", "), round.processors);
                rounds.push(round);
                places.clear(runtime);
            }
            rounds.sort_by_key(|round| round.bootstrap);
            let cells = rounds[rounds.len() / 2].cells();
            table.add_row([label.to_owned()].into_iter().chain(cells));
        }
    });
    println!(
        "{MODIFICATIONS} modifications a call, {CALLS} calls a second; the median of {ROUNDS} rounds, of one that takes more than {} s alone",
        LONG_ROUND.as_secs()
    );
    println!("{table}");
}

/// Databases of a round.
struct Places {
    publisher: Place,
    follower: Place,
    bulk: Place,
}

impl Places {
    fn clear(&self, runtime: &Runtime) {
        for place in [&self.publisher, &self.follower, &self.bulk] {
            place.clear(runtime);
        }
    }
}

/// What one round measured.
struct Round {
    entries: u64,
    bulk: Duration,
    /// From the moment the follower is told of the replica until it is live.
    bootstrap: Duration,
    /// Modifications published meanwhile.
    modifications: u64,
    /// Bytes that came from the publisher, and bytes of all keys and values.
    wire: u64,
    raw: i64,
    publisher: (Memory, Memory),
    follower: (Memory, Memory),
    /// After the publisher came to rest, the copy is at its head.
    level: Duration,
    processors: String,
}

impl Round {
    fn cells(&self) -> Vec<String> {
        let (bulk, bootstrap) = (self.bulk.as_secs_f64(), self.bootstrap.as_secs_f64());
        let memory =
            |(idle, after): (Memory, Memory)| format!("{:.0}, {:.0}", idle.now, after.peak);
        vec![
            self.entries.to_string(),
            format!("{bulk:.1}"),
            format!("{bootstrap:.1}"),
            format!("{:.1}", bootstrap / bulk),
            format!("{:.0}", self.entries as f64 / bootstrap),
            format!("{:.0}", self.modifications as f64 / bootstrap),
            format!("{:.1}", self.wire as f64 / 1e6),
            format!("{:.1}", self.raw as f64 / 1e6),
            memory(self.publisher),
            memory(self.follower),
            format!("{:.2}", self.level.as_secs_f64()),
        ]
    }
}

fn run_once(runtime: &Runtime, places: &Places, entries: u64) -> Round {
    places.clear(runtime);
    // What fills it is another process: its memory would be counted too.
    let publisher = Side::start(runtime, "publisher", &places.publisher, DATASET);
    runtime.block_on(fill(&publisher, entries));
    publisher.stop();
    let bulk = replicas_bare::bulk(runtime, &places.publisher, &places.bulk);

    let publisher = Side::start(runtime, "publisher", &places.publisher, DATASET);
    let wire = Wire::to(runtime, publisher.address());
    let follower = Side::start(runtime, "follower", &places.follower, OTHER);
    // Until what begins with a server is done.
    std::thread::sleep(Duration::from_secs(1));
    let idle = (publisher.memory(), follower.memory());
    let writing = Writing::begin(runtime, &publisher, entries);
    std::thread::sleep(BEFORE);
    let processor = (publisher.processor(), follower.processor());
    let before = runtime.block_on(writing.head());
    let begun = Instant::now();
    let replica = format!(
        "{OTHER}[[replicas]]\nname = \"prices\"\nupstream = \"{}\"\n",
        wire.url()
    );
    follower.reload(&places.follower, &replica);
    let bootstrap = runtime.block_on(frame::until(begun, "the copy is live", async || {
        let head = follower.head("replicas/prices").await;
        head.is_some_and(|(_, state)| state == "live")
    }));
    let (_, answered) = wire.bytes();
    let modifications = (runtime.block_on(writing.head()) - before) as u64 * MODIFICATIONS;
    let slowest = runtime.block_on(writing.end());
    let rested = Instant::now();
    let level = runtime.block_on(frame::until(rested, "the copy is level", async || {
        let ours = publisher.head("datasets/prices").await.unwrap().0;
        let theirs = follower.head("replicas/prices").await;
        theirs.is_some_and(|(head, _)| head == ours)
    }));
    let after = (publisher.memory(), follower.memory());
    let processors = format!(
        "slowest call {:.0} ms, processor time of the publisher {:.1} s, of the follower {:.1} s",
        slowest.as_secs_f64() * 1000.0,
        publisher.processor() - processor.0,
        follower.processor() - processor.1
    );
    for log in [publisher.stop(), follower.stop()] {
        eprint!("{log}");
    }
    let (_, raw) = replicas_bare::compare(runtime, &places.publisher, &places.follower);
    Round {
        entries,
        bulk,
        bootstrap,
        modifications,
        wire: answered,
        raw,
        publisher: (idle.0, after.0),
        follower: (idle.1, after.1),
        level,
        processors,
    }
}

/// A number without a pattern for each (Knuth's multiplier).
fn scrambled(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

fn key(number: u64) -> String {
    format!("instrument/{number:07}")
}

/// About a hundred bytes.
fn value(seed: u64) -> Value {
    const VENUES: [&str; 4] = ["XFRA", "XETR", "XLON", "XPAR"];
    let random = scrambled(seed);
    let bid = 1.0 + (random % 100_000) as f64 / 100_000.0;
    json!({
        "bid": bid,
        "ask": bid + (random >> 20 & 0xff) as f64 / 100_000.0,
        "venue": VENUES[(random >> 30 & 3) as usize],
        "trades": random >> 32 & 0xffff,
        "last": format!("{:016x}", scrambled(random)),
    })
}

fn update(key: String, seed: u64) -> Value {
    json!({ "update": [key, value(seed)] })
}

async fn fill(publisher: &Side, entries: u64) {
    let url = url(publisher);
    for first in (0..entries).step_by(LIST as usize) {
        let list = (first..entries.min(first + LIST)).map(|number| update(key(number), number));
        post(
            &publisher.client,
            &url,
            &Value::from(list.collect::<Vec<_>>()),
        )
        .await;
    }
}

fn url(publisher: &Side) -> String {
    format!("http://{}/v1/datasets/prices/entries", publisher.address())
}

async fn post(client: &reqwest::Client, url: &str, list: &Value) -> i64 {
    let answer = client.post(url).json(list).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    let published: Value = answer.json().await.unwrap();
    published["head"].as_i64().unwrap()
}

/// Modifications that go on, at a steady rate: a call that waits holds up none
/// of the next.
struct Writing {
    ends: Arc<AtomicBool>,
    head: tokio::sync::watch::Receiver<i64>,
    task: tokio::task::JoinHandle<Duration>,
}

impl Writing {
    fn begin(runtime: &Runtime, publisher: &Side, entries: u64) -> Self {
        let ends = Arc::<AtomicBool>::default();
        let (client, url) = (publisher.client.clone(), url(publisher));
        let (newest, head) = tokio::sync::watch::channel(0);
        let newest = Arc::new(newest);
        let ending = ends.clone();
        let task = runtime.spawn(async move {
            let begun = Instant::now();
            let mut under_way = Vec::new();
            for call in 0_u32.. {
                let due = begun + Duration::from_secs(1) * call / CALLS;
                tokio::time::sleep_until(due.into()).await;
                if ending.load(Ordering::Relaxed) {
                    break;
                }
                let list = modifications(u64::from(call), entries);
                let (client, url, newest) = (client.clone(), url.clone(), newest.clone());
                under_way.push(tokio::spawn(async move {
                    let head = post(&client, &url, &list).await;
                    newest.send_modify(|newest| *newest = head.max(*newest));
                    due.elapsed()
                }));
            }
            let mut slowest = Duration::ZERO;
            for call in under_way {
                slowest = slowest.max(call.await.unwrap());
            }
            slowest
        });
        Self { ends, head, task }
    }

    /// The newest head that was answered.
    async fn head(&self) -> i64 {
        *self.head.borrow()
    }

    /// Ends them; answers how long the slowest call took since it was due.
    async fn end(self) -> Duration {
        self.ends.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Of ten modifications six update, two insert and two delete, all over the keys.
fn modifications(call: u64, entries: u64) -> Value {
    let list = (0..MODIFICATIONS).map(|place| {
        let seed = entries + call * MODIFICATIONS + place;
        let known = key(scrambled(seed) % entries);
        match place % 10 {
            0..6 => update(known, seed),
            6 | 7 => update(format!("{known}/{call}"), seed),
            _ => json!({ "delete": known }),
        }
    });
    Value::from(list.collect::<Vec<_>>())
}
