//! `highwater poll`: one run over the sites of a job, for cron.

use crate::sites_support::{APP, check_gaps, done, import, job, rows, run};
use crate::support::{Database, Installation, PATIENCE, eventually, on_both_databases};
use highwater::sim::{Mix, SiteBehaviour, SitesHandle, SitesOptions, SitesSim};
use std::time::Duration;

on_both_databases!(
    a_run_visits_what_is_due_and_says_what_came_of_it,
    a_policy_on_the_line_wins,
    batches_share_the_sites_out,
    a_dry_run_changes_nothing,
    what_a_program_reads_is_json_whatever_comes_of_it,
    a_host_that_asks_for_it_is_left_alone_by_polls,
    wrong_usage_is_told_with_its_place,
);

const SITES: u32 = 12;

/// Sites of which the last two fail, and a job that only polls do.
fn stage(database: &Database) -> (SitesHandle, Installation) {
    let sim = SitesSim::start(SitesOptions::of(SITES)).unwrap();
    for site in SITES - 2..SITES {
        sim.set_behaviour(site, Some(SiteBehaviour::Failing));
    }
    let sections = job("sync", "1 hour (x2)", "server = false", "")
        + &job("default", "1 hour (x2)", "server = false", "");
    let place = Installation::new(database, "poll", &sections);
    import(&place, &sim);
    (sim, place)
}

fn visits(sim: &SitesHandle) -> u64 {
    sim.stats().visits
}

async fn a_run_visits_what_is_due_and_says_what_came_of_it(database: &Database) {
    let (sim, place) = stage(database);
    let app = format!("app:{APP}");
    let said = done(&place, &["poll", &app, "--name", "sync"]);
    let words = format!("sync of {APP}, batch 0/1: 12 sites visited, 10 well, 2 failed, 12 new\n");
    assert_eq!(said, words);
    assert_eq!(visits(&sim), 12);
    let rows = rows(database, "sync").await;
    assert_eq!(rows.len(), 12);
    for site in 0..SITES {
        let row = &rows[&sim.site_id(site)];
        let failed = u32::from(site >= SITES - 2);
        assert_eq!((row.level, row.count), (0, failed), "{row:?}");
        // A poll spreads nothing: it is cron that says when it looks.
        let wait = row.next_due_at.unwrap().since(row.last_run_at.unwrap());
        assert_eq!(wait, Duration::from_secs(3_600), "{row:?}");
        assert_eq!(sim.visits(site, "sync").len(), 1);
    }
    let said = done(&place, &["poll", APP, "--name", "sync"]);
    assert!(said.contains("0 sites visited, 0 well, 0 failed"), "{said}");
    assert_eq!(visits(&sim), 12);
    // The job without a name is another one.
    let said = done(&place, &["poll", APP]);
    assert!(said.starts_with("default of "), "{said}");
    assert!(said.contains("batch 0/1: 12 sites visited"), "{said}");
    assert_eq!(visits(&sim), 24);
    let leases = "SELECT count(*) AS value FROM leases WHERE name LIKE 'sites:%' AND holder <> ''";
    assert_eq!(database.number(leases).await, 0, "they are given back");
}

async fn a_policy_on_the_line_wins(database: &Database) {
    let (sim, place) = stage(database);
    let poll = |more: &[&str]| done(&place, &[&["poll", APP, "--name", "sync"], more].concat());
    poll(&[]);
    let mut said = String::new();
    eventually(PATIENCE, "all are visited after a second", async || {
        said.push_str(&poll(&["-v", "--retry", "1 sec (x100)"]));
        visits(&sim) >= 24
    })
    .await;
    for site in 0..SITES {
        let line = format!("{}  ", sim.site_id(site));
        let told = said.lines().find(|told| told.starts_with(&line));
        let told = told.unwrap_or_else(|| panic!("no line of {line}: {said}"));
        let outcome = if site < SITES - 2 {
            "success"
        } else {
            "failure"
        };
        assert!(told.contains(outcome), "{told}");
    }
    assert!(said.contains("level 0, 2 failures"), "{said}");
    assert_eq!(poll(&[]).lines().count(), 1, "no line a site without -v");

    // By the policy on the line, what failed twice has failed often enough.
    let mut said = String::new();
    eventually(PATIENCE, "what fails is given up", async || {
        said.push_str(&poll(&["--retry", "1 sec (x3)"]));
        said.contains("given up")
    })
    .await;
    assert!(said.contains(", 2 given up"), "{said}");
    let rows = rows(database, "sync").await;
    for site in 0..SITES {
        let row = &rows[&sim.site_id(site)];
        assert_eq!(row.given_up_at.is_some(), site >= SITES - 2, "{row:?}");
        check_gaps(&sim, site, "sync", row, Duration::from_secs(1));
    }
}

async fn batches_share_the_sites_out(database: &Database) {
    let (sim, place) = stage(database);
    let mut before = 0;
    for batch in ["0/3", "1/3", "2/3"] {
        let said = done(&place, &["poll", APP, "--batch", batch]);
        let visited = visits(&sim) - before;
        let (verb, new) = match visited {
            0 => ("0 sites visited".to_owned(), String::new()),
            1 => ("1 site visited".to_owned(), ", 1 new".to_owned()),
            n => (format!("{n} sites visited"), format!(", {n} new")),
        };
        let head = format!("default of {APP}, batch {batch}: {verb}, ");
        assert!(said.starts_with(&head), "{said}");
        assert!(said.ends_with(&format!("{new}\n")), "{said}");
        before += visited;
    }
    assert!((0..SITES).all(|site| sim.visit_count(site) == 1));
}

