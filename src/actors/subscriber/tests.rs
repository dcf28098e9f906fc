//! The Subscriber with rows, Updater, source and handler in memory.

use super::*;
use crate::config::{EventCode, EventHandlerSettings, Relevance, SourceSettings};
use crate::flows::events::testing::Database;
use crate::flows::events::{
    Fork, Heard, Judgement, OpenEvent, OpenPage, PageSize, Place, Recorded, Sink, SinkError,
    SourceEnd, SubscriptionName, SubscriptionState,
};
use crate::store::StoreError;
use crate::watchdog::{Keeper, Registration, Sentinel, WatchdogQuery};
use actix::ResponseFuture;
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Mutex;
use tokio::sync::mpsc;

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The rows, and how the Updater answers.
#[derive(Clone, Default)]
struct Shared {
    db: Arc<Mutex<Database>>,
    /// Answers to the next marks; then it writes.
    answers: Arc<Mutex<VecDeque<SinkError>>>,
    /// The epoch of the lease.
    epoch: Arc<Mutex<i64>>,
}

impl Shared {
    fn record(&self, block: i64, tx_id: &str) -> Option<OpenEvent> {
        let mut db = self.db.lock().unwrap();
        db.record((block, 0), tx_id.to_owned(), false, Timestamp::now())
    }

    fn processed(&self) -> Vec<i64> {
        let db = self.db.lock().unwrap();
        let rows = db.rows.values().filter(|row| row.processed);
        rows.map(|row| row.event.place.block).collect()
    }
}

impl EventRows for Shared {
    fn checkpoint<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Checkpoint, StoreError>> {
        let checkpoint = self.db.lock().unwrap().checkpoint.clone();
        Box::pin(async { Ok(checkpoint) })
    }

    fn open_events<'a>(
        &'a self,
        _: &'a str,
        after: Option<Place>,
        size: PageSize,
    ) -> BoxFuture<'a, Result<OpenPage, StoreError>> {
        let page = self.db.lock().unwrap().page(after, size.rows);
        Box::pin(async { Ok(page.into()) })
    }

    fn recorded_since<'a>(
        &'a self,
        _: &'a str,
        arrival: i64,
        size: PageSize,
    ) -> BoxFuture<'a, Result<OpenPage, StoreError>> {
        let since = self.db.lock().unwrap().since(arrival, size.rows);
        Box::pin(async { Ok(since.into()) })
    }

    fn judge<'a>(
        &'a self,
        _: Option<&'a str>,
        asked: Vec<(Place, String, Option<String>)>,
    ) -> BoxFuture<'a, Result<Vec<Judgement>, StoreError>> {
        let db = self.db.lock().unwrap();
        let judge = |(place, tx_id, _): (Place, String, Option<String>)| Judgement {
            place,
            known: db.known.contains(&tx_id),
        };
        let judged = asked.into_iter().map(judge).collect();
        Box::pin(async { Ok(judged) })
    }

    fn abandon<'a>(
        &'a self,
        _: &'a SubscriptionName,
        _: &'a Fork,
        _: Timestamp,
    ) -> BoxFuture<'a, Result<usize, StoreError>> {
        Box::pin(async { Ok(0) })
    }
}

/// Stands in for the Updater.
struct Writer {
    _context: ServiceContext,
    shared: Shared,
}

impl Actor for Writer {
    type Context = Context<Self>;
}

impl Handler<Envelope<Mark>> for Writer {
    type Result = Result<(), SinkError>;

    fn handle(&mut self, envelope: Envelope<Mark>, _: &mut Self::Context) -> Self::Result {
        let mark = envelope.open();
        if let Some(answer) = self.shared.answers.lock().unwrap().pop_front() {
            return Err(answer);
        }
        let mut db = self.shared.db.lock().unwrap();
        let held = mark.stake.epoch == *self.shared.epoch.lock().unwrap();
        if !held || mark.orders != db.checkpoint.orders {
            return Err(SinkError::Fenced);
        }
        mark.changes.iter().for_each(|change| db.write(change));
        Ok(())
    }
}

impl Handler<Envelope<Record>> for Writer {
    type Result = ResponseFuture<Result<Recorded, SinkError>>;

