//! Handlers: what a job does on a site, and what is done with an event.

mod address;
mod civicrm;
#[cfg(test)]
mod civicrm_tests;
mod civicrm_visits;
mod client;
#[cfg(test)]
mod client_tests;
mod cloud_event;
mod command;
mod connect;
mod credentials;
mod event;
mod events_code;
mod events_command;
mod events_connect;
mod events_http;
#[cfg(test)]
mod events_tests;
mod expect;
mod http;
#[cfg(test)]
mod http_tests;
mod inward;
mod learned;
mod listeners;
mod process;
mod resolver;
#[cfg(test)]
mod sample;
mod templates;
#[cfg(test)]
mod testing_peer;

pub use civicrm::CivicrmClient;
pub use civicrm_visits::CivicrmVisits;
pub use client::{SiteAnswer, SiteClient, SiteRequest};
pub use command::CommandVisits;
pub use connect::connect;
pub use event::{AppInfo, PollEvent};
pub use events_code::{EventError, LedgerEvent};
pub use events_command::EventCommands;
pub use events_connect::connect_event_handler;
pub use events_http::EventPosts;
pub use http::HttpVisits;
pub use listeners::{EventProblem, Listeners, PollError, Step};
pub use resolver::MOST_LOOKUPS;

use crate::flows::sites::{Visit, Visited};
use futures_util::future::BoxFuture;

/// What a job does on a site. An implementation ends within its own time
/// limit, bounds what it reads, and follows no redirects.
pub trait Handler: Send + Sync + 'static {
    /// Visits a site once.
    fn visit<'a>(&'a self, visit: &'a Visit) -> BoxFuture<'a, Visited>;
}
