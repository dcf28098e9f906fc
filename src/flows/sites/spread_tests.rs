//! Tests of the spreading, by simulation in virtual time.

use super::rules::spacing;
use super::spread::Spread;
use crate::time::Timestamp;
use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(1_795_000_000_123);
const HOUR: Duration = Duration::from_secs(3600);
const HALF_HOUR: Duration = Duration::from_secs(1800);

/// Sites that are visited at their due time, a little late.
struct World {
    spread: Spread,
    chances: SmallRng,
    /// Due time, site and its period.
    due: BinaryHeap<Reverse<(Timestamp, usize, Duration)>>,
    latest_ms: u64,
}

impl World {
    /// Sites imported at once, and never visited.
    fn import(periods: impl ExactSizeIterator<Item = Duration>, latest_ms: u64) -> Self {
        let first = first_visits(periods.len() as u64, HALF_HOUR, START);
        let due = periods.enumerate().zip(first);
        Self {
            spread: Spread::new(),
            chances: SmallRng::seed_from_u64(7),
            due: due
                .map(|((site, period), at)| Reverse((at, site, period)))
                .collect(),
            latest_ms,
        }
    }

    /// Sites of one period whose first visits are even over it.
    fn even(sites: usize, period: Duration) -> Self {
        let mut world = Self::import(std::iter::repeat_n(period, sites), 0);
        world.due = std::mem::take(&mut world.due)
            .into_iter()
            .map(|Reverse((_, site, period))| {
                let after = period.mul_f64(site as f64 / sites as f64);
                Reverse((START.plus(after), site, period))
            })
            .collect();
        world
    }

    /// Visits what is due before `end`, and counts the visits by second.
    fn run(&mut self, end: Timestamp) -> BTreeMap<i64, u32> {
        let mut seconds = BTreeMap::new();
        while let Some(&Reverse((at, site, period))) = self.due.peek() {
            if at >= end {
                break;
            }
            self.due.pop();
            let begun = at.plus(Duration::from_millis(
                self.chances.random_range(0..=self.latest_ms),
            ));
            *seconds.entry(begun.millis().div_euclid(1000)).or_default() += 1;
            let base = begun.plus(period);
            let chances = &mut self.chances;
            let next = self.spread.place(base, period, &mut || chances.random());
            assert!(next >= base, "earlier than the period");
            assert!(next <= base.plus(period / 20), "more than 5% later");
            self.due.push(Reverse((next, site, period)));
        }
        seconds
    }

    /// Another server begins at `now`, with what the database knows.
    fn restart(&mut self, now: Timestamp) {
        self.spread = Spread::new();
        let all = std::mem::take(&mut self.due).into_sorted_vec();
        let (overdue, ahead): (Vec<_>, Vec<_>) = all
            .into_iter()
            .map(|due| due.0)
            .partition(|due| due.0 < now);
        let mut seconds: BTreeMap<(i64, Duration), u64> = BTreeMap::new();
        for (at, _, period) in &ahead {
            *seconds
                .entry((at.millis().div_euclid(1000), *period))
                .or_default() += 1;
        }
        for ((second, period), count) in seconds {
            self.spread
                .seed(Timestamp::from_millis(second * 1000), count, period);
        }
        assert_eq!(self.spread.sites(), ahead.len() as u64);
        let first = first_visits(overdue.len() as u64, HALF_HOUR, now);
        let late = overdue.iter().zip(first);
        self.due = late
            .map(|((_, site, period), at)| Reverse((at, *site, *period)))
            .collect();
        self.due.extend(ahead.into_iter().map(Reverse));
    }
}

const fn hours(count: u64) -> Timestamp {
    Timestamp::from_millis(START.millis() + count.cast_signed() * 3_600_000)
}

/// Half an hour each.
const fn halves(count: u64) -> Timestamp {
    Timestamp::from_millis(START.millis() + count.cast_signed() * 1_800_000)
}

/// Visits of the busiest second over the mean.
fn peak_over_mean(seconds: &BTreeMap<i64, u32>, length: Duration) -> f64 {
    let peak = seconds.values().max().copied().unwrap_or(0);
    f64::from(peak) * length.as_secs_f64() / f64::from(seconds.values().sum::<u32>())
}

fn assert_even(seconds: &BTreeMap<i64, u32>, length: Duration) {
    let ratio = peak_over_mean(seconds, length);
    assert!(ratio <= 1.2, "the peak is {ratio} times the mean");
}

#[test]
fn a_herd_thins_out_within_twenty_five_periods_and_is_hardly_delayed_then() {
    let mut world = World::import(std::iter::repeat_n(HALF_HOUR, 10_000), 0);
    let first = world.run(halves(1));
    assert!(
        peak_over_mean(&first, HALF_HOUR) > 10.0,
        "it is a herd at first"
    );
    world.run(halves(24));
    assert_even(&world.run(halves(25)), HALF_HOUR);
    world.run(halves(39));
    let last = world.run(halves(40));
    assert_even(&last, HALF_HOUR);
    let visits: u32 = last.values().sum();
    assert!(
        visits > 9_970,
        "{visits} of 10000 in a period: delayed for nothing"
    );
}

#[test]
fn a_restart_leaves_an_even_load_even() {
    let mut world = World::even(20_000, HOUR);
    assert_even(&world.run(hours(1)), HOUR);
    world.run(hours(3));
    world.restart(hours(3));
    assert_even(&world.run(hours(4)), HOUR);
    assert_even(&world.run(hours(5)), HOUR);
}

