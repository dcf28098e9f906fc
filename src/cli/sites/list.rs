//! `highwater sites list`.

use crate::cli::audit::one_line;
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs, note};
use crate::config::Loaded;
use crate::flows::sites::AppName;
use crate::store::{
    AppSites, SiteCursor, SiteFilter, SiteItem, SitePage, SiteSort, SiteState, StatusRow, Store,
    UnknownSiteWord,
};
use crate::time::Timestamp;
use clap::Args;
use serde::Serialize;
use std::io::{self, IsTerminal};
use std::time::Duration;

/// Apps without a job that are named.
const MOST_APPS: usize = 20;

// Help that has to name words with underscores, which comments would quote.
const STATES: &str = "Only those that stand so: due, waiting, given_up, disabled, never (never \
    visited, or revived since; needs --job), failing (the last visit failed, and not given up) or \
    well (the last visit succeeded)";
const ORDERS: &str = "In which order: site_id, next_due_at, last_run_at, level, batch_code or \
    created_at. The orders by times of visits and by level leave out sites without any \
    [default: next_due_at for what is due or waits, else site_id]";

/// Lists sites, and how they stand with a job.
///
/// A site that several jobs visit is listed once for each of them when the list
/// is chosen or sorted by how sites stand (--state, --level, --sort) and --job
/// names none.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater sites list
  highwater sites list --app org.civicrm.myapp --job default --state due --sort next_due_at
  highwater sites list --app org.civicrm.myapp --state failing --sort level --desc
  highwater sites list --state given_up --output json | jq -r '.items[].site_id'
  highwater sites list --text example.org --limit 20")]
pub(in crate::cli) struct ListArgs {
    /// Only of this app.
    #[arg(long, value_name = "APP", value_parser = super::app)]
    app: Option<AppName>,
    /// How they stand with this job.
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    #[arg(long, value_parser = state, help = STATES)]
    state: Option<SiteState>,
    /// Only those at this level of their job's retry policy.
    #[arg(long, value_name = "N")]
    level: Option<u32>,
    /// Only those whose id begins so, or whose address contains this.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    #[arg(long, value_parser = sort, help = ORDERS)]
    sort: Option<SiteSort>,
    /// The other way round.
    #[arg(long)]
    desc: bool,
    /// Sites on a page, at most 10000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    #[arg(value_name = "N")]
    limit: i64,
    /// Goes on after an earlier page: its "next".
    #[arg(long, value_name = "CURSOR", value_parser = cursor)]
    cursor: Option<SiteCursor>,
    #[command(flatten)]
    output: OutputArgs,
}

fn state(word: &str) -> Result<SiteState, UnknownSiteWord> {
    word.parse()
}

fn sort(word: &str) -> Result<SiteSort, UnknownSiteWord> {
    word.parse()
}

fn cursor(text: &str) -> Result<SiteCursor, &'static str> {
    SiteCursor::parse(text).ok_or("not a cursor of this list; take \"next\" of the page before")
}

/// The same shape as lists have over HTTP.
#[derive(Serialize)]
struct Page<'a> {
    items: &'a [SiteItem],
    next: Option<String>,
}

impl ListArgs {
    fn filter(&self) -> SiteFilter {
        SiteFilter {
            app: self.app.as_ref().map(|app| app.as_str().to_owned()),
            job: self.job.clone(),
            job_apps: Vec::new(),
            state: self.state,
            level: self.level,
            text: self.text.clone(),
            sort: self.sort.unwrap_or_else(|| SiteSort::usual(self.state)),
            descending: self.desc,
            cursor: self.cursor.clone(),
            limit: self.limit,
        }
    }

    /// Refuses what makes no sense, whatever the configuration.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let checked = self.filter().check();
        checked.map_err(|(field, message)| Failure::Usage(format!("--{field}: {message}")))
    }
}

