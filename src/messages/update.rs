//! FetcherPool → Updater, and the drain.

use super::{Outcome, Ticket};

/// Write this outcome; answered as soon as it is gathered, before it is
/// written.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub struct Commit {
    /// What came of the work.
    pub outcome: Outcome,
    /// Its credit, which goes on to the Scheduler once it is written.
    pub ticket: Ticket,
}

/// Write what is gathered now; answered when nothing is left to write.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub struct Flush;
