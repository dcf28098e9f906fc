//! What the plan of a replica wants done, and what it is told of it.

use super::change::{Applied, ReplicaChange};
use super::model::{Digests, Epoch, Fetched, Fetching, Head, Info};
use std::time::Duration;

/// One thing to do. Whoever does it answers under the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read how the replica stands. There is no other work under way then.
    Read,
    /// Ask an upstream, beside all others.
    Ask {
        /// Number of the ask.
        id: u64,
        /// Place of the upstream in the settings.
        upstream: usize,
        /// What is asked.
        ask: Ask,
    },
    /// Read entries of the copy itself.
    Local {
        /// Number of the ask.
        id: u64,
        /// Which.
        fetching: Fetching,
    },
    /// Write a change. Several under way are of different ranges.
    Write {
        /// Number of the write.
        id: u64,
        /// The change.
        change: ReplicaChange,
    },
}

/// What an upstream is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// How it stands.
    Info {
        /// With the keys that cut it into so many ranges.
        splits: Option<usize>,
    },
    /// A chunk and a diff.
    Fetch(Fetching),
    /// To answer when its head is another.
    Watch {
        /// The epoch that is known.
        epoch: Epoch,
        /// The head that is known.
        head: Head,
        /// For so long at most.
        wait: Duration,
    },
    /// Digests of ranges.
    Digests {
        /// Behind this key.
        after: String,
        /// Up to this one.
        until: Option<String>,
        /// Entries, at most.
        limit: u64,
        /// Ranges.
        splits: usize,
        /// With the diff from there.
        since: (Epoch, Head),
    },
}

/// What an upstream answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// How it stands.
    Info(Info),
    /// A chunk and a diff.
    Fetched(Fetched),
    /// Digests.
    Digests(Digests),
    /// It cannot do that: watch, or digests.
    Unable,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is durable.
    Done(Applied),
    /// It was refused, or nobody knows: how the replica stands is read anew.
    Not(String),
}
