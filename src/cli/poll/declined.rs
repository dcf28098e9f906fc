//! What a poll tells that finds its batch with somebody else.

use super::{Planned, PollArgs};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::store::{LeaseRow, RUNNER_PREFIX};
use crate::time::Timestamp;
use serde::Serialize;

/// What `--output json` prints where somebody else has the batch.
#[derive(Debug, Serialize)]
struct Declined {
    /// Always true.
    declined: bool,
    job: String,
    batch: String,
    /// None where the other one has just ended.
    holders: Vec<HolderReport>,
}

/// Who has batch codes.
#[derive(Debug, Serialize)]
pub(super) struct HolderReport {
    holder: String,
    /// Whether it is another poll; else it is a server.
    poll: bool,
    /// `0-2499`.
    codes: String,
    since: Option<Timestamp>,
}

impl From<&LeaseRow> for HolderReport {
    fn from(row: &LeaseRow) -> Self {
        let runner = row.holder.strip_prefix(RUNNER_PREFIX);
        Self {
            holder: runner.unwrap_or(&row.holder).to_owned(),
            poll: runner.is_some(),
            codes: row.name.rsplit(':').next().unwrap_or_default().to_owned(),
            since: row.acquired_at,
        }
    }
}

/// Says that the batch is somebody else's.
pub(super) fn tell(
    args: &PollArgs,
    planned: &Planned,
    holders: &[LeaseRow],
) -> Result<(), Failure> {
    if args.output.is_json() {
        return output::print_json(&Declined {
            declined: true,
            job: planned.job.key.to_string(),
            batch: args.batch.to_string(),
            holders: holders.iter().map(HolderReport::from).collect(),
        });
    }
    output::print(sentence(args, planned, holders))
}

/// Says who has the sites.
pub(super) fn sentence(args: &PollArgs, planned: &Planned, holders: &[LeaseRow]) -> String {
    let holders: Vec<String> = holders
        .iter()
        .map(|row| {
            let row = HolderReport::from(row);
            let who = if row.poll {
                format!("another poll ({})", row.holder)
            } else {
                format!("server {}", row.holder)
            };
            let codes = row.codes;
            let since = row
                .since
                .map_or_else(String::new, |at| format!(" since {at}"));
            format!("{who} has batch codes {codes}{since}")
        })
        .collect();
    let who = if holders.is_empty() {
        "somebody else had it a moment ago".to_owned()
    } else {
        holders.join("; ")
    };
    format!(
        "declined: batch {} of job {} is being handled: {who}",
        args.batch, planned.job.key
    )
}
