//! Health of ledgers and services: who is backed off until when, and the
//! ledger's breaker. Soft state: it is saved, so that a restart does not
//! hammer a failing ledger afresh, but may be lost.

use super::view::BreakerPosition;
use super::work::Failure;
use crate::config::Range;
use crate::ledgers::{FailureScope, LedgerError};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Health of one ledger and its services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerHealth {
    /// Services failing in a row, with no success between; counts toward the breaker.
    failures: u32,
    /// Closed until then; `None` is open for requests.
    open_until: Option<Timestamp>,
    last_error: Option<String>,
    last_error_at: Option<Timestamp>,
    #[serde(default)]
    services: BTreeMap<String, ServiceHealth>,
}

/// Health of one service that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHealth {
    /// Failures in a row.
    pub failures: u32,
    /// Not asked before then.
    pub retry_at: Timestamp,
    /// What failed last.
    pub last_error: String,
    /// Most ids to ask for at once, after the ledger found a request too large.
    #[serde(skip)]
    pub most_ids: Option<usize>,
    /// Requests of that size answered since.
    #[serde(skip)]
    answered: u32,
    /// Whether the failure may have been the ledger's rather than the service's.
    #[serde(default)]
    of_ledger: bool,
}

impl ServiceHealth {
    fn grow(&mut self, asked: usize, limit: usize) {
        let Some(most) = self.most_ids.filter(|most| asked >= *most) else {
            return;
        };
        self.answered += 1;
        if self.answered >= GROW_AFTER {
            self.answered = 0;
            let doubled = most.saturating_mul(2);
            self.most_ids = (doubled < limit).then_some(doubled);
        }
    }
}

/// What may be asked of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// As much as there are connections.
    Open,
    /// One request, to see whether it is back.
    Probe,
    /// Nothing before then.
    ClosedUntil(Timestamp),
}

/// Longest wait that a ledger's `Retry-After` may impose.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Full requests answered before a service is asked for twice as many ids.
const GROW_AFTER: u32 = 50;

/// Shortest wait where a person has to act (token, service id).
const PERSON: Duration = Duration::from_secs(15);

impl LedgerHealth {
    /// What may be asked now.
    pub fn admission(&self, now: Timestamp) -> Admission {
        match self.open_until {
            None => Admission::Open,
            Some(until) if until <= now => Admission::Probe,
            Some(until) => Admission::ClosedUntil(until),
        }
    }

    /// Position of the breaker, for pages.
    pub fn breaker(&self, now: Timestamp) -> BreakerPosition {
        match self.admission(now) {
            Admission::Open => BreakerPosition::Closed,
            Admission::Probe => BreakerPosition::HalfOpen,
            Admission::ClosedUntil(_) => BreakerPosition::Open,
        }
    }

    /// When the ledger is asked again; `None` while its breaker is closed.
    pub const fn retry_at(&self) -> Option<Timestamp> {
        self.open_until
    }

    /// Failures in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// What failed last, and when, since the last success.
    pub fn last_error(&self) -> Option<(&str, Timestamp)> {
        self.last_error.as_deref().zip(self.last_error_at)
    }

    /// Whether a service may be asked now.
    pub fn may_ask(&self, service_id: &str, now: Timestamp) -> bool {
        self.services
            .get(service_id)
            .is_none_or(|service| service.retry_at <= now)
    }

    /// Whether a service failed when it was asked last.
    pub fn is_failing(&self, service_id: &str) -> bool {
        self.services
            .get(service_id)
            .is_some_and(|service| service.failures > 0)
    }

    /// Most ids to ask a service for at once, where it found a request too large.
    pub fn most_ids(&self, service_id: &str) -> Option<usize> {
        self.services
            .get(service_id)
            .and_then(|service| service.most_ids)
    }

    /// Services that are backed off, with how long.
    pub fn backed_off(&self, now: Timestamp) -> impl Iterator<Item = (&str, &ServiceHealth)> {
        self.services
            .iter()
            .filter(move |(_, service)| service.retry_at > now)
            .map(|(id, service)| (id.as_str(), service))
    }

