//! What an outcome makes of a site: the row that is written.

use super::poll_log::poll_log_entry;
use super::standing::Standing;
use super::work::SitesOutcome;
use crate::store::{DueSite, SiteChange};
use crate::time::Timestamp;
use std::time::Duration;

/// The part of a period by which a server may delay a visit.
pub(super) const MOST_DELAY: f64 = 0.05;

/// New and overdue sites of a job are visited at most so many a second, where that takes no longer than [`MOST_DELAY`] of the period.
const CATCH_UP_RATE: u32 = 200;

/// How far apart a server puts the visits of so many sites of a shard that are
/// all due at once (new, or overdue after a pause); the job has so many shards.
pub(super) fn spacing(count: u64, period: Duration, shards: u16) -> Duration {
    let apart = Duration::from_secs(1) * u32::from(shards.max(1)) / CATCH_UP_RATE;
    #[expect(clippy::cast_precision_loss, reason = "a spacing need not be exact")]
    let within = period.mul_f64(MOST_DELAY / count.max(1) as f64);
    apart.min(within)
}

/// The standing of a row as it was read.
pub(super) fn standing_of(site: &DueSite) -> Standing {
    let small = |number: i32| u32::try_from(number).unwrap_or(0);
    Standing {
        level: small(site.level),
        count: small(site.count),
        last_run_at: site.last_run_at,
        given_up_at: None,
    }
}

/// What a visit changes. `place` says where in time the next visit of a site
/// is put that is due at a point, with the period that led there.
pub fn change_of(
    outcome: &SitesOutcome,
    keep: usize,
    now: Timestamp,
    place: impl FnOnce(Timestamp, Duration) -> Timestamp,
) -> SiteChange {
    let policy = &outcome.work.job.retry;
    let result = &outcome.visited.result;
    let before = standing_of(&outcome.work.site);
    let after = before.after(policy, result.is_ok(), outcome.begun, now);
    let level = usize::try_from(after.level).unwrap_or(usize::MAX);
    let next = after
        .due_at(policy, outcome.begun)
        .map(|at| place(at, policy.level(level).period));
    let logged = result.as_ref().map(|_| ()).map_err(|error| error.kind);
    SiteChange {
        seq: outcome.work.site.seq,
        level: after.level,
        count: after.count,
        last_run_at: after.last_run_at,
        next_due_at: next,
        given_up_at: after.given_up_at,
        last_outcome: if result.is_ok() { "success" } else { "failure" },
        last_error: result
            .as_ref()
            .err()
            .map(|error| sql_text(&error.to_string())),
        last_duration_ms: i64::try_from(outcome.took.as_millis()).unwrap_or(i64::MAX),
        log: poll_log_entry(outcome.begun, &logged, outcome.took),
        job: outcome.work.job.key.clone(),
        document: result
            .as_ref()
            .ok()
            .and_then(|learned| learned.as_deref().map(sql_text)),
        pause: outcome
            .pause()
            .map(|until| (outcome.work.host.clone(), until)),
        keep,
    }
}

/// PostgreSQL takes no zero bytes in texts.
fn sql_text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
