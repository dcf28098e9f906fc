//! What travels between Scheduler, FetcherPool and Updater for batches.

use super::model::LedgerStatus;
use crate::ledgers::LedgerError;
use crate::store::{LeaseStake, PendingBatch};
use std::sync::Arc;
use std::time::Duration;

/// One request's worth of batches of one service.
#[derive(Clone, Debug)]
pub struct BatchesWork {
    /// Name of the ledger.
    pub ledger: Arc<str>,
    /// The lease under which the outcome may be written.
    pub stake: LeaseStake,
    /// Service id; `""` where the ledger has none.
    pub service_id: Arc<str>,
    /// The batches, in the order they are due; not empty.
    pub batches: Vec<PendingBatch>,
}

/// What came back for one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The ledger said so.
    Reported(LedgerStatus),
    /// The ledger answered the request and left this id out.
    Missing,
    /// Asked alone, the request fails in a way that others do not: why. The
    /// batch is put off, so that it holds up nobody.
    Unanswerable(String),
    /// The ledger will not answer for this id: why.
    Refused(String),
    /// Not asked, since the id cannot be one of the ledger's ids: why.
    Impossible(String),
    /// Not asked: the request failed, or its turn did not come.
    NotAsked,
}

/// What came of one piece of work.
#[derive(Clone, Debug)]
pub struct BatchesOutcome {
    /// What was asked.
    pub work: Arc<BatchesWork>,
    /// An answer for each batch, in the work's order.
    pub answers: Vec<Answer>,
    /// Ids answered that were not asked for.
    pub unasked: u64,
    /// Requests made.
    pub requests: u32,
    /// The failure that ended it, if one did.
    pub failure: Option<LedgerError>,
    /// A panic in the fetching code, if one ended it.
    pub panic: Option<String>,
    /// Time taken by all requests.
    pub took: Duration,
}

/// What the Scheduler is told when a piece of work is over.
#[derive(Clone, Debug)]
pub struct BatchesReport {
    /// Name of the ledger.
    pub ledger: Arc<str>,
    /// Service id.
    pub service_id: Arc<str>,
    /// Requests made.
    pub requests: u32,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// Ids the ledger answered for.
    pub answered: u64,
    /// Of those, settled.
    pub settled: u64,
    /// Answered with unknown.
    pub unknown: u64,
    /// Asked for and not answered.
    pub missing: u64,
    /// Not asked for, and still due.
    pub not_asked: u64,
    /// Answered and not asked for.
    pub unasked: u64,
    /// The outcome was not written, the lease being lost.
    pub fenced: bool,
    /// The lease under which it was fetched.
    pub stake: LeaseStake,
}

/// Why a piece of work failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The ledger's failure.
    Ledger(LedgerError),
    /// A panic in our own code: the service is backed off, so that a poisonous
    /// answer is not asked for in a loop.
    Panic(String),
    /// The database refused to take the outcome.
    Write(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ledger(error) => write!(f, "{error}"),
            Self::Panic(message) => write!(f, "a defect while asking: {message}"),
            Self::Write(message) => write!(f, "the answer could not be written: {message}"),
        }
    }
}

impl BatchesReport {
    /// The report of an outcome, before it is known what it changed.
    pub fn of(outcome: &BatchesOutcome) -> Self {
        let count = |test: fn(&Answer) -> bool| {
            u64::try_from(outcome.answers.iter().filter(|answer| test(answer)).count())
                .unwrap_or(u64::MAX)
        };
        let failure = match (&outcome.panic, &outcome.failure) {
            (Some(message), _) => Some(Failure::Panic(message.clone())),
            (None, Some(error)) => Some(Failure::Ledger(error.clone())),
            (None, None) => None,
        };
        Self {
            ledger: outcome.work.ledger.clone(),
            service_id: outcome.work.service_id.clone(),
            requests: outcome.requests,
            failure,
            answered: count(|answer| matches!(answer, Answer::Reported(_))),
            settled: 0,
            unknown: count(|answer| matches!(answer, Answer::Reported(LedgerStatus::Unknown))),
            missing: count(|answer| matches!(answer, Answer::Missing)),
            not_asked: count(|answer| matches!(answer, Answer::NotAsked)),
            unasked: outcome.unasked,
            fenced: false,
            stake: outcome.work.stake.clone(),
        }
    }
}
