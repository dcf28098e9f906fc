//! Leases of ranges: those that overlap exclude one another, and who paused
//! while holding one writes nothing under it any more.

use crate::support::{Database, on_both_databases};
use highwater::config::{self, LoadOptions};
use highwater::store::{ChangeGroup, LeaseStake, SiteChange, Store};
use std::path::Path;
use std::time::Duration;

on_both_databases!(
    ranges_that_overlap_exclude_one_another,
    an_expired_range_is_fenced_off,
    two_at_the_same_moment_never_both_get_it,
    a_runner_is_not_evicted_and_a_dead_server_is,
    it_is_told_since_when_and_what_stands_in_the_way,
);

const THIRD: &str = "sites:org.a/sync:0-3332";
const QUARTERS: [&str; 2] = ["sites:org.a/sync:0-2499", "sites:org.a/sync:2500-4999"];
const LONG: Duration = Duration::from_secs(600);

async fn open(database: &Database) -> Store {
    let text = database.section("leases");
    let base = Path::new("/");
    let loaded = config::parse(&text, "t.toml", base, [], LoadOptions::default()).unwrap();
    Store::open(&loaded.settings.database).await.unwrap()
}

async fn hold(
    store: &Store,
    holder: &str,
    name: &str,
    ttl: Duration,
    evict: bool,
) -> Vec<LeaseStake> {
    let names = [name.to_owned()];
    let held = store.hold_leases(holder, &names, ttl, evict).await;
    held.unwrap()
}

async fn is_fenced(store: &Store, holder: &str, stake: &LeaseStake) -> bool {
    let group = ChangeGroup::<SiteChange> {
        stake: stake.clone(),
        changes: [].into(),
    };
    let applied = store.apply_changes(holder, vec![group]).await.unwrap();
    applied.fenced == [0]
}

async fn ranges_that_overlap_exclude_one_another(database: &Database) {
    let store = open(database).await;
    assert_eq!(hold(&store, "a", THIRD, LONG, false).await.len(), 1);
    assert!(hold(&store, "b", QUARTERS[1], LONG, false).await.is_empty());
    assert!(hold(&store, "b", QUARTERS[0], LONG, false).await.is_empty());
    assert_eq!(
        hold(&store, "b", "sites:org.a/info:2500-4999", LONG, false)
            .await
            .len(),
        1
    );
    store
        .release_leases("a", &[THIRD.to_owned()])
        .await
        .unwrap();
    assert_eq!(hold(&store, "b", QUARTERS[0], LONG, false).await.len(), 1);
    assert_eq!(hold(&store, "c", QUARTERS[1], LONG, false).await.len(), 1);
    // In one call neither.
    let both = ["sites:x/y:0-10", "sites:x/y:5-20"].map(str::to_owned);
    let held = store.hold_leases("a", &both, LONG, false).await.unwrap();
    assert_eq!(held.len(), 1);
}

async fn an_expired_range_is_fenced_off(database: &Database) {
    let store = open(database).await;
    let old = hold(&store, "a", THIRD, Duration::ZERO, false)
        .await
        .remove(0);
    assert!(
        !is_fenced(&store, "a", &old).await,
        "expired, and not taken over"
    );
    assert_eq!(hold(&store, "b", QUARTERS[1], LONG, false).await.len(), 1);
    assert!(is_fenced(&store, "a", &old).await);
    assert!(hold(&store, "a", THIRD, LONG, false).await.is_empty());
    store
        .release_leases("b", &[QUARTERS[1].to_owned()])
        .await
        .unwrap();
    let again = hold(&store, "a", THIRD, LONG, false).await.remove(0);
    assert!(again.epoch > old.epoch);
    assert!(is_fenced(&store, "a", &old).await);
    assert!(!is_fenced(&store, "a", &again).await);
}

async fn two_at_the_same_moment_never_both_get_it(database: &Database) {
    let store = open(database).await;
    for round in 0..50 {
        let names = [
            format!("sites:r{round}/j:0-5000"),
            format!("sites:r{round}/j:5000-10000"),
        ];
        let tasks = [("a", 0), ("b", 1)].map(|(holder, which): (&str, usize)| {
            let (store, name) = (store.clone(), names[which].clone());
            tokio::spawn(async move { hold(&store, holder, &name, LONG, false).await.len() })
        });
        let mut held = 0;
        for task in tasks {
            held += task.await.unwrap();
        }
        assert_eq!(held, 1, "round {round}");
    }
}

async fn a_runner_is_not_evicted_and_a_dead_server_is(database: &Database) {
    let store = open(database).await;
    let runner = hold(&store, "runner:1", THIRD, LONG, false).await.remove(0);
    let dead = hold(&store, "dead", "sites:org.a/sync:5000-7499", LONG, false)
        .await
        .remove(0);
    assert!(hold(&store, "server", THIRD, LONG, true).await.is_empty());
    assert!(
        hold(&store, "server", QUARTERS[1], LONG, true)
            .await
            .is_empty()
    );
    assert_eq!(
        hold(&store, "server", "sites:org.a/sync:5000-6665", LONG, true)
            .await
            .len(),
        1
    );
    assert!(is_fenced(&store, "dead", &dead).await);
    assert!(!is_fenced(&store, "runner:1", &runner).await);
}

async fn it_is_told_since_when_and_what_stands_in_the_way(database: &Database) {
    let store = open(database).await;
    hold(&store, "a", THIRD, LONG, false).await;
    let since = async || store.leases().await.unwrap().remove(0).acquired_at;
    let first = since().await;
    assert!(first.is_some());
    tokio::time::sleep(Duration::from_millis(5)).await;
    hold(&store, "a", THIRD, LONG, false).await;
    assert_eq!(since().await, first, "held all the while");
    store
        .release_leases("a", &[THIRD.to_owned()])
        .await
        .unwrap();
    hold(&store, "b", THIRD, LONG, false).await;
    assert!(since().await > first);
    let ways = async |holder: &str, name: &str| {
        let rows = store.leases_in_the_way(holder, name).await.unwrap();
        rows.into_iter().map(|row| row.holder).collect::<Vec<_>>()
    };
    assert_eq!(ways("a", QUARTERS[1]).await, ["b"]);
    assert_eq!(ways("a", THIRD).await, ["b"]);
    assert!(ways("b", QUARTERS[1]).await.is_empty());
    assert!(ways("a", "sites:org.a/sync:5000-7499").await.is_empty());
    hold(&store, "b", THIRD, Duration::ZERO, false).await;
    assert!(ways("a", THIRD).await.is_empty(), "expired");
}