    /// The next moment after `now` at which a service may be asked again.
    pub fn next_retry(&self, now: Timestamp) -> Option<Timestamp> {
        let services = self.services.values().map(|service| service.retry_at);
        services.chain(self.open_until).filter(|at| *at > now).min()
    }

    /// A service answered for `asked` ids, of at most `limit`. Answers whether
    /// anything changed. A service that was asked for fewer ids since a request
    /// was too large is asked for more again after a while of success.
    pub fn on_success(&mut self, service_id: &str, asked: usize, limit: usize) -> bool {
        let mut changed = self.failures > 0 || self.open_until.is_some();
        if self.open_until.is_some() {
            // The ledger is back: those that failed with it need not wait on.
            self.services
                .retain(|_, service| !service.of_ledger || service.most_ids.is_some());
            for service in self
                .services
                .values_mut()
                .filter(|service| service.of_ledger)
            {
                service.retry_at = Timestamp::default();
            }
        }
        self.failures = 0;
        self.open_until = None;
        self.last_error = None;
        self.last_error_at = None;
        if let Some(service) = self.services.get_mut(service_id) {
            changed |= service.failures > 0;
            service.grow(asked, limit);
            if service.most_ids.is_none() {
                self.services.remove(service_id);
            } else {
                service.failures = 0;
                service.retry_at = Timestamp::default();
                service.last_error.clear();
            }
        }
        changed
    }

    /// A piece of work failed. `asked` is how many ids were asked for at once,
    /// `chance` a random number from 0 to 1.
    pub fn on_failure(
        &mut self,
        service_id: &str,
        failure: &Failure,
        asked: usize,
        policy: &BackoffPolicy,
        now: Timestamp,
        chance: f64,
    ) {
        let text = failure.to_string();
        let of_ledger = tells_of_the_ledger(failure);
        if let Failure::Ledger(error) = failure
            && error.scope() == FailureScope::Ledger
        {
            // No service is to blame.
            self.ledger_failed(text, true, policy, now, chance);
            return;
        }
        let service = self.services.entry(service_id.to_owned()).or_default();
        if let Failure::Ledger(LedgerError::TooLarge { .. }) = failure
            && asked > 1
        {
            // Asked for fewer at once, and at once.
            service.most_ids = Some(asked / 2);
            return;
        }
        if let Failure::Panic(_) = failure
            && asked > 1
        {
            // One batch's answer may be what we stumble over: let its neighbours go.
            service.most_ids = Some(asked.div_ceil(2));
        }
        // Requests that were out together and fail together are one failure:
        // more connections must not mean a longer backoff.
        let counts = service.failures == 0 || service.retry_at <= now;
        if counts {
            service.failures = service.failures.saturating_add(1);
        }
        let mut delay = policy.delay(service.failures, chance);
        match failure {
            Failure::Ledger(LedgerError::TooMany {
                retry_after: Some(told),
            }) => {
                delay = delay.max((*told).min(LONGEST_RETRY_AFTER));
            }
            Failure::Ledger(LedgerError::Unauthorized { .. } | LedgerError::NotFound { .. }) => {
                delay = delay.max(PERSON.min(policy.range.max));
            }
            _ => {}
        }
        service.retry_at = service.retry_at.max(now.plus(delay));
        service.last_error.clone_from(&text);
        service.of_ledger = of_ledger;
        if of_ledger && (counts || self.open_until.is_some()) {
            // A ledger without services has no other that could answer.
            self.ledger_failed(text, service_id.is_empty(), policy, now, chance);
        }
    }

