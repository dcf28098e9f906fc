//! `highwater sites revive`: takes up again what was given up.

use super::change::recorded;
use crate::cli::audit;
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs, note};
use crate::config::Loaded;
use crate::flows::sites::AppName;
use crate::store::{AuditOutcome, Revival, Revived};
use crate::time::Timestamp;
use clap::Args;
use serde::Serialize;
use serde_json::json;

/// Has sites visited again that were given up: at level 0, at once.
///
/// They keep their history. Sites that were not given up stay as they are. A site may be given up by
/// one job and visited by another; --job names one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater sites revive s1 s2
  highwater sites revive --all --app org.civicrm.myapp --job default")]
pub(in crate::cli) struct ReviveArgs {
    /// Site ids.
    #[arg(value_name = "SITE", conflicts_with = "all")]
    ids: Vec<String>,
    /// All sites that were given up.
    #[arg(long)]
    all: bool,
    /// Of these, only sites of this app.
    #[arg(long, value_name = "APP", value_parser = super::app)]
    app: Option<AppName>,
    /// Only with this job.
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Serialize)]
struct Report {
    sites: usize,
    jobs: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
}

impl ReviveArgs {
    /// Refuses what makes no sense, whatever the configuration.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.ids.is_empty() && !self.all {
            return Err(Failure::Usage(
                "nothing to revive: name SITE ids, or --all (with --app and --job as wanted)"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

/// What `--all` stands for, for the record.
fn all(which: &Revival) -> String {
    match (&which.app, &which.job) {
        (None, None) => "all given up".to_owned(),
        (Some(app), None) => format!("all given up of {app}"),
        (None, Some(job)) => format!("all given up of job {job}"),
        (Some(app), Some(job)) => format!("all given up of {app}/{job}"),
    }
}

pub(super) async fn run(args: &ReviveArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    super::check_names(&store, loaded, args.app.as_ref(), args.job.as_deref()).await?;
    let mut errors = Vec::new();
    if !args.ids.is_empty() {
        let known = store.known_sites(&args.ids).await?;
        let missing = args.ids.iter().filter(|id| !known.contains(*id));
        errors.extend(missing.map(|id| super::not_kept(id)));
    }
    let which = Revival {
        site_ids: (!args.all).then(|| args.ids.clone()),
        app: args.app.as_ref().map(|app| app.as_str().to_owned()),
        job: args.job.clone(),
    };
    let ended = store.revive_sites(&which, Timestamp::now()).await;
    let Revived { sites, jobs } = ended.as_ref().copied().unwrap_or_default();
    let outcome = match &ended {
        Err(_) => AuditOutcome::Failed,
        Ok(Revived { sites: 0, .. }) if !errors.is_empty() => AuditOutcome::Refused,
        Ok(_) => AuditOutcome::Done,
    };
    let problem = match &ended {
        Err(error) => Some(error.to_string()),
        Ok(_) => (!errors.is_empty()).then(|| errors.join("; ")),
    };
    let mut row = recorded(&args.ids, "sites.revive", sites, outcome, problem);
    if let Some(details) = row.details.as_mut().and_then(|value| value.as_object_mut()) {
        details.insert("app_id".to_owned(), json!(which.app));
        details.insert("job_name".to_owned(), json!(which.job));
        details.insert("jobs".to_owned(), json!(jobs));
    }
    if args.all {
        row.target = all(&which);
    }
    audit::record(&store, row).await;
    ended?;
    if args.output.is_json() {
        output::print_json(&Report {
            sites,
            jobs,
            errors: errors.clone(),
        })?;
    } else {
        for error in &errors {
            note(error);
        }
        output::print(format_args!(
            "{} revived ({})",
            output::count(sites, "site", "sites"),
            output::count(jobs, "job", "jobs")
        ))?;
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::Said)
    }
}
