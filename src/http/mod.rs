//! Pages, API and metrics over actix-web.

mod api;
mod assets;
mod audit;
mod auth;
mod body;
mod guesses;
mod health;
mod host;
mod job_figures;
mod job_state;
mod jobs;
mod metrics;
mod openapi;
mod overview;
mod pages;
mod problem;
mod revive;
mod routes;
mod server;
mod service_notices;
mod shown_path;
mod single_flight;
mod state;
mod states;
mod subscription_figures;
mod subscription_orders;
mod subscriptions;
mod summary;
mod unvisited;
mod why_not_now;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use server::server;
pub use state::{HttpState, Knower, Recorder, Refuser, ReloadReport};
