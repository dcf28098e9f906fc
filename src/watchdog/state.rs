//! State that a service keeps across restarts (LLR-SS-1 to LLR-SS-5).
//!
//! The service holds [`StateHandle`]s; the watchdog's side holds the
//! [`StateSaver`], which is notified of each new value. What is saved is JSON
//! of a version; see [`super::StateSource`] for the one that writes it.

use super::state_source::StateSource;
use crate::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::sync::Arc;
use tokio::sync::watch;

/// What a service keeps across restarts.
pub trait State: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Version of the shape that is written. Raised when an older reader would
    /// misunderstand what is written now.
    const VERSION: i32;

    /// Reads what was saved in the shape of `version`. A type that still
    /// understands older shapes reads them here, into the shape of today.
    ///
    /// # Errors
    /// The version is not understood, or the text is not of its shape.
    fn read(version: i32, json: &str) -> Result<Self, StateError> {
        if version == Self::VERSION {
            Ok(serde_json::from_str(json)?)
        } else {
            Err(StateError::Version {
                found: version,
                written: Self::VERSION,
            })
        }
    }

    /// Makes what is written of this state and of what is saved already, which
    /// may be another server's where several share a database. Without word of
    /// its own, a type writes its state alone.
    #[must_use]
    fn merge(self, saved: Self, now: Timestamp) -> Self {
        drop((saved, now));
        self
    }
}

/// Why a saved state is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Another version of Highwater wrote it.
    #[error("it has version {found}, and this Highwater reads version {written}")]
    Version {
        /// Version it was saved in.
        found: i32,
        /// Version that is written now.
        written: i32,
    },
    /// It is not what a state of its version looks like.
    #[error("it cannot be read: {0}")]
    Broken(String),
}

impl From<serde_json::Error> for StateError {
    fn from(error: serde_json::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// A value, and how often it was changed.
#[derive(Debug)]
pub(super) struct Revised<S> {
    pub(super) revision: u64,
    pub(super) value: S,
}

pub(super) type StateSender<S> = Arc<watch::Sender<Revised<S>>>;

/// A service's hold on its state.
#[derive(Debug)]
pub struct StateHandle<S> {
    sender: StateSender<S>,
}

impl<S> Clone for StateHandle<S> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
        }
    }
}

impl<S: Clone> StateHandle<S> {
    /// The current state (LLR-SS-3).
    pub fn current(&self) -> S {
        self.sender.borrow().value.clone()
    }

    /// Replaces the state; the saver is notified (LLR-SS-4).
    pub fn update(&self, state: S) {
        self.modify(|current| *current = state);
    }

    /// Changes the state in place; the saver is notified (LLR-SS-4).
    pub fn modify(&self, change: impl FnOnce(&mut S)) {
        self.sender.send_modify(|current| {
            change(&mut current.value);
            current.revision += 1;
        });
    }
}

/// The watchdog's side of one service's state (LLR-SS-1).
#[derive(Debug)]
pub struct StateSaver<S> {
    service: Arc<str>,
    sender: StateSender<S>,
    seen: u64,
}

impl<S: State> StateSaver<S> {
    /// Begins with an initial value.
    pub fn new(service: &str, initial: S) -> Self {
        let first = Revised {
            revision: 0,
            value: initial,
        };
        Self {
            service: Arc::from(service),
            sender: Arc::new(watch::Sender::new(first)),
            seen: 0,
        }
    }

    /// Begins with what was saved (version and JSON), or with the default. The
    /// second value says why what was saved is not used.
    pub fn restored(service: &str, saved: Option<(i32, &str)>) -> (Self, Option<StateError>) {
        let read = saved.map(|(version, json)| S::read(version, json));
        match read {
            None => (Self::new(service, S::default()), None),
            Some(Ok(state)) => (Self::new(service, state), None),
            Some(Err(error)) => (Self::new(service, S::default()), Some(error)),
        }
    }

    /// A handle linked to this saver (LLR-SS-2).
    pub fn handle(&self) -> StateHandle<S> {
        StateHandle {
            sender: self.sender.clone(),
        }
    }

    /// Waits for news of the state: yields the newest value, once, however
    /// often it was changed meanwhile; never the initial one (LLR-SS-5).
    pub async fn updated(&mut self) -> S {
        let mut receiver = self.sender.subscribe();
        let seen = self.seen;
        loop {
            // Fails only without a sender, and this holds one.
            if let Ok(current) = receiver.wait_for(|current| current.revision > seen).await {
                self.seen = current.revision;
                return current.value.clone();
            }
        }
    }

    /// Forgets the type, for the one that writes every service's state.
    pub fn source(&self) -> StateSource {
        StateSource::new(self.service.clone(), self.sender.clone())
    }
}

/// What was saved of a service's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedValue {
    /// Name of the service.
    pub service: String,
    /// Version of its shape.
    pub version: i32,
    /// The state, as JSON.
    pub json: String,
    /// When it was saved.
    pub saved_at: Timestamp,
}

