//! Events: every ledger event of a subscription is recorded once and processed
//! in order.
//!
//! A [`Source`] hears events and hands them to a [`Sink`], which answers when
//! they are durable. What is recorded is judged (relevant or not), and relevant
//! events are processed one after another, in the order of their [`Place`].

mod change;
mod model;
mod source;

pub use change::EventChange;
pub use model::{
    Checkpoint, Decision, Heard, HeardProblem, Judgement, Known, OpenEvent, Place, Recorded,
    SubscriptionName,
};
pub use source::{BlockRef, Fork, Sink, SinkError, Source, SourceEnd, SourceState};
