//! What visits change, and what a server that lost its lease cannot change.

use super::{LEASE, NOW, ROW, insert, job, open, secs, stake};
use crate::support::{Database, on_both_databases};
use highwater::flows::sites::ENTRY;
use highwater::store::{ChangeGroup, LeaseStake, SiteChange, Store};
use std::sync::Arc;

on_both_databases!(
    outcomes_are_written_and_what_is_kept_is_bounded,
    outcomes_are_counted_right_by_two_at_once,
    a_fenced_group_writes_nothing,
    an_outcome_that_is_written_again_is_counted_once,
);

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
