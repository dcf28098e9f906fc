//! What running simulated sites tell, and what they can be told.

use super::behaviour::SiteBehaviour;
use super::server::SitesShared;
use crate::sim::running::Running;
use crate::time::Timestamp;
use actix_web::web;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Running simulated sites; stop when dropped.
///
/// Times are of the steady clock, counted from the wall clock at the start.
pub struct SitesHandle {
    shared: web::Data<SitesShared>,
    running: Running,
}

/// A visit of a site, from the request's arrival until its answer was made or
/// the visitor went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteVisit {
    /// When it began.
    pub begun_at: Timestamp,
    /// When it ended; `None` while it is under way. A visit of more than 4.6
    /// hours shows that long.
    pub ended_at: Option<Timestamp>,
}

/// A visit that began while another of the same site and path was under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteOverlap {
    /// Number of the site.
    pub site: u32,
    /// Path below the site, without slashes at its ends.
    pub path: String,
    /// When the later visit began, in milliseconds since the start.
    pub at_ms: u64,
}

/// Visits of one site and path that overlapped in time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlaps {
    /// How many there were in all.
    pub count: u64,
    /// The first ones, 20 at most.
    pub examples: Vec<SiteOverlap>,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SitesStats {
    /// Visits that began.
    pub visits: u64,
    /// Visits under way now.
    pub under_way: u32,
    /// Most visits that were under way at once.
    pub most_under_way: u32,
    /// Visits answered 200.
    pub ok: u64,
    /// Visits answered 500.
    pub failed: u64,
    /// Visits answered 429.
    pub too_many: u64,
    /// Visits whose connection was closed without an answer.
    pub closed: u64,
    /// Visits whose visitor went away before the answer.
    pub abandoned: u64,
    /// Visits of a site and path that was being visited already.
    pub overlaps: Overlaps,
}

impl SitesStats {
    pub(super) fn of(shared: &SitesShared) -> Self {
        let state = shared.state();
        let tally = state.visits.tally();
        let example = |overlap: &super::visits::Overlap| SiteOverlap {
            site: overlap.site,
            path: overlap.path.clone(),
            at_ms: overlap.at,
        };
        Self {
            visits: tally.visits,
            under_way: tally.under_way,
            most_under_way: tally.most_under_way,
            ok: tally.ok,
            failed: tally.failed,
            too_many: tally.too_many,
            closed: tally.closed,
            abandoned: tally.abandoned,
            overlaps: Overlaps {
                count: tally.overlaps,
                examples: state.visits.examples().iter().map(example).collect(),
            },
        }
    }
}

/// A line of an import file.
#[derive(Serialize)]
struct ImportLine<'a> {
    site_id: String,
    app_id: &'a str,
    url: String,
}

impl SitesHandle {
    /// A handle of what runs.
    pub(super) fn new(shared: web::Data<SitesShared>, running: Running) -> Self {
        Self { shared, running }
    }

    /// Where it listens; the first host's address.
    pub fn addr(&self) -> SocketAddr {
        self.running.addr()
    }

    /// How many sites there are.
    pub fn count(&self) -> u32 {
        self.shared.options.count
    }

    /// The id of a site, as import files have it: `site-000001`.
    pub fn site_id(&self, site: u32) -> String {
        format!("site-{site:06}")
    }

    /// The address of a site, without a slash at its end.
    pub fn site_url(&self, site: u32) -> String {
        let address = self.shared.options.address(site, self.addr());
        format!("http://{address}/{site}")
    }

