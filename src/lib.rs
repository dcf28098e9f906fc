//! Highwater keeps an application's database level with things the
//! application does not control.
//!
//! ```text
//!               Supervisor (watchdog): starts, watches, restarts
//!                    │
//!  config ──► Scheduler ──Fetch──► FetcherPool ──Commit──► Updater ──one transaction──► Store
//!                 ▲    tickets         │ reqwest              │ group commit       SQLite | PostgreSQL
//!                 └──────────────── Settled ◄─────────────────┘
//!  LeaseKeeper: whose work it is · StateSaver: soft state · Housekeeper: retention
//!  actix-web: status pages · /livez /readyz /metrics · /v1
//! ```
//!
//! A flow is a folder under [`flows`]: its rules (pure, the clock passed in),
//! what is due, how one unit is fetched, what an outcome changes. The
//! [`actors`] are thin shells around them; [`app`] wires the actors. Who may
//! import whom is written in ARCHITECTURE.md and tested.

pub mod actors;
pub mod app;
pub mod cli;
pub mod config;
pub mod flows;
pub mod gateways;
pub mod handlers;
pub mod http;
pub mod leases;
pub mod ledgers;
pub mod messages;
mod net;
pub mod sim;
pub mod store;
pub mod telemetry;
pub mod time;
pub mod upstreams;
pub mod watchdog;

pub use cli::{Highwater, HighwaterBuilder};
