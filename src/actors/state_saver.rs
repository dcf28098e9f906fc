//! The StateSaver: persists the soft state of services.
//!
//! In: news of each state; [`SaveStates`] at a drain. Out: the store. On
//! failure: tried again, later and later; what was saved last, and why a write
//! failed, is kept outside, where pages and a next StateSaver find it.

use crate::messages::SaveStates;
use crate::store::{StateWrite, Store};
use crate::time::Timestamp;
use crate::watchdog::{Envelope, ServiceContext, StateSource};
use actix::fut::{ActorStreamExt as _, wrap_stream};
use actix::{Actor, AsyncContext, Context, Handler, ResponseFuture};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// A state is written so long after its first news, so that a busy one is
/// written once a second at most.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// Pause between attempts while everybody waits for a drain.
const HASTE: Duration = Duration::from_millis(300);
/// Attempts at a drain.
const LAST_ATTEMPTS: u32 = 5;

/// What a StateSaver is built from.
#[derive(Clone)]
pub struct StateSaverParts {
    /// Where states are kept.
    pub store: Store,
    /// Lists the states.
    pub states: Arc<dyn Fn() -> Vec<StateSource> + Send + Sync>,
}

/// Persists soft state.
pub struct StateSaver {
    context: ServiceContext,
    parts: StateSaverParts,
}

impl StateSaver {
    /// A saver of these states.
    pub const fn new(context: ServiceContext, parts: StateSaverParts) -> Self {
        Self { context, parts }
    }

    /// Writes a state whenever it has news, for as long as the actor lives.
    fn follow(&self, ctx: &mut Context<Self>, source: StateSource) {
        let runtime = self.context.runtime().clone();
        let store = self.parts.store.clone();
        let writes = futures_util::stream::unfold(None, move |pause: Option<Duration>| {
            let (runtime, store, source) = (runtime.clone(), store.clone(), source.clone());
            async move {
                match pause {
                    Some(pause) => sleep(pause).await,
                    None => {
                        source.news().await;
                        sleep(DEBOUNCE).await;
                    }
                }
                // A task of its own: a write ends in its turn, whatever
                // becomes of this actor.
                let task = runtime.spawn(save(source.clone(), store));
                let pause = task
                    .await
                    .unwrap_or_else(|error| Err(source.failed(format!("a task ended: {error}"))))
                    .err();
                Some(((), pause))
            }
        });
        let watch = wrap_stream::<_, Self>(writes)
            .map(|(), saver: &mut Self, _: &mut Context<Self>| saver.context.progress());
        ctx.spawn(watch.finish());
    }
}

fn save_failures(service: &str) -> metrics::Counter {
    metrics::counter!("highwater_state_save_failures_total", "service" => service.to_owned())
}

/// Writes a state, if it has news; on failure, how long to wait before the next
/// attempt.
async fn save(source: StateSource, store: Store) -> Result<(), Duration> {
    let _turn = source.turn().await;
    let Some(unsaved) = source.unsaved() else {
        return Ok(());
    };
    let now = Timestamp::now();
    let rendering = unsaved.clone();
    let decide = move |former: Option<&crate::store::SavedState>| {
        let former = former.map(|former| (former.version, former.value.as_str()));
        let rendered = rendering
            .render(former, now)
            .map_err(|error| format!("it cannot be written as JSON: {error}"))?;
        Ok(StateWrite {
            value: rendered.value,
            unreadable: rendered.unreadable,
        })
    };
    let service = source.service();
    match store.save_state(service, source.version(), decide).await {
        Ok(written) => {
            if let Some(problem) = written.unreadable {
                tracing::error!(
                    service.name = service,
                    problem = %problem,
                    "the saved state was not ours to read: it was set aside; see `highwater states list`"
                );
            }
            source.saved(&unsaved, now, written.value.len());
            Ok(())
        }
        Err(error) => {
            save_failures(service).increment(1);
            let pause = source.failed(&error);
            tracing::warn!(service.name = service, error = %error, pause = ?pause, "a state was not saved; tried again");
            Err(pause)
        }
    }
}

/// Writes all that has news, now; says what could not be written.
async fn flush(parts: StateSaverParts) -> Result<(), String> {
    let mut unsaved = Vec::new();
    for source in &(parts.states)() {
        let mut attempt = 1;
        while save(source.clone(), parts.store.clone()).await.is_err() {
            if attempt >= LAST_ATTEMPTS {
                let problem = source.status().problem.unwrap_or_default();
                unsaved.push(format!("{}: {problem}", source.service()));
                break;
            }
            attempt += 1;
            sleep(HASTE).await;
        }
    }
    if unsaved.is_empty() {
        Ok(())
    } else {
        Err(unsaved.join("; "))
    }
}

impl Actor for StateSaver {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for source in (self.parts.states)() {
            // Shown from the start, so that a rate can be taken.
            save_failures(source.service()).increment(0);
            self.follow(ctx, source);
        }
    }
}

impl Handler<Envelope<SaveStates>> for StateSaver {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, envelope: Envelope<SaveStates>, _: &mut Self::Context) -> Self::Result {
        let SaveStates = envelope.open();
        let task = self.context.runtime().spawn(flush(self.parts.clone()));
        Box::pin(async move {
            task.await
                .unwrap_or_else(|error| Err(format!("saving ended early: {error}")))
        })
    }
}
