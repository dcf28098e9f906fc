//! The log of visits: which site was visited when, and what was wrong with
//! that. Pure: times come in as milliseconds since the start.
//!
//! What it keeps is bounded: a fixed number of visits for each site and path,
//! a day of counts by second, a few examples of overlaps.

use super::behaviour::SiteAnswer;
use std::collections::VecDeque;

/// Paths below sites that are told apart; later ones count as one.
const MOST_PATHS: usize = 16;
/// Characters of a path that are kept.
const LONGEST_PATH: usize = 128;
/// What stands for all paths after the first ones.
const OTHER_PATHS: &str = "(others)";
/// Seconds whose visits are counted each for itself: a day.
const MOST_SECONDS: usize = 86_400;
/// Overlaps that are kept as examples.
const MOST_EXAMPLES: usize = 20;

/// A visit that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) site: u32,
    path: usize,
    begun: u64,
    /// Number of the visit at this site and path, from 0.
    pub(super) number: u32,
}

/// A visit that began while another of the same site and path was under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Overlap {
    pub(super) site: u32,
    pub(super) path: String,
    pub(super) at: u64,
}

/// A visit in 8 bytes: 40 bits of begin (34 years), 24 bits of duration (4.6
/// hours, then it stays there), all of them set while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed(u64);

impl Packed {
    const UNDER_WAY: u64 = (1 << 24) - 1;

    fn begun_at(begun: u64) -> Self {
        Self((begun << 24) | Self::UNDER_WAY)
    }

    fn ended_at(begun: u64, end: u64) -> Self {
        Self((begun << 24) | end.saturating_sub(begun).min(Self::UNDER_WAY - 1))
    }

    fn begun(self) -> u64 {
        self.0 >> 24
    }

    fn end(self) -> Option<u64> {
        let duration = self.0 & Self::UNDER_WAY;
        (duration != Self::UNDER_WAY).then(|| self.begun() + duration)
    }
}

/// What is known of the visits of one site and path.
#[derive(Clone, Debug, Default)]
struct Track {
    visits: u32,
    under_way: u32,
    /// Meaningless before the first visit.
    last_begun: u64,
    least_gap: Option<u64>,
    /// The newest visits, in the order in which they began.
    log: VecDeque<Packed>,
}

/// The visits of one path, by site.
struct PathVisits {
    path: String,
    tracks: Vec<Track>,
}

/// How many visits came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) visits: u64,
    pub(super) under_way: u32,
    pub(super) most_under_way: u32,
    pub(super) ok: u64,
    pub(super) failed: u64,
    pub(super) too_many: u64,
    pub(super) closed: u64,
    pub(super) abandoned: u64,
    pub(super) overlaps: u64,
}

/// All visits of a simulator.
pub(super) struct Visits {
    sites: usize,
    keep: usize,
    paths: Vec<PathVisits>,
    tally: Tally,
    examples: Vec<Overlap>,
    /// Visits begun in each second, from `first_second` on.
    seconds: VecDeque<u32>,
    first_second: u64,
}

impl Visits {
    pub(super) fn new(sites: u32, keep: u16) -> Self {
        Self {
            sites: usize::try_from(sites).unwrap_or(usize::MAX),
            keep: usize::from(keep),
            paths: Vec::new(),
            tally: Tally::default(),
            examples: Vec::new(),
            seconds: VecDeque::new(),
            first_second: 0,
        }
    }

    /// A visit begins. The site must be one of those there are.
    pub(super) fn begin(&mut self, site: u32, path: &str, now: u64) -> Option<Ticket> {
        let path = self.path(path);
        let keep = self.keep;
        let track = self.paths.get_mut(path)?.tracks.get_mut(site as usize)?;
        let number = track.visits;
        if number > 0 {
            let gap = now.saturating_sub(track.last_begun);
            track.least_gap = Some(track.least_gap.map_or(gap, |least| least.min(gap)));
        }
        let overlaps = track.under_way > 0;
        track.visits = number.saturating_add(1);
        track.under_way += 1;
        track.last_begun = now;
        if keep > 0 {
            if track.log.len() == keep {
                track.log.pop_front();
            }
            track.log.push_back(Packed::begun_at(now));
        }
        self.count_second(now / 1000);
        let tally = &mut self.tally;
        tally.visits += 1;
        tally.under_way += 1;
        tally.most_under_way = tally.most_under_way.max(tally.under_way);
        if overlaps {
            tally.overlaps += 1;
            if self.examples.len() < MOST_EXAMPLES {
                self.examples.push(Overlap {
                    site,
                    path: self.paths[path].path.clone(),
                    at: now,
                });
            }
        }
        Some(Ticket {
            site,
            path,
            begun: now,
            number,
        })
    }

