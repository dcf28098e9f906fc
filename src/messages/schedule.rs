//! To the Scheduler: what is over, what is due now, and the drain.

use super::{Report, Ticket};
use crate::time::Timestamp;

/// These pieces of work are over: written, or failed.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub struct Settled(pub Vec<SettledWork>);

/// One piece of work that is over.
#[derive(Debug)]
pub struct SettledWork {
    /// What came of it.
    pub report: Report,
    /// When something of it is due again, at the earliest.
    pub due_at: Option<Timestamp>,
    /// How much was asked for.
    pub asked: usize,
    /// Its credit.
    pub ticket: Ticket,
}

/// Something is due now, or not any more.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub enum Wake {
    /// Batches of this ledger.
    Ledger(String),
    /// Sites were added, enabled, revived or changed.
    Sites,
    /// These sites were disabled or removed.
    SitesLeft(Vec<String>),
}

/// Hand out no more work.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub struct Drain;
