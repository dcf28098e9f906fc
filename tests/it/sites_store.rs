//! What the site flow reads and writes, on both databases: what is due, how
//! sites enter, how due times are corrected, what visits change.

use crate::support::{Database, on_both_databases};
use highwater::config::{self, LoadOptions};
use highwater::flows::sites::{AppName, ENTRY, JobKey, RetryPolicy, Standing};
use highwater::store::{
    ChangeGroup, DueSite, JobRange, LeaseStake, MOST_IN_A_STEP, MOST_PAUSES, SiteChange, Store,
    StoreError,
};
use highwater::time::Timestamp;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

on_both_databases!(
    what_is_due_by_policy_is_what_the_standing_says,
    what_is_due_is_read_page_by_page_in_order,
    new_sites_enter_once_and_spaced,
    due_times_are_corrected_by_the_policy,
    overdue_sites_are_spaced_in_their_order_and_put_off_only_later,
    outcomes_are_written_and_what_is_kept_is_bounded,
    outcomes_are_counted_right_by_two_at_once,
    a_fenced_group_writes_nothing,
    an_outcome_that_is_written_again_is_counted_once,
    corrections_are_done_in_steps_and_begun_again_after_one_that_failed,
    new_and_overdue_sites_are_spaced_over_several_steps,
    nothing_is_corrected_under_a_lost_lease,
    pauses_of_hosts_are_bounded,
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
            .correct_due_times(&range(), &stake, &policy, 0.05, NOW)
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

/// The outcome of visit number `visit` of a row.
fn change(seq: i64, visit: u64) -> SiteChange {
    SiteChange {
        seq,
        level: 1,
        count: 2,
        last_run_at: Some(NOW.plus(secs(visit))),
        next_due_at: Some(NOW.plus(secs(visit + 100))),
        given_up_at: None,
        last_outcome: "success",
        last_error: None,
        last_duration_ms: 12,
        log: format!("{visit:0ENTRY$}"),
        job: job(),
        document: None,
        pause: None,
        keep: 3,
    }
}

async fn apply(store: &Store, stake: &LeaseStake, changes: Vec<SiteChange>) -> Vec<usize> {
    let group = ChangeGroup {
        stake: stake.clone(),
        changes: changes.into(),
    };
    store.apply_changes("me", vec![group]).await.unwrap().fenced
}

async fn outcomes_are_written_and_what_is_kept_is_bounded(database: &Database) {
    let store = open(database).await;
    insert(database, &[ROW, ROW]).await;
    let stake = stake(&store, "me", "sites:org.a/sync:0-10000").await;
    let documents = ["1", "1", "2", "2", "3", "1", "4"];
    for (visit, document) in (1..).zip(documents) {
        let host: Arc<str> = "h.example".into();
        let mut learned = change(1, visit);
        learned.document = Some(document.to_owned());
        learned.pause = Some((host, NOW.plus(secs(100 - visit))));
        let mut other = change(2, visit);
        other.last_outcome = "failure";
        other.last_error = Some("it's \"no\"".into());
        other.given_up_at = Some(NOW);
        other.next_due_at = None;
        let both = vec![learned, other];
        assert!(apply(&store, &stake, both).await.is_empty());
    }
    let columns = "SELECT level || ' ' || count || ' ' || COALESCE(last_outcome, '') || ' ' || \
        COALESCE(last_error, '') || ' ' || last_duration_ms || ' ' || (next_due_at IS NULL) || ' ' || \
        (given_up_at IS NULL) AS value FROM poll_status ORDER BY seq";
    let (yes, no) = if database.is_sqlite() {
        ("1", "0")
    } else {
        ("true", "false")
    };
    let expected = [
        format!("1 2 success  12 {no} {yes}"),
        format!("1 2 failure it's \"no\" 12 {yes} {no}"),
    ];
    assert_eq!(database.texts(columns).await, expected);
    let expected: String = [5, 6, 7].map(|visit| change(1, visit).log).concat();
    let log = "SELECT poll_log AS value FROM poll_status WHERE seq = 1";
    assert_eq!(database.texts(log).await, [expected.as_str()]);
    // Written again, since nobody knew whether it was.
    apply(&store, &stake, vec![change(1, 7)]).await;
    assert_eq!(database.texts(log).await, [expected]);
    let kept = "SELECT document AS value FROM poll_results ORDER BY run_at";
    assert_eq!(
        database.texts(kept).await,
        ["3", "1", "4"],
        "changed ones, the newest three"
    );
    let pauses = store.host_pauses(NOW).await.unwrap();
    assert_eq!(pauses, [("h.example".to_owned(), NOW.plus(secs(99)))]);
    let counts = "SELECT sum(successes) || ' ' || sum(failures) AS value FROM job_outcomes";
    assert_eq!(database.texts(counts).await, ["7 7"]);
}

async fn outcomes_are_counted_right_by_two_at_once(database: &Database) {
    let store = open(database).await;
    insert(database, &[ROW, ROW]).await;
    let stakes = [
        stake(&store, "me", "sites:org.a/sync:0-4999").await,
        stake(&store, "me", "sites:org.a/sync:5000-10000").await,
    ];
    let writing = [(1, 0), (2, 1)].map(|(seq, which): (i64, usize)| {
        let (store, stake) = (store.clone(), stakes[which].clone());
        tokio::spawn(async move {
            for visit in 1..=40 {
                let mut change = change(seq, visit);
                change.pause = Some(("h".into(), NOW.plus(secs(9))));
                apply(&store, &stake, vec![change]).await;
            }
        })
    });
    for task in writing {
        task.await.unwrap();
    }
    let counts = "SELECT CAST(sum(successes) AS BIGINT) AS value FROM job_outcomes";
    assert_eq!(database.number(counts).await, 80);
}

async fn a_fenced_group_writes_nothing(database: &Database) {
    let store = open(database).await;
    insert(database, &[ROW, ROW]).await;
    let good = stake(&store, "me", "sites:org.a/sync:0-4999").await;
    let old = LeaseStake {
        epoch: good.epoch - 1,
        ..good.clone()
    };
    let mut lost = change(1, 1);
    lost.document = Some("1".into());
    lost.pause = Some(("h".into(), NOW.plus(secs(9))));
    let group = |stake: &LeaseStake, change: SiteChange| ChangeGroup {
        stake: stake.clone(),
        changes: [change].into(),
    };
    let groups = vec![group(&old, lost), group(&good, change(2, 1))];
    let applied = store.apply_changes("me", groups).await.unwrap();
    assert_eq!((applied.fenced, applied.changed), (vec![0], 1));
    let number = async |sql: &str| {
        database
            .number(&format!("SELECT count(*) AS value FROM {sql}"))
            .await
    };
    assert_eq!(
        number("poll_status WHERE last_run_at IS NOT NULL AND seq = 2").await,
        1
    );
    assert_eq!(number("poll_status WHERE last_run_at IS NOT NULL").await, 1);
    assert_eq!(
        number("poll_results").await + number("host_pauses").await,
        0
    );
    assert_eq!(number("job_outcomes WHERE successes = 1").await, 1);
}

async fn an_outcome_that_is_written_again_is_counted_once(database: &Database) {
    let store = open(database).await;
    insert(database, &[ROW, ROW]).await;
    let stake = stake(&store, "me", LEASE).await;
    let counts = "SELECT sum(successes) || ' ' || sum(failures) AS value FROM job_outcomes";
    let fails = |seq, visit| SiteChange {
        last_outcome: "failure",
        ..change(seq, visit)
    };
    apply(&store, &stake, vec![change(1, 1), fails(2, 1)]).await;
    assert_eq!(database.texts(counts).await, ["1 1"]);
    // A commit whose answer was lost, as a whole and one by one.
    apply(&store, &stake, vec![change(1, 1), fails(2, 1)]).await;
    apply(&store, &stake, vec![change(1, 1)]).await;
    apply(&store, &stake, vec![fails(2, 1)]).await;
    assert_eq!(database.texts(counts).await, ["1 1"]);
    // With others that are new, and of a row that is gone.
    let group = vec![change(1, 1), fails(2, 2), change(77, 2)];
    apply(&store, &stake, group).await;
    assert_eq!(database.texts(counts).await, ["1 2"]);
}

/// More than two steps.
const MANY: i64 = MOST_IN_A_STEP * 2 + 500;

fn sql_time(database: &Database, at: Timestamp) -> String {
    let of = if database.is_sqlite() {
        "TEXT"
    } else {
        "TIMESTAMP"
    };
    format!("CAST('{}' AS {of})", at.to_sql_text())
}

/// Inserts many sites, numbered from `from` on.
async fn insert_many(database: &Database, from: i64) {
    let to = from + MANY - 1;
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to}) \
         INSERT INTO sites (seq, site_id, app_id, url, batch_code) \
         SELECT i, 's' || i, 'org.a', 'https://h.example/' || i, 3000 FROM n"
    );
    database.run(&sql).await.unwrap();
}

