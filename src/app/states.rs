//! What services kept across the restart: each state is restored from what was
//! saved; what cannot be read is set aside, and never lost in silence.

use crate::store::{SavedState, Store};
use crate::watchdog::{SavedValue, WatchdogQuery};

/// What was saved, as the watchdog takes it.
pub(super) fn remembered(saved: &[SavedState]) -> Vec<SavedValue> {
    let saved = saved.iter();
    saved
        .map(|state| SavedValue {
            service: state.service.clone(),
            version: state.version,
            json: state.value.clone(),
            saved_at: state.saved_at,
        })
        .collect()
}

/// Sets aside what registered services could not use of what was saved.
pub(super) async fn set_unusable_aside(
    query: &WatchdogQuery,
    saved: Vec<SavedState>,
    store: &Store,
    runtime: &tokio::runtime::Handle,
) {
    for (service, problem) in query.unusable_states() {
        for saved in saved.iter().filter(|saved| saved.service == service) {
            set_aside(saved.clone(), problem.to_string(), store, runtime).await;
        }
    }
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
