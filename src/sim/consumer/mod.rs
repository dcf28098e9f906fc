//! A simulated consumer of events: takes CloudEvents (structured JSON mode)
//! on `/process`, and remembers which came in which order.
//!
//! | file | holds |
//! |---|---|
//! | `options` | what it can be told at its start; `highwater sim consumer` |
//! | `server` | the running consumer |
//! | `handle` | what it tells and what it can be told while it runs |
//! | `run` | `highwater sim consumer` |

mod handle;
mod options;
mod run;
mod server;

pub use handle::{ConsumerHandle, ConsumerStats, Received};
pub use options::{ConsumerKnobs, ConsumerOptions};
pub use run::run_consumer;
pub use server::ConsumerSim;
