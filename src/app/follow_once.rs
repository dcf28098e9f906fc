//! A replica that is followed until one order is carried out, by a command and
//! without a server: the same plan as a Follower's, under the same lease.

use crate::config::{ReplicaProtocol, ReplicaSettings, ReplicationSettings};
use crate::flows::replicas::{
    Answer, Ask, BootstrapReason, Content, ContentKind, Contents as _, DatasetName, Fetched,
    Fetching, PlanSettings, PlanView, ReplicaPlan, ReplicaRows as _, ReplicaState, Standing, Step,
    Upstream, UpstreamError, UpstreamView, Written,
};
use crate::leases::replicas_lease;
use crate::store::{LeaseStake, ReplicaGroup, Store, StoreError, StoredContents};
use crate::time::Timestamp;
use crate::upstreams::{self, UpstreamProblem};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{interval, sleep, timeout};

/// Time limit of a read or a write.
const DATABASE_LIMIT: Duration = Duration::from_secs(60);
/// An upstream that failed so often in a row is given up, where all have.
const MOST_FAILURES: u32 = 3;
/// Longest sleep, so that what is shown moves.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// What is to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Once {
    /// Compare all ranges with the upstream, and put right what differs.
    Verify,
    /// Copy everything anew.
    Bootstrap,
}

/// Why it was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum NotFollowed {
    /// Somebody else follows it.
    #[error("its lease was taken over by another server")]
    Lost,
    /// No upstream answers.
    #[error("no upstream answers: {0}")]
    NoUpstream(String),
    /// Ranges cannot be compared.
    #[error("its ranges cannot be compared with the upstream's: {0}")]
    NotCompared(String),
    /// It took too long.
    #[error("it was not done within {0:?}; what was written stays, and is gone on with")]
    TooLong(Duration),
    /// The upstreams cannot be asked.
    #[error(transparent)]
    Upstreams(#[from] UpstreamProblem),
    /// The database is out of reach.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is followed, and by whom.
pub struct FollowOnce<'a> {
    /// Where it is kept.
    pub store: &'a Store,
    /// Bounds of what is read.
    pub replication: &'a ReplicationSettings,
    /// The replica.
    pub replica: &'a ReplicaSettings,
    /// Who holds its lease.
    pub holder: &'a str,
    /// How long the lease lasts where it is not renewed.
    pub lease: Duration,
    /// Time limit of all.
    pub limit: Duration,
}

/// What became of a step.
enum Event {
    Read(Result<Standing, String>),
    Answered(u64, Result<Answer, UpstreamError>),
    Local(u64, Result<Fetched, String>),
    Written(u64, Written),
}

impl FollowOnce<'_> {
    /// Carries it out under the lease; `show` is told how far it is. Answers how
    /// the replica stands then.
    ///
    /// # Errors
    /// Another holds the lease, no upstream answers, it takes too long, or the
    /// database does not answer.
    pub async fn run(
        &self,
        once: Once,
        show: impl FnMut(&PlanView),
    ) -> Result<Standing, NotFollowed> {
        let names = [replicas_lease(self.replica.name.as_str())];
        let held = self
            .store
            .hold_leases(self.holder, &names, self.lease, false);
        let Some(stake) = held.await?.pop() else {
            return Err(NotFollowed::Lost);
        };
        let done = timeout(self.limit, self.follow(once, stake, show)).await;
        // It expires by itself, too.
        drop(self.store.release_leases(self.holder, &names).await);
        done.unwrap_or(Err(NotFollowed::TooLong(self.limit)))
    }

    async fn follow(
        &self,
        once: Once,
        stake: LeaseStake,
        mut show: impl FnMut(&PlanView),
    ) -> Result<Standing, NotFollowed> {
        let upstreams = upstreams::connect(self.replica)?;
        let mut plan = ReplicaPlan::new(PlanSettings {
            upstreams: upstreams.len(),
            by_index: self.replica.protocol == ReplicaProtocol::Seed,
            chunk: u64::try_from(self.replica.chunk).unwrap_or(u64::MAX),
            ranges: self.replica.ranges.max(1),
            poll_interval: self.replica.poll_interval,
            watch: self.replica.watch,
            audit_interval: None,
        });
        let places: Vec<String> = upstreams.iter().map(|of| of.place()).collect();
        let mut tasks: FuturesUnordered<BoxFuture<'static, Event>> = FuturesUnordered::new();
        let mut before: Option<Standing> = None;
        let mut renew = interval(self.lease / 4);
        let mut held_until = Instant::now() + self.lease;
        loop {
            let now = Timestamp::now();
            for step in plan.next(now) {
                tasks.push(self.carry_out(step, &upstreams, &stake));
            }
            if let Some(view) = plan.view(now) {
                show(&view);
                if let Some(why) = given_up(&plan, &places, &view) {
                    return Err(NotFollowed::NoUpstream(why));
                }
            }
            if let (Once::Verify, Some(why)) = (once, plan.cannot_verify()) {
                return Err(NotFollowed::NotCompared(why.to_owned()));
            }
            match (plan.known(), &before) {
                (Some(known), None) => {
                    before = Some(known.clone());
                    match once {
                        Once::Verify => plan.verify(),
                        Once::Bootstrap => plan.bootstrap(now),
                    }
                    continue;
                }
                (Some(known), Some(before)) if is_done(once, before, known) => {
                    return Ok(known.clone());
                }
                _ => {}
            }
            if Instant::now() >= held_until {
                return Err(NotFollowed::Lost);
            }
            let wait = plan.wake_at().map_or(LONGEST_SLEEP, |at| at.since(now));
            let wait = wait.clamp(Duration::from_millis(1), LONGEST_SLEEP);
            tokio::select! {
                Some(event) = tasks.next() => take(&mut plan, event, Timestamp::now()),
                _ = renew.tick() => {
                    let begun = Instant::now();
                    let names = [replicas_lease(self.replica.name.as_str())];
                    let held = self.store.hold_leases(self.holder, &names, self.lease, false);
                    if held.await?.pop() != Some(stake.clone()) {
                        return Err(NotFollowed::Lost);
                    }
                    held_until = begun + self.lease;
                }
                () = sleep(wait) => {}
            }
        }
    }

    fn carry_out(
        &self,
        step: Step,
        upstreams: &[Arc<dyn Upstream>],
        stake: &LeaseStake,
    ) -> BoxFuture<'static, Event> {
        let (store, name) = (self.store.clone(), self.replica.name.clone());
        match step {
            Step::Read => Box::pin(async move {
                let read = timeout(DATABASE_LIMIT, store.standing(&name)).await;
                let read = read
                    .map_err(|_| slow())
                    .and_then(|read| read.map_err(|e| e.to_string()));
                Event::Read(read)
            }),
            Step::Ask { id, upstream, ask } => {
                let upstream = upstreams.get(upstream).cloned();
                Box::pin(async move { Event::Answered(id, answer(upstream, ask).await) })
            }
            Step::Local { id, fetching } => {
                let contents = StoredContents::new(store, self.replication);
                Box::pin(async move { Event::Local(id, read_copy(contents, name, fetching).await) })
            }
            Step::Write { id, change } => {
                let group = ReplicaGroup {
                    replica: name,
                    stake: stake.clone(),
                    change,
                    history: self.replica.history.clone(),
                };
                let holder = self.holder.to_owned();
                Box::pin(async move { Event::Written(id, write(store, &holder, group).await) })
            }
        }
    }
}

