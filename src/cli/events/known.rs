//! `highwater events known add` and `remove`: transactions and keys that make
//! events relevant.

use crate::cli::audit;
use crate::cli::batches::ndjson::{for_each_line, read_json};
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs, note};
use crate::cli::progress::Progress;
use crate::config::Loaded;
use crate::flows::events::{Known, LONGEST_KEY, LONGEST_TX_ID};
use crate::store::{AuditOutcome, NewAudit, Store, StoreError};
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::sync::mpsc;

/// Ids and keys written in one transaction.
const CHUNK: usize = 1000;
/// Most bad lines that are named; more are counted.
const NAMED: usize = 20;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum KnownCommand {
    /// Makes transactions and keys known: events that carry one are relevant, and
    /// those that wait are judged again at their next try. Twice does no harm.
    #[command(after_help = EXAMPLES)]
    Add(KnownArgs),
    /// Forgets transactions and keys; what was judged by them stays.
    #[command(after_help = EXAMPLES)]
    Remove(KnownArgs),
}

const EXAMPLES: &str = "\
Examples:
  highwater events known add --tx 5e0c… --key claim-17
  highwater events known add --file ids.txt                one transaction id a line
  highwater events known remove --file keys.txt --lines key
  psql -Atc 'SELECT json_build_object($$key$$, id) FROM claims' app |
      highwater events known add --file -                  {\"tx\": …} or {\"key\": …} a line";

#[derive(Debug, Args)]
pub(in crate::cli) struct KnownArgs {
    /// A transaction id; repeatable.
    #[arg(long, value_name = "ID", value_parser = tx_id)]
    tx: Vec<String>,
    /// A key; repeatable.
    #[arg(long, value_name = "KEY", value_parser = key)]
    key: Vec<String>,
    /// A file, or "-" for standard input: one a line. A line that begins with "{"
    /// is JSON, {"tx": "…"}, {"key": "…"} or both; any other is taken as it is.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What lines are that are no JSON.
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    lines: Lines,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a plain line holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Lines {
    /// A transaction id.
    #[default]
    Tx,
    /// A key.
    Key,
}

/// A line that is JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    tx: Option<String>,
    key: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    /// Ids and keys that are known since, or forgotten.
    changed: usize,
    /// Those that were so already.
    unchanged: usize,
    refused: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Bad>,
}

#[derive(Debug, Serialize)]
struct Bad {
    line: usize,
    error: String,
}

fn tx_id(text: &str) -> Result<String, String> {
    check(text, LONGEST_TX_ID)
}

fn key(text: &str) -> Result<String, String> {
    check(text, LONGEST_KEY)
}

fn check(text: &str, longest: usize) -> Result<String, String> {
    let length = text.chars().count();
    if (1..=longest).contains(&length) && !text.contains('\0') {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{length} characters; expected 1 to {longest}, without NUL"
        ))
    }
}

