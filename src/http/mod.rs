//! Pages, API and metrics over actix-web.

mod api;
mod assets;
mod audit;
mod auth;
mod body;
mod dataset_reports;
mod datasets;
mod followers;
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
mod replica_figures;
mod replica_orders;
mod replica_report;
mod replicas;
mod revive;
mod routes;
mod seed_wire;
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
mod testing_contents;
#[cfg(test)]
mod tests;

pub use datasets::{Datasets, Publisher};
pub use followers::{Followers, ReplicaOrder, ReplicaOrders};
pub use seed_wire::{SeedWire, seed_server};
pub use server::{server, server_with};
pub use state::{HttpState, Knower, Recorder, Refuser, ReloadReport};
