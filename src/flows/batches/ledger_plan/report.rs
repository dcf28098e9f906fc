//! What the plan of a ledger learns from a piece of work that is over.

use super::LedgerPlan;
use crate::flows::batches::health::{Admission, BackoffPolicy};
use crate::flows::batches::plan::log_failure;
use crate::flows::batches::work::BatchesReport;
use crate::time::Timestamp;

impl LedgerPlan {
    pub(in crate::flows::batches) fn report(
        &mut self,
        report: &BatchesReport,
        asked: usize,
        policy: &BackoffPolicy,
        now: Timestamp,
        chance: f64,
    ) -> bool {
        let totals = &mut self.totals;
        totals.answered += report.answered;
        totals.settled += report.settled;
        totals.unknown += report.unknown;
        totals.missing += report.missing;
        totals.unasked += report.unasked;
        totals.fenced += u64::from(report.fenced);
        if report.fenced && self.stake.as_ref() == Some(&report.stake) {
            // It is another server's by now; the next heartbeat says whose.
            self.hold(None, None, now);
            return false;
        }
        match &report.failure {
            None => {
                totals.requests += u64::from(report.requests);
                if report.requests == 0 {
                    return false;
                }
                self.last_success_at = Some(now);
                if report.not_asked > 0 {
                    self.wake(now);
                }
                let limit = self.settings.ids_per_request;
                let recovered = self.health.on_success(&report.service_id, asked, limit);
                if recovered {
                    tracing::info!(ledger.name = %report.ledger, service.id = %report.service_id, "the ledger answers again");
                    self.wake(now);
                }
                recovered
            }
            Some(failure) => {
                totals.failed_requests += 1;
                self.health
                    .on_failure(&report.service_id, failure, asked, policy, now, chance);
                let admission = self.health.admission(now);
                log_failure(report, failure, admission);
                if !self.health.may_ask(&report.service_id, now) {
                    self.drop_queue(&report.service_id);
                } else {
                    // Asked for less at once, and at once.
                    self.wake(now);
                }
                if let Admission::ClosedUntil(until) = admission {
                    self.drop_queues();
                    self.sweep.restart(until);
                } else if let Some(retry) = self.health.next_retry(now) {
                    self.sweep.at = self.sweep.at.min(retry);
                }
                true
            }
        }
    }
}