impl KnownCommand {
    /// Refuses what makes no sense, whatever the configuration.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let (Self::Add(args) | Self::Remove(args)) = self;
        if args.tx.is_empty() && args.key.is_empty() && args.file.is_none() {
            return Err(Failure::Usage(
                "nothing is named: give --tx, --key or --file (\"-\" for standard input)"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

/// Ids and keys on their way to the database.
struct Change<'s> {
    store: &'s Store,
    add: bool,
    waiting: Known,
    report: Report,
}

pub(super) async fn run(command: KnownCommand, loaded: &Loaded) -> Result<(), Failure> {
    let (args, add) = match command {
        KnownCommand::Add(args) => (args, true),
        KnownCommand::Remove(args) => (args, false),
    };
    let input = args.file.as_ref().map(open).transpose()?;
    let store = context::open(loaded).await?;
    let mut change = Change {
        store: &store,
        add,
        waiting: Known {
            tx_ids: args.tx,
            keys: args.key,
        },
        report: Report::default(),
    };
    let ended = change.carry_out(input, args.lines).await;
    let report = change.report;
    let failed = ended.as_ref().err().map(ToString::to_string);
    let outcome = match (&failed, report.changed + report.unchanged) {
        (Some(_), _) => AuditOutcome::Failed,
        (None, 0) if report.refused > 0 => AuditOutcome::Refused,
        (None, _) => AuditOutcome::Done,
    };
    let refused = output::count(report.refused, "line was refused", "lines were refused");
    let row = NewAudit {
        who: audit::operator(),
        action: if add { "known.add" } else { "known.remove" }.to_owned(),
        target: "known".to_owned(),
        details: Some(json!({ "changed": report.changed, "unchanged": report.unchanged })),
        outcome,
        problem: failed.or_else(|| (report.refused > 0).then_some(refused)),
    };
    audit::record(&store, row).await;
    ended?;
    report.told(add, &args.output)
}

fn open(file: &PathBuf) -> Result<Box<dyn BufRead + Send>, Failure> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    match File::open(file) {
        Ok(opened) => Ok(Box::new(BufReader::new(opened))),
        Err(error) => Err(Failure::Failed(format!("{}: {error}", file.display()))),
    }
}

impl Change<'_> {
    /// Writes what is named and what `input` holds. A thread reads it.
    async fn carry_out(
        &mut self,
        input: Option<Box<dyn BufRead + Send>>,
        lines: Lines,
    ) -> Result<(), Failure> {
        self.write().await?;
        let Some(input) = input else {
            return Ok(());
        };
        let (sender, read) = mpsc::sync_channel(CHUNK);
        let reader = std::thread::spawn(move || {
            for_each_line(input, |number, line| sender.send((number, line)).is_ok())
        });
        let progress = Progress::new("reading ids and keys", None);
        for (number, line) in read {
            progress.advance(1);
            if let Err(error) = line.and_then(|line| self.take(&line, lines)) {
                self.report.refused += 1;
                if self.report.errors.len() < NAMED {
                    progress.pause(|| note(&format_args!("line {number}: {error}")));
                    let line = number;
                    self.report.errors.push(Bad { line, error });
                }
            }
            if self.waiting.tx_ids.len() + self.waiting.keys.len() >= CHUNK {
                self.write().await?;
            }
        }
        self.write().await?;
        match reader.join() {
            Ok(read) => Ok(read?),
            Err(_) => Err(Failure::Failed("the input could not be read".into())),
        }
    }

    fn take(&mut self, line: &str, lines: Lines) -> Result<(), String> {
        let (tx, of_key) = if line.starts_with('{') {
            let Line { tx, key } = read_json(line)?;
            if tx.is_none() && key.is_none() {
                return Err("neither \"tx\" nor \"key\" in it".to_owned());
            }
            (tx, key)
        } else if lines == Lines::Tx {
            (Some(line.to_owned()), None)
        } else {
            (None, Some(line.to_owned()))
        };
        let tx = tx.as_deref().map(tx_id).transpose()?;
        let of_key = of_key.as_deref().map(key).transpose()?;
        self.waiting.tx_ids.extend(tx);
        self.waiting.keys.extend(of_key);
        Ok(())
    }

    async fn write(&mut self) -> Result<(), StoreError> {
        let known = std::mem::take(&mut self.waiting);
        let all = known.tx_ids.len() + known.keys.len();
        if all == 0 {
            return Ok(());
        }
        let changed = if self.add {
            self.store.make_known(&known).await?
        } else {
            self.store.forget_known(&known).await?
        };
        let changed = changed.tx_ids.len() + changed.keys.len();
        self.report.changed += changed;
        self.report.unchanged += all.saturating_sub(changed);
        Ok(())
    }
}

impl Report {
    fn told(&self, add: bool, output: &OutputArgs) -> Result<(), Failure> {
        if output.is_json() {
            output::print_json(self)?;
        } else {
            let (word, already) = if add {
                ("made known", "known already")
            } else {
                ("forgotten", "not known")
            };
            let refused = match self.refused {
                0 => String::new(),
                refused => format!(", {} refused", output::count(refused, "line", "lines")),
            };
            output::print(format_args!(
                "{} {word}, {} {already}{refused}",
                self.changed, self.unchanged
            ))?;
        }
        if self.refused > 0 {
            return Err(Failure::Said);
        }
        Ok(())
    }
}
