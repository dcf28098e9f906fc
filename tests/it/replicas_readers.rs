//! Whoever reads a replica's view, beside bootstraps, their switches and diffs,
//! sees at each head what the publisher had at that head: never half of anything.

use crate::datasets_store::{by_key, contents, dataset, delete, name, open, request, update};
use crate::replicas_store::{apply, hold, standing};
use crate::support::{Database, PATIENCE, eventually, on_both_databases};
use highwater::flows::replicas::{
    BootstrapReason, Chunk, Contents, Diff, Fetched, Fetching, Head, Modification, RangeStart,
    RangeState, ReplicaChange, Since,
};
use highwater::store::{LeaseStake, Store, StoredContents};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

on_both_databases!(readers_see_only_states_that_the_publisher_had);

/// Bootstraps that follow one another.
const BOOTSTRAPS: usize = 4;
/// Keys that there can be.
const KEYS: usize = 40;
const READERS: usize = 2;

/// What is read in one statement: the documented view, and the copy's head.
const READ: &str = "SELECT CAST(g.head AS TEXT) || ' ' || coalesce(r.key || '=' || r.value, '') \
    AS value FROM dataset_generations g LEFT JOIN replica_entries r ON r.replica = g.name \
    WHERE g.kind = 'replica' AND g.name = 'copy' AND g.live";

type Table = BTreeMap<String, String>;

/// What the publisher had at each of its heads.
type States = Arc<Mutex<Vec<Table>>>;

struct Publisher {
    store: Store,
    contents: StoredContents,
    states: States,
    random: SmallRng,
}

impl Publisher {
    /// Publishes some modifications, as one head.
    async fn publish(&mut self) {
        let count = self.random.random_range(1..8);
        let mut some = Vec::new();
        for _ in 0..count {
            let key = format!("k{:02}", self.random.random_range(0..KEYS));
            some.push(match self.random.random_range(0..3) {
                0 => delete(&key),
                _ => update(&key, &self.random.random_range(0..1000).to_string()),
            });
        }
        {
            let mut states = self.states.lock().unwrap();
            let mut next = states.last().unwrap().clone();
            for one in &some {
                match one {
                    Modification::Update(entry) => {
                        next.insert(entry.key.clone(), entry.value.clone())
                    }
                    Modification::Delete(key) => next.remove(key),
                };
            }
            states.push(next);
        }
        let published = self
            .store
            .publish(vec![request("prices", some)], BTreeMap::new());
        assert!(published.await.unwrap()[0].is_ok());
    }

    async fn fetch(&self, chunk: Chunk, head: Head, from: Option<&str>) -> Fetched {
        let since = Since {
            epoch: None,
            head,
            from: from.map(str::to_owned),
        };
        let fetching = Fetching {
            chunk,
            since: Some(since),
        };
        let prices = dataset("prices");
        self.contents.fetch(&prices, &fetching).await.unwrap()
    }
}

fn diff(from: Head, fetched: &Fetched) -> Diff {
    Diff {
        from,
        to: fetched.head,
        modifications: fetched.diff.clone(),
    }
}

async fn write(store: &Store, stake: &LeaseStake, change: ReplicaChange) {
    apply(store, stake, change).await.unwrap();
}