    /// A visit ends, with its answer or because the visitor went away.
    pub(super) fn end(&mut self, ticket: &Ticket, answer: Option<SiteAnswer>, now: u64) {
        let tally = &mut self.tally;
        tally.under_way = tally.under_way.saturating_sub(1);
        *match answer {
            Some(SiteAnswer::Ok) => &mut tally.ok,
            Some(SiteAnswer::Fail) => &mut tally.failed,
            Some(SiteAnswer::TooMany) => &mut tally.too_many,
            Some(SiteAnswer::Close) => &mut tally.closed,
            None => &mut tally.abandoned,
        } += 1;
        let tracks = self.paths.get_mut(ticket.path).map(|path| &mut path.tracks);
        let Some(track) = tracks.and_then(|tracks| tracks.get_mut(ticket.site as usize)) else {
            return;
        };
        track.under_way = track.under_way.saturating_sub(1);
        let begun = Packed::begun_at(ticket.begun);
        if let Some(visit) = track.log.iter_mut().find(|visit| **visit == begun) {
            *visit = Packed::ended_at(ticket.begun, now);
        }
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    pub(super) fn examples(&self) -> &[Overlap] {
        &self.examples
    }

    /// Visits of a site so far, whatever the path.
    pub(super) fn count(&self, site: u32) -> u64 {
        self.tracks(site).map(|track| u64::from(track.visits)).sum()
    }

    /// The newest visits of a site and path: begin and end.
    pub(super) fn log(
        &self,
        site: u32,
        path: &str,
    ) -> impl Iterator<Item = (u64, Option<u64>)> + '_ {
        self.paths
            .iter()
            .find(|known| known.path == normal(path))
            .and_then(|path| path.tracks.get(site as usize))
            .into_iter()
            .flat_map(|track| track.log.iter().map(|visit| (visit.begun(), visit.end())))
    }

    /// Least time between the begins of two visits of a site and one path.
    pub(super) fn least_gap(&self, site: u32) -> Option<u64> {
        self.tracks(site).filter_map(|track| track.least_gap).min()
    }

    /// The same over all sites, and where it was.
    pub(super) fn least_gap_of_all(&self) -> Option<(u32, &str, u64)> {
        self.paths
            .iter()
            .flat_map(|path| {
                path.tracks.iter().zip(0_u32..).filter_map(|(track, site)| {
                    track.least_gap.map(|gap| (site, path.path.as_str(), gap))
                })
            })
            .min_by_key(|(_, _, gap)| *gap)
    }

    /// Visits that began in each second from `first` to before `end`; seconds
    /// that are no longer kept, or lie ahead, have none.
    pub(super) fn per_second(&self, first: u64, end: u64) -> Vec<u32> {
        let end = end.min(self.first_second + self.seconds.len() as u64);
        (first..end)
            .map(|second| {
                second
                    .checked_sub(self.first_second)
                    .and_then(|index| self.seconds.get(usize::try_from(index).ok()?))
                    .copied()
                    .unwrap_or(0)
            })
            .collect()
    }

    fn tracks(&self, site: u32) -> impl Iterator<Item = &Track> {
        self.paths
            .iter()
            .filter_map(move |path| path.tracks.get(site as usize))
    }

    /// The position of a path; a new one gets a place while there is one.
    fn path(&mut self, path: &str) -> usize {
        let path = normal(path);
        if let Some(known) = self.paths.iter().position(|known| known.path == path) {
            return known;
        }
        if self.paths.len() >= MOST_PATHS {
            return MOST_PATHS - 1;
        }
        let last = self.paths.len() == MOST_PATHS - 1;
        self.paths.push(PathVisits {
            path: if last { OTHER_PATHS } else { path }.to_owned(),
            tracks: vec![Track::default(); self.sites],
        });
        self.paths.len() - 1
    }

    fn count_second(&mut self, second: u64) {
        if self.seconds.is_empty() {
            self.first_second = second;
        }
        // A long silence leaves no more behind than a day of zeros.
        let silent = second.saturating_sub(self.first_second + self.seconds.len() as u64);
        if silent >= MOST_SECONDS as u64 {
            self.seconds.clear();
            self.first_second = second;
        }
        while self.first_second + self.seconds.len() as u64 <= second {
            if self.seconds.len() == MOST_SECONDS {
                self.seconds.pop_front();
                self.first_second += 1;
            }
            self.seconds.push_back(0);
        }
        let index = second.checked_sub(self.first_second);
        let index = index.and_then(|index| usize::try_from(index).ok());
        if let Some(count) = index.and_then(|index| self.seconds.get_mut(index)) {
            *count += 1;
        }
    }
}

