//! Servers and `highwater poll` beside one another on one PostgreSQL: a job's
//! sites belong to one runner at a time, whatever the batches are called.

use crate::sites_support::{APP, check_gaps, import, job, rows, run};
use crate::support::{Database, Installation, PATIENCE, eventually};
use highwater::sim::{SiteBehaviour, SitesOptions, SitesSim, Span};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What a busy machine may add to the lease before it is seen to be over.
const SLACK: Duration = Duration::from_secs(3);

/// Whether two holders have two shards each of the job `both`.
const EVEN: &str = "SELECT CAST(CASE WHEN count(*) = 2 AND min(held) = 2 THEN 1 ELSE 0 END AS BIGINT) \
     AS value FROM (SELECT count(*) AS held FROM leases \
     WHERE name LIKE 'sites:%/both:%' AND holder <> '' GROUP BY holder) AS holders";

/// How often polls declined, and ran.
#[derive(Default)]
struct Runs {
    stop: AtomicBool,
    declined: AtomicU32,
    visited: AtomicU32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_and_four_polls_never_visit_a_site_at_once() {
    const SITES: u32 = 200;
    let database = Database::postgres();
    let sim = SitesSim::start(SitesOptions {
        latency: Span::new(Duration::ZERO, Duration::from_millis(50)),
        keep_visits: 100,
        ..SitesOptions::of(SITES)
    })
    .unwrap();
    let policy = "1 sec (x1000)";
    let sections = format!(
        "[server]\nlease = \"2s\"\n\n[sites]\nsweep_interval = \"200ms\"\n\n\
         [retention]\npolls_per_site = 100\n\n{}{}",
        job("both", policy, "batches = 4\nper_host = 64", ""),
        job("cron", policy, "server = false\nper_host = 64", "")
    );
    let places = ["first", "second"].map(|name| Installation::new(&database, name, &sections));
    crate::sites_support::done(&places[0], &["migrate"]);
    let runs = Runs::default();
    let place = &places[0];
    // Servers beside the polls, on the runtime of the test.
    let handle = tokio::runtime::Handle::current();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let runs = &runs;
            scope.spawn(move || loop_of_polls(place, number, runs));
        }
        let ended = scope.spawn(|| {
            let _stops = StopsAtTheEnd(&runs);
            handle.block_on(async {
                let first = places[0].serve().await;
                let second = places[1].serve().await;
                // Sites come when the shards are shared out: a server that lets
                // go of one leaves what is under way there to the next holder.
                eventually(PATIENCE, "the servers have two shards each", async || {
                    database.number(EVEN).await == 1
                })
                .await;
                import(&places[0], &sim);
                eventually(PATIENCE, "polls visited and declined", async || {
                    let of_cron = (0..SITES).all(|site| sim.visits(site, "cron").len() >= 4);
                    let of_both = (0..SITES).all(|site| sim.visits(site, "both").len() >= 6);
                    of_cron && of_both && runs.declined.load(Ordering::Relaxed) >= 8
                })
                .await;
                first.terminate().await;
                second.terminate().await;
            });
        });
        ended.join().unwrap();
    });
    let stats = sim.stats();
    println!(
        "{} visits; {} polls visited, {} declined",
        stats.visits,
        runs.visited.load(Ordering::Relaxed),
        runs.declined.load(Ordering::Relaxed)
    );
    assert_eq!(stats.overlaps.count, 0, "{:?}", stats.overlaps);
    for name in ["both", "cron"] {
        let rows = rows(&database, name).await;
        for site in 0..SITES {
            let row = &rows[&sim.site_id(site)];
            check_gaps(&sim, site, name, row, Duration::from_secs(1));
            // Nothing was visited of which nothing is known.
            let seen = sim.visits(site, name).len();
            assert_eq!(seen, row.log.len(), "site {site} of {name}: {row:?}");
        }
    }
}

/// Ends the polls when the servers have ended, however that was.
struct StopsAtTheEnd<'r>(&'r Runs);

