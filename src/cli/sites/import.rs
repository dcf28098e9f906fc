//! `highwater sites import`: brings sites in from a file.

use super::csv::Columns;
use crate::cli::audit;
use crate::cli::batches::ndjson;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs, note};
use crate::cli::{context, progress::Progress};
use crate::config::Loaded;
use crate::flows::sites::{AppName, SiteEntry, read_site};
use crate::store::{AuditOutcome, Imported, NewAudit, NewSite, Store};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Sites written by one transaction.
const CHUNK: usize = 5000;
/// A slow writer's lines wait no longer than this for company.
const COMPANY: Duration = Duration::from_millis(200);
/// Bad lines named on standard error; the others are counted.
const SHOWN: usize = 20;
/// Bad lines that the JSON result names.
const NAMED: usize = 1000;
/// Apps without a job that are named.
const MOST_APPS: usize = 20;

const LONG_ABOUT: &str = "\
Imports sites from a file, or from standard input (\"-\").

NDJSON (.ndjson, .jsonl, .json) has one JSON object a line:

  {\"site_id\":\"s1\",\"app_id\":\"org.civicrm.myapp\",\"url\":\"https://s1.example/\",
   \"batch_code\":17,\"enabled\":true,\"labels\":{\"region\":\"eu\"}}

CSV (.csv) names its columns in the first line: site_id, app_id, url, batch_code, \
enabled, labels (a JSON object) and label.NAME; a field holds no line end, and an \
empty one counts as left out. --app stands in where a line names no app. Without a \
batch code, one from 0 to 10000 is drawn.

A site that is known gets the new address and labels; its batch code and whether it \
is enabled stay as they are unless they are given. One that is known with another app \
or another batch code is refused. Doing it twice does no harm.

Lines that are wrong are reported with their numbers (the first 20, then how many \
more), and the others are imported. The exit code is 1 if any line was wrong, and 0 \
otherwise.";

/// Imports sites from a file, or from standard input.
#[derive(Debug, Args)]
#[command(long_about = LONG_ABOUT, after_help = "\
Examples:
  highwater sites import sites.ndjson
  highwater sites import --app org.civicrm.myapp sites.csv
  psql -c 'COPY (SELECT id AS site_id, url FROM cxn) TO STDOUT CSV HEADER' app |
      highwater sites import --app org.civicrm.myapp --format csv -")]
pub(in crate::cli) struct ImportArgs {
    /// The file, or "-" for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Form of the file [default: by its ending; ndjson for standard input].
    #[arg(long, value_enum, value_name = "FORM")]
    format: Option<Form>,
    /// App of the sites that name none.
    #[arg(long, value_name = "APP", value_parser = super::app)]
    app: Option<AppName>,
    #[command(flatten)]
    output: OutputArgs,
}

/// How sites are written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values under a line that names them.
    Csv,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    added: usize,
    changed: usize,
    unchanged: usize,
    refused: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Bad>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Bad {
    line: usize,
    error: String,
}

impl Report {
    /// Whether there was a site or a wrong line.
    fn has_news(&self) -> bool {
        self.added + self.changed + self.unchanged + self.refused > 0
    }
}

impl ImportArgs {
    /// Refuses what makes no sense, whatever the configuration.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.form().map(drop)
    }

    fn reads_input(&self) -> bool {
        self.file.as_os_str() == "-"
    }

    /// Where the sites come from, in words.
    fn source(&self) -> String {
        if self.reads_input() {
            "standard input".to_owned()
        } else {
            self.file.display().to_string()
        }
    }

    fn form(&self) -> Result<Form, Failure> {
        if let Some(form) = self.format {
            return Ok(form);
        }
        if self.reads_input() {
            return Ok(Form::Ndjson);
        }
        let ending = self.file.extension().map(|e| e.to_ascii_lowercase());
        match ending.as_ref().and_then(|ending| ending.to_str()) {
            Some("ndjson" | "jsonl" | "json") => Ok(Form::Ndjson),
            Some("csv") => Ok(Form::Csv),
            _ => Err(Failure::Usage(format!(
                "{}: neither .ndjson (.jsonl, .json) nor .csv: name its form with --format",
                self.file.display()
            ))),
        }
    }

    fn open(&self) -> Result<Box<dyn BufRead + Send>, Failure> {
        if self.reads_input() {
            return Ok(Box::new(BufReader::new(io::stdin())));
        }
        let file = File::open(&self.file).and_then(|file| {
            // A folder opens, and is told only when it is read.
            let folder = file.metadata()?.is_dir();
            if folder {
                Err(io::ErrorKind::IsADirectory.into())
            } else {
                Ok(file)
            }
        });
        match file {
            Ok(file) => Ok(Box::new(BufReader::new(file))),
            Err(error) => Err(Failure::Failed(format!("{}: {error}", self.file.display()))),
        }
    }
}

