//! What Followers write, on both databases: bootstraps by ranges, diffs that are
//! written once, and the switch to a new copy.

use crate::datasets_store::{
    by_key, contents, dataset, delete, name, open, publish, request, update,
};
use crate::support::{Database, on_both_databases};
use highwater::config::HistorySettings;
use highwater::flows::replicas::{
    Applied, BootstrapReason, Content, ContentKind, Contents, Diff, Entry, Epoch, Fetching, Head,
    Modification, RangeStart, ReplicaChange, ReplicaRows, Since, Standing,
};
use highwater::store::{LeaseStake, NotApplied, ReplicaGroup, Store, StoredContents};
use highwater::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

on_both_databases!(
    a_bootstrap_by_ranges_becomes_the_copy_in_one_step,
    a_change_is_written_once,
    a_lost_lease_and_wrong_chunks_are_refused_alone,
    ranges_are_brought_forward_to_one_head,
    a_new_bootstrap_leaves_the_copy_until_it_is_whole,
    repairs_and_audits_are_counted,
    a_bootstrap_that_nobody_goes_on_with_is_given_up,
    what_is_dropped_is_gone_with_all_its_rows,
);

const HOLDER: &str = "server-1";

pub(crate) async fn hold(store: &Store) -> LeaseStake {
    let names = ["replicas:copy".to_owned()];
    let held = store
        .hold_leases(HOLDER, &names, Duration::from_secs(600), false)
        .await;
    held.unwrap().remove(0)
}

fn group(stake: &LeaseStake, change: ReplicaChange) -> ReplicaGroup {
    ReplicaGroup {
        replica: name("copy"),
        stake: stake.clone(),
        change,
        history: HistorySettings::default(),
    }
}

/// Writes a change; what a Follower makes of it, who does not read the rows again,
/// has to be what the rows say.
pub(crate) async fn apply(
    store: &Store,
    stake: &LeaseStake,
    change: ReplicaChange,
) -> Result<Applied, NotApplied> {
    let mut known = standing(store).await;
    let groups = vec![group(stake, change.clone())];
    let mut outcomes = store.apply_replicas(HOLDER, groups).await.unwrap();
    let outcome = outcomes.remove(0);
    let begun = known.bootstrap.as_ref().map(|begun| begun.generation);
    match &outcome {
        // It was begun before, and the answer was lost.
        Ok(applied)
            if matches!(change, ReplicaChange::Begin { .. }) && begun == applied.generation => {}
        Ok(applied) => known.note(&change, applied, Timestamp::now()),
        Err(_) => {}
    }
    assert_eq!(
        timeless(known),
        timeless(standing(store).await),
        "{change:?}: {outcome:?}"
    );
    outcome
}

fn timeless(mut standing: Standing) -> Standing {
    let never = Timestamp::default();
    standing.stale = standing.stale.map(|(_, why)| (never, why));
    standing.level_at = standing.level_at.map(|_| never);
    standing.audited = standing
        .audited
        .map(|(_, differences)| (never, differences));
    if let Some(bootstrap) = &mut standing.bootstrap {
        bootstrap.begun_at = never;
    }
    standing
}

fn start(after: &str, until: Option<&str>) -> RangeStart {
    RangeStart {
        after: after.to_owned(),
        until: until.map(str::to_owned),
    }
}

fn begin(reason: BootstrapReason, epoch: &str, head: Head) -> ReplicaChange {
    ReplicaChange::Begin {
        reason,
        why: "the upstream's history begins at 5".to_owned(),
        epoch: Epoch::told(epoch),
        head,
        len: 4,
        ranges: vec![start("", Some("m")), start("m", None)],
        outrun: reason == BootstrapReason::StaleHead,
    }
}

fn diff(from: Head, to: Head, modifications: Vec<Modification>) -> Diff {
    Diff {
        from,
        to,
        modifications,
    }
}

fn chunk(
    generation: i64,
    range: usize,
    (cursor, new_cursor, done): (&str, &str, bool),
    diff: Diff,
    keys: &[&str],
) -> ReplicaChange {
    let entry = |key: &&str| Entry {
        key: (*key).to_owned(),
        value: "1".to_owned(),
    };
    ReplicaChange::Chunk {
        generation,
        range,
        cursor: cursor.to_owned(),
        new_cursor: new_cursor.to_owned(),
        done,
        diff,
        entries: keys.iter().map(entry).collect(),
    }
}

