//! What the log tells of a job: that sites were given up, that it broke, and
//! that it is well again. Pure; the clock is passed in.

use super::job_health::JobCondition;
use super::names::JobKey;
use crate::time::Timestamp;
use std::time::Duration;

/// Between two lines of a kind about one job.
const EVERY: Duration = Duration::from_secs(60);
/// Most sites named in one line.
const MOST_NAMED: usize = 5;

/// Something about a job that the log is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobNews {
    /// The job.
    pub job: JobKey,
    /// What happened.
    pub event: JobEvent,
}

/// What happened to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// Sites were given up since that was last told.
    GaveUp {
        /// How many.
        sites: u64,
        /// Ids of the first ones.
        first: Vec<String>,
    },
    /// It does not run as it should: why.
    Broken(String),
    /// So many visits in a row failed.
    Failing {
        /// How many.
        visits: u32,
        /// How the last one did.
        error: String,
    },
    /// Visits go well again, after so long.
    Recovered(Duration),
}

/// What is yet to be told of one job: of each kind a line a minute at most.
#[derive(Debug, Default)]
pub(super) struct News {
    given_up: u64,
    first: Vec<String>,
    given_up_told_at: Option<Timestamp>,
    /// The trouble that was told, since when there is any.
    trouble: Option<(Trouble, Timestamp)>,
    /// Since when it is well again, which is not told yet.
    well_since: Option<Timestamp>,
    trouble_told_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Broken,
    Failing,
}

impl News {
    /// A site was given up.
    pub(super) fn gave_up(&mut self, site_id: &str) {
        self.given_up = self.given_up.saturating_add(1);
        if self.first.len() < MOST_NAMED {
            self.first.push(site_id.to_owned());
        }
    }

    /// What is to be told now of a job that fares so; `all`: without waiting
    /// for the minute to be over, since this is the end.
    pub(super) fn take(
        &mut self,
        condition: JobCondition,
        now: Timestamp,
        all: bool,
    ) -> Vec<JobEvent> {
        // A clock that was set back holds up nothing for longer.
        let may = |told: Option<Timestamp>| {
            all || told.is_none_or(|told| now < told || now.since(told) >= EVERY)
        };
        let mut events = Vec::new();
        if self.given_up > 0 && may(self.given_up_told_at) {
            self.given_up_told_at = Some(now);
            events.push(JobEvent::GaveUp {
                sites: std::mem::take(&mut self.given_up),
                first: std::mem::take(&mut self.first),
            });
        }
        let trouble = match condition {
            JobCondition::Well => None,
            JobCondition::Failing { .. } => Some(Trouble::Failing),
            JobCondition::Broken(_) => Some(Trouble::Broken),
        };
        match trouble {
            None if self.trouble.is_some() => {
                self.well_since.get_or_insert(now);
            }
            _ => self.well_since = None,
        }
        if trouble != self.trouble.map(|(trouble, _)| trouble) && may(self.trouble_told_at) {
            self.trouble_told_at = Some(now);
            let since = self.trouble.map_or(now, |(_, since)| since);
            self.trouble = trouble.map(|trouble| (trouble, since));
            events.push(match condition {
                JobCondition::Well => {
                    let well_since = self.well_since.take().unwrap_or(now);
                    JobEvent::Recovered(well_since.since(since))
                }
                JobCondition::Failing { visits, error } => JobEvent::Failing { visits, error },
                JobCondition::Broken(problem) => JobEvent::Broken(problem),
            });
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    fn later(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn sites_given_up_are_told_in_one_line_a_minute_with_the_first_ids() {
        let mut news = News::default();
        assert_eq!(news.take(JobCondition::Well, NOW, false), []);
        let gave_up = |sites, first: &[&str]| JobEvent::GaveUp {
            sites,
            first: first.iter().map(|id| (*id).to_owned()).collect(),
        };
        news.gave_up("s0");
        assert_eq!(
            news.take(JobCondition::Well, NOW, false),
            [gave_up(1, &["s0"])]
        );
        for n in 1..=1000 {
            news.gave_up(&format!("s{n}"));
            assert_eq!(news.take(JobCondition::Well, later(59), false), []);
        }
        let all = gave_up(1000, &["s1", "s2", "s3", "s4", "s5"]);
        assert_eq!(news.take(JobCondition::Well, later(60), false), [all]);
        news.gave_up("last");
        assert_eq!(news.take(JobCondition::Well, later(61), false), []);
        assert_eq!(
            news.take(JobCondition::Well, later(61), true),
            [gave_up(1, &["last"])],
            "what waits is told at the end"
        );
    }

    #[test]
    fn a_job_that_breaks_and_recovers_is_told_once_each_however_often_it_is_asked() {
        let mut news = News::default();
        let broken = || JobCondition::Broken("no such program".to_owned());
        let failing = || JobCondition::Failing {
            visits: 20,
            error: "no answer".to_owned(),
        };
        let told = news.take(broken(), NOW, false);
        assert_eq!(told, [JobEvent::Broken("no such program".to_owned())]);
        assert_eq!(news.take(broken(), later(600), false), []);
        assert!(matches!(
            news.take(failing(), later(601), false)[..],
            [JobEvent::Failing { visits: 20, .. }]
        ));
        assert_eq!(news.take(JobCondition::Well, later(630), false), []);
        assert_eq!(
            news.take(JobCondition::Well, later(700), false),
            [JobEvent::Recovered(Duration::from_secs(630))]
        );
        assert_eq!(news.take(JobCondition::Well, later(9000), false), []);
    }

    #[test]
    fn a_job_that_flaps_is_told_once_a_minute() {
        let mut news = News::default();
        let mut lines = 0;
        for second in 0..600 {
            let condition = if second % 2 == 0 {
                JobCondition::Broken("why".to_owned())
            } else {
                JobCondition::Well
            };
            lines += news.take(condition, later(second), false).len();
        }
        assert!(lines <= 10, "{lines}");
    }
}
