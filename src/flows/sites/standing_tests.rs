//! Tests of what outcomes make of a standing, as sequences of visits.

use super::policy::{Level, RetryPolicy};
use super::standing::Standing;
use crate::time::Timestamp;
use proptest::prelude::*;
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const MIN: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 86_400;

fn policy(text: &str) -> RetryPolicy {
    text.parse().unwrap()
}

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(START.millis() + seconds.cast_signed() * 1000)
}

/// Seconds between visits that begin the moment they are due, as often as the
/// site is visited with these outcomes, and how it stands then.
fn gaps(policy: &RetryPolicy, outcomes: impl IntoIterator<Item = bool>) -> (Vec<u64>, Standing) {
    let mut standing = Standing::default();
    let mut now = START;
    let mut gaps = Vec::new();
    for success in outcomes {
        let Some(due) = standing.due_at(policy, now) else {
            break;
        };
        if let Some(last) = standing.last_run_at {
            gaps.push(due.since(last).as_secs());
            assert!(!standing.is_due(policy, due.minus(Duration::from_millis(1))));
        }
        assert!(standing.is_due(policy, due), "the due time itself is due");
        now = due;
        standing = standing.after(policy, success, due, due);
    }
    (gaps, standing)
}

fn repeated(parts: &[(u64, usize)]) -> Vec<u64> {
    let part = |&(gap, count): &(u64, usize)| std::iter::repeat_n(gap, count);
    parts.iter().flat_map(part).collect()
}

#[test]
fn a_site_that_always_fails_goes_through_all_levels_and_is_given_up() {
    let examples: [(&str, &[(u64, usize)]); 6] = [
        // The seed's examples: after the sixth failure, an hour is waited.
        (
            "20min (x6); 1hour (x24); 1day (x30)",
            &[(20 * MIN, 5), (HOUR, 24), (DAY, 30)],
        ),
        ("1 day (x30)", &[(DAY, 29)]),
        // De-escalation, escalation, both.
        ("2 hour (x12); 1 day (x30)", &[(2 * HOUR, 11), (DAY, 30)]),
        ("2 hour (x1); 30 min (x480)", &[(30 * MIN, 480)]),
        (
            "2 hour (x1); 30 min (x24); 1 day (x30)",
            &[(30 * MIN, 24), (DAY, 30)],
        ),
        ("1 hour (x48); 1 day (x90)", &[(HOUR, 47), (DAY, 90)]),
    ];
    for (text, expected) in examples {
        let policy = policy(text);
        let (gaps, standing) = gaps(&policy, std::iter::repeat(false));
        assert_eq!(gaps, repeated(expected), "{text}");
        let end = at(gaps.iter().sum());
        assert_eq!(standing.given_up_at, Some(end), "{text}");
        assert_eq!(standing.last_run_at, Some(end), "{text}");
        assert!(!standing.is_due(&policy, at(1000 * DAY)), "{text}");
    }
}

#[test]
fn a_site_that_is_well_stays_at_the_first_level() {
    let policy = policy("2 hour (x1); 30 min (x24); 1 day (x30)");
    let (gaps, standing) = gaps(&policy, [true; 50]);
    assert_eq!(gaps, repeated(&[(2 * HOUR, 49)]));
    assert_eq!((standing.level, standing.count), (0, 0));
}

#[test]
fn a_success_leads_back_to_the_beginning() {
    let policy = policy("2 hour (x1); 30 min (x2); 1 day (x2)");
    let mut outcomes = vec![true, false, false, false, false, true];
    outcomes.extend([false; 10]);
    let (gaps, standing) = gaps(&policy, outcomes);
    let expected = [
        // well; fails, and is looked at more often; then less often
        2 * HOUR,
        30 * MIN,
        30 * MIN,
        DAY,
        DAY,
        // well again; fails for good
        2 * HOUR,
        30 * MIN,
        30 * MIN,
        DAY,
        DAY,
    ];
    assert_eq!(gaps, expected);
    assert!(standing.given_up_at.is_some());
}

#[test]
fn failures_that_are_not_in_a_row_never_add_up() {
    let policy = policy("1 min (x2); 1 day (x1)");
    let (gaps, _) = gaps(&policy, (0..100).map(|visit| visit % 2 == 0));
    assert_eq!(gaps, repeated(&[(MIN, 99)]));
}

#[test]
fn a_site_never_visited_is_due_at_once() {
    let policy = RetryPolicy::default();
    assert_eq!(Standing::default().due_at(&policy, START), Some(START));
    let odd = Standing {
        level: 1,
        count: 7,
        ..Standing::default()
    };
    assert!(odd.is_due(&policy, START));
}

#[test]
fn the_period_counts_from_the_begin_of_a_visit_and_giving_up_is_at_its_end() {
    let policy = policy("1 min (x1)");
    let well = Standing::default().after(&policy, true, at(0), at(45));
    assert_eq!(well.due_at(&policy, at(45)), Some(at(60)));
    let failed = Standing::default().after(&policy, false, at(0), at(45));
    assert_eq!(
        (failed.last_run_at, failed.given_up_at),
        (Some(at(0)), Some(at(45)))
    );
}

