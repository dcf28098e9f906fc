//! Whole configurations: what a person writes, and what they are told.

mod dump;
mod environment;
mod files;
mod log;
mod mistakes;
mod properties;
mod shipped;
mod site_control;
mod site_jobs;
mod site_mistakes;
mod site_secrets;

use super::*;
use std::path::Path;

/// A ledger, and nothing else.
const LEDGER: &str = "[[ledgers]]\nname='trace'\nkind='sawtooth'\nurl='http://h'\n";

/// A job that needs a handler yet.
const JOB: &str = "[[jobs]]\napp='a'\n";

/// A job as people write it.
const SYNC_JOB: &str = r#"
[[jobs]]
app = "org.civicrm.myapp"
name = "sync_activities"
retry = "2 hour (x12); 1 day (x30)"
batches = 4
per_host = 4
[jobs.handler.http]
method = "GET"
path = "/sync"
timeout = "10s"
expect = { status = "2xx", body_contains = "ok" }
"#;

fn parse_in(base: &Path, text: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let options = LoadOptions::default();
    parse(text, "highwater.toml", base, environment, options)
}

fn try_parse(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    parse_in(Path::new("/nonexistent/base"), text, environment)
}

fn loaded(text: &str, environment: &[(&str, &str)]) -> Loaded {
    try_parse(text, environment).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str, environment: &[(&str, &str)]) -> String {
    match try_parse(text, environment) {
        Ok(loaded) => panic!("accepted: {loaded:?}"),
        Err(errors) => errors.to_string(),
    }
}

/// What was told, as people see it.
fn told(warnings: &[Warning]) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}