    fn ledger_failed(
        &mut self,
        text: String,
        out_of_reach: bool,
        policy: &BackoffPolicy,
        now: Timestamp,
        chance: f64,
    ) {
        self.last_error = Some(text);
        self.last_error_at = Some(now);
        if self.open_until.is_some_and(|until| until > now) {
            // Out since before the breaker opened: no news.
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let probe_failed = self.open_until.is_some();
        if out_of_reach || probe_failed || self.failures >= policy.breaker_failures {
            // Counted from the failure that opened it, so that the delay begins small.
            let since_open = if out_of_reach {
                self.failures
            } else {
                self.failures
                    .saturating_sub(policy.breaker_failures.saturating_sub(1))
                    .max(1)
            };
            self.open_until = Some(now.plus(policy.delay(since_open, chance)));
        }
    }

    /// Forgets services that are long over their backoff, so that the state
    /// stays small.
    pub fn forget_old(&mut self, now: Timestamp, after: Duration) {
        self.services
            .retain(|_, service| service.most_ids.is_some() || service.retry_at.plus(after) > now);
    }

    /// Whether it tells of nothing any more: no wait is left, and the last
    /// failure is so long ago.
    pub fn is_over(&self, now: Timestamp, after: Duration) -> bool {
        let failed_lately = |at: Timestamp| at.plus(after) > now;
        self.next_retry(now).is_none()
            && !self.last_error_at.is_some_and(failed_lately)
            && !self
                .services
                .values()
                .any(|service| failed_lately(service.retry_at))
    }

    /// Limits wait times to the policy's, after the policy was changed.
    pub fn cap(&mut self, longest: Duration, now: Timestamp) {
        let latest = now.plus(longest);
        for service in self.services.values_mut() {
            service.retry_at = service.retry_at.min(latest);
        }
        self.open_until = self.open_until.map(|until| until.min(latest));
    }
}

/// Whether a failure counts toward the ledger's breaker: a missing circuit or
/// a token's rights say nothing of the ledger's other services.
const fn tells_of_the_ledger(failure: &Failure) -> bool {
    match failure {
        Failure::Ledger(error) => !matches!(
            error,
            LedgerError::NotFound { .. }
                | LedgerError::Unauthorized { .. }
                | LedgerError::TooLarge { .. }
                | LedgerError::TooMany { .. }
                | LedgerError::RefusedIds { .. }
        ),
        Failure::Panic(_) | Failure::Write(_) => false,
    }
}

/// How long failing ledgers and services are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Delay after the first failure, and the longest.
    pub range: Range,
    /// Failures in a row that open a ledger's breaker.
    pub breaker_failures: u32,
}

