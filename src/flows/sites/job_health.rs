//! Whether a job runs as it should, judged by its visits. Pure.

use super::visit::FailureKind;

/// Failures in a row of a job's handler itself from which on they are shown as
/// the job's: one alone may be what the handler says of one site.
const HANDLER_FAILURES: u32 = 3;

/// What is wrong with a job, rather than with one of its sites.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct JobHealth {
    problem: Option<String>,
    /// Visits in a row that the handler could not make, or did not want to.
    handler_failures: u32,
}

impl JobHealth {
    /// A visit ended; `failure` says how, unless it went well. That a site
    /// fails is the site's matter; that the handler fails time and again is
    /// the job's, until a visit goes well.
    pub(super) fn visited(&mut self, site_id: &str, failure: Option<(FailureKind, &str)>) {
        match failure {
            Some((kind @ FailureKind::Handler, detail)) => {
                self.handler_failures = self.handler_failures.saturating_add(1);
                if self.handler_failures >= HANDLER_FAILURES {
                    self.problem = Some(format!("{site_id}: {kind}: {detail}"));
                }
            }
            Some(_) => self.handler_failures = 0,
            None => *self = Self::default(),
        }
    }

    /// The database refused to take the outcome of a visit.
    pub(super) fn refused(&mut self, site_id: &str, why: &str) {
        self.problem = Some(format!("{site_id}: {why}"));
    }

    /// Why it does not run as it should; `None` when it does.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_that_fail_are_no_problem_of_their_job() {
        let mut health = JobHealth::default();
        for kind in FailureKind::ALL {
            for _ in 0..10 {
                health.visited("s1", Some((kind, "why")));
                health.visited("s2", Some((FailureKind::Timeout, "why")));
            }
        }
        assert_eq!(health.problem(), None);
    }

    #[test]
    fn a_handler_that_fails_time_and_again_is_one_until_a_visit_goes_well() {
        let mut health = JobHealth::default();
        for _ in 0..HANDLER_FAILURES {
            assert_eq!(health.problem(), None);
            health.visited("s1", Some((FailureKind::Handler, "no such program")));
        }
        assert_eq!(health.problem(), Some("s1: handler: no such program"));
        health.visited("s2", Some((FailureKind::Timeout, "no answer")));
        assert!(health.problem().is_some());
        health.visited("s2", None);
        assert_eq!(health.problem(), None);
        health.refused("s3", "refused");
        assert_eq!(health.problem(), Some("s3: refused"));
    }
}
