//! State that a service keeps across restarts (LLR-SS-1 to LLR-SS-5).
//!
//! The service holds the [`StateHandle`]; whoever persists holds the
//! [`StateCopy`], which knows what was saved last and so what is news.

use super::stats::lock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// A service's hold on its state.
#[derive(Debug)]
pub struct StateHandle<S> {
    sender: Arc<watch::Sender<S>>,
}

impl<S> Clone for StateHandle<S> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
        }
    }
}

impl<S: Clone> StateHandle<S> {
    /// The current state.
    pub fn current(&self) -> S {
        self.sender.borrow().clone()
    }

    /// Replaces the state; the saver is notified.
    pub fn update(&self, state: S) {
        self.sender.send_replace(state);
    }
}

/// The saver's side of one state, with its type forgotten.
#[derive(Clone)]
pub struct StateCopy {
    service: Arc<str>,
    version: i32,
    saved: Arc<Mutex<Option<String>>>,
    read: Arc<dyn Fn() -> Result<String, serde_json::Error> + Send + Sync>,
}

impl std::fmt::Debug for StateCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StateCopy({} v{})", self.service, self.version)
    }
}

impl StateCopy {
    /// Service whose state it is.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Version of the state's shape.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// The state as JSON, when it differs from what was saved last.
    ///
    /// # Errors
    /// The state cannot be written as JSON.
    pub fn unsaved(&self) -> Result<Option<String>, serde_json::Error> {
        let value = (self.read)()?;
        let differs = lock(&self.saved).as_deref() != Some(value.as_str());
        Ok(differs.then_some(value))
    }

    /// Remembers what was saved.
    pub fn mark_saved(&self, value: String) {
        *lock(&self.saved) = Some(value);
    }
}

/// Links a handle and a saver's copy, from what was saved or a default.
///
/// A saved state of another version, or one that cannot be read, is not used;
/// the second value says why.
pub fn state<S>(
    service: &str,
    version: i32,
    saved: Option<(i32, &str)>,
) -> (StateHandle<S>, StateCopy, Option<String>)
where
    S: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let (initial, problem) = match saved {
        None => (None, None),
        Some((saved_version, _)) if saved_version != version => (
            None,
            Some(format!(
                "it has version {saved_version}, this Highwater writes version {version}"
            )),
        ),
        Some((_, value)) => match serde_json::from_str::<S>(value) {
            Ok(state) => (Some(state), None),
            Err(error) => (None, Some(error.to_string())),
        },
    };
    let sender = Arc::new(watch::Sender::new(initial.unwrap_or_default()));
    let handle = StateHandle {
        sender: sender.clone(),
    };
    let read = move || serde_json::to_string(&*sender.borrow());
    // The initial value is no news (LLR-SS-5).
    let initial_text = read().ok();
    let copy = StateCopy {
        service: Arc::from(service),
        version,
        saved: Arc::new(Mutex::new(initial_text)),
        read: Arc::new(read),
    };
    (handle, copy, problem)
}

/// The state of a registered service, its type forgotten.
#[derive(Clone)]
pub(super) struct AnyState {
    handle: Arc<dyn std::any::Any + Send + Sync>,
    copy: StateCopy,
    problem: Option<String>,
}

impl std::fmt::Debug for AnyState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.copy.fmt(f)
    }
}

impl AnyState {
    pub(super) fn new<S>(service: &str, version: i32, saved: Option<(i32, &str)>) -> Self
    where
        S: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let (handle, copy, problem) = state::<S>(service, version, saved);
        Self {
            handle: Arc::new(handle),
            copy,
            problem,
        }
    }

    pub(super) fn handle<S: 'static>(&self) -> Option<StateHandle<S>> {
        self.handle.downcast_ref::<StateHandle<S>>().cloned()
    }

    pub(super) fn copy(&self) -> StateCopy {
        self.copy.clone()
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llr_ss_1_to_5_a_copy_tells_news_of_the_handle_and_not_the_initial_state() {
        let (handle, copy, problem) = state::<Vec<u8>>("demo", 1, Some((1, "[7]")));
        assert_eq!(problem, None);
        assert_eq!(handle.current(), [7]);
        assert_eq!(
            copy.unsaved().unwrap(),
            None,
            "the initial state is no news"
        );
        handle.update(vec![7, 8]);
        let news = copy.unsaved().unwrap().unwrap();
        assert_eq!(news, "[7,8]");
        copy.mark_saved(news);
        assert_eq!(copy.unsaved().unwrap(), None);
    }

    #[test]
    fn a_state_that_cannot_be_read_is_reported_and_not_used() {
        let (handle, _, problem) = state::<Vec<u8>>("demo", 2, Some((1, "[7]")));
        assert!(problem.unwrap().contains("version 1"));
        assert!(handle.current().is_empty());
        let (_, _, problem) = state::<Vec<u8>>("demo", 1, Some((1, "{")));
        assert!(problem.is_some());
    }
}
