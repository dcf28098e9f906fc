//! A simulated REST gateway: a chain of blocks with contract events, which it
//! posts to whoever subscribed (the form of the seed
//! `ordered-block-events.md`).
//!
//! A subscription is posted to any path (`/subscribe`). Events are posted to
//! its `callbackURL` until that answers 2xx, block after block, from
//! `startblock` to `endblock`; after that, and after a crash, nothing is sent
//! and nobody is told. Two subscriptions of one callback both send. What goes
//! wrong besides is set by [`GatewayKnobs`], also while it runs.
//!
//! Which events a block holds is drawn from the seed and the block's number, so
//! the chain takes no memory and is the same in every run. What was sent and
//! acknowledged is recorded, up to `keep` events.
//!
//! | file | holds |
//! |---|---|
//! | `options` | what it can be told at its start; `highwater sim gateway` |
//! | `knobs` | what can be changed while it runs |
//! | `chain` | which events a block holds: a pure function |
//! | `subscription` | reading the form |
//! | `plan` | what a subscription is sent next: pure |
//! | `delivery` | sending it, again and again until it is taken |
//! | `record` | what was sent and acknowledged |
//! | `server`, `control` | the running server; its own endpoints under `/sim` |
//! | `handle` | what it tells and what it can be told in its process |
//! | `run` | `highwater sim gateway` |

mod chain;
mod control;
mod delivery;
mod handle;
mod knobs;
mod options;
mod plan;
mod record;
mod run;
mod server;
mod subscription;

pub use chain::{SimEvent, SimKnown};
pub use handle::{GatewayHandle, GatewayStats, GatewaySubscription};
pub use knobs::{GatewayKnobs, Outage};
pub use options::{Blocks, GatewayOptions};
pub use record::SentEvent;
pub use run::run_gateway;
pub use server::GatewaySim;
