//! Handlers: what a job does on a site.

mod client;
#[cfg(test)]
mod client_tests;
mod command;
mod connect;
mod event;
mod inward;
mod listeners;
mod process;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod testing;

pub use client::{SiteAnswer, SiteClient, SiteRequest};
pub use command::CommandVisits;
pub use connect::connect;
pub use event::{AppInfo, PollEvent};
pub use listeners::{EventProblem, Listeners, PollError, Step};

use crate::flows::sites::{Visit, Visited};
use futures_util::future::BoxFuture;

/// What a job does on a site. An implementation ends within its own time
/// limit, bounds what it reads, and follows no redirects.
pub trait Handler: Send + Sync + 'static {
    /// Visits a site once.
    fn visit<'a>(&'a self, visit: &'a Visit) -> BoxFuture<'a, Visited>;
}
