//! What the event flow writes and reads, on both databases: which events are
//! known, in which order they come, what decisions and operators change.

use crate::support::{Database, on_both_databases};
use highwater::config::{self, LoadOptions};
use highwater::flows::events::{
    Checkpoint, Decision, EventChange, Heard, Known, OpenEvent, PageSize, Place, Recorded,
    SubscriptionName,
};
use highwater::store::{
    EventFilter, LeaseStake, MarkGroup, RecordGroup, Store, SubscriptionOrderError,
};
use highwater::time::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

on_both_databases!(
    an_event_is_known_by_its_identity_within_a_call_and_across,
    two_recorders_lose_nothing_and_arrivals_follow_commits,
    streams_without_blocks_get_local_numbers_by_transaction,
    what_belongs_before_the_position_is_late,
    marks_are_fenced_by_lease_and_by_orders,
    a_mark_that_is_written_twice_counts_once,
    a_halt_is_retried_or_skipped,
    a_pause_is_ordered_once_and_lifted_once,
    a_replay_opens_events_again_and_moves_the_position_back,
    events_are_judged_by_tables_and_by_the_operators_sql,
    pages_are_bounded_in_bytes,
    a_look_that_takes_too_long_keeps_what_it_found,
    what_is_known_is_told_once_and_forgotten,
    old_events_go_and_what_is_needed_stays,
    streams_without_blocks_keep_identities_for_ever,
    lists_go_page_by_page_and_by_what_is_asked,
);

const HOLDER: &str = "server-1";

pub(crate) async fn open(database: &Database) -> Store {
    let text = database.section("events");
    let base = Path::new("/");
    let loaded = config::parse(&text, "t.toml", base, [], LoadOptions::default()).unwrap();
    Store::open(&loaded.settings.database).await.unwrap()
}

pub(crate) fn name(text: &str) -> SubscriptionName {
    SubscriptionName::parse(text).unwrap()
}

