//! Whether a job runs as it should, judged by its visits, and whether its next
//! visit may begin. Pure; the clock is passed in.
//!
//! A handler that cannot work at all ([`FailureKind::Job`]) is the job's
//! trouble: its visits stop, and one at a time shows whether it works again,
//! after pauses that grow. What fails at a site alone stops nothing.

use super::visit::FailureKind;
use crate::time::Timestamp;
use std::time::Duration;

/// Failures in a row of a job's handler itself from which on they are shown as
/// the job's: one alone may be what the handler says of one site.
const HANDLER_FAILURES: u32 = 3;
/// Failed visits in a row, of whatever sites, from which on the job is said to
/// be failing.
const FAILING: u32 = 20;
/// Pause after a handler could not work once, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What is wrong with a job, rather than with one of its sites.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct JobHealth {
    problem: Option<String>,
    /// Visits in a row that the handler could not make, or did not want to.
    handler_failures: u32,
    /// Visits in a row that failed, and how the last one did.
    failures: u32,
    last_failure: String,
    /// Tries in a row at which the handler could not work at all.
    tries: u32,
    /// No visit before then; there while it could not work when last tried.
    retry_at: Option<Timestamp>,
    /// Whether that moment has come.
    trying: bool,
    /// The visit that shows whether it works again.
    probe: Option<i64>,
}

/// How a job fares, as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobCondition {
    /// Visits go well, or fail for their sites' own reasons.
    Well,
    /// All of the last visits failed.
    Failing {
        /// How many in a row.
        visits: u32,
        /// How the last one did.
        error: String,
    },
    /// It does not run as it should, and why.
    Broken(String),
}

impl JobHealth {
    /// Takes note of the time: whether another try is due.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if let Some(at) = &mut self.retry_at {
            // The clock may have been set back since.
            *at = (*at).min(now.plus(PAUSE.1));
            self.trying |= *at <= now;
        }
    }

    /// Whether a visit may begin, as of the last tick.
    pub(super) const fn admits(&self) -> bool {
        self.retry_at.is_none() || (self.trying && self.probe.is_none())
    }

    /// Whether nothing is visited, as of the last tick.
    pub(super) const fn rests(&self) -> bool {
        self.retry_at.is_some() && !self.trying
    }

    /// When the next visit is tried; `None` while the handler works.
    pub(super) const fn retry_at(&self) -> Option<Timestamp> {
        self.retry_at
    }

    /// The handler is another: it is tried at once.
    pub(super) fn try_now(&mut self) {
        self.trying = self.retry_at.is_some();
        self.probe = None;
    }

    /// A visit begins.
    pub(super) const fn began(&mut self, seq: i64) {
        if self.retry_at.is_some() {
            self.probe = Some(seq);
        }
    }

    /// A visit is over, whatever came of it.
    pub(super) fn returned(&mut self, seq: i64) {
        if self.probe == Some(seq) {
            self.probe = None;
        }
    }

    /// A visit ended; `failure` says how, unless it went well. That a site
    /// fails is the site's matter; that the handler fails time and again is
    /// the job's, until a visit goes well.
    pub(super) fn visited(
        &mut self,
        seq: i64,
        site_id: &str,
        failure: Option<(FailureKind, &str)>,
        now: Timestamp,
    ) {
        let Some((kind, detail)) = failure else {
            *self = Self::default();
            return;
        };
        match kind {
            FailureKind::Job => {
                self.cannot_work(seq, now);
                self.problem = Some(detail.to_owned());
                return;
            }
            FailureKind::Handler => {
                self.handler_failures = self.handler_failures.saturating_add(1);
                if self.handler_failures >= HANDLER_FAILURES && self.retry_at.is_none() {
                    self.problem = Some(format!("{site_id}: {kind}: {detail}"));
                }
            }
            // Neither was the site asked.
            FailureKind::Denied | FailureKind::Panic => self.handler_failures = 0,
            FailureKind::Timeout
            | FailureKind::Unreachable
            | FailureKind::Unexpected
            | FailureKind::Api
            | FailureKind::Exit => {
                self.handler_failures = 0;
                if self.retry_at.take().is_some() {
                    // The handler did its work, so it works again.
                    (self.problem, self.tries, self.trying, self.probe) = (None, 0, false, None);
                }
            }
        }
        self.failures = self.failures.saturating_add(1);
        self.last_failure = format!("{site_id}: {kind}: {detail}");
    }

    /// The handler could not work at all. Visits that were out together and
    /// fail together are one failure: while it is known, only the visit that
    /// tries the handler tells something new.
    fn cannot_work(&mut self, seq: i64, now: Timestamp) {
        if self.retry_at.is_some() && self.probe != Some(seq) {
            return;
        }
        self.tries = self.tries.saturating_add(1);
        let full = PAUSE.0.saturating_mul(1 << (self.tries - 1).min(31));
        let full = full.min(PAUSE.1);
        // Up to a half less, so that jobs that broke together are not tried
        // together.
        self.retry_at = Some(now.plus(full.mul_f64(1.0 - 0.5 * chance(seq, now))));
        (self.trying, self.probe) = (false, None);
    }

    /// The database refused to take the outcome of a visit.
    pub(super) fn refused(&mut self, site_id: &str, why: &str) {
        self.problem = Some(format!("{site_id}: {why}"));
    }

    /// Why it does not run as it should; `None` when it does.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// How it fares.
    pub(super) fn condition(&self) -> JobCondition {
        match &self.problem {
            Some(problem) => JobCondition::Broken(problem.clone()),
            None if self.failures >= FAILING => JobCondition::Failing {
                visits: self.failures,
                error: self.last_failure.clone(),
            },
            None => JobCondition::Well,
        }
    }
}