#[test]
fn a_site_above_the_last_level_of_another_policy_stands_at_the_last() {
    let long = policy("1 min (x1); 1 hour (x1); 1 day (x30)");
    let (_, standing) = gaps(&long, [false; 5]);
    assert_eq!((standing.level, standing.count), (2, 3));
    let last = standing.last_run_at.unwrap();
    let short = policy("1 min (x1); 1 hour (x10)");
    assert_eq!(
        standing.due_at(&short, last),
        Some(last.plus(Duration::from_secs(HOUR)))
    );
    let next = standing.after(&short, false, last, last);
    assert_eq!((next.level, next.count, next.given_up_at), (1, 4, None));
    // It has failed so often already: the next failure is one too many.
    let shorter = policy("1 min (x3)");
    assert_eq!(
        standing.after(&shorter, false, last, last).given_up_at,
        Some(last)
    );
    assert_eq!(standing.after(&shorter, true, last, last).level, 0);
}

#[test]
fn a_site_given_up_stays_so_when_the_policy_gets_more_levels() {
    let (_, standing) = gaps(&policy("1 min (x1)"), [false]);
    let longer = policy("1 min (x1); 1 day (x30)");
    assert_eq!(standing.due_at(&longer, at(DAY)), None);
    assert!(standing.given_up_at.is_some());
}

#[test]
fn what_the_database_may_hold_is_no_trouble() {
    let policy = RetryPolicy::default();
    let odd = Standing {
        level: u32::MAX,
        count: u32::MAX,
        last_run_at: Some(Timestamp::from_millis(i64::MIN)),
        given_up_at: None,
    };
    assert!(odd.is_due(&policy, START));
    assert_eq!(
        odd.after(&policy, false, START, START).given_up_at,
        Some(START)
    );
    let ahead = Standing {
        last_run_at: Some(Timestamp::from_millis(i64::MAX)),
        ..odd
    };
    assert_eq!(ahead.due_at(&policy, START), Some(at(DAY)));
}

#[test]
fn a_last_visit_that_lies_ahead_counts_as_now_from_when_it_is_seen() {
    let policy = policy("1 hour (x2)");
    let ahead = Standing {
        count: 1,
        last_run_at: Some(at(1000 * DAY)),
        ..Standing::default()
    };
    assert_eq!(ahead.due_at(&policy, START), Some(at(HOUR)));
    assert!(
        !ahead.is_due(&policy, at(HOUR)),
        "looked at an hour later, it lies ahead still"
    );
    let mended = ahead.mended(START).unwrap();
    assert_eq!((mended.count, mended.last_run_at), (1, Some(START)));
    assert!(mended.is_due(&policy, at(HOUR)));
    assert_eq!(mended.mended(START), None, "nothing to mend");
    assert_eq!(Standing::default().mended(START), None);
}

/// An attempt at a visit: the wait before somebody looks, how it would come
/// out, how long it takes, and whether the process dies before the commit.
type Look = (u64, bool, u64, bool);

fn looks() -> impl Strategy<Value = Vec<Look>> {
    let look = (
        0..50_u64,
        prop::bool::weighted(0.2),
        0..5_u64,
        prop::bool::weighted(0.15),
    );
    proptest::collection::vec(look, 0..200)
}

fn policies() -> impl Strategy<Value = Vec<(u64, u32)>> {
    proptest::collection::vec((1..100_u64, 1..6_u32), 1..5)
}

proptest! {
    /// The model knows no levels. A policy is a list of waits: how long after
    /// the k-th failure in a row; there is none after the last.
    #[test]
    fn visits_are_those_of_the_model_whatever_the_policy_the_outcomes_and_the_crashes(
        levels in policies(),
        looks in looks(),
    ) {
        let waits = repeated(&levels.iter().map(|&(period, count)| (period, count as usize)).collect::<Vec<_>>());
        let policy = RetryPolicy::new(
            levels.iter().map(|&(period, count)| Level { period: Duration::from_secs(period), count }).collect(),
        ).unwrap();

        let (mut expected, mut failures, mut due) = (Vec::new(), 0, Some(0));
        let mut now = 0;
        for &(pause, success, _, crash) in &looks {
            now += pause;
            if due.is_none_or(|due| now < due) {
                continue;
            }
            expected.push(now);
            if !crash {
                failures = if success { 0 } else { failures + 1 };
                due = waits.get(failures).map(|wait| now + wait);
            }
        }

        let (mut visits, mut stored) = (Vec::new(), Standing::default());
        let mut now = 0;
        for &(pause, success, takes, crash) in &looks {
            now += pause;
            if !stored.is_due(&policy, at(now)) {
                continue;
            }
            visits.push(now);
            let outcome = stored.after(&policy, success, at(now), at(now + takes));
            // A crash between a visit and its commit: as if it had not been.
            if !crash {
                stored = outcome;
            }
        }
        prop_assert_eq!(visits, expected);
        prop_assert_eq!(stored.given_up_at.is_none(), due.is_some());
        let counted: u32 = levels.iter().take(stored.level as usize).map(|level| level.1).sum();
        prop_assert_eq!((counted + stored.count) as usize, failures);
    }
}
