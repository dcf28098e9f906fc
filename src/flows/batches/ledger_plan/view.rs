//! What the plan of a ledger shows of itself.

use super::LedgerPlan;
use crate::flows::batches::view::{LedgerView, ServiceTrouble};
use crate::time::Timestamp;

/// Failing services shown, at most.
const MOST_SHOWN: usize = 100;

impl LedgerPlan {
    pub(in crate::flows::batches) fn view(&self, now: Timestamp) -> LedgerView {
        let last_error = self.health.last_error();
        let mut failing_services: Vec<ServiceTrouble> = self
            .health
            .backed_off(now)
            .map(|(id, service)| ServiceTrouble {
                service_id: id.to_owned(),
                failures: service.failures,
                last_error: service.last_error.clone(),
                retry_at: service.retry_at,
            })
            .collect();
        failing_services.sort_by(|a, b| {
            b.failures
                .cmp(&a.failures)
                .then(a.service_id.cmp(&b.service_id))
        });
        let failing_services_total = failing_services.len();
        failing_services.truncate(MOST_SHOWN);
        LedgerView {
            name: self.settings.name.clone(),
            kind: self.settings.kind,
            url: self.settings.url.to_string(),
            role: self.settings.role,
            held: self.stake.is_some(),
            holder: self.holder.clone(),
            breaker: self.health.breaker(now),
            failures: self.health.failures(),
            last_error: last_error.map(|(error, _)| error.to_owned()),
            last_error_at: last_error.map(|(_, at)| at),
            last_success_at: self.last_success_at,
            retry_at: self.health.retry_at(),
            in_flight: self.in_flight,
            queued: self.queued,
            failing_services,
            failing_services_total,
            totals: self.totals,
        }
    }
}
