//! Highwater keeps an application's database level with things the
//! application does not control.

pub mod actors;
pub mod app;
pub mod config;
pub mod flows;
pub mod http;
pub mod leases;
pub mod ledgers;
pub mod messages;
pub mod sim;
pub mod store;
pub mod telemetry;
pub mod time;
pub mod watchdog;
