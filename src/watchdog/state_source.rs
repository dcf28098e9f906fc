//! The writer's side of one service's state, with its type forgotten: what is
//! not yet saved, and how saving went.

use super::state::{State, StateSender};
use super::stats::lock;
use crate::time::Timestamp;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Pause after a first failed write; it doubles with each one more.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between failed writes.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How a service's state is kept, for pages and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct StateStatus {
    /// Name of the service.
    pub service: String,
    /// Version of the shape that is written.
    pub version: i32,
    /// When it was saved last, by this process or by the one before.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub saved_at: Option<Timestamp>,
    /// Size of what was saved last, as JSON.
    pub bytes: Option<usize>,
    /// Whether there is news that is not saved yet.
    pub unsaved: bool,
    /// Failed writes since the last one that succeeded.
    pub failures: u32,
    /// Why the last write failed; null when it succeeded.
    pub problem: Option<String>,
}

/// What a state is made into when it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The state, as JSON.
    pub value: String,
    /// Why what was saved before could not be read, and so not be merged.
    pub unreadable: Option<String>,
}

type Render =
    dyn Fn(Option<(i32, &str)>, Timestamp) -> Result<Rendered, serde_json::Error> + Send + Sync;

/// A state as it was when it was looked at, to be written.
#[derive(Clone)]
pub struct Unsaved {
    revision: u64,
    render: Arc<Render>,
}

impl std::fmt::Debug for Unsaved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unsaved({})", self.revision)
    }
}

impl Unsaved {
    /// What is to be written where `saved` (version and JSON) is written now.
    ///
    /// # Errors
    /// The state cannot be written as JSON.
    pub fn render(
        &self,
        saved: Option<(i32, &str)>,
        now: Timestamp,
    ) -> Result<Rendered, serde_json::Error> {
        (self.render)(saved, now)
    }
}

/// What is remembered of the writes; outlives the one that writes.
#[derive(Debug, Default)]
struct Record {
    revision: u64,
    saved_at: Option<Timestamp>,
    bytes: Option<usize>,
    failures: u32,
    problem: Option<String>,
}

trait Erased: Send + Sync {
    fn revision(&self) -> u64;
    fn look(&self) -> Unsaved;
    fn beyond(&self, revision: u64) -> BoxFuture<'static, ()>;
}

struct Of<S>(StateSender<S>);

impl<S: State> Erased for Of<S> {
    fn revision(&self) -> u64 {
        self.0.borrow().revision
    }

    fn look(&self) -> Unsaved {
        let (revision, state) = {
            let current = self.0.borrow();
            (current.revision, current.value.clone())
        };
        let render = move |saved: Option<(i32, &str)>, now| {
            let read = saved.map(|(version, json)| S::read(version, json));
            let (merged, unreadable) = match read {
                None => (state.clone(), None),
                Some(Ok(saved)) => (state.clone().merge(saved, now), None),
                Some(Err(error)) => (state.clone(), Some(error.to_string())),
            };
            Ok(Rendered {
                value: serde_json::to_string(&merged)?,
                unreadable,
            })
        };
        Unsaved {
            revision,
            render: Arc::new(render),
        }
    }

    fn beyond(&self, revision: u64) -> BoxFuture<'static, ()> {
        let sender = self.0.clone();
        let wait = async move {
            let mut receiver = sender.subscribe();
            // Fails only without a sender, and this holds one.
            let met = receiver.wait_for(|current| current.revision > revision);
            drop(met.await);
        };
        wait.boxed()
    }
}

/// One service's state as the writer sees it; clones are the same.
#[derive(Clone)]
pub struct StateSource {
    service: Arc<str>,
    version: i32,
    state: Arc<dyn Erased>,
    record: Arc<Mutex<Record>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl std::fmt::Debug for StateSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StateSource({} v{})", self.service, self.version)
    }
}

impl StateSource {
    pub(super) fn new<S: State>(service: Arc<str>, sender: StateSender<S>) -> Self {
        Self {
            service,
            version: S::VERSION,
            state: Arc::new(Of(sender)),
            record: Arc::default(),
            turn: Arc::default(),
        }
    }

    /// Service whose state it is.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Version of the shape that is written.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// Takes note of what an earlier process saved.
    #[must_use]
    pub fn saved_before(self, at: Timestamp, bytes: usize) -> Self {
        {
            let mut record = lock(&self.record);
            record.saved_at = Some(at);
            record.bytes = Some(bytes);
        }
        self
    }

