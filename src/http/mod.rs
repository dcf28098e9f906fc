//! Pages, API and metrics over actix-web.

mod state;

pub use state::{HttpState, ReloadReport};
