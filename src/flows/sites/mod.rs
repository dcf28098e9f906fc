//! Sites: every remote site is visited when its retry policy says so.
//!
//! A [`RetryPolicy`] and a [`Standing`] say when a site is due and what an
//! outcome makes of it; a [`Shard`] is a job's share of the sites.

mod intake;
mod names;
mod policy;
mod poll_log;
mod shard;
mod standing;
mod view;
mod visit;

pub use intake::{SiteEntry, SiteMistakes};
pub use names::{AppName, JobKey, NameProblem, check_label_name, check_site_id, check_site_url};
pub use policy::{Level, RetryPolicy, RetryProblem};
pub use poll_log::{ENTRY, LoggedVisit, poll_log_entry, read_poll_log};
pub use shard::{BATCH_CODES, Shard, ShardProblem};
pub use standing::Standing;
pub use view::{JobView, ShardView, SitesView};
pub use visit::{FailureKind, SiteInfo, Visit, VisitError, Visited};
