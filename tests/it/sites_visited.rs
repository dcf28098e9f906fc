//! Sites are visited when their policy says so: healthy ones go on, failing
//! ones go down the levels and are given up, and what is changed while the
//! server runs counts.

use crate::sites_support::{APP, Row, check_gaps, done, import, job, rows, run};
use crate::support::{Database, Installation, PATIENCE, eventually, on_both_databases};
use highwater::sim::{Mix, SiteBehaviour, SitesHandle, SitesOptions, SitesSim};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const SITES: u32 = 1_000;
/// 2 s, three times; then 3 s, twice.
const POLICY: &str = "2 sec (x3); 3 sec (x2)";
const PERIOD: Duration = Duration::from_secs(2);
const TRIES: u64 = 5;
/// What a server may add to a period of these two seconds.
const DELAY: Duration = Duration::from_millis(100);
/// What a busy machine may add to the sweep interval.
const SLACK: Duration = Duration::from_secs(3);

on_both_databases!(
    thousands_of_sites_are_visited_by_their_policy,
    what_changes_while_the_server_runs_counts,
);

async fn thousands_of_sites_are_visited_by_their_policy(database: &Database) {
    let sim = SitesSim::start(SitesOptions {
        mix: Mix {
            failing: 0.05,
            dead: 0.05,
            ..Mix::default()
        },
        ..SitesOptions::of(SITES)
    })
    .unwrap();
    let sections = format!(
        "[sites]\nsweep_interval = \"500ms\"\n\n{}",
        job("sync", POLICY, "per_host = 64", "result = \"\"")
    );
    let place = Installation::new(database, "server", &sections);
    import(&place, &sim);
    let server = place.serve().await;
    let begun = Instant::now();
    let of = |behaviour| -> Vec<u32> {
        let is = |site: &u32| sim.behaviour(*site) == behaviour;
        (0..SITES).filter(is).collect()
    };
    let (healthy, failing, dead) = (
        of(SiteBehaviour::Healthy),
        of(SiteBehaviour::Failing),
        of(SiteBehaviour::Dead),
    );
    let broken = || failing.iter().chain(&dead);
    let given_up = "SELECT count(*) AS value FROM poll_status WHERE given_up_at IS NOT NULL";
    let all = i64::try_from(broken().count()).unwrap();
    eventually(PATIENCE, "what fails is given up", async || {
        database.number(given_up).await == all
    })
    .await;
    let took = begun.elapsed();
    // The least that three periods of 2 s, of which the third is of the next
    // level already, and the last one of 3 s take together.
    assert!(took >= Duration::from_secs(10), "{took:?}");
    let visits = || -> u64 { healthy.iter().map(|site| sim.visit_count(*site)).sum() };
    let round = visits() + 2 * healthy.len() as u64;
    eventually(PATIENCE, "healthy sites go on", async || visits() >= round).await;
    println!(
        "{SITES} sites in {took:.1?}: {} visits, given up {all}, most at once {}",
        sim.stats().visits,
        sim.stats().most_under_way
    );

    // Given up after as many failures as the policy has, and left alone since.
    for site in broken() {
        assert_eq!(sim.visit_count(*site), TRIES, "site {site}");
    }
    are_listed(
        &place,
        &server,
        &broken().map(|site| sim.site_id(*site)).collect(),
    )
    .await;
    revived_sites_are_visited_again(database, &place, &sim, failing[0], failing[1]).await;
    server.terminate().await;

    let rows = rows(database, "sync").await;
    assert_eq!(rows.len(), SITES as usize);
    for site in &healthy {
        let row = &rows[&sim.site_id(*site)];
        is_well(row);
        check_gaps(&sim, *site, "sync", row, PERIOD);
        assert_eq!(sim.visit_count(*site), row.log.len() as u64, "site {site}");
    }
    for (sites, error) in [(&failing[2..], "unexpected: "), (&dead, "unreachable: ")] {
        for site in sites {
            let row = &rows[&sim.site_id(*site)];
            is_given_up(row, error);
            check_gaps(&sim, *site, "sync", row, PERIOD);
            let last = row.log.windows(2).skip(2);
            let last: Vec<Duration> = last.map(|pair| pair[1].at.since(pair[0].at)).collect();
            let of_next_level = last.iter().all(|gap| *gap >= Duration::from_secs(3));
            assert!(last.len() == 2 && of_next_level, "site {site}: {last:?}");
        }
    }
    results_are_kept(database, &sim, &healthy, failing[0]).await;
    assert_eq!(sim.overlaps().count, 0);
}

