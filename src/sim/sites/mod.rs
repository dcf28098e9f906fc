//! Simulated sites: thousands of them behind one HTTP server.
//!
//! Site number `n` answers under `/{n}` and anything below (`/{n}/sync`);
//! what is below tells jobs apart. How a site behaves is drawn from the seed
//! and its number, so that it is the same in every run. The simulator keeps a
//! log of visits, and notices a site that is visited twice at the same time.
//!
//! | file | holds |
//! |---|---|
//! | `options` | what the simulator can be told at its start; `highwater sim sites` |
//! | `behaviour` | how sites behave, and what each visit is answered |
//! | `visits` | the log of visits: a pure model |
//! | `server` | the running server |
//! | `handle` | what it tells and what it can be told while it runs |
//! | `run` | `highwater sim sites` |

mod behaviour;
mod handle;
mod options;
mod run;
mod server;
mod visits;

pub use behaviour::{Flap, Mix, SiteAnswer, SiteBehaviour};
pub use handle::{Overlaps, SiteOverlap, SiteVisit, SitesHandle, SitesStats};
pub use options::{SitesOptions, SitesProblem};
pub use run::run_sites;
pub use server::SitesSim;
