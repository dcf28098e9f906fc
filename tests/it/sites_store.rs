//! What the site flow reads and writes, on both databases: what is due, how
//! sites enter, how due times are corrected, what visits change.

mod outcomes;
mod steps;

use crate::support::{Database, on_both_databases};
use highwater::config::{self, LoadOptions};
use highwater::flows::sites::{AppName, JobKey, RetryPolicy, Standing};
use highwater::store::{ClockReading, DueSite, JobRange, LeaseStake, Store};
use highwater::time::Timestamp;
use std::path::Path;
use std::time::Duration;

on_both_databases!(
    what_is_due_by_policy_is_what_the_standing_says,
    what_is_due_is_read_page_by_page_in_order,
    new_sites_enter_once_and_spaced,
    due_times_are_corrected_by_the_policy,
    overdue_sites_are_spaced_in_their_order_and_put_off_only_later,
    apps_and_jobs_are_found_by_name_whatever_became_of_their_sites,
);

/// The lease of [`range`].
const LEASE: &str = "sites:org.a/sync:2500-4999";

const NOW: Timestamp = Timestamp::from_millis(1_795_245_931_007);

async fn open(database: &Database) -> Store {
    let text = database.section("sites");
    let base = Path::new("/");
    let loaded = config::parse(&text, "t.toml", base, [], LoadOptions::default()).unwrap();
    Store::open(&loaded.settings.database).await.unwrap()
}

fn job() -> JobKey {
    JobKey::new(AppName::parse("org.a").unwrap(), "sync").unwrap()
}

fn range() -> JobRange {
    JobRange {
        job: job(),
        codes: 2500..=4999,
    }
}

fn policy(text: &str) -> RetryPolicy {
    text.parse().unwrap()
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A site and its row.
#[derive(Clone, Debug)]
struct Row {
    code: u16,
    site_enabled: bool,
    level: u32,
    last: Option<Timestamp>,
    next: Option<Timestamp>,
    given_up: bool,
}

const ROW: Row = Row {
    code: 3000,
    site_enabled: true,
    level: 0,
    last: None,
    next: None,
    given_up: false,
};

fn text(at: Option<Timestamp>) -> String {
    at.map_or("NULL".to_owned(), |at| format!("'{}'", at.to_sql_text()))
}

/// Inserts rows, numbered from 1 on.
async fn insert(database: &Database, rows: &[Row]) {
    let mut sql = String::from("BEGIN;");
    for (number, row) in rows.iter().enumerate() {
        let (seq, enabled) = (number + 1, row.site_enabled);
        sql.push_str(&format!(
            "INSERT INTO sites (site_id, app_id, url, batch_code, enabled) VALUES \
             ('s{seq}', 'org.a', 'https://h{seq}.example', {}, {enabled}); \
             INSERT INTO poll_status (seq, site_id, job_name, level, app_id, batch_code, enabled, \
             last_run_at, next_due_at, given_up_at) VALUES \
             ({seq}, 's{seq}', 'sync', {}, 'org.a', {}, {enabled}, {}, {}, {});",
            row.code,
            row.level,
            row.code,
            text(row.last),
            text(row.next),
            text(row.given_up.then_some(NOW)),
        ));
    }
    sql.push_str("COMMIT;");
    database.run(&sql).await.unwrap();
}

/// `next_due_at` of all rows, in their order, in milliseconds from [`NOW`] on.
async fn dues(database: &Database) -> Vec<Option<i64>> {
    let sql = if database.is_sqlite() {
        "SELECT COALESCE(next_due_at, '') AS value FROM poll_status ORDER BY seq"
    } else {
        "SELECT COALESCE(to_char(next_due_at, 'YYYY-MM-DD HH24:MI:SS.MS'), '') AS value \
         FROM poll_status ORDER BY seq"
    };
    let rows = database.texts(sql).await;
    let read = |text: String| Timestamp::parse(&text).map(|at| at.millis() - NOW.millis());
    rows.into_iter().map(read).collect()
}

fn seqs(sites: &[DueSite]) -> Vec<i64> {
    sites.iter().map(|site| site.seq).collect()
}

async fn what_is_due_by_policy_is_what_the_standing_says(database: &Database) {
    let store = open(database).await;
    let policy = policy("20 min (x6); 1 hour (x24); 1 day (x30)");
    let mut rows = Vec::new();
    for _ in 0..600 {
        let level = rand::random_range(0..5);
        let period = policy.level(level as usize).period;
        let last = match rand::random_range(0..8) {
            0 => None,
            1 => Some(NOW.plus(secs(rand::random_range(0..5000)))),
            2 => Some(NOW.minus(secs(rand::random_range(0..200_000)))),
            // To the millisecond: a moment before, at and after the boundary.
            _ => {
                let aside = Duration::from_millis(rand::random_range(0..3));
                Some(
                    NOW.minus(period)
                        .plus(Duration::from_millis(1))
                        .minus(aside),
                )
            }
        };
        rows.push(Row {
            code: [2499, 2500, 3000, 4999, 5000][rand::random_range(0..5)],
            site_enabled: rand::random_range(0..6) > 0,
            level,
            last,
            next: Some(NOW),
            given_up: rand::random_range(0..6) == 0,
        });
    }
    insert(database, &rows).await;
    let is_due = |row: &Row| {
        let standing = Standing {
            level: row.level,
            count: 0,
            last_run_at: row.last,
            given_up_at: row.given_up.then_some(NOW),
        };
        row.site_enabled && range().codes.contains(&row.code) && standing.is_due(&policy, NOW)
    };
    let expected: Vec<i64> = (1_i64..)
        .zip(&rows)
        .filter(|(_, row)| is_due(row))
        .map(|(seq, _)| seq)
        .collect();
    assert!(expected.len() > 20);
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let range = range();
        let page = store
            .sites_due_by_policy(&range, &policy, NOW, after, 7)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        after = last.seq;
        found.extend(seqs(&page));
    }
    assert_eq!(found, expected);
}

