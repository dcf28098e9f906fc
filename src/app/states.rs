//! What services kept across the restart: each state is restored from what was
//! saved; what cannot be read is set aside, and never lost in silence.

use crate::store::{SavedState, Store};
use crate::watchdog::{Registration, State, StateSaver, StateSource};
use actix::{Actor, Context};

/// The saver of a service's state, and the source by which it is written.
pub(super) async fn restore<A, S>(
    registration: &Registration<A>,
    service: &str,
    store: &Store,
    saved: &[SavedState],
    runtime: &tokio::runtime::Handle,
) -> (StateSaver<S>, StateSource)
where
    A: Actor<Context = Context<A>>,
    S: State,
{
    let saved = saved.iter().find(|state| state.service == service);
    let value = saved.map(|state| (state.version, state.value.as_str()));
    let (saver, problem) = registration.state::<S>(value);
    let mut source = saver.source();
    match (saved, problem) {
        (Some(saved), Some(problem)) => {
            set_aside(saved.clone(), problem.to_string(), store, runtime).await;
        }
        (Some(saved), None) => source = source.saved_before(saved.saved_at, saved.value.len()),
        (None, _) => {}
    }
    (saver, source)
}

async fn set_aside(
    saved: SavedState,
    problem: String,
    store: &Store,
    runtime: &tokio::runtime::Handle,
) {
    let service = saved.service.clone();
    tracing::error!(
        service.name = %service,
        problem = %problem,
        "the saved state is not used: it is set aside, and the service begins afresh; see `highwater states list`"
    );
    let store = store.clone();
    let task = runtime.spawn(async move { store.set_state_aside(saved, &problem).await });
    let told = match task.await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    // It stays where it is, and whoever writes next sets it aside first.
    tracing::warn!(service.name = %service, error = %told, "the saved state was not set aside yet");
}
