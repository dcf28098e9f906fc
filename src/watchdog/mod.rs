//! The service toolkit: services that are started, watched, restarted and
//! measured. It knows no flow.

mod status;

pub use status::{IntercomStats, ServiceState, ServiceStatus};
