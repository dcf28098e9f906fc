//! What an answer makes of a batch: pure, with clock and chance passed in.

use super::model::{LedgerStatus, Status};
use super::poll_log::poll_log_entry;
use super::work::{Answer, BatchesOutcome};
use crate::config::{BatchesSettings, Range};
use crate::store::{BatchChange, PendingBatch};
use crate::time::Timestamp;
use std::time::Duration;

/// How much a repoll may be delayed beyond its interval, as a share of it: so
/// that services do not come due all at once for ever.
const REPOLL_JITTER: f64 = 0.1;

/// How soon a batch is polled again after its `polls`th answered poll: the
/// first time after `min`, then twice as long each time, at most `max`.
pub fn repoll_after(repoll: &Range, polls: u32, chance: f64) -> Duration {
    let doubled = repoll
        .min
        .saturating_mul(1_u32.checked_shl(polls.min(31)).unwrap_or(u32::MAX));
    doubled
        .min(repoll.max)
        .mul_f64(1.0 + REPOLL_JITTER * chance.clamp(0.0, 1.0))
}

/// The changes that an outcome makes, one for each batch that was answered
/// for. `chance` is a random number from 0 to 1, one for all of them: batches
/// that were asked for together stay together, and requests stay full.
pub fn changes_of(
    outcome: &BatchesOutcome,
    settings: &BatchesSettings,
    now: Timestamp,
    chance: f64,
) -> Vec<BatchChange> {
    outcome
        .work
        .batches
        .iter()
        .zip(&outcome.answers)
        .filter_map(|(batch, answer)| change_of(batch, answer, settings, now, chance))
        .collect()
}

