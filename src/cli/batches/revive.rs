//! `highwater batches revive`: takes up again what was given up.

use super::{PlaceArgs, list, lookup};
use crate::cli::audit;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs, note};
use crate::cli::{context, progress::Progress};
use crate::config::Loaded;
use crate::flows::batches::{BatchKey, Status};
use crate::store::{AuditOutcome, BatchFilter, BatchRow, NewAudit, Store, StoreError};
use crate::time::Timestamp;
use clap::Args;
use serde::Serialize;
use serde_json::json;

/// Batches revived in one statement.
const CHUNK: i64 = 1000;

/// Makes lost and refused batches pending again, as if submitted now.
///
/// Batches of any other status stay as they are: what is final stays final.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater batches revive --ledger trace 5e0c…
  highwater batches revive --ledger trace --status lost --all
  highwater batches revive --ledger supply-chain --service btXBt-Rb4VS::a000 --status refused --all")]
pub(in crate::cli) struct ReviveArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Batch ids, or as much of their beginning as makes each the only one.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All of this status: lost or refused.
    #[arg(long, value_parser = list::status, requires = "all", conflicts_with = "ids")]
    status: Option<Status>,
    /// All batches of --status.
    #[arg(long, requires = "status", conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    revived: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
}

impl ReviveArgs {
    /// Refuses what makes no sense, whatever the configuration.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match (self.ids.is_empty(), self.status) {
            (true, None) => Err(Failure::Usage(
                "nothing to revive: name batch IDs, or --status lost --all".to_owned(),
            )),
            (true, Some(status)) if !revivable(status) => Err(Failure::Usage(format!(
                "--status {status}: only lost and refused batches can be revived"
            ))),
            _ => Ok(()),
        }
    }
}

const fn revivable(status: Status) -> bool {
    matches!(status, Status::Lost | Status::Refused)
}

pub(super) async fn run(args: &ReviveArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let configured = context::ledger(loaded, &args.place.ledger);
    if let Err(missing) = &configured
        && !has_batches(&store, &args.place.ledger).await?
    {
        return Err(Failure::Usage(missing.clone()));
    }
    let mut report = Report::default();
    let ended = match args.status {
        Some(status) => all(&store, &args.place, status, &mut report).await,
        None => named(&store, args, &mut report).await,
    };
    let problem = ended.as_ref().err().map(ToString::to_string);
    audit::record(&store, recorded(args, &report, problem)).await;
    ended?;
    // Rows of a ledger that is gone from the configuration are not polled.
    if report.revived > 0
        && let Err(missing) = &configured
    {
        note(&format_args!(
            "warning: {missing}; its batches are not polled"
        ));
    }
    if args.output.is_json() {
        output::print_json(&report)?;
    } else {
        for error in &report.errors {
            note(error);
        }
        output::print(format_args!(
            "{} revived",
            output::count(report.revived, "batch", "batches")
        ))?;
    }
    if report.errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::Said)
    }
}

/// Whether batches of a ledger are tracked, whatever the configuration says now.
async fn has_batches(store: &Store, ledger: &str) -> Result<bool, StoreError> {
    let filter = BatchFilter {
        ledger: Some(ledger.to_owned()),
        limit: 1,
        ..BatchFilter::default()
    };
    Ok(!store.list_batches(&filter).await?.rows.is_empty())
}

/// The row of the audit: what was asked for, and what came of it.
fn recorded(args: &ReviveArgs, report: &Report, failure: Option<String>) -> NewAudit {
    let outcome = match failure {
        Some(_) => AuditOutcome::Failed,
        None if report.revived == 0 && !report.errors.is_empty() => AuditOutcome::Refused,
        None => AuditOutcome::Done,
    };
    let refused = (!report.errors.is_empty()).then(|| report.errors.join("; "));
    NewAudit {
        who: audit::operator(),
        action: "batches.revive".to_owned(),
        target: args.place.ledger.clone(),
        details: Some(json!({
            "service_id": args.place.service,
            "batch_ids": args.ids,
            "status": args.status.map(Status::as_str),
            "revived": report.revived,
        })),
        outcome,
        problem: failure.or(refused),
    }
}

async fn named(store: &Store, args: &ReviveArgs, report: &mut Report) -> Result<(), Failure> {
    let mut keys = Vec::new();
    for id in &args.ids {
        let found = lookup::find(store, &args.place, id).await?;
        match found.one(&args.place, id) {
            Ok(row) if row.status.parse().is_ok_and(revivable) => keys.push(row.key()),
            Ok(row) => report.errors.push(format!(
                "batch {} is {}: only lost and refused batches can be revived",
                row.batch_id, row.status
            )),
            Err(error) => report.errors.push(error),
        }
    }
    if !keys.is_empty() {
        report.revived = store.revive_batches(&keys, Timestamp::now()).await?;
    }
    Ok(())
}

async fn all(
    store: &Store,
    place: &PlaceArgs,
    status: Status,
    report: &mut Report,
) -> Result<(), Failure> {
    let progress = Progress::new("reviving batches", None);
    let mut filter = BatchFilter {
        ledger: Some(place.ledger.clone()),
        service_id: place.service.clone(),
        status: Some(status),
        limit: CHUNK,
        ..BatchFilter::default()
    };
    loop {
        let page = store.list_batches(&filter).await?;
        let keys: Vec<BatchKey> = page.rows.iter().map(BatchRow::key).collect();
        if keys.is_empty() {
            return Ok(());
        }
        report.revived += store.revive_batches(&keys, Timestamp::now()).await?;
        progress.advance(keys.len());
        match page.next {
            Some(next) => filter.before_seq = Some(next),
            None => return Ok(()),
        }
    }
}