pub(crate) async fn standing(store: &Store) -> Standing {
    store.standing(&name("copy")).await.unwrap()
}

fn copy() -> Content {
    Content {
        kind: ContentKind::Replica,
        name: name("copy"),
    }
}

async fn entries(contents: &StoredContents) -> Vec<(String, String)> {
    let fetching = Fetching {
        chunk: by_key("", 1000),
        since: None,
    };
    let fetched = contents.fetch(&copy(), &fetching).await.unwrap();
    let pair = |entry: Entry| (entry.key, entry.value);
    fetched.entries.into_iter().map(pair).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    all.iter().map(owned).collect()
}

/// A copy with the entries a and z, at head 5 of epoch e.
async fn bootstrapped(store: &Store, stake: &LeaseStake) -> i64 {
    let begun = apply(store, stake, begin(BootstrapReason::Initial, "e", 5))
        .await
        .unwrap();
    let id = begun.generation.unwrap();
    let none = || diff(5, 5, Vec::new());
    for change in [
        chunk(id, 0, ("", "m", true), none(), &["a"]),
        chunk(id, 1, ("m", "z", true), none(), &["z"]),
        ReplicaChange::Live {
            generation: id,
            head: 5,
        },
    ] {
        apply(store, stake, change).await.unwrap();
    }
    id
}

async fn a_bootstrap_by_ranges_becomes_the_copy_in_one_step(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 1000, 1 << 20);
    assert_eq!(standing(&store).await, Standing::default());
    let stake = hold(&store).await;
    let first = begin(BootstrapReason::Initial, "e", 5);
    let begun = apply(&store, &stake, first.clone()).await.unwrap();
    let id = begun.generation.unwrap();
    // The answer was lost: it is the same bootstrap.
    assert_eq!(apply(&store, &stake, first).await, Ok(begun));

    let steps = [
        chunk(id, 0, ("", "b", false), diff(5, 5, vec![]), &["a", "b"]),
        chunk(id, 1, ("m", "x", true), diff(5, 5, vec![]), &["n", "x"]),
        // Beyond the cursor nothing of the diff is written: the chunk has it.
        chunk(
            id,
            0,
            ("b", "m", true),
            diff(
                5,
                7,
                vec![
                    update("a", "22"),
                    delete("b"),
                    update("c", "9"),
                    update("y", "9"),
                ],
            ),
            &["c", "m"],
        ),
    ];
    let groups: Vec<ReplicaGroup> = steps
        .into_iter()
        .map(|change| group(&stake, change))
        .collect();
    let outcomes = store.apply_replicas(HOLDER, groups).await.unwrap();
    let lens: Vec<u64> = outcomes
        .iter()
        .map(|one| one.as_ref().unwrap().len)
        .collect();
    assert_eq!(lens, [2, 2, 3]);
    let stands = standing(&store).await;
    let bootstrap = stands.bootstrap.unwrap();
    let heads: Vec<(Head, bool)> = bootstrap
        .ranges
        .iter()
        .map(|range| (range.head, range.done))
        .collect();
    assert_eq!(heads, [(7, true), (5, true)]);
    assert_eq!(
        (bootstrap.generation, bootstrap.len, stands.live),
        (id, 4, None)
    );

    let live = |head| ReplicaChange::Live {
        generation: id,
        head,
    };
    assert_eq!(
        apply(&store, &stake, live(7)).await,
        Err(NotApplied::Fenced)
    );
    let forward = ReplicaChange::Forward {
        generation: id,
        ranges: vec![0, 1],
        diff: diff(5, 7, vec![update("a", "3"), delete("x"), update("y", "9")]),
    };
    apply(&store, &stake, forward).await.unwrap();
    let live = apply(&store, &stake, live(7)).await.unwrap();
    assert_eq!(live.len, 5);
    let expected = pairs(&[("a", "22"), ("c", "1"), ("m", "1"), ("n", "1"), ("y", "9")]);
    assert_eq!(entries(&contents).await, expected);
    let stands = standing(&store).await;
    assert_eq!(stands.live, Some((id, Epoch::told("e"), 7, 5)));
    assert_eq!((stands.bootstrap, stands.stale), (None, None));
    assert_eq!(
        stands.bootstraps,
        BTreeMap::from([(BootstrapReason::Initial, 1)])
    );
    let info = contents.info(&copy(), None).await.unwrap();
    assert_eq!((info.head, info.oldest_head, info.len), (7, 7, 5));
    let summary = store.replica_summaries().await.unwrap().remove(0);
    assert_eq!(summary.copy.unwrap().bytes, 11);
}