/// Inserts many sites and their rows: visited 50 seconds ago, due in 500.
async fn insert_many_wrong(database: &Database) {
    insert_many(database, 1).await;
    let (last, next) = (NOW.minus(secs(50)), NOW.plus(secs(500)));
    let sql = format!(
        "INSERT INTO poll_status (seq, site_id, job_name, app_id, batch_code, enabled, last_run_at, \
         next_due_at) SELECT seq, site_id, 'sync', app_id, batch_code, enabled, {}, {} FROM sites",
        sql_time(database, last),
        sql_time(database, next),
    );
    database.run(&sql).await.unwrap();
}

async fn corrections_are_done_in_steps_and_begun_again_after_one_that_failed(database: &Database) {
    let store = open(database).await;
    insert_many_wrong(database).await;
    let stake = stake(&store, "me", LEASE).await;
    let policy = policy("100 sec (x2)");
    let correct = async || {
        let (range, policy) = (range(), &policy);
        store
            .correct_due_times(&range, &stake, policy, 0.05, NOW)
            .await
    };
    // The second step fails.
    let (refuse, allow) = if database.is_sqlite() {
        (
            "CREATE TRIGGER refuse BEFORE UPDATE ON poll_status WHEN NEW.seq = 3000 \
             BEGIN SELECT RAISE(ABORT, 'as asked'); END",
            "DROP TRIGGER refuse",
        )
    } else {
        (
            "ALTER TABLE poll_status ADD CONSTRAINT refuse CHECK (seq <> 3000) NOT VALID",
            "ALTER TABLE poll_status DROP CONSTRAINT refuse",
        )
    };
    database.run(refuse).await.unwrap();
    correct().await.unwrap_err();
    let right = |dues: &[Option<i64>]| dues.iter().filter(|due| **due == Some(50_000)).count();
    let step = usize::try_from(MOST_IN_A_STEP).unwrap();
    let many = usize::try_from(MANY).unwrap();
    assert_eq!(right(&dues(database).await), step, "the first step stays");
    database.run(allow).await.unwrap();
    assert_eq!(correct().await.unwrap(), many - step);
    assert_eq!(right(&dues(database).await), many);
    assert_eq!(correct().await.unwrap(), 0);
}

