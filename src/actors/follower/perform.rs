//! Carries out what the plan says: asks and reads on the runtime, changes through
//! the Updater; each within a time limit, and each answer goes back to the plan
//! that asked.

use super::{Follower, Task};
use crate::flows::replicas::{
    Answer, Applied, Ask, Content, ContentKind, Fetching, ReplicaChange, ReplicaPlan, Step,
    Upstream, UpstreamError, Written, without_contents,
};
use crate::messages::{Apply, ApplyError};
use crate::time::Timestamp;
use crate::watchdog::{IntercomError, Owner};
use actix::fut::wrap_future;
use actix::{ActorFutureExt as _, AsyncContext as _, Context};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// Time limit of a read.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// How long the Updater is waited for.
const WRITE_LIMIT: Duration = Duration::from_secs(60);
/// How long after the Updater was too busy for a change it is sent again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// An upstream ends within its own time limits; it is cut off at the latest then.
/// A fetch slot is waited for within it too.
/// What it is to wait for comes on top.
const ASK_LIMIT: Duration = Duration::from_secs(600);

impl Follower {
    pub(super) fn perform(&mut self, ctx: &mut Context<Self>, step: Step) {
        match step {
            Step::Read => self.read(ctx),
            Step::Ask { id, upstream, ask } => self.ask(ctx, id, upstream, ask),
            Step::Local { id, fetching } => self.read_copy(ctx, id, fetching),
            Step::Write { id, change } => self.write(ctx, id, change),
        }
    }