    /// Writes an import file for `highwater sites import`: a JSON object of
    /// `site_id`, `app_id` and `url` a line.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_import(&self, app_id: &str, out: &mut impl Write) -> io::Result<()> {
        for site in 0..self.count() {
            let line = ImportLine {
                site_id: self.site_id(site),
                app_id,
                url: self.site_url(site),
            };
            serde_json::to_writer(&mut *out, &line)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// How a site behaves.
    pub fn behaviour(&self, site: u32) -> SiteBehaviour {
        self.shared.state().behaviour(&self.shared.options, site)
    }

    /// Makes a site behave like this from its next visit on; `None` as it was
    /// drawn. Does nothing when there is no such site.
    pub fn set_behaviour(&self, site: u32, behaviour: Option<SiteBehaviour>) {
        let mut state = self.shared.state();
        match behaviour {
            Some(behaviour) if site < self.count() => {
                state.behaviours.insert(site, behaviour);
            }
            _ => {
                state.behaviours.remove(&site);
            }
        }
    }

    /// From now on visits are taken and not answered, until
    /// [`resume`](Self::resume).
    pub fn pause(&self) {
        self.shared.paused.send_replace(true);
    }

    /// Ends a pause: what waits is answered.
    pub fn resume(&self) {
        self.shared.paused.send_replace(false);
    }

    /// What was counted.
    pub fn stats(&self) -> SitesStats {
        SitesStats::of(&self.shared)
    }

    /// Visits of a site and path that overlapped in time. A visitor that goes
    /// away ends its visit when the server notices, which is a moment later.
    pub fn overlaps(&self) -> Overlaps {
        self.stats().overlaps
    }

    /// Visits of a site so far, whatever the path below it.
    pub fn visit_count(&self, site: u32) -> u64 {
        self.shared.state().visits.count(site)
    }

    /// The newest visits (`keep_visits` of the options) of a site and a path
    /// below it (`""` for none), in the order in which they began.
    pub fn visits(&self, site: u32, path: &str) -> Vec<SiteVisit> {
        let state = self.shared.state();
        let visit = |(begun, end): (u64, Option<u64>)| SiteVisit {
            begun_at: self.shared.at(begun),
            ended_at: end.map(|end| self.shared.at(end)),
        };
        state.visits.log(site, path).map(visit).collect()
    }

    /// Times between the begins of the visits that [`visits`](Self::visits)
    /// gives.
    pub fn gaps(&self, site: u32, path: &str) -> Vec<Duration> {
        let visits = self.visits(site, path);
        let pairs = visits.windows(2);
        pairs
            .map(|pair| pair[1].begun_at.since(pair[0].begun_at))
            .collect()
    }

    /// Least time between the begins of two visits of a site and one path, of
    /// all visits there were; `None` when no path was visited twice.
    pub fn min_gap(&self, site: u32) -> Option<Duration> {
        let least = self.shared.state().visits.least_gap(site);
        least.map(Duration::from_millis)
    }

    /// The same over all sites: where it was (site and path) and how long.
    pub fn min_gap_of_all(&self) -> Option<(u32, String, Duration)> {
        let state = self.shared.state();
        let least = state.visits.least_gap_of_all();
        least.map(|(site, path, gap)| (site, path.to_owned(), Duration::from_millis(gap)))
    }

    /// Visits that began in each second between two points in time, the
    /// seconds of both included; those of the last 24 hours with visits are
    /// known. Ends with the newest second that has one.
    pub fn visits_per_second(&self, from: Timestamp, to: Timestamp) -> Vec<u32> {
        let (first, last) = (self.shared.second(from), self.shared.second(to));
        let state = self.shared.state();
        state.visits.per_second(first, last.saturating_add(1))
    }

    /// Stops at once: visits under way are dropped, the port is free on return.
    pub fn stop(self) {
        drop(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Mix, SitesOptions, SitesSim, Span};
    use reqwest::{Client, Response};

    fn start(options: SitesOptions) -> SitesHandle {
        SitesSim::start(options).unwrap()
    }

    async fn get(url: &str) -> reqwest::Result<Response> {
        let client = Client::builder().no_proxy().build()?;
        client.get(url).send().await
    }

    #[tokio::test]
    async fn every_behaviour_is_what_it_says() {
        let sites = start(SitesOptions {
            slow_for: Span::from(Duration::from_millis(30)),
            flap: crate::sim::Flap::Visits(1),
            retry_after: 7,
            ..SitesOptions::of(3)
        });
        let url = sites.site_url(2);
        let answer = get(&url).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), r#"{"ok":true,"site":2}"#);

        sites.set_behaviour(2, Some(SiteBehaviour::Failing));
        assert_eq!(get(&url).await.unwrap().status(), 500);
        sites.set_behaviour(2, Some(SiteBehaviour::Limited));
        let answer = get(&url).await.unwrap();
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()["retry-after"], "7");
        sites.set_behaviour(2, Some(SiteBehaviour::Dead));
        assert!(get(&url).await.is_err());
        sites.set_behaviour(2, Some(SiteBehaviour::Slow));
        assert_eq!(get(&url).await.unwrap().status(), 200);
        let slow = *sites.visits(2, "").last().unwrap();
        let took = slow.ended_at.unwrap().since(slow.begun_at);
        assert!(took >= Duration::from_millis(29), "{took:?}");
        sites.set_behaviour(2, Some(SiteBehaviour::Flapping));
        let first = get(&url).await.unwrap().status();
        let second = get(&url).await.unwrap().status();
        assert_ne!(first, second);
        sites.set_behaviour(2, None);
        assert_eq!(sites.behaviour(2), SiteBehaviour::Healthy);

        let stats = sites.stats();
        assert_eq!((stats.visits, stats.ok, stats.failed), (7, 3, 2));
        assert_eq!((stats.too_many, stats.closed, stats.abandoned), (1, 1, 0));
        assert_eq!((stats.most_under_way, stats.overlaps.count), (1, 0));
        assert_eq!(get(&format!("{url}1")).await.unwrap().status(), 404);
        let stats_url = format!("http://{}/sim/stats", sites.addr());
        let told: SitesStats = get(&stats_url).await.unwrap().json().await.unwrap();
        assert_eq!(told, stats);
    }

