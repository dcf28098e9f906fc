//! How the soft state of services is kept, and what was set aside: for the API,
//! the services page and the warnings of `/readyz`.

use super::single_flight::{Given, SingleFlight, Spacing};
use super::state::Http;
use crate::store::AsideState;
use crate::watchdog::StateStatus;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long what was set aside is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// States as shown.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct StateList {
    /// The state of each service that keeps one.
    pub items: Vec<StateStatus>,
    /// Always null: the list is whole.
    pub next: Option<String>,
    /// Saved states that could not be read, newest first; kept until an
    /// operator drops them (`highwater states drop SERVICE`).
    pub aside: Vec<AsideState>,
    /// Why it is not known what was set aside; null when it is.
    pub problem: Option<String>,
}

/// What was set aside changes seldom: one small query for all who ask.
pub(super) fn cache() -> Arc<SingleFlight<Result<Vec<AsideState>, String>>> {
    SingleFlight::new(Spacing {
        at_least: Duration::from_secs(1),
        times_taken: 10,
    })
}

async fn aside(http: &Http, patience: Duration) -> Result<Vec<AsideState>, String> {
    let store = http.state.store.clone();
    let read = move || async move {
        let read = store.states_aside().await;
        read.map_err(|error| error.to_string())
    };
    match http.aside.get(&http.runtime, patience, read).await {
        Given::Fresh(read) | Given::Stale(Some(read)) => read.as_ref().clone(),
        Given::Stale(None) => Err("the database does not answer".to_owned()),
    }
}

/// All there is to show.
pub(super) async fn list(http: &Http) -> StateList {
    let (aside, problem) = match aside(http, PATIENCE).await {
        Ok(aside) => (aside, None),
        Err(problem) => (Vec::new(), Some(problem)),
    };
    StateList {
        items: (http.state.states)(),
        next: None,
        aside,
        problem,
    }
}

/// What a person should look at.
pub(super) async fn warnings(http: &Http, patience: Duration) -> Vec<String> {
    let mut warnings: Vec<String> = (http.state.states)()
        .iter()
        .filter_map(|state| {
            let problem = state.problem.as_ref()?;
            Some(format!(
                "the state of service {} was not saved, {} times in a row: {problem}; it is tried again",
                state.service, state.failures
            ))
        })
        .collect();
    // Out of reach: the ping tells that, and better.
    let aside = aside(http, patience).await.unwrap_or_default();
    let mut newest: BTreeMap<&str, (&AsideState, usize)> = BTreeMap::new();
    for state in &aside {
        newest.entry(&state.service).or_insert((state, 0)).1 += 1;
    }
    warnings.extend(newest.values().map(|(state, count)| advice(state, *count)));
    warnings
}

/// What was set aside of a service, and what to do about it.
fn advice(newest: &AsideState, count: usize) -> String {
    let AsideState {
        service,
        set_aside_at,
        problem,
        ..
    } = newest;
    let many = if count == 1 {
        "a saved state of service".to_owned()
    } else {
        format!("{count} saved states of service")
    };
    format!(
        "{many} {service} could not be read and was set aside, last at {set_aside_at}: {problem}; \
         the service began afresh. Look at it with `highwater states list --output json`, then \
         `highwater states drop {service}`"
    )
}
