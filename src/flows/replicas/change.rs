//! What a Follower has written of its replica.

use super::model::{Diff, Entry, Epoch, Head, Modification};
use crate::time::Timestamp;
use std::fmt;

/// Why a bootstrap was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BootstrapReason {
    /// There was no copy yet.
    Initial,
    /// The upstream's history no longer reaches the copy's head.
    StaleHead,
    /// The upstream has another epoch: it was created anew, or restored.
    Epoch,
    /// The upstream's head is lower than the copy's: it went back in time.
    WentBack,
    /// An operator asked for it.
    Ordered,
}

impl BootstrapReason {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Initial,
        Self::StaleHead,
        Self::Epoch,
        Self::WentBack,
        Self::Ordered,
    ];

    /// The word in the database, metrics, API and pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::StaleHead => "stale-head",
            Self::Epoch => "epoch",
            Self::WentBack => "went-back",
            Self::Ordered => "ordered",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

impl fmt::Display for BootstrapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A range of a bootstrap, as it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeStart {
    /// Keys behind this one; empty: from the first on.
    pub after: String,
    /// Up to this one, included; `None`: to the end.
    pub until: Option<String>,
}

/// A change of a replica, durable as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaChange {
    /// A bootstrap begins, in a generation of its own; an unfinished one is
    /// given up. The copy is marked stale, where there is one.
    Begin {
        /// Why.
        reason: BootstrapReason,
        /// What the reason is in words, with the numbers.
        why: String,
        /// Of the upstream.
        epoch: Epoch,
        /// The upstream's head; all ranges begin with it.
        head: Head,
        /// Entries that the upstream has.
        len: u64,
        /// One behind the other, together all keys.
        ranges: Vec<RangeStart>,
        /// The unfinished one came to nothing because history was too short.
        outrun: bool,
    },
    /// A chunk of a range of the bootstrap, and the diff of what the range had.
    /// Refused unless range, cursor and head are those.
    Chunk {
        /// The bootstrap's generation.
        generation: i64,
        /// Place of the range.
        range: usize,
        /// Its cursor so far.
        cursor: String,
        /// Its cursor from now on.
        new_cursor: String,
        /// Nothing is behind the new cursor: the range is done.
        done: bool,
        /// The diff of keys of the range up to the old cursor.
        diff: Diff,
        /// Entries behind the old cursor, up to the new one, at the diff's head.
        entries: Vec<Entry>,
    },
    /// Ranges that are done are brought forward: those whose head is not beyond
    /// the diff's.
    Forward {
        /// The bootstrap's generation.
        generation: i64,
        /// Places of the ranges, each done.
        ranges: Vec<usize>,
        /// The diff; of other ranges' keys nothing is written.
        diff: Diff,
    },
    /// The bootstrap is whole and at one head: it takes the place of the copy.
    Live {
        /// The bootstrap's generation.
        generation: i64,
        /// The head at which all of it is.
        head: Head,
    },
    /// A diff of the copy. Refused unless its head is the diff's first.
    Follow {
        /// The copy's generation.
        generation: i64,
        /// The diff.
        diff: Diff,
    },
    /// A range of the copy is put right, at the copy's head.
    Repair {
        /// The copy's generation.
        generation: i64,
        /// The copy's head; refused with another.
        head: Head,
        /// What puts it right.
        modifications: Vec<Modification>,
    },
    /// What was heard of the upstream; no content changes.
    Heard {
        /// The highest head that is known of it.
        upstream_head: Head,
        /// When it last said how it stands.
        at: Timestamp,
        /// The copy had all of it then.
        level: bool,
    },
    /// How far the audit is; `None`: it ended, with so many ranges that differed.
    Audited {
        /// Last key that was compared.
        cursor: Option<String>,
        /// Ranges that differed.
        differences: u64,
    },
}

/// What became of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Generation that was begun, or is live.
    pub generation: Option<i64>,
    /// Rows of entries written and removed.
    pub rows: usize,
    /// Entries of the range up to its cursor, or of the copy.
    pub len: u64,
    /// Where ranges were brought forward: entries of each of them.
    pub lens: Vec<u64>,
}