fn slow() -> String {
    format!("the database did not answer within {DATABASE_LIMIT:?}")
}

fn take(plan: &mut ReplicaPlan, event: Event, now: Timestamp) {
    match event {
        Event::Read(Ok(standing)) => plan.standing(standing),
        Event::Read(Err(_)) => plan.not_read(now),
        Event::Answered(id, answer) => plan.answered(id, answer, now),
        Event::Local(id, read) => plan.local_read(id, read, now),
        Event::Written(id, written) => plan.written(id, written, now),
    }
}

/// Whether what was ordered is carried out.
fn is_done(once: Once, before: &Standing, known: &Standing) -> bool {
    match once {
        Once::Verify => known.audited.is_some() && known.audited != before.audited,
        Once::Bootstrap => {
            let ordered = |of: &Standing| of.bootstraps.get(&BootstrapReason::Ordered).copied();
            let begun = ordered(known) > ordered(before);
            let generation = |of: &Standing| of.live.as_ref().map(|(generation, ..)| *generation);
            begun && known.bootstrap.is_none() && generation(known) > generation(before)
        }
    }
}

/// Why nothing is to be hoped for, if so.
fn given_up(plan: &ReplicaPlan, places: &[String], view: &PlanView) -> Option<String> {
    if view.state != ReplicaState::Failing {
        return None;
    }
    let upstreams = plan.upstreams(places);
    let all = upstreams.iter().all(|of| of.failures >= MOST_FAILURES);
    // It names the address.
    let told = |of: UpstreamView| Some(of.last_error?.1);
    let told: Vec<String> = upstreams.into_iter().filter_map(told).collect();
    all.then(|| told.join("; "))
}

async fn answer(upstream: Option<Arc<dyn Upstream>>, ask: Ask) -> Result<Answer, UpstreamError> {
    let Some(upstream) = upstream else {
        return Ok(Answer::Unable);
    };
    ask.put_to(&*upstream).await
}

async fn read_copy(
    contents: StoredContents,
    name: DatasetName,
    fetching: Fetching,
) -> Result<Fetched, String> {
    let content = Content {
        kind: ContentKind::Replica,
        name,
    };
    let read = timeout(DATABASE_LIMIT, contents.fetch(&content, &fetching)).await;
    read.map_err(|_| slow())?.map_err(|error| error.to_string())
}

async fn write(store: Store, holder: &str, group: ReplicaGroup) -> Written {
    let written = timeout(DATABASE_LIMIT, store.apply_replicas(holder, vec![group])).await;
    let Ok(written) = written else {
        return Written::Not(slow());
    };
    match written.map(|mut outcomes| outcomes.pop()) {
        Ok(Some(Ok(applied))) => Written::Done(applied),
        Ok(Some(Err(error))) => Written::Not(error.to_string()),
        Ok(None) => Written::Not("nothing was written".to_owned()),
        Err(error) => Written::Not(error.to_string()),
    }
}
