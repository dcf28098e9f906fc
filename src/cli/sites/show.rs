//! `highwater sites show`: all that is kept of one site.

use super::list;
use crate::cli::audit::one_line;
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs};
use crate::config::Loaded;
use crate::store::{JobDetail, SiteDetail};
use crate::time::Timestamp;
use clap::Args;

/// Results of a job that a table shows; JSON has all.
const RESULTS: usize = 5;

/// Shows one site: how it stands with each job, and what was learned.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater sites show s1
  highwater sites show s1 --output json | jq '.jobs[] | {job_name, results}'")]
pub(in crate::cli) struct ShowArgs {
    /// Site id.
    #[arg(value_name = "SITE")]
    site_id: String,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: &ShowArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let Some(detail) = store.site(&args.site_id).await? else {
        return Err(Failure::Failed(super::not_kept(&args.site_id)));
    };
    if args.output.is_json() {
        return output::print_json(&detail);
    }
    output::print(text(&detail, Timestamp::now()))
}

fn text(detail: &SiteDetail, now: Timestamp) -> String {
    let SiteDetail { site, jobs } = detail;
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
    let mut text = output::lines(&mut table);
    for job in jobs {
        text.push_str("\n\n");
        text.push_str(&job_text(job, now));
    }
    text
}

fn job_text(job: &JobDetail, now: Timestamp) -> String {
    let status = &job.status;
    let mut table = output::table(&[]);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            table.add_row([name.to_owned(), value]);
        }
    };
    let at = |at: Option<Timestamp>| at.map_or_else(String::new, |at| time(at, now));
    line("job", one_line(&status.job_name));
    line("level", status.level.to_string());
    line("failures at it", status.count.to_string());
    line("last run", at(status.last_run_at));
    line("outcome", status.last_outcome.clone().unwrap_or_default());
    let took = status.last_duration_ms.map(|millis| format!("{millis} ms"));
    line("took", took.unwrap_or_default());
    line(
        "last error",
        one_line(status.last_error.as_deref().unwrap_or_default()),
    );
    line("next due", list::next_due(status, now));
    line("given up", at(status.given_up_at));
    for result in job.results.iter().take(RESULTS) {
        line("learned", time(result.run_at, now));
        line("", one_line(&result.document));
    }
    output::lines(&mut table)
}

fn time(at: Timestamp, now: Timestamp) -> String {
    format!("{at} ({})", output::relative(at, now))
}
