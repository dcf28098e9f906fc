//! A job's card, on the status page and on the page of jobs; and the pieces
//! that the page of one job shows too.

use super::format::{Tone, ago, badge, counted, cut, encode, span, thousands};
use crate::http::jobs::{JobReport, JobState, Severity, ShardReport};
use crate::http::revive;
use crate::store::Outcomes;
use crate::time::Timestamp;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Words of counts, in the order of the bar, with what a person reads and
/// what the list of sites is asked for.
const STANDINGS: [(&str, &str); 5] = [
    ("well", "well"),
    ("failing", "failing"),
    ("given_up", "given up"),
    ("never", "never visited"),
    ("disabled", "disabled"),
];

/// Address of a job's page.
pub(super) fn job_href(app: &str, name: &str) -> String {
    format!("/jobs/{}/{}", encode(app), encode(name))
}

/// Address of a list of sites, by the filters that are not empty.
pub(super) fn sites_href(filters: &[(&str, &str)]) -> String {
    let mut href = String::from("/sites");
    for (name, value) in filters.iter().filter(|(_, value)| !value.is_empty()) {
        href.push(if href.contains('?') { '&' } else { '?' });
        href.push_str(name);
        href.push('=');
        href.push_str(&encode(value));
    }
    href
}

/// How a job fares.
pub(super) fn state_badge(job: &JobReport) -> Markup {
    let (usual, shape) = match job.state {
        JobState::Visiting => (Tone::Good, "●"),
        JobState::Late => (Tone::Warn, "◐"),
        JobState::Failing | JobState::GivenUp | JobState::AllGivenUp => (Tone::Warn, "▽"),
        JobState::Broken => (Tone::Bad, "▲"),
        JobState::Waiting | JobState::PollOnly => (Tone::Quiet, "○"),
        JobState::Elsewhere => (Tone::Quiet, "◇"),
        JobState::NotConfigured => (Tone::Warn, "⊘"),
    };
    let tone = match job.severity {
        Severity::Bad => Tone::Bad,
        Severity::Look => Tone::Warn,
        Severity::None => usual,
    };
    badge(tone, shape, job.state.as_str())
}

/// How a site stands with a job, by the word of the counts.
pub(super) fn standing_badge(standing: &str) -> Markup {
    let (tone, shape) = match standing {
        "well" => (Tone::Good, "●"),
        "failing" => (Tone::Warn, "◐"),
        "given_up" => (Tone::Bad, "▽"),
        "disabled" => (Tone::Quiet, "■"),
        _ => (Tone::Quiet, "○"),
    };
    let words = STANDINGS.iter().find(|(word, _)| *word == standing);
    badge(tone, shape, words.map_or(standing, |(_, words)| words))
}

/// The card.
pub(super) fn card(job: &JobReport, now: Timestamp) -> Markup {
    html! {
        article.card {
            header {
                h3 { a href=(job_href(&job.app, &job.name)) { (cut(&job.app, 80)) "/" wbr; (cut(&job.name, 80)) } }
                (state_badge(job))
            }
            @match &job.retry {
                Some(retry) => p.kind { (cut(retry, 120)) },
                None => p.kind { "Not in the configuration: its sites are not visited." },
            }
            (trouble(job, now))
            (figures(job, now))
            (shares(job))
            (given_up(job))
            @if !job.shards.is_empty() { p.note { (held(&job.shards)) } }
        }
    }
}

/// Why the job does not run as it should.
fn trouble(job: &JobReport, now: Timestamp) -> Markup {
    html! {
        @if let Some(error) = &job.last_error {
            div.trouble { p.words { (cut(error, 400)) } (tried_again(job, now)) }
        }
    }
}

/// When a handler that cannot work at all is tried again.
pub(super) fn tried_again(job: &JobReport, now: Timestamp) -> Markup {
    html! {
        @if let Some(at) = job.retry_at {
            p { "No site is blamed for it. "
                @if at > now { "Tried again " (ago(at, now)) "." } @else { "It is being tried again." }
            }
        }
    }
}

/// How sites that were given up are taken up again.
pub(super) fn given_up(job: &JobReport) -> Markup {
    html! {
        @if job.configured && job.given_up() > 0 {
            p.note { "Sites that were given up are not visited until they are revived: "
                code { (revive::of_job(&job.app, &job.name)) } }
        }
    }
}

/// The numbers of a card.
pub(super) fn figures(job: &JobReport, now: Timestamp) -> Markup {
    let sites: i64 = job.sites.values().sum();
    html! {
        dl.figures {
            div { dt { "Sites" } dd { (thousands(sites)) } }
            @if job.configured {
                div { dt { "Due" } dd { (thousands(job.due)) } }
                div { dt { "Oldest due" } dd {
                    @match job.oldest_due_at {
                        Some(at) => time datetime=(at) title=(at) { (span(now.since(at))) },
                        None => span.none { "–" },
                    }
                } }
                div { dt { "Under way or being written" } dd { (thousands(job.in_flight)) } }
                div { dt { "Well, 1 h" } dd { (rate(job.last_hour)) } }
                div { dt { "Well, 24 h" } dd { (rate(job.last_day)) } }
            }
        }
    }
}

