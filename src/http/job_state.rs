//! How a job fares, in one word and by how much it wants to be looked at.

use super::jobs::JobReport;
use super::revive;
use crate::config::JobSettings;
use crate::flows::sites::{JobView, RetryPolicy};
use crate::time::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// From when on the oldest due site is told as late, where servers visit it.
const LATE: Duration = Duration::from_secs(300);
/// Longest that sites may be due, whatever the policy, where only `highwater
/// poll` visits them.
const MOST_PATIENCE: Duration = Duration::from_secs(7 * 86_400);

/// How a job fares, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobState {
    /// Sites are visited when they are due.
    Visiting,
    /// A site has been due for too long: for more than five minutes; where
    /// only `highwater poll` visits, for more than the shortest period of the
    /// retry policy.
    Late,
    /// Some of its sites were given up.
    GivenUp,
    /// All of its enabled sites were given up.
    AllGivenUp,
    /// More visits fail than go well, of those in the last hour; without any,
    /// more sites stand failing than well.
    Failing,
    /// The job does not run as it should.
    Broken,
    /// No server has any of its shards yet.
    Waiting,
    /// Other servers have its shards.
    Elsewhere,
    /// Servers leave it to `highwater poll` (`server = false`).
    PollOnly,
    /// No longer configured: its rows stay and its sites are not visited.
    NotConfigured,
}

/// How much a job wants to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// All is well, or nothing is known.
    None,
    /// A person should look at it: yellow.
    Look,
    /// It does not do what it is there for: red.
    Bad,
}

impl JobState {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Visiting,
        Self::Late,
        Self::GivenUp,
        Self::AllGivenUp,
        Self::Failing,
        Self::Broken,
        Self::Waiting,
        Self::Elsewhere,
        Self::PollOnly,
        Self::NotConfigured,
    ];

    /// The words on pages; docs/sites.md explains them.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Visiting => "visiting",
            Self::Late => "late",
            Self::GivenUp => "sites given up",
            Self::AllGivenUp => "all given up",
            Self::Failing => "most visits fail",
            Self::Broken => "broken",
            Self::Waiting => "not started yet",
            Self::Elsewhere => "held elsewhere",
            Self::PollOnly => "by highwater poll",
            Self::NotConfigured => "not configured",
        }
    }

    /// The word in JSON and metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Visiting => "visiting",
            Self::Late => "late",
            Self::GivenUp => "given_up",
            Self::AllGivenUp => "all_given_up",
            Self::Failing => "failing",
            Self::Broken => "broken",
            Self::Waiting => "waiting",
            Self::Elsewhere => "elsewhere",
            Self::PollOnly => "poll_only",
            Self::NotConfigured => "not_configured",
        }
    }
}

/// One word for a configured job, what is worst wins; and how bad it is.
pub(super) fn judge(
    job: &JobSettings,
    view: Option<&JobView>,
    report: &JobReport,
    now: Timestamp,
) -> (JobState, Severity) {
    let sites = |word: &str| report.sites.get(word).copied().unwrap_or(0);
    let (well, failing, given_up) = (sites("well"), sites("failing"), report.given_up());
    if report.last_error.is_some() {
        return (JobState::Broken, Severity::Bad);
    }
    if given_up > 0 && well + failing + sites("never") == 0 {
        return (JobState::AllGivenUp, Severity::Bad);
    }
    let hour = report.last_hour;
    let fails = if hour.successes + hour.failures > 0 {
        hour.failures > hour.successes
    } else {
        failing > well
    };
    if fails {
        // Of few sites that are visited often, many visits may fail.
        let few = failing + given_up < well;
        let severity = if few { Severity::Look } else { Severity::Bad };
        return (JobState::Failing, severity);
    }
    let least = if given_up > 0 {
        Severity::Look
    } else {
        Severity::None
    };
    let held = |mine: bool| {
        let mut shards = report.shards.iter();
        shards.any(|s| s.holder.is_some() && s.held == mine)
    };
    let ours = held(true) || view.is_some_and(|view| view.shards.iter().any(|shard| shard.held));
    let most = if job.server {
        LATE
    } else {
        patience(&job.retry)
    };
    if report.oldest_due_at.is_some_and(|at| now.since(at) > most) {
        return (JobState::Late, Severity::Look);
    }
    if job.server && !ours && !held(false) {
        return (JobState::Waiting, least);
    }
    let state = if given_up > 0 {
        JobState::GivenUp
    } else if !job.server {
        JobState::PollOnly
    } else if ours {
        JobState::Visiting
    } else {
        JobState::Elsewhere
    };
    (state, least)
}

/// How long a site may be due that only `highwater poll` visits: as long as the
/// shortest period of the policy, since whoever asks for that period has cron
/// run about as often; at least as long as with servers, a week at most.
fn patience(policy: &RetryPolicy) -> Duration {
    let periods = policy.levels().iter().map(|level| level.period);
    periods.min().unwrap_or(LATE).clamp(LATE, MOST_PATIENCE)
}

/// What a person should look at of a job, in sentences; the worst first.
pub(super) fn warnings(job: &JobReport, now: Timestamp) -> Vec<String> {
    let key = format!("job {}/{}", job.app, job.name);
    let mut told = Vec::new();
    match job.state {
        JobState::Broken => {
            let error = job.last_error.as_deref().unwrap_or("no error was kept");
            let again = match job.retry_at.filter(|at| *at > now) {
                Some(at) => format!(" (tried again in {} s)", at.since(now).as_secs() + 1),
                None => String::new(),
            };
            told.push(format!("{key} does not run as it should: {error}{again}"));
        }
        JobState::Late => {
            let minutes = job
                .oldest_due_at
                .map_or(0, |at| now.since(at).as_secs() / 60);
            let why = if job.server == Some(false) {
                "; servers leave it to `highwater poll`: see whether cron runs that"
            } else {
                ""
            };
            let are = if job.due == 1 { "site is" } else { "sites are" };
            told.push(format!(
                "{key} is late: {} {are} due, the oldest for {minutes} min{why}",
                job.due
            ));
        }
        JobState::Failing => {
            let visits = job.last_hour.failures + job.last_hour.successes;
            told.push(if visits > 0 {
                format!(
                    "{} of {visits} visits of {key} failed in the last hour",
                    job.last_hour.failures
                )
            } else {
                format!("more sites of {key} fail than are well")
            });
        }
        _ => {}
    }
    let given_up = job.given_up();
    if job.configured && given_up > 0 {
        let enabled: i64 =
            job.sites.values().sum::<i64>() - job.sites.get("disabled").copied().unwrap_or(0);
        let how_many = if given_up == enabled {
            format!("all {enabled}")
        } else {
            format!("{given_up} of {enabled}")
        };
        told.push(format!(
            "{how_many} sites of {key} were given up: once what failed is mended, run `{}`",
            revive::of_job(&job.app, &job.name)
        ));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patience_with_cron_is_the_policys_shortest_period() {
        let patience = |policy: &str| patience(&policy.parse().unwrap()).as_secs();
        assert_eq!(patience("2 hour (x1); 30 min (x24); 1 day (x30)"), 1800);
        assert_eq!(patience("1 sec (x3)"), 300);
        assert_eq!(patience("1 month (x3)"), 7 * 86_400);
    }

    #[test]
    fn the_words_are_those_of_json() {
        for state in JobState::ALL {
            let json = serde_json::to_value(state).unwrap();
            assert_eq!(json, state.word());
        }
    }
}
