//! Sites: every remote site is visited when its retry policy says so.
//!
//! A [`RetryPolicy`] and a [`Standing`] say when a site is due and what an
//! outcome makes of it; a [`Shard`] is a job's share of the sites; a [`Spread`]
//! keeps a server from visiting many at once.

#[cfg(test)]
mod crontab_tests;
mod names;
mod policy;
#[cfg(test)]
mod policy_tests;
mod shard;
mod spread;
#[cfg(test)]
mod spread_tests;
mod standing;
#[cfg(test)]
mod standing_tests;
mod visit;

pub use names::{AppName, JobKey, NameProblem, check_label_name, check_site_id, check_site_url};
pub use policy::{Level, RetryPolicy, RetryProblem};
pub use shard::{BATCH_CODES, Shard, ShardProblem};
pub use spread::{Spread, first_visits};
pub use standing::Standing;
pub use visit::{FailureKind, SiteInfo, Visit, VisitError, Visited};
