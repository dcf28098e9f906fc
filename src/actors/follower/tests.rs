//! The Follower with rows, Updater and upstream in memory.

use super::*;
use crate::config::HistorySettings;
use crate::flows::replicas::testing::{Node, Rows, entry};
use crate::flows::replicas::{
    Answer, Applied, Ask, Content, DatasetName, Digests, Epoch, FetchError, Fetched, Fetching,
    Head, Info, Modification, ReplicaState, Standing, UpstreamError,
};
use crate::messages::ApplyError;
use crate::store::StoreError;
use crate::watchdog::{Keeper, Registration, Resource, Sentinel, WatchdogQuery};
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Mutex;

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct Shared {
    rows: Arc<Mutex<Rows>>,
    node: Arc<Mutex<Node>>,
    moved: watch::Sender<()>,
    /// Answers to the next changes; then they are written.
    answers: Arc<Mutex<VecDeque<ApplyError>>>,
    /// The epoch of the lease.
    epoch: Arc<Mutex<i64>>,
    watches: Arc<Mutex<usize>>,
}

impl Shared {
    fn publish(&self, key: &str, value: &str) {
        let update = Modification::Update(entry(key, value));
        self.node.lock().unwrap().publish(vec![update]);
        self.moved.send_replace(());
    }

    fn ask<T>(
        &self,
        ask: &Ask,
        take: impl Fn(Answer) -> Option<T>,
    ) -> BoxFuture<'static, Result<T, UpstreamError>>
    where
        T: Send + 'static,
    {
        let answer = self.node.lock().unwrap().answer(ask);
        let answer = answer.map(|answer| take(answer).unwrap());
        Box::pin(async { answer })
    }
}

impl Upstream for Shared {
    fn info(&self, splits: Option<usize>) -> BoxFuture<'_, Result<Info, UpstreamError>> {
        self.ask(&Ask::Info { splits }, |answer| match answer {
            Answer::Info(info) => Some(info),
            _ => None,
        })
    }

    fn fetch(&self, fetching: Fetching) -> BoxFuture<'_, Result<Fetched, UpstreamError>> {
        self.ask(&Ask::Fetch(fetching), |answer| match answer {
            Answer::Fetched(fetched) => Some(fetched),
            _ => None,
        })
    }

    fn watch(
        &self,
        _: Epoch,
        head: Head,
        _: Duration,
    ) -> Option<BoxFuture<'_, Result<Info, UpstreamError>>> {
        *self.watches.lock().unwrap() += 1;
        let mut moved = self.moved.subscribe();
        Some(Box::pin(async move {
            loop {
                let info = self.node.lock().unwrap().info(None);
                if info.head != head {
                    return Ok(info);
                }
                moved.changed().await.unwrap();
            }
        }))
    }

    fn digests(
        &self,
        after: String,
        until: Option<String>,
        limit: u64,
        splits: usize,
        since: (Epoch, Head),
    ) -> Option<BoxFuture<'_, Result<Digests, UpstreamError>>> {
        let ask = Ask::Digests {
            after,
            until,
            limit,
            splits,
            since,
        };
        Some(self.ask(&ask, |answer| match answer {
            Answer::Digests(digests) => Some(digests),
            _ => None,
        }))
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

impl ReplicaRows for Shared {
    fn standing<'a>(&'a self, _: &'a DatasetName) -> BoxFuture<'a, Result<Standing, StoreError>> {
        let standing = self.rows.lock().unwrap().standing.clone();
        Box::pin(async { Ok(standing) })
    }
}

impl Contents for Shared {
    fn info<'a>(
        &'a self,
        _: &'a Content,
        _: Option<usize>,
    ) -> BoxFuture<'a, Result<Info, FetchError>> {
        Box::pin(async { Err(FetchError::Missing) })
    }

    fn fetch<'a>(
        &'a self,
        _: &'a Content,
        fetching: &'a Fetching,
    ) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        let read = self.rows.lock().unwrap().read(fetching);
        Box::pin(async { read.map_err(|_| FetchError::Missing) })
    }

    fn digests<'a>(
        &'a self,
        _: &'a Content,
        _: &'a str,
        _: Option<&'a str>,
        _: u64,
        _: usize,
        _: Option<(&'a Epoch, Head)>,
    ) -> BoxFuture<'a, Result<Digests, FetchError>> {
        Box::pin(async { Err(FetchError::Missing) })
    }

    fn entry<'a>(
        &'a self,
        _: &'a Content,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, FetchError>> {
        Box::pin(async { Ok(None) })
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