    fn handle(&mut self, envelope: Envelope<Record>, _: &mut Self::Context) -> Self::Result {
        let record = envelope.open();
        let mut recorded = Recorded::default();
        for (heard, skipped) in record.heard {
            assert!(!skipped);
            match self.shared.record(heard.block.unwrap(), &heard.tx_id) {
                Some(new) => recorded.new.push(new),
                None => recorded.known += 1,
            }
        }
        Box::pin(async { Ok(recorded) })
    }
}

/// Calls of a handler, and how each ends.
struct Calls {
    calls: mpsc::UnboundedSender<(i64, u32)>,
    ends: Arc<Mutex<VecDeque<End>>>,
}

enum End {
    Panic,
    Hang,
}

impl EventHandler for Calls {
    fn handle<'a>(
        &'a self,
        _: &'a SubscriptionName,
        event: &'a OpenEvent,
        attempt: u32,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let end = self.ends.lock().unwrap().pop_front();
            self.calls.send((event.place.block, attempt)).unwrap();
            match end {
                Some(End::Panic) => panic!("on purpose"),
                Some(End::Hang) => std::future::pending().await,
                None => Ok(()),
            }
        })
    }
}

/// A source that hands over one more block each time it runs, and fails.
struct Failing {
    runs: mpsc::UnboundedSender<Option<i64>>,
}

impl Source for Failing {
    fn run<'a>(&'a self, _: Checkpoint, sink: &'a dyn Sink) -> BoxFuture<'a, SourceEnd> {
        Box::pin(async move {
            let next = sink.highest_block().map_or(0, |block| block + 1);
            self.runs.send(sink.highest_block()).unwrap();
            let heard = Heard {
                block: Some(next),
                tx_id: format!("tx{next}"),
                event_id: String::new(),
                event_name: "E".to_owned(),
                payload: "{}".to_owned(),
                key: None,
                rank: 0,
                occurred_at: None,
            };
            sink.record(vec![heard]).await.unwrap();
            assert!(next != 1, "on purpose");
            SourceEnd::Renew
        })
    }

    fn place(&self) -> String {
        "nowhere".to_owned()
    }
}

/// A server with one Subscriber.
struct Bench {
    shared: Shared,
    query: WatchdogQuery,
    sentinel: Sentinel,
    holdings: watch::Sender<Arc<Holdings>>,
    _held_until: watch::Sender<Option<Instant>>,
    _draining: watch::Sender<bool>,
    view: watch::Receiver<Arc<EventsView>>,
    ends: Arc<Mutex<VecDeque<End>>>,
    calls: mpsc::UnboundedReceiver<(i64, u32)>,
    source_runs: mpsc::UnboundedReceiver<Option<i64>>,
    news: Intercom<EventsNews>,
}

fn name() -> SubscriptionName {
    SubscriptionName::parse("claims").unwrap()
}

