//! `/v1/sites`: sites are sent in, listed, shown, and changed by operators.

mod control;
mod intake;
mod read;

pub(in crate::http) use control::{
    __path_disable_site, __path_enable_site, __path_remove_site, __path_revive_site,
    __path_revive_sites, disable_site, enable_site, remove_site, revive_site, revive_sites,
};
pub(in crate::http) use intake::{__path_take_sites, take_sites};
pub(in crate::http) use read::{__path_list_sites, __path_show_site, list_sites, show_site};

use crate::http::problem::{Answer, Problem};
use crate::http::state::{Http, HttpState};
use actix_web::http::StatusCode;

/// Most sites in one call.
const MOST_SITES: usize = 10_000;

/// Tells that sites may be due now which were not before.
fn sites_changed(state: &HttpState) {
    (state.wake_sites)();
}

/// Refuses while the server is stopping.
fn taking(http: &Http) -> Answer<()> {
    if *http.state.draining.borrow() {
        return Err(Problem::draining().into());
    }
    Ok(())
}

fn site_not_found(site_id: &str) -> Box<Problem> {
    let shown: String = site_id
        .chars()
        .filter(|c| !c.is_control())
        .take(256)
        .collect();
    Problem::new(
        StatusCode::NOT_FOUND,
        "site-not-found",
        "There is no such site",
        format!("site \"{shown}\" is not known; GET /v1/sites lists those that are"),
    )
}
