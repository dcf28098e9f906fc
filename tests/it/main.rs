//! Tests of the whole, a file per behaviour.

mod recordings;
mod replay;
mod rude_ledgers;
