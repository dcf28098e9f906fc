//! What tests of ledgers' streams share: a recorder in memory, and what the
//! Subscriber does with a source.

use futures_util::future::{BoxFuture, ready};
use highwater::config::{LedgerRole, LedgerSettings, LedgerSource};
use highwater::flows::events::{
    Checkpoint, Fork, Heard, Recorded, Sink, SinkError, Source, SourceEnd, SourceState,
};
use highwater::ledgers::{LedgerKind, LedgerNews, StreamLimits};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Records each event once, as the recorder does.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) kept: Mutex<Kept>,
}

#[derive(Default)]
pub(crate) struct Kept {
    /// Each event once, in the order of first arrival.
    pub(crate) events: Vec<Heard>,
    known: HashSet<(Option<i64>, String, String)>,
    /// How many came again.
    pub(crate) again: usize,
    pub(crate) state: Option<String>,
    pub(crate) forks: Vec<Fork>,
    pub(crate) told: Vec<SourceState>,
    pub(crate) ends: Vec<SourceEnd>,
    /// So often the database is away.
    pub(crate) away: usize,
}

impl Memory {
    /// Reads what is kept.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.kept.lock().unwrap())
    }

    /// How many events are recorded.
    pub(crate) fn count(&self) -> usize {
        self.look(|kept| kept.events.len())
    }

    /// Transactions of the events, in order.
    pub(crate) fn tx_ids(&self) -> Vec<String> {
        self.look(|kept| kept.events.iter().map(|e| e.tx_id.clone()).collect())
    }

    /// Blocks of the events, by the id that their event id begins with, each once.
    pub(crate) fn blocks(&self) -> Vec<String> {
        let ids = self.look(|kept| -> Vec<String> {
            let id = |event: &Heard| event.event_id.split(':').next().unwrap().to_owned();
            kept.events.iter().map(id).collect()
        });
        let mut seen = HashSet::new();
        ids.into_iter()
            .filter(|id| seen.insert(id.clone()))
            .collect()
    }

    /// Whether the source is level with its ledger.
    pub(crate) fn is_live(&self) -> bool {
        self.look(|kept| matches!(kept.told.last(), Some(SourceState::Live { .. })))
    }
}

impl Kept {
    fn away(&mut self) -> Result<(), SinkError> {
        if self.away == 0 {
            return Ok(());
        }
        self.away -= 1;
        Err(SinkError::Away("tests".to_owned()))
    }
}

impl Sink for Memory {
    fn record(&self, heard: Vec<Heard>) -> BoxFuture<'_, Result<Recorded, SinkError>> {
        assert!(heard.len() <= 1_000, "a few hundred at a time");
        let done = self.look(|kept| {
            kept.away()?;
            let mut recorded = Recorded::default();
            for event in heard {
                let id = (event.block, event.tx_id.clone(), event.event_id.clone());
                if kept.known.insert(id) {
                    kept.events.push(event);
                } else {
                    kept.again += 1;
                    recorded.known += 1;
                }
            }
            Ok(recorded)
        });
        Box::pin(ready(done))
    }

    fn remember(&self, state: String) -> BoxFuture<'_, Result<(), SinkError>> {
        let done = self.look(|kept| {
            kept.away()?;
            kept.state = Some(state);
            Ok(())
        });
        Box::pin(ready(done))
    }

    fn abandoned(&self, fork: Fork) -> BoxFuture<'_, Result<(), SinkError>> {
        self.look(|kept| kept.forks.push(fork));
        Box::pin(ready(Ok(())))
    }

    fn tell(&self, state: SourceState) {
        self.look(|kept| kept.told.push(state));
    }

    fn silent_for(&self) -> Duration {
        Duration::ZERO
    }

    fn highest_block(&self) -> Option<i64> {
        self.look(|kept| kept.events.iter().filter_map(|event| event.block).max())
    }
}

/// A source that is run again and again, as the Subscriber does.
pub(crate) struct Running(JoinHandle<()>);

impl Running {
    pub(crate) fn start(source: Arc<dyn Source>, memory: &Arc<Memory>) -> Self {
        let memory = Arc::clone(memory);
        Self(tokio::spawn(async move {
            loop {
                let checkpoint = Checkpoint {
                    source_state: memory.look(|kept| kept.state.clone()),
                    ..Checkpoint::default()
                };
                let end = source.run(checkpoint, memory.as_ref()).await;
                memory.look(|kept| kept.ends.push(end));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Notes what the batches would be told.
#[derive(Default)]
pub(crate) struct Noted {
    pub(crate) polls: Mutex<usize>,
    pub(crate) gaps: Mutex<usize>,
    pub(crate) committed: Mutex<Vec<String>>,
}

impl LedgerNews for Noted {
    fn poll_service_now(&self, _: &str, _: &str) {
        *self.polls.lock().unwrap() += 1;
    }

    fn transactions_committed(&self, _: &str, _: &str, tx_ids: Vec<String>) {
        self.committed.lock().unwrap().extend(tx_ids);
    }

    fn gap(&self, _: &str, _: &str) {
        *self.gaps.lock().unwrap() += 1;
    }
}

pub(crate) fn settings(kind: LedgerKind, url: &str) -> LedgerSettings {
    LedgerSettings {
        name: "streamed".to_owned(),
        kind,
        url: url.parse().unwrap(),
        role: LedgerRole::Primary,
        connections: 8,
        ids_per_request: 100,
        timeout: Duration::from_secs(10),
        wait: None,
        max_response_bytes: 8 << 20,
        stream: false,
        token: None,
    }
}

pub(crate) fn source(service: &str, start_block: i64) -> LedgerSource {
    LedgerSource {
        ledger: "streamed".to_owned(),
        service: service.to_owned(),
        address_prefixes: Vec::new(),
        start_block,
    }
}

/// Limits under which nothing happens but what a test makes happen.
pub(crate) fn patient() -> StreamLimits {
    StreamLimits {
        ping: Duration::from_secs(60),
        idle: Duration::from_secs(120),
        head_check: Duration::from_secs(600),
        head_retry: Duration::from_secs(600),
    }
}