/// A number from 0 to 1 that differs from visit to visit.
fn chance(seq: i64, now: Timestamp) -> f64 {
    let mixed = seq
        .wrapping_add(now.millis())
        .wrapping_mul(0x5851_f42d_4c95_7f2d)
        .cast_unsigned();
    f64::from(u32::try_from(mixed >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    fn missing() -> Option<(FailureKind, &'static str)> {
        Some((FailureKind::Job, "no such program"))
    }

    #[test]
    fn sites_that_fail_are_no_problem_of_their_job() {
        let mut health = JobHealth::default();
        for kind in FailureKind::ALL {
            if kind == FailureKind::Job {
                continue;
            }
            for _ in 0..10 {
                health.visited(1, "s1", Some((kind, "why")), NOW);
                health.visited(2, "s2", Some((FailureKind::Timeout, "why")), NOW);
            }
        }
        assert_eq!(health.problem(), None);
        assert!(health.admits() && health.retry_at().is_none());
    }

    #[test]
    fn a_handler_that_fails_time_and_again_is_one_until_a_visit_goes_well() {
        let mut health = JobHealth::default();
        for _ in 0..HANDLER_FAILURES {
            assert_eq!(health.problem(), None);
            health.visited(1, "s1", Some((FailureKind::Handler, "no label")), NOW);
        }
        assert_eq!(health.problem(), Some("s1: handler: no label"));
        assert!(health.admits(), "it may be the sites' labels after all");
        health.visited(2, "s2", Some((FailureKind::Timeout, "no answer")), NOW);
        assert!(health.problem().is_some());
        health.visited(2, "s2", None, NOW);
        assert_eq!(health.problem(), None);
        health.refused("s3", "refused");
        assert_eq!(health.problem(), Some("s3: refused"));
    }

    #[test]
    fn a_handler_that_cannot_work_rests_for_longer_and_longer_and_is_tried_by_one_visit() {
        let mut health = JobHealth::default();
        let mut now = NOW;
        let mut pauses = Vec::new();
        for seq in 0..12 {
            assert!(health.admits());
            health.began(seq);
            if seq > 0 {
                assert!(!health.admits(), "one visit at a time");
            }
            health.visited(seq, "s", missing(), now);
            // Those that were out with it change nothing.
            health.visited(
                seq + 100,
                "s",
                missing(),
                now.plus(Duration::from_millis(1)),
            );
            health.returned(seq);
            health.tick(now);
            assert!(health.rests() && !health.admits());
            assert_eq!(health.problem(), Some("no such program"));
            let at = health.retry_at().unwrap();
            pauses.push(at.since(now));
            now = at;
            health.tick(now);
        }
        for (try_, pause) in pauses.iter().enumerate() {
            let full = PAUSE.0.saturating_mul(1 << try_).min(PAUSE.1);
            assert!(*pause >= full / 2 && *pause <= full, "{pauses:?}");
        }
    }

    #[test]
    fn a_handler_works_again_once_a_visit_shows_it() {
        for (outcome, works) in [
            (None, true),
            (Some((FailureKind::Exit, "exit code 1")), true),
            (Some((FailureKind::Timeout, "no answer")), true),
            (Some((FailureKind::Denied, "no address")), false),
            (Some((FailureKind::Handler, "no label")), false),
        ] {
            let mut health = JobHealth::default();
            health.visited(1, "s", missing(), NOW);
            let at = health.retry_at().unwrap();
            health.tick(at);
            health.began(2);
            health.visited(2, "s", outcome, at);
            health.returned(2);
            assert_eq!(health.problem().is_none(), works, "{outcome:?}");
            assert_eq!(health.retry_at().is_none(), works, "{outcome:?}");
            assert!(health.admits(), "the next visit may show it");
        }
    }

    #[test]
    fn a_visit_that_nothing_came_of_and_another_handler_make_room_for_the_next_try() {
        let mut health = JobHealth::default();
        health.visited(1, "s", missing(), NOW);
        health.try_now();
        assert!(health.admits());
        health.began(2);
        assert!(!health.admits());
        health.returned(2);
        assert!(health.admits());
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_pause_longer() {
        let mut health = JobHealth::default();
        health.visited(1, "s", missing(), NOW);
        let back = NOW.minus(Duration::from_secs(86_400));
        health.tick(back);
        assert!(health.retry_at().unwrap() <= back.plus(PAUSE.1));
    }

    #[test]
    fn a_job_of_which_every_visit_fails_is_failing_until_one_goes_well() {
        let mut health = JobHealth::default();
        for _ in 0..FAILING {
            assert_eq!(health.condition(), JobCondition::Well);
            health.visited(1, "s1", Some((FailureKind::Timeout, "no answer")), NOW);
        }
        let failing = JobCondition::Failing {
            visits: FAILING,
            error: "s1: timeout: no answer".to_owned(),
        };
        assert_eq!(health.condition(), failing);
        health.visited(1, "s1", None, NOW);
        assert_eq!(health.condition(), JobCondition::Well);
    }
}
