//! What the status page tells of jobs; nothing where there are none.

use super::format::{Tone, cut, span, thousands};
use super::{job_card, jobs};
use crate::http::jobs::{JobReport, JobState, Jobs, Severity};
use crate::time::Timestamp;
use maud::{Markup, html};

/// Most sentences told of jobs in the headline.
const MOST_REASONS: usize = 3;

/// Tone, shape and words on top of the page.
pub(super) type Verdict = (Tone, &'static str, String);

/// The sentence on top where jobs are configured; what is worst is said.
fn verdict(jobs: &Jobs) -> Option<Verdict> {
    let configured = jobs.jobs.iter().filter(|job| job.configured).count();
    if configured == 0 {
        return None;
    }
    let with = |state| jobs.jobs.iter().filter(|job| job.state == state).count();
    let noun = if configured == 1 { "job" } else { "jobs" };
    let bad = |state| {
        let is = |job: &&JobReport| job.state == state && job.severity == Severity::Bad;
        jobs.jobs.iter().filter(is).count()
    };
    let looked_at = jobs
        .jobs
        .iter()
        .filter(|job| job.configured && job.given_up() > 0);
    let given_up = looked_at.count();
    let of = |count: usize| format!("{count} of {configured} {noun}");
    let told = |count: usize, one: &str, many: &str| {
        format!(
            "{count} of {configured} {noun} {}",
            if count == 1 { one } else { many }
        )
    };
    let broken = with(JobState::Broken);
    let (late, failing) = (with(JobState::Late), with(JobState::Failing));
    Some(if broken > 0 {
        let words = told(
            broken,
            "does not run as it should",
            "do not run as they should",
        );
        (Tone::Bad, "▲", words)
    } else if bad(JobState::AllGivenUp) > 0 {
        let words = format!(
            "All sites of {} were given up",
            of(bad(JobState::AllGivenUp))
        );
        (Tone::Bad, "▽", words)
    } else if bad(JobState::Failing) > 0 {
        let words = format!("Most visits of {} fail", of(bad(JobState::Failing)));
        (Tone::Bad, "▽", words)
    } else if late > 0 {
        (Tone::Warn, "◐", told(late, "is late", "are late"))
    } else if failing > 0 {
        let words = format!("Most visits of {} fail", of(failing));
        (Tone::Warn, "▽", words)
    } else if given_up > 0 {
        let words = format!("Sites of {} were given up", of(given_up));
        (Tone::Warn, "▽", words)
    } else if with(JobState::Visiting) > 0 {
        (
            Tone::Good,
            "●",
            "All sites are visited when they are due".to_owned(),
        )
    } else if with(JobState::Elsewhere) > 0 {
        (Tone::Quiet, "◇", "Other servers visit the sites".to_owned())
    } else if with(JobState::PollOnly) == configured {
        let words = "Servers leave the sites to highwater poll".to_owned();
        (Tone::Quiet, "○", words)
    } else {
        (Tone::Quiet, "○", "No job was started yet".to_owned())
    })
}

/// The sentence on top, of what is told of ledgers and of jobs: the worse one;
/// that of ledgers where both are as bad, unless it says that there are none.
pub(super) fn worse(of_ledgers: Verdict, jobs: &Jobs, ledgers: usize) -> Verdict {
    let rank = |tone| match tone {
        Tone::Bad => 2,
        Tone::Warn => 1,
        Tone::Good | Tone::Quiet => 0,
    };
    match verdict(jobs) {
        Some(of_jobs) if rank(of_jobs.0) > rank(of_ledgers.0) => of_jobs,
        Some(of_jobs) if ledgers == 0 && rank(of_ledgers.0) == 0 => of_jobs,
        Some((Tone::Good, ..)) if of_ledgers.0 == Tone::Good => {
            let (tone, shape, words) = of_ledgers;
            let words = format!("{words}, and all sites are visited when they are due");
            (tone, shape, words)
        }
        _ => of_ledgers,
    }
}

/// What is wrong with jobs, of the first few.
pub(super) fn reasons(jobs: &Jobs, now: Timestamp) -> Markup {
    let warnings = jobs.warnings(now);
    html! {
        @for warning in warnings.iter().take(MOST_REASONS) { p.words { (cut(warning, 300)) } }
        @if warnings.len() > MOST_REASONS { p.note { "and " (thousands(warnings.len() - MOST_REASONS)) " more" } }
    }
}

/// Sums over the configured jobs.
pub(super) fn totals(jobs: &Jobs, now: Timestamp) -> Markup {
    let configured = || jobs.jobs.iter().filter(|job| job.configured);
    let due: i64 = configured().map(|job| job.due).sum();
    let oldest = configured().filter_map(|job| job.oldest_due_at).min();
    let visits = |job: &JobReport| job.last_hour.successes + job.last_hour.failures;
    html! {
        @if configured().next().is_some() {
            dl.totals {
                div { dt { "Sites due" } dd { (thousands(due)) } }
                div { dt { "Oldest site due" } dd {
                    @match oldest {
                        Some(at) => time datetime=(at) title=(at) { (span(now.since(at))) },
                        None => span.none { "–" },
                    }
                } }
                div { dt { "Visits under way or being written" } dd { (thousands(configured().map(|job| job.in_flight).sum::<usize>())) } }
                div { dt { "Visits, 1 h" } dd { (thousands(configured().map(visits).sum::<i64>())) } }
            }
        }
    }
}

/// The cards; says that their figures are old where nothing else `told` so.
pub(super) fn section(all: &Jobs, told: bool, now: Timestamp) -> Markup {
    html! {
        @if !all.jobs.is_empty() {
            h2 { "Jobs" }
            @if !told { (jobs::old_figures(all.problem.as_deref(), all.read_at, now)) }
            div.ledgers { @for job in &all.jobs { (job_card::card(job, now)) } }
            (jobs::more(all))
        }
    }
}
