//! What datasets write and serve, on both databases: publishing, chunks, diffs,
//! and history.

use crate::support::{Database, on_both_databases};
use highwater::config::{self, HistorySettings, LoadOptions, ReplicationSettings};
use highwater::flows::replicas::{
    Chunk, Content, ContentKind, Contents, DatasetName, Entry, Epoch, FetchError, Fetched,
    Fetching, Head, Info, Modification, Next, PublishError, PublishRequest, Published, Since,
};
use highwater::store::{Store, StoredContents};
use highwater::time::Timestamp;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

on_both_databases!(
    what_is_published_is_fetched_and_one_refusal_spoils_nothing_else,
    a_repeated_key_answers_the_first_outcome,
    two_publishers_lose_no_head,
    a_diff_pages_at_heads_and_is_compacted_per_key,
    chunks_go_by_key_and_by_index_and_are_bounded_by_bytes,
    a_head_that_history_does_not_reach_is_stale,
    history_is_bounded_by_count_bytes_and_age,
    equal_contents_have_equal_digests,
    splits_cut_into_even_ranges,
    what_is_too_old_goes_with_what_is_published,
);

pub(crate) async fn open(database: &Database) -> Store {
    let text = database.section("datasets");
    let base = Path::new("/");
    let loaded = config::parse(&text, "t.toml", base, [], LoadOptions::default()).unwrap();
    Store::open(&loaded.settings.database).await.unwrap()
}

pub(crate) fn name(text: &str) -> DatasetName {
    DatasetName::parse(text).unwrap()
}

pub(crate) fn dataset(text: &str) -> Content {
    let (kind, name) = (ContentKind::Dataset, name(text));
    Content { kind, name }
}

pub(crate) fn update(key: &str, value: &str) -> Modification {
    let (key, value) = (key.to_owned(), value.to_owned());
    Modification::Update(Entry { key, value })
}

pub(crate) fn delete(key: &str) -> Modification {
    Modification::Delete(key.to_owned())
}

pub(crate) fn request(dataset: &str, modifications: Vec<Modification>) -> PublishRequest {
    PublishRequest {
        dataset: name(dataset),
        modifications,
        if_head: None,
        idempotency: None,
    }
}

pub(crate) async fn publish(
    store: &Store,
    requests: Vec<PublishRequest>,
) -> Vec<Result<Published, PublishError>> {
    store.publish(requests, BTreeMap::new()).await.unwrap()
}

/// Publishes one request to `prices`; answers its head.
async fn put(store: &Store, modifications: Vec<Modification>) -> Head {
    let outcomes = publish(store, vec![request("prices", modifications)]).await;
    outcomes[0].as_ref().unwrap().head
}

pub(crate) fn contents(store: &Store, max_chunk: usize, max_chunk_bytes: usize) -> StoredContents {
    let settings = ReplicationSettings {
        max_chunk,
        max_chunk_bytes,
        ..ReplicationSettings::default()
    };
    StoredContents::new(store.clone(), &settings)
}

pub(crate) fn by_key(after: &str, limit: u64) -> Chunk {
    Chunk::Key {
        after: after.to_owned(),
        until: None,
        limit,
    }
}

fn since(head: Head) -> Option<Since> {
    Some(Since {
        epoch: None,
        head,
        from: None,
    })
}

async fn fetch(
    contents: &StoredContents,
    chunk: Chunk,
    since: Option<Since>,
) -> Result<Fetched, FetchError> {
    let fetching = Fetching { chunk, since };
    contents.fetch(&dataset("prices"), &fetching).await
}

fn keys(fetched: &Fetched) -> Vec<&str> {
    let entries = fetched.entries.iter();
    entries.map(|entry| entry.key.as_str()).collect()
}

async fn info(contents: &StoredContents) -> Info {
    contents.info(&dataset("prices"), None).await.unwrap()
}

/// All entries of a dataset, by key.
pub(crate) async fn all(contents: &StoredContents, name: &str) -> BTreeMap<String, String> {
    let (content, mut after) = (dataset(name), String::new());
    let mut all = BTreeMap::new();
    loop {
        let chunk = by_key(&after, 3);
        let fetching = Fetching { chunk, since: None };
        let fetched = contents.fetch(&content, &fetching).await.unwrap();
        all.extend(fetched.entries.into_iter().map(|one| (one.key, one.value)));
        match fetched.next {
            Some(Next::Key(key)) => after = key,
            _ => return all,
        }
    }
}