pub(super) async fn run(args: ImportArgs, loaded: &Loaded) -> Result<(), Failure> {
    let input = args.open()?;
    let store = context::open(loaded).await?;
    let mut import = Import {
        reader: Reader {
            form: args.form()?,
            columns: None,
            app: args.app.clone(),
        },
        ..Import::default()
    };
    let ended = import.read(input, &store).await;
    import.record(&args, &store, ended.as_ref().err()).await;
    // What broke off before anything was done is told by its error alone.
    if ended.is_ok() || args.output.is_json() || import.report.has_news() {
        import.told(&args, loaded)?;
    }
    ended?;
    if !import.report.has_news() {
        let why = match (import.reader.form, &import.reader.columns) {
            (Form::Csv, None) => ", and no line that names the columns",
            _ => "",
        };
        note(&format_args!(
            "warning: {} holds no sites{why}",
            args.source()
        ));
    }
    if import.report.refused > 0 {
        return Err(Failure::Said);
    }
    Ok(())
}

/// Turns lines into sites.
#[derive(Debug)]
struct Reader {
    form: Form,
    /// Of CSV, once the first line was read.
    columns: Option<Columns>,
    app: Option<AppName>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            form: Form::Ndjson,
            columns: None,
            app: None,
        }
    }
}

/// A line that ends the import, or costs only itself.
#[derive(Debug)]
enum Wrong {
    File(String),
    Line(String),
}

impl Reader {
    /// The site of a line; `None` for the one that names the columns.
    fn site(&mut self, line: &str) -> Result<Option<NewSite>, Wrong> {
        let entry: SiteEntry = match (self.form, &self.columns) {
            (Form::Ndjson, _) => read_site(line).map_err(Wrong::Line)?,
            (Form::Csv, Some(columns)) => columns.site(line).map_err(Wrong::Line)?,
            (Form::Csv, None) => {
                let columns = Columns::read(line, self.app.is_some()).map_err(Wrong::File)?;
                self.columns = Some(columns);
                return Ok(None);
            }
        };
        entry
            .check(self.app.as_ref())
            .map(Some)
            .map_err(|mistakes| {
                let named: Vec<String> = mistakes
                    .into_iter()
                    .map(|(field, message)| format!("{field}: {message}"))
                    .collect();
                Wrong::Line(named.join("; "))
            })
    }
}

/// An import that is under way.
#[derive(Debug, Default)]
struct Import {
    reader: Reader,
    /// Sites to be written, and the lines they were on.
    sites: Vec<NewSite>,
    lines: Vec<usize>,
    /// Bad lines that were not told yet.
    bad: Vec<Bad>,
    apps: BTreeSet<AppName>,
    report: Report,
}

impl Import {
    /// Imports what `input` holds. A thread reads, so that the lines of a slow
    /// writer are imported without waiting for the next ones.
    async fn read(&mut self, input: Box<dyn BufRead + Send>, store: &Store) -> Result<(), Failure> {
        let (sender, lines) = mpsc::sync_channel(CHUNK);
        let reader = std::thread::spawn(move || {
            ndjson::for_each_line(input, |number, line| sender.send((number, line)).is_ok())
        });
        let progress = Progress::new("importing sites", None);
        loop {
            let next = lines.recv_timeout(COMPANY);
            let ended = matches!(next, Err(RecvTimeoutError::Disconnected));
            let waited = next.is_err();
            if let Ok((number, line)) = next {
                progress.advance(1);
                self.take(number, line)?;
            }
            let pending = self.sites.len() + self.bad.len();
            if pending >= CHUNK || (waited && pending > 0) {
                self.write(store, &progress).await?;
            }
            if ended {
                break;
            }
        }
        match reader.join() {
            Ok(read) => Ok(read?),
            Err(_) => Err(Failure::Failed("the input could not be read".into())),
        }
    }

