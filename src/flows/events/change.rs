//! What the Subscriber has written of an event.

use super::model::{Decision, Place};
use crate::time::Timestamp;

/// A change of one event, as the Subscriber decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventChange {
    /// It was decided.
    Decided {
        /// The event.
        place: Place,
        /// `Relevant`, `Irrelevant` or `Skipped`.
        decision: Decision,
        /// When.
        at: Timestamp,
        /// Why, where an operator skipped it.
        reason: Option<String>,
    },
    /// Its handler was done with it. It is relevant with this, also where no
    /// decision was written before: then it was decided at the same time. One that
    /// an operator skipped meanwhile stays skipped.
    Processed {
        /// The event.
        place: Place,
        /// When.
        at: Timestamp,
        /// Times its handler was tried, this one included.
        attempts: u32,
    },
    /// Its handler failed, or it came late.
    Failed {
        /// The event.
        place: Place,
        /// Times its handler was tried, this one included where it was.
        attempts: u32,
        /// Why; bounded.
        error: String,
    },
    /// It came after its place was passed, or while a later one was with its handler.
    Late(Place),
    /// All events up to this place are done with.
    Position(Place),
    /// The subscription halts on an event.
    Halted {
        /// The event.
        place: Place,
        /// When.
        at: Timestamp,
        /// Why; bounded.
        error: String,
    },
}
