//! What hosts and handlers may do to others: a host that asks to be left alone
//! is, one host is never visited by more than it should be, sites that hang
//! take nobody's time, addresses inward are refused, and commands end.

use crate::sites_support::{APP, CLOCKS, done, import, job, rows};
use crate::support::{Database, Installation, PATIENCE, eventually, on_both_databases};
use highwater::sim::{Mix, SiteBehaviour, SitesHandle, SitesOptions, SitesSim, Span};
use highwater::time::Timestamp;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

on_both_databases!(
    a_host_that_asks_for_it_is_left_alone_by_all_jobs_also_after_a_kill,
    a_host_that_asks_for_it_gets_no_visit_while_its_wish_is_written,
    visits_of_one_host_are_bounded,
    a_job_whose_sites_hang_takes_no_time_of_another,
    addresses_inward_are_refused_without_a_connection,
    a_command_visits_a_site_and_ends_with_its_children,
);

fn start(options: SitesOptions) -> SitesHandle {
    SitesSim::start(options).unwrap()
}

async fn a_host_that_asks_for_it_is_left_alone_by_all_jobs_also_after_a_kill(database: &Database) {
    const WISH: Duration = Duration::from_secs(4);
    const JOBS: [&str; 2] = ["one", "two"];
    // Even sites are of the first host, odd ones of the second.
    let sim = start(SitesOptions {
        hosts: 2,
        retry_after: WISH.as_secs(),
        keep_visits: 100,
        ..SitesOptions::of(40)
    });
    let jobs = JOBS.map(|name| job(name, "1 sec (x1000)", "per_host = 4", ""));
    let sections = format!(
        "[server]\nlease = \"1s\"\n\n[sites]\nsweep_interval = \"200ms\"\n\n{}",
        jobs.concat()
    );
    let place = Installation::new(database, "server", &sections);
    import(&place, &sim);
    let server = place.serve().await;
    let first_host = || (0..sim.count()).step_by(2);
    let all_at_least = async |sites: &BTreeSet<u32>, more: u64| {
        let goals: Vec<u64> = sites
            .iter()
            .map(|site| sim.visit_count(*site) + more)
            .collect();
        eventually(PATIENCE, "sites are visited", async || {
            let mut sites = sites.iter().zip(&goals);
            sites.all(|(site, goal)| sim.visit_count(*site) >= *goal)
        })
        .await;
    };
    all_at_least(&(0..sim.count()).collect(), 4).await;

    for site in first_host() {
        sim.set_behaviour(site, Some(SiteBehaviour::Limited));
    }
    eventually(PATIENCE, "the host asks to be left alone", async || {
        sim.stats().too_many > 0
    })
    .await;
    let asked = Timestamp::now();
    // It is written down with the outcome.
    eventually(PATIENCE, "the pause is written", async || {
        let pauses = "SELECT count(*) AS value FROM host_pauses";
        database.number(pauses).await > 0
    })
    .await;
    server.kill9();
    let asks = sim.stats().too_many;
    for site in first_host() {
        sim.set_behaviour(site, None);
    }
    let server = place.serve().await;
    // The other host's sites go on meanwhile, and this one's come back.
    let other = (0..sim.count()).skip(1).step_by(2).collect();
    all_at_least(&other, 2).await;
    all_at_least(&first_host().collect(), 2).await;
    server.terminate().await;

    let mut begins: Vec<Timestamp> = Vec::new();
    for name in JOBS {
        for site in first_host() {
            begins.extend(sim.visits(site, name).iter().map(|visit| visit.begun_at));
        }
    }
    begins.sort_unstable();
    // The last visit before the silence was answered like those before it.
    let silence = begins.windows(2).max_by_key(|pair| pair[1].since(pair[0]));
    let [last, next] = silence.unwrap() else {
        panic!("{begins:?}");
    };
    println!(
        "{asks} visits were asked for silence, the last {:.1?} after the first; \
         silence of {:.1?}",
        last.since(asked),
        next.since(*last)
    );
    assert!(next.since(*last) + CLOCKS >= WISH, "{last:?} {next:?}");
    // Those of both jobs that were under way, and no more.
    assert!(asks <= 8, "{asks} visits of a host that asked for silence");
    // It was honest of the host: nobody's failure beyond those visits.
    let failed = sim.stats().too_many;
    assert_eq!(failed, asks);
}

