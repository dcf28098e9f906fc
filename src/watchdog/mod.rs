//! The service toolkit: services that are started, watched, restarted and
//! measured. It knows no flow.

mod exit;
mod intercom;
mod query;
mod registry;
mod resources;
mod restart;
mod service;
mod settings;
mod state;
mod stats;
mod status;

pub use exit::{ExitReason, watch_panics};
pub use intercom::{Envelope, Intercom, IntercomError};
pub use query::{EffectiveSetting, Order, OrderError, Orders, Reloaded, Reply, WatchdogQuery};
pub use registry::{Keeper, LookupError, Watchdog};
pub use resources::{Demand, Owner, OwnerStatus, Resource, ResourceStatus, Share, Slot};
pub use restart::{RestartDecision, RestartHistory, RestartPolicy};
pub use service::{Registration, Service, ServiceContext};
pub use settings::{SettingsReader, SettingsUpdater};
pub use state::{StateCopy, StateHandle, state};
pub use status::{IntercomStats, ServiceState, ServiceStatus};