fn is_well(row: &Row) {
    assert_eq!((row.level, row.count), (0, 0), "{row:?}");
    assert_eq!((&*row.last_outcome, &*row.last_error), ("success", ""));
    assert!(row.last_duration_ms.is_some() && row.given_up_at.is_none());
    let wait = row.next_due_at.unwrap().since(row.last_run_at.unwrap());
    assert!(wait >= PERIOD && wait <= PERIOD + DELAY, "{row:?}");
    assert_eq!(row.last_run_at, row.log.last().map(|visit| visit.at));
}

fn is_given_up(row: &Row, error: &str) {
    assert_eq!((row.level, row.count), (2, 0), "{row:?}");
    assert_eq!(row.last_outcome, "failure");
    assert!(row.last_error.starts_with(error), "{row:?}");
    assert_eq!(row.next_due_at, None, "{row:?}");
    assert!(row.given_up_at >= row.last_run_at && row.last_run_at.is_some());
    assert_eq!(row.log.len() as u64, TRIES, "{row:?}");
    assert!(row.log.iter().all(|visit| visit.outcome.is_err()));
}

/// By the command and by the API.
async fn are_listed(
    place: &Installation,
    server: &crate::support::ServerProcess,
    expected: &BTreeSet<String>,
) {
    let ids = |page: &Value| -> BTreeSet<String> {
        assert_eq!(page["next"], Value::Null);
        let items = page["items"].as_array().unwrap().iter();
        items
            .map(|item| item["site_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let by_state = ["sites", "list", "--job", "sync", "--state", "given_up"];
    let more = ["--limit", "1000", "--output", "json"];
    let listed = done(place, &[&by_state[..], &more].concat());
    assert_eq!(ids(&serde_json::from_str(&listed).unwrap()), *expected);
    let path = "/v1/sites?job=sync&state=given_up&limit=1000";
    assert_eq!(ids(&server.get(path).await), *expected);
}

/// Revives two sites, of which the first is well again.
async fn revived_sites_are_visited_again(
    database: &Database,
    place: &Installation,
    sim: &SitesHandle,
    well: u32,
    failing: u32,
) {
    sim.set_behaviour(well, Some(SiteBehaviour::Healthy));
    let ids = [sim.site_id(well), sim.site_id(failing)];
    done(
        place,
        &["sites", "revive", "--job", "sync", &ids[0], &ids[1]],
    );
    let took = eventually(PATIENCE, "revived sites are visited", async || {
        sim.visit_count(well) > TRIES && sim.visit_count(failing) > TRIES
    })
    .await;
    assert!(took <= Duration::from_millis(500) + SLACK, "{took:?}");
    eventually(PATIENCE, "their outcomes are written", async || {
        let rows = rows(database, "sync").await;
        let (well, failing) = (&rows[&ids[0]], &rows[&ids[1]]);
        let counts_anew = failing.level == 0 && failing.count > 0 && failing.given_up_at.is_none();
        well.last_outcome == "success" && well.given_up_at.is_none() && counts_anew
    })
    .await;
}

/// Each healthy site's answer is kept once, though it came at every visit.
async fn results_are_kept(database: &Database, sim: &SitesHandle, healthy: &[u32], revived: u32) {
    let sql = "SELECT site_id || ' ' || document AS value FROM poll_results \
               JOIN poll_status ON seq = status_seq";
    let found: BTreeSet<String> = database.texts(sql).await.into_iter().collect();
    let of = |site: &u32| format!("{} {{\"ok\":true,\"site\":{site}}}", sim.site_id(*site));
    let expected = healthy.iter().chain([&revived]).map(of).collect();
    assert_eq!(found, expected);
    let count = "SELECT count(*) AS value FROM poll_results";
    assert_eq!(database.number(count).await, found.len() as i64);
}

async fn what_changes_while_the_server_runs_counts(database: &Database) {
    const STEADY: u32 = 20;
    let sim = SitesSim::start(SitesOptions::of(STEADY + 4)).unwrap();
    let sweep = Duration::from_secs(1);
    let sections = format!(
        "[sites]\nsweep_interval = \"1s\"\n\n{}",
        job("sync", "1 sec (x3)", "per_host = 64", "result = \"\"")
    );
    let place = Installation::new(database, "server", &sections);
    done(&place, &["migrate"]);
    let insert = async |site: u32| {
        let (id, url) = (sim.site_id(site), sim.site_url(site));
        let sql =
            format!("INSERT INTO sites (site_id, app_id, url) VALUES ('{id}', '{APP}', '{url}')");
        database.run(&sql).await.unwrap();
    };
    // One is disabled by hand, one by SQL, one goes, one comes later.
    let [by_hand, by_sql, goes, comes] = [0, 1, 2, 3].map(|n| STEADY + n);
    for site in 0..comes {
        insert(site).await;
    }
    let server = place.serve().await;
    let rounds = async |more: u64| {
        let goals: Vec<u64> = (0..STEADY)
            .map(|site| sim.visit_count(site) + more)
            .collect();
        eventually(PATIENCE, "sites are visited again", async || {
            let mut sites = (0..STEADY).zip(&goals);
            sites.all(|(site, goal)| sim.visit_count(site) >= *goal)
        })
        .await;
    };
    rounds(1).await;

    done(&place, &["sites", "disable", &sim.site_id(by_hand)]);
    let flag = |to: &str| {
        let id = sim.site_id(by_sql);
        format!("UPDATE sites SET enabled = {to} WHERE site_id = '{id}'")
    };
    database.run(&flag("FALSE")).await.unwrap();
    // What was read before may still be visited, within a round.
    rounds(2).await;
    let counts = || [by_hand, by_sql].map(|site| sim.visit_count(site));
    let before = counts();
    rounds(2).await;
    assert_eq!(counts(), before, "disabled sites were visited");
    done(&place, &["sites", "enable", &sim.site_id(by_hand)]);
    database.run(&flag("TRUE")).await.unwrap();
    let took = eventually(PATIENCE, "enabled sites are visited", async || {
        let now = counts();
        now[0] > before[0] && now[1] > before[1]
    })
    .await;
    assert!(took <= sweep + SLACK, "enabled: {took:?}");

    insert(comes).await;
    let took = eventually(PATIENCE, "a site that came by SQL is visited", async || {
        sim.visit_count(comes) > 0
    })
    .await;
    println!("a site that came by SQL is visited after {took:.1?} (sweep interval {sweep:?})");
    assert!(took <= sweep + SLACK, "came by SQL: {took:?}");

    let before = sim.visit_count(goes);
    sim.pause();
    eventually(PATIENCE, "the site that goes is visited", async || {
        sim.visit_count(goes) > before
    })
    .await;
    let id = sim.site_id(goes);
    done(&place, &["sites", "remove", &id]);
    let last = sim.visit_count(goes);
    sim.resume();
    rounds(2).await;
    assert_eq!(
        sim.visit_count(goes),
        last,
        "a site that is gone was visited"
    );
    let rest = format!("SELECT count(*) AS value FROM poll_status WHERE site_id = '{id}'");
    assert_eq!(database.number(&rest).await, 0);
    let strays = "SELECT count(*) AS value FROM poll_results \
                  WHERE status_seq NOT IN (SELECT seq FROM poll_status)";
    assert_eq!(database.number(strays).await, 0);
    assert_eq!(run(&place, &["sites", "show", &id]).code, 1);
    server.terminate().await;
}
