//! Tests of the whole, a file per behaviour.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test is its failure message, in helpers too"
)]

mod audit;
mod batches_by_hand;
mod command_line;
mod control;
mod control_settings;
mod datasets_by_hand;
mod datasets_sources;
mod datasets_store;
mod events_abandoned;
mod events_by_hand;
mod events_flow;
mod events_irrelevant;
mod events_killed;
mod events_logjam;
mod events_reload;
mod events_runs;
mod events_shared;
mod events_store;
mod events_streams;
mod events_support;
mod events_updater;
mod imports;
mod jobs_summary;
mod ledger_streams;
mod life_hang;
mod life_panics;
mod life_reload;
mod life_rude;
mod life_rules;
mod life_support;
mod life_unresponsive;
mod log_fields;
mod logging;
mod one_server;
mod outage;
mod poison;
mod pruning;
mod range_leases;
mod recorded_streams;
mod recordings;
mod replay;
mod replicas_flow;
mod replicas_killed;
mod replicas_readers;
mod replicas_store;
mod replicas_support;
mod resource_database;
mod resource_fetch;
mod rude_ledgers;
mod seed_listen;
mod settle;
mod settle_by_transactions;
mod sharing;
mod sites_broken;
mod sites_by_hand;
mod sites_hosts;
mod sites_killed;
mod sites_poll;
mod sites_shared;
mod sites_store;
mod sites_support;
mod sites_told;
mod sites_visited;
mod sql_intake;
mod states;
mod states_kept;
mod stream_support;
mod support;
#[cfg(target_os = "linux")]
mod systemd;
mod toolkit;
mod toolkit_liveness;
mod toolkit_support;