    #[tokio::test]
    async fn two_visits_at_once_are_an_overlap_unless_they_are_of_two_jobs() {
        let sites = start(SitesOptions::of(2));
        sites.pause();
        let (sync, info) = (
            format!("{}/sync", sites.site_url(1)),
            format!("{}/info?full=1", sites.site_url(1)),
        );
        let visits = async { tokio::join!(get(&sync), get(&info), get(&sync)) };
        let all_there = async {
            while sites.stats().under_way < 3 {
                tokio::task::yield_now().await;
            }
            let visits = sites.visits(1, "sync");
            assert!(visits.iter().all(|visit| visit.ended_at.is_none()));
            sites.resume();
        };
        let ((first, second, third), ()) = tokio::join!(visits, all_there);
        for answer in [first, second, third] {
            assert_eq!(answer.unwrap().status(), 200);
        }
        let overlaps = sites.overlaps();
        assert_eq!(overlaps.count, 1);
        let example = &overlaps.examples[0];
        assert_eq!((example.site, example.path.as_str()), (1, "sync"));
        assert_eq!(sites.visits(1, "sync").len(), 2);
        assert_eq!(sites.visits(1, "info").len(), 1);
        assert_eq!(sites.visit_count(1), 3);
        assert_eq!(sites.gaps(1, "sync"), [sites.min_gap(1).unwrap()]);
        let (site, path, _) = sites.min_gap_of_all().unwrap();
        assert_eq!((site, path.as_str()), (1, "sync"));
        let now = Timestamp::now();
        let seconds = sites.visits_per_second(Timestamp::from_millis(0), now);
        assert_eq!(seconds.iter().sum::<u32>(), 3);
    }

    #[tokio::test]
    async fn a_visitor_that_goes_away_ends_its_visit() {
        let sites = start(SitesOptions::of(1));
        sites.pause();
        let url = sites.site_url(0);
        let under_way = async {
            while sites.stats().under_way == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = get(&url) => panic!("a paused site answered"),
            () = under_way => {}
        }
        while sites.stats().under_way > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(sites.stats().abandoned, 1);
        sites.resume();
        assert_eq!(get(&url).await.unwrap().status(), 200);
        assert_eq!(sites.overlaps(), Overlaps::default());
    }

    #[tokio::test]
    async fn sites_are_spread_over_hosts() {
        let sites = start(SitesOptions {
            hosts: 3,
            ..SitesOptions::of(4)
        });
        for site in 0..4 {
            let url = sites.site_url(site);
            let host = format!("http://127.0.0.{}:", 1 + site % 3);
            assert!(url.starts_with(&host), "{url}");
            let answer = get(&url).await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(sites.visit_count(site), 1);
        }
    }

    #[tokio::test]
    async fn the_import_file_names_every_site() {
        let sites = start(SitesOptions {
            mix: Mix::all(SiteBehaviour::Dead),
            ..SitesOptions::of(2)
        });
        let mut file = Vec::new();
        sites.write_import("org.example.sim", &mut file).unwrap();
        let expected: String = (0..2)
            .map(|site| {
                format!(
                    "{{\"site_id\":\"site-00000{site}\",\"app_id\":\"org.example.sim\",\
                     \"url\":\"http://{}/{site}\"}}\n",
                    sites.addr()
                )
            })
            .collect();
        assert_eq!(String::from_utf8(file).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        let sites = start(SitesOptions::of(1));
        let listen = sites.addr();
        let of = |options| SitesSim::start(options).err().unwrap().to_string();
        let taken = of(SitesOptions {
            listen,
            ..SitesOptions::of(1)
        });
        assert!(taken.contains(&listen.to_string()), "{taken}");
        assert!(of(SitesOptions::of(0)).contains("1 to 10000000"));
        sites.stop();
        let again = start(SitesOptions {
            listen,
            ..SitesOptions::of(1)
        });
        assert_eq!(again.addr(), listen);
    }
}
