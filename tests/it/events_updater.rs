//! Events on their way through the Updater: calls share transactions, are
//! answered when they are durable, and one that is refused harms no other.

use crate::events_store::{group, heard, hold, name, open};
use crate::support::Database;
use crate::toolkit_support::Kennel;
use actix::{Actor, Context, Handler};
use futures_util::future::join_all;
use highwater::actors::{NoReplicas, Updater, UpdaterParts, UpdaterSettings};
use highwater::config::{self, EventsSettings, LoadOptions};
use highwater::flows::events::{Decision, EventChange, Heard, Place, Recorded, SinkError};
use highwater::flows::sites::Spreads;
use highwater::messages::{InFlight, Mark, Record, Settled, names};
use highwater::store::{BatchWriter, LeaseStake, Store};
use highwater::time::Timestamp;
use highwater::watchdog::{Envelope, Intercom, Keeper, Registration, ServiceContext};
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

/// Makes a test of each function, on each database, where actors can run and
/// migrations may block.
macro_rules! beside_actors {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::support::Database;

            #[test]
            fn on_sqlite() {
                super::run(super::$name(&Database::sqlite()));
            }

            #[test]
            fn on_postgres() {
                super::run(super::$name(&Database::postgres()));
            }
        }
    )+};
}

fn run(test: impl Future<Output = ()>) {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    };
    actix_rt::System::with_tokio_rt(runtime).block_on(test);
}

beside_actors!(
    many_calls_share_transactions,
    one_refused_event_harms_no_other,
    a_database_that_holds_a_lock_is_told_as_away,
    a_lock_on_one_subscription_holds_up_no_other,
);

const PATIENCE: Duration = Duration::from_secs(60);

/// Stands for the Scheduler, whom the Updater asks for.
struct NoScheduler(#[expect(dead_code, reason = "kept as services keep it")] ServiceContext);

impl Actor for NoScheduler {
    type Context = Context<Self>;
}

impl Handler<Envelope<Settled>> for NoScheduler {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Settled>, _: &mut Self::Context) {
        drop(envelope.open());
    }
}

fn start(database: &Database, store: &Store) -> Kennel {
    let settings = config::parse(
        &database.section("updater"),
        "t.toml",
        Path::new("/"),
        [],
        LoadOptions::default(),
    );
    let settings = settings.unwrap().settings;
    let parts = UpdaterParts {
        writer: BatchWriter {
            store: store.clone(),
            holder: "server-1".to_owned(),
        },
        replicas: std::sync::Arc::new(NoReplicas),
        spreads: Spreads::default(),
        in_flight: InFlight::default(),
        writers: if database.is_sqlite() { 1 } else { 4 },
    };
    Kennel::start(Duration::from_secs(60), |query| {
        let idle = |context| Ok::<_, Infallible>(NoScheduler(context));
        let scheduler = Registration::new(names::SCHEDULER)
            .accepts::<Settled>()
            .built_by(idle);
        query.register(scheduler, Keeper::Supervisor)?;
        let updater = Registration::<Updater>::new(names::UPDATER)
            .settings(UpdaterSettings {
                batches: settings.batches.clone(),
                sites: settings.sites.clone(),
                polls_per_site: 20,
                events: EventsSettings {
                    commit_interval: Duration::from_millis(20),
                    ..EventsSettings::default()
                },
                replication: settings.replication.clone(),
                histories: std::collections::BTreeMap::new(),
            })
            .accepts::<Record>()
            .accepts::<Mark>()
            .built_by(move |context| Updater::new(context, parts.clone()));
        query.register(updater, Keeper::Supervisor)
    })
}

fn call(subscription: &str, heard: Vec<Heard>) -> Record {
    let group = group(subscription, heard);
    Record {
        subscription: group.subscription,
        heard: group.heard,
        source_state: None,
    }
}

async fn record(
    to: &Intercom<Record>,
    subscription: &str,
    heard: Vec<Heard>,
) -> Result<Recorded, SinkError> {
    to.send(call(subscription, heard), PATIENCE).await.unwrap()
}

fn done(stake: &LeaseStake, orders: i64, place: Place) -> Mark {
    let at = Timestamp::now();
    Mark {
        subscription: name(stake.name.strip_prefix("events:").unwrap()),
        stake: stake.clone(),
        orders,
        changes: vec![
            EventChange::Decided {
                place,
                decision: Decision::Relevant,
                at,
                reason: None,
            },
            EventChange::Processed {
                place,
                at,
                attempts: 1,
            },
            EventChange::Position(place),
        ],
    }
}

