//! Our own tables as datasets, on both databases: what triggers note, which
//! dataset a table is published as, and how what it holds is noted in steps.

use crate::datasets_store::{adds_up, all, contents, name, open};
use crate::replicas_support::{Node, get};
use crate::support::{Database, PATIENCE, ServerProcess, eventually, on_both_databases};
use highwater::config::{DatasetSource, HistorySettings, ReplicationSettings};
use highwater::flows::replicas::DatasetName;
use highwater::store::{SourceStand, SourceStep, Store, StoredContents};
use highwater::time::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

on_both_databases!(
    batches_are_published_by_triggers,
    sites_are_published_with_their_jobs,
    a_table_that_gets_its_old_name_back_is_noted_anew,
    tables_that_change_places_leave_nothing_of_each_other,
    what_a_table_holds_is_noted_in_steps_by_whoever_goes_on,
    a_server_that_is_configured_otherwise_is_noticed,
    triggers_that_are_missing_are_made_again,
    a_head_is_bounded_by_bytes_and_a_large_row_goes_alone,
    a_table_that_is_emptied_empties_its_dataset,
    a_table_that_cannot_be_watched_yet_holds_up_no_other_and_no_reader,
);

const BATCHES: DatasetSource = DatasetSource::Batches;
const SITES: DatasetSource = DatasetSource::Sites;

async fn step(store: &Store, dataset: &str, source: DatasetSource, most: usize) -> SourceStep {
    let history = HistorySettings::default();
    let replication = ReplicationSettings {
        max_chunk: most,
        ..ReplicationSettings::default()
    };
    store
        .publish_source(&name(dataset), source, &history, &replication)
        .await
        .unwrap()
}

/// Answers how many changes were published.
async fn publish_all(store: &Store, dataset: &str, source: DatasetSource) -> usize {
    let mut published = 0;
    loop {
        let step = step(store, dataset, source, 2).await;
        published += step.published;
        if !step.more {
            return published;
        }
    }
}

/// Has a table published as a dataset, and all of it noted.
async fn watch(store: &Store, dataset: &str, source: DatasetSource) {
    store.watch_source(&name(dataset), source).await.unwrap();
    while !store.note_source(&name(dataset), source, 2).await.unwrap() {}
    assert_eq!(stand(store, dataset, source).await, SourceStand::Whole);
}

async fn stand(store: &Store, dataset: &str, source: DatasetSource) -> SourceStand {
    store.source_stand(&name(dataset), source).await.unwrap()
}

/// These are published still, others not any more.
async fn keep(store: &Store, kept: &[(&str, DatasetSource)], claimed_before: Timestamp) {
    let kept: BTreeSet<(DatasetName, DatasetSource)> = kept
        .iter()
        .map(|(dataset, source)| (name(dataset), *source))
        .collect();
    store.keep_sources(&kept, claimed_before).await.unwrap();
}

async fn keys(contents: &StoredContents, dataset: &str) -> Vec<String> {
    all(contents, dataset).await.into_keys().collect()
}

async fn add_batch(database: &Database, service: &str, batch: &str) {
    let sql = format!(
        "INSERT INTO batches (ledger, service_id, batch_id) VALUES ('l', '{service}', '{batch}')"
    );
    database.run(&sql).await.unwrap();
}

async fn remove_batch(database: &Database, batch: &str) {
    let sql = format!("DELETE FROM batches WHERE batch_id = '{batch}'");
    database.run(&sql).await.unwrap();
}

async fn add_site(database: &Database, site: &str) {
    let sql = format!(
        "INSERT INTO sites (site_id, app_id, url, batch_code, labels) \
         VALUES ('{site}', 'app', 'https://s.example', 7, '{{\"a\":1}}')"
    );
    database.run(&sql).await.unwrap();
}

async fn noted(database: &Database) -> i64 {
    let sql = "SELECT count(*) AS value FROM dataset_source_changes";
    database.number(sql).await
}

