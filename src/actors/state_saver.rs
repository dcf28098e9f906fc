//! The StateSaver: persists the soft state of services.
//!
//! In: the states' copies, looked at once a second; [`SaveStates`] at a drain.
//! Out: the store. On failure: what was not saved is tried again.

use crate::messages::SaveStates;
use crate::store::{SavedState, Store};
use crate::time::Timestamp;
use crate::watchdog::{Envelope, ServiceContext, StateCopy};
use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture};
use std::sync::Arc;
use std::time::Duration;

/// News of a state is gathered for so long before it is written.
const DEBOUNCE: Duration = Duration::from_secs(1);

/// What a StateSaver is built from.
#[derive(Clone)]
pub struct StateSaverParts {
    /// Where states are kept.
    pub store: Store,
    /// Lists the states.
    pub states: Arc<dyn Fn() -> Vec<StateCopy> + Send + Sync>,
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

    fn arm(ctx: &mut Context<Self>) {
        ctx.run_later(DEBOUNCE, |saver, ctx| {
            saver.context.progress();
            let task = saver.context.runtime().spawn(save(saver.parts.clone()));
            // The next look comes after this one has ended, however long it takes.
            ctx.spawn(wrap_future::<_, Self>(task).map(|_, _, ctx| Self::arm(ctx)));
        });
    }
}

async fn save(parts: StateSaverParts) {
    for copy in &(parts.states)() {
        let value = match copy.unsaved() {
            Ok(Some(value)) => value,
            Ok(None) => continue,
            Err(error) => {
                tracing::error!(service.name = copy.service(), error = %error, "a state cannot be written as JSON");
                continue;
            }
        };
        let state = SavedState {
            service: copy.service().to_owned(),
            version: copy.version(),
            value: value.clone(),
            saved_at: Timestamp::now(),
        };
        match parts.store.save_state(state).await {
            Ok(()) => copy.mark_saved(value),
            Err(error) => {
                tracing::warn!(service.name = copy.service(), error = %error, "a state was not saved; tried again");
            }
        }
    }
}

impl Actor for StateSaver {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        Self::arm(ctx);
    }
}

impl Handler<Envelope<SaveStates>> for StateSaver {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, envelope: Envelope<SaveStates>, _: &mut Self::Context) -> Self::Result {
        let SaveStates = envelope.open();
        let task = self.context.runtime().spawn(save(self.parts.clone()));
        Box::pin(async move {
            if let Err(error) = task.await {
                tracing::error!(error = %error, "saving states ended early");
            }
        })
    }
}