    /// Waits until there is news that is not saved; at once when there is.
    pub async fn news(&self) {
        let saved = lock(&self.record).revision;
        self.state.beyond(saved).await;
    }

    /// The state, where it has news that is not saved.
    pub fn unsaved(&self) -> Option<Unsaved> {
        let saved = lock(&self.record).revision;
        (self.state.revision() > saved).then(|| self.state.look())
    }

    /// The right to write: one at a time, so that nothing older is written over
    /// something newer.
    pub async fn turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }

    /// Takes note of a write.
    pub fn saved(&self, what: &Unsaved, at: Timestamp, bytes: usize) {
        let mut record = lock(&self.record);
        *record = Record {
            revision: what.revision,
            saved_at: Some(at),
            bytes: Some(bytes),
            failures: 0,
            problem: None,
        };
    }

    /// Takes note of a write that failed; answers how long to wait before the next.
    pub fn failed(&self, problem: impl std::fmt::Display) -> Duration {
        let mut record = lock(&self.record);
        record.failures = record.failures.saturating_add(1);
        record.problem = Some(problem.to_string());
        pause_after(record.failures)
    }

    /// How the state is kept.
    pub fn status(&self) -> StateStatus {
        let newest = self.state.revision();
        let record = lock(&self.record);
        StateStatus {
            service: self.service.to_string(),
            version: self.version,
            saved_at: record.saved_at,
            bytes: record.bytes,
            unsaved: newest > record.revision,
            failures: record.failures,
            problem: record.problem.clone(),
        }
    }
}

fn pause_after(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::super::StateSaver;
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    struct Mine(BTreeMap<String, u32>);

    impl State for Mine {
        const VERSION: i32 = 1;

        fn merge(self, mut saved: Self, _: Timestamp) -> Self {
            saved.0.extend(self.0);
            saved
        }
    }

    fn mine(name: &str, value: u32) -> Mine {
        Mine([(name.to_owned(), value)].into())
    }

    #[test]
    fn what_is_saved_is_merged_and_what_cannot_be_read_is_told() {
        let saver = StateSaver::new("demo", Mine::default());
        let source = saver.source();
        assert!(source.unsaved().is_none());
        saver.handle().update(mine("a", 2));
        let unsaved = source.unsaved().unwrap();
        let now = Timestamp::from_millis(0);
        let render = |saved| unsaved.render(saved, now).unwrap();
        assert_eq!(render(None).value, r#"{"a":2}"#);
        let merged = render(Some((1, r#"{"a":1,"b":1}"#)));
        assert_eq!(
            (&*merged.value, merged.unreadable),
            (r#"{"a":2,"b":1}"#, None)
        );
        let other = render(Some((9, "{}")));
        assert_eq!(other.value, r#"{"a":2}"#);
        assert!(other.unreadable.unwrap().contains("version 9"));
    }

    #[test]
    fn news_that_come_while_a_state_is_written_stay_news() {
        let saver = StateSaver::new("demo", Mine::default());
        let source = saver.source();
        saver.handle().update(mine("a", 1));
        let first = source.unsaved().unwrap();
        saver.handle().update(mine("a", 2));
        let at = Timestamp::from_millis(5);
        source.saved(&first, at, 7);
        let status = source.status();
        assert!(status.unsaved && status.saved_at == Some(at) && status.bytes == Some(7));
        assert!(source.clone().news().now_or_never().is_some());
        source.saved(&source.unsaved().unwrap(), at, 7);
        assert!(!source.status().unsaved);
        assert!(source.news().now_or_never().is_none());
    }

    #[test]
    fn failed_writes_are_shown_and_spaced() {
        let saver = StateSaver::new("demo", Mine::default());
        let source = saver.source();
        saver.handle().update(mine("a", 1));
        let pauses: Vec<u64> = (0..8)
            .map(|_| source.failed("disk full").as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        let status = source.status();
        assert_eq!(
            (status.failures, status.problem.as_deref()),
            (8, Some("disk full"))
        );
        source.saved(&source.unsaved().unwrap(), Timestamp::from_millis(1), 1);
        assert_eq!(
            (source.status().failures, source.status().problem),
            (0, None)
        );
    }
}