async fn batches_are_published_by_triggers(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 100, 1 << 20);
    let run = async |sql: &str| database.run(sql).await.unwrap();
    add_batch(database, "", "b1").await;
    watch(&store, "jobs", BATCHES).await;
    watch(&store, "jobs", BATCHES).await;
    assert_eq!(publish_all(&store, "jobs", BATCHES).await, 1);
    watch(&store, "jobs", BATCHES).await;
    assert_eq!(publish_all(&store, "jobs", BATCHES).await, 0);

    add_batch(database, "a/b", "b2").await;
    add_batch(database, "", "b3").await;
    run(
        "UPDATE batches SET status = 'invalid', invalid_transactions = '[{\"id\":\"t\"}]', \
         settled_at = '2026-01-02 03:04:05.678' WHERE batch_id = 'b2'",
    )
    .await;
    remove_batch(database, "b3").await;
    run("UPDATE batches SET batch_id = 'b9' WHERE batch_id = 'b1'").await;
    publish_all(&store, "jobs", BATCHES).await;
    let entries = all(&contents, "jobs").await;
    let found: Vec<&str> = entries.keys().map(String::as_str).collect();
    assert_eq!(found, ["l//b9", "l/a%2Fb/b2"]);
    let value: Value = serde_json::from_str(&entries["l/a%2Fb/b2"]).unwrap();
    assert_eq!(value["status"], "invalid");
    assert_eq!(value["invalid_transactions"][0]["id"], "t");
    assert_eq!(value["settled_at"], "2026-01-02T03:04:05.678Z");
    assert_eq!(value["poll_log"], Value::Null);

    // While nobody watches nothing is noted; later it is found nevertheless.
    add_batch(database, "", "b5").await;
    keep(&store, &[], Timestamp::now()).await;
    assert_eq!(noted(database).await, 0, "nobody will publish it");
    assert_eq!(stand(&store, "jobs", BATCHES).await, SourceStand::Unwatched);
    remove_batch(database, "b2").await;
    add_batch(database, "", "b4").await;
    assert_eq!(noted(database).await, 0);
    assert_eq!(publish_all(&store, "jobs", BATCHES).await, 0);
    watch(&store, "jobs", BATCHES).await;
    publish_all(&store, "jobs", BATCHES).await;
    assert_eq!(keys(&contents, "jobs").await, ["l//b4", "l//b5", "l//b9"]);
    adds_up(database, &store).await;
}

async fn sites_are_published_with_their_jobs(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 100, 1 << 20);
    watch(&store, "sites", SITES).await;
    let run = async |sql: &str| database.run(sql).await.unwrap();
    add_site(database, "4711").await;
    publish_all(&store, "sites", SITES).await;
    let of = async || {
        let entries = all(&contents, "sites").await;
        let value = entries.get("app/4711")?;
        Some(serde_json::from_str::<Value>(value).unwrap())
    };
    let site = of().await.unwrap();
    assert_eq!(
        (site["labels"]["a"].as_i64(), site["enabled"].as_bool()),
        (Some(1), Some(true))
    );
    assert_eq!(site["jobs"], json!([]));
    for job in ["b", "a"] {
        run(&format!(
            "INSERT INTO poll_status (site_id, job_name, level, app_id, batch_code, enabled) \
             VALUES ('4711', '{job}', 3, 'app', 7, TRUE)"
        ))
        .await;
    }
    publish_all(&store, "sites", SITES).await;
    let site = of().await.unwrap();
    assert_eq!(
        (&site["jobs"][0]["job_name"], &site["jobs"][1]["level"]),
        (&"a".into(), &3.into())
    );
    run("UPDATE poll_status SET level = 5 WHERE job_name = 'a'").await;
    publish_all(&store, "sites", SITES).await;
    assert_eq!(of().await.unwrap()["jobs"][0]["level"], 5);
    run("DELETE FROM sites").await;
    publish_all(&store, "sites", SITES).await;
    assert_eq!(of().await, None);
}

async fn a_table_that_gets_its_old_name_back_is_noted_anew(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 100, 1 << 20);
    for batch in ["b1", "b2", "b3"] {
        add_batch(database, "", batch).await;
    }
    watch(&store, "a", BATCHES).await;
    publish_all(&store, "a", BATCHES).await;
    // A change waits while the name changes: what is left of it is not all.
    add_batch(database, "", "b4").await;
    watch(&store, "b", BATCHES).await;
    assert_eq!(
        stand(&store, "a", BATCHES).await,
        SourceStand::Taken("b".to_owned())
    );
    assert_eq!(publish_all(&store, "a", BATCHES).await, 0);
    publish_all(&store, "b", BATCHES).await;
    assert_eq!(
        keys(&contents, "b").await,
        ["l//b1", "l//b2", "l//b3", "l//b4"]
    );
    assert_eq!(keys(&contents, "a").await, ["l//b1", "l//b2", "l//b3"]);

    remove_batch(database, "b1").await;
    publish_all(&store, "b", BATCHES).await;
    add_batch(database, "", "b5").await;
    watch(&store, "a", BATCHES).await;
    publish_all(&store, "a", BATCHES).await;
    assert_eq!(
        keys(&contents, "a").await,
        ["l//b2", "l//b3", "l//b4", "l//b5"]
    );
    adds_up(database, &store).await;
}

