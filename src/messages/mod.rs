//! Messages between actors: a file per conversation.

mod events;
mod fetch;
mod in_flight;
pub mod names;
mod record;
mod replicas;
mod schedule;
mod state;
mod update;
mod work;

pub use events::{EventsNews, EventsRefused, KnownNews, LookAgain};
pub use fetch::Fetch;
pub use in_flight::{InFlight, Ticket, TicketNews, WorkId};
pub use record::{Mark, Record};
pub use replicas::{Apply, ApplyError, FollowerOrder, Publish};
pub use schedule::{Drain, Settled, SettledWork, Wake};
pub use state::SaveStates;
pub use update::{Commit, Done, Flush};
pub use work::{Flow, Outcome, Page, Report, Want, Work};
