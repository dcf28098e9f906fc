//! How a group of outcomes is written: in one transaction, and where the database
//! refuses something of it, outcome by outcome and row by row.

use crate::flows::batches::{BatchError, BatchUpdater, BatchesReport, Failure, Status};
use crate::messages::{Report, SettledWork, Ticket};
use crate::store::{BatchChange, BatchWriter, ChangeGroup, LeaseStake};
use crate::telemetry::as_i64;
use std::sync::Arc;
use std::time::Instant;
use tracing::Span;

/// A group of outcomes on its way into the database.
pub(super) struct Group {
    pub(super) items: Vec<Item>,
}

/// One outcome, with what it changes.
pub(super) struct Item {
    pub(super) report: BatchesReport,
    pub(super) asked: usize,
    pub(super) ticket: Ticket,
    pub(super) changes: Arc<[BatchChange]>,
    pub(super) stake: LeaseStake,
    pub(super) span: Span,
}

/// What came of writing a group.
pub(super) struct Written {
    /// Written, or refused for good.
    pub(super) settled: Vec<SettledWork>,
    /// To be written again, and why.
    pub(super) left: Option<(Group, String)>,
}

/// Writes a group in one transaction. A group of which the database refuses
/// something is written outcome by outcome, and an outcome row by row, so that
/// one that cannot be written, or is locked by somebody, holds up no other.
pub(super) async fn write(writer: &BatchWriter, group: Group) -> Written {
    let begun = Instant::now();
    for item in &group.items {
        // A commit is one of many units of work; each has a part of its own.
        item.span.record("commit.units", as_i64(group.items.len()));
    }
    let changes = group.items.iter().map(Item::change_group).collect();
    match writer.update_batch_ids(changes).await {
        Ok(applied) => {
            metrics::histogram!("highwater_commit_seconds").record(begun.elapsed().as_secs_f64());
            metrics::counter!("highwater_commit_rows_total").increment(applied.changed as u64);
            let items = group.items.into_iter().enumerate();
            let settled = items.map(|(index, item)| item.settled(applied.fenced.contains(&index)));
            Written {
                settled: settled.collect(),
                left: None,
            }
        }
        Err(BatchError::Store(error)) => Written {
            settled: Vec::new(),
            left: Some((group, error)),
        },
        Err(error) => {
            tracing::error!(error = %error, "a group of outcomes cannot be written; written one by one");
            write_one_by_one(writer, group).await
        }
    }
}

async fn write_one_by_one(writer: &BatchWriter, group: Group) -> Written {
    let mut settled = Vec::new();
    let mut left = Vec::new();
    let mut why = String::new();
    let mut rest = group.items.into_iter();
    while let Some(item) = rest.next() {
        match writer.update_batch_ids(vec![item.change_group()]).await {
            Ok(applied) => settled.push(item.settled(!applied.fenced.is_empty())),
            Err(BatchError::Store(error)) => {
                // Out of reach: the others would wait for as long.
                left.push(item);
                left.extend(rest);
                why = error;
                break;
            }
            Err(error) => match write_rows(writer, &item, &error).await {
                Ok(error) => settled.push(item.refused(&error)),
                Err(error) => {
                    left.push(item);
                    why = error;
                }
            },
        }
    }
    Written {
        settled,
        left: (!left.is_empty()).then_some((Group { items: left }, why)),
    }
}

/// Writes an outcome row by row, all that can be written. Answers why the rest
/// cannot.
///
/// # Errors
/// A row is locked or the database out of reach: why. The outcome is to be
/// written again; rows that are written already do not change by it.
async fn write_rows(
    writer: &BatchWriter,
    item: &Item,
    error: &BatchError,
) -> Result<String, String> {
    let mut refusal = error.to_string();
    let mut again = None;
    for change in item.changes.iter() {
        let row = ChangeGroup {
            stake: item.stake.clone(),
            changes: Arc::new([change.clone()]),
        };
        match writer.update_batch_ids(vec![row]).await {
            Ok(_) => {}
            Err(BatchError::Store(error)) => return Err(error),
            Err(BatchError::Locked(error)) => again = Some(error),
            Err(error) => {
                tracing::error!(batch.seq = change.seq, error = %error, "a batch cannot be written");
                refusal = error.to_string();
            }
        }
    }
    again.map_or(Ok(refusal), Err)
}

impl Item {
    fn change_group(&self) -> ChangeGroup<BatchChange> {
        ChangeGroup {
            stake: self.stake.clone(),
            changes: self.changes.clone(),
        }
    }

    fn settled(mut self, fenced: bool) -> SettledWork {
        self.report.fenced = fenced;
        let mut due_at = None;
        if !fenced {
            self.report.settled = self
                .changes
                .iter()
                .filter(|change| change.settled_at.is_some())
                .count() as u64;
            due_at = self
                .changes
                .iter()
                .filter_map(|change| change.next_poll_at)
                .min();
            for status in Status::ALL {
                let settled =
                    |change: &&BatchChange| change.settled_at.is_some() && change.status == status;
                let count = self.changes.iter().filter(settled).count() as u64;
                if count > 0 {
                    metrics::counter!(
                        "highwater_batches_settled_total",
                        "ledger" => self.report.ledger.to_string(),
                        "status" => status.as_str()
                    )
                    .increment(count);
                }
            }
        }
        self.span
            .record("batches.settled", as_i64(self.report.settled));
        if fenced {
            self.span.record("error", "the lease was lost");
            self.span.record("otel.status_code", "ERROR");
        }
        SettledWork {
            report: Report::Batches(self.report),
            due_at,
            asked: self.asked,
            ticket: self.ticket,
        }
    }

    fn refused(mut self, error: &str) -> SettledWork {
        self.report.failure = Some(Failure::Write(error.to_owned()));
        self.span.record("error", error);
        self.span.record("otel.status_code", "ERROR");
        SettledWork {
            report: Report::Batches(self.report),
            due_at: None,
            asked: self.asked,
            ticket: self.ticket,
        }
    }
}