    /// Does something on the runtime and tells the plan, if that is still the one
    /// that asked. Answers a handle that ends it.
    fn run_task<T: Send + 'static>(
        &self,
        ctx: &mut Context<Self>,
        limit: Duration,
        work: impl Future<Output = T> + Send + 'static,
        tell: impl FnOnce(&mut Self, Result<T, String>, Timestamp) + 'static,
    ) -> AbortHandle {
        let round = self.round;
        let task = self.context.runtime().spawn(timeout(limit, work));
        let handle = task.abort_handle();
        ctx.spawn(
            wrap_future::<_, Self>(task).map(move |result, follower, ctx| {
                let result = match result {
                    Ok(Ok(done)) => Ok(done),
                    Ok(Err(_)) => Err(format!("no answer within {limit:?}")),
                    Err(error) if error.is_cancelled() => return,
                    Err(error) => Err(format!("a defect: {error}")),
                };
                if round != follower.round {
                    return;
                }
                tell(follower, result, Timestamp::now());
                follower.turn(ctx);
            }),
        );
        handle
    }

    fn plan(&mut self) -> Option<&mut ReplicaPlan> {
        self.run.as_mut().map(|run| &mut run.plan)
    }

    fn read(&mut self, ctx: &mut Context<Self>) {
        let (rows, name) = (self.parts.rows.clone(), self.settings.replica.name.clone());
        let work = async move { rows.standing(&name).await };
        // It ends by itself, and what it reads for a former run is passed over.
        drop(
            self.run_task(ctx, READ_LIMIT, work, |follower, result, now| {
                let result = result.and_then(|read| read.map_err(|error| error.to_string()));
                follower.take_trouble(result.as_ref().err());
                if let Some(plan) = follower.plan() {
                    match result {
                        Ok(standing) => plan.standing(standing),
                        Err(_) => plan.not_read(now),
                    }
                }
            }),
        );
    }

    fn ask(&mut self, ctx: &mut Context<Self>, id: u64, place: usize, ask: Ask) {
        let Some(upstream) = self.upstreams.get(place).cloned() else {
            return;
        };
        let replica = &self.settings.replica;
        let limit = match &ask {
            Ask::Watch { wait, .. } => ASK_LIMIT + *wait + replica.timeout,
            _ => ASK_LIMIT + replica.timeout,
        };
        let work = answer(upstream, ask, self.parts.fetch_slots.clone());
        let name = self.settings.replica.name.clone();
        let task = self.run_task(ctx, limit, work, move |follower, result, now| {
            let failed = |why| UpstreamError::Failed {
                why,
                retry_after: None,
            };
            let answer = result.map_err(failed).and_then(|answer| answer);
            if let Err(error) = &answer {
                tracing::debug!(replica.name = %name, error = without_contents(&error.to_string()), "an ask came to nothing");
            }
            if let Some(run) = &mut follower.run {
                run.asks.remove(&id);
                run.plan.answered(id, answer, now);
            }
        });
        if let Some(run) = &mut self.run {
            run.asks.insert(id, Task(task));
        }
    }

    fn read_copy(&mut self, ctx: &mut Context<Self>, id: u64, fetching: Fetching) {
        let contents = self.parts.contents.clone();
        let content = Content {
            kind: ContentKind::Replica,
            name: self.settings.replica.name.clone(),
        };
        let work = async move { contents.fetch(&content, &fetching).await };
        drop(
            self.run_task(ctx, READ_LIMIT, work, move |follower, result, now| {
                let read = result.and_then(|read| read.map_err(|error| error.to_string()));
                follower.take_trouble(read.as_ref().err());
                if let Some(plan) = follower.plan() {
                    plan.local_read(id, read, now);
                }
            }),
        );
    }

    fn write(&mut self, ctx: &mut Context<Self>, id: u64, change: ReplicaChange) {
        let Some(run) = &self.run else {
            return;
        };
        let name = self.settings.replica.name.clone();
        if let ReplicaChange::Begin {
            reason,
            why,
            outrun,
            ..
        } = &change
        {
            if *outrun {
                tracing::warn!(replica.name = %name, bootstrap.reason = %reason, error = without_contents(why), "a bootstrap came to nothing; another begins");
            } else {
                tracing::info!(replica.name = %name, bootstrap.reason = %reason, bootstrap.why = without_contents(why), "a bootstrap begins");
            }
        }
        if let ReplicaChange::Repair {
            head,
            modifications,
            ..
        } = &change
        {
            tracing::warn!(replica.name = %name, dataset.head = head, repair.entries = modifications.len(), "a range of a replica differs from its upstream; it is put right");
        }
        let apply = Apply {
            replica: name,
            stake: run.stake.clone(),
            change,
        };
        let held_until = self.parts.held_until.clone();
        let (writer, round) = (self.writer.clone(), self.round);
        let send = async move {
            let until = Instant::now() + WRITE_LIMIT;
            let mut pause = BUSY_PAUSE;
            loop {
                let held = held_until.borrow().is_none_or(|end| Instant::now() < end);
                if !held {
                    // Somebody else may have taken over; the rows would refuse it.
                    return Ok(Err(ApplyError::Fenced));
                }
                match writer.send(apply.clone(), WRITE_LIMIT).await {
                    // What was fetched is not thrown away because others fetch too.
                    Ok(Err(ApplyError::Busy(_))) if Instant::now() < until => {
                        sleep(pause).await;
                        pause = (pause * 2).min(BUSY_PAUSE * 16);
                    }
                    answer => return answer,
                }
            }
        };
        ctx.spawn(
            wrap_future::<_, Self>(send).map(move |answer, follower, ctx| {
                if round != follower.round {
                    return;
                }
                let written = written(answer);
                let error = match &written {
                    Written::Done(_) => None,
                    Written::Not(why) => Some(why),
                };
                follower.take_trouble(error);
                if let Some(plan) = follower.plan() {
                    plan.written(id, written, Timestamp::now());
                }
                follower.turn(ctx);
            }),
        );
    }

    /// Says why rows cannot be read or written, once for each reason.
    fn take_trouble(&mut self, error: Option<&String>) {
        let name = &self.settings.replica.name;
        match error {
            Some(error) if self.trouble.as_ref() != Some(error) => {
                tracing::warn!(replica.name = %name, error = %error, "a replica's rows could not be read or written; they are read anew");
            }
            None if self.trouble.is_some() => {
                tracing::info!(replica.name = %name, "a replica's rows are read and written again");
            }
            _ => return,
        }
        self.trouble = error.cloned();
    }
}

fn written(answer: Result<Result<Applied, ApplyError>, IntercomError>) -> Written {
    match answer {
        Ok(Ok(applied)) => Written::Done(applied),
        Ok(Err(error)) => Written::Not(error.to_string()),
        Err(error) => Written::Not(error.to_string()),
    }
}

/// Asks an upstream. A wait for its head to move takes no fetch slot.
async fn answer(
    upstream: Arc<dyn Upstream>,
    ask: Ask,
    slots: Owner,
) -> Result<Answer, UpstreamError> {
    let _slot = match ask {
        Ask::Watch { .. } => None,
        _ => Some(slots.acquire().await),
    };
    ask.put_to(&*upstream).await
}
