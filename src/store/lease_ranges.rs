//! Leases of ranges: `sites:APP/JOB:LO-HI`, of which those that overlap
//! exclude one another.

use std::ops::RangeInclusive;

/// Begins the name of a lease of a range of batch codes.
const PREFIX: &str = "sites:";

/// A lease's name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeName<'n> {
    /// What the range is of: a job, as `APP/JOB`.
    pub job: &'n str,
    /// Its batch codes.
    pub codes: RangeInclusive<u16>,
}

impl<'n> RangeName<'n> {
    /// Reads a name; `None` when it is no lease of a range.
    pub fn parse(name: &'n str) -> Option<Self> {
        let (job, range) = name.strip_prefix(PREFIX)?.rsplit_once(':')?;
        let (low, high) = range.split_once('-')?;
        Some(Self {
            job,
            codes: low.parse().ok()?..=high.parse().ok()?,
        })
    }

    /// Whether both cannot be held at once.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        self.job == other.job
            && self.codes.start() <= other.codes.end()
            && other.codes.start() <= self.codes.end()
    }
}

/// The name of the lease of these codes of a job (`APP/JOB`).
pub fn range_lease(job: &str, codes: &RangeInclusive<u16>) -> String {
    format!("{PREFIX}{job}:{}-{}", codes.start(), codes.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(one: &str, other: &str) -> bool {
        let parse = |name| RangeName::parse(name).unwrap_or_else(|| panic!("{name}"));
        parse(one).excludes(&parse(other))
    }

    #[test]
    fn ranges_of_one_job_that_overlap_exclude_one_another() {
        let name = range_lease("org.x/sync", &(0..=3332));
        assert_eq!(name, "sites:org.x/sync:0-3332");
        assert!(excludes(&name, "sites:org.x/sync:2500-4999"));
        assert!(excludes(&name, "sites:org.x/sync:0-10000"));
        assert!(excludes(
            "sites:org.x/sync:0-2500",
            "sites:org.x/sync:2500-4999"
        ));
        assert!(!excludes(&name, "sites:org.x/sync:5000-7499"));
        assert!(!excludes(&name, "sites:org.x/info:0-3332"));
        assert!(!excludes(&name, "sites:org.y/sync:0-3332"));
    }

    #[test]
    fn other_leases_are_no_ranges() {
        for name in [
            "batches:trace",
            "server:a",
            "sites:",
            "sites:a:b",
            "sites:a/b:1-x",
            "sites:a/b",
        ] {
            assert_eq!(RangeName::parse(name), None, "{name}");
        }
    }
}
