//! What is counted of jobs: each site once, by how it stands; what is due;
//! outcomes over time; who holds shards.

use crate::support::{Database, on_both_databases};
use highwater::config::{self, LoadOptions};
use highwater::flows::sites::{AppName, JobKey};
use highwater::store::{OutcomeBucket, Outcomes, Store, outcomes_within};
use highwater::time::Timestamp;
use std::path::Path;
use std::time::Duration;

on_both_databases!(
    each_site_is_counted_once_by_how_it_stands,
    outcomes_are_of_one_job_and_one_day,
    leases_that_expired_are_nobodys,
    the_longest_pause_of_a_host_counts_until_it_is_over,
);

async fn open(database: &Database) -> Store {
    let text = database.section("reader");
    let base = Path::new("/");
    let loaded = config::parse(&text, "t.toml", base, [], LoadOptions::default()).unwrap();
    Store::open(&loaded.settings.database).await.unwrap()
}

fn job(name: &str) -> JobKey {
    JobKey::new(AppName::parse("org.example.app").unwrap(), name).unwrap()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// A row of `poll_status` of job `sync`; `rest` is when it was visited, when it is
/// due, the outcome, and when it was given up.
fn status(site: &str, level: u32, enabled: bool, rest: [Option<&str>; 4]) -> String {
    let [run, due, outcome, given_up] =
        rest.map(|text| text.map_or("NULL".to_owned(), |text| format!("'{text}'")));
    format!(
        "INSERT INTO poll_status (site_id, job_name, level, app_id, batch_code, enabled, \
         last_run_at, next_due_at, last_outcome, given_up_at) VALUES \
         ('{site}', 'sync', {level}, 'org.example.app', 1, {enabled}, {run}, {due}, {outcome}, {given_up});"
    )
}

async fn each_site_is_counted_once_by_how_it_stands(database: &Database) {
    let store = open(database).await;
    let now = Timestamp::now();
    let ago = |minutes_ago| now.minus(minutes(minutes_ago)).to_sql_text();
    let (past, long_past, ahead) = (ago(5), ago(90), now.plus(minutes(5)).to_sql_text());
    let mut sql = String::new();
    for (site, enabled) in [
        ("well", true),
        ("late", true),
        ("failing", true),
        ("gone", true),
        ("read", true),
        ("new", true),
        ("off", false),
        ("off-new", false),
    ] {
        sql.push_str(&format!(
            "INSERT INTO sites (site_id, app_id, url, enabled) VALUES \
             ('{site}', 'org.example.app', 'https://{site}.example', {enabled});"
        ));
    }
    sql.push_str("INSERT INTO sites (site_id, app_id, url) VALUES ('other', 'org.example.other', 'https://o.example');");
    let run = Some(long_past.as_str());
    let (due, later) = (Some(past.as_str()), Some(ahead.as_str()));
    for row in [
        status("well", 0, true, [run, later, Some("success"), None]),
        status("late", 0, true, [run, run, Some("success"), None]),
        status("failing", 1, true, [run, due, Some("failure"), None]),
        status("gone", 2, true, [run, None, Some("failure"), due]),
        status("read", 0, true, [None, due, None, None]),
        status("off", 1, false, [run, due, Some("failure"), None]),
    ] {
        sql.push_str(&row);
    }
    database.run(&sql).await.unwrap();

    let jobs = store
        .summarize_jobs(&[job("sync"), job("info")], now)
        .await
        .unwrap();
    let of = |name: &str| &jobs[&("org.example.app".to_owned(), name.to_owned())];
    let sync = of("sync");
    assert_eq!((sync.enabled, sync.disabled), (6, 2));
    assert_eq!((sync.well, sync.failing, sync.given_up), (2, 1, 1));
    assert_eq!(sync.never_visited, 2, "read and not visited; not read yet");
    assert_eq!(
        sync.well + sync.failing + sync.given_up + sync.never_visited,
        sync.enabled
    );
    assert_eq!(sync.levels, [(0, 2), (1, 1)].into());
    assert_eq!(sync.due, 3);
    assert_eq!(sync.oldest_due_at, Timestamp::parse(&long_past));
    let info = of("info");
    assert_eq!((info.enabled, info.never_visited, info.due), (6, 6, 0));
    assert_eq!(jobs.len(), 2);
}

async fn outcomes_are_of_one_job_and_one_day(database: &Database) {
    let store = open(database).await;
    let now = Timestamp::now();
    let at = |minutes_ago| now.minus(minutes(minutes_ago));
    for (name, minutes_ago, good, bad) in [
        ("sync", 1441, 500, 500),
        ("sync", 1400, 10, 1),
        ("sync", 30, 20, 2),
        ("sync", 5, 40, 4),
        ("info", 5, 1000, 1000),
    ] {
        let at = at(minutes_ago).to_sql_text();
        let sql = format!(
            "INSERT INTO job_outcomes (app_id, job_name, bucket_at, successes, failures) \
             VALUES ('org.example.app', '{name}', '{at}', {good}, {bad})"
        );
        database.run(&sql).await.unwrap();
    }
    let found = store.job_outcomes(&job("sync"), now).await.unwrap();
    let oldest = OutcomeBucket {
        bucket_at: at(1400),
        successes: 10,
        failures: 1,
    };
    assert_eq!((found.len(), found[0]), (3, oldest));
    let hour = outcomes_within(&found, minutes(60), now);
    let expected = Outcomes {
        successes: 60,
        failures: 6,
    };
    assert_eq!(hour, expected);
    assert_eq!(outcomes_within(&found, minutes(1440), now).failures, 7);
}

async fn leases_that_expired_are_nobodys(database: &Database) {
    let store = open(database).await;
    let names = ["sites:org.example.app/sync:0-4999", "ledger:trace"].map(str::to_owned);
    let long = Duration::from_secs(600);
    store.hold_leases("one", &names, long, false).await.unwrap();
    let second = ["sites:org.example.app/sync:5000-10000".to_owned()];
    store
        .hold_leases("two", &second, Duration::ZERO, false)
        .await
        .unwrap();
    let leases = store.job_leases().await.unwrap();
    let held: Vec<_> = leases.iter().map(|l| (&*l.name, &*l.holder)).collect();
    assert_eq!(held, [(names[0].as_str(), "one")]);
    store.release_leases("one", &names).await.unwrap();
    assert!(store.job_leases().await.unwrap().is_empty());
}

async fn the_longest_pause_of_a_host_counts_until_it_is_over(database: &Database) {
    let store = open(database).await;
    let now = Timestamp::from_millis(1_795_245_931_007);
    for (host, after) in [("a.example", 1), ("a.example:443", 3), ("b.example", 9)] {
        let until = now.plus(minutes(after)).to_sql_text();
        let sql = format!("INSERT INTO host_pauses (host, until_at) VALUES ('{host}', '{until}')");
        database.run(&sql).await.unwrap();
    }
    let hosts = ["a.example", "a.example:443"].map(str::to_owned);
    let until = |at| store.paused_until(&hosts, at);
    assert_eq!(until(now).await.unwrap(), Some(now.plus(minutes(3))));
    assert_eq!(until(now.plus(minutes(3))).await.unwrap(), None);
}
