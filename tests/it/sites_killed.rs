//! `kill -9` at random moments while sites are visited: what was committed
//! stays, and nothing but what was under way is done again.

use crate::sites_support::{CLOCKS, Row, check_gaps, import, job, place_of, rows};
use crate::support::{Database, Installation, PATIENCE, eventually, on_both_databases};
use highwater::sim::{Flap, Mix, SiteBehaviour, SitesHandle, SitesOptions, SitesSim, Span};
use highwater::time::Timestamp;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SITES: u32 = 2_000;
const KILLS: usize = 10;
/// Two failures in a row lead to the second level, from which none is given up.
const POLICY: &str = "2 sec (x2); 3 sec (x1000)";
const PERIOD: Duration = Duration::from_secs(2);
const MAX_IN_FLIGHT: usize = 64;
const COMMIT_ROWS: usize = 50;
/// Visits whose outcome a kill may take: those under way, and those that wait
/// to be written, which are a few commits' rows.
const MOST_LOST: usize = MAX_IN_FLIGHT + 4 * COMMIT_ROWS;
/// How much sooner an outcome may have come than another that was written
/// before it.
const OUT_OF_ORDER: Duration = Duration::from_secs(1);

on_both_databases!(ten_kills_lose_no_outcome_and_repeat_only_what_was_under_way);

async fn ten_kills_lose_no_outcome_and_repeat_only_what_was_under_way(database: &Database) {
    let seed: u64 = rand::random();
    println!("seed {seed:#018x}");
    let mut random = SmallRng::seed_from_u64(seed);
    let sim = SitesSim::start(SitesOptions {
        mix: Mix {
            flapping: 0.3,
            failing: 0.1,
            ..Mix::default()
        },
        flap: Flap::Visits(2),
        latency: Span::new(Duration::ZERO, Duration::from_millis(20)),
        keep_visits: 100,
        ..SitesOptions::of(SITES)
    })
    .unwrap();
    // On PostgreSQL each start waits for the dead server's lease.
    let sections = format!(
        "[server]\nlease = \"1s\"\n\n\
         [sites]\nmax_in_flight = {MAX_IN_FLIGHT}\ncommit_rows = {COMMIT_ROWS}\n\n\
         [retention]\npolls_per_site = 100\n\n{}",
        job("sync", POLICY, "batches = 4\nper_host = 64", "")
    );
    let place = Installation::new(database, "server", &sections);
    import(&place, &sim);
    let mut starts = vec![Timestamp::now()];
    let mut server = place.serve().await;
    for _ in 0..KILLS {
        let goal = sim.stats().visits + random.random_range(1..u64::from(SITES));
        eventually(PATIENCE, "sites are visited", async || {
            sim.stats().visits >= goal
        })
        .await;
        server.kill9();
        all_has_arrived(&sim).await;
        database.sessions_are_gone("server").await;
        starts.push(Timestamp::now());
        server = place.serve().await;
    }
    // Each is visited at least once more, so that what was lost would show.
    let goals: Vec<u64> = (0..SITES).map(|site| sim.visit_count(site) + 1).collect();
    eventually(PATIENCE, "all sites are visited again", async || {
        (0..SITES)
            .zip(&goals)
            .all(|(site, goal)| sim.visit_count(site) >= *goal)
    })
    .await;
    server.terminate().await;

    let rows = rows(database, "sync").await;
    assert_eq!(rows.len(), SITES as usize);
    for site in 0..SITES {
        let row = &rows[&sim.site_id(site)];
        check_gaps(&sim, site, "sync", row, PERIOD);
        agrees_with_its_visits(&sim, site, row);
    }
    check_what_was_lost(&sim, &rows, &starts);
}

/// How a site stands is what its visits came to, and what it saw itself.
fn agrees_with_its_visits(sim: &SitesHandle, site: u32, row: &Row) {
    let last = row.log.last().unwrap();
    let seen = sim.visits(site, "sync");
    let place = place_of(&seen, last);
    assert_eq!(
        place,
        Some(seen.len() - 1),
        "site {site}: {seen:?}, {row:?}"
    );
    assert_eq!(row.last_run_at, Some(last.at), "site {site}");
    let failures = row.log.iter().rev();
    let failures = failures.take_while(|visit| visit.outcome.is_err()).count();
    let failures = u32::try_from(failures).unwrap();
    let stands = if failures < 2 {
        (0, failures)
    } else {
        (1, failures - 2)
    };
    assert_eq!((row.level, row.count), stands, "site {site}: {row:?}");
    let well = row.log.iter().filter(|visit| visit.outcome.is_ok()).count();
    match sim.behaviour(site) {
        SiteBehaviour::Healthy => assert_eq!(well, row.log.len(), "{row:?}"),
        SiteBehaviour::Failing => assert_eq!(well, 0, "{row:?}"),
        _ => {}
    }
}

/// Visits that sites saw and of which nothing was written are those that a
/// kill met under way, or on their way to the database.
fn check_what_was_lost(sim: &SitesHandle, rows: &BTreeMap<String, Row>, starts: &[Timestamp]) {
    let run_of = |at: Timestamp| starts.partition_point(|start| *start <= at).max(1) - 1;
    let mut lost = vec![Vec::new(); starts.len()];
    let mut last_written = vec![Timestamp::default(); starts.len()];
    for site in 0..SITES {
        let log = &rows[&sim.site_id(site)].log;
        for visit in log {
            let last = &mut last_written[run_of(visit.at)];
            *last = (*last).max(visit.at.plus(visit.duration));
        }
        let seen = sim.visits(site, "sync");
        let written: BTreeSet<usize> = log.iter().filter_map(|log| place_of(&seen, log)).collect();
        assert_eq!(written.len(), log.len(), "site {site}: {seen:?}, {log:?}");
        for (place, visit) in seen.into_iter().enumerate() {
            if !written.contains(&place) {
                lost[run_of(visit.begun_at)].push((site, visit));
            }
        }
    }
    for (run, start) in starts.iter().enumerate() {
        let until = starts.get(run + 1).copied().unwrap_or(Timestamp::now());
        let peak = sim.visits_per_second(*start, until).into_iter().max();
        let lost = &lost[run];
        println!(
            "    run {run} of {:.1?}: {} visits a second at most, {} lost",
            until.since(*start),
            peak.unwrap_or(0),
            lost.len()
        );
        if run == starts.len() - 1 {
            assert_eq!(lost.len(), 0, "lost by the drain: {lost:?}");
        }
        assert!(lost.len() <= MOST_LOST, "{} lost in run {run}", lost.len());
        for (site, visit) in lost {
            let Some(ended) = visit.ended_at else {
                continue;
            };
            let earlier = last_written[run].since(ended);
            assert!(
                earlier <= OUT_OF_ORDER + CLOCKS,
                "site {site}: {visit:?} is lost, what ended {earlier:?} later is not"
            );
        }
    }
}

/// Waits until the sites have seen what the dead server had sent: one thread
/// takes what has arrived in turns, so what came before is begun when a request
/// that came after it is answered, the next one at the latest.
async fn all_has_arrived(sim: &SitesHandle) {
    for _ in 0..2 {
        let url = format!("http://{}/sim/stats", sim.addr());
        let answer = reqwest::get(url).await.unwrap();
        assert!(answer.status().is_success());
    }
    eventually(PATIENCE, "no visit is under way", async || {
        sim.stats().under_way == 0
    })
    .await;
}