impl Bench {
    fn start(with_source: bool) -> Self {
        let shared = Shared::default();
        let (query, _orders) = WatchdogQuery::new(tokio::runtime::Handle::current());
        let writer = Registration::<Writer>::new(names::UPDATER)
            .accepts::<Mark>()
            .accepts::<Record>()
            .built_by({
                let shared = shared.clone();
                move |context| {
                    Ok::<_, Infallible>(Writer {
                        _context: context,
                        shared: shared.clone(),
                    })
                }
            });
        query.register(writer, Keeper::Root).unwrap();
        let mut subscription = SubscriptionSettings::new(name(), SourceSettings::Hook);
        subscription.relevance = Relevance::All;
        subscription.retry.delay = Duration::from_millis(5);
        subscription.handler = EventHandlerSettings::Code(EventCode { timeout: PATIENCE });
        let events = EventsSettings {
            sweep_interval: Duration::from_millis(20),
            ..EventsSettings::default()
        };
        let settings = SubscriberSettings {
            subscription,
            gateway: None,
            ledger: None,
            events,
        };
        let (calls_sender, calls) = mpsc::unbounded_channel();
        let (runs, source_runs) = mpsc::unbounded_channel();
        let ends: Arc<Mutex<VecDeque<End>>> = Arc::default();
        let handler: Arc<dyn EventHandler> = Arc::new(Calls {
            calls: calls_sender,
            ends: ends.clone(),
        });
        let source: Arc<dyn Source> = Arc::new(Failing { runs });
        let (holdings, holdings_reader) = watch::channel(Arc::default());
        let far = Instant::now() + Duration::from_secs(3600);
        let (held_until, held_until_reader) = watch::channel(Some(far));
        let (draining, draining_reader) = watch::channel(false);
        let (view_sender, view) = watch::channel(Arc::default());
        let parts = SubscriberParts {
            rows: Arc::new(shared.clone()),
            connect: Arc::new(move |_| Connected {
                source: with_source.then(|| source.clone()),
                handler: Some(handler.clone()),
            }),
            holdings: holdings_reader,
            held_until: held_until_reader,
            draining: draining_reader,
            view: Arc::new(view_sender),
            at_work: AtWork::default(),
        };
        let service = names::subscriber("claims");
        let subscriber = Registration::<Subscriber>::new(&service)
            .settings(settings)
            .accepts::<EventsNews>()
            .accepts::<KnownNews>()
            .accepts::<LookAgain>()
            .accepts::<EventsRefused>()
            .built_by(move |context| Subscriber::new(context, parts.clone()));
        query.register(subscriber, Keeper::Root).unwrap();
        let news = query.watchdog().intercom("test", &service).unwrap();
        query.start_all();
        let sentinel = Sentinel::start(&query);
        Self {
            shared,
            query,
            sentinel,
            holdings,
            _held_until: held_until,
            _draining: draining,
            view,
            ends,
            calls,
            source_runs,
            news,
        }
    }

    /// The lease is held under this epoch, or by nobody.
    fn hold(&self, epoch: Option<i64>) {
        if let Some(epoch) = epoch {
            *self.shared.epoch.lock().unwrap() = epoch;
        }
        let lease = events_lease("claims");
        let stake = epoch.map(|epoch| LeaseStake {
            name: lease.clone(),
            epoch,
        });
        let held = stake.map(|stake| (lease, stake));
        self.holdings.send_replace(Arc::new(Holdings {
            held: held.into_iter().collect(),
            ..Holdings::default()
        }));
    }

    async fn call(&mut self) -> (i64, u32) {
        let call = tokio::time::timeout(PATIENCE, self.calls.recv()).await;
        call.expect("the handler is not called").unwrap()
    }

    /// Waits until the view is so.
    async fn shows(&mut self, wanted: impl Fn(&SubscriberView) -> bool) {
        let shown = self.view.wait_for(|view| {
            let subscription = view.subscriptions.get(&name());
            subscription.is_some_and(|view| wanted(view))
        });
        let shown = tokio::time::timeout(PATIENCE, shown).await;
        drop(shown.expect("it is not shown").unwrap());
    }

    async fn until_processed(&mut self, blocks: &[i64]) {
        let last = blocks.last().copied().unwrap_or_default();
        self.shows(|view| {
            let plan = view.plan.as_ref();
            plan.and_then(|plan| plan.position)
                .is_some_and(|position| position.block >= last)
        })
        .await;
        assert_eq!(self.shared.processed(), blocks);
    }

    fn stop(self) {
        self.sentinel.stop();
        self.query.stop_threads();
    }
}

#[actix::test]
async fn events_are_handled_in_order_whoever_recorded_them() {
    let mut bench = Bench::start(false);
    bench.hold(Some(1));
    bench.shows(|view| view.plan.is_some()).await;
    let mine = bench.shared.record(5, "a").unwrap();
    // Of another server; nobody tells.
    bench.shared.record(6, "b");
    let later = bench.shared.record(7, "c").unwrap();
    for recorded in [vec![later], vec![mine]] {
        let news = EventsNews {
            subscription: name(),
            recorded,
        };
        bench.news.send(news, PATIENCE).await.unwrap();
    }
    for block in 5..8 {
        assert_eq!(bench.call().await, (block, 1));
    }
    bench.until_processed(&[5, 6, 7]).await;
    bench.stop();
}

