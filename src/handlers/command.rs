//! The command handler: a program is run for each visit.
//!
//! The program gets the site as one JSON object on its standard input. Exit
//! code 0 is success; a JSON document on its standard output is what was
//! learned, and anything else there is ignored.

use super::Handler;
use super::learned::kept;
use super::process::{self, Ended, RunError};
use super::templates::template;
use crate::config::{AppSettings, CommandHandler};
use crate::flows::sites::template::as_it_is;
use crate::flows::sites::{FailureKind, Template, Visit, VisitError, Visited};
use crate::net::{Secrets, one_line};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use std::io;
use std::os::unix::process::ExitStatusExt as _;

/// Characters shown of what a program says.
const MAX_WORDS: usize = 200;

/// Visits sites by running a program.
#[derive(Clone, Debug)]
pub struct CommandVisits {
    settings: CommandHandler,
    /// The arguments behind the program.
    args: Vec<Template>,
    /// The app as the program is told it: without its keys.
    app: Value,
    max_result_bytes: usize,
}

impl CommandVisits {
    /// A handler with these settings. `max_result_bytes` bounds the document
    /// that is learned (`sites.max_result_bytes`).
    ///
    /// # Errors
    /// An argument is no template.
    pub fn new(
        settings: CommandHandler,
        app: Option<&AppSettings>,
        max_result_bytes: usize,
    ) -> Result<Self, String> {
        let args = settings.args.iter().skip(1);
        let args = args.map(|arg| template(arg)).collect::<Result<_, _>>()?;
        let app = app.map_or(Value::Null, |app| {
            json!({"id": app.id.as_str(), "title": app.title, "url": app.url.as_ref().map(url::Url::as_str)})
        });
        Ok(Self {
            settings,
            args,
            app,
            max_result_bytes,
        })
    }

    async fn run(&self, visit: &Visit) -> Result<Option<String>, VisitError> {
        let settings = &self.settings;
        let Some(program) = settings.args.first() else {
            return Err(VisitError::new(
                FailureKind::Job,
                "args of [jobs.handler.command] names no program",
            ));
        };
        let args = self
            .args
            .iter()
            .zip(settings.args.iter().skip(1))
            .map(|(template, arg)| {
                let filled = template.fill(visit, as_it_is)?;
                if template.begins_filled() && filled.starts_with('-') {
                    return Err(no_option(arg));
                }
                Ok(filled)
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|problem| handler(&problem))?;
        let mut input = self.input(visit)?.to_string();
        input.push('\n');
        let ended = process::run(
            program,
            &args,
            input.as_bytes(),
            settings.timeout,
            settings.max_output_bytes,
        );
        match ended.await {
            Ok(ended) => self.judge(program, ended, visit),
            Err(RunError::Start(error)) => Err(VisitError::new(
                whose(&error),
                &not_started(program, &error),
            )),
            Err(RunError::Timeout(complaint)) => {
                let limit = humantime::format_duration(settings.timeout);
                Err(VisitError::new(
                    FailureKind::Timeout,
                    &format!(
                        "\"{program}\" was killed: it did not end within {limit} (timeout of [jobs.handler.command]){}",
                        said(&complaint)
                    ),
                ))
            }
            Err(RunError::Lost(error)) => Err(handler(&format!(
                "it cannot be known how \"{program}\" ended: {error}"
            ))),
        }
    }

    /// What the program is told.
    fn input(&self, visit: &Visit) -> Result<Value, VisitError> {
        let site = &visit.site;
        let labels: Map<String, Value> = serde_json::from_str(&site.labels).map_err(|_| {
            handler(&format!(
                "the labels of site {} are no JSON object",
                site.site_id
            ))
        })?;
        let mut app = self.app.clone();
        if app.is_null() {
            app =
                json!({"id": visit.job.app.as_str(), "title": visit.job.app.as_str(), "url": null});
        }
        Ok(json!({
            "app": app,
            "job": &*visit.job.name,
            "site": {
                "site_id": site.site_id,
                "url": site.url,
                "labels": labels,
                "batch_code": site.batch_code,
            },
            "last_run_at": visit.last_run_at,
            "level": visit.level,
            "count": visit.count,
        }))
    }

    fn judge(
        &self,
        program: &str,
        ended: Ended,
        visit: &Visit,
    ) -> Result<Option<String>, VisitError> {
        if ended.status.success() {
            return Ok(self.learned(ended.output.as_deref(), visit));
        }
        let how = match (ended.status.code(), ended.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => ended.status.to_string(),
        };
        Err(VisitError::new(
            FailureKind::Exit,
            &format!("\"{program}\" ended with {how}{}", said(&ended.complaint)),
        ))
    }

    /// The document on standard output, if that is one.
    fn learned(&self, output: Option<&[u8]>, visit: &Visit) -> Option<String> {
        let document: Value = serde_json::from_slice(output?).ok()?;
        kept(
            Some(&document),
            &Secrets::default(),
            self.max_result_bytes,
            visit,
        )
    }
}

impl Handler for CommandVisits {
    fn visit<'a>(&'a self, visit: &'a Visit) -> BoxFuture<'a, Visited> {
        Box::pin(async move {
            Visited {
                result: self.run(visit).await,
                retry_after: None,
            }
        })
    }
}

fn handler(detail: &str) -> VisitError {
    VisitError::new(FailureKind::Handler, detail)
}

/// What an application writes must not become an option of the program.
fn no_option(arg: &str) -> String {
    format!(
        "argument \"{arg}\" of [jobs.handler.command] begins with \"-\" once it is filled in, as an option does: correct the site's id or label, or put text before it (\"--name={arg}\")"
    )
}

/// Whether a program that does not start is the job's failure, or the site's
/// where what is filled into its arguments is to blame.
fn whose(error: &io::Error) -> FailureKind {
    match error.kind() {
        io::ErrorKind::ArgumentListTooLong | io::ErrorKind::InvalidInput => FailureKind::Handler,
        _ => FailureKind::Job,
    }
}

fn not_started(program: &str, error: &io::Error) -> String {
    let why = why_not_started(error);
    format!("\"{program}\" cannot be started: {why}; see args of [jobs.handler.command]")
}

/// Why a program could not be started.
pub(super) fn why_not_started(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such program, or not what its first line (#!) names".to_owned()
        }
        io::ErrorKind::PermissionDenied => "it may not be executed by this user".to_owned(),
        _ => error.to_string(),
    }
}

/// The first line of what a program complained of, to be put behind a message.
pub(super) fn said(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    let mut lines = text.lines().map(|line| one_line(line, MAX_WORDS));
    let first = lines.find(|line| !line.is_empty());
    first.map_or_else(String::new, |line| format!(": {line}"))
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
