//! `highwater sites show`: all that is kept of one site.

use crate::cli::audit::one_line;
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs};
use crate::config::{JobSettings, Loaded};
use crate::flows::sites::{
    JobToCome, NextVisit, SiteReport, SiteWithJob, site_report, standing_text,
};
use crate::time::Timestamp;
use clap::Args;

/// Results of a job that a table shows; JSON has all.
const RESULTS: usize = 5;
/// Visits of a job that a table shows; JSON has all.
const VISITS: usize = 20;

/// Shows one site: how it stands with each job, its visits, what was learned,
/// and when it is visited next and why.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater sites show s1
  highwater sites show s1 --output json | jq '.jobs[] | {job_name, next_visit, visits}'")]
pub(in crate::cli) struct ShowArgs {
    /// Site id.
    #[arg(value_name = "SITE")]
    site_id: String,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: &ShowArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let now = Timestamp::now();
    let Some(report) = site_report(&store, &loaded.settings, &args.site_id, now).await? else {
        return Err(Failure::Failed(super::not_kept(&args.site_id)));
    };
    if args.output.is_json() {
        return output::print_json(&report);
    }
    output::print(text(&report, loaded, now))
}

fn text(report: &SiteReport, loaded: &Loaded, now: Timestamp) -> String {
    let SiteReport {
        site,
        paused_until,
        jobs,
        jobs_to_come,
    } = report;
    let mut table = output::table(&[]);
    for (name, value) in [
        ("site", one_line(&site.site_id)),
        ("app", one_line(&site.app_id)),
        ("url", one_line(&site.url)),
        ("batch code", site.batch_code.to_string()),
        (
            "enabled",
            if site.enabled { "yes" } else { "no" }.to_owned(),
        ),
        ("labels", one_line(&site.labels)),
        ("added", time(site.created_at, now)),
    ] {
        table.add_row([name.to_owned(), value]);
    }
    if let Some(until) = paused_until {
        let until = format!("asked to be left alone until {}", time(*until, now));
        table.add_row(["its host".to_owned(), until]);
    }
    let mut text = output::lines(&mut table);
    for job in jobs {
        let mut configured = loaded.settings.jobs.iter();
        let configured = configured.find(|known| {
            known.key.app.as_str() == site.app_id && *known.key.name == *job.status.job_name
        });
        text.push_str("\n\n");
        text.push_str(&job_text(job, configured, now));
    }
    for JobToCome {
        job_name,
        next_visit,
    } in jobs_to_come
    {
        let mut table = output::table(&[]);
        table.add_row(["job".to_owned(), one_line(job_name)]);
        table.add_row(["next visit".to_owned(), next(next_visit, false, now)]);
        text.push_str("\n\n");
        text.push_str(&output::lines(&mut table));
    }
    if jobs.is_empty() && jobs_to_come.is_empty() {
        text.push_str("\n\nno job of its app is configured: nothing visits this site");
    }
    text
}

fn job_text(job: &SiteWithJob, configured: Option<&JobSettings>, now: Timestamp) -> String {
    let status = &job.status;
    let mut table = output::table(&[]);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            table.add_row([name.to_owned(), value]);
        }
    };
    let at = |at: Option<Timestamp>| at.map_or_else(String::new, |at| time(at, now));
    line("job", one_line(&status.job_name));
    line("stands at", standing_text(status, configured));
    line("last run", at(status.last_run_at));
    line("outcome", status.last_outcome.clone().unwrap_or_default());
    let took = status
        .last_duration_ms
        .map(|millis| output::millis(u64::try_from(millis).unwrap_or(0)));
    line("took", took.unwrap_or_default());
    line(
        "last error",
        one_line(status.last_error.as_deref().unwrap_or_default()),
    );
    line("given up", at(status.given_up_at));
    let visited = status.last_run_at.is_some();
    line("next visit", next(&job.next_visit, visited, now));
    for (index, visit) in job.visits.iter().take(VISITS).enumerate() {
        let name = if index == 0 { "visits" } else { "" };
        let outcome = visit.kind.unwrap_or(visit.outcome);
        let took = output::millis(visit.duration_ms);
        line(name, format!("{}  {outcome}  {took}", time(visit.at, now)));
    }
    for result in job.results.iter().take(RESULTS) {
        line("learned", time(result.run_at, now));
        line("", one_line(&result.document));
    }
    output::lines(&mut table)
}

/// When it is visited next, and why then; as the page has it.
fn next(next: &NextVisit, visited: bool, now: Timestamp) -> String {
    match next.at {
        Some(at) if at > now => format!("{} ({})", output::relative(at, now), next.why),
        Some(at) if visited => format!("due since {at} ({})", next.why),
        Some(_) => next.why.clone(),
        None => format!("none ({})", next.why),
    }
}

fn time(at: Timestamp, now: Timestamp) -> String {
    format!("{at} ({})", output::relative(at, now))
}