async fn many_calls_share_transactions(database: &Database) {
    let store = open(database).await;
    let kennel = start(database, &store);
    let records = kennel.intercom::<Record>(names::UPDATER);
    let marks = kennel.intercom::<Mark>(names::UPDATER);
    let calls = (0..500).map(|n| {
        let subscription = ["a", "b", "c"][n % 3];
        record(&records, subscription, vec![heard(n as i64, "t", "0")])
    });
    let answers = join_all(calls).await;
    assert!(answers.iter().all(|answer| {
        let recorded = answer.as_ref().unwrap();
        recorded.new.len() == 1
    }));
    // Those of a transaction were received at the same time.
    let transactions = "SELECT count(DISTINCT received_at) AS value FROM events";
    let transactions = database.number(transactions).await;
    assert!(transactions < 100, "{transactions} for 500 calls");
    // One subscription's are recorded in the order in which they came.
    let calls = (0..10).map(|n| record(&records, "d", vec![heard(n, "t", "0")]));
    let arrivals: Vec<i64> = join_all(calls)
        .await
        .into_iter()
        .map(|answer| answer.unwrap().new[0].place.arrival)
        .collect();
    assert!(arrivals.is_sorted(), "{arrivals:?}");
    let (a, b) = (hold(&store, "a").await, hold(&store, "b").await);
    let first = |index: usize| answers[index].as_ref().unwrap().new[0].place;
    let written =
        [done(&a, 0, first(0)), done(&b, 1, first(1))].map(|mark| marks.send(mark, PATIENCE));
    let answers = join_all(written).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [Ok(()), Err(SinkError::Fenced)]);
    assert_eq!(
        store.checkpoint("a").await.unwrap().position,
        Some(first(0))
    );
    assert_eq!(store.checkpoint("b").await.unwrap().position, None);
}

async fn one_refused_event_harms_no_other(database: &Database) {
    let store = open(database).await;
    let kennel = start(database, &store);
    let records = kennel.intercom::<Record>(names::UPDATER);
    let bad = || heard(-1, "bad", "0");
    let calls = [
        record(&records, "a", vec![heard(1, "t", "0"), heard(2, "t", "0")]),
        record(
            &records,
            "a",
            vec![heard(3, "t", "0"), bad(), heard(4, "t", "0")],
        ),
        record(&records, "b", vec![heard(1, "t", "0")]),
        record(&records, "b", vec![bad()]),
    ];
    let answers = join_all(calls).await;
    assert_eq!(answers[0].as_ref().unwrap().new.len(), 2);
    assert_eq!(answers[2].as_ref().unwrap().new.len(), 1);
    for refused in [&answers[1], &answers[3]] {
        let Err(SinkError::Refused(why)) = refused else {
            panic!("{refused:?}");
        };
        assert!(why.contains("\"bad\" of block -1"), "{why}");
    }
    // Those beside the refused one are recorded, and found by who looks.
    let found = store.open_events("a", None, 10).await.unwrap();
    let blocks: Vec<i64> = found.iter().map(|event| event.place.block).collect();
    assert_eq!(blocks, [1, 2, 3, 4]);
    assert!(
        record(&records, "a", vec![heard(5, "t", "0")])
            .await
            .is_ok()
    );
}

async fn a_database_that_holds_a_lock_is_told_as_away(database: &Database) {
    if database.is_sqlite() {
        // SQLite's lock would be waited for long enough to be given back.
        return;
    }
    let store = open(database).await;
    let kennel = start(database, &store);
    let records = kennel.intercom::<Record>(names::UPDATER);
    let once = || vec![heard(1, "t", "0")];
    assert_eq!(record(&records, "a", once()).await.unwrap().new.len(), 1);
    let lock = ["BEGIN", "SELECT 1 FROM subscriptions FOR UPDATE"];
    let held = database.hold(&lock).await;
    let away = record(&records, "a", once()).await;
    assert!(matches!(away, Err(SinkError::Away(_))), "{away:?}");
    held.release("ROLLBACK").await;
    assert_eq!(record(&records, "a", once()).await.unwrap().known, 1);
}

async fn a_lock_on_one_subscription_holds_up_no_other(database: &Database) {
    if database.is_sqlite() {
        // SQLite locks all or nothing.
        return;
    }
    let store = open(database).await;
    let kennel = start(database, &store);
    let records = kennel.intercom::<Record>(names::UPDATER);
    let marks = kennel.intercom::<Mark>(names::UPDATER);
    let mut first = Vec::new();
    for subscription in ["a", "b"] {
        let recorded = record(&records, subscription, vec![heard(1, "t", "0")]).await;
        first.push(recorded.unwrap().new[0].place);
    }
    let (a, b) = (hold(&store, "a").await, hold(&store, "b").await);
    let lock = [
        "BEGIN",
        "SELECT 1 FROM subscriptions WHERE name = 'a' FOR UPDATE",
    ];
    let held = database.hold(&lock).await;
    let calls = ["a", "a", "b", "b"].into_iter().enumerate();
    let calls = calls.map(|(n, subscription)| {
        record(&records, subscription, vec![heard(2 + n as i64, "t", "0")])
    });
    let marked = [done(&a, 0, first[0]), done(&b, 0, first[1])];
    let marked = join_all(marked.map(|mark| marks.send(mark, PATIENCE)));
    let (recorded, marked) = futures_util::future::join(join_all(calls), marked).await;
    for (n, answer) in recorded.iter().enumerate() {
        assert_eq!(answer.is_ok(), n >= 2, "{answer:?}");
        assert!(n >= 2 || matches!(answer, Err(SinkError::Away(_))));
    }
    let marked: Vec<_> = marked.into_iter().map(Result::unwrap).collect();
    assert!(matches!(marked[0], Err(SinkError::Away(_))), "{marked:?}");
    assert_eq!(marked[1], Ok(()));
    held.release("ROLLBACK").await;
    let again = record(&records, "a", vec![heard(2, "t", "0")]).await;
    assert_eq!(again.unwrap().new.len(), 1);
}