/// Outcomes are gathered for a while before they are written: until then
/// nobody but the visits that were answered knows of the wish.
async fn a_host_that_asks_for_it_gets_no_visit_while_its_wish_is_written(database: &Database) {
    let sim = start(SitesOptions {
        mix: Mix::all(SiteBehaviour::Limited),
        retry_after: 3_600,
        ..SitesOptions::of(100)
    });
    let sections = format!(
        "[sites]\ncommit_interval = \"1s\"\nsweep_interval = \"200ms\"\n\n{}",
        job("sync", "1 hour (x3)", "per_host = 4", "")
    );
    let place = Installation::new(database, "server", &sections);
    import(&place, &sim);
    let server = place.serve().await;
    // All are due at once; what is not visited is put off by an hour.
    eventually(PATIENCE, "all sites are visited or put off", async || {
        let rows = rows(database, "sync").await;
        let later = Timestamp::now().plus(Duration::from_secs(600));
        rows.len() == 100 && rows.values().all(|row| row.next_due_at > Some(later))
    })
    .await;
    server.terminate().await;
    let stats = sim.stats();
    println!("{} of 100 sites were visited", stats.visits);
    assert!((1..=4).contains(&stats.visits), "{stats:?}");
}

async fn visits_of_one_host_are_bounded(database: &Database) {
    let sim = start(SitesOptions {
        latency: Span::from(Duration::from_millis(20)),
        ..SitesOptions::of(200)
    });
    let jobs = [("one", 3), ("two", 2)].map(|(name, per_host)| {
        let per_host = format!("per_host = {per_host}\nbatches = 2");
        job(name, "1 sec (x3)", &per_host, "")
    });
    let place = Installation::new(database, "server", &jobs.concat());
    import(&place, &sim);
    let server = place.serve().await;
    eventually(PATIENCE, "sites are visited by both jobs", async || {
        (0..sim.count()).all(|site| sim.visit_count(site) >= 3)
    })
    .await;
    server.terminate().await;
    let stats = sim.stats();
    assert_eq!(stats.most_under_way, 5, "{stats:?}");
    assert_eq!(stats.overlaps.count, 0, "{stats:?}");
}

async fn a_job_whose_sites_hang_takes_no_time_of_another(database: &Database) {
    let period = Duration::from_secs(2);
    // More visits than may be under way at once could hang here.
    let hanging = start(SitesOptions {
        mix: Mix::all(SiteBehaviour::Slow),
        slow_for: Span::from(Duration::from_secs(60)),
        hosts: 40,
        ..SitesOptions::of(400)
    });
    let well = start(SitesOptions::of(20));
    let sections = [
        job("hanging", "1 sec (x1000)", "", "timeout = \"5s\""),
        // Another app's, since jobs visit all sites of theirs.
        job("well", "2 sec (x3)", "", "").replace(APP, "org.example.other"),
    ];
    let place = Installation::new(database, "server", &sections.concat());
    import(&place, &hanging);
    let mut file = Vec::new();
    well.write_import("org.example.other", &mut file).unwrap();
    // Ids are distinct over all apps.
    let text = String::from_utf8(file).unwrap().replace("site-", "well-");
    std::fs::write(place.path().join("well.ndjson"), text).unwrap();
    done(&place, &["sites", "import", "well.ndjson"]);
    let server = place.serve().await;
    eventually(PATIENCE, "healthy sites are visited", async || {
        (0..well.count()).all(|site| well.visit_count(site) >= 4)
    })
    .await;
    server.terminate().await;
    let most = hanging.stats().most_under_way;
    assert!(most >= 50, "only {most} visits hung at once");
    let gaps = (0..well.count()).flat_map(|site| well.gaps(site, "well"));
    let longest = gaps.max().unwrap();
    println!("{most} visits hang; longest gap of healthy sites {longest:.1?}");
    assert!(longest <= period + Duration::from_secs(2), "{longest:?}");
    let rows = rows(database, "hanging").await;
    let failed = rows.values().filter(|row| !row.last_error.is_empty());
    let failed: Vec<&str> = failed.map(|row| &*row.last_error).collect();
    assert!(!failed.is_empty());
    assert!(
        failed.iter().all(|error| error.starts_with("timeout: ")),
        "{failed:?}"
    );
}