    fn take(&mut self, line: usize, text: Result<String, String>) -> Result<(), Failure> {
        match text
            .map_err(Wrong::Line)
            .and_then(|text| self.reader.site(&text))
        {
            Ok(None) => {}
            Ok(Some(site)) => {
                self.sites.push(site);
                self.lines.push(line);
            }
            Err(Wrong::Line(error)) => self.bad.push(Bad { line, error }),
            Err(Wrong::File(error)) => {
                return Err(Failure::Failed(format!(
                    "nothing is imported: line {line}: {error}"
                )));
            }
        }
        Ok(())
    }

    async fn write(&mut self, store: &Store, progress: &Progress) -> Result<(), Failure> {
        let sites = std::mem::take(&mut self.sites);
        let apps: Vec<AppName> = sites.iter().map(|site| site.app_id.clone()).collect();
        let imported = store.import_sites(sites).await.map_err(|error| {
            let before = self.report.added + self.report.changed + self.report.unchanged;
            Failure::Failed(format!(
                "{error}; {} imported before: importing all of them again does no harm",
                output::count(before, "site was", "sites were")
            ))
        })?;
        let lines = std::mem::take(&mut self.lines);
        let mut bad = std::mem::take(&mut self.bad);
        let Imported { refused, .. } = &imported;
        // The app of a site that was refused is not one whose sites came in.
        let wrong: BTreeSet<usize> = refused.iter().map(|refused| refused.index).collect();
        for (_, app) in apps
            .into_iter()
            .enumerate()
            .filter(|(n, _)| !wrong.contains(n))
        {
            if self.apps.len() < MOST_APPS {
                self.apps.insert(app);
            }
        }
        bad.extend(refused.iter().filter_map(|refused| {
            Some(Bad {
                line: *lines.get(refused.index)?,
                error: refused.reason.clone(),
            })
        }));
        bad.sort();
        let report = &mut self.report;
        report.added += imported.added;
        report.changed += imported.changed;
        report.unchanged += imported.unchanged;
        for bad in bad {
            if report.refused < SHOWN {
                progress.pause(|| note(&format_args!("line {}: {}", bad.line, bad.error)));
            }
            report.refused += 1;
            if report.errors.len() < NAMED {
                report.errors.push(bad);
            }
        }
        Ok(())
    }

    /// Records what was done, also when it broke off.
    async fn record(&self, args: &ImportArgs, store: &Store, failure: Option<&Failure>) {
        let report = &self.report;
        let row = NewAudit {
            who: audit::operator(),
            action: "sites.import".to_owned(),
            target: args.source(),
            details: Some(json!({
                "app_id": args.app.as_ref().map(AppName::as_str),
                "added": report.added,
                "changed": report.changed,
                "unchanged": report.unchanged,
                "refused": report.refused,
            })),
            outcome: match failure {
                Some(_) => AuditOutcome::Failed,
                None if report.added + report.changed + report.unchanged > 0 => AuditOutcome::Done,
                None if report.refused > 0 => AuditOutcome::Refused,
                None => return,
            },
            problem: match failure {
                Some(failure) => Some(failure.to_string()),
                None => report.errors.first().map(|bad| {
                    format!(
                        "{} refused; line {}: {}",
                        output::count(report.refused, "line was", "lines were"),
                        bad.line,
                        bad.error
                    )
                }),
            },
        };
        audit::record(store, row).await;
    }

    /// Tells what was done, also when it broke off.
    fn told(&self, args: &ImportArgs, loaded: &Loaded) -> Result<(), Failure> {
        let report = &self.report;
        let more = report.refused.saturating_sub(SHOWN);
        if more > 0 {
            note(&format_args!(
                "{} refused",
                output::count(more, "more line was", "more lines were")
            ));
        }
        super::warn_of_apps(&self.apps, loaded);
        if args.output.is_json() {
            return output::print_json(report);
        }
        let refused = match report.refused {
            0 => String::new(),
            refused => format!(", {} refused", output::count(refused, "line", "lines")),
        };
        output::print(format_args!(
            "{} added, {} changed, {} unchanged{refused}",
            output::count(report.added, "site", "sites"),
            report.changed,
            report.unchanged
        ))
    }
}
