//! What the Scheduler keeps across restarts: the health of the ledgers that
//! this server holds, saved in a row that all servers of a database share.
//!
//! A ledger's entry is written by the server that holds the ledger, and read by
//! whoever takes it over, so that no failing ledger is hammered afresh, after a
//! restart or a takeover.

use crate::flows::batches::BatchesHealth;
use crate::leases::{Holdings, batches_lease};
use crate::time::Timestamp;
use crate::watchdog::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Entries of ledgers that nobody holds any more, say since they were removed
/// from the configuration, are forgotten so long after their last failure.
const FORGET_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// Soft state of the Scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SchedulerState {
    /// Health by ledger.
    pub health: BatchesHealth,
    /// The epochs at which this process held them; none of a saved state.
    #[serde(skip)]
    epochs: BTreeMap<String, i64>,
}

impl SchedulerState {
    /// The state of a server: of all this health, what is of ledgers it holds.
    pub fn held(mut health: BatchesHealth, holdings: &Holdings) -> Self {
        let mut epochs = BTreeMap::new();
        health.retain(
            |ledger, _| match holdings.held.get(&batches_lease(ledger)) {
                Some(stake) => {
                    epochs.insert(ledger.clone(), stake.epoch);
                    true
                }
                None => false,
            },
        );
        Self { health, epochs }
    }

    /// Which of these ledgers are held now and were not, at this epoch, when the
    /// state was made: what another server saved of them is newer than ours.
    pub fn taken_over<'l>(
        &self,
        ledgers: impl Iterator<Item = &'l str>,
        holdings: &Holdings,
    ) -> Vec<String> {
        ledgers
            .filter(|ledger| {
                let stake = holdings.held.get(&batches_lease(ledger));
                stake.is_some_and(|stake| self.epochs.get(*ledger) != Some(&stake.epoch))
            })
            .map(str::to_owned)
            .collect()
    }
}

impl State for SchedulerState {
    const VERSION: i32 = 1;

    fn merge(self, saved: Self, now: Timestamp) -> Self {
        let mut health = saved.health;
        health.retain(|_, health| !health.is_over(now, FORGET_AFTER));
        health.extend(self.health);
        Self {
            health,
            epochs: self.epochs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::batches::LedgerHealth;
    use crate::store::LeaseStake;

    fn holdings(ledgers: &[(&str, i64)]) -> Holdings {
        let held = ledgers.iter().map(|(ledger, epoch)| {
            let name = batches_lease(ledger);
            let stake = LeaseStake {
                name: name.clone(),
                epoch: *epoch,
            };
            (name, stake)
        });
        Holdings {
            held: held.collect(),
            others: BTreeMap::new(),
        }
    }

    /// A ledger that failed then, `failures` times.
    fn failing(failures: u32, at: i64) -> LedgerHealth {
        serde_json::from_value(serde_json::json!({
            "failures": failures,
            "open_until": null,
            "last_error": "refused",
            "last_error_at": Timestamp::from_millis(at),
        }))
        .unwrap()
    }

    fn health<const N: usize>(ledgers: [(&str, LedgerHealth); N]) -> BatchesHealth {
        ledgers
            .map(|(name, health)| (name.to_owned(), health))
            .into()
    }

    #[test]
    fn two_servers_write_what_they_hold_and_keep_the_others() {
        let now = Timestamp::from_millis(2_000_000_000);
        let saved = SchedulerState {
            health: health([
                ("a", failing(1, now.millis())),
                ("b", failing(5, now.millis())),
                ("healthy", LedgerHealth::default()),
                ("removed long ago", failing(5, 1000)),
            ]),
            ..SchedulerState::default()
        };
        let known = health([
            ("a", failing(2, now.millis())),
            ("b", failing(1, now.millis())),
        ]);
        let mine = SchedulerState::held(known, &holdings(&[("a", 4)]));
        let written = mine.merge(saved, now).health;
        let told: Vec<(&str, u32)> = written
            .iter()
            .map(|(name, health)| (name.as_str(), health.failures()))
            .collect();
        assert_eq!(told, [("a", 2), ("b", 5)]);
    }

    #[test]
    fn a_ledger_is_taken_over_once_for_each_epoch() {
        let ledgers = || ["a", "b", "c"].into_iter();
        let holdings_now = holdings(&[("a", 4), ("b", 1)]);
        let fresh = SchedulerState::default();
        assert_eq!(fresh.taken_over(ledgers(), &holdings_now), ["a", "b"]);
        let known = health([("a", failing(2, 0)), ("b", LedgerHealth::default())]);
        let state = SchedulerState::held(known, &holdings_now);
        assert!(state.taken_over(ledgers(), &holdings_now).is_empty());
        let later = holdings(&[("a", 6), ("c", 1)]);
        assert_eq!(state.taken_over(ledgers(), &later), ["a", "c"]);
    }

    #[test]
    fn what_is_saved_is_the_health_alone() {
        let state = SchedulerState::held(health([("a", failing(2, 0))]), &holdings(&[("a", 4)]));
        let json = serde_json::to_string(&state).unwrap();
        let read = SchedulerState::read(1, &json).unwrap();
        assert_eq!(read.health, state.health);
        assert!(read.epochs.is_empty(), "{json}");
        assert!(SchedulerState::read(2, &json).is_err());
    }
}
