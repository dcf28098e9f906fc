//! Load benchmark of the event flow: 96,000 events, from hook to processed, on
//! SQLite and on PostgreSQL, beside bare limits measured in the same run against
//! the same database.
//!
//! Hooks carry lists, one after the other for each subscription, and consumers
//! read the table (`handler = "table"`). The limit is made of the bare bulk
//! insert and the bare bulk update of the same rows with the same durability, one
//! after the other: `1 / (1/insert + 1/update)`. HTTP and its client, which run on
//! the same processors, are no part of it.
//!
//! Told besides: calls with one event each by many callers at once (group
//! commit), and how long such a call takes at half of that load until its event
//! is durable.
//!
//! PostgreSQL is measured where `HIGHWATER_TEST_POSTGRES_URL` names a server
//! (`./scripts/bench` starts one).

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod events_bare;
mod frame;
mod session;

use frame::{Place, ROUNDS, Round, Running, resident_mb};
use hdrhistogram::Histogram;
use highwater::config::Loaded;
use highwater::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const SUBSCRIPTIONS: usize = 8;
/// Events that a call carries, and calls for each subscription.
const LIST: usize = 500;
const LISTS: usize = 24;
const EVENTS: usize = SUBSCRIPTIONS * LISTS * LIST;
const EVENTS_OF_A_BLOCK: usize = 10;
/// Rows in a transaction of the bare statements: as many as the Updater's.
const GROUP: usize = 2_000;
/// Callers with one event each, and how many calls they make.
const CALLERS: usize = 64;
const CALLS: usize = 8_000;
/// How long half of that load is watched.
const HALF_LOAD: Duration = Duration::from_secs(2);
const SCHEMA: &str = "bench_events";
const SECRET: &str = "the-secret-of-the-bench";

fn main() {
    let header = [
        "database",
        "insert (rows/s)",
        "update (rows/s)",
        "limit (events/s)",
        "processed (events/s)",
        "share of the limit",
        "one by one (calls/s)",
        "p50 (ms)",
        "p99 (ms)",
        "resident (MB)",
    ];
    let table = frame::compare(SCHEMA, header, run_once);
    println!(
        "{EVENTS} events of {SUBSCRIPTIONS} subscriptions in lists of {LIST}; {CALLERS} callers with one event a call; the median of {ROUNDS} rounds"
    );
    println!("{table}");
}

/// An event as a gateway sends it, and what of it the table holds.
struct Event {
    subscription: String,
    block: i64,
    tx_id: String,
    key: String,
    arrival: i64,
    text: String,
}

