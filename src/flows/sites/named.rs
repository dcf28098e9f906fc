//! Names that operators give: whether anything has an app or a job of that
//! name, and how sites that were named are recorded.

use crate::config::Settings;
use crate::store::{SiteNames, Store, StoreError};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Most names that a message lists.
const MOST_NAMED: usize = 20;
/// Sites of a call that are named in the details of its record.
const RECORDED: usize = 20;
/// Sites of a call that are named in the target of its record.
const IN_TARGET: usize = 3;

/// A name that nothing has: neither the configuration nor a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UnknownName {
    /// What it was to name: `app` or `job`.
    pub field: &'static str,
    /// Which name it is, and which are known.
    pub message: String,
}

/// Looks for an app and for a job (of that app, if one is named): in the
/// configuration first, then in the rows of sites. Answers the apps that have
/// the job; none where none is named.
///
/// # Errors
/// The database is out of reach; or, inside, nothing has such a name.
pub async fn check_named(
    store: &Store,
    settings: &Settings,
    app: Option<&str>,
    job: Option<&str>,
) -> Result<Result<Vec<String>, UnknownName>, StoreError> {
    let configured = configured(settings);
    let unheard = match app {
        Some(app) => !configured.apps.contains(app) && !store.has_app(app).await?,
        None => false,
    };
    let having = job.map_or_else(Vec::new, |job| having(&configured, app, job));
    if !unheard && (job.is_none() || !having.is_empty()) {
        return Ok(Ok(having));
    }
    // Rows may name what the configuration has lost. This reads the tables
    // whole, for a name that is not configured.
    let mut known = store.site_names().await?;
    known.apps.extend(configured.apps);
    known.jobs.extend(configured.jobs);
    Ok(judge(&known, app, job))
}

fn judge(
    known: &SiteNames,
    app: Option<&str>,
    job: Option<&str>,
) -> Result<Vec<String>, UnknownName> {
    if let Some(app) = app.filter(|app| !known.apps.contains(*app)) {
        return Err(UnknownName {
            field: "app",
            message: format!(
                "no app \"{app}\": nothing configured and no site has it ({})",
                listed("known", known.apps.iter().cloned())
            ),
        });
    }
    let Some(job) = job else {
        return Ok(Vec::new());
    };
    let having = having(known, app, job);
    if having.is_empty() {
        let of_app = |(of, _): &&(String, String)| app.is_none_or(|app| app == of);
        let jobs = known.jobs.iter().filter(of_app);
        let of = app.map_or_else(String::new, |app| format!(" of app {app}"));
        return Err(UnknownName {
            field: "job",
            message: format!(
                "no job \"{job}\"{of}: nothing configured and no site has it ({})",
                listed("known", jobs.map(|(app, name)| format!("{app}/{name}")))
            ),
        });
    }
    Ok(having)
}

fn configured(settings: &Settings) -> SiteNames {
    let jobs: BTreeSet<(String, String)> = settings
        .jobs
        .iter()
        .map(|job| (job.key.app.to_string(), job.key.name.to_string()))
        .collect();
    let apps = settings.apps.iter().map(|app| app.id.to_string());
    SiteNames {
        apps: apps
            .chain(jobs.iter().map(|(app, _)| app.clone()))
            .collect(),
        jobs,
    }
}

/// The apps that have a job of this name.
fn having(known: &SiteNames, app: Option<&str>, job: &str) -> Vec<String> {
    let jobs = known
        .jobs
        .iter()
        .filter(|(of, name)| *name == *job && app.is_none_or(|app| app == of));
    jobs.map(|(of, _)| of.clone()).collect()
}

/// `known: a, b and 3 more`.
fn listed(what: &str, names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return format!("{what}: none");
    }
    let shown = names.iter().take(MOST_NAMED).map(String::as_str);
    let text = shown.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_NAMED) {
        0 => format!("{what}: {text}"),
        more => format!("{what}: {text} and {more} more"),
    }
}

/// How sites that were named are recorded: as the target of a row of the audit
/// (the id; or how many, and the first ones), and in its details.
pub fn audited(ids: &[String]) -> (String, Value) {
    let target = match ids {
        [] => String::new(),
        [id] => id.clone(),
        _ => {
            let first = ids.iter().take(IN_TARGET).map(String::as_str);
            let more = if ids.len() > IN_TARGET { ", …" } else { "" };
            let first = first.collect::<Vec<_>>().join(", ");
            format!("{} sites: {first}{more}", ids.len())
        }
    };
    let named: Vec<&str> = ids.iter().take(RECORDED).map(String::as_str).collect();
    (target, json!({ "sites": ids.len(), "site_ids": named }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> SiteNames {
        let job = |app: &str, name: &str| (app.to_owned(), name.to_owned());
        SiteNames {
            apps: ["a", "b", "c"].map(str::to_owned).into(),
            jobs: [job("a", "sync"), job("b", "sync"), job("b", "info")].into(),
        }
    }

    #[test]
    fn a_name_that_nothing_has_is_told_with_those_that_are_known() {
        let told = |app, job| judge(&known(), app, job).unwrap_err().to_string();
        insta::assert_snapshot!(told(Some("x"), None), @r#"no app "x": nothing configured and no site has it (known: a, b, c)"#);
        insta::assert_snapshot!(told(None, Some("x")), @r#"no job "x": nothing configured and no site has it (known: a/sync, b/info, b/sync)"#);
        insta::assert_snapshot!(told(Some("a"), Some("info")), @r#"no job "info" of app a: nothing configured and no site has it (known: a/sync)"#);
        insta::assert_snapshot!(told(Some("c"), Some("info")), @r#"no job "info" of app c: nothing configured and no site has it (known: none)"#);
    }

    #[test]
    fn the_apps_that_have_a_job_are_answered() {
        let apps = |app, job| judge(&known(), app, job).unwrap();
        assert_eq!(apps(None, Some("sync")), ["a", "b"]);
        assert_eq!(apps(Some("b"), Some("sync")), ["b"]);
        assert_eq!(apps(Some("c"), None), [""; 0]);
    }

    #[test]
    fn several_sites_are_recorded_by_their_number_and_the_first() {
        let ids = |n: usize| (0..n).map(|n| format!("s{n}")).collect::<Vec<_>>();
        assert_eq!(audited(&ids(0)).0, "");
        assert_eq!(audited(&ids(1)).0, "s0");
        assert_eq!(audited(&ids(2)).0, "2 sites: s0, s1");
        let (target, details) = audited(&ids(30));
        assert_eq!(target, "30 sites: s0, s1, s2, …");
        assert_eq!(details["sites"], 30);
        assert_eq!(details["site_ids"].as_array().unwrap().len(), 20);
    }
}
