//! The service toolkit: services that are started, watched, restarted and
//! measured. It knows no flow, and is usable by itself: see
//! `examples/ping_pong.rs`.
//!
//! The composition root makes a [`WatchdogQuery`], registers services with it
//! ([`Registration`]), the Supervisor among them (`actors/supervisor.rs`, kept by
//! [`Keeper::Root`]), and starts a [`Sentinel`]. A service is built from a
//! [`ServiceContext`], which gives it its settings, its state and handles to
//! other services, and nothing to control them with.

mod commands;
mod entry;
mod exit;
mod intercom;
mod launch;
mod liveness;
mod lookup;
mod notes;
mod query;
mod register;
mod registry;
mod resources;
mod restart;
mod sentinel;
mod service;
mod settings;
mod state;
mod state_source;
mod stats;
mod status;
mod thread;

pub use commands::Fault;
pub use exit::{ExitReason, Fence, watch_panics};
pub use intercom::{Envelope, Intercom, IntercomError};
pub use liveness::Silence;
pub use lookup::LookupError;
pub use query::{EffectiveSetting, Order, OrderError, Orders, Reloaded, Reply, WatchdogQuery};
pub use registry::{Keeper, Watchdog, WatchdogLimits};
pub use resources::{Demand, Owner, OwnerStatus, Resource, ResourceStatus, Share, Slot};
pub use restart::{RestartDecision, RestartHistory, RestartPolicy};
pub use sentinel::Sentinel;
pub use service::{Registration, Service, ServiceContext};
pub use settings::{SettingsReader, SettingsUpdater};
pub use state::{SavedValue, State, StateError, StateHandle, StateSaver};
pub use state_source::{Rendered, StateSource, StateStatus, Unsaved};
pub use status::{IntercomStats, LostThread, ServiceState, ServiceStatus, WatchdogStatus};