/// Length and bytes of the table are those of the dataset.
pub(crate) async fn adds_up(database: &Database, store: &Store) {
    for summary in store.dataset_summaries().await.unwrap() {
        let of = "FROM dataset_entries e JOIN dataset_generations g ON g.id = e.generation";
        let name = &summary.name;
        let len = format!("SELECT count(*) AS value {of} WHERE g.name = '{name}'");
        let bytes = format!(
            "SELECT CAST(COALESCE(sum(octet_length(e.key) + octet_length(e.value)), 0) AS BIGINT) \
             AS value {of} WHERE g.name = '{name}'"
        );
        assert_eq!(database.number(&len).await as u64, summary.len);
        assert_eq!(database.number(&bytes).await as u64, summary.bytes);
    }
}

async fn what_is_published_is_fetched_and_one_refusal_spoils_nothing_else(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 1000, 1 << 20);
    let missing = contents.info(&dataset("prices"), None).await;
    assert!(matches!(missing, Err(FetchError::Missing)));
    store.ensure_datasets(&[name("prices")]).await.unwrap();
    store
        .ensure_datasets(&[name("prices"), name("other")])
        .await
        .unwrap();
    let begun = info(&contents).await;
    assert_eq!((begun.head, begun.len, begun.oldest_head), (0, 0, 0));

    let mut refused = request("prices", vec![update("x", "1")]);
    refused.if_head = Some(7);
    let mut accepted = request(
        "prices",
        vec![update("b", "2"), delete("a"), update("b", "3")],
    );
    accepted.if_head = Some(1);
    let outcomes = publish(
        &store,
        vec![
            request(
                "prices",
                vec![update("a", r#""é \"q\" \u0000""#), update("ä", "1.10")],
            ),
            refused,
            accepted,
            request("other", vec![update("k", "null")]),
        ],
    )
    .await;
    let heads: Vec<_> = outcomes
        .iter()
        .map(|one| one.as_ref().map(|one| one.head))
        .collect();
    assert_eq!(
        heads,
        [Ok(1), Err(&PublishError::HeadMoved(1)), Ok(2), Ok(1)]
    );

    let fetched = fetch(&contents, by_key("", 10), since(0)).await.unwrap();
    assert_eq!((fetched.head, fetched.len, fetched.next), (2, 2, None));
    assert_eq!(fetched.epoch, begun.epoch);
    let entry = |key: &str, value: &str| Entry {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    assert_eq!(fetched.entries, [entry("b", "3"), entry("ä", "1.10")]);
    assert_eq!(
        fetched.diff,
        [update("ä", "1.10"), delete("a"), update("b", "3")]
    );
    let value = contents.entry(&dataset("prices"), "ä").await.unwrap();
    assert_eq!(value.as_deref(), Some("1.10"));
    assert_eq!(contents.entry(&dataset("prices"), "a").await.unwrap(), None);
    adds_up(database, &store).await;
}

async fn a_repeated_key_answers_the_first_outcome(database: &Database) {
    let store = open(database).await;
    let keyed = |fingerprint: &str| PublishRequest {
        idempotency: Some(("key".to_owned(), fingerprint.to_owned())),
        ..request("prices", vec![update("a", "1")])
    };
    let first = publish(&store, vec![keyed("f"), keyed("f"), keyed("other")]).await;
    let published = first[0].clone().unwrap();
    assert_eq!((published.head, published.repeated), (1, false));
    let repeated = Published {
        repeated: true,
        ..published
    };
    assert_eq!(first[1], Ok(repeated.clone()));
    assert_eq!(first[2], Err(PublishError::KeyReused));
    put(&store, vec![update("a", "2")]).await;
    let again = publish(&store, vec![keyed("f"), keyed("other")]).await;
    assert_eq!(again, [Ok(repeated), Err(PublishError::KeyReused)]);

    let later = Timestamp::now().plus(Duration::from_secs(25 * 3600));
    assert_eq!(
        store
            .prune_datasets(later, &BTreeMap::new(), 100)
            .await
            .unwrap(),
        1
    );
    let anew = publish(&store, vec![keyed("other")]).await;
    assert_eq!(anew[0].as_ref().unwrap().head, 3);
}

async fn two_publishers_lose_no_head(database: &Database) {
    let store = open(database).await;
    let publisher = |which: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut heads = Vec::new();
            for n in 0..20 {
                let one = vec![update(&format!("{which}-{n}"), "1")];
                heads.push(put(&store, one).await);
            }
            heads
        })
    };
    let (one, other) = (publisher(1), publisher(2));
    let heads: BTreeSet<Head> = one
        .await
        .unwrap()
        .into_iter()
        .chain(other.await.unwrap())
        .collect();
    assert_eq!(heads, (1..=40).collect());
    adds_up(database, &store).await;
}

