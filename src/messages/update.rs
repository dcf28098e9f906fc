//! FetcherPool → Updater, and the drain.

use super::{Outcome, Ticket};

/// Write these outcomes; answered as soon as they are gathered, before they are
/// written.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub struct Commit(pub Vec<Done>);

/// One outcome on its way into the database.
#[derive(Debug)]
pub struct Done {
    /// What came of the work.
    pub outcome: Outcome,
    /// Its credit, which goes on to the Scheduler once it is written.
    pub ticket: Ticket,
}

/// Write what is gathered now; answered when nothing is left to write.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub struct Flush;
