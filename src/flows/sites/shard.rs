//! Shards: `i/n` of a job's sites, by ranges of the batch code (seed
//! `site-polling.md`, "Addendum: Batching").

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The batch codes that sites are given.
pub const BATCH_CODES: RangeInclusive<u16> = 0..=10_000;

/// Most shards of a job: each has one code at least.
const MOST: u16 = 10_000;

/// Shard `i` of `n`; `0 ≤ i < n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    index: u16,
    of: u16,
}

/// Why a text is no shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no batch: expected i/n with 0 <= i < n <= 10000, e.g. 0/4")]
pub struct ShardProblem(String);

impl Shard {
    /// All sites: `0/1`.
    pub const ALL: Self = Self { index: 0, of: 1 };

    /// Shard `index` of `of`; `None` unless `index < of` and `of` is at most 10000.
    pub const fn new(index: u16, of: u16) -> Option<Self> {
        if index < of && of <= MOST {
            Some(Self { index, of })
        } else {
            None
        }
    }

    /// All shards of a job that is split into so many.
    pub fn all(of: u16) -> impl Iterator<Item = Self> {
        (0..of).filter_map(move |index| Self::new(index, of))
    }

    /// Its batch codes: of `⌊10000 / n⌋` each, the last one to 10000.
    pub const fn codes(self) -> RangeInclusive<u16> {
        let size = MOST / self.of;
        let last = if self.index + 1 == self.of {
            *BATCH_CODES.end()
        } else {
            (self.index + 1) * size - 1
        };
        self.index * size..=last
    }

    /// Whether a site of this code is in both.
    pub const fn overlaps(self, other: Self) -> bool {
        let (mine, theirs) = (self.codes(), other.codes());
        *mine.start() <= *theirs.end() && *theirs.start() <= *mine.end()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = ShardProblem;

    fn from_str(text: &str) -> Result<Self, ShardProblem> {
        let number = |text: &str| {
            let text = text.trim();
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|_| plain)
        };
        text.split_once('/')
            .and_then(|(index, of)| Self::new(number(index)?, number(of)?))
            .ok_or_else(|| ShardProblem(text.to_owned()))
    }
}
