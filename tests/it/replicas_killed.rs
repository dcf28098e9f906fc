//! `kill -9` of publisher and follower at random moments of bootstrap and
//! following, while modifications go on: at the end the copy equals, and no chunk
//! that was committed is fetched again.

use crate::replicas_support::{
    Node, another, becomes, becomes_equal, bootstraps, client, numbered, publish,
};
use crate::support::{Database, PATIENCE, eventually, on_both_databases};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often each side is killed, half of it during the bootstrap.
const KILLS: usize = 10;
/// Entries at the beginning.
const ENTRIES: usize = 10_000;
/// Entries of a chunk.
const CHUNK: usize = 20;
/// How long a request is on its way, so that kills meet the bootstrap.
const LATENCY: Duration = Duration::from_millis(10);

on_both_databases!(kills_of_either_side_lose_nothing_and_fetch_no_chunk_again);

/// Passes on what a follower asks, and keeps the lines of its requests.
struct Proxy {
    url: String,
    lines: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    async fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = lines.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (to, lines) = (to.clone(), kept.clone());
                tokio::spawn(async move { drop(pass(client, to, lines).await) });
            }
        });
        Self { url, lines, task }
    }

    fn count(&self) -> usize {
        self.lines.lock().unwrap().len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes one connection on, until either side ends it.
async fn pass(
    client: TcpStream,
    to: String,
    lines: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let server = TcpStream::connect(to).await?;
    let (mut asked, mut answering) = client.into_split();
    let (mut answered, mut asking) = server.into_split();
    let up = async {
        let (mut buffer, mut head) = (vec![0; 16 * 1024], String::new());
        loop {
            let count = asked.read(&mut buffer).await?;
            if count == 0 {
                return std::io::Result::Ok(());
            }
            head.push_str(&String::from_utf8_lossy(&buffer[..count]));
            while let Some((request, rest)) = head.split_once("\r\n\r\n") {
                let line = request.lines().next().unwrap_or_default().to_owned();
                lines.lock().unwrap().push(line);
                head = rest.to_owned();
            }
            tokio::time::sleep(LATENCY).await;
            asking.write_all(&buffer[..count]).await?;
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = tokio::io::copy(&mut answered, &mut answering) => ended.map(drop),
    }
}

/// What a request for a chunk asks: begin of its range, and behind which key.
fn chunk_of(line: &str) -> Option<(String, String)> {
    let path = line.strip_prefix("GET ")?.split(' ').next()?;
    let url = reqwest::Url::parse(&format!("http://host{path}")).ok()?;
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let limit: usize = query.get("limit")?.parse().ok()?;
    let text = |key: &str| query.get(key).cloned().unwrap_or_default();
    (url.path().ends_with("/fetch") && limit > 0).then(|| (text("from"), text("after")))
}

/// What was committed of a range when a follower was killed.
struct Range {
    after: String,
    cursor: String,
    done: bool,
}

/// The ranges of a bootstrap under way.
async fn committed(database: &Database) -> Vec<Range> {
    let sql = "SELECT \"after\" || '|' || cursor || '|' || CASE WHEN done THEN 'done' ELSE '' END \
               AS value FROM replica_ranges ORDER BY \"range\"";
    let rows = database.texts(sql).await;
    let ranges = rows.iter().map(|row| {
        let parts: Vec<&str> = row.split('|').collect();
        Range {
            after: parts[0].to_owned(),
            cursor: parts[1].to_owned(),
            done: parts[2] == "done",
        }
    });
    ranges.collect()
}

/// No chunk is asked for that was committed when a follower was killed.
fn check_again(lines: &[String], ranges: &[Range]) {
    for (after, cursor) in lines.iter().filter_map(|line| chunk_of(line)) {
        let range = ranges.iter().find(|range| range.after == after);
        let range = range.unwrap_or_else(|| panic!("a chunk of a range behind {after:?}"));
        assert!(
            !range.done && cursor >= range.cursor,
            "asked behind {cursor:?}, where {:?} was committed (done: {})",
            range.cursor,
            range.done
        );
    }
}

/// Publishes modifications, each exactly once, until told to end; answers what
/// the dataset holds then.
async fn keep_publishing(
    url: String,
    seed: u64,
    mut entries: BTreeMap<String, Value>,
    end: watch::Receiver<bool>,
) -> BTreeMap<String, Value> {
    let mut random = SmallRng::seed_from_u64(seed);
    let client = client();
    let mut number = 0;
    while !*end.borrow() {
        number += 1;
        let mut modifications = Vec::new();
        for _ in 0..random.random_range(1..=5) {
            let key = format!("k{:05}", random.random_range(0..ENTRIES + 2000));
            if random.random_ratio(1, 3) {
                entries.remove(&key);
                modifications.push(json!({ "delete": key }));
            } else {
                entries.insert(key.clone(), json!(number));
                modifications.push(json!({ "update": [key, number] }));
            }
        }
        let begun = Instant::now();
        loop {
            let call = client
                .post(format!("{url}/v1/datasets/prices/entries"))
                .header("Idempotency-Key", format!("{seed}-{number}"))
                .json(&modifications);
            match call.send().await {
                Ok(answer) if answer.status().is_success() => break,
                Ok(answer) if !answer.status().is_server_error() => {
                    panic!("{}", answer.status());
                }
                _ => assert!(begun.elapsed() < PATIENCE, "nothing was published"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    entries
}

async fn kills_of_either_side_lose_nothing_and_fetch_no_chunk_again(database: &Database) {
    let seed: u64 = rand::random();
    println!("seed {seed:#018x}");
    let mut random = SmallRng::seed_from_u64(seed);
    let of_follower = another(database);
    let publisher = Node::new(database, "publisher", "[[datasets]]\nname = \"prices\"\n");
    let proxy = Proxy::start(publisher.address()).await;
    let replica = format!(
        "[[replicas]]\nname = \"prices\"\nupstream = \"{}\"\nchunk = {CHUNK}\n",
        proxy.url
    );
    let follower = Node::new(&of_follower, "follower", &replica);
    let mut publishing = publisher.serve().await;
    let mut entries = BTreeMap::new();
    for begin in (0..ENTRIES).step_by(2500) {
        let part = numbered(begin..begin + 2500, "first");
        for one in &part {
            let pair = &one["update"];
            entries.insert(pair[0].as_str().unwrap().to_owned(), pair[1].clone());
        }
        publish(&publishing, "prices", part).await;
    }
    let (end, ended) = watch::channel(false);
    let modifying = keep_publishing(publisher.url(), seed, entries, ended);
    let modifying = tokio::spawn(modifying);

    let begun = Instant::now();
    let mut following = follower.serve().await;
    let (mut during_bootstrap, mut kept) = (0, Vec::new());
    for kill in 0..2 * KILLS {
        if kill == KILLS {
            becomes(&following, "prices", "live").await;
        }
        let goal = proxy.count() + random.random_range(4..30);
        let soon = Duration::from_millis(random.random_range(0..30));
        eventually(PATIENCE, "the follower asks", async || {
            proxy.count() >= goal
        })
        .await;
        tokio::time::sleep(soon).await;
        println!(
            "kill {kill} at {:.1?} requests {}",
            begun.elapsed(),
            proxy.count()
        );
        if kill % 2 == 0 {
            following.kill9();
            of_follower.sessions_are_gone("follower").await;
            let ranges = committed(&of_follower).await;
            during_bootstrap += usize::from(!ranges.is_empty());
            kept.push((proxy.count(), ranges));
            following = follower.serve().await;
        } else {
            publishing.kill9();
            database.sessions_are_gone("publisher").await;
            publishing = publisher.serve().await;
        }
    }
    end.send_replace(true);
    let expected = modifying.await.unwrap();
    let there = (&publishing, "datasets/prices");
    let copied = becomes_equal(there, (&following, "replicas/prices")).await;
    assert!(
        copied == expected,
        "what was published is not what is there"
    );
    // From each kill on, to the end.
    let lines = proxy.lines.lock().unwrap().clone();
    for (from, ranges) in &kept {
        check_again(&lines[*from..], ranges);
    }
    let counted = bootstraps(&of_follower, "prices").await;
    assert_eq!(counted, json!({ "initial": 1 }));
    println!(
        "    {KILLS} kills of each side, {during_bootstrap} of the follower during the bootstrap, \
         {} requests, {} entries; {:.1?} in all",
        proxy.count(),
        expected.len(),
        begun.elapsed()
    );
    assert!(during_bootstrap >= 2, "kills met the bootstrap");
    following.terminate().await;
    publishing.terminate().await;
}