async fn a_change_is_written_once(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 1000, 1 << 20);
    let stake = hold(&store).await;
    let id = bootstrapped(&store, &stake).await;
    let follow = ReplicaChange::Follow {
        generation: id,
        diff: diff(5, 9, vec![update("b", "1"), delete("z")]),
    };
    let applied = apply(&store, &stake, follow.clone()).await.unwrap();
    assert_eq!((applied.rows, applied.len), (2, 2));
    assert_eq!(apply(&store, &stake, follow).await, Err(NotApplied::Fenced));
    assert_eq!(entries(&contents).await, pairs(&[("a", "1"), ("b", "1")]));
    // It is followed itself, from any head that the page led through.
    for head in [5, 6, 8] {
        let since = Since {
            epoch: Some(Epoch::told("e")),
            head,
            from: None,
        };
        let fetching = Fetching {
            chunk: by_key("", 0),
            since: Some(since),
        };
        let fetched = contents.fetch(&copy(), &fetching).await.unwrap();
        assert_eq!((fetched.head, fetched.diff.len()), (9, 2));
    }
    let again = chunk(id, 0, ("", "m", true), diff(5, 5, vec![]), &["a"]);
    assert_eq!(apply(&store, &stake, again).await, Err(NotApplied::Fenced));
    let heard = ReplicaChange::Heard {
        upstream_head: 9,
        at: Timestamp::now(),
        level: true,
    };
    apply(&store, &stake, heard).await.unwrap();
    assert!(standing(&store).await.level_at.is_some());
}

async fn a_lost_lease_and_wrong_chunks_are_refused_alone(database: &Database) {
    let store = open(database).await;
    let stake = hold(&store).await;
    let begun = apply(&store, &stake, begin(BootstrapReason::Initial, "e", 5))
        .await
        .unwrap();
    let id = begun.generation.unwrap();
    let lost = LeaseStake {
        epoch: stake.epoch - 1,
        ..stake.clone()
    };
    let none = || diff(5, 5, Vec::new());
    let groups = vec![
        group(&lost, chunk(id, 0, ("", "m", true), none(), &["a"])),
        group(&stake, chunk(id, 0, ("", "m", true), none(), &["b", "a"])),
        group(&stake, chunk(id, 0, ("", "m", true), none(), &["z"])),
        group(&stake, chunk(id, 0, ("", "n", true), none(), &[])),
        group(&stake, chunk(id, 0, ("c", "m", true), none(), &["d"])),
        group(
            &stake,
            chunk(id, 0, ("", "m", true), diff(4, 5, vec![]), &["a"]),
        ),
        group(&stake, chunk(id, 0, ("", "m", true), none(), &["a"])),
    ];
    let outcomes = store.apply_replicas(HOLDER, groups).await.unwrap();
    assert_eq!(outcomes[0], Err(NotApplied::Fenced));
    for outcome in &outcomes[1..4] {
        assert!(
            matches!(outcome, Err(NotApplied::Refused(_))),
            "{outcome:?}"
        );
    }
    assert_eq!(
        outcomes[4..6],
        [Err(NotApplied::Fenced), Err(NotApplied::Fenced)]
    );
    assert_eq!(outcomes[6].as_ref().unwrap().len, 1);
    let other = store.apply_replicas(
        "server-2",
        vec![group(&stake, begin(BootstrapReason::Ordered, "e", 5))],
    );
    assert_eq!(other.await.unwrap(), [Err(NotApplied::Fenced)]);
    let overlapping = ReplicaChange::Begin {
        reason: BootstrapReason::Ordered,
        why: String::new(),
        epoch: Epoch::told("e"),
        head: 5,
        len: 0,
        ranges: vec![start("", Some("m")), start("n", None)],
        outrun: false,
    };
    let refused = apply(&store, &stake, overlapping).await;
    assert!(matches!(refused, Err(NotApplied::Refused(_))));
    assert_eq!(standing(&store).await.bootstrap.unwrap().generation, id);
}

