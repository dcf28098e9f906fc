//! Spreading: where the server puts due times, so that sites that came
//! together do not stay together.
//!
//! A site is due its period after its last visit began, never earlier; the
//! server may delay it by at most 5% of the period. A due time stays where it
//! is while fewer sites are due in its bucket (a second, for most periods), and
//! in its tenth of the bucket, than an even load would put there. Otherwise it
//! moves to one of a few random places within those 5%. So an even load is
//! hardly delayed at all, and a herd becomes wider by up to 5% of the period
//! each time round. (To take always the least loaded of the places delays
//! nearly every visit, since later seconds are emptier at that moment, and
//! settles at three times the mean.)

use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// Most delay: the period divided by this.
const DELAY_PART: u32 = 20;
/// Random places looked at beside the own one.
const PLACES: usize = 8;
/// How much more than an even load a bucket may take.
const ROOM: f64 = 1.05;
/// Buckets within the most delay, where that is short.
const BUCKETS: u32 = 64;
/// Widths of buckets, in milliseconds; seconds are made of each.
const WIDTHS: [i64; 4] = [1000, 500, 100, 10];
/// Parts of a bucket that are made even too. Without them the sites of a second
/// would gather somewhere in it, and the lateness of visits would carry many
/// into the next.
const PARTS: i64 = 10;
/// Most periods told apart; due times of further ones are placed at random.
const MOST_LANES: usize = 1000;
/// Most buckets kept for a period; what is due in further ones is not counted.
const MOST_BUCKETS: usize = 1_000_000;

/// How many sites are due when, as far as it concerns where the next due time
/// is put. It may be incomplete: that makes the load less even, and nothing else.
#[derive(Debug, Default)]
pub struct Spread {
    /// By period, in milliseconds. Each is made even for itself, so their sum
    /// is even too. In one map, sites of a long period would take seconds that
    /// look empty because those of a short one are not placed so far ahead.
    lanes: BTreeMap<u64, Lane>,
}

/// The sites of one period.
#[derive(Debug)]
struct Lane {
    period: Duration,
    buckets: Loads,
    parts: Loads,
    /// Sites counted.
    sites: u64,
}

/// How many sites are due when, by buckets of one width.
#[derive(Debug)]
struct Loads {
    /// In milliseconds.
    width: i64,
    /// Sites due in a bucket, by its number since 1970.
    counts: BTreeMap<i64, u64>,
}

impl Spread {
    /// Nothing is due.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next due time of a site whose period has passed at `base` (its last
    /// visit's begin plus the period), and counts it there: at least `base`,
    /// at most 5% of the period later. `chance` gives numbers from 0 to 1; others
    /// count as 0.
    pub fn place(
        &mut self,
        base: Timestamp,
        period: Duration,
        chance: &mut impl FnMut() -> f64,
    ) -> Timestamp {
        let most = period / DELAY_PART;
        let latest = base.plus(most);
        let mut any = || {
            let chance = Some(chance()).filter(|chance| (0.0..=1.0).contains(chance));
            base.plus(most.mul_f64(chance.unwrap_or(0.0))).min(latest)
        };
        let Some(lane) = self.lane(period) else {
            return any();
        };
        // The visit has begun by now: what was due before it has passed.
        lane.forget(base.minus(period));
        let room = (lane.room(&lane.buckets), lane.room(&lane.parts));
        let rank = |at| (lane.excess(at, room), at);
        let own = rank(base);
        let at = if own.0 == 0 {
            base
        } else {
            // Those with room are alike, so the earliest of them is taken;
            // where none has room, the least loaded.
            let places = std::iter::repeat_with(&mut any).take(PLACES).map(rank);
            places.fold(own, Ord::min).1
        };
        lane.add(at, 1);
        at
    }

