//! Where events come from: a gateway that calls back, or a ledger's stream.

use super::model::{Checkpoint, Heard, Recorded};
use super::window::RefusedBlock;
use futures_util::future::BoxFuture;
use std::time::{Duration, Instant};

/// Where the events of a subscription come from.
///
/// The Subscriber that holds the subscription's lease runs it, drops the future
/// to end it, and runs it again, with backoff, when it ends.
pub trait Source: Send + Sync + 'static {
    /// Asks for events from `checkpoint` on and hands them to `sink` until
    /// something ends it. It resumes where nothing is missed, and so hands over
    /// what is known already as well: the sink knows it again.
    fn run<'a>(&'a self, checkpoint: Checkpoint, sink: &'a dyn Sink) -> BoxFuture<'a, SourceEnd>;

    /// What it is, for pages and logs: the address without secrets.
    fn place(&self) -> String;
}

/// Where a source puts what it hears.
pub trait Sink: Send + Sync {
    /// Records events; answered when they are durable. Bounded by the caller:
    /// a few hundred at a time.
    fn record(&self, heard: Vec<Heard>) -> BoxFuture<'_, Result<Recorded, SinkError>>;

    /// Remembers a document of the source's own, given back to it as
    /// [`Checkpoint::source_state`]; commits with what was recorded before.
    fn remember(&self, state: String) -> BoxFuture<'_, Result<(), SinkError>>;

    /// Takes note of a fork: all blocks behind its ancestor are no part of the
    /// ledger any more, but those that it names as adopted, and those whose events
    /// are recorded after it. Told before the events of the blocks in their place;
    /// may be told again. Logged where it is not written.
    fn abandoned(&self, fork: Fork) -> BoxFuture<'_, Result<(), SinkError>> {
        tracing::warn!(
            blocks.abandoned = fork.abandoned.len(),
            block.ancestor = fork.ancestor.as_ref().map(|block| block.number),
            "the ledger abandoned blocks that were told of"
        );
        Box::pin(std::future::ready(Ok(())))
    }

    /// Tells how the source stands, for pages and metrics.
    fn tell(&self, state: SourceState);

    /// How long nothing was heard of this subscription, by any way.
    fn silent_for(&self) -> Duration;

    /// Highest block of which an event is known by now.
    fn highest_block(&self) -> Option<i64>;

    /// What the hook of this server refused, and may not come again. `None` where
    /// there is no hook.
    fn refused(&self) -> Option<RefusedBlock> {
        None
    }

    /// What was refused until then has come again, or been asked for again and
    /// passed.
    fn passed(&self, _until: Instant) {}
}

/// A block of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Its number.
    pub number: i64,
    /// Its id.
    pub id: String,
}

/// The ledger goes on from an earlier block than the newest one known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The newest known block that is still part of the ledger; `None` where
    /// there is none (the ledger began anew, or the fork is deeper than what is
    /// remembered).
    pub ancestor: Option<BlockRef>,
    /// Known blocks that are no part of it any more, oldest first, for the log: the
    /// newest 32 of them all, of older ones some.
    pub abandoned: Vec<BlockRef>,
    /// Blocks that take their place, oldest first, at most a few hundred: events of
    /// them that are recorded already count, also if they were abandoned earlier.
    /// Empty where there are more: then they are recorded again.
    pub adopted: Vec<BlockRef>,
}

/// Why events were not recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The database is out of reach: hand them over again.
    #[error("the database is out of reach: {0}")]
    Away(String),
    /// The subscription is another server's now: end.
    #[error("the subscription is run by another server now")]
    Fenced,
    /// An event that the database refuses: a defect, or a trigger.
    #[error("the database refuses an event: {0}")]
    Refused(String),
}

/// How a source stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Asking for events.
    Connecting,
    /// Events come, from this block on, up to this one (a window).
    Live {
        /// First block asked for; `None` where the source has no blocks.
        from: Option<i64>,
        /// Last block asked for, where a window bounds it.
        to: Option<i64>,
    },
    /// Blocks that were missed are asked for.
    CatchingUp {
        /// How many are known to be missing.
        missing: u64,
    },
}

/// Why a source ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEnd {
    /// To be run again at once: a window was renewed, nothing failed.
    Renew,
    /// It failed: run again with backoff; or after the time that the other side
    /// asked for.
    Failed {
        /// The thing, the value and what was expected; bounded, without secrets.
        why: String,
        /// What the other side asked for (`Retry-After`).
        retry_after: Option<Duration>,
    },
    /// The other side will never take this: only a change of configuration
    /// mends it. Tried again rarely.
    Refused(String),
}
