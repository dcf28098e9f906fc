//! Events that arrived one after another and become the same are marked as one
//! range; what comes of it is what came of marking each, on both databases.

use crate::events_store::{counts, heard, hold, mark, open, record};
use crate::support::{Database, on_both_databases};
use highwater::flows::events::{Decision, EventChange, OpenEvent};
use highwater::time::Timestamp;

on_both_databases!(
    a_run_is_marked_and_counted_as_each_of_its_events_would_be,
    a_run_leaves_alone_what_lies_between_and_what_is_done_with,
);

const EVENTS: i64 = 120;

fn processed(events: &[OpenEvent], at: Timestamp) -> Vec<EventChange> {
    let processed = |event: &OpenEvent| EventChange::Processed {
        place: event.place,
        at,
        attempts: 1,
    };
    events.iter().map(processed).collect()
}

fn irrelevant(events: &[OpenEvent], at: Timestamp) -> Vec<EventChange> {
    let irrelevant = |event: &OpenEvent| EventChange::Decided {
        place: event.place,
        decision: Decision::Irrelevant,
        at,
        reason: Some("an operator passed it over".into()),
    };
    events.iter().map(irrelevant).collect()
}

async fn a_run_is_marked_and_counted_as_each_of_its_events_would_be(database: &Database) {
    let store = open(database).await;
    let stake = hold(&store, "claims").await;
    let all = (1..=EVENTS).map(|block| heard(block, "t", "0")).collect();
    let new = record(&store, "claims", all).await.new;
    let at = Timestamp::now();
    let (run, rest) = new.split_at(50);
    let (passed_over, open) = rest.split_at(30);
    let mut changes = processed(run, at);
    changes.extend(irrelevant(passed_over, at));
    changes.push(EventChange::Position(passed_over[29].place));
    // Nobody knows whether it was written, so it is written again.
    for _ in 0..2 {
        assert!(mark(&store, &stake, changes.clone()).await);
        let counts = counts(database, &store, "claims").await;
        let counts: Vec<_> = counts.iter().map(|(word, n)| (word.as_str(), *n)).collect();
        let expected = [
            ("irrelevant", 30),
            ("pending", 40),
            ("processed", 50),
            ("relevant", 50),
        ];
        assert_eq!(counts, expected);
    }
    let left = store.open_events("claims", None, 1000).await.unwrap();
    assert_eq!(left, open);
    let one = |arrival| store.event("claims", arrival);
    let row = one(50).await.unwrap().unwrap().row;
    assert_eq!((row.decision.as_str(), row.attempts), ("relevant", 1));
    assert_eq!((row.decided_at, row.processed_at), (Some(at), Some(at)));
    assert_eq!(row.last_error, None);
    let row = one(80).await.unwrap().unwrap().row;
    assert_eq!((row.decision.as_str(), row.attempts), ("irrelevant", 0));
    assert_eq!((row.decided_at, row.processed_at), (Some(at), None));
    assert_eq!(
        row.last_error.as_deref(),
        Some("an operator passed it over")
    );
}

async fn a_run_leaves_alone_what_lies_between_and_what_is_done_with(database: &Database) {
    let store = open(database).await;
    let stake = hold(&store, "claims").await;
    let all = (1..=EVENTS).map(|block| heard(block, "t", "0")).collect();
    let new = record(&store, "claims", all).await.new;
    let others = (1..=EVENTS).map(|block| heard(block, "t", "0")).collect();
    record(&store, "declarations", others).await;
    let (early, late) = (Timestamp::now(), Timestamp::from_millis(4_000_000_000_000));
    assert!(mark(&store, &stake, processed(&new[20..22], early)).await);
    // Not the one in the middle.
    let mut changes = processed(&new[..60], late);
    changes.extend(processed(&new[61..], late));
    assert!(mark(&store, &stake, changes).await);
    let marked = counts(database, &store, "claims").await;
    assert_eq!((marked["pending"], marked["processed"]), (1, EVENTS - 1));
    let left = store.open_events("claims", None, 1000).await.unwrap();
    assert_eq!(left, new[60..61]);
    let first = store.event("claims", new[20].place.arrival).await;
    let first = first.unwrap().unwrap().row;
    assert_eq!(first.processed_at, Some(early), "what is done stays");
    let others = counts(database, &store, "declarations").await;
    assert_eq!(others["pending"], EVENTS);
}