impl Handler<Envelope<Apply>> for Writer {
    type Result = Result<Applied, ApplyError>;

    fn handle(&mut self, envelope: Envelope<Apply>, _: &mut Self::Context) -> Self::Result {
        let apply = envelope.open();
        if let Some(answer) = self.shared.answers.lock().unwrap().pop_front() {
            return Err(answer);
        }
        if apply.stake.epoch != *self.shared.epoch.lock().unwrap() {
            return Err(ApplyError::Fenced);
        }
        let mut rows = self.shared.rows.lock().unwrap();
        let written = rows.write(&apply.change, Timestamp::now());
        written.ok_or(ApplyError::Fenced)
    }
}

/// A server with one Follower.
struct Bench {
    shared: Shared,
    query: WatchdogQuery,
    sentinel: Sentinel,
    holdings: watch::Sender<Arc<Holdings>>,
    _held_until: watch::Sender<Option<Instant>>,
    _draining: watch::Sender<bool>,
    view: watch::Receiver<Arc<ReplicasView>>,
    orders: Intercom<FollowerOrder>,
}

fn name() -> DatasetName {
    DatasetName::parse("prices").unwrap()
}

impl Bench {
    fn start() -> Self {
        let shared = Shared {
            rows: Arc::default(),
            node: Arc::new(Mutex::new(Node::new(100, 100))),
            moved: watch::channel(()).0,
            answers: Arc::default(),
            epoch: Arc::default(),
            watches: Arc::default(),
        };
        let (query, _orders) = WatchdogQuery::new(tokio::runtime::Handle::current());
        let writer = Registration::<Writer>::new(names::UPDATER)
            .accepts::<Apply>()
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
        let replica = ReplicaSettings {
            name: name(),
            upstreams: vec!["http://memory".parse().unwrap()],
            dataset: name(),
            protocol: ReplicaProtocol::Highwater,
            poll_interval: Duration::from_millis(10),
            watch: PATIENCE,
            chunk: 2,
            ranges: 3,
            timeout: PATIENCE,
            token: None,
            history: HistorySettings::default(),
            audit_interval: None,
        };
        let (holdings, holdings_reader) = watch::channel(Arc::default());
        let far = Instant::now() + Duration::from_secs(3600);
        let (held_until, held_until_reader) = watch::channel(Some(far));
        let (draining, draining_reader) = watch::channel(false);
        let (view_sender, view) = watch::channel(Arc::default());
        let upstream: Arc<dyn Upstream> = Arc::new(shared.clone());
        let parts = FollowerParts {
            rows: Arc::new(shared.clone()),
            contents: Arc::new(shared.clone()),
            connect: Arc::new(move |_| vec![upstream.clone()]),
            fetch_slots: Resource::new("fetch", 2).owner("replicas"),
            holdings: holdings_reader,
            held_until: held_until_reader,
            draining: draining_reader,
            view: Arc::new(view_sender),
        };
        let service = names::follower("prices");
        let follower = Registration::<Follower>::new(&service)
            .settings(FollowerSettings { replica })
            .accepts::<FollowerOrder>()
            .built_by(move |context| Follower::new(context, parts.clone()));
        query.register(follower, Keeper::Root).unwrap();
        let orders = query.watchdog().intercom("test", &service).unwrap();
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
            orders,
        }
    }

    /// The lease is held under this epoch, or by nobody.
    fn hold(&self, epoch: Option<i64>) {
        if let Some(epoch) = epoch {
            *self.shared.epoch.lock().unwrap() = epoch;
        }
        let lease = replicas_lease("prices");
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

    /// Waits until the view is so.
    async fn shows(&mut self, wanted: impl Fn(&FollowerView) -> bool) {
        let shown = self.view.wait_for(|view| {
            let replica = view.replicas.get(&name());
            replica.is_some_and(|view| wanted(view))
        });
        let shown = tokio::time::timeout(PATIENCE, shown).await;
        drop(shown.expect("it is not shown").unwrap());
    }

    async fn is_at(&mut self, head: Head) {
        self.shows(|view| {
            let plan = view.plan.as_ref();
            plan.is_some_and(|plan| plan.state == ReplicaState::Live && plan.head == Some(head))
        })
        .await;
        let (rows, node) = (&self.shared.rows, &self.shared.node);
        assert_eq!(rows.lock().unwrap().live, node.lock().unwrap().data);
    }

    fn stop(self) {
        self.sentinel.stop();
        self.query.stop_threads();
    }
}