impl BackoffPolicy {
    /// Delay after so many failures in a row: doubling, less up to a half by
    /// chance, so that services that failed together do not come back together.
    pub fn delay(&self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self
            .range
            .min
            .saturating_mul(1 << doublings)
            .min(self.range.max);
        full.mul_f64(1.0 - 0.5 * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BackoffPolicy = BackoffPolicy {
        range: Range {
            min: Duration::from_secs(1),
            max: Duration::from_secs(300),
        },
        breaker_failures: 3,
    };

    fn timeout() -> Failure {
        Failure::Ledger(LedgerError::Timeout {
            after: Duration::from_secs(10),
        })
    }

    #[test]
    fn one_failing_service_is_left_alone_and_the_others_go_on() {
        let now = Timestamp::from_millis(1_000_000);
        let mut health = LedgerHealth::default();
        health.on_failure("a", &timeout(), 1, &POLICY, now, 0.0);
        health.on_success("b", 1, 500);
        let now = now.plus(Duration::from_secs(1));
        health.on_failure("a", &timeout(), 1, &POLICY, now, 0.0);
        assert_eq!(health.admission(now), Admission::Open);
        assert!(!health.may_ask("a", now.plus(Duration::from_millis(1999))));
        assert!(health.may_ask("a", now.plus(Duration::from_secs(2))));
        assert!(health.may_ask("b", now));
    }

    #[test]
    fn failures_of_several_services_open_the_breaker_and_a_probe_closes_it() {
        let now = Timestamp::from_millis(1_000_000);
        let mut health = LedgerHealth::default();
        for service in ["a", "b", "c"] {
            health.on_failure(service, &timeout(), 1, &POLICY, now, 0.0);
        }
        let until = now.plus(Duration::from_secs(1));
        assert_eq!(health.admission(now), Admission::ClosedUntil(until));
        assert_eq!(health.admission(until), Admission::Probe);
        health.on_failure("a", &timeout(), 1, &POLICY, until, 0.0);
        assert_eq!(
            health.admission(until),
            Admission::ClosedUntil(until.plus(Duration::from_secs(2)))
        );
        assert!(health.on_success("a", 1, 500));
        assert_eq!(health.admission(until), Admission::Open);
    }

    #[test]
    fn a_refused_connection_opens_the_breaker_at_once() {
        let now = Timestamp::from_millis(1_000_000);
        let mut health = LedgerHealth::default();
        let refused = Failure::Ledger(LedgerError::Unreachable {
            detail: "refused".into(),
        });
        health.on_failure("a", &refused, 1, &POLICY, now, 0.0);
        assert_eq!(health.breaker(now), BreakerPosition::Open);
        assert_eq!(
            health.next_retry(now),
            Some(now.plus(Duration::from_secs(1)))
        );
    }

    #[test]
    fn requests_that_fail_together_count_once() {
        let now = Timestamp::from_millis(1_000_000);
        let refused = Failure::Ledger(LedgerError::Unreachable {
            detail: "refused".into(),
        });
        let mut health = LedgerHealth::default();
        for _ in 0..8 {
            health.on_failure("a", &refused, 1, &POLICY, now, 0.0);
        }
        assert_eq!(health.retry_at(), Some(now.plus(Duration::from_secs(1))));
        let mut health = LedgerHealth::default();
        for _ in 0..8 {
            health.on_failure("a", &timeout(), 1, &POLICY, now, 0.0);
        }
        assert!(health.may_ask("a", now.plus(Duration::from_secs(1))));
        assert_eq!(
            health.admission(now),
            Admission::Open,
            "one service, not several"
        );
    }

    #[test]
    fn a_ledger_without_services_that_fails_opens_its_breaker_at_once() {
        let now = Timestamp::from_millis(1_000_000);
        let mut health = LedgerHealth::default();
        health.on_failure("", &timeout(), 1, &POLICY, now, 0.0);
        let until = now.plus(Duration::from_secs(1));
        assert_eq!(health.admission(now), Admission::ClosedUntil(until));
        assert!(health.may_ask("", until));
        assert!(health.on_success("", 1, 500));
        assert_eq!(health.admission(now), Admission::Open);
    }

    #[test]
    fn a_missing_service_or_a_refused_token_never_opens_the_breaker() {
        let now = Timestamp::from_millis(1_000_000);
        let mut health = LedgerHealth::default();
        for _ in 0..50 {
            let missing = Failure::Ledger(LedgerError::NotFound {
                detail: "no circuit".into(),
            });
            health.on_failure("a", &missing, 1, &POLICY, now, 0.0);
        }
        assert_eq!(health.admission(now), Admission::Open);
        assert!(!health.may_ask("a", now.plus(Duration::from_secs(14))));
    }

    #[test]
    fn a_request_too_large_is_halved_and_not_backed_off() {
        let now = Timestamp::from_millis(1_000_000);
        let mut health = LedgerHealth::default();
        let large = Failure::Ledger(LedgerError::TooLarge {
            detail: "413".into(),
        });
        health.on_failure("a", &large, 100, &POLICY, now, 0.0);
        assert_eq!(health.most_ids("a"), Some(50));
        assert!(health.may_ask("a", now));
        health.on_success("a", 1, 500);
        assert_eq!(health.most_ids("a"), Some(50), "what was learned is kept");
        health.on_failure("a", &large, 1, &POLICY, now, 0.0);
        assert!(
            !health.may_ask("a", now),
            "a single id that is too large is a failure"
        );
        for _ in 0..GROW_AFTER {
            health.on_success("a", 50, 100);
        }
        assert_eq!(
            health.most_ids("a"),
            None,
            "after a while of success it is forgotten"
        );
    }

    #[test]
    fn retry_after_is_honoured_and_bounded() {
        let now = Timestamp::from_millis(1_000_000);
        let mut health = LedgerHealth::default();
        let told = |seconds| {
            Failure::Ledger(LedgerError::TooMany {
                retry_after: Some(Duration::from_secs(seconds)),
            })
        };
        health.on_failure("a", &told(30), 1, &POLICY, now, 1.0);
        assert!(!health.may_ask("a", now.plus(Duration::from_millis(29_999))));
        health.on_failure("a", &told(1_000_000), 1, &POLICY, now, 1.0);
        assert!(health.may_ask("a", now.plus(LONGEST_RETRY_AFTER)));
    }
}