async fn a_diff_pages_at_heads_and_is_compacted_per_key(database: &Database) {
    let store = open(database).await;
    for n in 0..4 {
        let value = n.to_string();
        put(
            &store,
            vec![update("a", &value), update(&format!("k{n}"), &value)],
        )
        .await;
    }
    // Two heads of two modifications each fit.
    let by_count = contents(&store, 5, 1 << 20);
    let page = fetch(&by_count, by_key("k0", 10), since(0)).await.unwrap();
    assert_eq!((page.head, page.latest, page.entries.len()), (2, 4, 0));
    assert_eq!(page.next, Some(Next::Key("k0".to_owned())));
    assert_eq!(
        page.diff,
        [update("k0", "0"), update("a", "1"), update("k1", "1")]
    );
    let rest = fetch(&by_count, by_key("k0", 10), since(2)).await.unwrap();
    assert_eq!((rest.head, keys(&rest)), (4, vec!["k1", "k2", "k3"]));
    // One head is answered, however small the bounds.
    let tight = contents(&store, 1, 1);
    let page = fetch(&tight, by_key("", 10), since(1)).await.unwrap();
    assert_eq!((page.head, page.diff.len()), (2, 2));
    // Only keys of the range that the follower has.
    let mut part = since(0);
    part.as_mut().unwrap().from = Some("a".to_owned());
    let wide = contents(&store, 100, 1 << 20);
    let page = fetch(&wide, by_key("k1", 0), part).await.unwrap();
    assert_eq!(page.diff, [update("k0", "0"), update("k1", "1")]);
    assert_eq!((page.head, page.entries.len()), (4, 0));
}

async fn chunks_go_by_key_and_by_index_and_are_bounded_by_bytes(database: &Database) {
    let store = open(database).await;
    let large = format!("\"{}\"", "x".repeat(5000));
    let mut entries: Vec<Modification> = (0..7).map(|n| update(&format!("k{n}"), "1")).collect();
    entries[3] = update("k3", &large);
    put(&store, entries).await;
    let wide = contents(&store, 4, 1 << 20);
    let chunk = fetch(&wide, by_key("k0", 100), None).await.unwrap();
    assert_eq!(keys(&chunk), ["k1", "k2", "k3", "k4"]);
    assert_eq!(chunk.next, Some(Next::Key("k4".to_owned())));
    let until = Chunk::Key {
        after: "k4".to_owned(),
        until: Some("k5".to_owned()),
        limit: 100,
    };
    let chunk = fetch(&wide, until, None).await.unwrap();
    assert_eq!((keys(&chunk), chunk.next.clone()), (vec!["k5"], None));

    let index = |begin, end| Chunk::Index { begin, end };
    let chunk = fetch(&wide, index(2, 100), None).await.unwrap();
    assert_eq!(keys(&chunk), ["k2", "k3", "k4", "k5"]);
    assert_eq!(chunk.next, Some(Next::Index(6)));
    assert_eq!(chunk.entries[1].value, large);
    let chunk = fetch(&wide, index(6, 9), None).await.unwrap();
    assert_eq!((keys(&chunk), chunk.next.clone()), (vec!["k6"], None));

    // The large one does not fit with others, and is answered by itself.
    let tight = contents(&store, 100, 100);
    let chunk = fetch(&tight, by_key("", 100), None).await.unwrap();
    assert_eq!(keys(&chunk), ["k0", "k1", "k2"]);
    let chunk = fetch(&tight, by_key("k2", 100), None).await.unwrap();
    assert_eq!(
        (keys(&chunk), chunk.entries[0].value.len()),
        (vec!["k3"], large.len())
    );
}

async fn a_head_that_history_does_not_reach_is_stale(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 100, 1 << 20);
    put(&store, vec![update("a", "1")]).await;
    put(&store, vec![update("a", "2")]).await;
    let ahead = fetch(&contents, by_key("", 1), since(3)).await;
    assert!(matches!(ahead, Err(FetchError::Stale(info)) if info.head == 2));
    let before = info(&contents).await;
    let of = |epoch: &Epoch| {
        Some(Since {
            epoch: Some(epoch.clone()),
            head: 2,
            from: None,
        })
    };
    assert!(
        fetch(&contents, by_key("", 1), of(&before.epoch))
            .await
            .is_ok()
    );
    let (epoch, head) = store.new_epoch(&name("prices")).await.unwrap().unwrap();
    assert_eq!(head, 2);
    let other = fetch(&contents, by_key("", 1), of(&before.epoch)).await;
    assert!(matches!(other, Err(FetchError::Stale(info)) if info.epoch == epoch));
    let behind = fetch(&contents, by_key("", 1), since(1)).await;
    assert!(matches!(behind, Err(FetchError::Stale(info)) if info.oldest_head == 2));
    let level = fetch(&contents, by_key("", 1), of(&epoch)).await.unwrap();
    assert_eq!((keys(&level), level.diff.len()), (vec!["a"], 0));
    assert_eq!(store.new_epoch(&name("unknown")).await.unwrap(), None);
}

