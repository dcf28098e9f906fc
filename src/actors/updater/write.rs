//! How a group of outcomes is written: in one transaction, and where the database
//! refuses something of it, outcome by outcome and row by row.

use crate::flows::batches::{BatchError, BatchUpdater as _, Failure, Status};
use crate::messages::{Report, SettledWork, Ticket};
use crate::store::{
    Applied, BatchChange, BatchWriter, Change, ChangeGroup, LeaseStake, SiteChange, StoreError,
};
use crate::telemetry::as_i64;
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Instant;
use tracing::Span;

/// A group of outcomes of one flow on its way into the database.
pub(super) struct Group<C> {
    pub(super) items: Vec<Item<C>>,
}

/// One outcome, with what it changes.
pub(super) struct Item<C> {
    pub(super) report: Report,
    pub(super) asked: usize,
    pub(super) ticket: Ticket,
    pub(super) changes: Arc<[C]>,
    pub(super) stake: LeaseStake,
    pub(super) span: Span,
}

/// What came of writing a group.
pub(super) struct Written<G> {
    /// Written, or refused for good.
    pub(super) settled: Vec<SettledWork>,
    /// To be written again, and why.
    pub(super) left: Option<(G, String)>,
}

/// Why changes were not written.
pub(super) enum WriteError {
    /// The database is out of reach.
    Away(String),
    /// Somebody else holds a lock on a row.
    Locked(String),
    /// The database will not take them.
    Refused(String),
}

impl From<BatchError> for WriteError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Store(error) => Self::Away(error),
            BatchError::Locked(error) => Self::Locked(error),
            error => Self::Refused(error.to_string()),
        }
    }
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unreachable(_) => Self::Away(error.to_string()),
            StoreError::Locked(error) => Self::Locked(error),
            error => Self::Refused(error.to_string()),
        }
    }
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Away(error) | Self::Locked(error) | Self::Refused(error)) = self;
        f.write_str(error)
    }
}

/// What the Updater has to know of a flow's changes.
pub(super) trait FlowChange: Change {
    /// Writes groups of them in one transaction.
    fn update(
        writer: &BatchWriter,
        groups: Vec<ChangeGroup<Self>>,
    ) -> impl Future<Output = Result<Applied, WriteError>> + Send;

    /// Takes note in the report of what was written. Answers when something of
    /// it is due again.
    fn written(report: &mut Report, changes: &[Self], span: &Span) -> Option<Timestamp>;

    /// The row, for the log.
    fn row(&self) -> i64;
}

impl FlowChange for BatchChange {
    async fn update(
        writer: &BatchWriter,
        groups: Vec<ChangeGroup<Self>>,
    ) -> Result<Applied, WriteError> {
        Ok(writer.update_batch_ids(groups).await?)
    }

    fn written(report: &mut Report, changes: &[Self], span: &Span) -> Option<Timestamp> {
        let Report::Batches(report) = report else {
            return None;
        };
        let settled = |change: &&Self| change.settled_at.is_some();
        report.settled = changes.iter().filter(settled).count() as u64;
        span.record("batches.settled", as_i64(report.settled));
        for status in Status::ALL {
            let of_status = |change: &&Self| change.settled_at.is_some() && change.status == status;
            let count = changes.iter().filter(of_status).count() as u64;
            if count > 0 {
                metrics::counter!(
                    "highwater_batches_settled_total",
                    "ledger" => report.ledger.to_string(),
                    "status" => status.as_str()
                )
                .increment(count);
            }
        }
        changes
            .iter()
            .filter_map(|change| change.next_poll_at)
            .min()
    }

    fn row(&self) -> i64 {
        self.seq
    }
}

impl FlowChange for SiteChange {
    async fn update(
        writer: &BatchWriter,
        groups: Vec<ChangeGroup<Self>>,
    ) -> Result<Applied, WriteError> {
        Ok(writer.store.apply_changes(&writer.holder, groups).await?)
    }

