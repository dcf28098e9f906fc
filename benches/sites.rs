//! Load benchmark of the site flow: visits of 100,000 sites, on SQLite and on
//! PostgreSQL, beside bare limits measured in the same run against the same
//! simulated sites and the same database.
//!
//! `c` is a bare HTTP client visiting sites in a loop, `d` the bare bulk
//! statement against `poll_status` with the same durability; where both are
//! used on the same cores the limit is `1 / (1/c + 1/d)`.
//!
//! `cargo bench --bench sites -- steady` measures, instead, what it is like once
//! due times have spread: per-second peak over mean and lateness, also after a
//! restart.
//!
//! PostgreSQL is measured where `HIGHWATER_TEST_POSTGRES_URL` names a server
//! (`./scripts/bench` starts one).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs
)]

mod frame;
mod session;
mod sites_bare;

use frame::{Place, ROUNDS, Round, Running, resident_mb};
use highwater::config::Loaded;
use highwater::flows::sites::{AppName, BATCH_CODES, JobKey, Shard};
use highwater::leases::sites_lease;
use highwater::sim::{SitesHandle, SitesOptions, SitesSim};
use highwater::store::{JobRange, NewSite, Store};
use highwater::time::Timestamp;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const SITES: u32 = 100_000;
const CONNECTIONS: usize = 64;
const APP: &str = "org.example.bench";
const SCHEMA: &str = "bench_sites";
/// Seconds between two visits of a site in the steady part, and for how many
/// of these it settles: as many as spreading needs at 5% each.
const STEADY_PERIOD: u64 = 20;
const STEADY_SETTLE: u32 = 25;
/// Periods watched one by one after the restart.
const STEADY_AFTER: u32 = 6;

fn main() {
    if std::env::args().any(|argument| argument == "steady") {
        frame::on_databases(SCHEMA, |runtime, label, place| {
            let place = place("steady");
            steady(runtime, &place, label);
            place.clear(runtime);
        });
        return;
    }
    let header = [
        "database",
        "c (visits/s)",
        "d (rows/s)",
        "limit (visits/s)",
        "visited (visits/s)",
        "share of the limit",
        "taken over (ms)",
        "resident (MB)",
    ];
    let table = frame::compare(SCHEMA, header, run_once);
    println!(
        "{SITES} sites, {CONNECTIONS} connections, {} rows a transaction; the median of {ROUNDS} rounds",
        sites_bare::GROUP
    );
    println!("{table}");
}

/// A configuration with one job of this retry policy.
fn load(place: &Place, retry: &str) -> Loaded {
    place.load(&format!(
        "[sites]\nmax_in_flight = {CONNECTIONS}\n\
         [[jobs]]\napp = \"{APP}\"\nretry = \"{retry}\"\nper_host = {CONNECTIONS}\n\
         [jobs.handler.http]\n"
    ))
}

fn run_once(runtime: &Runtime, place: &Place) -> Round {
    let sites = SitesSim::start(SitesOptions::of(SITES)).unwrap();
    let client = bare_client(runtime, &sites);
    place.clear(runtime);
    let bulk = sites_bare::bulk(runtime, place, SITES);
    place.clear(runtime);
    let Visiting {
        rate,
        taken_over,
        resident_mb,
    } = server(runtime, place, &sites);
    Round {
        client,
        bulk,
        reached: rate,
        more: vec![taken_over.as_millis().to_string(), resident_mb.to_string()],
    }
}

/// How the server did.
struct Visiting {
    /// Visits per second, from the first one until the outcomes of all are in
    /// `poll_status`.
    rate: f64,
    /// From the moment it is ready until the first visit: the due times of all
    /// sites are looked at then.
    taken_over: Duration,
    resident_mb: u64,
}

/// Each of the sites is visited once by the server itself; they are in the
/// database before it starts.
fn server(runtime: &Runtime, place: &Place, sites: &SitesHandle) -> Visiting {
    track(runtime, place, sites);
    let before = sites.stats().visits;
    let running = Running::start(load(place, "60 sec (x1000)"));
    let begun = Instant::now();
    while sites.stats().visits == before {
        assert!(begun.elapsed() < Duration::from_secs(60), "no visit");
        std::thread::sleep(Duration::from_millis(2));
    }
    let (taken_over, begun) = (begun.elapsed(), Instant::now());
    let watching = Store::open_as_is(&place.database()).unwrap();
    let range = all_sites();
    let visited = Timestamp::now().plus(Duration::from_secs(30));
    // The first in an index: watching costs next to nothing.
    let all_visited = async || {
        let first = watching.next_site_due(&range, Timestamp::from_millis(0));
        first.await.unwrap().is_some_and(|first| first > visited)
    };
    let took = runtime.block_on(frame::until(begun, "the sites are visited", all_visited));
    let resident_mb = resident_mb();
    watching.close();
    running.stop();
    assert_eq!(sites.stats().overlaps.count, 0);
    Visiting {
        rate: f64::from(SITES) / took.as_secs_f64(),
        taken_over,
        resident_mb,
    }
}

fn all_sites() -> JobRange {
    let app = AppName::parse(APP).unwrap();
    JobRange {
        job: JobKey::new(app, JobKey::DEFAULT).unwrap(),
        codes: BATCH_CODES,
    }
}

