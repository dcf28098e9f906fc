//! Scheduler → FetcherPool.

use super::{Ticket, Work};

/// Fetch this; the ticket travels on with the outcome.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub struct Fetch {
    /// What to fetch.
    pub work: Work,
    /// Its credit.
    pub ticket: Ticket,
}
