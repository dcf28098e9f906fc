//! What ledgers push: state deltas over a websocket, as a source of events and
//! as news for the batches.
//!
//! | file | holds |
//! |---|---|
//! | `news` | what the batches are told ([`LedgerNews`]) |
//! | `socket` | one connection: time limits, pings, bounds, credentials |
//! | `error` | how a stream fails, and what the Subscriber is told |
//! | `hand_over` | how events are handed to the recorder |
//! | `splinter_event`, `splinter` | a scabbard service's events, and their stream |
//! | `sawtooth_block`, `sawtooth_event` | Sawtooth's messages, and the events in them |
//! | `trail` | which blocks are known, what follows them, what is a fork: pure |
//! | `sawtooth_catch_up`, `sawtooth` | asking for blocks that were missed, and the stream |
//! | `watch` | a stream without a subscription |
//!
//! Facts were seen on `splinterd` 0.6.14 and Sawtooth 1.2.6; the exchanges are in
//! `tests/recordings` (`ws_*`).

mod error;
mod hand_over;
mod news;
mod sawtooth;
mod sawtooth_block;
mod sawtooth_catch_up;
mod sawtooth_event;
mod socket;
mod splinter;
mod splinter_event;
mod trail;
#[cfg(test)]
mod trail_tests;
mod watch;

pub use news::LedgerNews;
pub use sawtooth::SawtoothStream;
pub use splinter::SplinterStream;
pub use watch::LedgerWatch;

use super::{ConnectError, LedgerKind};
use crate::config::{LedgerSettings, LedgerSource};
use crate::flows::events::Source;
use std::sync::Arc;
use std::time::Duration;

/// Time limits of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// After so much silence the ledger is asked for a sign of life. Splinter
    /// itself pings every 30 s.
    pub ping: Duration,
    /// After so much silence the connection is given up.
    pub idle: Duration,
    /// How often Sawtooth is asked for its newest block, in case it was not told.
    pub head_check: Duration,
    /// The same while Sawtooth says that its validator is away, and at the start.
    pub head_retry: Duration,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            head_check: Duration::from_secs(60),
            head_retry: Duration::from_secs(2),
        }
    }
}

/// The stream of a ledger for a subscription. Nothing is sent before it is run.
///
/// `news` is told what concerns the batches; `None` where nobody polls them.
///
/// # Errors
/// Says which setting cannot be used.
pub fn stream_of(
    ledger: &LedgerSettings,
    source: &LedgerSource,
    news: Option<Arc<dyn LedgerNews>>,
) -> Result<Arc<dyn Source>, ConnectError> {
    let limits = StreamLimits::default();
    Ok(match ledger.kind {
        LedgerKind::Sawtooth => Arc::new(SawtoothStream::new(ledger, source, news, limits)?),
        LedgerKind::Splinter => Arc::new(SplinterStream::new(ledger, source, news, limits)?),
    })
}