async fn tables_that_change_places_leave_nothing_of_each_other(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 100, 1 << 20);
    add_batch(database, "", "b1").await;
    add_site(database, "4711").await;
    for (dataset, source) in [("one", BATCHES), ("other", SITES)] {
        watch(&store, dataset, source).await;
        publish_all(&store, dataset, source).await;
    }
    add_batch(database, "", "b2").await;
    add_site(database, "4712").await;
    for (dataset, source) in [("one", SITES), ("other", BATCHES)] {
        watch(&store, dataset, source).await;
    }
    let kept = [("one", SITES), ("other", BATCHES)];
    keep(&store, &kept, Timestamp::now()).await;
    for (dataset, source) in kept {
        publish_all(&store, dataset, source).await;
    }
    assert_eq!(keys(&contents, "one").await, ["app/4711", "app/4712"]);
    assert_eq!(keys(&contents, "other").await, ["l//b1", "l//b2"]);
    adds_up(database, &store).await;
}

async fn what_a_table_holds_is_noted_in_steps_by_whoever_goes_on(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 100, 1 << 20);
    let dataset = name("jobs");
    for batch in ["b1", "b2"] {
        add_batch(database, "", batch).await;
    }
    watch(&store, "jobs", BATCHES).await;
    publish_all(&store, "jobs", BATCHES).await;
    keep(&store, &[], Timestamp::now()).await;
    remove_batch(database, "b1").await;
    for batch in ["b3", "b4", "b5", "b6", "b7"] {
        add_batch(database, "", batch).await;
    }
    store.watch_source(&dataset, BATCHES).await.unwrap();
    assert_eq!(stand(&store, "jobs", BATCHES).await, SourceStand::Noting);
    // The dataset's two keys, and that there are no more; then rows.
    for _ in 0..3 {
        assert!(!store.note_source(&dataset, BATCHES, 2).await.unwrap());
    }
    publish_all(&store, "jobs", BATCHES).await;
    assert_eq!(keys(&contents, "jobs").await, ["l//b2", "l//b3"]);
    // What changes meanwhile is noted, before the cursor and behind it.
    remove_batch(database, "b2").await;
    remove_batch(database, "b6").await;
    add_batch(database, "", "b0").await;
    store.close();
    let next = open(database).await;
    next.watch_source(&dataset, BATCHES).await.unwrap();
    assert_eq!(stand(&next, "jobs", BATCHES).await, SourceStand::Noting);
    let mut steps = 0;
    while !next.note_source(&dataset, BATCHES, 2).await.unwrap() {
        steps += 1;
    }
    assert!((1..=2).contains(&steps), "it went on, not anew: {steps}");
    publish_all(&next, "jobs", BATCHES).await;
    let found = keys(&self::contents(&next, 100, 1 << 20), "jobs").await;
    assert_eq!(found, ["l//b0", "l//b3", "l//b4", "l//b5", "l//b7"]);
    assert_eq!(noted(database).await, 0);
    adds_up(database, &next).await;
}

async fn a_server_that_is_configured_otherwise_is_noticed(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 100, 1 << 20);
    watch(&store, "jobs", BATCHES).await;
    let long_ago = Timestamp::now().minus(Duration::from_secs(600));
    // Another one does not know it: what somebody says is his is left alone.
    add_batch(database, "", "b1").await;
    keep(&store, &[], long_ago).await;
    assert_eq!(stand(&store, "jobs", BATCHES).await, SourceStand::Whole);
    assert_eq!(publish_all(&store, "jobs", BATCHES).await, 1);
    // It has another name for it, and then is there no more.
    watch(&store, "other", BATCHES).await;
    keep(&store, &[("jobs", BATCHES)], long_ago).await;
    let taken = SourceStand::Taken("other".to_owned());
    assert_eq!(stand(&store, "jobs", BATCHES).await, taken);
    let later = Timestamp::now().plus(Duration::from_secs(1));
    keep(&store, &[("jobs", BATCHES)], later).await;
    assert_eq!(stand(&store, "jobs", BATCHES).await, SourceStand::Unwatched);
    remove_batch(database, "b1").await;
    add_batch(database, "", "b2").await;
    watch(&store, "jobs", BATCHES).await;
    publish_all(&store, "jobs", BATCHES).await;
    assert_eq!(keys(&contents, "jobs").await, ["l//b2"]);
    // Who says so keeps it, however long ago the last time was.
    keep(&store, &[("jobs", BATCHES)], later).await;
    assert_eq!(stand(&store, "jobs", BATCHES).await, SourceStand::Whole);
}