/// The share of visits that went well, all of them in its title.
fn rate(outcomes: Outcomes) -> Markup {
    let visits = counted(outcomes.successes + outcomes.failures, "visit", "visits");
    html! {
        @match outcomes.success_rate() {
            Some(rate) => span title={ (thousands(outcomes.failures)) " of " (visits) " failed" } { (percent(rate)) },
            None => span.none title="no visit" { "–" },
        }
    }
}

/// A share in percent; neither all nor none unless it is.
pub(super) fn percent(share: f64) -> String {
    let tenths = (share * 1000.0).round();
    if share > 0.0 && tenths < 1.0 {
        return "<0.1 %".to_owned();
    }
    if share < 1.0 && tenths > 999.0 {
        return ">99.9 %".to_owned();
    }
    if tenths % 10.0 == 0.0 {
        format!("{:.0} %", tenths / 10.0)
    } else {
        format!("{:.1} %", tenths / 10.0)
    }
}

/// Sites by how they stand: a bar, and the same in words.
pub(super) fn shares(job: &JobReport) -> Markup {
    let total: i64 = job.sites.values().sum();
    if total <= 0 {
        return html! { p.empty { "No sites." } };
    }
    let words = STANDINGS.map(|(word, _)| word);
    bar(&words, &job.sites, total, |word, count| {
        html! { a href=(sites_of(job, word)) {
            (standing_badge(word)) " " span.num { (thousands(count)) }
        } }
    })
}

/// A bar of how many there are of each word, in their order, and below it an
/// entry for each word of which there are any.
pub(super) fn bar(
    words: &[&'static str],
    counts: &BTreeMap<String, i64>,
    total: i64,
    entry: impl Fn(&'static str, i64) -> Markup,
) -> Markup {
    let mut at = 0.0;
    let mut pieces = Vec::new();
    for word in words {
        let count = counts.get(*word).copied().unwrap_or(0);
        if count > 0 {
            // Thin pieces stay visible.
            let width = (count as f64 / total as f64 * 100.0).max(0.6);
            pieces.push((*word, count, at, width));
            at += width;
        }
    }
    html! {
        svg.bar viewBox={ "0 0 " (format!("{at:.2}")) " 4" } preserveAspectRatio="none" aria-hidden="true" {
            @for (word, _, x, width) in &pieces {
                rect class=(word) x=(format!("{x:.2}")) y="0" width=(format!("{width:.2}")) height="4" {}
            }
        }
        ul.counts {
            @for (word, count, _, _) in &pieces { li { (entry(word, *count)) } }
        }
    }
}

/// The list of a job's sites that stand so; of those that fail, the ones that
/// failed most are first.
fn sites_of(job: &JobReport, standing: &str) -> String {
    let (app, name) = (job.app.as_str(), job.name.as_str());
    let mut filters = vec![("app", app), ("job", name), ("state", standing)];
    if standing == "failing" {
        filters.extend([("sort", "level"), ("descending", "true")]);
    }
    sites_href(&filters)
}

/// Who holds how many shards, in a sentence.
fn held(shards: &[ShardReport]) -> String {
    let mine = shards.iter().filter(|shard| shard.held).count();
    let others = shards
        .iter()
        .filter(|s| !s.held && s.holder.is_some())
        .count();
    let total = counted(shards.len(), "shard", "shards");
    match (mine, others) {
        (0, 0) => format!("{total}, held by nobody."),
        (mine, 0) if mine == shards.len() => format!("{total}, held by this server."),
        (0, others) if others == shards.len() => format!("{total}, held by other servers."),
        (mine, 0) => format!("{total}, {} held by this server.", thousands(mine)),
        (0, others) => format!("{total}, {} held by other servers.", thousands(others)),
        (mine, others) => format!(
            "{total}, {} held by this server and {} by others.",
            thousands(mine),
            thousands(others)
        ),
    }
}

/// A range of batch codes and who has it, as a row.
pub(super) fn shard_row(shard: &ShardReport, now: Timestamp) -> Markup {
    html! { tr {
        th scope="row" { (shard.shard.as_deref().unwrap_or("–")) }
        td data-label="Codes" { (shard.codes) }
        td data-label="Held by" {
            @match &shard.holder {
                Some(_) if shard.held => "this server",
                Some(holder) => code { (cut(holder, 80)) },
                None => span.none { "nobody" },
            }
        }
        td data-label="Since" {
            @match shard.since {
                Some(at) => (ago(at, now)),
                None => span.none { "–" },
            }
        }
    } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_neither_all_nor_none_unless_they_are() {
        for (share, text) in [
            (0.0, "0 %"),
            (0.0001, "<0.1 %"),
            (0.5, "50 %"),
            (0.987, "98.7 %"),
            (0.99999, ">99.9 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(percent(share), text);
        }
    }
}
