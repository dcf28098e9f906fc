//! Corrections of many rows, in steps, and what is kept of pauses.

use super::{LEASE, NOW, ROW, Row, dues, insert, open, policy, range, secs, stake};
use crate::support::{Database, on_both_databases};
use highwater::flows::sites::AppName;
use highwater::store::{ClockReading, MOST_IN_A_STEP, MOST_PAUSES, NewSite, StoreError};
use highwater::time::Timestamp;
use std::time::{Duration, Instant};

on_both_databases!(
    corrections_are_done_in_steps_and_begun_again_after_one_that_failed,
    new_and_overdue_sites_are_spaced_over_several_steps,
    nothing_is_corrected_under_a_lost_lease,
    visits_that_began_since_the_clock_was_read_do_not_lie_ahead,
    pauses_of_hosts_are_bounded,
    a_site_given_twice_by_a_call_is_none_that_was_known_before,
);

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
            .correct_due_times(&range, &stake, policy, 0.05, ClockReading::just_read(NOW))
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
        let clock = ClockReading::just_read(NOW);
        let corrected = store.correct_due_times(&range, &old, &policy, 0.05, clock);
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

async fn visits_that_began_since_the_clock_was_read_do_not_lie_ahead(database: &Database) {
    let store = open(database).await;
    let ahead = |seconds| Some(NOW.plus(secs(seconds)));
    let visited = |seconds| Row {
        last: ahead(seconds),
        next: ahead(seconds + 100),
        ..ROW
    };
    // Visited after the clock was read and before the row is looked at; then
    // one that only a clock set back explains; then a new one, due meanwhile.
    let new = Row {
        next: ahead(500),
        ..ROW
    };
    insert(database, &[visited(5), visited(590), visited(9_000), new]).await;
    let stake = stake(&store, "me", LEASE).await;
    let policy = policy("100 sec (x2)");
    let begun = |ago| ClockReading {
        now: NOW,
        read: Instant::now().checked_sub(secs(ago)).unwrap(),
    };
    let correct = async |clock| {
        let (range, policy) = (range(), &policy);
        store
            .correct_due_times(&range, &stake, policy, 0.05, clock)
            .await
            .unwrap()
    };
    let seconds = async || -> Vec<i64> {
        let dues = dues(database).await.into_iter().flatten();
        dues.map(|at| at / 1000).collect()
    };
    assert_eq!(correct(begun(600)).await, 1);
    assert_eq!(seconds().await, [105, 690, 100, 500]);
    // Read just now, the same rows lie ahead.
    assert_eq!(correct(begun(0)).await, 3);
    // (The first is due within the delay that a server may add.)
    assert_eq!(seconds().await, [105, 100, 100, 0]);
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

/// More sites than one transaction takes in.
async fn a_site_given_twice_by_a_call_is_none_that_was_known_before(database: &Database) {
    let store = open(database).await;
    let site = |number: usize, enabled| NewSite {
        site_id: format!("s{number}"),
        app_id: AppName::parse("org.a").unwrap(),
        url: "https://h.example/".into(),
        batch_code: None,
        enabled: Some(enabled),
        labels: None,
    };
    let mut sites: Vec<NewSite> = (0..5_100).map(|number| site(number, true)).collect();
    sites.push(site(7, false));
    let taken = store.take_sites(sites).await.unwrap();
    assert_eq!((taken.added, taken.changed), (5_100, 1));
    assert!(taken.flags_kept.is_empty(), "{:?}", taken.flags_kept);
    let off = "SELECT site_id AS value FROM sites WHERE NOT enabled";
    assert_eq!(database.texts(off).await, ["s7"]);
    // Another call finds a site that is known.
    let again = store.take_sites(vec![site(7, true)]).await.unwrap();
    assert_eq!(again.flags_kept, [0]);
    assert_eq!(database.texts(off).await, ["s7"]);
}