#[test]
fn a_herd_thins_out_across_a_restart_with_a_pause() {
    let mut world = World::import(std::iter::repeat_n(HALF_HOUR, 10_000), 0);
    world.run(halves(10));
    world.restart(halves(10).plus(Duration::from_secs(120)));
    world.run(halves(39));
    assert_even(&world.run(halves(40)), HALF_HOUR);
}

#[test]
fn two_levels_are_even_together() {
    let periods = (0..20_000).map(|site| if site % 4 == 0 { HALF_HOUR } else { HOUR });
    let mut world = World::import(periods, 0);
    world.run(hours(15));
    world.restart(hours(15));
    world.run(hours(29));
    assert_even(&world.run(hours(30)), HOUR);
}

#[test]
fn sites_that_change_their_level_together_do_not_disturb_the_others() {
    let mut world = World::even(20_000, HOUR);
    world.run(hours(2));
    // A quarter of them fails from now on, and is visited every half an hour.
    let change = |Reverse((at, site, period)): Reverse<(Timestamp, usize, Duration)>| {
        let period = if site % 4 == 0 { HALF_HOUR } else { period };
        Reverse((at, site, period))
    };
    world.due = std::mem::take(&mut world.due)
        .into_iter()
        .map(change)
        .collect();
    world.run(hours(8));
    assert_even(&world.run(hours(9)), HOUR);
}

#[test]
fn a_due_time_stays_where_it_is_while_there_is_room() {
    let mut spread = Spread::new();
    let mut never = || -> f64 { panic!("there is room: nothing is drawn") };
    assert_eq!(spread.place(START, HOUR, &mut never), START);
    let next = START.plus(Duration::from_secs(1));
    assert_eq!(spread.place(next, HOUR, &mut never), next);
    assert_eq!(spread.place(START, HALF_HOUR, &mut never), START);
    // The second is full now, and half of the 5% later there is room.
    let moved = spread.place(START, HOUR, &mut || 0.5);
    assert_eq!(moved, START.plus(Duration::from_secs(90)));
}

#[test]
fn what_has_passed_is_forgotten() {
    let mut spread = Spread::new();
    spread.seed(START, 70, HOUR);
    spread.seed(START, 30, Duration::from_secs(20));
    assert_eq!(spread.sites(), 100);
    spread.forget(START);
    assert_eq!(
        spread.sites(),
        70 + 27,
        "of a bucket of 15 ms, some are past at 0.123"
    );
    spread.forget(START.plus(Duration::from_secs(1)));
    assert_eq!(spread.sites(), 0);
}

#[test]
fn short_periods_are_spread_within_the_second() {
    let second = Duration::from_secs(1);
    let mut world = World::import(std::iter::repeat_n(second, 1000), 0);
    world.run(START.plus(Duration::from_secs(60)));
    let mut parts = [0_u32; 10];
    let from = START.plus(Duration::from_secs(60));
    for Reverse((at, ..)) in &world.due {
        let part = at.since(from).as_millis() / 100;
        parts[usize::try_from(part).unwrap().min(9)] += 1;
    }
    assert!(
        parts.iter().all(|part| (60..=140).contains(part)),
        "{parts:?}"
    );
}

/// Where a server puts the first visits of new or overdue sites.
fn first_visits(count: u64, period: Duration, now: Timestamp) -> impl Iterator<Item = Timestamp> {
    let step = spacing(count, period, 1);
    (0..count).map(move |index| now.plus(step.mul_f64(index as f64)))
}

#[test]
fn first_visits_are_even_and_begin_at_once() {
    let few: Vec<Timestamp> = first_visits(4, HOUR, START).collect();
    let ms = |at: &Timestamp| at.since(START).as_millis();
    assert_eq!(few.iter().map(ms).collect::<Vec<_>>(), [0, 5, 10, 15]);
    let many: Vec<Timestamp> = first_visits(100_000, HOUR, START).collect();
    assert_eq!(many.len(), 100_000);
    assert!(many.is_sorted());
    assert!(many.iter().all(|at| at.since(START) < HOUR / 20));
    assert!(many[99_999].since(START) >= Duration::from_secs(179));
    assert_eq!(first_visits(0, HOUR, START).count(), 0);
}

proptest! {
    #[test]
    fn a_due_time_is_never_early_and_never_late(
        places in proptest::collection::vec((0_u64..10_000, 1_u64..100_000_000, -0.5_f64..1.5), 1..200),
    ) {
        let mut spread = Spread::new();
        for (offset, period, chance) in places {
            let (base, period) = (START.plus(Duration::from_millis(offset)), Duration::from_millis(period));
            let at = spread.place(base, period, &mut || chance);
            prop_assert!(at >= base && at <= base.plus(period / 20));
        }
    }

    #[test]
    fn any_times_and_counts_are_taken(at in any::<i64>(), count in 0..=u64::MAX >> 8, period in any::<Duration>(), chance in any::<f64>()) {
        let at = Timestamp::from_millis(at);
        let mut spread = Spread::new();
        spread.seed(at, count, period);
        spread.place(at, period, &mut || chance);
        spread.place(at, period, &mut || f64::NAN);
        spread.place(at, period, &mut || f64::NAN);
        spread.forget(at);
    }
}