impl Event {
    fn new(subscription: usize, number: usize) -> Self {
        let block = (number / EVENTS_OF_A_BLOCK) as i64;
        // A multiplier without a pattern (Knuth's): transaction ids are hashes.
        let scrambled =
            ((subscription * 1_000_003 + number) as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let tx_id = format!("{scrambled:016x}").repeat(4);
        let key = format!("claim-{:06}", number % 50_000);
        let text = format!(
            "{{\"channelName\":\"dhlecomchannel\",\"chaincodeName\":\"businesscontract\",\
             \"eventName\":\"CLAIM_STATUS_CHANGE\",\"blockNumber\":\"{block}\",\
             \"transactionId\":\"{tx_id}\",\"payload\":{{\"key\":\"{key}\",\
             \"status\":\"ACCEPTED\",\"previousStatus\":\"SUBMITTED\",\"amount\":\"1250.00\",\
             \"currency\":\"EUR\",\"updatedAt\":\"2026-01-31T12:00:00Z\"}}}}"
        );
        Self {
            subscription: name(subscription),
            block,
            tx_id,
            key,
            arrival: number as i64 + 1,
            text,
        }
    }
}

fn name(subscription: usize) -> String {
    format!("claims{subscription}")
}

/// A configuration with the subscriptions. Events have no ordinal, so that each
/// is hashed, which is the default.
fn load(place: &Place) -> Loaded {
    place.write("hook.secret", SECRET);
    let sections: String = (0..SUBSCRIPTIONS)
        .map(|n| {
            format!(
                "[[subscriptions]]\nname = \"{}\"\nhook_secret_file = \"hook.secret\"\n\
                 relevance = \"all\"\nfields = {{ key = \"/payload/key\" }}\n",
                name(n)
            )
        })
        .collect();
    place.load(&sections)
}

fn run_once(runtime: &Runtime, place: &Place) -> Round {
    let events: Vec<Event> = (0..LISTS * LIST)
        .flat_map(|number| (0..SUBSCRIPTIONS).map(move |of| Event::new(of, number)))
        .collect();
    place.clear(runtime);
    let (insert, update) = events_bare::rates(runtime, place, &events);
    drop(events);
    place.clear(runtime);
    let running = Running::start(load(place));
    let watching = Store::open_as_is(&place.database()).unwrap();
    let lists = processed(runtime, &running, &watching);
    let resident_mb = resident_mb();
    let calls = Calls::new(&running);
    let one_by_one = calls.rate(runtime);
    let latency = calls.latency(runtime, one_by_one / 2.0);
    watching.close();
    running.stop();
    let ms = |share: f64| latency.value_at_quantile(share) as f64 / 1000.0;
    Round {
        client: insert,
        bulk: update,
        reached: lists,
        more: vec![
            format!("{one_by_one:.0}"),
            format!("{:.1}", ms(0.5)),
            format!("{:.1}", ms(0.99)),
            resident_mb.to_string(),
        ],
    }
}

/// Events per second from the first call until all are processed. The bodies are
/// made before; each subscription's caller sends the next list when the last one
/// is answered.
fn processed(runtime: &Runtime, running: &Running, watching: &Store) -> f64 {
    let lists = |of: usize| -> Vec<bytes::Bytes> {
        let list = |at: usize| {
            let texts = (at * LIST..(at + 1) * LIST).map(|number| Event::new(of, number).text);
            format!("[{}]", texts.collect::<Vec<_>>().join(",")).into()
        };
        (0..LISTS).map(list).collect()
    };
    let all: Vec<_> = (0..SUBSCRIPTIONS).map(lists).collect();
    let client = client();
    let took = runtime.block_on(async {
        let begun = Instant::now();
        for (of, lists) in all.into_iter().enumerate() {
            let (client, url) = (client.clone(), hook(running, of));
            tokio::spawn(async move {
                for list in lists {
                    post(&client, &url, list).await;
                }
            });
        }
        // A row for each subscription: watching costs next to nothing.
        frame::until(begun, "the events are processed", async || {
            for of in 0..SUBSCRIPTIONS {
                let checkpoint = watching.checkpoint(&name(of)).await.unwrap();
                let position = checkpoint.position.map(|place| place.arrival);
                if position != Some((LISTS * LIST) as i64) {
                    return false;
                }
            }
            true
        })
        .await
    });
    EVENTS as f64 / took.as_secs_f64()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn hook(running: &Running, of: usize) -> String {
    format!("{}/v1/hooks/{}", running.url(), name(of))
}

async fn post(client: &reqwest::Client, url: &str, body: bytes::Bytes) {
    let request = client.post(url).bearer_auth(SECRET);
    let request = request
        .header("Content-Type", "application/json")
        .body(body);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

/// Calls with one event each, which go to the subscriptions in turn.
struct Calls {
    shared: Arc<(reqwest::Client, Vec<String>, AtomicUsize)>,
}

impl Calls {
    fn new(running: &Running) -> Self {
        let urls = (0..SUBSCRIPTIONS).map(|of| hook(running, of)).collect();
        let next = AtomicUsize::new(LISTS * LIST * SUBSCRIPTIONS);
        Self {
            shared: Arc::new((client(), urls, next)),
        }
    }

    /// The next event is sent; answered when it is durable.
    async fn call(shared: &(reqwest::Client, Vec<String>, AtomicUsize)) {
        let (client, urls, next) = shared;
        let number = next.fetch_add(1, Ordering::Relaxed);
        let of = number % SUBSCRIPTIONS;
        // All of one block, so that none is late.
        let text = Event::new(of, number).text.replace(
            &format!("\"blockNumber\":\"{}\"", number / EVENTS_OF_A_BLOCK),
            "\"blockNumber\":\"1000000\"",
        );
        post(client, &urls[of], text.into()).await;
    }

    /// Calls a second of many callers at once.
    fn rate(&self, runtime: &Runtime) -> f64 {
        let left = Arc::new(AtomicUsize::new(CALLS));
        let begun = Instant::now();
        runtime.block_on(async {
            let callers: Vec<_> = (0..CALLERS)
                .map(|_| {
                    let (shared, left) = (self.shared.clone(), left.clone());
                    tokio::spawn(async move {
                        while left
                            .try_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                            .is_ok()
                        {
                            Self::call(&shared).await;
                        }
                    })
                })
                .collect();
            for caller in callers {
                caller.await.unwrap();
            }
        });
        CALLS as f64 / begun.elapsed().as_secs_f64()
    }

    /// Microseconds from when a call was due until it was answered, at a steady
    /// rate: a call that waits holds up none of the next.
    fn latency(&self, runtime: &Runtime, rate: f64) -> Histogram<u64> {
        let calls = (rate * HALF_LOAD.as_secs_f64()) as usize;
        runtime.block_on(async {
            let begun = Instant::now();
            let mut under_way = Vec::with_capacity(calls);
            for number in 0..calls {
                let due = begun + Duration::from_secs_f64(number as f64 / rate);
                tokio::time::sleep_until(due.into()).await;
                let shared = self.shared.clone();
                under_way.push(tokio::spawn(async move {
                    Self::call(&shared).await;
                    due.elapsed()
                }));
            }
            let mut latency = Histogram::new(3).unwrap();
            for call in under_way {
                let took = call.await.unwrap();
                latency.record(took.as_micros() as u64).unwrap();
            }
            latency
        })
    }
}