/// A path below a site without slashes at its ends, not too long.
fn normal(path: &str) -> &str {
    let path = path.trim_matches('/');
    let end = path.char_indices().nth(LONGEST_PATH);
    end.map_or(path, |(end, _)| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(visits: &mut Visits, site: u32, path: &str, from: u64, to: u64) {
        let ticket = visits.begin(site, path, from).unwrap();
        visits.end(&ticket, Some(SiteAnswer::Ok), to);
    }

    #[test]
    fn a_visit_that_begins_while_another_is_under_way_overlaps() {
        let mut visits = Visits::new(3, 4);
        let first = visits.begin(1, "sync", 10).unwrap();
        // Another job, another site.
        visit(&mut visits, 1, "info", 11, 12);
        visit(&mut visits, 2, "sync", 11, 12);
        assert_eq!(visits.tally().overlaps, 0);
        visit(&mut visits, 1, "/sync/", 13, 14);
        visits.end(&first, None, 15);
        visit(&mut visits, 1, "sync", 15, 16);
        let tally = visits.tally();
        assert_eq!((tally.overlaps, tally.visits, tally.under_way), (1, 5, 0));
        assert_eq!((tally.most_under_way, tally.ok, tally.abandoned), (2, 4, 1));
        let [overlap] = visits.examples() else {
            panic!("{:?}", visits.examples());
        };
        assert_eq!(
            (overlap.site, overlap.path.as_str(), overlap.at),
            (1, "sync", 13)
        );
    }

    #[test]
    fn gaps_are_those_between_begins_of_one_site_and_path() {
        let mut visits = Visits::new(3, 4);
        for (site, path, at) in [
            (1, "sync", 1_000),
            (1, "info", 1_001),
            (1, "sync", 1_700),
            (1, "sync", 2_000),
            (2, "sync", 2_001),
            (1, "sync", 2_900),
        ] {
            visit(&mut visits, site, path, at, at + 500);
        }
        assert_eq!(visits.least_gap(1), Some(300));
        assert_eq!(visits.least_gap(2), None);
        assert_eq!(visits.least_gap_of_all(), Some((1, "sync", 300)));
        let log: Vec<_> = visits.log(1, "sync").collect();
        let begins = [1_000, 1_700, 2_000, 2_900];
        assert_eq!(log, begins.map(|begin| (begin, Some(begin + 500))));
        assert_eq!(
            (visits.count(1), visits.count(2), visits.count(0)),
            (5, 1, 0)
        );
        assert_eq!(visits.per_second(0, 9), [0, 3, 3]);
        assert_eq!(visits.per_second(2, 3), [3]);
    }

    #[test]
    fn a_site_that_is_not_there_is_not_visited() {
        let mut visits = Visits::new(3, 4);
        assert!(visits.begin(3, "", 0).is_none());
        assert_eq!(visits.tally(), Tally::default());
    }

    #[test]
    fn a_long_run_keeps_no_more_than_a_short_one() {
        let mut visits = Visits::new(2, 16);
        // Three days of a visit a second, and a month of silence within.
        for second in 0..3 * 86_400_u64 {
            let silence = if second > 100_000 { 30 * 86_400 } else { 0 };
            let at = (second + silence) * 1_000;
            let path = format!("job-{}", second % 100);
            visit(&mut visits, 0, &path, at, at + 5);
            let first = visits.begin(1, "both", at).unwrap();
            visit(&mut visits, 1, "both", at + 1, at + 2);
            visits.end(&first, Some(SiteAnswer::Ok), at + 3);
        }
        assert_eq!(visits.tally().overlaps, 3 * 86_400);
        assert_eq!(visits.count(0), 3 * 86_400);
        assert_eq!(visits.paths.len(), MOST_PATHS);
        assert_eq!(visits.examples().len(), MOST_EXAMPLES);
        assert!(visits.seconds.len() <= MOST_SECONDS);
        assert!(visits.seconds.capacity() <= 2 * MOST_SECONDS);
        for path in &visits.paths {
            assert!(path.tracks.iter().all(|track| track.log.capacity() <= 32));
        }
    }

    #[test]
    fn a_visit_of_many_hours_is_not_one_under_way() {
        let mut visits = Visits::new(1, 4);
        visit(&mut visits, 0, "", 5, 5 + 86_400_000);
        let (begun, end) = visits.log(0, "").next().unwrap();
        assert_eq!(begun, 5);
        assert!(end.unwrap() > 4 * 3_600_000);
    }
}