async fn a_dry_run_changes_nothing(database: &Database) {
    let (sim, place) = stage(database);
    let poll = |more: &[&str]| done(&place, &[&["poll", APP, "--dry-run"], more].concat());
    let said = poll(&[]);
    assert_eq!(said.lines().count(), 13, "{said}");
    let ending = "12 sites would be visited, of which 12 for the first time; nothing was done\n";
    assert!(said.ends_with(ending), "{said}");
    assert_eq!(visits(&sim), 0);
    for table in ["poll_status", "leases WHERE name LIKE 'sites:%'"] {
        let count = format!("SELECT count(*) AS value FROM {table}");
        assert_eq!(database.number(&count).await, 0, "{table}");
    }

    done(&place, &["poll", APP]);
    assert!(poll(&[]).contains(": 0 sites would be visited"));
    let before = format!("{:?}", rows(database, "default").await);
    let mut said = String::new();
    eventually(PATIENCE, "all would be visited", async || {
        said = poll(&["--retry", "1 sec (x100)"]);
        said.contains("12 sites would be visited")
    })
    .await;
    for site in 0..SITES {
        assert!(said.contains(&format!("{}  last visited", sim.site_id(site))));
    }
    assert!(said.contains("level 0 (1s), 1 of 100 failures"), "{said}");
    assert_eq!(format!("{:?}", rows(database, "default").await), before);
    assert_eq!(visits(&sim), 12);
}

async fn what_a_program_reads_is_json_whatever_comes_of_it(database: &Database) {
    let (sim, place) = stage(database);
    let poll = |more: &[&str]| -> serde_json::Value {
        let said = done(&place, &[&["poll", APP, "-o", "json"], more].concat());
        serde_json::from_str(&said).unwrap()
    };
    let dry = poll(&["--dry-run"]);
    let told = (&dry["dry_run"], &dry["due"], &dry["new"], &dry["more"]);
    assert_eq!(
        told,
        (&true.into(), &12.into(), &12.into(), &0.into()),
        "{dry}"
    );
    assert_eq!(dry["sites"].as_array().unwrap().len(), 12);
    assert_eq!(dry["sites"][0]["why"], "never seen by this job");
    assert_eq!(dry["holders"].as_array().unwrap().len(), 0);

    let time = |year: u32| {
        let text = format!("'{year}-01-01 00:00:00.000'");
        if database.is_sqlite() {
            text
        } else {
            format!("TIMESTAMP {text}")
        }
    };
    let (expires, acquired) = (time(2999), time(2026));
    let lease = format!(
        "INSERT INTO leases (name, holder, epoch, expires_at, acquired_at) VALUES \
         ('sites:{APP}/default:0-4999', 'host-9', 7, {expires}, {acquired})"
    );
    database.run(&lease).await.unwrap();
    let declined = poll(&[]);
    assert_eq!(declined["declined"], true, "{declined}");
    assert_eq!(
        (&declined["job"], &declined["batch"]),
        (&format!("{APP}/default").into(), &"0/1".into())
    );
    let holder = &declined["holders"][0];
    assert_eq!(
        (&holder["holder"], &holder["poll"], &holder["codes"]),
        (&"host-9".into(), &false.into(), &"0-4999".into()),
        "{declined}"
    );
    assert!(holder["since"].as_str().unwrap().starts_with("2026-01-01"));
    assert_eq!(poll(&["--dry-run"])["holders"], declined["holders"]);
    assert_eq!(visits(&sim), 0);
}

async fn a_host_that_asks_for_it_is_left_alone_by_polls(database: &Database) {
    let sim = SitesSim::start(SitesOptions {
        mix: Mix::all(SiteBehaviour::Limited),
        retry_after: 3_600,
        ..SitesOptions::of(100)
    })
    .unwrap();
    let sections = ["one", "two"]
        .map(|name| job(name, "1 hour (x3)", "server = false\nper_host = 4", ""))
        .concat();
    let sections = format!("[sites]\ncommit_interval = \"1s\"\n\n{sections}");
    let place = Installation::new(database, "poll", &sections);
    import(&place, &sim);
    let said = done(&place, &["poll", APP, "--name", "one"]);
    let visited = visits(&sim);
    assert!((1..=4).contains(&visited), "{said}");
    let left = format!("{} left alone, as their host asked", 100 - visited);
    assert!(said.contains(&left), "{said}");
    // The other job knows it too, and those that were visited failed just once.
    let said = done(&place, &["poll", APP, "--name", "two"]);
    assert!(said.contains("0 sites visited"), "{said}");
    assert_eq!(visits(&sim), visited);
}

async fn wrong_usage_is_told_with_its_place(database: &Database) {
    let (sim, place) = stage(database);
    for (args, told) in [
        (&["--batch", "4/4"][..], &["4/4", "0 <= i < n"][..]),
        (&["--batch", "-1/4"], &["-1/4"]),
        (&["--batch", "a/b"], &["a/b"]),
        (&["--batch", "0/0"], &["0/0"]),
        (
            &["--retry", "1 hour (x2); 5 sex (x1)"],
            &["sex", "at character 16"],
        ),
        (&["--retry", ""], &["there is no level, at character 1"]),
        (
            &["--name", "other"],
            &["no job org.civicrm.myapp/other", "/default", "/sync"],
        ),
        (&["--name", "a/b"], &["--name", "a/b"]),
    ] {
        let ended = run(&place, &[&["poll", APP], args].concat());
        assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
        for word in told {
            assert!(ended.err.contains(word), "{args:?}: {word}: {}", ended.err);
        }
    }
    let ended = run(&place, &["poll", "org.example.unknown"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(
        ended.err.contains("org.example.unknown/default"),
        "{ended:?}"
    );
    assert!(ended.err.contains(&format!("{APP}/sync")), "{ended:?}");
    assert_eq!(visits(&sim), 0);
}