/// Copies it anew by ranges, in any order, while it changes.
async fn bootstrap(store: &Store, stake: &LeaseStake, of: &mut Publisher) {
    let info = of.contents.info(&dataset("prices"), Some(3)).await.unwrap();
    let splits = info.splits.unwrap();
    let mut after = vec![String::new()];
    after.extend(splits.iter().cloned());
    let until = splits.into_iter().map(Some).chain([None]);
    let ranges: Vec<RangeStart> = after
        .into_iter()
        .zip(until)
        .map(|(after, until)| RangeStart { after, until })
        .collect();
    let begin = ReplicaChange::Begin {
        reason: BootstrapReason::Ordered,
        why: "it is time".to_owned(),
        epoch: info.epoch,
        head: info.head,
        len: info.len,
        ranges,
        outrun: false,
    };
    write(store, stake, begin).await;
    loop {
        let bootstrap = standing(store).await.bootstrap.unwrap();
        let ranges = bootstrap.ranges.iter().enumerate();
        let left: Vec<(usize, &RangeState)> = ranges.filter(|(_, range)| !range.done).collect();
        if left.is_empty() {
            break;
        }
        let (place, range) = left[of.random.random_range(0..left.len())];
        if of.random.random_bool(0.7) {
            of.publish().await;
        }
        let chunk = Chunk::Key {
            after: range.cursor.clone(),
            until: range.until.clone(),
            limit: 4,
        };
        let fetched = of.fetch(chunk, range.head, Some(&range.after)).await;
        let done = fetched.next.is_none();
        let last = fetched.entries.last().map(|entry| entry.key.clone());
        let end = range.until.clone().filter(|_| done);
        let change = ReplicaChange::Chunk {
            generation: bootstrap.generation,
            range: place,
            cursor: range.cursor.clone(),
            new_cursor: end.or(last).unwrap_or_else(|| range.cursor.clone()),
            done,
            diff: diff(range.head, &fetched),
            entries: fetched.entries,
        };
        write(store, stake, change).await;
    }
    let bootstrap = standing(store).await.bootstrap.unwrap();
    let lowest = bootstrap.ranges.iter().map(|range| range.head).min();
    of.publish().await;
    let from = lowest.unwrap();
    let fetched = of.fetch(by_key("", 0), from, None).await;
    let forward = ReplicaChange::Forward {
        generation: bootstrap.generation,
        ranges: (0..bootstrap.ranges.len()).collect(),
        diff: diff(from, &fetched),
    };
    write(store, stake, forward).await;
    let live = ReplicaChange::Live {
        generation: bootstrap.generation,
        head: fetched.head,
    };
    write(store, stake, live).await;
}

async fn follow(store: &Store, stake: &LeaseStake, of: &Publisher) {
    let (generation, _, head, _) = standing(store).await.live.unwrap();
    let fetched = of.fetch(by_key("", 0), head, None).await;
    let diff = diff(head, &fetched);
    write(store, stake, ReplicaChange::Follow { generation, diff }).await;
}

/// Reads all entries of the copy and its head; `None`: there is none.
async fn read(database: &Database) -> Option<(Head, Table)> {
    let mut heads = BTreeSet::new();
    let mut entries = Table::new();
    for row in database.texts(READ).await {
        let (head, entry) = row.split_once(' ').unwrap();
        heads.insert(head.parse::<Head>().unwrap());
        if let Some((key, value)) = entry.split_once('=') {
            entries.insert(key.to_owned(), value.to_owned());
        }
    }
    assert!(heads.len() < 2, "rows of two copies: {heads:?}");
    heads.pop_first().map(|head| (head, entries))
}

async fn readers_see_only_states_that_the_publisher_had(database: &Database) {
    let store = open(database).await;
    store.ensure_datasets(&[name("prices")]).await.unwrap();
    let stake = hold(&store).await;
    let states: States = Arc::new(Mutex::new(vec![Table::new()]));
    let mut publisher = Publisher {
        store: store.clone(),
        contents: contents(&store, 1000, 1 << 20),
        states: states.clone(),
        random: SmallRng::seed_from_u64(7),
    };
    for _ in 0..10 {
        publisher.publish().await;
    }
    let is_over = AtomicBool::new(false);
    let reads: [AtomicUsize; READERS] = Default::default();
    let reader = async |which: usize| {
        let mut last = 0;
        while !is_over.load(Ordering::Relaxed) {
            if let Some((head, entries)) = read(database).await {
                let had = states.lock().unwrap()[usize::try_from(head).unwrap()].clone();
                assert_eq!(entries, had, "head {head}");
                assert!(last <= head, "from head {last} back to {head}");
                last = head;
                reads[which].fetch_add(1, Ordering::Relaxed);
            }
            tokio::task::yield_now().await;
        }
    };
    let count = || -> Vec<usize> { reads.iter().map(|of| of.load(Ordering::Relaxed)).collect() };
    let writer = async {
        for _ in 0..BOOTSTRAPS {
            bootstrap(&store, &stake, &mut publisher).await;
            for _ in 0..5 {
                publisher.publish().await;
                publisher.publish().await;
                follow(&store, &stake, &publisher).await;
            }
            let before = count();
            eventually(PATIENCE, "all readers saw the copy", async || {
                count().iter().zip(&before).all(|(now, then)| now > then)
            })
            .await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(writer, reader(0), reader(1));
    let last = standing(&store).await.live.unwrap();
    let (head, entries) = read(database).await.unwrap();
    assert_eq!(head, last.2);
    assert_eq!(entries, *states.lock().unwrap().last().unwrap());
}