    /// Counts sites that are due in this second, whose period is this: fills it
    /// from the database when the server starts.
    pub fn seed(&mut self, second: Timestamp, count: u64, period: Duration) {
        let Some(lane) = self.lane(period) else {
            return;
        };
        let first = second.millis().div_euclid(1000).saturating_mul(1000);
        let width = lane.parts.width.unsigned_abs();
        let parts = 1000 / width;
        // So many of them are due before a part of the second.
        let before = |part: u64| {
            let sites = u128::from(count) * u128::from(part) / u128::from(parts);
            u64::try_from(sites).unwrap_or(count)
        };
        for part in 0..parts {
            let at = Timestamp::from_millis(first).plus(Duration::from_millis(part * width));
            lane.add(at, before(part + 1) - before(part));
        }
    }

    /// Forgets what has passed, also of periods that no site has any more.
    pub fn forget(&mut self, now: Timestamp) {
        self.lanes.retain(|_, lane| {
            lane.forget(now);
            lane.sites > 0
        });
    }

    /// Sites counted that are not known to have passed.
    #[cfg(test)]
    pub(super) fn sites(&self) -> u64 {
        self.lanes.values().map(|lane| lane.sites).sum()
    }

    fn lane(&mut self, period: Duration) -> Option<&mut Lane> {
        let key = key(period);
        if self.lanes.len() >= MOST_LANES && !self.lanes.contains_key(&key) {
            return None;
        }
        Some(self.lanes.entry(key).or_insert_with(|| Lane::new(period)))
    }
}

fn key(period: Duration) -> u64 {
    u64::try_from(period.as_millis()).unwrap_or(u64::MAX)
}

impl Lane {
    fn new(period: Duration) -> Self {
        let widest = (period / DELAY_PART / BUCKETS).as_millis();
        let fits = |width: &i64| u128::from(width.unsigned_abs()) <= widest;
        let width = WIDTHS.into_iter().find(fits).unwrap_or(PARTS);
        Self {
            period,
            buckets: Loads::new(width),
            parts: Loads::new(width / PARTS),
            sites: 0,
        }
    }

    /// How many sites a bucket takes: an even load and a little more.
    #[expect(
        clippy::cast_precision_loss,
        reason = "there are far fewer than 2^52 sites"
    )]
    fn room(&self, loads: &Loads) -> f64 {
        let even = self.sites as f64 * loads.width as f64 / (self.period.as_secs_f64() * 1000.0);
        (even * ROOM).max(1.0)
    }

    /// 0 where there is room for one more; otherwise the more, the fuller it is.
    #[expect(
        clippy::cast_precision_loss,
        reason = "there are far fewer than 2^52 sites"
    )]
    fn excess(&self, at: Timestamp, room: (f64, f64)) -> u64 {
        let (bucket, part) = (self.buckets.count(at), self.parts.count(at));
        if (bucket as f64) < room.0 && (part as f64) < room.1 {
            0
        } else {
            bucket.max(1)
        }
    }

    fn add(&mut self, at: Timestamp, count: u64) {
        if count == 0 || self.parts.counts.len() >= MOST_BUCKETS {
            return;
        }
        self.buckets.add(at, count);
        self.parts.add(at, count);
        self.sites = self.sites.saturating_add(count);
    }

    /// Forgets what has passed.
    fn forget(&mut self, now: Timestamp) {
        self.parts.forget(now);
        self.sites = self.sites.saturating_sub(self.buckets.forget(now));
    }
}

impl Loads {
    const fn new(width: i64) -> Self {
        Self {
            width,
            counts: BTreeMap::new(),
        }
    }

    const fn bucket(&self, at: Timestamp) -> i64 {
        at.millis().div_euclid(self.width)
    }

    fn count(&self, at: Timestamp) -> u64 {
        self.counts.get(&self.bucket(at)).copied().unwrap_or(0)
    }

    fn add(&mut self, at: Timestamp, count: u64) {
        let counted = self.counts.entry(self.bucket(at)).or_default();
        *counted = counted.saturating_add(count);
    }

    /// Forgets the buckets that have passed, and says how many sites they held.
    fn forget(&mut self, now: Timestamp) -> u64 {
        let current = self.bucket(now);
        let mut forgotten = 0_u64;
        while let Some(first) = self.counts.first_entry() {
            if *first.key() >= current {
                break;
            }
            forgotten = forgotten.saturating_add(first.remove());
        }
        forgotten
    }
}