async fn new_and_overdue_sites_are_spaced_over_several_steps(database: &Database) {
    let store = open(database).await;
    let stake = stake(&store, "me", LEASE).await;
    insert_many(database, 1).await;
    let (range, step) = (range(), Duration::from_millis(1));
    let enter = async || {
        store
            .initialise_sites(&range, &stake, 0, NOW, step)
            .await
            .unwrap()
    };
    assert_eq!(enter().await, usize::try_from(MANY).unwrap());
    assert_eq!(enter().await, 0);
    let each: Vec<Option<i64>> = (0..MANY).map(Some).collect();
    assert_eq!(dues(database).await, each);

    let later = NOW.plus(secs(100));
    let spaced = store
        .space_overdue_sites(&range, &stake, later, step)
        .await
        .unwrap();
    assert_eq!(spaced, usize::try_from(MANY).unwrap());
    let each: Vec<Option<i64>> = (0..MANY).map(|n| Some(100_000 + n)).collect();
    assert_eq!(dues(database).await, each);
}

async fn nothing_is_corrected_under_a_lost_lease(database: &Database) {
    let store = open(database).await;
    insert_many_wrong(database).await;
    insert_many(database, MANY + 1).await;
    database
        .run(
            "UPDATE sites SET enabled = FALSE WHERE seq = 1; \
             UPDATE poll_status SET enabled = TRUE WHERE seq = 1",
        )
        .await
        .unwrap();
    let before = dues(database).await;
    let old = stake(&store, "me", LEASE).await;
    store.release_leases("me", &[LEASE.into()]).await.unwrap();
    let (range, policy) = (range(), policy("100 sec (x2)"));
    for taken_over in [false, true] {
        if taken_over {
            stake(&store, "other", LEASE).await;
        }
        let corrected = store.correct_due_times(&range, &old, &policy, 0.05, NOW);
        let lost =
            |error: StoreError| matches!(error, StoreError::LeaseLost(name) if name == LEASE);
        assert!(lost(corrected.await.unwrap_err()));
        let late = NOW.plus(secs(1000));
        let spaced = store.space_overdue_sites(&range, &old, late, secs(1));
        assert!(lost(spaced.await.unwrap_err()));
        let entered = store.initialise_sites(&range, &old, 0, NOW, secs(1));
        assert!(lost(entered.await.unwrap_err()));
        let mended = store.mend_standings(&range, &old);
        assert!(lost(mended.await.unwrap_err()));
    }
    assert_eq!(dues(database).await, before);
    let names = [LEASE.into()];
    store.release_leases("other", &names).await.unwrap();
    let new = stake(&store, "me", LEASE).await;
    assert_eq!(store.mend_standings(&range, &new).await.unwrap(), 1);
    let off = "SELECT count(*) AS value FROM poll_status WHERE NOT enabled";
    assert_eq!(database.number(off).await, 1);
}

async fn pauses_of_hosts_are_bounded(database: &Database) {
    let store = open(database).await;
    let pauses = [
        ("short", MOST_PAUSES, NOW.plus(secs(60))),
        ("long", 700, NOW.plus(secs(9_000))),
        ("over", 3, NOW),
    ];
    for (name, count, until) in pauses {
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             INSERT INTO host_pauses (host, until_at) SELECT '{name}' || i, {} FROM n",
            sql_time(database, until),
        );
        database.run(&sql).await.unwrap();
    }
    let read = store.host_pauses(NOW).await.unwrap();
    assert_eq!(read.len(), MOST_PAUSES as usize);
    assert!(read.iter().all(|(host, _)| host.starts_with("short")));
    let prune = async || store.prune_sites(NOW, NOW, 500).await.unwrap();
    assert_eq!([prune().await, prune().await, prune().await], [503, 200, 0]);
    assert_eq!(store.host_pauses(NOW).await.unwrap(), read);
}