async fn ranges_are_brought_forward_to_one_head(database: &Database) {
    let store = open(database).await;
    let stake = hold(&store).await;
    let begun = apply(&store, &stake, begin(BootstrapReason::Initial, "e", 5))
        .await
        .unwrap();
    let id = begun.generation.unwrap();
    apply(
        &store,
        &stake,
        chunk(id, 0, ("", "m", true), diff(5, 9, vec![]), &["a"]),
    )
    .await
    .unwrap();
    let forward = |ranges: &[usize], from, to| ReplicaChange::Forward {
        generation: id,
        ranges: ranges.to_vec(),
        diff: diff(from, to, vec![update("a", "2"), update("q", "1")]),
    };
    // The other one is not done.
    assert_eq!(
        apply(&store, &stake, forward(&[0, 1], 5, 7)).await,
        Err(NotApplied::Fenced)
    );
    apply(
        &store,
        &stake,
        chunk(id, 1, ("m", "z", true), diff(5, 5, vec![]), &["z"]),
    )
    .await
    .unwrap();
    // What is beyond the diff is left alone; what is before it is refused.
    assert_eq!(
        apply(&store, &stake, forward(&[0, 1], 6, 7)).await,
        Err(NotApplied::Fenced)
    );
    for _ in 0..2 {
        apply(&store, &stake, forward(&[0, 1], 5, 7)).await.unwrap();
        let ranges = standing(&store).await.bootstrap.unwrap().ranges;
        let stand: Vec<(Head, u64)> = ranges.iter().map(|range| (range.head, range.len)).collect();
        assert_eq!(stand, [(9, 1), (7, 2)]);
    }
}

async fn a_new_bootstrap_leaves_the_copy_until_it_is_whole(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 1000, 1 << 20);
    let stake = hold(&store).await;
    let old = bootstrapped(&store, &stake).await;
    let stale = || begin(BootstrapReason::StaleHead, "e", 50);
    let given_up = apply(&store, &stake, stale())
        .await
        .unwrap()
        .generation
        .unwrap();
    let none = || diff(50, 50, Vec::new());
    apply(
        &store,
        &stake,
        chunk(given_up, 0, ("", "m", true), none(), &["g"]),
    )
    .await
    .unwrap();
    let new = apply(&store, &stake, stale())
        .await
        .unwrap()
        .generation
        .unwrap();
    assert_ne!(given_up, new);
    let stands = standing(&store).await;
    assert_eq!(
        stands.stale.unwrap().1,
        "the upstream's history begins at 5"
    );
    assert_eq!((stands.outrun, stands.live.unwrap().0), (2, old));
    apply(
        &store,
        &stake,
        chunk(new, 0, ("", "m", true), none(), &["h"]),
    )
    .await
    .unwrap();
    assert_eq!(entries(&contents).await, pairs(&[("a", "1"), ("z", "1")]));
    let fenced = chunk(given_up, 1, ("m", "z", true), none(), &["z"]);
    assert_eq!(apply(&store, &stake, fenced).await, Err(NotApplied::Fenced));
    apply(&store, &stake, chunk(new, 1, ("m", "z", true), none(), &[]))
        .await
        .unwrap();
    let live = ReplicaChange::Live {
        generation: new,
        head: 50,
    };
    apply(&store, &stake, live).await.unwrap();
    assert_eq!(entries(&contents).await, pairs(&[("h", "1")]));
    let stands = standing(&store).await;
    assert_eq!((stands.stale, stands.outrun), (None, 0));
    // The rows of both others go, step by step.
    let mut steps = 0;
    while store
        .prune_datasets(Timestamp::now(), &BTreeMap::new(), 1)
        .await
        .unwrap()
        > 0
    {
        steps += 1;
    }
    assert!(steps >= 2);
    for table in ["dataset_entries", "dataset_generations"] {
        assert_eq!(
            database
                .number(&format!("SELECT count(*) AS value FROM {table}"))
                .await,
            1
        );
    }
    assert_eq!(entries(&contents).await, pairs(&[("h", "1")]));
}

