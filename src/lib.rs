//! Highwater keeps an application's database level with things the
//! application does not control.

pub mod app;
pub mod cli;
pub mod config;
pub mod flows;
pub mod http;
pub mod leases;
pub mod ledgers;
pub mod sim;
pub mod store;
pub mod time;
pub mod watchdog;