async fn addresses_inward_are_refused_without_a_connection(database: &Database) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sections = format!(
        "[sites]\ndeny_private_networks = true\n\n{}",
        job("sync", "1 sec (x2)", "", "")
    );
    let place = Installation::new(database, "server", &sections);
    for (id, host) in [("number", "127.0.0.1"), ("name", "localhost")] {
        let url = format!("http://{host}:{port}/");
        done(&place, &["sites", "add", "--app", APP, id, &url]);
    }
    let server = place.serve().await;
    eventually(PATIENCE, "the sites are given up", async || {
        let rows = rows(database, "sync").await;
        rows.len() == 2 && rows.values().all(|row| row.given_up_at.is_some())
    })
    .await;
    server.terminate().await;
    for (id, row) in rows(database, "sync").await {
        assert!(row.last_error.starts_with("denied: "), "{id}: {row:?}");
    }
    let accepted = listener.accept().map_err(|error| error.kind());
    assert_eq!(accepted.err(), Some(ErrorKind::WouldBlock));
}

async fn a_command_visits_a_site_and_ends_with_its_children(database: &Database) {
    const SCRIPT: &str = "#!/bin/sh\nread -r site\n\
        case $site in *'\"site_id\":\"hangs\"'*)\n\
        sleep 600 & echo $! >> children\nsleep 600 & echo $! >> children\nwait;; esac\n\
        case $1 in fails) echo 'no such thing' >&2; exit 3;; esac\n\
        printf '{\"argument\":\"%s\",\"input\":%s}' \"$1\" \"$site\"\n";
    let sections = format!(
        "[[jobs]]\napp = \"{APP}\"\nretry = \"1 sec (x2)\"\n[jobs.handler.command]\n\
         args = [\"/bin/sh\", \"visit.sh\", \"{{site_id}}\"]\ntimeout = \"1s\"\n"
    );
    let place = Installation::new(database, "server", &sections);
    std::fs::write(place.path().join("visit.sh"), SCRIPT).unwrap();
    for id in ["works", "fails", "hangs"] {
        let url = "http://127.0.0.1:9";
        let label = ["--label", "region=eu"];
        let args = ["sites", "add", "--app", APP, id, url];
        done(&place, &[&args[..], &label].concat());
    }
    let server = place.serve().await;
    eventually(PATIENCE, "what fails is given up", async || {
        let rows = rows(database, "default").await;
        let given_up = rows.values().filter(|row| row.given_up_at.is_some());
        given_up.count() == 2
    })
    .await;
    let rows = rows(database, "default").await;
    assert_eq!(rows["works"].last_outcome, "success", "{:?}", rows["works"]);
    let (fails, hangs) = (&rows["fails"].last_error, &rows["hangs"].last_error);
    assert!(fails.starts_with("exit: "), "{fails}");
    assert!(
        fails.contains('3') && fails.contains("no such thing"),
        "{fails}"
    );
    assert!(hangs.starts_with("timeout: "), "{hangs}");
    let documents = "SELECT document AS value FROM poll_results ORDER BY run_at";
    let document = database.texts(documents).await.remove(0);
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["argument"], "works");
    let input = &document["input"];
    let site = &input["site"];
    assert_eq!(site["site_id"], "works", "{input}");
    assert_eq!(site["labels"]["region"], "eu", "{input}");
    assert_eq!(site["url"], "http://127.0.0.1:9", "{input}");
    let children = std::fs::read_to_string(place.path().join("children")).unwrap();
    assert_eq!(
        children.lines().count(),
        4,
        "two visits of two children each"
    );
    for child in children.lines() {
        let what = format!("child {child} is dead");
        eventually(PATIENCE, &what, async || !is_alive(child)).await;
    }
    server.terminate().await;
}

/// Whether a process runs: one that is dead and not yet waited for does not.
fn is_alive(pid: &str) -> bool {
    let args = ["-o", "stat=", "-p", pid];
    let told = std::process::Command::new("ps").args(args).output();
    let told = told.unwrap();
    let stat = String::from_utf8(told.stdout).unwrap();
    !stat.trim().is_empty() && !stat.starts_with('Z')
}
