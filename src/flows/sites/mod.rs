//! Sites: every remote site is visited when its retry policy says so.
//!
//! A [`RetryPolicy`] and a [`Standing`] say when a site is due and what an
//! outcome makes of it; a [`Shard`] is a job's share of the sites; a [`Spread`]
//! keeps a server from visiting many at once.

#[cfg(test)]
mod crontab_tests;
mod fetch;
mod intake;
mod intake_json;
mod job_health;
mod job_news;
mod job_plan;
mod load;
mod named;
mod names;
mod next_visit;
mod plan;
mod policy;
#[cfg(test)]
mod policy_tests;
mod poll_log;
mod queue;
mod rules;
mod run;
mod shard;
mod shard_plan;
mod site_report;
mod spread;
#[cfg(test)]
mod spread_tests;
mod spreads;
mod standing;
#[cfg(test)]
mod standing_tests;
pub mod template;
#[cfg(test)]
mod template_tests;
#[cfg(test)]
mod tests;
mod view;
mod visit;
mod work;

pub use fetch::visit;
pub use intake::{SiteEntry, SiteMistakes};
pub use intake_json::read_site;
pub use job_news::{JobEvent, JobNews};
pub use load::{SitesPage, SitesRead, SitesWant, load};
pub use named::{UnknownName, audited, check_named};
pub(crate) use names::shortened;
pub use names::{AppName, JobKey, NameProblem, check_label_name, check_site_id, check_site_url};
pub use next_visit::{NextVisit, SiteSituation, next_visit, standing_text};
pub use plan::SitesPlan;
pub use policy::{Level, RetryPolicy, RetryProblem};
pub use poll_log::{ENTRY, LoggedVisit, poll_log_entry, read_poll_log};
pub use rules::change_of;
pub use run::{Run, Summary, Told, initialise, would_visit};
pub use shard::{BATCH_CODES, Shard, ShardProblem};
pub use site_report::{JobToCome, SiteReport, SiteWithJob, VisitReport, site_report};
pub use spread::Spread;
pub use spreads::Spreads;
pub use standing::Standing;
pub use template::{Template, TemplateProblem};
pub use view::{JobView, ShardView, SitesView};
pub use visit::{FailureKind, SiteInfo, Visit, VisitError, Visited};
pub use work::{LONGEST_PAUSE, SitesOutcome, SitesReport, SitesWork, host_of};
