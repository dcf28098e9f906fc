//! How one piece of work is fetched: one request, or several where the ledger
//! refuses some of its ids.

use super::traits::BatchError;
use super::work::{Answer, BatchesOutcome, BatchesWork};
use crate::flows::batches::StatusReport;
use crate::ledgers::{Ledger, LedgerError};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// Most requests for one piece of work: enough to find three refused ids
/// among 500; whoever is left over is asked for in another piece of work.
const MOST_REQUESTS: u32 = 64;

/// Asks a ledger for the statuses of a piece of work.
///
/// Ids that cannot be the ledger's are refused without being sent, so that
/// they hold up nobody. When the ledger refuses a whole request because of an
/// id in it, the list is halved until the id is found.
pub async fn fetch(ledger: Arc<dyn Ledger>, work: Arc<BatchesWork>) -> BatchesOutcome {
    let begun = Instant::now();
    let mut outcome = BatchesOutcome {
        answers: vec![Answer::NotAsked; work.batches.len()],
        work: work.clone(),
        unasked: 0,
        requests: 0,
        failure: None,
        panic: None,
        took: std::time::Duration::ZERO,
    };
    let kind = ledger.kind();
    let mut sound = Vec::with_capacity(work.batches.len());
    let service_problem = kind.check_service_id(&work.service_id).err();
    for (index, batch) in work.batches.iter().enumerate() {
        let problem = service_problem
            .clone()
            .map_or_else(|| kind.check_batch_id(&batch.batch_id), Err);
        match problem {
            Ok(()) => sound.push(index),
            Err(problem) => outcome.answers[index] = Answer::Impossible(problem.to_string()),
        }
    }
    // The parts still to be asked for, the next one last.
    let mut parts: Vec<Vec<usize>> = Vec::new();
    if !sound.is_empty() {
        parts.push(sound);
    }
    while let Some(mut part) = parts.pop() {
        if outcome.requests >= MOST_REQUESTS {
            break;
        }
        let ids: Vec<&str> = part
            .iter()
            .map(|index| work.batches[*index].batch_id.as_str())
            .collect();
        let fits = ledger.fits(&work.service_id, &ids).clamp(1, ids.len());
        if fits < part.len() {
            parts.push(part.split_off(fits));
        }
        outcome.requests += 1;
        match ledger
            .get_batch_statuses(&work.service_id, &ids[..fits])
            .await
        {
            Ok(reports) => take_answers(&mut outcome, &work, &part, reports),
            Err(BatchError::Ledger(LedgerError::RefusedIds { detail })) => {
                if let [single] = part[..] {
                    outcome.answers[single] = Answer::Refused(detail);
                } else {
                    let second = part.split_off(part.len() / 2);
                    parts.push(second);
                    parts.push(part);
                }
            }
            Err(BatchError::Ledger(error @ LedgerError::Malformed { .. })) => {
                // The whole ledger may talk nonsense, or the answer for one batch.
                if let Err(error) = isolate(&*ledger, &work, &mut outcome, part, error).await {
                    outcome.failure = Some(error);
                    break;
                }
            }
            Err(error) => {
                let error = ledger_error(error);
                if let (LedgerError::TooLarge { .. }, [single]) = (&error, &part[..]) {
                    // It cannot be asked for in less than this.
                    outcome.answers[*single] = Answer::Unanswerable(error.to_string());
                }
                outcome.failure = Some(error);
                break;
            }
        }
    }
    outcome.took = begun.elapsed();
    outcome
}

/// Finds the batch whose answer makes no sense (say, one with so many entries
/// that it is over the bound), by asking for halves of `suspects`, which failed
/// together.
///
/// # Errors
/// Both halves fail, so it is not one batch's answer; or another failure.
async fn isolate(
    ledger: &dyn Ledger,
    work: &BatchesWork,
    outcome: &mut BatchesOutcome,
    mut suspects: Vec<usize>,
    mut error: LedgerError,
) -> Result<(), LedgerError> {
    loop {
        if let [single] = suspects[..] {
            if work.batches.len() == 1 {
                // Nobody else was asked for: it may as well be the ledger.
                return Err(error);
            }
            outcome.answers[single] = Answer::Unanswerable(error.to_string());
            return Ok(());
        }
        let second = suspects.split_off(suspects.len() / 2);
        let mut failed = Vec::new();
        for half in [suspects, second] {
            if outcome.requests >= MOST_REQUESTS {
                return Err(error);
            }
            outcome.requests += 1;
            match ask(ledger, work, &half).await {
                Ok(reports) => take_answers(outcome, work, &half, reports),
                Err(again @ LedgerError::Malformed { .. }) => {
                    error = again;
                    failed.push(half);
                }
                Err(other) => return Err(other),
            }
        }
        match (failed.pop(), failed.pop()) {
            (None, _) => return Ok(()),
            (Some(half), None) => suspects = half,
            (Some(_), Some(_)) => return Err(error),
        }
    }
}

/// Asks once for a part of the work.
async fn ask(
    ledger: &dyn Ledger,
    work: &BatchesWork,
    part: &[usize],
) -> Result<Vec<StatusReport>, LedgerError> {
    let ids: Vec<&str> = part
        .iter()
        .map(|index| work.batches[*index].batch_id.as_str())
        .collect();
    let answer = ledger.get_batch_statuses(&work.service_id, &ids).await;
    answer.map_err(ledger_error)
}