/// The state of a registered service, its type forgotten.
#[derive(Clone)]
pub(super) struct AnyState {
    /// The [`StateHandle`].
    handle: Arc<dyn Any + Send + Sync>,
    source: StateSource,
    problem: Option<StateError>,
}

impl std::fmt::Debug for AnyState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnyState")
    }
}

impl AnyState {
    pub(super) fn restored<S: State>(service: &str, saved: Option<&SavedValue>) -> Self {
        let value = saved.map(|saved| (saved.version, saved.json.as_str()));
        let (saver, problem) = StateSaver::<S>::restored(service, value);
        let mut source = saver.source();
        if let (Some(saved), None) = (saved, &problem) {
            source = source.saved_before(saved.saved_at, saved.json.len());
        }
        Self {
            handle: Arc::new(saver.handle()),
            source,
            problem,
        }
    }

    pub(super) fn handle<S: 'static>(&self) -> Option<StateHandle<S>> {
        self.handle.downcast_ref::<StateHandle<S>>().cloned()
    }

    pub(super) fn source(&self) -> StateSource {
        self.source.clone()
    }

    /// Why what was saved is not used.
    pub(super) fn problem(&self) -> Option<&StateError> {
        self.problem.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use serde::Deserialize;

    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct Heights {
        heights: Vec<u64>,
    }

    impl State for Heights {
        const VERSION: i32 = 2;

        fn read(version: i32, json: &str) -> Result<Self, StateError> {
            match version {
                // One height, before there were several.
                1 => Ok(Self {
                    heights: vec![serde_json::from_str(json)?],
                }),
                2 => Ok(serde_json::from_str(json)?),
                found => Err(StateError::Version {
                    found,
                    written: Self::VERSION,
                }),
            }
        }
    }

    fn heights(heights: &[u64]) -> Heights {
        Heights {
            heights: heights.to_vec(),
        }
    }

    #[test]
    fn llr_ss_2_handles_made_from_a_saver_are_linked_to_it() {
        let mut saver = StateSaver::new("demo", heights(&[1]));
        let (one, two) = (saver.handle(), saver.handle().clone());
        one.update(heights(&[2]));
        assert_eq!(two.current(), heights(&[2]));
        assert_eq!(saver.updated().now_or_never(), Some(heights(&[2])));
        let other = StateSaver::new("demo", heights(&[1]));
        assert_eq!(other.handle().current(), heights(&[1]));
    }

    #[test]
    fn llr_ss_3_a_handle_reads_the_current_state() {
        let handle = StateSaver::new("demo", heights(&[1, 2])).handle();
        assert_eq!(handle.current(), heights(&[1, 2]));
        handle.modify(|state| state.heights.push(3));
        assert_eq!(handle.current(), heights(&[1, 2, 3]));
    }

    #[tokio::test]
    async fn llr_ss_4_an_update_notifies_the_saver_of_the_newest_value() {
        let mut saver = StateSaver::new("demo", Heights::default());
        let handle = saver.handle();
        let waiting = tokio::spawn(async move { (saver.updated().await, saver) });
        tokio::task::yield_now().await;
        handle.update(heights(&[1]));
        let (value, mut saver) = waiting.await.unwrap();
        assert_eq!(value, heights(&[1]));
        for height in 2..9 {
            handle.modify(|state| state.heights.push(height));
        }
        let newest = saver.updated().now_or_never().unwrap();
        assert_eq!(newest.heights.len(), 8, "many changes are one news");
        assert_eq!(saver.updated().now_or_never(), None, "and it is told once");
    }

    #[test]
    fn llr_ss_5_the_initial_state_is_no_news() {
        let saved = Some((2, r#"{"heights":[7]}"#));
        for saved in [None, saved] {
            let (mut saver, _) = StateSaver::<Heights>::restored("demo", saved);
            assert_eq!(saver.updated().now_or_never(), None);
            assert!(saver.source().unsaved().is_none());
            assert_eq!(saver.source().news().now_or_never(), None);
            saver.handle().update(Heights::default());
            assert!(saver.updated().now_or_never().is_some());
        }
    }

    #[test]
    fn a_state_of_an_older_version_is_read_by_its_type() {
        let (saver, problem) = StateSaver::<Heights>::restored("demo", Some((1, "7")));
        assert_eq!((saver.handle().current(), problem), (heights(&[7]), None));
    }

    #[test]
    fn a_state_that_cannot_be_read_is_told_and_not_used() {
        let (saver, problem) = StateSaver::<Heights>::restored("demo", Some((3, "{}")));
        assert_eq!(saver.handle().current(), Heights::default());
        let problem = problem.unwrap().to_string();
        assert!(
            problem.contains("version 3") && problem.contains("version 2"),
            "{problem}"
        );
        for (version, broken) in [(2, "{"), (2, "[7]"), (1, "\"a\"")] {
            let (_, problem) = StateSaver::<Heights>::restored("demo", Some((version, broken)));
            assert!(matches!(problem, Some(StateError::Broken(_))), "{broken}");
        }
    }
}