async fn history_is_bounded_by_count_bytes_and_age(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 100, 1 << 20);
    let bounded = |changes, bytes| {
        let settings = HistorySettings {
            changes,
            bytes,
            ..HistorySettings::default()
        };
        BTreeMap::from([(name("prices"), settings)])
    };
    let two = || request("prices", vec![update("a", "1"), update("b", "1")]);
    store
        .publish(vec![two(), two(), two()], bounded(5, 1000))
        .await
        .unwrap();
    assert_eq!(info(&contents).await.oldest_head, 1);
    // The newest head is kept, whatever the bounds.
    store.publish(vec![two()], bounded(100, 1)).await.unwrap();
    let now = info(&contents).await;
    assert_eq!((now.head, now.oldest_head), (4, 3));
    let summary = store.dataset_summaries().await.unwrap().remove(0);
    assert_eq!((summary.history_changes, summary.history_bytes), (2, 4));
    assert!(summary.history_since.is_some());

    store
        .publish(vec![two(), two()], BTreeMap::new())
        .await
        .unwrap();
    let later = Timestamp::now().plus(Duration::from_secs(3600));
    let ages = BTreeMap::from([(dataset("prices"), Duration::from_secs(60))]);
    assert_eq!(
        store
            .prune_datasets(Timestamp::now(), &ages, 100)
            .await
            .unwrap(),
        0
    );
    assert_eq!(store.prune_datasets(later, &ages, 100).await.unwrap(), 2);
    assert_eq!(store.prune_datasets(later, &ages, 100).await.unwrap(), 0);
    assert_eq!(info(&contents).await.oldest_head, 5);
    assert!(fetch(&contents, by_key("", 0), since(5)).await.is_ok());
}

async fn what_is_too_old_goes_with_what_is_published(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 100, 1 << 20);
    let some = |count: usize| vec![request("prices", vec![update("a", "1")]); count];
    publish(&store, some(10)).await;
    let old = "UPDATE dataset_changes SET changed_at = '2020-01-02 03:04:05.678'";
    database.run(old).await.unwrap();
    publish(&store, some(10)).await;
    assert_eq!(
        info(&contents).await.oldest_head,
        0,
        "it is not looked at each time"
    );
    publish(&store, some(60)).await;
    let now = info(&contents).await;
    assert_eq!((now.head, now.oldest_head), (80, 10));
    let summary = store.dataset_summaries().await.unwrap().remove(0);
    assert_eq!((summary.history_changes, summary.history_bytes), (70, 140));
}

async fn equal_contents_have_equal_digests(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 100, 1 << 20);
    let large = format!("\"{}\"", "x".repeat(20_000));
    let mut entries: Vec<Modification> = (0..2500)
        .map(|n| update(&format!("k{n:04}"), "1"))
        .collect();
    entries[7] = update("k0007", &large);
    put(&store, entries.clone()).await;
    entries.reverse();
    publish(&store, vec![request("other", entries)]).await;
    let of = async |content: &str, splits: usize, limit: u64| {
        let content = dataset(content);
        contents
            .digests(&content, "", None, limit, splits, None)
            .await
            .unwrap()
    };
    let (one, other) = (of("prices", 4, 2500).await, of("other", 4, 2500).await);
    assert_eq!((&one.ranges, one.next), (&other.ranges, None));
    let lens: Vec<u64> = one.ranges.iter().map(|range| range.len).collect();
    assert_eq!(lens, [625; 4]);
    assert_eq!(one.ranges[1].after, "k0624");
    assert_eq!((one.ranges[3].until.as_ref(), one.head), (None, 1));
    let part = of("prices", 1, 1000).await;
    assert_eq!(part.next.as_deref(), Some("k0999"));
    assert_eq!(part.ranges[0].until.as_deref(), Some("k0999"));

    put(&store, vec![update("k0700", "2"), delete("k2400")]).await;
    let changed = of("prices", 4, 2500).await;
    assert_eq!(changed.ranges[0], one.ranges[0]);
    assert_ne!(changed.ranges[1], one.ranges[1]);
    // What a follower at head 1 has to take into account, within the range.
    let epoch = changed.epoch.clone();
    let prices = dataset("prices");
    let since = Some((&epoch, 1));
    let range = contents.digests(&prices, "k0600", Some("k0800"), 9999, 1, since);
    let range = range.await.unwrap();
    assert_eq!(range.diff, [update("k0700", "2")]);
    assert_eq!((range.ranges.len(), range.ranges[0].len), (1, 200));
}