/// What one answer changes; `None` when the batch was not asked for.
///
/// Committed and invalid settle it. Unknown and a missing answer leave its
/// status, pending and valid set it; the batch is due again after a growing
/// interval, or lost once it is old enough (and was polled often enough).
pub fn change_of(
    batch: &PendingBatch,
    answer: &Answer,
    settings: &BatchesSettings,
    now: Timestamp,
    chance: f64,
) -> Option<BatchChange> {
    let mut change = BatchChange {
        seq: batch.seq,
        status: batch.status(),
        invalid_transactions: None,
        polled_at: Some(now),
        unknown: false,
        next_poll_at: None,
        settled_at: None,
        last_error: None,
        log: String::new(),
    };
    let word = match answer {
        Answer::NotAsked => return None,
        Answer::Refused(why) | Answer::Impossible(why) => {
            if matches!(answer, Answer::Impossible(_)) {
                change.polled_at = None;
            }
            change.status = Status::Refused;
            change.settled_at = Some(now);
            change.last_error = Some(why.clone());
            "refused"
        }
        Answer::Reported(LedgerStatus::Committed) => {
            change.status = Status::Committed;
            change.settled_at = Some(now);
            "committed"
        }
        Answer::Reported(LedgerStatus::Invalid(transactions)) => {
            change.status = Status::Invalid;
            change.settled_at = Some(now);
            change.invalid_transactions =
                Some(serde_json::to_string(transactions).unwrap_or_else(|_| "[]".to_owned()));
            "invalid"
        }
        Answer::Reported(LedgerStatus::Pending) => {
            change.status = Status::Pending;
            "pending"
        }
        Answer::Reported(LedgerStatus::Valid) => {
            change.status = Status::Valid;
            "valid"
        }
        Answer::Reported(LedgerStatus::Unknown) => {
            change.unknown = true;
            "unknown"
        }
        Answer::Unanswerable(why) => {
            // Not an answer: no poll counts, no status changes, nobody gives up.
            change.polled_at = None;
            change.last_error = Some(why.clone());
            change.next_poll_at = Some(now.plus(repoll_after(&settings.repoll, u32::MAX, chance)));
            return Some(change);
        }
        Answer::Missing => {
            change.last_error = Some("the ledger's answer left this batch out".to_owned());
            "missing"
        }
    };
    change.log = poll_log_entry(now, word);
    if change.status.is_outstanding() {
        let polls = u32::try_from(batch.polls).unwrap_or(0);
        let age = now.since(batch.submitted_at);
        let limit = &settings.give_up_after;
        let asked_enough = limit
            .polls
            .is_none_or(|most| polls.saturating_add(1) >= most);
        if age >= limit.age && asked_enough {
            change.status = Status::Lost;
            change.settled_at = Some(now);
            change.last_error = Some(format!(
                "given up {} after it was submitted and after {} polls; the ledger's last answer was {word}",
                humantime::format_duration(Duration::from_secs(age.as_secs())),
                polls.saturating_add(1),
            ));
        } else {
            change.next_poll_at = Some(now.plus(repoll_after(&settings.repoll, polls, chance)));
        }
    }
    Some(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::batches::{InvalidTransaction, read_poll_log};
    use crate::store::DueCursor;
    use proptest::prelude::*;

    fn settings() -> BatchesSettings {
        let defaults = crate::config::parse(
            "",
            "test.toml",
            std::path::Path::new("."),
            [],
            crate::config::LoadOptions::default(),
        );
        defaults.unwrap().settings.batches
    }

    fn batch(age: Duration) -> (PendingBatch, Timestamp) {
        let now = Timestamp::from_millis(1_795_000_000_000);
        (PendingBatch::sample(1, "", "ab", now.minus(age)), now)
    }

    fn reported(status: LedgerStatus) -> Answer {
        Answer::Reported(status)
    }

    #[test]
    fn committed_and_invalid_settle() {
        let (batch, now) = batch(Duration::from_secs(1));
        let change = change_of(
            &batch,
            &reported(LedgerStatus::Committed),
            &settings(),
            now,
            0.0,
        )
        .unwrap();
        assert_eq!(
            (change.status, change.settled_at, change.next_poll_at),
            (Status::Committed, Some(now), None)
        );
        let at_fault = InvalidTransaction {
            id: "t".into(),
            message: "no".into(),
            extended_data: String::new(),
        };
        let change = change_of(
            &batch,
            &reported(LedgerStatus::Invalid(vec![at_fault])),
            &settings(),
            now,
            0.0,
        )
        .unwrap();
        assert_eq!(change.status, Status::Invalid);
        assert_eq!(
            change.invalid_transactions.as_deref(),
            Some(r#"[{"id":"t","message":"no"}]"#)
        );
    }

    #[test]
    fn unknown_changes_no_status_and_is_never_final_before_its_time() {
        let (batch, now) = batch(Duration::from_secs(3600));
        let change = change_of(
            &batch,
            &reported(LedgerStatus::Unknown),
            &settings(),
            now,
            0.0,
        )
        .unwrap();
        assert!(change.unknown);
        assert_eq!((change.status, change.settled_at), (Status::Pending, None));
        assert_eq!(change.next_poll_at, Some(now.plus(Duration::from_secs(1))));
    }

    #[test]
    fn an_old_batch_is_lost_only_on_an_answer_and_after_enough_polls() {
        let (mut batch, now) = batch(Duration::from_secs(25 * 3600));
        let mut settings = settings();
        assert_eq!(
            change_of(&batch, &Answer::NotAsked, &settings, now, 0.0),
            None
        );
        let lost = change_of(&batch, &reported(LedgerStatus::Valid), &settings, now, 0.0).unwrap();
        assert_eq!((lost.status, lost.settled_at), (Status::Lost, Some(now)));
        assert!(lost.last_error.unwrap().contains("1day 1h"));
        settings.give_up_after.polls = Some(3);
        let kept = change_of(&batch, &Answer::Missing, &settings, now, 0.0).unwrap();
        assert_eq!(kept.status, Status::Pending);
        batch.polls = 2;
        let lost = change_of(&batch, &Answer::Missing, &settings, now, 0.0).unwrap();
        assert_eq!(lost.status, Status::Lost);
        let committed = change_of(
            &batch,
            &reported(LedgerStatus::Committed),
            &settings,
            now,
            0.0,
        )
        .unwrap();
        assert_eq!(
            committed.status,
            Status::Committed,
            "a late answer still counts"
        );
    }

    #[test]
    fn a_refused_id_is_settled_with_the_reason() {
        let (batch, now) = batch(Duration::ZERO);
        let change = change_of(
            &batch,
            &Answer::Refused("no such shape".into()),
            &settings(),
            now,
            0.0,
        )
        .unwrap();
        assert_eq!(
            (change.status, change.settled_at),
            (Status::Refused, Some(now))
        );
        assert_eq!(
            read_poll_log(&change.log).collect::<Vec<_>>(),
            [(now, "refused")]
        );
        assert_eq!(change.polled_at, Some(now));
        let unasked = Answer::Impossible("no such shape".into());
        let change = change_of(&batch, &unasked, &settings(), now, 0.0).unwrap();
        assert_eq!(change.status, Status::Refused);
        assert_eq!(change.polled_at, None, "nobody was asked: no poll");
        assert_ne!(DueCursor::START, DueCursor::AtOnce(0));
    }

    proptest! {
        #[test]
        fn repolls_grow_within_bounds_and_are_never_early(polls in 0_u32..200, chance in 0.0_f64..=1.0) {
            let repoll = Range { min: Duration::from_secs(1), max: Duration::from_secs(60) };
            let base = Duration::from_secs(1_u64.checked_shl(polls).filter(|_| polls < 60).unwrap_or(u64::MAX)).min(repoll.max);
            let after = repoll_after(&repoll, polls, chance);
            prop_assert!(after >= base);
            prop_assert!(after <= repoll.max.mul_f64(1.1));
        }
    }
}
