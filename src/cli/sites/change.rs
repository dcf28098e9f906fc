//! `highwater sites add`, `remove`, `enable` and `disable`.

use crate::cli::audit;
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs, note};
use crate::config::Loaded;
use crate::flows::sites::{AppName, SiteEntry, audited};
use crate::store::{AuditOutcome, NewAudit, Store, StoreError};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Adds a site, or brings a known one up to date.
///
/// A known site keeps its batch code, and whether it is enabled and its
/// labels where they are not given. One of another app is refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater sites add --app org.civicrm.myapp s1 https://s1.example/
  highwater sites add --app org.civicrm.myapp s2 https://s2.example/ --label region=eu --disabled")]
pub(in crate::cli) struct AddArgs {
    /// The app whose jobs visit it.
    #[arg(long, value_name = "APP", value_parser = super::app)]
    app: AppName,
    /// Its batch code, 0 to 10000; drawn at random when left out.
    #[arg(long, value_name = "N")]
    batch_code: Option<i64>,
    /// A label; repeatable. Those given replace those there are.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Has it left alone until it is enabled.
    #[arg(long)]
    disabled: bool,
    /// Site id.
    #[arg(value_name = "SITE")]
    site_id: String,
    /// Its address.
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// Removes sites, with how they stood with jobs and what was learned.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater sites remove s1 s2
  highwater sites list --app old --limit 10000 --output json | jq -r '.items[].site_id' |
      xargs highwater sites remove")]
pub(in crate::cli) struct RemoveArgs {
    #[command(flatten)]
    sites: SitesArgs,
}

/// Has sites visited again that were disabled.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater sites enable s1 s2")]
pub(in crate::cli) struct EnableArgs {
    #[command(flatten)]
    sites: SitesArgs,
}

/// Has sites left alone until they are enabled; how they stand is kept.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater sites disable s1 s2")]
pub(in crate::cli) struct DisableArgs {
    #[command(flatten)]
    sites: SitesArgs,
}

#[derive(Debug, Args)]
struct SitesArgs {
    /// Site ids.
    #[arg(value_name = "SITE", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Serialize)]
struct Added {
    added: usize,
    changed: usize,
    unchanged: usize,
}

#[derive(Debug, Serialize)]
struct Changed {
    sites: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or("expected NAME=VALUE")
}

pub(super) async fn add(args: AddArgs, loaded: &Loaded) -> Result<(), Failure> {
    let labels: Map<String, Value> = args
        .labels
        .into_iter()
        .map(|(name, value)| (name, Value::String(value)))
        .collect();
    let entry = SiteEntry {
        site_id: args.site_id.clone(),
        app_id: None,
        url: args.url,
        batch_code: args.batch_code,
        enabled: args.disabled.then_some(false),
        labels: (!labels.is_empty()).then_some(labels),
    };
    let site = entry.check(Some(&args.app)).map_err(|mistakes| {
        let named: Vec<String> = mistakes
            .into_iter()
            .map(|(field, message)| format!("{field}: {message}"))
            .collect();
        Failure::Usage(named.join("\n  "))
    })?;
    let details = json!({ "app_id": args.app.as_str(), "url": site.url, "enabled": site.enabled });
    let store = context::open(loaded).await?;
    let ended = store.import_sites(vec![site]).await;
    let problem = match &ended {
        Err(error) => Some(error.to_string()),
        Ok(imported) => imported.refused.first().map(|one| one.reason.clone()),
    };
    let row = NewAudit {
        who: audit::operator(),
        action: "sites.add".to_owned(),
        target: args.site_id.clone(),
        details: Some(details),
        outcome: match (&ended, &problem) {
            (Err(_), _) => AuditOutcome::Failed,
            (Ok(_), Some(_)) => AuditOutcome::Refused,
            (Ok(_), None) => AuditOutcome::Done,
        },
        problem,
    };
    audit::record(&store, row).await;
    let imported = ended?;
    if let Some(refused) = imported.refused.into_iter().next() {
        return Err(Failure::Failed(refused.reason));
    }
    super::warn_of_apps(&BTreeSet::from([args.app]), loaded);
    if args.output.is_json() {
        return output::print_json(&Added {
            added: imported.added,
            changed: imported.changed,
            unchanged: imported.unchanged,
        });
    }
    let what = match (imported.added, imported.changed) {
        (1, _) => "added",
        (_, 1) => "changed",
        _ => "known already, and as it was",
    };
    output::print(format_args!("site {} {what}", args.site_id))
}

pub(super) async fn remove(args: &RemoveArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let done = store.remove_sites(&args.sites.ids).await;
    told(&args.sites, &store, "sites.remove", "removed", done).await
}

pub(super) async fn enable(args: &EnableArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let done = store.enable_sites(&args.sites.ids).await;
    told(&args.sites, &store, "sites.enable", "enabled", done).await
}

pub(super) async fn disable(args: &DisableArgs, loaded: &Loaded) -> Result<(), Failure> {
    let store = context::open(loaded).await?;
    let done = store.disable_sites(&args.sites.ids).await;
    told(&args.sites, &store, "sites.disable", "disabled", done).await
}

/// Records and tells what was done with these sites.
async fn told(
    args: &SitesArgs,
    store: &Store,
    action: &str,
    word: &str,
    done: Result<BTreeSet<String>, StoreError>,
) -> Result<(), Failure> {
    let missing: Vec<String> = match &done {
        Ok(found) => {
            let missing = args.ids.iter().filter(|id| !found.contains(*id));
            missing.map(|id| super::not_kept(id)).collect()
        }
        Err(_) => Vec::new(),
    };
    let sites = done.as_ref().map_or(0, BTreeSet::len);
    let problem = match &done {
        Err(error) => Some(error.to_string()),
        Ok(_) => (!missing.is_empty()).then(|| missing.join("; ")),
    };
    let outcome = match (&done, sites) {
        (Err(_), _) => AuditOutcome::Failed,
        (Ok(_), 0) => AuditOutcome::Refused,
        (Ok(_), _) => AuditOutcome::Done,
    };
    audit::record(store, recorded(&args.ids, action, sites, outcome, problem)).await;
    done?;
    if args.output.is_json() {
        output::print_json(&Changed {
            sites,
            errors: missing.clone(),
        })?;
    } else {
        for error in &missing {
            note(error);
        }
        output::print(format_args!(
            "{} {word}",
            output::count(sites, "site", "sites")
        ))?;
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Failure::Said)
    }
}

/// The row of the audit: what was asked for, and what came of it.
pub(super) fn recorded(
    ids: &[String],
    action: &str,
    done: usize,
    outcome: AuditOutcome,
    problem: Option<String>,
) -> NewAudit {
    let (target, mut details) = audited(ids);
    details["done"] = done.into();
    NewAudit {
        who: audit::operator(),
        action: action.to_owned(),
        target,
        details: Some(details),
        outcome,
        problem,
    }
}
