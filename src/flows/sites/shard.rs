//! Shards: `i/n` of a job's sites, by ranges of the batch code (seed
//! `site-polling.md`, "Addendum: Batching").

use super::names::shortened;
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
            .ok_or_else(|| ShardProblem(shortened(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_four_batches_of_the_seed() {
        let codes: Vec<_> = Shard::all(4).map(Shard::codes).collect();
        assert_eq!(codes, [0..=2499, 2500..=4999, 5000..=7499, 7500..=10_000]);
        assert_eq!(Shard::ALL.codes(), BATCH_CODES);
    }

    #[test]
    fn shards_of_any_number_divide_the_codes_and_are_alike_but_the_last() {
        for of in (1..=300).chain((301..=MOST).step_by(97)).chain([
            3333,
            3334,
            5000,
            5001,
            MOST - 1,
            MOST,
        ]) {
            let mut next = 0;
            for shard in Shard::all(of) {
                let codes = shard.codes();
                assert_eq!(*codes.start(), next, "{shard}");
                if shard.index + 1 < of {
                    assert_eq!(codes.len(), usize::from(MOST / of), "{shard}");
                }
                next = codes.end() + 1;
            }
            assert_eq!(next, 10_001, "of {of}");
        }
    }

    #[test]
    fn what_is_no_batch_is_told() {
        for wrong in [
            "", "/", "1", "1/", "/4", "4/4", "-1/4", "+1/4", "0/0", "1/2/3", "0/10001", "0/65536",
            "0.0/4", "٠/4",
        ] {
            wrong.parse::<Shard>().unwrap_err();
        }
        insta::assert_snapshot!("4/4".parse::<Shard>().unwrap_err(), @r#""4/4" is no batch: expected i/n with 0 <= i < n <= 10000, e.g. 0/4"#);
        assert_eq!(" 1 / 4 ".parse(), Ok(Shard { index: 1, of: 4 }));
        assert_eq!(
            "9999/10000".parse(),
            Ok(Shard {
                index: 9999,
                of: MOST
            })
        );
        assert_eq!((Shard::new(0, 0), Shard::new(0, 10_001)), (None, None));
        assert_eq!(Shard::all(0).count(), 0);
    }

    fn shards() -> impl Strategy<Value = Shard> {
        (1..=40_u16, 1..=MOST, any::<bool>(), any::<u16>()).prop_map(|(few, many, small, index)| {
            let of = if small { few } else { many };
            Shard {
                index: index % of,
                of,
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(shard in shards()) {
            prop_assert_eq!(shard.to_string().parse(), Ok(shard));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            drop(text.parse::<Shard>());
        }
    }
}