async fn splits_cut_into_even_ranges(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 100, 1 << 20);
    store.ensure_datasets(&[name("prices")]).await.unwrap();
    let of = async |splits| {
        contents
            .info(&dataset("prices"), Some(splits))
            .await
            .unwrap()
            .splits
            .unwrap()
    };
    assert!(of(4).await.is_empty());
    put(
        &store,
        (0..10).map(|n| update(&format!("k{n}"), "1")).collect(),
    )
    .await;
    assert_eq!(of(2).await, ["k4"]);
    assert_eq!(of(4).await, ["k1", "k4", "k6"]);
    assert_eq!(of(100).await.len(), 9);
}

/// A follower by the rules: what is up to its cursor is at its head.
#[derive(Default)]
struct Follower {
    entries: BTreeMap<String, String>,
    cursor: String,
    done: bool,
    head: Option<Head>,
}

impl Follower {
    /// Asks once, as one that begins or goes on.
    async fn step(&mut self, contents: &StoredContents, limit: u64) {
        let limit = if self.done { 0 } else { limit };
        let from = (!self.done).then(String::new);
        let since = self.head.map(|head| Since {
            epoch: None,
            head,
            from,
        });
        let fetched = match fetch(contents, by_key(&self.cursor, limit), since).await {
            Err(FetchError::Stale(_)) => {
                *self = Self::default();
                return;
            }
            fetched => fetched.unwrap(),
        };
        for modification in fetched.diff {
            match modification {
                Modification::Update(entry) => self.entries.insert(entry.key, entry.value),
                Modification::Delete(key) => self.entries.remove(&key),
            };
        }
        self.head = Some(fetched.head);
        for entry in fetched.entries {
            assert!(entry.key > self.cursor);
            self.cursor.clone_from(&entry.key);
            self.entries.insert(entry.key, entry.value);
        }
        self.done |= fetched.head == fetched.latest && fetched.next.is_none() && limit > 0;
    }
}

fn modifications() -> impl Strategy<Value = Vec<Modification>> {
    let one = ("[a-f]{1,2}", proptest::option::of(0..1000)).prop_map(
        |(key, value): (String, Option<i32>)| match value {
            Some(value) => update(&key, &value.to_string()),
            None => delete(&key),
        },
    );
    proptest::collection::vec(one, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_follower_by_the_rules_ends_equal(
        script in proptest::collection::vec((modifications(), 0_u64..4), 1..25),
        chunk in 1_usize..6,
        history in 4_u64..60,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let database = Database::sqlite();
            let store = open(&database).await;
            let contents = contents(&store, chunk, 60);
            let settings = HistorySettings { changes: history, ..HistorySettings::default() };
            let bounds = BTreeMap::from([(name("prices"), settings)]);
            let mut model = BTreeMap::new();
            // What the dataset was at each of its heads.
            let mut states = vec![model.clone()];
            let mut follower = Follower::default();
            store.ensure_datasets(&[name("prices")]).await.unwrap();
            for (modifications, steps) in script {
                for modification in &modifications {
                    match modification {
                        Modification::Update(entry) => {
                            model.insert(entry.key.clone(), entry.value.clone())
                        }
                        Modification::Delete(key) => model.remove(key),
                    };
                }
                states.push(model.clone());
                let one = vec![request("prices", modifications)];
                store.publish(one, bounds.clone()).await.unwrap();
                for _ in 0..steps {
                    follower.step(&contents, 2).await;
                    if let (true, Some(head)) = (follower.done, follower.head) {
                        assert_eq!(follower.entries, states[head as usize]);
                    }
                }
            }
            let mut asked = 0;
            while !follower.done || follower.head != Some(states.len() as Head - 1) {
                follower.step(&contents, 2).await;
                asked += 1;
                assert!(asked < 1000, "the follower does not get there");
            }
            assert_eq!(follower.entries, model);
            adds_up(&database, &store).await;
        });
    }
}
