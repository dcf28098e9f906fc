//! A ledger's stream without a subscription: only so that batches are polled
//! sooner, and settled when their transactions are told.

use super::news::LedgerNews;
use super::{SawtoothStream, SplinterStream, StreamLimits};
use crate::config::{LedgerSettings, LedgerSource};
use crate::flows::events::{
    Checkpoint, Heard, Recorded, Sink, SinkError, Source, SourceEnd, SourceState,
};
use crate::ledgers::{ConnectError, LedgerKind};
use futures_util::future::{BoxFuture, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Pause after the first failure; doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Pause after a refusal: a person has to act.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);

/// Runs a service's stream and tells the batches.
pub struct LedgerWatch {
    ledger: String,
    service: String,
    source: Box<dyn Source>,
    sink: Forgetful,
}

/// Records nothing; remembers where a stream stands while the process lives.
#[derive(Default)]
struct Forgetful {
    state: Mutex<Option<String>>,
}

impl LedgerWatch {
    /// Builds it; sends nothing. `service` is empty on Sawtooth.
    ///
    /// # Errors
    /// Says which setting cannot be used.
    pub fn new(
        ledger: &LedgerSettings,
        service: &str,
        news: Arc<dyn LedgerNews>,
        limits: StreamLimits,
    ) -> Result<Self, ConnectError> {
        let source = LedgerSource {
            ledger: ledger.name.clone(),
            service: service.to_owned(),
            address_prefixes: Vec::new(),
            start_block: 0,
        };
        let news = Some(news);
        let source: Box<dyn Source> = match ledger.kind {
            LedgerKind::Sawtooth => {
                Box::new(SawtoothStream::new(ledger, &source, news, limits)?.beginning_at_newest())
            }
            LedgerKind::Splinter => Box::new(SplinterStream::new(ledger, &source, news, limits)?),
        };
        Ok(Self {
            ledger: ledger.name.clone(),
            service: service.to_owned(),
            source,
            sink: Forgetful::default(),
        })
    }

    /// Runs until it is dropped; begins again, with growing pauses, when the
    /// stream ends.
    pub async fn run(&self) {
        let mut pause = PAUSE;
        loop {
            let begun = Instant::now();
            let checkpoint = Checkpoint {
                source_state: self.sink.state(),
                ..Checkpoint::default()
            };
            let end = self.source.run(checkpoint, &self.sink).await;
            if begun.elapsed() >= LONGEST_PAUSE {
                pause = PAUSE;
            }
            let (why, wait) = match end {
                SourceEnd::Renew => continue,
                SourceEnd::Failed { why, retry_after } => (why, retry_after.unwrap_or(pause)),
                SourceEnd::Refused(why) => (why, REFUSED_PAUSE),
            };
            tracing::warn!(
                ledger.name = self.ledger,
                service.id = self.service,
                error = why,
                stream.retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "a ledger's stream ended; its batches are polled all the same"
            );
            // Servers that lost the same ledger must not all come back at once.
            tokio::time::sleep(wait.mul_f64(1.0 + 0.2 * rand::random::<f64>())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Forgetful {
    fn state(&self) -> Option<String> {
        let state = self.state.lock();
        state.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for Forgetful {
    fn record(&self, heard: Vec<Heard>) -> BoxFuture<'_, Result<Recorded, SinkError>> {
        Box::pin(ready(Ok(Recorded {
            known: heard.len(),
            ..Recorded::default()
        })))
    }

    fn remember(&self, state: String) -> BoxFuture<'_, Result<(), SinkError>> {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
        Box::pin(ready(Ok(())))
    }

    fn tell(&self, _: SourceState) {}

    fn silent_for(&self) -> Duration {
        Duration::ZERO
    }

    fn highest_block(&self) -> Option<i64> {
        None
    }
}