async fn triggers_that_are_missing_are_made_again(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 100, 1 << 20);
    watch(&store, "jobs", BATCHES).await;
    let away = if database.is_sqlite() {
        "DROP TRIGGER dataset_source_batches_deleted"
    } else {
        "ALTER TABLE batches DISABLE TRIGGER dataset_source_batches"
    };
    add_batch(database, "", "b1").await;
    publish_all(&store, "jobs", BATCHES).await;
    database.run(away).await.unwrap();
    assert_eq!(stand(&store, "jobs", BATCHES).await, SourceStand::Unwatched);
    remove_batch(database, "b1").await;
    watch(&store, "jobs", BATCHES).await;
    add_batch(database, "", "b2").await;
    publish_all(&store, "jobs", BATCHES).await;
    assert_eq!(keys(&contents, "jobs").await, ["l//b2"]);
}

async fn a_head_is_bounded_by_bytes_and_a_large_row_goes_alone(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 100, 1 << 20);
    let bytes = 64 * 1024;
    watch(&store, "jobs", BATCHES).await;
    let large = format!("[\"{}\"]", "x".repeat(3 * bytes));
    for n in 0..100 {
        add_batch(database, "", &format!("b{n:02}")).await;
    }
    let half = format!("[\"{}\"]", "x".repeat(bytes / 2));
    for (batches, text) in [("('b10', 'b11')", &large), ("('b20', 'b21')", &half)] {
        let sql = format!(
            "UPDATE batches SET invalid_transactions = '{text}' WHERE batch_id IN {batches}"
        );
        database.run(&sql).await.unwrap();
    }
    let replication = ReplicationSettings {
        max_chunk: 50,
        max_chunk_bytes: bytes,
        ..ReplicationSettings::default()
    };
    let (history, jobs) = (HistorySettings::default(), name("jobs"));
    loop {
        let step = store.publish_source(&jobs, BATCHES, &history, &replication);
        if !step.await.unwrap().more {
            break;
        }
    }
    assert_eq!(keys(&contents, "jobs").await.len(), 100);
    assert_eq!(noted(database).await, 0);
    let over = format!(
        "SELECT count(*) AS value FROM dataset_changes WHERE changes > 50 \
         OR (bytes > {bytes} AND changes > 1)"
    );
    assert_eq!(database.number(&over).await, 0);
    let alone = format!(
        "SELECT count(*) AS value FROM dataset_changes WHERE bytes > {} AND changes = 1",
        3 * bytes
    );
    assert!(database.number(&alone).await >= 2);
    adds_up(database, &store).await;
}

async fn a_table_that_is_emptied_empties_its_dataset(database: &Database) {
    let store = open(database).await;
    let contents = contents(&store, 100, 1 << 20);
    add_site(database, "4711").await;
    watch(&store, "sites", SITES).await;
    publish_all(&store, "sites", SITES).await;
    let empty = if database.is_sqlite() {
        "DELETE FROM sites"
    } else {
        "TRUNCATE sites, poll_status"
    };
    database.run(empty).await.unwrap();
    add_site(database, "4712").await;
    publish_all(&store, "sites", SITES).await;
    let note = async || store.note_source(&name("sites"), SITES, 2).await.unwrap();
    while !note().await {}
    publish_all(&store, "sites", SITES).await;
    assert_eq!(keys(&contents, "sites").await, ["app/4712"]);
    assert_eq!(stand(&store, "sites", SITES).await, SourceStand::Whole);
}

async fn a_table_that_cannot_be_watched_yet_holds_up_no_other_and_no_reader(database: &Database) {
    open(database).await.close();
    add_batch(database, "", "b1").await;
    // An application that has written to it, and does not end its transaction:
    // PostgreSQL makes no trigger meanwhile. SQLite would write nothing at all.
    let mut held = None;
    if !database.is_sqlite() {
        let lock = "LOCK TABLE batches IN ROW EXCLUSIVE MODE";
        held = Some(database.hold(&["BEGIN", lock]).await);
    }
    let sections = "[[datasets]]\nname = \"jobs\"\nsource = \"batches\"\n\
        [[datasets]]\nname = \"sites\"\nsource = \"sites\"\n";
    let node = Node::new(database, "publisher", sections);
    let server = node.serve().await;
    let len = async |server: &ServerProcess, dataset: &str| {
        let (_, info) = get(server, &format!("/v1/datasets/{dataset}/info")).await;
        info["len"].as_i64()
    };
    add_site(database, "4711").await;
    eventually(PATIENCE, "the site is published", async || {
        len(&server, "sites").await == Some(1)
    })
    .await;
    if let Some(held) = held {
        assert_eq!(len(&server, "jobs").await, Some(0));
        held.release("COMMIT").await;
    }
    eventually(PATIENCE, "the batch is published", async || {
        len(&server, "jobs").await == Some(1)
    })
    .await;
    server.terminate().await;
}
