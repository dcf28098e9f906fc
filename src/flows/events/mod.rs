//! Events: every ledger event of a subscription is recorded once and processed
//! in order.
//!
//! A [`Source`] hears events and hands them to a [`Sink`], which answers when
//! they are durable. What is recorded is judged (relevant or not), and relevant
//! events are processed one after another, in the order of their [`Place`].

mod change;
mod extract;
mod json;
mod judging;
mod marking;
mod memory;
mod model;
mod plan;
#[cfg(test)]
mod plan_desk;
#[cfg(test)]
mod plan_model_ops;
#[cfg(test)]
mod plan_model_tests;
#[cfg(test)]
mod plan_tests;
mod plan_view;
mod reads;
mod reason;
mod settling;
mod source;
mod step;
mod story;
#[cfg(test)]
pub(crate) mod testing;
mod traits;
mod turn;
mod view;
mod window;

pub use change::EventChange;
pub use extract::{ExtractProblem, Extraction, LONGEST_KEY, LONGEST_TX_ID};
pub use memory::PAGE_BYTES;
pub use model::{
    Checkpoint, Decision, Heard, HeardProblem, Judgement, Known, OpenEvent, Place, Recorded,
    SubscriptionName,
};
pub use plan::SubscriptionPlan;
pub use plan_view::{SubscriptionState, SubscriptionView};
pub use reason::{LONGEST_REASON, read_reason};
pub use source::{BlockRef, Fork, Sink, SinkError, Source, SourceEnd, SourceState};
pub use step::{Load, Marked, Step, Sweep};
pub use story::{StoryLine, event_story, event_waits_for};
pub use traits::{EventHandler, EventRows, OpenPage, PageSize};
pub use view::{EventsView, Holder, SourceView, SubscriberView};
pub use window::{HeardSoFar, RefusedBlock, RenewReason, Window, WindowSettings, WindowStep};
