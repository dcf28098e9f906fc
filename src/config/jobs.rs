//! The keys of `[[jobs]]`, but for what is done on a site.

use super::apps::bare;
use super::forms::{count, flag};
use super::handlers::handler;
use super::hint::nearest;
use super::reader::Reader;
use super::section::Section;
use super::site_forms::{app_id, job_name, retry};
use super::site_settings::{AppSettings, CivicrmVersion, HandlerSettings, JobSettings};
use crate::flows::sites::{JobKey, RetryPolicy};
use std::collections::BTreeMap;
use std::path::Path;
use toml_edit::TableLike;

/// Most shards that servers split a job into: each is a lease, renewed by every
/// heartbeat.
const MOST_BATCHES: u64 = 256;

/// Reads all jobs; `None` when something is wrong. `apps` are those configured,
/// where they are right.
pub(super) fn jobs<'d>(
    reader: &mut Reader<'d>,
    root: &'d dyn TableLike,
    base: &Path,
    apps: Option<&[AppSettings]>,
) -> Option<Vec<JobSettings>> {
    let mut keys = BTreeMap::new();
    let mut index = 0;
    let jobs = reader.list(root, "jobs", app_and_name, |section| {
        let job = job(section, base, index, &mut keys);
        index += 1;
        if let (Some(job), Some(apps)) = (&job, apps) {
            check_app(section, job, apps);
        }
        job
    });
    jobs.into_iter().collect()
}

/// What the environment calls a job: `JOBS__ORG_CIVICRM_MYAPP_DEFAULT__RETRY`.
fn app_and_name(table: &dyn TableLike) -> Option<String> {
    let app = bare(table.get("app")?)?;
    let name = match table.get("name") {
        Some(name) => name.as_str()?,
        None => JobKey::DEFAULT,
    };
    Some(format!("{app}/{name}"))
}

fn job(
    s: &mut Section<'_, '_>,
    base: &Path,
    index: usize,
    keys: &mut BTreeMap<JobKey, usize>,
) -> Option<JobSettings> {
    let example = "the id of an app, e.g. app = \"org.civicrm.myapp\"";
    let app = s.required("app", example, app_id);
    let name = s.get("name", JobKey::DEFAULT, job_name);
    let key = app.zip(name).map(|(app, name)| JobKey { app, name });
    if let Some(key) = &key {
        s.named(&key.to_string(), &["app", "name"]);
        if let Some(first) = keys.get(key) {
            let message = format!(
                "the app \"{}\" has a job \"{}\" in jobs[{first}] already; expected a name of its own",
                key.app, key.name
            );
            s.fault(&["name", "app"], message);
        } else {
            keys.insert(key.clone(), index);
        }
    }
    let retry = s.get("retry", &*RetryPolicy::default().to_string(), retry);
    let why = "each is a lease of its own; highwater poll --batch i/n takes n up to 10000";
    let batches = s.get("batches", 1, count(1..=MOST_BATCHES, why));
    let per_host = s.get("per_host", 4, count(1..=1024, ""));
    let server = s.get("server", true, flag);
    let tries_more = s.get("tries_more", 0, count(0..=10, ""));
    let handler = handler(s, base);
    Some(JobSettings {
        key: key?,
        retry: retry?,
        batches: batches?,
        per_host: per_host?,
        server: server?,
        tries_more: tries_more?,
        handler: handler?,
    })
}

/// What a job needs of its app.
fn check_app(s: &mut Section<'_, '_>, job: &JobSettings, apps: &[AppSettings]) {
    let id = &job.key.app;
    let app = apps.iter().find(|app| app.id == *id);
    let civicrm = matches!(job.handler, HandlerSettings::Civicrm(_));
    if civicrm && app.is_none_or(|app| app.api_key.is_none()) {
        let message = format!(
            "job \"{}\" calls CiviCRM's API, which needs an API key, and the app \"{id}\" has none; {}",
            job.key.name,
            match app {
                Some(_) => "set api_key_file of its [[apps]]".to_owned(),
                None => format!("add [[apps]] with id = \"{id}\" and api_key_file"),
            }
        );
        s.fault(&["app"], message);
    } else if version_3(&job.handler) && app.is_some_and(|app| app.site_key.is_none()) {
        let message = format!(
            "job \"{}\" calls version 3 of CiviCRM's API, which most sites refuse without their site key, and the app \"{id}\" has none; set site_key_file of its [[apps]]",
            job.key.name
        );
        s.warn(&["app"], message);
    } else if app.is_none() && !apps.is_empty() {
        let known = || apps.iter().map(|app| app.id.as_str());
        let hint = nearest(id.as_str(), known())
            .map_or_else(String::new, |meant| format!("; did you mean \"{meant}\"?"));
        let ids: Vec<&str> = known().collect();
        let message = format!(
            "no [[apps]] has the id \"{id}\"{hint}; those configured are {}",
            ids.join(", ")
        );
        s.warn(&["app"], message);
    }
}

fn version_3(handler: &HandlerSettings) -> bool {
    matches!(handler, HandlerSettings::Civicrm(civicrm) if civicrm.version == CivicrmVersion::V3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environments_name_of_a_job_is_its_app_and_name() {
        let name = |text: &str| {
            let document = toml_edit::Document::parse(text.to_owned()).unwrap();
            app_and_name(document.as_table())
        };
        let full = Some("org.a/sync".to_owned());
        assert_eq!(name("app = 'app:org.a'\nname = 'sync'"), full);
        assert_eq!(name("app = 'org.a'"), Some("org.a/default".to_owned()));
        assert_eq!(name("name = 'sync'"), None);
        assert_eq!(name("app = 'org.a'\nname = 1"), None);
    }
}
