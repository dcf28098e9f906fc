//! What a subscription's plan wants done, and what it is told of it.

use super::change::EventChange;
use super::model::{OpenEvent, Place};

/// Something to be done; each is answered by a call of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read open events in their order; answered by `loaded` or `load_failed`.
    Load(Load),
    /// Read open events in the order of recording; answered by `swept` or
    /// `sweep_failed`.
    Sweep(Sweep),
    /// Look up whether these are known: transaction and key. Answered by
    /// `judged` or `judge_failed`.
    Judge(Vec<(Place, String, Option<String>)>),
    /// Hand the event to the handler, for the so-many-th time; answered by
    /// `handled`.
    Handle(OpenEvent, u32),
    /// Write these changes; answered by `marked`.
    Mark(Vec<EventChange>),
}

/// A page of open events, by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// What was read for an earlier start of the plan is passed over.
    pub(super) round: u64,
    /// Behind this place; `None`: from the first one on.
    pub after: Option<Place>,
    /// So many at most.
    pub limit: usize,
}

/// A page of open events, by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// As in [`Load`].
    pub(super) round: u64,
    /// Recorded after this arrival.
    pub since: i64,
    /// So many at most.
    pub limit: usize,
    /// Highest arrival that was heard of when it was asked.
    pub(super) heard: i64,
}

/// What became of a [`Step::Mark`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marked {
    /// It is durable.
    Done,
    /// It is not, or nobody knows: it is asked again.
    Away(String),
    /// The lease is another server's, or an operator gave an order: the plan
    /// wants a new checkpoint.
    Fenced,
}
