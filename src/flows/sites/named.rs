//! Names that operators give: whether anything has an app or a job of that
//! name, and how sites that were named are recorded.

use crate::config::Settings;
use crate::store::{Store, StoreError};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Most names that a message lists.
const MOST_NAMED: usize = 20;
/// Names of rows that are read for it: one more tells that there are more.
const READ: i64 = 21;
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

/// Apps and jobs, as messages list them.
#[derive(Clone, Debug, Default)]
struct Names {
    apps: BTreeSet<String>,
    /// App and name.
    jobs: BTreeSet<(String, String)>,
}

/// Looks for an app and for a job (of that app, if one is named): in the
/// configuration first, then in the rows of sites, by index. Answers the apps
/// that have the job; none where none is named.
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
    if let Some(app) = app
        && !configured.apps.contains(app)
        && !store.has_app(app).await?
    {
        let rows = store.first_apps(READ).await?;
        return Ok(Err(unknown_app(app, &configured, rows)));
    }
    let Some(job) = job else {
        return Ok(Ok(Vec::new()));
    };
    let having = having(&configured, app, job);
    if !having.is_empty() {
        return Ok(Ok(having));
    }
    // Rows may name what the configuration has lost.
    let having: Vec<String> = match app {
        Some(app) if store.has_job(app, job).await? => vec![app.to_owned()],
        Some(_) => Vec::new(),
        None => store.apps_having_job(job).await?.into_iter().collect(),
    };
    if having.is_empty() {
        let rows = store.first_jobs(app, READ).await?;
        return Ok(Err(unknown_job(app, job, &configured, rows)));
    }
    Ok(Ok(having))
}

/// `rows`: some of the apps that rows name.
fn unknown_app(app: &str, configured: &Names, rows: Vec<String>) -> UnknownName {
    let known = listed(configured.apps.iter().cloned(), rows);
    UnknownName {
        field: "app",
        message: format!("no app \"{app}\": nothing configured and no site has it ({known})"),
    }
}

/// `rows`: some of the jobs (of that app) that rows name.
fn unknown_job(
    app: Option<&str>,
    job: &str,
    configured: &Names,
    rows: Vec<(String, String)>,
) -> UnknownName {
    let of_app = |(of, _): &&(String, String)| app.is_none_or(|app| app == of);
    let name = |(app, name): &(String, String)| format!("{app}/{name}");
    let jobs = configured.jobs.iter().filter(of_app).map(name);
    let known = listed(jobs, rows.iter().map(name).collect());
    let of = app.map_or_else(String::new, |app| format!(" of app {app}"));
    UnknownName {
        field: "job",
        message: format!("no job \"{job}\"{of}: nothing configured and no site has it ({known})"),
    }
}

fn configured(settings: &Settings) -> Names {
    let jobs: BTreeSet<(String, String)> = settings
        .jobs
        .iter()
        .map(|job| (job.key.app.to_string(), job.key.name.to_string()))
        .collect();
    let apps = settings.apps.iter().map(|app| app.id.to_string());
    Names {
        apps: apps
            .chain(jobs.iter().map(|(app, _)| app.clone()))
            .collect(),
        jobs,
    }
}

/// The apps that have a job of this name.
fn having(known: &Names, app: Option<&str>, job: &str) -> Vec<String> {
    let jobs = known
        .jobs
        .iter()
        .filter(|(of, name)| *name == *job && app.is_none_or(|app| app == of));
    jobs.map(|(of, _)| of.clone()).collect()
}

/// `known: a, b and more`: those that are configured, then those of rows.
fn listed(configured: impl Iterator<Item = String>, rows: Vec<String>) -> String {
    let mut names: Vec<String> = configured.collect();
    let of_rows = rows.into_iter().filter(|name| !names.contains(name));
    let of_rows: Vec<String> = of_rows.collect();
    names.extend(of_rows);
    if names.is_empty() {
        return "known: none".to_owned();
    }
    let more = if names.len() > MOST_NAMED {
        " and more"
    } else {
        ""
    };
    names.truncate(MOST_NAMED);
    format!("known: {}{more}", names.join(", "))
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

    fn known() -> Names {
        let job = |app: &str, name: &str| (app.to_owned(), name.to_owned());
        Names {
            apps: ["b", "c"].map(str::to_owned).into(),
            jobs: [job("b", "sync"), job("b", "info")].into(),
        }
    }

    #[test]
    fn a_name_that_nothing_has_is_told_with_those_that_are_known() {
        let rows = ["a", "b"].map(str::to_owned).to_vec();
        let told = unknown_app("x", &known(), rows).to_string();
        insta::assert_snapshot!(told, @r#"no app "x": nothing configured and no site has it (known: b, c, a)"#);
        let told = |app, job, rows: &[(&str, &str)]| {
            let owned = |(app, job): &(&str, &str)| ((*app).to_owned(), (*job).to_owned());
            let rows = rows.iter().map(owned).collect();
            unknown_job(app, job, &known(), rows).to_string()
        };
        insta::assert_snapshot!(told(None, "x", &[("a", "old"), ("b", "sync")]), @r#"no job "x": nothing configured and no site has it (known: b/info, b/sync, a/old)"#);
        insta::assert_snapshot!(told(Some("a"), "info", &[("a", "old")]), @r#"no job "info" of app a: nothing configured and no site has it (known: a/old)"#);
        insta::assert_snapshot!(told(Some("c"), "info", &[]), @r#"no job "info" of app c: nothing configured and no site has it (known: none)"#);
    }

    #[test]
    fn what_is_configured_is_named_before_what_rows_have_and_not_all_is_named() {
        let rows = (0..READ).map(|number| format!("a{number:02}")).collect();
        let told = unknown_app("x", &known(), rows).to_string();
        assert!(told.contains("(known: b, c, a00, a01, "), "{told}");
        assert!(told.ends_with("a16, a17 and more)"), "{told}");
    }

    #[test]
    fn the_apps_that_have_a_job_are_answered() {
        let apps = |app, job| having(&known(), app, job);
        assert_eq!(apps(None, "sync"), ["b"]);
        assert_eq!(apps(Some("b"), "sync"), ["b"]);
        assert_eq!(apps(Some("c"), "sync"), [""; 0]);
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
