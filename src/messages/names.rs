//! Names of the services, by which they ask the watchdog for intercoms, and as
//! pages, API and metrics show them.

/// Starts the others, watches them, and starts them again.
pub const SUPERVISOR: &str = "supervisor";
/// Decides what is due.
pub const SCHEDULER: &str = "scheduler";
/// Does the network work.
pub const FETCHER_POOL: &str = "fetcher_pool";
/// Writes the results.
pub const UPDATER: &str = "updater";
/// Persists soft state.
pub const STATE_SAVER: &str = "state_saver";
/// Holds this server's share of the work.
pub const LEASE_KEEPER: &str = "lease_keeper";
/// Keeps the process's log.
pub const LOGGING: &str = "logging";
/// Prunes what is past its retention.
pub const HOUSEKEEPER: &str = "housekeeper";

/// Name of the service that follows a replica: `follower:NAME`.
pub fn follower(replica: &str) -> String {
    format!("follower:{replica}")
}

/// Name of the service that runs a subscription: `subscriber:NAME`.
pub fn subscriber(subscription: &str) -> String {
    format!("subscriber:{subscription}")
}