impl Drop for StopsAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// What cron does, without a pause.
fn loop_of_polls(place: &Installation, number: u32, runs: &Runs) {
    let batch = format!("{number}/4");
    while !runs.stop.load(Ordering::Relaxed) {
        for name in ["cron", "both"] {
            let ended = run(place, &["poll", APP, "--name", name, "--batch", &batch]);
            assert_eq!(ended.code, 0, "{ended:?}");
            if ended.out.starts_with("declined: ") {
                let of = format!("batch {batch} of job {APP}/{name} is being handled: ");
                assert!(ended.out.contains(&of), "{}", ended.out);
                assert_eq!(name, "both", "no other polls this batch: {}", ended.out);
                runs.declined.fetch_add(1, Ordering::Relaxed);
            } else {
                assert!(ended.out.contains(" visited, "), "{}", ended.out);
                runs.visited.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_declines_while_another_has_some_of_its_sites_and_takes_over_when_it_died() {
    let lease = Duration::from_secs(3);
    let database = Database::postgres();
    let sim = SitesSim::start(SitesOptions {
        slow_for: Span::from(Duration::from_secs(600)),
        ..SitesOptions::of(4)
    })
    .unwrap();
    let sections = format!(
        "[server]\nlease = \"3s\"\n\n{}",
        job(
            "cron",
            "1 sec (x1000)",
            "server = false",
            "timeout = \"10min\""
        )
    );
    let place = Installation::new(&database, "poll", &sections);
    let text: String = (0..4_u32)
        .map(|site| {
            let (id, url, code) = (sim.site_id(site), sim.site_url(site), site * 2500 + 1000);
            format!(
                "{{\"site_id\":\"{id}\",\"app_id\":\"{APP}\",\"url\":\"{url}\",\"batch_code\":{code}}}\n"
            )
        })
        .collect();
    std::fs::write(place.path().join("sites.ndjson"), text).unwrap();
    let ended = run(&place, &["sites", "import", "sites.ndjson"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let poll = |batch: &str| {
        let ended = run(&place, &["poll", APP, "--name", "cron", "--batch", batch]);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.out
    };

    // 1/4 hangs at its only site.
    sim.set_behaviour(1, Some(SiteBehaviour::Slow));
    let mut hanging = start_poll(&place, "1/4");
    eventually(PATIENCE, "the poll is at its site", async || {
        sim.visit_count(1) == 1
    })
    .await;
    let who = format!("-{}-", hanging.id());
    for batch in ["1/4", "0/3", "0/2", "0/1"] {
        let said = poll(batch);
        let head = format!("declined: batch {batch} of job {APP}/cron is being handled: ");
        assert!(said.starts_with(&head), "{said}");
        assert!(said.contains(&who), "it names the holder: {said}");
        assert!(said.contains("batch codes 2500-4999 since 20"), "{said}");
    }
    for (batch, site) in [("0/4", 0), ("2/3", 3), ("2/4", 2)] {
        let said = poll(batch);
        assert!(said.contains(": 1 site visited, 1 well"), "{batch}: {said}");
        assert_eq!(sim.visit_count(site), 1, "{batch}");
    }

    // The lease is prolonged while the poll lives, however long its visit is.
    let begun = Instant::now();
    eventually(PATIENCE, "a lease's time has passed", async || {
        assert!(
            poll("1/4").starts_with("declined: "),
            "the poll still lives"
        );
        begun.elapsed() > lease
    })
    .await;

    hanging.kill().unwrap();
    hanging.wait().unwrap();
    let killed = Instant::now();
    sim.set_behaviour(1, None);
    let declined = poll("1/4");
    assert!(
        declined.contains(&who),
        "not before its lease is over: {declined}"
    );
    eventually(PATIENCE, "the poll is taken over", async || {
        poll("1/4").contains(": 1 site visited, 1 well")
    })
    .await;
    let took = killed.elapsed();
    println!("a killed poll is taken over after {took:.1?} (lease {lease:?})");
    assert!(took <= lease + SLACK, "{took:?}");
    assert_eq!(sim.visit_count(1), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_declines_what_a_server_has() {
    let database = Database::postgres();
    let sim = SitesSim::start(SitesOptions::of(4)).unwrap();
    let sections = job("both", "1 hour (x3)", "batches = 2", "");
    let place = Installation::new(&database, "server", &sections);
    import(&place, &sim);
    let server = place.serve().await;
    eventually(PATIENCE, "the server visits all sites", async || {
        (0..4).all(|site| sim.visit_count(site) == 1)
    })
    .await;
    let ended = run(
        &place,
        &["poll", APP, "--name", "both", "--retry", "1 sec (x100)"],
    );
    assert_eq!(ended.code, 0, "{ended:?}");
    for words in [
        "declined: batch 0/1 of job org.civicrm.myapp/both",
        "has batch codes 0-4999, 5000-10000 since 20",
        &format!("-{}-", server.pid()),
        "server ",
    ] {
        assert!(ended.out.contains(words), "{words}: {}", ended.out);
    }
    server.terminate().await;
    assert_eq!(sim.stats().visits, 4);
}

/// Starts a poll without waiting for it.
fn start_poll(place: &Installation, batch: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command
        .args(["poll", APP, "--name", "cron", "--batch", batch])
        .current_dir(place.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HIGHWATER_")) {
        command.env_remove(name);
    }
    command.spawn().unwrap()
}
