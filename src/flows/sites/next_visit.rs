//! When a site is visited next by a job, and why then: one sentence.

use super::policy::{Level, RetryPolicy};
use crate::config::JobSettings;
use crate::store::StatusRow;
use crate::time::Timestamp;
use serde::Serialize;

/// What is known of a site and a job.
#[derive(Clone, Copy, Debug)]
pub struct SiteSituation<'a> {
    /// Whether the site is enabled.
    pub enabled: bool,
    /// The job; `None` when it is not configured.
    pub job: Option<&'a JobSettings>,
    /// How it stands; `None` when the job never met it.
    pub status: Option<&'a StatusRow>,
    /// Until when its host asked to be left alone.
    pub paused_until: Option<Timestamp>,
}

/// When a site is visited next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct NextVisit {
    /// From when on; null when it is not visited any more.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// Why, in a sentence.
    pub why: String,
}

/// When and why.
pub fn next_visit(situation: &SiteSituation<'_>, now: Timestamp) -> NextVisit {
    let never = |why: &str| NextVisit {
        at: None,
        why: why.to_owned(),
    };
    if !situation.enabled {
        return never("disabled: it is not visited until it is enabled");
    }
    let Some(job) = situation.job else {
        return never("the job is not in the configuration: it visits nothing");
    };
    let status = situation.status;
    if status.is_some_and(|status| status.given_up_at.is_some()) {
        return never(
            "given up, having failed through all levels of the retry policy: revive it to have it visited again",
        );
    }
    let mut next = match status.filter(|status| status.last_run_at.is_some()) {
        None => NextVisit {
            at: Some(now),
            why: if status.is_some_and(StatusRow::is_revived) {
                "revived: due at once; its history is kept".to_owned()
            } else {
                "due at once".to_owned()
            },
        },
        Some(status) => NextVisit {
            at: Some(status.next_due_at.unwrap_or(now)),
            why: after_a_visit(status, &job.retry),
        },
    };
    if let (Some(at), Some(until)) = (next.at, situation.paused_until)
        && until > at.max(now)
    {
        next.at = Some(until);
        next.why
            .push_str("; its host asked to be left alone until then");
    }
    if !job.server {
        next.why.push_str(", by highwater poll alone");
    }
    next
}

fn after_a_visit(status: &StatusRow, policy: &RetryPolicy) -> String {
    let standing = level(status, policy);
    let period = period(policy.level(standing));
    if status.last_outcome.as_deref() == Some("success") {
        return format!("success: {period} after the last visit");
    }
    match (status.count, standing) {
        // The failures that led here were counted at the level before.
        (0, 0) => format!("failed: {period} after the last visit"),
        (0, _) => {
            let failures = policy.level(standing - 1).count;
            let times = if failures == 1 {
                "once"
            } else {
                &format!("{failures} times")
            };
            format!(
                "failed {times} at level {}: {period} after the last visit, from now on",
                standing - 1
            )
        }
        (1, _) => format!("failed once at this level: {period} after the last visit"),
        (count, _) => format!("failed {count} times at this level: {period} after the last visit"),
    }
}

/// The level at which it stands, from 0: the last one where the policy has
/// lost levels.
fn level(status: &StatusRow, policy: &RetryPolicy) -> usize {
    let level = usize::try_from(status.level).unwrap_or(0);
    level.min(policy.levels().len() - 1)
}

/// `2 hour`.
fn period(level: Level) -> String {
    let text = RetryPolicy::new(vec![level]).map_or_else(String::new, |policy| policy.to_string());
    let end = text.find(" (").unwrap_or(text.len());
    text[..end].to_owned()
}

/// How it stands under the policy: `level 0 (20 min), 3 of 6 failures`.
pub fn standing_text(status: &StatusRow, job: Option<&JobSettings>) -> String {
    let Some(job) = job else {
        return format!("level {}, {} in a row failed", status.level, status.count);
    };
    if status.given_up_at.is_some() {
        let levels = job.retry.levels().len();
        return format!("past the last of {levels} levels");
    }
    let standing = level(status, &job.retry);
    format!(
        "level {standing} ({}), {} of {} failures",
        period(job.retry.level(standing)),
        status.count,
        job.retry.level(standing).count
    )
}
