//! `/v1`: what applications and operators send in and read.

pub(super) mod batches;
mod check;
pub(super) mod control;
pub(super) mod datasets;
pub(super) mod hooks;
pub(super) mod intake;
pub(super) mod jobs;
pub(super) mod known;
pub(super) mod overview;
pub(super) mod refusals;
pub(super) mod resources;
pub(super) mod sites;
pub(super) mod states;
pub(super) mod subscriptions;

pub(super) use batches::{
    BatchDetail, ListQuery, OneQuery, detail, parse_filter, read_query, write_cursor,
};