pub(super) async fn run(args: &ListArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let now = Timestamp::now();
    let mut filter = args.filter();
    filter.job_apps =
        super::check_names(&store, loaded, args.app.as_ref(), args.job.as_deref()).await?;
    let page = store.list_sites(&filter, now).await?;
    if args.cursor.is_none() {
        tell_of_unvisited(args, &store, loaded).await?;
    }
    let next = page.next.as_ref().map(SiteCursor::to_string);
    if args.output.is_json() {
        return output::print_json(&Page {
            items: &page.items,
            next,
        });
    }
    if page.items.is_empty() {
        note(&"no sites");
    } else {
        output::print(table(&page, now))?;
    }
    if let Some(next) = next {
        note(&format_args!("more: --cursor {next}"));
    }
    Ok(())
}

/// Tells how many sites nothing visits, since no job of their app is configured.
async fn tell_of_unvisited(args: &ListArgs, store: &Store, loaded: &Loaded) -> Result<(), Failure> {
    let jobs = &loaded.settings.jobs;
    let apps = store.sites_by_app().await?;
    let unvisited: Vec<&AppSites> = apps
        .iter()
        .filter(|of| {
            args.app
                .as_ref()
                .is_none_or(|app| app.as_str() == of.app_id)
        })
        .filter(|of| !jobs.iter().any(|job| job.key.app.as_str() == of.app_id))
        .collect();
    for app in unvisited.iter().take(MOST_APPS) {
        let sites = usize::try_from(app.enabled + app.disabled).unwrap_or(0);
        note(&format_args!(
            "warning: no job of app \"{}\" is configured; its {} not visited",
            one_line(&app.app_id),
            output::count(sites, "site is", "sites are")
        ));
    }
    if let more @ 1.. = unvisited.len().saturating_sub(MOST_APPS) {
        note(&format_args!(
            "warning: nor of {}",
            output::count(more, "more app", "more apps")
        ));
    }
    Ok(())
}

fn table(page: &SitePage, now: Timestamp) -> String {
    let visits = page.items.iter().any(|item| item.status.is_some());
    let mut header = vec!["site", "app", "url", "batch code", "state"];
    if visits {
        header.extend([
            "job",
            "level",
            "count",
            "last run",
            "outcome",
            "next due",
            "last error",
        ]);
    } else {
        header.push("added");
    }
    let mut table = output::table(&header);
    for item in &page.items {
        let site = &item.site;
        let mut row = vec![
            one_line(&site.site_id),
            one_line(&site.app_id),
            one_line(&site.url),
            site.batch_code.to_string(),
            state_word(item, now).to_owned(),
        ];
        match &item.status {
            Some(status) => row.extend([
                one_line(&status.job_name),
                status.level.to_string(),
                status.count.to_string(),
                last_run(status, now),
                status.last_outcome.clone().unwrap_or_default(),
                next_due(status, now),
                last_error(status.last_error.as_deref()),
            ]),
            None if visits => row.extend(std::iter::repeat_n(String::new(), 7)),
            None => row.push(output::relative(site.created_at, now)),
        }
        table.add_row(row);
    }
    output::lines(&mut table)
}

fn state_word(item: &SiteItem, now: Timestamp) -> &'static str {
    item.state(now).map_or("enabled", SiteState::as_str)
}

/// When it was visited last, in words.
fn last_run(status: &StatusRow, now: Timestamp) -> String {
    match status.last_run_at {
        Some(at) if now.since(at) < Duration::from_secs(1) => "just now".to_owned(),
        Some(at) => output::relative(at, now),
        None if status.is_revived() => "revived".to_owned(),
        None => String::new(),
    }
}

/// When a site is due, in words.
pub(super) fn next_due(status: &StatusRow, now: Timestamp) -> String {
    match status.next_due_at {
        // Not yet: "now" would say that it is due.
        Some(at) if at > now && at.since(now) < Duration::from_secs(1) => "in 1s".to_owned(),
        Some(at) if at > now => output::relative(at, now),
        Some(_) => "due".to_owned(),
        None => String::new(),
    }
}

/// One line, and not a long one on a terminal.
fn last_error(error: Option<&str>) -> String {
    let line = one_line(error.unwrap_or_default());
    if io::stdout().is_terminal() && line.chars().count() > 60 {
        line.chars().take(59).chain(['…']).collect()
    } else {
        line
    }
}