    fn written(report: &mut Report, changes: &[Self], _: &Span) -> Option<Timestamp> {
        if let Report::Sites(report) = report {
            report.given_up = changes.iter().any(|change| change.given_up_at.is_some());
        }
        changes.iter().filter_map(|change| change.next_due_at).min()
    }

    fn row(&self) -> i64 {
        self.seq
    }
}

/// Writes a group in one transaction. A group of which the database refuses
/// something is written outcome by outcome, and an outcome row by row, so that
/// one that cannot be written, or is locked by somebody, holds up no other.
pub(super) async fn write<C: FlowChange>(
    writer: &BatchWriter,
    group: Group<C>,
) -> Written<Group<C>> {
    let begun = Instant::now();
    for item in &group.items {
        // A commit is one of many units of work; each has a part of its own.
        item.span.record("commit.units", as_i64(group.items.len()));
    }
    let changes = group.items.iter().map(Item::change_group).collect();
    match C::update(writer, changes).await {
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
        Err(WriteError::Away(error)) => Written {
            settled: Vec::new(),
            left: Some((group, error)),
        },
        Err(error) => {
            tracing::error!(error = %error, "a group of outcomes cannot be written; written one by one");
            write_one_by_one(writer, group).await
        }
    }
}

async fn write_one_by_one<C: FlowChange>(
    writer: &BatchWriter,
    group: Group<C>,
) -> Written<Group<C>> {
    let mut settled = Vec::new();
    let mut left = Vec::new();
    let mut why = String::new();
    let mut rest = group.items.into_iter();
    while let Some(item) = rest.next() {
        match C::update(writer, vec![item.change_group()]).await {
            Ok(applied) => settled.push(item.settled(!applied.fenced.is_empty())),
            Err(WriteError::Away(error)) => {
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
async fn write_rows<C: FlowChange>(
    writer: &BatchWriter,
    item: &Item<C>,
    error: &WriteError,
) -> Result<String, String> {
    let mut refusal = error.to_string();
    let mut again = None;
    for change in item.changes.iter() {
        let row = ChangeGroup {
            stake: item.stake.clone(),
            changes: Arc::new([change.clone()]),
        };
        match C::update(writer, vec![row]).await {
            Ok(_) => {}
            Err(WriteError::Away(error)) => return Err(error),
            Err(WriteError::Locked(error)) => again = Some(error),
            Err(error) => {
                tracing::error!(row.seq = change.row(), error = %error, "a row cannot be written");
                refusal = error.to_string();
            }
        }
    }
    again.map_or(Ok(refusal), Err)
}

impl<C: FlowChange> Item<C> {
    fn change_group(&self) -> ChangeGroup<C> {
        ChangeGroup {
            stake: self.stake.clone(),
            changes: self.changes.clone(),
        }
    }

    fn settled(mut self, fenced: bool) -> SettledWork {
        match &mut self.report {
            Report::Batches(report) => report.fenced = fenced,
            Report::Sites(report) => report.fenced = fenced,
        }
        let due_at = if fenced {
            self.span.record("error", "the lease was lost");
            self.span.record("otel.status_code", "ERROR");
            None
        } else {
            C::written(&mut self.report, &self.changes, &self.span)
        };
        SettledWork {
            report: self.report,
            due_at,
            asked: self.asked,
            ticket: self.ticket,
        }
    }

    fn refused(mut self, error: &str) -> SettledWork {
        match &mut self.report {
            Report::Batches(report) => report.failure = Some(Failure::Write(error.to_owned())),
            Report::Sites(report) => report.refused = Some(error.to_owned()),
        }
        self.span.record("error", error);
        self.span.record("otel.status_code", "ERROR");
        SettledWork {
            report: self.report,
            due_at: None,
            asked: self.asked,
            ticket: self.ticket,
        }
    }
}
