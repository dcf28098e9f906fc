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

/// Says that the batch is somebody else's, and whose.
fn sentence(args: &PollArgs, planned: &Planned, holders: &[LeaseRow]) -> String {
    format!(
        "declined: batch {} of job {} is being handled: {}",
        args.batch,
        planned.job.key,
        who(holders)
    )
}

/// Says who has the batch codes; each holder once.
pub(super) fn who(holders: &[LeaseRow]) -> String {
    let mut named: Vec<(HolderReport, Vec<String>)> = Vec::new();
    for row in holders {
        let row = HolderReport::from(row);
        let codes = row.codes.clone();
        let known = named
            .iter_mut()
            .find(|(known, _)| known.holder == row.holder);
        match known {
            Some((known, all)) => {
                known.since = known.since.min(row.since);
                all.push(codes);
            }
            None => named.push((row, vec![codes])),
        }
    }
    if named.is_empty() {
        return "somebody else had it a moment ago".to_owned();
    }
    let words = named.iter().map(|(row, codes)| {
        let who = if row.poll { "another poll" } else { "server" };
        let since = row
            .since
            .map_or_else(String::new, |at| format!(" since {at}"));
        format!(
            "{who} {} has batch codes {}{since}",
            row.holder,
            codes.join(", ")
        )
    });
    words.collect::<Vec<_>>().join("; ")
}
