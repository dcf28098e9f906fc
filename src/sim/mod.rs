//! Simulated peers: for the demo, the tests and the benchmarks.
//!
//! [`LedgerSim`] is an HTTP server that speaks the wire format of a real
//! Sawtooth REST API or Splinter node, with their habits (memory of 100,
//! shuffled answers, repeated entries, a validator that is gone) and with
//! misbehaviour to choose ([`Behaviour`]), also while it runs. What its
//! batches do is decided by [`SimLedger`], a pure model.
//!
//! [`SitesSim`] is an HTTP server that plays thousands of remote sites, keeps a
//! log of their visits, and notices a site that is visited twice at once.
//!
//! [`GatewaySim`] is a REST gateway with a chain of blocks, which it posts to
//! whoever subscribed; [`ConsumerSim`] takes events as CloudEvents.
//!
//! | file | holds |
//! |---|---|
//! | `options` | what a simulator can be told at its start; `highwater sim ledger` |
//! | `behaviour` | what can go wrong, and how often |
//! | `model` | the batches of a ledger and what becomes of them |
//! | `memory` | which batches of a service the ledger remembers |
//! | `hash` | everything that looks random |
//! | `shared` | what the handlers of one running simulator share |
//! | `sawtooth`, `splinter` | the two wire formats |
//! | `chain`, `streams` | what a ledger streams, and its websockets |
//! | `control` | the simulator's own endpoints under `/sim` |
//! | `running` | a simulator's server on a thread of its own |
//! | `peer` | what gateway and consumer have in common as servers |
//! | `server` | the running ledger and its handle |
//! | `sites` | simulated sites |
//! | `gateway` | a simulated gateway of events |
//! | `consumer` | a simulated consumer of events |

mod behaviour;
mod chain;
mod consumer;
mod control;
mod gateway;
mod hash;
mod memory;
mod model;
mod options;
mod peer;
mod running;
mod sawtooth;
mod server;
mod shared;
mod sites;
mod splinter;
mod streams;

pub use behaviour::{Behaviour, Fault, FaultShare, ParseFaultError};
pub use consumer::{
    ConsumerHandle, ConsumerKnobs, ConsumerOptions, ConsumerSim, ConsumerStats, Received,
    run_consumer,
};
pub use control::{SimBatch, SimTruth};
pub use gateway::{
    Blocks, GatewayHandle, GatewayKnobs, GatewayOptions, GatewaySim, GatewayStats,
    GatewaySubscription, Outage, SentEvent, SimEvent, SimKnown, run_gateway,
};
pub use model::{Fate, SimLedger, SimStats, SimStatus};
pub use options::{ParseOptionError, ServiceFault, SimOptions, Span, run_ledger};
pub use server::{LedgerSim, SimHandle};
pub use sites::{
    Flap, Mix, Overlaps, SiteAnswer, SiteBehaviour, SiteOverlap, SiteVisit, SitesHandle,
    SitesOptions, SitesProblem, SitesSim, SitesStats, run_sites,
};