fn ledger_error(error: BatchError) -> LedgerError {
    match error {
        BatchError::Ledger(error) => error,
        other => LedgerError::Malformed {
            detail: other.to_string(),
        },
    }
}

/// Matches reports against what was asked: by id, whatever their order; of an
/// id answered twice the first counts.
fn take_answers(
    outcome: &mut BatchesOutcome,
    work: &BatchesWork,
    part: &[usize],
    reports: Vec<StatusReport>,
) {
    // What is wanted, and whether it was answered.
    let mut wanted: HashMap<&str, (usize, bool)> = part
        .iter()
        .map(|index| (work.batches[*index].batch_id.as_str(), (*index, false)))
        .collect();
    let mut repeated = 0_u64;
    for report in reports {
        match wanted.get_mut(report.batch_id.as_str()) {
            Some((index, answered @ false)) => {
                *answered = true;
                outcome.answers[*index] = Answer::Reported(report.status);
            }
            Some(_) => repeated += 1,
            None => outcome.unasked += 1,
        }
    }
    if repeated > 0 {
        tracing::debug!(
            ledger.name = %work.ledger,
            ledger.repeated_ids = repeated,
            "the ledger answered ids more than once"
        );
    }
    for (index, answered) in wanted.into_values() {
        if !answered {
            outcome.answers[index] = Answer::Missing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::batches::{BatchResult, BatchStatusStore, LedgerStatus};
    use crate::ledgers::LedgerKind;
    use crate::store::{LeaseStake, PendingBatch};
    use crate::time::Timestamp;
    use futures_util::future::BoxFuture;

    /// A ledger whose answers make no sense where certain batches are asked for.
    struct Odd {
        nonsense: Vec<usize>,
        refused: Vec<usize>,
    }

    fn id(n: usize) -> String {
        format!("{n:0128x}")
    }

    impl BatchStatusStore<StatusReport> for Odd {
        fn get_batch_statuses<'a>(
            &'a self,
            _: &'a str,
            ids: &'a [&'a str],
        ) -> BoxFuture<'a, BatchResult<Vec<StatusReport>>> {
            let any = |list: &[usize]| list.iter().any(|n| ids.contains(&id(*n).as_str()));
            let detail = "as the test wants".to_owned();
            let answer = if any(&self.refused) {
                Err(LedgerError::RefusedIds { detail }.into())
            } else if any(&self.nonsense) {
                Err(LedgerError::Malformed { detail }.into())
            } else {
                let report = |id: &&str| StatusReport {
                    batch_id: (*id).to_owned(),
                    status: LedgerStatus::Committed,
                };
                Ok(ids.iter().map(report).collect())
            };
            Box::pin(std::future::ready(answer))
        }
    }

    impl Ledger for Odd {
        fn kind(&self) -> LedgerKind {
            LedgerKind::Sawtooth
        }

        fn fits(&self, _: &str, ids: &[&str]) -> usize {
            ids.len()
        }
    }

    async fn outcome(count: usize, ledger: Odd) -> BatchesOutcome {
        let batches = (0..count)
            .map(|n| PendingBatch::sample(n as i64, "", &id(n), Timestamp::default()))
            .collect();
        let work = BatchesWork {
            ledger: Arc::from("odd"),
            stake: LeaseStake {
                name: "batches:odd".to_owned(),
                epoch: 1,
            },
            service_id: Arc::from(""),
            batches,
        };
        fetch(Arc::new(ledger), Arc::new(work)).await
    }

    #[tokio::test]
    async fn one_answer_that_makes_no_sense_is_found_wherever_it_is() {
        for odd in [0, 1, 250, 499] {
            let nonsense = vec![odd];
            let outcome = outcome(
                500,
                Odd {
                    nonsense,
                    refused: Vec::new(),
                },
            )
            .await;
            assert!(matches!(outcome.answers[odd], Answer::Unanswerable(_)));
            let others = outcome
                .answers
                .iter()
                .filter(|a| matches!(a, Answer::Reported(_)));
            assert_eq!((others.count(), &outcome.failure), (499, &None));
            assert!(outcome.requests <= 20, "{}", outcome.requests);
        }
    }

    #[tokio::test]
    async fn a_ledger_that_talks_nonsense_is_not_asked_for_ever() {
        let nonsense = (0..500).collect();
        let outcome = outcome(
            500,
            Odd {
                nonsense,
                refused: Vec::new(),
            },
        )
        .await;
        assert!(matches!(
            outcome.failure,
            Some(LedgerError::Malformed { .. })
        ));
        assert!(
            outcome
                .answers
                .iter()
                .all(|answer| *answer == Answer::NotAsked)
        );
        assert_eq!(outcome.requests, 3);
    }

    #[tokio::test]
    async fn refused_ids_are_found_and_the_others_answered() {
        let refused = vec![3, 300];
        let outcome = outcome(
            500,
            Odd {
                nonsense: Vec::new(),
                refused,
            },
        )
        .await;
        assert!(matches!(outcome.answers[3], Answer::Refused(_)));
        assert!(matches!(outcome.answers[300], Answer::Refused(_)));
        let others = outcome
            .answers
            .iter()
            .filter(|a| matches!(a, Answer::Reported(_)));
        assert_eq!((others.count(), outcome.failure), (498, None));
    }
}
