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
//! | `server` | the running server and its handle |
//! | `sites` | simulated sites |

mod behaviour;
mod chain;
mod control;
mod hash;
mod memory;
mod model;
mod options;
mod sawtooth;
mod server;
mod shared;
mod sites;
mod splinter;
mod streams;

pub use behaviour::{Behaviour, Fault, FaultShare, ParseFaultError};
pub use control::{SimBatch, SimTruth};
pub use model::{Fate, SimLedger, SimStats, SimStatus};
pub use options::{ParseOptionError, ServiceFault, SimOptions, Span, run_ledger};
pub use server::{LedgerSim, SimHandle};
pub use sites::{
    Flap, Mix, Overlaps, SiteAnswer, SiteBehaviour, SiteOverlap, SiteVisit, SitesHandle,
    SitesOptions, SitesProblem, SitesSim, SitesStats, run_sites,
};