pub(crate) fn heard(block: i64, tx_id: &str, event_id: &str) -> Heard {
    Heard {
        block: Some(block),
        tx_id: tx_id.to_owned(),
        event_id: event_id.to_owned(),
        event_name: "CHANGED".to_owned(),
        payload: format!(r#"{{"text":"é \"quoted\"","tx":"{tx_id}"}}"#),
        key: None,
        rank: 0,
        occurred_at: None,
    }
}

fn local(tx_id: &str, event_id: &str) -> Heard {
    Heard {
        block: None,
        ..heard(0, tx_id, event_id)
    }
}

pub(crate) fn group(subscription: &str, heard: Vec<Heard>) -> RecordGroup {
    RecordGroup {
        subscription: name(subscription),
        heard: heard.into_iter().map(|heard| (heard, false)).collect(),
        source_state: None,
    }
}

pub(crate) async fn record(store: &Store, subscription: &str, heard: Vec<Heard>) -> Recorded {
    let groups = vec![group(subscription, heard)];
    store.record_events(groups).await.unwrap().remove(0)
}

pub(crate) async fn hold(store: &Store, subscription: &str) -> LeaseStake {
    let names = [format!("events:{subscription}")];
    let long = Duration::from_secs(600);
    let held = store.hold_leases(HOLDER, &names, long, false).await;
    held.unwrap().remove(0)
}

/// Marks as the Subscriber that knows all orders.
pub(crate) async fn mark(store: &Store, stake: &LeaseStake, changes: Vec<EventChange>) -> bool {
    let subscription = stake.name.strip_prefix("events:").unwrap();
    let orders = store.checkpoint(subscription).await.unwrap().orders;
    let group = MarkGroup {
        subscription: name(subscription),
        stake: stake.clone(),
        orders,
        changes: changes.into(),
    };
    store.mark_events(HOLDER, vec![group]).await.unwrap()[0]
}

fn decided(place: Place, decision: Decision) -> EventChange {
    EventChange::Decided {
        place,
        decision,
        at: Timestamp::now(),
        reason: None,
    }
}

pub(crate) fn processed(place: Place) -> EventChange {
    EventChange::Processed {
        place,
        at: Timestamp::now(),
        attempts: 1,
    }
}

pub(crate) fn done(place: Place) -> [EventChange; 3] {
    [
        decided(place, Decision::Relevant),
        processed(place),
        EventChange::Position(place),
    ]
}

fn places(events: &[OpenEvent]) -> Vec<(i64, i64)> {
    let place = |event: &OpenEvent| (event.place.block, event.place.arrival);
    events.iter().map(place).collect()
}

async fn open_places(store: &Store, subscription: &str) -> Vec<(i64, i64)> {
    places(&store.open_events(subscription, None, 1000).await.unwrap())
}

/// Counts by decision as the summary has them, which are those of the table.
pub(crate) async fn counts(
    database: &Database,
    store: &Store,
    subscription: &str,
) -> BTreeMap<String, i64> {
    let mut summaries = store.subscriptions_summary().await.unwrap();
    summaries.retain(|summary| summary.name == subscription);
    let summary = summaries.remove(0);
    let of = format!("SELECT count(*) AS value FROM events WHERE subscription = '{subscription}'");
    for word in ["pending", "relevant", "irrelevant", "skipped"] {
        let rows = database
            .number(&format!("{of} AND decision = '{word}'"))
            .await;
        let count = summary.counts.get(word).copied().unwrap_or(0);
        assert_eq!(count, rows, "{word}: {summary:?}");
    }
    let rows = database
        .number(&format!("{of} AND processed_at IS NOT NULL"))
        .await;
    assert_eq!(summary.counts.get("processed").copied().unwrap_or(0), rows);
    let open = store.open_events(subscription, None, 1000).await.unwrap();
    assert_eq!(summary.open, i64::try_from(open.len()).unwrap());
    let oldest = open
        .first()
        .map(|event| (event.place.arrival, event.received_at));
    assert_eq!(summary.oldest_open, oldest);
    let mut counts = summary.counts;
    counts.retain(|_, count| *count != 0);
    counts
}

async fn an_event_is_known_by_its_identity_within_a_call_and_across(database: &Database) {
    let store = open(database).await;
    assert_eq!(
        store.checkpoint("claims").await.unwrap(),
        Checkpoint::default()
    );
    let full = Heard {
        key: Some("k".into()),
        rank: 7,
        occurred_at: Some(Timestamp::from_millis(1_795_245_931_007)),
        ..heard(5, "t1", "0")
    };
    let twice = vec![
        full.clone(),
        heard(5, "t1", "1"),
        full.clone(),
        heard(5, "", "0"),
        heard(6, "t1", "0"),
    ];
    let mut first = group("claims", twice);
    first.heard.push((heard(9, "t9", "0"), true));
    first.source_state = Some(r#"{"at":9}"#.into());
    let other = group("other", vec![full.clone()]);
    let again = group("claims", vec![heard(5, "t1", "1"), heard(3, "t3", "0")]);
    let recorded = store.record_events(vec![first, other, again]).await;
    let recorded = recorded.unwrap();
    assert_eq!((recorded[0].known, recorded[0].skipped), (1, 1));
    assert_eq!(
        places(&recorded[0].new),
        [(5, 1), (5, 2), (5, 3), (6, 4)],
        "{recorded:?}"
    );
    assert_eq!(places(&recorded[1].new), [(5, 1)]);
    assert_eq!(
        (recorded[2].known, places(&recorded[2].new)),
        (1, vec![(3, 6)])
    );
    let event = &recorded[0].new[0];
    assert_eq!(*event.payload, *full.payload);
    assert_eq!((&event.key, event.place.rank), (&full.key, 7));

    let checkpoint = store.checkpoint("claims").await.unwrap();
    assert_eq!(checkpoint.last_arrival, 6);
    assert_eq!(checkpoint.highest_block, Some(9));
    assert_eq!(checkpoint.second_block, Some(6));
    assert_eq!(checkpoint.last_event_at, Some(event.received_at));
    assert_eq!(checkpoint.source_state.as_deref(), Some(r#"{"at":9}"#));
    // What is read is what was answered, in order.
    let read = store.open_events("claims", None, 100).await.unwrap();
    let mut told: Vec<OpenEvent> = recorded[0].new.clone();
    told.extend(recorded[2].new.clone());
    told.sort_by_key(|event| event.place);
    assert_eq!(read, told);
    let behind = store.open_events("claims", Some(read[1].place), 2).await;
    assert_eq!(behind.unwrap(), told[2..4]);
    let since = store.recorded_since("claims", 4, 10).await.unwrap();
    assert_eq!(places(&since), [(3, 6)], "the skipped one is not open");

    // All of it once more, also the skipped one, changes nothing.
    let heard = vec![full, heard(9, "t9", "0"), heard(3, "t3", "0")];
    let known = record(&store, "claims", heard).await;
    assert_eq!((known.new.len(), known.known), (0, 3));
    assert_eq!(store.checkpoint("claims").await.unwrap(), checkpoint);
    let known = record(&store, "claims", vec![self::heard(10, "t", "0")]).await;
    assert!(known.new[0].place.arrival > 6);
    counts(database, &store, "claims").await;
}

async fn two_recorders_lose_nothing_and_arrivals_follow_commits(database: &Database) {
    let stores = [open(database).await, open(database).await];
    let reader = open(database).await;
    let recorders = stores.map(|store| {
        tokio::spawn(async move {
            let mut new = 0;
            for call in 0..40 {
                // Both hear the same, and each a little of its own.
                let own: u32 = rand::random();
                let mut groups = vec![
                    group(
                        "b",
                        vec![heard(call, "both", "0"), heard(call, &own.to_string(), "0")],
                    ),
                    group("a", vec![heard(call, "both", "0")]),
                ];
                if own.is_multiple_of(2) {
                    groups.reverse();
                }
                let recorded = store.record_events(groups).await.unwrap();
                new += recorded.iter().map(|of| of.new.len()).sum::<usize>();
            }
            new
        })
    });
    // Who looks for what is greater than all it has seen misses nothing.
    let (mut seen, mut found) = (0, 0);
    let mut ended = false;
    let mut recorders = Box::pin(futures_util::future::join_all(recorders));
    let mut new = 0;
    loop {
        let events = reader.recorded_since("b", seen, 1000).await.unwrap();
        found += events.len();
        seen = events.last().map_or(seen, |event| event.place.arrival);
        if ended {
            break;
        }
        let soon = tokio::time::timeout(Duration::from_millis(1), &mut recorders).await;
        if let Ok(ends) = soon {
            new = ends.into_iter().map(Result::unwrap).sum();
            ended = true;
        }
    }
    assert_eq!(found, 120);
    assert_eq!(new, 160);
    assert_eq!(counts(database, &reader, "b").await["pending"], 120);
}

async fn streams_without_blocks_get_local_numbers_by_transaction(database: &Database) {
    let store = open(database).await;
    let first = vec![local("t1", "a"), local("t2", "a"), local("t1", "b")];
    let recorded = record(&store, "claims", first).await;
    assert_eq!(places(&recorded.new), [(1, 1), (2, 2), (1, 3)]);
    let again = vec![
        local("t1", "a"),
        local("t3", "a"),
        local("t2", "b"),
        local("t3", "a"),
    ];
    let recorded = record(&store, "claims", again).await;
    assert_eq!(recorded.known, 2);
    assert_eq!(
        places(&recorded.new),
        [(3, 4), (2, 5)],
        "a transaction keeps its number"
    );
    let checkpoint = store.checkpoint("claims").await.unwrap();
    assert_eq!(
        (checkpoint.highest_block, checkpoint.second_block),
        (Some(3), Some(2))
    );
    let elsewhere = record(&store, "other", vec![local("t1", "a")]).await;
    assert_eq!(places(&elsewhere.new), [(1, 1)]);
}

async fn what_belongs_before_the_position_is_late(database: &Database) {
    let store = open(database).await;
    let stake = hold(&store, "claims").await;
    let ranked = |block, rank, id: &str| Heard {
        rank,
        ..heard(block, "t", id)
    };
    let recorded = record(
        &store,
        "claims",
        vec![heard(3, "t", "0"), ranked(5, 4, "4")],
    )
    .await;
    let position = recorded.new[1].place;
    assert!(mark(&store, &stake, vec![EventChange::Position(position)]).await);
    // Backwards it does not move.
    let back = EventChange::Position(recorded.new[0].place);
    assert!(mark(&store, &stake, vec![back]).await);
    let checkpoint = store.checkpoint("claims").await.unwrap();
    assert_eq!(checkpoint.position, Some(position));
    let more = vec![
        ranked(5, 3, "3"),
        ranked(5, 4, "4b"),
        ranked(5, 5, "5"),
        heard(4, "t", "0"),
        heard(6, "t", "0"),
    ];
    let recorded = record(&store, "claims", more).await;
    let late: Vec<bool> = recorded.new.iter().map(|event| event.late).collect();
    assert_eq!(late, [true, false, false, true, false]);
    let read = store.open_events("claims", None, 10).await.unwrap();
    assert_eq!(read.iter().filter(|event| event.late).count(), 2);
}

async fn marks_are_fenced_by_lease_and_by_orders(database: &Database) {
    let store = open(database).await;
    let (claims, other) = (hold(&store, "claims").await, hold(&store, "other").await);
    let mine = record(&store, "claims", vec![heard(1, "t", "0")]).await.new;
    let theirs = record(
        &store,
        "other",
        vec![heard(1, "t", "0"), heard(2, "t", "0")],
    )
    .await
    .new;
    store.pause_subscription("claims", "look").await.unwrap();
    let of = |stake: &LeaseStake, orders, changes: &[EventChange]| MarkGroup {
        subscription: name(stake.name.strip_prefix("events:").unwrap()),
        stake: stake.clone(),
        orders,
        changes: changes.into(),
    };
    let old = LeaseStake {
        epoch: other.epoch - 1,
        ..other.clone()
    };
    let groups = vec![
        of(&claims, 0, &done(mine[0].place)),
        of(&old, 0, &done(theirs[1].place)),
        of(&other, 0, &done(theirs[0].place)),
    ];
    let written = store.mark_events(HOLDER, groups.clone()).await.unwrap();
    assert_eq!(written, [false, false, true]);
    let stranger = store.mark_events("server-2", groups).await.unwrap();
    assert_eq!(stranger, [false, false, false]);
    assert_eq!(open_places(&store, "claims").await, [(1, 1)]);
    assert_eq!(open_places(&store, "other").await, [(2, 2)]);
    let anew = vec![of(&claims, 1, &done(mine[0].place))];
    assert_eq!(store.mark_events(HOLDER, anew).await.unwrap(), [true]);
    let checkpoint = store.checkpoint("claims").await.unwrap();
    assert_eq!(
        (checkpoint.orders, checkpoint.position),
        (1, Some(mine[0].place))
    );
    assert_eq!(checkpoint.paused.unwrap().1, "look");
    let shown = counts(database, &store, "other").await;
    let expected = [("pending", 1), ("processed", 1), ("relevant", 1)];
    assert_eq!(
        shown,
        expected
            .map(|(word, count)| (word.to_owned(), count))
            .into()
    );
}

async fn a_mark_that_is_written_twice_counts_once(database: &Database) {
    let store = open(database).await;
    let stake = hold(&store, "claims").await;
    let all = (1..=4).map(|block| heard(block, "t", "0")).collect();
    let new = record(&store, "claims", all).await.new;
    let mut changes = done(new[0].place).to_vec();
    changes.push(decided(new[1].place, Decision::Irrelevant));
    changes.push(decided(new[2].place, Decision::Relevant));
    changes.push(EventChange::Failed {
        place: new[2].place,
        attempts: 2,
        error: "503".into(),
    });
    for _ in 0..2 {
        assert!(mark(&store, &stake, changes.clone()).await);
        let shown = counts(database, &store, "claims").await;
        let expected = [
            ("irrelevant", 1),
            ("pending", 1),
            ("processed", 1),
            ("relevant", 2),
        ];
        assert_eq!(
            shown,
            expected
                .map(|(word, count)| (word.to_owned(), count))
                .into()
        );
    }
    let failed = store
        .event("claims", new[2].place.arrival)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (failed.row.attempts, failed.row.last_error.as_deref()),
        (2, Some("503"))
    );
    assert!(failed.row.decided_at.is_some() && failed.row.is_open());
    assert_eq!(failed.payload, *new[2].payload);
    assert!(mark(&store, &stake, vec![processed(new[2].place)]).await);
    let done = store
        .event("claims", new[2].place.arrival)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((done.row.attempts, done.row.last_error), (1, None));
    // Without a decision of its own it is relevant by being processed.
    assert!(mark(&store, &stake, vec![processed(new[3].place)]).await);
    let alone = store.event("claims", 4).await.unwrap().unwrap().row;
    assert_eq!(alone.decision, "relevant");
    assert_eq!(alone.decided_at, alone.processed_at);
    counts(database, &store, "claims").await;
    // What is done is decided no more.
    let late = vec![decided(new[1].place, Decision::Relevant)];
    assert!(mark(&store, &stake, late).await);
    assert_eq!(counts(database, &store, "claims").await["irrelevant"], 1);
}

async fn a_halt_is_retried_or_skipped(database: &Database) {
    let store = open(database).await;
    let stake = hold(&store, "claims").await;
    let nothing = store.retry_subscription("claims").await.unwrap_err();
    assert!(matches!(
        nothing,
        SubscriptionOrderError::NothingRecorded(_)
    ));
    let new = record(
        &store,
        "claims",
        vec![heard(1, "t", "0"), heard(2, "t", "0")],
    )
    .await
    .new;
    let place = new[0].place;
    let nothing = store.retry_subscription("claims").await.unwrap_err();
    assert_eq!(
        nothing.to_string(),
        "subscription \"claims\" is not halted: there is nothing to retry"
    );
    let halt = vec![
        decided(place, Decision::Relevant),
        EventChange::Failed {
            place,
            attempts: 5,
            error: "503".into(),
        },
        EventChange::Halted {
            place,
            at: Timestamp::now(),
            error: "503".into(),
        },
    ];
    assert!(mark(&store, &stake, halt.clone()).await);
    let halted = store.checkpoint("claims").await.unwrap().halted.unwrap();
    assert_eq!((halted.0, halted.2.as_str()), (1, "503"));
    assert_eq!(store.retry_subscription("claims").await.unwrap(), 1);
    let checkpoint = store.checkpoint("claims").await.unwrap();
    assert_eq!((checkpoint.halted, checkpoint.orders), (None, 1));
    let again = store.open_events("claims", None, 1).await.unwrap();
    assert_eq!(
        (again[0].attempts, again[0].decision),
        (5, Decision::Relevant),
        "tries are counted on"
    );

    assert!(mark(&store, &stake, halt).await);
    assert_eq!(
        store
            .skip_event("claims", None, "known fault")
            .await
            .unwrap(),
        1
    );
    let checkpoint = store.checkpoint("claims").await.unwrap();
    assert_eq!((checkpoint.halted, checkpoint.orders), (None, 2));
    let skipped = store.event("claims", 1).await.unwrap().unwrap().row;
    assert_eq!(
        (&*skipped.decision, skipped.last_error.as_deref()),
        ("skipped", Some("known fault"))
    );
    let twice = store
        .skip_event("claims", Some(1), "again")
        .await
        .unwrap_err();
    assert_eq!(
        twice.to_string(),
        "event 1 of subscription \"claims\" is skipped already; only open events are skipped"
    );
    let none = store
        .skip_event("claims", Some(77), "no")
        .await
        .unwrap_err();
    assert!(matches!(
        none,
        SubscriptionOrderError::NoSuchEvent { arrival: 77, .. }
    ));
    // One on which it is not halted, before it comes to it.
    assert_eq!(
        store
            .skip_event("claims", Some(2), "not wanted")
            .await
            .unwrap(),
        2
    );
    assert_eq!(store.checkpoint("claims").await.unwrap().orders, 3);
    assert_eq!(counts(database, &store, "claims").await["skipped"], 2);

    let place = record(&store, "claims", vec![heard(3, "t", "0")]).await.new[0].place;
    let at = Timestamp::now();
    let error = String::new();
    assert!(
        mark(
            &store,
            &stake,
            vec![EventChange::Halted { place, at, error }]
        )
        .await
    );
    store
        .pause_subscription("claims", "to mend it")
        .await
        .unwrap();
    store.resume_subscription("claims").await.unwrap();
    assert_eq!(store.checkpoint("claims").await.unwrap().halted, None);
}

async fn a_pause_is_ordered_once_and_lifted_once(database: &Database) {
    let store = open(database).await;
    // Also one that has heard of nothing yet.
    store
        .pause_subscription("claims", "maintenance")
        .await
        .unwrap();
    let twice = store
        .pause_subscription("claims", "more")
        .await
        .unwrap_err();
    assert!(twice.to_string().contains("maintenance"), "{twice}");
    let paused = store.checkpoint("claims").await.unwrap();
    assert_eq!(
        (paused.paused.unwrap().1.as_str(), paused.orders),
        ("maintenance", 1)
    );
    let new = record(&store, "claims", vec![heard(1, "t", "0")]).await.new;
    assert_eq!(new.len(), 1, "it goes on recording");
    store.resume_subscription("claims").await.unwrap();
    let resumed = store.checkpoint("claims").await.unwrap();
    assert_eq!((resumed.paused, resumed.orders), (None, 2));
    let twice = store.resume_subscription("claims").await.unwrap_err();
    assert!(matches!(twice, SubscriptionOrderError::NotPaused(_)));
}

async fn a_replay_opens_events_again_and_moves_the_position_back(database: &Database) {
    let store = open(database).await;
    let stake = hold(&store, "claims").await;
    let mut all = group(
        "claims",
        (1..=5).map(|block| heard(block, "t", "0")).collect(),
    );
    all.heard[3].1 = true;
    let new = store.record_events(vec![all]).await.unwrap().remove(0).new;
    let place = |index: usize| new[index].place;
    let mut changes = done(place(0)).to_vec();
    changes.extend(done(place(1)));
    changes.push(decided(place(2), Decision::Irrelevant));
    changes.push(EventChange::Position(place(2)));
    assert!(mark(&store, &stake, changes).await);
    assert!(
        record(&store, "claims", vec![heard(2, "late", "0")])
            .await
            .new[0]
            .late
    );

    let beyond = store.replay_subscription("claims", 6).await.unwrap_err();
    assert!(beyond.to_string().contains("its highest is 5"), "{beyond}");
    assert_eq!(store.replay_subscription("claims", 2).await.unwrap(), 2);
    let open = store.open_events("claims", None, 10).await.unwrap();
    assert_eq!(places(&open), [(2, 2), (2, 6), (3, 3), (5, 5)]);
    assert_eq!(open[0].decision, Decision::Relevant);
    assert_eq!(open[2].decision, Decision::Pending);
    assert!(!open[1].late, "nothing there has been passed any more");
    let checkpoint = store.checkpoint("claims").await.unwrap();
    assert_eq!(
        (checkpoint.position, checkpoint.orders),
        (Some(place(0)), 1)
    );
    counts(database, &store, "claims").await;
    assert_eq!(store.replay_subscription("claims", 0).await.unwrap(), 1);
    assert_eq!(store.checkpoint("claims").await.unwrap().position, None);
    // What is ahead of the position leaves it where it is.
    assert!(mark(&store, &stake, done(place(0)).to_vec()).await);
    assert_eq!(store.replay_subscription("claims", 3).await.unwrap(), 0);
    let checkpoint = store.checkpoint("claims").await.unwrap();
    assert_eq!(checkpoint.position, Some(place(0)));
    counts(database, &store, "claims").await;
}

fn asked(tx_id: &str, key: Option<&str>, arrival: i64) -> (Place, String, Option<String>) {
    let place = Place {
        arrival,
        ..Place::default()
    };
    (place, tx_id.to_owned(), key.map(str::to_owned))
}

async fn events_are_judged_by_tables_and_by_the_operators_sql(database: &Database) {
    let store = open(database).await;
    database
        .run(
            "INSERT INTO known_transactions (tx_id) VALUES ('t1'), ('it''s'); \
             INSERT INTO known_keys (key) VALUES ('k1'); \
             CREATE TABLE orders (tx TEXT, reference TEXT); \
             INSERT INTO orders VALUES ('t5', 'k5')",
        )
        .await
        .unwrap();
    let questions = vec![
        asked("t1", None, 1),
        asked("t2", None, 2),
        asked("t1", Some("k1"), 3),
        asked("", Some("k1"), 4),
        asked("k1", Some("t1"), 5),
        asked("it's", None, 6),
        asked("t5", None, 7),
        asked("", Some("k5"), 8),
    ];
    let judge = async |lookup: Option<&str>| {
        let judged = store.judge(lookup, questions.clone()).await.unwrap();
        let arrivals = judged.iter().map(|judged| judged.place.arrival);
        assert!(arrivals.eq(1..=8), "in the order asked");
        let known = judged.iter().filter(|judged| judged.known);
        known.map(|judged| judged.place.arrival).collect::<Vec<_>>()
    };
    assert_eq!(judge(None).await, [1, 3, 4, 6]);
    let one = "SELECT 1 FROM orders WHERE reference = $2 OR tx = $1 -- both";
    assert_eq!(judge(Some(one)).await, [7, 8]);
    let key = "SELECT tx FROM orders WHERE reference = $2;";
    assert_eq!(judge(Some(key)).await, [8]);
    assert!(store.judge(None, Vec::new()).await.unwrap().is_empty());

    let refused = store
        .judge(Some("SELECT 1 FROM nowhere"), questions.clone())
        .await;
    let error = refused.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    assert!(error.to_string().contains("nowhere"), "{error}");
    if !database.is_sqlite() {
        database
            .run(
                "CREATE FUNCTION writes() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN \
                 INSERT INTO orders VALUES ('x', 'x'); RETURN true; END $$",
            )
            .await
            .unwrap();
        let refused = store
            .judge(Some("SELECT 1 WHERE writes()"), questions.clone())
            .await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("read-only"), "{error}");
    }
}

async fn pages_are_bounded_in_bytes(database: &Database) {
    let store = open(database).await;
    let large = |block: i64| Heard {
        payload: format!("\"{}\"", "é".repeat(499)),
        ..heard(block, "t", "0")
    };
    let heard: Vec<Heard> = [5, 4, 3, 2, 1].map(large).into();
    store
        .record_events(vec![group("claims", heard)])
        .await
        .unwrap();
    let of = |bytes| PageSize { rows: 4, bytes };
    // Each has 1000 bytes; one that is larger than a page is one by itself.
    for (bytes, rows) in [(2999, 2), (3000, 3), (10, 1), (4000, 4), (9000, 4)] {
        let page = store.open_page("claims", None, of(Some(bytes))).await;
        let page = page.unwrap();
        let first: Vec<(i64, i64)> = vec![(1, 5), (2, 4), (3, 3), (4, 2)];
        assert_eq!(places(&page.events), first[..rows]);
        assert_eq!((page.cut, page.is_full(4)), (rows < 4, true));
        let sweep = store.recorded_page("claims", 1, of(Some(bytes))).await;
        let sweep = sweep.unwrap();
        let first: Vec<(i64, i64)> = vec![(4, 2), (3, 3), (2, 4), (1, 5)];
        assert_eq!(places(&sweep.events), first[..rows]);
        assert_eq!(sweep.cut, rows < 4);
    }
    let after = Some(store.open_events("claims", None, 4).await.unwrap()[3].place);
    let rest = store
        .open_page("claims", after, of(Some(10)))
        .await
        .unwrap();
    assert_eq!((places(&rest.events), rest.cut), (vec![(5, 1)], false));
    let bare = store.open_page("claims", None, of(None)).await.unwrap();
    assert!(bare.events.len() == 4 && !bare.cut);
    assert!(bare.events.iter().all(|event| event.payload.is_empty()));
}

async fn a_look_that_takes_too_long_keeps_what_it_found(database: &Database) {
    if database.is_sqlite() {
        // A query there ends in its own time.
        return;
    }
    let store = open(database).await;
    let slow = "SELECT 1 FROM pg_sleep(CASE WHEN $1 = 't2' THEN 9 ELSE 0 END)";
    let questions = vec![asked("t1", None, 1), asked("t2", None, 2)];
    let judged = store.judge(Some(slow), questions.clone()).await.unwrap();
    let arrivals: Vec<i64> = judged.iter().map(|judged| judged.place.arrival).collect();
    assert_eq!(arrivals, [1]);
    let nothing = store.judge(Some(slow), questions[1..].to_vec()).await;
    assert!(nothing.unwrap_err().is_transient());
}

async fn what_is_known_is_told_once_and_forgotten(database: &Database) {
    let store = open(database).await;
    let known = |tx_ids: &[&str], keys: &[&str]| Known {
        tx_ids: tx_ids.iter().map(|&id| id.to_owned()).collect(),
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
    };
    let first = known(&["b", "a", "b"], &["k"]);
    let mut new = store.make_known(&first).await.unwrap();
    new.tx_ids.sort();
    assert_eq!(new, known(&["a", "b"], &["k"]));
    let more = known(&["a", "c"], &["k"]);
    assert_eq!(store.make_known(&more).await.unwrap(), known(&["c"], &[]));
    assert_eq!(
        store.forget_known(&known(&["a", "z"], &[])).await.unwrap(),
        known(&["a"], &[])
    );
    assert_eq!(store.make_known(&more).await.unwrap(), known(&["a"], &[]));
    let wrong = store
        .make_known(&known(&["fine", ""], &[]))
        .await
        .unwrap_err();
    assert!(!wrong.is_transient(), "{wrong}");
    assert_eq!(
        store
            .make_known(&known(&["fine"], &[]))
            .await
            .unwrap()
            .tx_ids,
        ["fine"]
    );
}

/// All that was recorded so far was recorded long ago.
pub(crate) async fn age(database: &Database) {
    let old = "UPDATE events SET received_at = '2026-01-01 05:06:07.008'; \
         DELETE FROM event_counts; \
         INSERT INTO event_counts SELECT subscription, TIMESTAMP, decision, count(*) FROM events \
         GROUP BY subscription, decision; \
         INSERT INTO event_counts SELECT subscription, TIMESTAMP, 'processed', count(*) \
         FROM events WHERE processed_at IS NOT NULL GROUP BY subscription";
    let hour = if database.is_sqlite() {
        "'2026-01-01 05:00:00.000'"
    } else {
        "timestamp '2026-01-01 05:00:00'"
    };
    database.run(&old.replace("TIMESTAMP", hour)).await.unwrap();
}

async fn old_events_go_and_what_is_needed_stays(database: &Database) {
    let store = open(database).await;
    let stake = hold(&store, "claims").await;
    let all = (1..=10).map(|block| heard(block, "t", "0")).collect();
    let new = record(&store, "claims", all).await.new;
    let changes =
        |range: std::ops::Range<usize>| new[range].iter().flat_map(|event| done(event.place));
    assert!(mark(&store, &stake, changes(0..4).collect()).await);
    let irrelevant = decided(new[5].place, Decision::Irrelevant);
    assert!(mark(&store, &stake, vec![irrelevant]).await);
    let before = Timestamp::parse("2026-02-01 00:00:00").unwrap();
    assert_eq!(
        store.prune_events(before, 100).await.unwrap(),
        0,
        "all are young"
    );
    age(database).await;
    counts(database, &store, "claims").await;
    assert_eq!(store.prune_events(before, 3).await.unwrap(), 3);
    assert_eq!(store.prune_events(before, 3).await.unwrap(), 1);
    assert_eq!(
        store.prune_events(before, 3).await.unwrap(),
        0,
        "the fifth is open"
    );
    let shown = counts(database, &store, "claims").await;
    assert_eq!(
        (shown["pending"], shown["irrelevant"], shown.get("relevant")),
        (5, 1, None)
    );
    assert!(mark(&store, &stake, changes(4..10).collect()).await);
    assert_eq!(store.prune_events(before, 100).await.unwrap(), 4);
    counts(database, &store, "claims").await;
    // The two highest blocks are known for ever, since a source resumes there.
    let again = record(
        &store,
        "claims",
        vec![heard(9, "t", "0"), heard(10, "t", "0")],
    )
    .await;
    assert_eq!(again.known, 2);
}

async fn streams_without_blocks_keep_identities_for_ever(database: &Database) {
    let store = open(database).await;
    let stake = hold(&store, "claims").await;
    let all = || (1..=5).map(|n| local(&format!("t{n}"), "0")).collect();
    let new = record(&store, "claims", all()).await.new;
    let changes = new.iter().flat_map(|event| done(event.place)).collect();
    assert!(mark(&store, &stake, changes).await);
    age(database).await;
    let before = Timestamp::parse("2026-02-01 00:00:00").unwrap();
    assert_eq!(store.prune_events(before, 100).await.unwrap(), 3);
    assert_eq!(store.prune_events(before, 100).await.unwrap(), 0);
    let gone = "SELECT count(*) AS value FROM events WHERE payload = 'null'";
    assert_eq!(database.number(gone).await, 3);
    assert_eq!(record(&store, "claims", all()).await.known, 5);
    // Without its payload nothing is processed again.
    assert_eq!(store.replay_subscription("claims", 0).await.unwrap(), 2);
    counts(database, &store, "claims").await;
}

async fn lists_go_page_by_page_and_by_what_is_asked(database: &Database) {
    let store = open(database).await;
    let stake = hold(&store, "claims").await;
    let all = (0..10).map(|n| heard(n / 2, &format!("t{}", n % 3), &n.to_string()));
    let new = record(&store, "claims", all.collect()).await.new;
    record(&store, "other", vec![heard(1, "t0", "0")]).await;
    let mut changes: Vec<EventChange> = new[..3]
        .iter()
        .flat_map(|event| done(event.place))
        .collect();
    changes.push(decided(new[3].place, Decision::Irrelevant));
    changes.push(decided(new[4].place, Decision::Relevant));
    assert!(mark(&store, &stake, changes).await);
    let everything = EventFilter {
        subscription: "claims".to_owned(),
        ..EventFilter::default()
    };
    let list = async |filter: &EventFilter, limit: usize| {
        let (mut arrivals, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.list_events(filter, cursor, limit).await.unwrap();
            assert!(page.rows.len() <= limit);
            arrivals.extend(page.rows.iter().map(|row| row.arrival));
            cursor = page.next;
            if cursor.is_none() {
                return arrivals;
            }
        }
    };
    for limit in [1, 3, 10, 100] {
        assert_eq!(
            list(&everything, limit).await,
            [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
        );
        let of = |decision| EventFilter {
            decision: Some(decision),
            ..everything.clone()
        };
        assert_eq!(list(&of(Decision::Pending), limit).await, [10, 9, 8, 7, 6]);
        assert_eq!(list(&of(Decision::Relevant), limit).await, [5, 3, 2, 1]);
        assert_eq!(list(&of(Decision::Irrelevant), limit).await, [4]);
        assert!(list(&of(Decision::Skipped), limit).await.is_empty());
        let open = EventFilter {
            open: true,
            ..of(Decision::Relevant)
        };
        assert_eq!(list(&open, limit).await, [5]);
        let block = EventFilter {
            block: Some(1),
            ..everything.clone()
        };
        assert_eq!(list(&block, limit).await, [4, 3]);
        let transaction = EventFilter {
            tx_id: Some("t0".into()),
            ..everything.clone()
        };
        assert_eq!(list(&transaction, limit).await, [10, 7, 4, 1]);
    }
    assert_eq!(store.event("claims", 11).await.unwrap(), None);
    let event = store.event("claims", 4).await.unwrap().unwrap();
    assert_eq!(event.row.place(), new[3].place);
    assert!(!event.row.is_open());
    let counted = store
        .event_counts("claims", Timestamp::default())
        .await
        .unwrap();
    let pending: i64 = counted
        .iter()
        .filter(|count| count.decision == "pending")
        .map(|count| count.count)
        .sum();
    assert_eq!(pending, 5);
}