async fn repairs_and_audits_are_counted(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 1000, 1 << 20);
    let stake = hold(&store).await;
    let id = bootstrapped(&store, &stake).await;
    let repair = |head| ReplicaChange::Repair {
        generation: id,
        head,
        modifications: vec![update("a", "2"), delete("z")],
    };
    assert_eq!(
        apply(&store, &stake, repair(4)).await,
        Err(NotApplied::Fenced)
    );
    apply(&store, &stake, repair(5)).await.unwrap();
    assert_eq!(entries(&contents).await, pairs(&[("a", "2")]));
    let audited = |cursor: Option<&str>, differences| ReplicaChange::Audited {
        cursor: cursor.map(str::to_owned),
        differences,
    };
    apply(&store, &stake, audited(Some("a"), 0)).await.unwrap();
    assert_eq!(standing(&store).await.audit_cursor.as_deref(), Some("a"));
    apply(&store, &stake, audited(None, 1)).await.unwrap();
    let stands = standing(&store).await;
    assert_eq!((stands.audited.unwrap().1, stands.audit_cursor), (1, None));
    assert_eq!(store.replica_summaries().await.unwrap()[0].repairs, 1);
    // A dataset of the same name is another content.
    publish(&store, vec![request("copy", vec![update("k", "1")])]).await;
    assert_eq!(contents.info(&dataset("copy"), None).await.unwrap().len, 1);
    assert_eq!(entries(&contents).await.len(), 1);
}

async fn a_bootstrap_that_nobody_goes_on_with_is_given_up(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 1000, 1 << 20);
    let stake = hold(&store).await;
    bootstrapped(&store, &stake).await;
    let begun = apply(&store, &stake, begin(BootstrapReason::Ordered, "e", 9)).await;
    let id = begun.unwrap().generation.unwrap();
    let first = chunk(id, 0, ("", "b", false), diff(9, 9, vec![]), &["a", "b"]);
    apply(&store, &stake, first).await.unwrap();
    let prune = async |hours: u64, configured: &BTreeMap<Content, Duration>| {
        let later = Timestamp::now().plus(Duration::from_secs(hours * 3600));
        store.prune_datasets(later, configured, 100).await.unwrap()
    };
    let none = BTreeMap::new();
    let configured = BTreeMap::from([(copy(), Duration::from_secs(24 * 3600))]);
    assert_eq!(prune(2, &none).await, 0, "it is followed");
    let leases = ["replicas:copy".to_owned()];
    store.release_leases(HOLDER, &leases).await.unwrap();
    assert_eq!(prune(2, &configured).await, 0);
    assert_eq!(prune(0, &none).await, 0);
    assert!(prune(2, &none).await > 0);
    while prune(2, &none).await > 0 {}
    let stands = standing(&store).await;
    assert_eq!((stands.bootstrap, stands.live.is_some()), (None, true));
    let left = "SELECT count(*) AS value FROM dataset_generations";
    assert_eq!(database.number(left).await, 1);
    assert_eq!(entries(&contents).await, pairs(&[("a", "1"), ("z", "1")]));
    // Who thought to go on is told, and begins anew.
    let stake = hold(&store).await;
    let more = chunk(id, 0, ("b", "m", true), diff(9, 9, vec![]), &["c"]);
    assert_eq!(apply(&store, &stake, more).await, Err(NotApplied::Fenced));
}

async fn what_is_dropped_is_gone_with_all_its_rows(database: &Database) {
    let store = open(database).await;
    let stake = hold(&store).await;
    bootstrapped(&store, &stake).await;
    apply(&store, &stake, begin(BootstrapReason::Ordered, "e", 9))
        .await
        .unwrap();
    let mut keyed = request("copy", vec![update("k", "1")]);
    keyed.idempotency = Some(("key".to_owned(), "print".to_owned()));
    publish(&store, vec![keyed.clone()]).await;
    assert!(store.drop_content(&copy()).await.unwrap());
    assert!(!store.drop_content(&copy()).await.unwrap());
    assert_eq!(standing(&store).await, Standing::default());
    assert!(store.replica_summaries().await.unwrap().is_empty());
    // The dataset of that name is another content, and goes by an order of its own.
    assert_eq!(store.dataset_summaries().await.unwrap().len(), 1);
    assert!(store.drop_content(&dataset("copy")).await.unwrap());
    let anew = publish(&store, vec![keyed]).await;
    assert!(!anew[0].as_ref().unwrap().repeated);
    assert!(store.drop_content(&dataset("copy")).await.unwrap());
    let now = Timestamp::now();
    while store
        .prune_datasets(now, &BTreeMap::new(), 100)
        .await
        .unwrap()
        > 0
    {}
    for table in [
        "dataset_generations",
        "dataset_entries",
        "dataset_changes",
        "dataset_requests",
        "replica_ranges",
        "replicas",
    ] {
        let left = format!("SELECT count(*) AS value FROM {table}");
        assert_eq!(database.number(&left).await, 0, "{table}");
    }
}