/// Puts the simulated sites into the database.
fn track(runtime: &Runtime, place: &Place, sites: &SitesHandle) {
    runtime.block_on(async {
        let store = Store::open(&place.database()).await.unwrap();
        let app = AppName::parse(APP).unwrap();
        let all: Vec<NewSite> = (0..SITES)
            .map(|n| NewSite {
                site_id: sites.site_id(n),
                app_id: app.clone(),
                url: sites.site_url(n),
                batch_code: None,
                enabled: None,
                labels: None,
            })
            .collect();
        store.import_sites(all).await.unwrap();
        // The job knows them: measured are visits, not the first insertion.
        let lease = [sites_lease(&all_sites().job, Shard::all(1).next().unwrap())];
        let ttl = Duration::from_secs(60);
        let held = store.hold_leases(APP, &lease, ttl, false).await.unwrap();
        store
            .initialise_sites(&all_sites(), &held[0], 0, Timestamp::now(), Duration::ZERO)
            .await
            .unwrap();
        store.release_leases(APP, &lease).await.unwrap();
        store.close();
    });
}

/// `steady`: the sites go round for a while at about half of full load; then
/// per-second peak over mean and lateness, before and after a restart.
fn steady(runtime: &Runtime, place: &Place, label: &str) {
    let sites = SitesSim::start(SitesOptions::of(SITES)).unwrap();
    place.clear(runtime);
    track(runtime, place, &sites);
    let retry = format!("{STEADY_PERIOD} sec (x1000)");
    let period = Duration::from_secs(STEADY_PERIOD);
    // Watches for so many periods.
    let watch = |what: &str, periods: u32| {
        let (from, before) = (Timestamp::now(), lateness());
        std::thread::sleep(period * periods);
        let seconds = sites.visits_per_second(from, Timestamp::now());
        // The first and the last one are not whole.
        let whole = &seconds[1..seconds.len() - 1];
        let mean = whole.iter().map(|n| f64::from(*n)).sum::<f64>() / whole.len() as f64;
        let peak = f64::from(*whole.iter().max().unwrap());
        let late = Lateness::between(&before, &lateness());
        println!(
            "{label}, {what}: {mean:.0} visits/s, peak over mean {:.2}, lateness p50 <= {} s, p99 <= {} s, {} MB resident",
            peak / mean,
            late.quantile(0.5),
            late.quantile(0.99),
            resident_mb()
        );
    };
    let running = Running::start(load(place, &retry));
    std::thread::sleep(period * STEADY_SETTLE);
    watch("settled", 3);
    running.stop();
    let stopped = Instant::now();
    let running = Running::start(load(place, &retry));
    let away = stopped.elapsed();
    println!("{label}, restarted: {away:.1?} from the end of the drain to ready");
    for number in 1..=STEADY_AFTER {
        watch(&format!("period {number} after the restart"), 1);
    }
    running.stop();
    let stats = sites.stats();
    let gap = sites.min_gap_of_all().map(|(_, _, gap)| gap);
    println!(
        "{label}: {} visits, {} overlaps, the shortest gap between two visits of a site {gap:?}",
        stats.visits, stats.overlaps.count
    );
}

/// Visits by how late they were, cumulated: bound in seconds, count.
struct Lateness(Vec<(f64, f64)>);

impl Lateness {
    fn between(before: &Self, after: &Self) -> Self {
        let of = |bound: f64| {
            let known = before.0.iter().find(|(at, _)| *at == bound);
            known.map_or(0.0, |(_, count)| *count)
        };
        Self(
            after
                .0
                .iter()
                .map(|(bound, count)| (*bound, count - of(*bound)))
                .collect(),
        )
    }

    /// The bucket's bound, which is what the histogram can tell.
    fn quantile(&self, share: f64) -> f64 {
        let all = self.0.last().map_or(0.0, |(_, count)| *count);
        let found = self.0.iter().find(|(_, count)| *count >= share * all);
        found.map_or(f64::NAN, |(bound, _)| *bound)
    }
}

/// The histogram of lateness, as the metrics show it.
fn lateness() -> Lateness {
    let mut buckets: Vec<(f64, f64)> = highwater::telemetry::render_metrics()
        .lines()
        .filter(|line| line.starts_with("highwater_site_lateness_seconds_bucket"))
        .filter_map(|line| {
            let bound = line.split("le=\"").nth(1)?.split('"').next()?;
            let bound = if bound == "+Inf" {
                f64::INFINITY
            } else {
                bound.parse().ok()?
            };
            Some((bound, line.rsplit(' ').next()?.parse().ok()?))
        })
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    Lateness(buckets)
}

/// Visits per second of a bare client that visits all sites once.
fn bare_client(runtime: &Runtime, sites: &SitesHandle) -> f64 {
    let base = format!("http://{}", sites.addr());
    let took = frame::bare_client(runtime, CONNECTIONS, SITES as usize, move |client, site| {
        client.get(format!("{base}/{site}"))
    });
    let stats = sites.stats();
    assert_eq!((stats.visits, stats.overlaps.count), (u64::from(SITES), 0));
    f64::from(SITES) / took.as_secs_f64()
}