#[actix::test]
async fn a_replica_is_copied_and_then_follows() {
    let mut bench = Bench::start();
    for key in ["a", "b", "c", "d", "e"] {
        bench.shared.publish(key, "1");
    }
    bench.hold(Some(1));
    bench.is_at(5).await;
    bench.shared.publish("b", "2");
    bench.is_at(6).await;
    bench.stop();
}

#[actix::test]
async fn while_nothing_changes_one_wait_is_under_way_and_nothing_else_is_asked() {
    let mut bench = Bench::start();
    bench.shared.publish("a", "1");
    bench.hold(Some(1));
    bench.is_at(1).await;
    bench
        .shows(|view| {
            let plan = view.plan.as_ref();
            plan.is_some_and(|plan| plan.level_at.is_some())
        })
        .await;
    let asked = || {
        let fetches = bench.shared.node.lock().unwrap().fetches;
        (fetches, *bench.shared.watches.lock().unwrap())
    };
    let before = asked();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(asked().0 == before.0 && asked().1 <= before.1.max(1));
    bench.stop();
}

#[actix::test]
async fn when_the_lease_is_lost_nothing_is_written_and_whoever_has_it_next_goes_on() {
    let mut bench = Bench::start();
    bench.shared.publish("a", "1");
    bench.hold(Some(1));
    bench.is_at(1).await;
    bench.hold(None);
    bench
        .shows(|view| view.holder == Holder::Nobody && view.plan.is_none())
        .await;
    bench.shared.publish("a", "2");
    assert_eq!(bench.shared.rows.lock().unwrap().live["a"], "1");
    bench.hold(Some(2));
    bench.is_at(2).await;
    bench.stop();
}

#[actix::test]
async fn a_follower_that_is_gone_shows_nothing_of_its_replica() {
    let mut bench = Bench::start();
    bench.shared.publish("a", "1");
    bench.hold(Some(1));
    bench.is_at(1).await;
    let mut view = bench.view.clone();
    bench.stop();
    let gone = view.wait_for(|view| view.replicas.is_empty());
    let gone = tokio::time::timeout(PATIENCE, gone).await;
    drop(gone.expect("it is shown still").unwrap());
}

#[actix::test]
async fn what_was_refused_or_may_not_be_written_is_read_anew() {
    let mut bench = Bench::start();
    let away = || ApplyError::Away("gone".to_owned());
    let answers = [ApplyError::Fenced, away(), away()];
    bench.shared.answers.lock().unwrap().extend(answers);
    bench.shared.publish("a", "1");
    bench.hold(Some(1));
    bench.is_at(1).await;
    bench.stop();
}

#[actix::test]
async fn a_chunk_that_the_updater_is_too_busy_for_is_not_fetched_again() {
    let mut bench = Bench::start();
    for key in ["a", "b", "c", "d", "e"] {
        bench.shared.publish(key, "1");
    }
    let busy = || ApplyError::Busy("others write".to_owned());
    let answers = [busy(), busy(), busy(), busy(), busy()];
    bench.shared.answers.lock().unwrap().extend(answers);
    bench.hold(Some(1));
    bench.is_at(5).await;
    assert_eq!(bench.shared.node.lock().unwrap().fetches, 3, "one a range");
    bench.stop();
}

#[actix::test]
async fn a_range_that_differs_is_put_right_by_an_order() {
    let mut bench = Bench::start();
    for key in ["a", "b", "c", "d", "e"] {
        bench.shared.publish(key, "1");
    }
    bench.hold(Some(1));
    bench.is_at(5).await;
    {
        let mut rows = bench.shared.rows.lock().unwrap();
        rows.live.insert("bb".to_owned(), "odd".to_owned());
        rows.live.remove("d");
        rows.live.insert("e".to_owned(), "odd".to_owned());
    }
    bench
        .orders
        .send(FollowerOrder::Verify, PATIENCE)
        .await
        .unwrap();
    bench
        .shows(|view| {
            view.plan
                .as_ref()
                .is_some_and(|plan| plan.audited.is_some())
        })
        .await;
    bench.is_at(5).await;
    bench.stop();
}

#[actix::test]
async fn a_new_bootstrap_takes_the_place_of_the_copy_by_an_order() {
    let mut bench = Bench::start();
    bench.shared.publish("a", "1");
    bench.hold(Some(1));
    bench.is_at(1).await;
    bench
        .orders
        .send(FollowerOrder::Bootstrap, PATIENCE)
        .await
        .unwrap();
    bench
        .shows(|view| {
            let plan = view.plan.as_ref();
            plan.is_some_and(|plan| plan.bootstraps.values().sum::<u64>() == 2)
        })
        .await;
    bench.is_at(1).await;
    bench.stop();
}
