//! Events of blocks that the ledger abandoned: nobody gets them, so they are not
//! open, hold nothing up, and go when they are old.

use crate::events_store::{age, counts, done, heard, hold, mark, name, open, record};
use crate::support::{Database, on_both_databases};
use highwater::flows::events::{BlockRef, EventChange, Fork};
use highwater::store::{EventFilter, MarkGroup, Store};
use highwater::time::Timestamp;

on_both_databases!(
    what_is_abandoned_is_not_open_and_ends_the_halt_on_it,
    what_is_abandoned_goes_when_it_is_old,
    a_fork_marks_all_behind_its_ancestor_and_what_comes_back_is_open_again,
);

const HOLDER: &str = "server-1";

/// The ledger goes on from a block by others, with ids such as `b7`.
fn fork(ancestor: i64, adopted: &[i64]) -> Fork {
    let block = |number: i64| BlockRef {
        number,
        id: format!("b{number}"),
    };
    Fork {
        ancestor: Some(block(ancestor)),
        abandoned: Vec::new(),
        adopted: adopted.iter().map(|number| block(*number)).collect(),
    }
}

async fn abandon(store: &Store, subscription: &str, fork: &Fork) -> usize {
    let name = name(subscription);
    let marked = store.abandon_events(&name, fork, Timestamp::now()).await;
    marked.unwrap()
}

/// Records an event in each of these blocks.
async fn fill(store: &Store, blocks: std::ops::Range<i64>) -> Vec<highwater::flows::events::Place> {
    let heard = blocks.map(|block| heard(block, "", &format!("b{block}:0")));
    let recorded = record(store, "deltas", heard.collect()).await;
    recorded.new.iter().map(|event| event.place).collect()
}

async fn what_is_abandoned_is_not_open_and_ends_the_halt_on_it(database: &Database) {
    let store = open(database).await;
    let stake = hold(&store, "deltas").await;
    let places = fill(&store, 1..6).await;
    let halt = |place| {
        vec![EventChange::Halted {
            place,
            at: Timestamp::now(),
            error: "the consumer answered 500".to_owned(),
        }]
    };
    assert!(mark(&store, &stake, done(places[0]).to_vec()).await);
    assert!(mark(&store, &stake, halt(places[1])).await);
    let before = store.checkpoint("deltas").await.unwrap();
    assert_eq!(before.halted.as_ref().map(|halted| halted.0), Some(2));

    // A fork elsewhere leaves the halt as it is.
    let marked = abandon(&store, "deltas", &fork(4, &[])).await;
    assert_eq!(marked, 1);
    assert_eq!(
        store.checkpoint("deltas").await.unwrap().halted,
        before.halted
    );
    let shown = counts(database, &store, "deltas").await;
    assert_eq!(shown["pending"], 4, "they stay counted as what they were");

    let marked = abandon(&store, "deltas", &fork(1, &[4, 5])).await;
    assert_eq!(marked, 2);
    assert_eq!(store.checkpoint("deltas").await.unwrap().halted, None);
    counts(database, &store, "deltas").await;
    let filter = EventFilter {
        subscription: "deltas".to_owned(),
        open: true,
        ..EventFilter::default()
    };
    let listed = store.list_events(&filter, None, 10).await.unwrap();
    let blocks: Vec<i64> = listed.rows.iter().map(|row| row.block).collect();
    assert_eq!(blocks, [5, 4]);

    // What was decided without knowing of the fork is not written any more.
    let stale = MarkGroup {
        subscription: name("deltas"),
        stake: stake.clone(),
        orders: before.orders,
        changes: halt(places[2]).into(),
    };
    assert_eq!(
        store.mark_events(HOLDER, vec![stale]).await.unwrap(),
        [false]
    );
    // The same fork told again changes nothing.
    let orders = store.checkpoint("deltas").await.unwrap().orders;
    let marked = abandon(&store, "deltas", &fork(1, &[4, 5])).await;
    assert_eq!(marked, 0);
    assert_eq!(store.checkpoint("deltas").await.unwrap().orders, orders);
    let nobody = abandon(&store, "nobody", &fork(1, &[])).await;
    assert_eq!(nobody, 0);
}

async fn what_is_abandoned_goes_when_it_is_old(database: &Database) {
    let store = open(database).await;
    let stake = hold(&store, "deltas").await;
    let places = fill(&store, 1..8).await;
    let marked = abandon(&store, "deltas", &fork(1, &[4, 5, 6, 7])).await;
    assert_eq!(marked, 2);
    for place in [places[0], places[3]] {
        assert!(mark(&store, &stake, done(place).to_vec()).await);
    }
    age(database).await;
    let before = Timestamp::parse("2026-02-01 00:00:00").unwrap();
    assert_eq!(
        store.prune_events(before, 100).await.unwrap(),
        4,
        "the fifth is open"
    );
    let shown = counts(database, &store, "deltas").await;
    assert_eq!((shown["pending"], shown.get("relevant")), (3, None));
}

async fn a_fork_marks_all_behind_its_ancestor_and_what_comes_back_is_open_again(
    database: &Database,
) {
    let store = open(database).await;
    let stake = hold(&store, "deltas").await;
    let places = fill(&store, 1..41).await;
    assert!(mark(&store, &stake, done(places[0]).to_vec()).await);
    let others = record(&store, "deltas", vec![heard(1, "other", "0")]).await;
    assert_eq!(others.new.len(), 1);

    // Deeper than what a source remembers: it names no block of those.
    let anew = Fork {
        ancestor: None,
        abandoned: Vec::new(),
        adopted: Vec::new(),
    };
    assert_eq!(abandon(&store, "deltas", &anew).await, 40);
    let due = async || {
        let open = store.open_events("deltas", None, 100).await.unwrap();
        let ids = open.into_iter().map(|event| event.event_id);
        ids.collect::<Vec<String>>()
    };
    assert_eq!(due().await, ["0"], "what is of no such block stays");

    // The chain comes back, handed over in stretches.
    let orders = store.checkpoint("deltas").await.unwrap().orders;
    let again = fill_again(&store, 1..21).await;
    assert_eq!(again, (0, 20));
    assert_eq!(due().await.len(), 1 + 19, "the first was processed");
    let raised = store.checkpoint("deltas").await.unwrap().orders;
    assert_eq!(raised, orders + 1, "what was decided before is void");
    assert_eq!(fill_again(&store, 1..21).await, (0, 20));
    assert_eq!(
        store.checkpoint("deltas").await.unwrap().orders,
        raised,
        "nothing is new"
    );
    counts(database, &store, "deltas").await;
}

/// Records the events of these blocks again: how many are new, and how many known.
async fn fill_again(store: &Store, blocks: std::ops::Range<i64>) -> (usize, usize) {
    let heard = blocks.map(|block| heard(block, "", &format!("b{block}:0")));
    let recorded = record(store, "deltas", heard.collect()).await;
    (recorded.new.len(), recorded.known)
}