#[actix::test]
async fn when_the_lease_is_lost_the_handler_is_dropped_and_whoever_has_it_next_goes_on() {
    let mut bench = Bench::start(false);
    for block in 0..3 {
        bench.shared.record(block, "tx");
    }
    bench.ends.lock().unwrap().push_back(End::Hang);
    bench.hold(Some(1));
    assert_eq!(bench.call().await, (0, 1));
    bench.hold(None);
    bench
        .shows(|view| view.holder == Holder::Nobody && view.plan.is_none())
        .await;
    assert!(bench.calls.try_recv().is_err());
    assert!(bench.shared.processed().is_empty());
    bench.hold(Some(2));
    for block in 0..3 {
        assert_eq!(bench.call().await, (block, 1));
    }
    bench.until_processed(&[0, 1, 2]).await;
    bench.stop();
}

#[actix::test]
async fn what_is_refused_under_an_old_lease_is_not_taken_for_written() {
    let mut bench = Bench::start(false);
    bench.shared.record(0, "tx");
    bench.hold(Some(1));
    *bench.shared.epoch.lock().unwrap() = 2;
    assert_eq!(bench.call().await, (0, 1));
    bench.hold(None);
    bench.shows(|view| view.plan.is_none()).await;
    assert!(bench.shared.processed().is_empty());
    bench.stop();
}

#[actix::test]
async fn a_handler_that_panics_has_failed_once() {
    let mut bench = Bench::start(false);
    bench.shared.record(0, "tx");
    bench.ends.lock().unwrap().push_back(End::Panic);
    bench.hold(Some(1));
    assert_eq!(bench.call().await, (0, 1));
    assert_eq!(bench.call().await, (0, 2));
    bench.until_processed(&[0]).await;
    bench.stop();
}

#[actix::test]
async fn a_subscription_halts_and_goes_on_by_an_order() {
    let mut bench = Bench::start(false);
    bench.shared.record(0, "tx");
    bench.shared.record(1, "tx");
    let panics = std::iter::repeat_with(|| End::Panic).take(5);
    bench.ends.lock().unwrap().extend(panics);
    bench.hold(Some(1));
    bench
        .shows(|view| {
            let plan = view.plan.as_ref();
            plan.is_some_and(|plan| plan.state == SubscriptionState::Halted)
        })
        .await;
    while bench.shared.db.lock().unwrap().checkpoint.halted.is_none() {
        tokio::task::yield_now().await;
    }
    let halted = bench.shared.db.lock().unwrap().checkpoint.halted.clone();
    let (arrival, _, error) = halted.unwrap();
    assert!(arrival == 1 && error.contains("on purpose"), "{error}");
    bench.shared.db.lock().unwrap().order();
    for attempt in 1..=6 {
        assert_eq!(bench.call().await, (0, attempt));
    }
    assert_eq!(bench.call().await, (1, 1));
    bench.until_processed(&[0, 1]).await;
    bench.stop();
}

#[actix::test]
async fn while_the_updater_is_away_nothing_is_handled_twice() {
    let mut bench = Bench::start(false);
    bench.shared.record(0, "tx");
    bench.shared.record(1, "tx");
    let away = || SinkError::Away("gone".to_owned());
    let answers = [away(), away(), SinkError::Fenced];
    bench.shared.answers.lock().unwrap().extend(answers);
    bench.hold(Some(1));
    assert_eq!(bench.call().await, (0, 1));
    assert_eq!(bench.call().await, (1, 1));
    bench.until_processed(&[0, 1]).await;
    assert!(bench.calls.try_recv().is_err());
    bench.stop();
}

#[actix::test]
async fn a_source_is_renewed_at_once_and_survives_its_panic() {
    let mut bench = Bench::start(true);
    bench.hold(Some(1));
    for highest in [None, Some(0), Some(1)] {
        let run = tokio::time::timeout(PATIENCE, bench.source_runs.recv()).await;
        assert_eq!(run.expect("the source is not run").unwrap(), highest);
    }
    for block in 0..3 {
        assert_eq!(bench.call().await, (block, 1));
    }
    bench.hold(None);
    bench.shows(|view| view.source.is_none()).await;
    bench.stop();
}
