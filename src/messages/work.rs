//! What the engine carries, of whatever flow: a new flow adds an arm to each.

use crate::flows::batches::{BatchesOutcome, BatchesPage, BatchesReport, BatchesWork};
use crate::flows::sites::{SitesOutcome, SitesPage, SitesReport, SitesWant, SitesWork};
use crate::store::DueQuery;
use std::sync::Arc;

/// The flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Statuses of batches.
    Batches,
    /// Visits of sites.
    Sites,
}

impl Flow {
    /// All of them, each at the place of its [`Flow::index`].
    pub const ALL: [Self; 2] = [Self::Batches, Self::Sites];

    /// Its place among all.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name, also as an owner of fetch slots.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Batches => "batches",
            Self::Sites => "sites",
        }
    }
}

/// What a flow wants to have read from the database.
#[derive(Clone, Debug)]
pub enum Want {
    /// Due batches.
    Batches(DueQuery),
    /// Due sites, or what has to be done before they can be read.
    Sites(SitesWant),
}

/// What was read.
#[derive(Debug)]
pub enum Page {
    /// Due batches.
    Batches(BatchesPage),
    /// Due sites.
    Sites(SitesPage),
    /// Nothing: the lease under which sites were wanted is not held any more.
    SitesLost(SitesWant),
}

/// One piece of network work.
#[derive(Clone, Debug)]
pub enum Work {
    /// Statuses of batches of one service.
    Batches(Arc<BatchesWork>),
    /// A visit of a site.
    Sites(Arc<SitesWork>),
}

/// What came of a piece of work.
#[derive(Debug)]
pub enum Outcome {
    /// Statuses of batches of one service.
    Batches(BatchesOutcome),
    /// A visit of a site.
    Sites(SitesOutcome),
}

/// What the Scheduler learns of a piece of work.
#[derive(Clone, Debug)]
pub enum Report {
    /// Statuses of batches of one service.
    Batches(BatchesReport),
    /// A visit of a site.
    Sites(SitesReport),
}

impl Outcome {
    /// Which flow's.
    pub const fn flow(&self) -> Flow {
        match self {
            Self::Batches(_) => Flow::Batches,
            Self::Sites(_) => Flow::Sites,
        }
    }
}