async fn what_is_due_is_read_page_by_page_in_order(database: &Database) {
    let store = open(database).await;
    let row = |number: u64| Row {
        // Many at the same time.
        next: Some(NOW.minus(secs(60)).plus(secs(number % 70))),
        code: if number.is_multiple_of(9) { 7000 } else { 3000 },
        site_enabled: !number.is_multiple_of(11),
        ..ROW
    };
    let rows: Vec<Row> = (1..=400).map(row).collect();
    insert(database, &rows).await;
    let in_range = |row: &Row| row.site_enabled && row.code == 3000;
    let mut expected: Vec<(Timestamp, i64)> = (1..)
        .zip(&rows)
        .filter(|(_, row)| in_range(row))
        .map(|(seq, row)| (row.next.unwrap(), seq))
        .filter(|(at, _)| *at <= NOW)
        .collect();
    expected.sort_unstable();
    let (mut found, mut after) = (Vec::new(), (Timestamp::from_millis(0), i64::MIN));
    loop {
        let page = store.due_sites(&range(), NOW, after, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        after = (last.next_due_at.unwrap(), last.seq);
        found.extend(
            page.iter()
                .map(|site| (site.next_due_at.unwrap(), site.seq)),
        );
    }
    assert_eq!(found, expected);
    let next = store.next_site_due(&range(), NOW).await.unwrap();
    assert_eq!(next, Some(NOW.plus(secs(1))));
    let overdue = store.overdue_sites(&range(), NOW).await.unwrap();
    assert_eq!(overdue, expected.len() as u64);
}

async fn new_sites_enter_once_and_spaced(database: &Database) {
    let store = open(database).await;
    for number in 0..6 {
        let (code, app) = (
            if number == 2 { 100 } else { 4000 },
            if number == 3 { "org.b" } else { "org.a" },
        );
        let enabled = number != 4;
        let sql = format!(
            "INSERT INTO sites (site_id, app_id, url, batch_code, enabled) \
             VALUES ('s{number}', '{app}', 'https://x', {code}, {enabled})"
        );
        database.run(&sql).await.unwrap();
    }
    assert_eq!(store.new_sites(&range(), 0).await.unwrap(), 4);
    let stake = stake(&store, "me", LEASE).await;
    let step = Duration::from_micros(12_500);
    let enter = async |after| {
        store
            .initialise_sites(&range(), &stake, after, NOW, step)
            .await
            .unwrap()
    };
    assert_eq!(enter(5).await, 1, "behind row 5");
    assert_eq!(enter(0).await, 3);
    assert_eq!(enter(0).await, 0, "each once");
    let found: Vec<i64> = dues(database).await.into_iter().flatten().collect();
    assert_eq!(found[..2], [0, 0]);
    assert!((12..=13).contains(&found[2]) && found[3] == 25, "{found:?}");
    let off = "SELECT site_id AS value FROM poll_status WHERE NOT enabled";
    assert_eq!(database.texts(off).await, ["s4"]);
    assert_eq!(store.new_sites(&range(), 0).await.unwrap(), 0);
}

async fn due_times_are_corrected_by_the_policy(database: &Database) {
    let store = open(database).await;
    let ago = |seconds| Some(NOW.minus(secs(seconds)));
    let ahead = |seconds| Some(NOW.plus(secs(seconds)));
    let rows = [
        // Shortened: due at 100 s after the visit now.
        Row {
            last: ago(50),
            next: ahead(500),
            ..ROW
        },
        // Within the delay that a server may add.
        Row {
            last: ago(50),
            next: ahead(55),
            ..ROW
        },
        Row {
            last: ago(50),
            next: Some(NOW.plus(Duration::from_millis(55_001))),
            ..ROW
        },
        // Lengthened: found when it comes up.
        Row {
            last: ago(50),
            next: ahead(1),
            ..ROW
        },
        // A level that is no more stands at the last (1000 s).
        Row {
            level: 7,
            last: ago(50),
            next: ahead(9_000),
            ..ROW
        },
        Row {
            level: 1,
            last: ago(50),
            next: None,
            ..ROW
        },
        // The clock was set back.
        Row {
            last: ahead(9_000),
            next: ahead(9_100),
            ..ROW
        },
        Row {
            next: ahead(9_000),
            ..ROW
        },
        Row {
            next: ahead(5),
            ..ROW
        },
        // Not ours to correct.
        Row {
            code: 5000,
            last: ago(50),
            next: ahead(500),
            ..ROW
        },
        Row {
            last: ago(50),
            given_up: true,
            ..ROW
        },
    ];
    insert(database, &rows).await;
    let policy = policy("100 sec (x2); 1000 sec (x2)");
    let stake = stake(&store, "me", LEASE).await;
    let correct = async || {
        store
            .correct_due_times(
                &range(),
                &stake,
                &policy,
                0.05,
                ClockReading::just_read(NOW),
            )
            .await
            .unwrap()
    };
    correct().await;
    let seconds: Vec<Option<i64>> = dues(database).await;
    let expected = [
        Some(50),
        Some(55),
        Some(50),
        Some(1),
        Some(950),
        Some(950),
        Some(100),
        Some(0),
        Some(5),
        Some(500),
        None,
    ];
    assert_eq!(seconds, expected.map(|at| at.map(|at| at * 1000)));
    assert_eq!(correct().await, 0);
}

async fn overdue_sites_are_spaced_in_their_order_and_put_off_only_later(database: &Database) {
    let store = open(database).await;
    let at = |seconds| Some(NOW.minus(secs(seconds)));
    let rows = [
        Row {
            next: at(10),
            ..ROW
        },
        Row {
            next: at(30),
            ..ROW
        },
        Row {
            next: at(20),
            ..ROW
        },
        Row {
            next: at(20),
            code: 1,
            ..ROW
        },
        Row {
            next: Some(NOW.plus(secs(5))),
            ..ROW
        },
        Row {
            given_up: true,
            ..ROW
        },
    ];
    insert(database, &rows).await;
    let stake = stake(&store, "me", LEASE).await;
    let spaced = store
        .space_overdue_sites(&range(), &stake, NOW, secs(1))
        .await
        .unwrap();
    assert_eq!(spaced, 3);
    let after = [
        Some(2_000),
        Some(0),
        Some(1_000),
        Some(-20_000),
        Some(5_000),
        None,
    ];
    assert_eq!(dues(database).await, after);
    let off = vec![
        (1, NOW.plus(secs(9))),
        (5, NOW.plus(secs(1))),
        (6, NOW),
        (77, NOW),
    ];
    assert_eq!(store.put_sites_off(off).await.unwrap(), 1);
    let after = [
        Some(9_000),
        Some(0),
        Some(1_000),
        Some(-20_000),
        Some(5_000),
        None,
    ];
    assert_eq!(dues(database).await, after);
}

async fn stake(store: &Store, holder: &str, name: &str) -> LeaseStake {
    let names = [name.to_owned()];
    let held = store.hold_leases(holder, &names, secs(600), false).await;
    held.unwrap().remove(0)
}

async fn apps_and_jobs_are_found_by_name_whatever_became_of_their_sites(database: &Database) {
    let store = open(database).await;
    let due = text(Some(NOW));
    for (number, (app, job, enabled, due)) in [
        ("a", "sync", true, &*due),
        ("a", "sync", true, &*due),
        ("a", "info", false, &*due),
        ("b", "given-up", true, "NULL"),
        ("b", "sync", false, "NULL"),
        ("d", "sync", true, &*due),
    ]
    .into_iter()
    .enumerate()
    {
        let sql = format!(
            "INSERT INTO sites (site_id, app_id, url, batch_code, enabled) \
             VALUES ('s{number}', '{app}', 'https://x', 1, {enabled}); \
             INSERT INTO poll_status (site_id, job_name, app_id, batch_code, enabled, next_due_at) \
             VALUES ('s{number}', '{job}', '{app}', 1, {enabled}, {due});"
        );
        database.run(&sql).await.unwrap();
    }
    let other =
        "INSERT INTO sites (site_id, app_id, url, batch_code) VALUES ('x', 'c', 'https://x', 1)";
    database.run(other).await.unwrap();

    for (app, job, has) in [
        ("a", "sync", true),
        ("a", "info", true),
        ("b", "given-up", true),
        ("b", "sync", true),
        ("b", "info", false),
        ("c", "sync", false),
    ] {
        assert_eq!(store.has_job(app, job).await.unwrap(), has, "{app}/{job}");
    }
    let having = async |job| -> Vec<String> {
        let apps = store.apps_having_job(job).await.unwrap();
        apps.into_iter().collect()
    };
    assert_eq!(having("sync").await, ["a", "b", "d"]);
    assert_eq!(having("given-up").await, ["b"]);
    assert_eq!(having("x").await, [""; 0]);
    let jobs = async |app, most| -> Vec<String> {
        let jobs = store.first_jobs(app, most).await.unwrap();
        jobs.into_iter()
            .map(|(app, job)| format!("{app}/{job}"))
            .collect()
    };
    let all = ["a/info", "a/sync", "b/given-up", "b/sync", "d/sync"];
    assert_eq!(jobs(None, 21).await, all);
    assert_eq!(jobs(None, 3).await, all[..3]);
    assert_eq!(jobs(Some("b"), 21).await, all[2..4]);
    assert_eq!(jobs(Some("c"), 21).await, [""; 0]);
    assert_eq!(store.first_apps(21).await.unwrap(), ["a", "b", "c", "d"]);
    assert_eq!(store.first_apps(2).await.unwrap(), ["a", "b"]);
}
