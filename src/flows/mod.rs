//! The flows: a folder each, with its rules (pure, the clock passed in), what
//! is due, how one unit is fetched and how outcomes are written.

pub mod batches;
pub mod events;
pub mod replicas;
pub mod sites;
