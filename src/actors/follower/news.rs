//! What the log is told of a replica's upstreams and state, each thing once. Pure,
//! the clock passed in.

use crate::flows::replicas::{Head, PlanView, ReplicaState, UpstreamView};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// For so long after an upstream answered again its first failure is not told: one
/// that fails every other time would fill the log.
const QUIET: Duration = Duration::from_secs(60);

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// An upstream failed, and is left alone for longer than before.
    Failed {
        place: String,
        failures: u32,
        retry_after: Duration,
        why: String,
    },
    /// An upstream of which a failure was told answers again.
    Answers { place: String },
    /// The copy is whole and follows; before, it was not or did not.
    Live { head: Head, len: u64 },
}

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    upstreams: BTreeMap<String, OfUpstream>,
    state: Option<ReplicaState>,
}

#[derive(Clone, Copy, Debug, Default)]
struct OfUpstream {
    /// Failures in a row that were told; 0: none since it answered.
    failures: u32,
    /// When it answered again.
    answered_at: Option<Timestamp>,
}

impl Told {
    /// What is new. A replica that is not followed here has no plan.
    pub(super) fn news(
        &mut self,
        upstreams: &[UpstreamView],
        plan: Option<&PlanView>,
        now: Timestamp,
    ) -> Vec<News> {
        let mut news = Vec::new();
        self.upstreams
            .retain(|place, _| upstreams.iter().any(|of| of.place == *place));
        for of in upstreams {
            let told = self.upstreams.entry(of.place.clone()).or_default();
            let quiet = told.answered_at.is_some_and(|at| now.since(at) < QUIET);
            if of.failures == 0 && told.failures > 0 {
                (told.failures, told.answered_at) = (0, Some(now));
                news.push(News::Answers {
                    place: of.place.clone(),
                });
            } else if of.failures > told.failures && !(quiet && of.failures == 1) {
                told.failures = of.failures;
                let why = of.last_error.as_ref().map(|(_, why)| why.clone());
                news.push(News::Failed {
                    place: of.place.clone(),
                    failures: of.failures,
                    retry_after: of.paused_until.map_or(Duration::ZERO, |at| at.since(now)),
                    why: why.unwrap_or_default(),
                });
            } else if of.failures > 0 && of.failures < told.failures {
                // It answered and failed again between two looks.
                told.failures = of.failures;
            }
        }
        let state = plan.map(|plan| plan.state);
        if let Some(plan) = plan
            && plan.state == ReplicaState::Live
            && self.state != state
            && let Some(head) = plan.head
        {
            let len = plan.len;
            news.push(News::Live { head, len });
        }
        self.state = state;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(failures: u32, now: Timestamp) -> UpstreamView {
        UpstreamView {
            place: "http://h".to_owned(),
            told: None,
            failures,
            last_error: (failures > 0).then(|| (now, "down".to_owned())),
            paused_until: (failures > 0).then(|| now.plus(Duration::from_secs(4))),
        }
    }

    fn failed(failures: u32) -> News {
        News::Failed {
            place: "http://h".to_owned(),
            failures,
            retry_after: Duration::from_secs(4),
            why: "down".to_owned(),
        }
    }

    fn answers() -> News {
        News::Answers {
            place: "http://h".to_owned(),
        }
    }

    #[test]
    fn each_failure_that_lengthens_the_pause_is_told_and_the_recovery_once() {
        let (mut told, mut now) = (Told::default(), Timestamp::now());
        let mut look = |failures: u32| {
            now = now.plus(Duration::from_secs(1));
            told.news(&[upstream(failures, now)], None, now)
        };
        assert_eq!(look(0), []);
        assert_eq!(look(1), [failed(1)]);
        assert_eq!(look(1), [], "the same failure");
        assert_eq!(look(2), [failed(2)]);
        assert_eq!(look(0), [answers()]);
        assert_eq!(look(0), []);
        // It fails every other time: a minute of that is quiet.
        for _ in 0..20 {
            assert_eq!((look(1), look(0)), (vec![], vec![]));
        }
        assert_eq!(look(2), [failed(2)], "unless it stays away");
        assert_eq!(look(0), [answers()]);
        for _ in 0..60 {
            look(0);
        }
        assert_eq!(look(1), [failed(1)]);
    }

    #[test]
    fn going_live_is_told_once() {
        let now = Timestamp::now();
        let plan = |state| PlanView {
            state,
            epoch: None,
            head: Some(7),
            len: 3,
            upstream_head: None,
            lag_heads: 0,
            lag: Duration::ZERO,
            level_at: None,
            stale: None,
            bootstrap: None,
            bootstrap_wanted: None,
            bootstraps: BTreeMap::new(),
            outrun: 0,
            audited: None,
            auditing: None,
            bytes: 0,
            trouble: None,
        };
        let mut told = Told::default();
        let mut look = |state| told.news(&[], Some(&plan(state)), now);
        assert_eq!(look(ReplicaState::Bootstrapping), []);
        let live = [News::Live { head: 7, len: 3 }];
        assert_eq!(look(ReplicaState::Live), live);
        assert_eq!(look(ReplicaState::Live), []);
        assert_eq!(look(ReplicaState::Failing), []);
        assert_eq!(look(ReplicaState::Live), live);
    }
}
