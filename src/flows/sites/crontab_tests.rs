//! The seed's example crontab over thirty days, against a prediction that
//! knows neither policies nor standings, but how long is waited after the k-th
//! failure in a row.

use super::policy::RetryPolicy;
use super::shard::Shard;
use super::standing::Standing;
use crate::time::Timestamp;
use std::time::Duration;

const SITES: u64 = 1000;
const EVERY: u64 = 300;
const DAY: u64 = 86_400;
const END: u64 = 30 * DAY;
const START: i64 = 1_795_000_200_000;

const JOBS: [(&str, &str); 2] = [
    ("get_site_info", "1 day (x30)"),
    ("sync_activities", "2 hour (x12); 1 day (x30)"),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Healthy,
    Dead,
    /// Away every third stretch of five hours.
    Flapping,
    /// Away until then.
    Recovering(u64),
}

fn kind(site: u64) -> Kind {
    match site % 4 {
        0 => Kind::Healthy,
        1 => Kind::Dead,
        2 => Kind::Flapping,
        _ => Kind::Recovering(site * 2500),
    }
}

/// How a visit of a site comes out that begins then, in seconds.
fn success(site: u64, job: usize, at: u64) -> bool {
    match kind(site) {
        Kind::Healthy => true,
        Kind::Dead => false,
        Kind::Flapping => !(at / 18_000 + site + job as u64).is_multiple_of(3),
        Kind::Recovering(from) => at >= from,
    }
}

/// How long after its run's begin a site is visited.
const fn lag(site: u64) -> u64 {
    [0, 0, 7, 299][(site / 4 % 4) as usize]
}

const fn code(site: u64) -> u16 {
    (site.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 10_001) as u16
}

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(START + seconds.cast_signed() * 1000)
}

/// Runs the eight lines every five minutes: when each site was visited, and
/// how it stands in the end, per job.
fn run() -> Vec<Vec<(Vec<u64>, Standing)>> {
    let mut jobs = vec![vec![(Vec::new(), Standing::default()); SITES as usize]; JOBS.len()];
    let policies = JOBS.map(|(_, retry)| retry.parse::<RetryPolicy>().unwrap());
    let shards: Vec<Vec<u64>> = Shard::all(4)
        .map(|shard| {
            (0..SITES)
                .filter(|site| shard.codes().contains(&code(*site)))
                .collect()
        })
        .collect();
    for run in (0..END).step_by(EVERY as usize) {
        for (job, policy) in policies.iter().enumerate() {
            for &site in shards.iter().flatten() {
                let (visits, standing) = &mut jobs[job][site as usize];
                if !standing.is_due(policy, at(run)) {
                    continue;
                }
                let begun = run + lag(site);
                visits.push(begun);
                let success = success(site, job, begun);
                *standing = standing.after(policy, success, at(begun), at(begun + 1));
            }
        }
    }
    jobs
}

/// From one visit to the next, where so long is waited: the next run after it.
const fn step(site: u64, wait: u64) -> u64 {
    (lag(site) + wait).div_ceil(EVERY) * EVERY
}

/// Visits of a site that always fails, without an end to the days.
fn dead(site: u64, waits: &[u64]) -> Vec<u64> {
    let mut sum = lag(site);
    let mut visits = vec![sum];
    for wait in &waits[1..] {
        sum += step(site, *wait);
        visits.push(sum);
    }
    visits
}

fn predicted(site: u64, job: usize, waits: &[u64]) -> Vec<u64> {
    let healthy = |from: u64| (from..).step_by(step(site, waits[0]) as usize);
    let until_end = |visit: &u64| *visit - lag(site) < END;
    match kind(site) {
        Kind::Healthy => healthy(lag(site)).take_while(until_end).collect(),
        Kind::Dead => dead(site, waits)
            .into_iter()
            .take_while(until_end)
            .collect(),
        Kind::Recovering(from) => {
            let mut visits = dead(site, waits);
            visits.retain(|visit| *visit < from);
            let last = visits
                .last()
                .map(|last| last + step(site, waits[visits.len()]));
            visits.extend(healthy(last.unwrap_or(lag(site))).take_while(until_end));
            visits.retain(until_end);
            visits
        }
        Kind::Flapping => {
            let (mut visits, mut failures, mut next) = (Vec::new(), 0, Some(lag(site)));
            while let Some(visit) = next.filter(until_end) {
                visits.push(visit);
                failures = if success(site, job, visit) {
                    0
                } else {
                    failures + 1
                };
                next = waits.get(failures).map(|wait| visit + step(site, *wait));
            }
            visits
        }
    }
}

#[test]
fn thirty_days_of_the_seeds_crontab_visit_a_thousand_sites_as_predicted() {
    let waits = [vec![DAY; 30], [vec![7200; 12], vec![DAY; 30]].concat()];
    let jobs = run();
    let mut total = 0;
    for (job, sites) in jobs.iter().enumerate() {
        for (site, (visits, standing)) in sites.iter().enumerate() {
            let (site, name) = (site as u64, JOBS[job].0);
            assert_eq!(
                *visits,
                predicted(site, job, &waits[job]),
                "{name} of {site}, {:?}",
                kind(site)
            );
            total += visits.len();
            let period = Duration::from_secs(*waits[job].iter().min().unwrap());
            assert!(
                visits
                    .windows(2)
                    .all(|pair| Duration::from_secs(pair[1] - pair[0]) >= period)
            );
            if kind(site) == Kind::Dead {
                // Thirty daily failures end on the thirtieth day, where no visit lags.
                let given_up = name == "get_site_info" && visits.len() == 30;
                assert_eq!(standing.given_up_at.is_some(), given_up, "{name} of {site}");
            }
        }
    }
    // A healthy site that does not lag is visited each day and every two hours.
    assert_eq!((jobs[0][0].0.len(), jobs[1][0].0.len()), (30, 360));
    assert_eq!((jobs[0][1].0.len(), jobs[1][1].0.len()), (30, 41));
    assert!(total > 150_000, "{total}");
}
