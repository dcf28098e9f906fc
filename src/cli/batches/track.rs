//! `highwater batches track`: puts batches under watch.

use super::ndjson::{self, Defaults};
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputArgs, note};
use crate::cli::{context, progress::Progress};
use crate::config::Loaded;
use crate::flows::batches::BatchKey;
use crate::store::{NewBatch, Store};
use clap::Args;
use serde::Serialize;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Batches written in one transaction.
const CHUNK: usize = 5000;
/// A slow writer's lines wait no longer than this for company.
const COMPANY: Duration = Duration::from_millis(200);
/// Refused lines that the JSON result names; standard error names all.
const NAMED: usize = 1000;

const LONG_ABOUT: &str = "\
Tracks batches: by id, or read from standard input.

Batches that are tracked already stay as they are, so doing it twice does no harm.

With no ID (and standard input not a terminal), or with \"-\", batches are read \
from standard input, one JSON object a line:

  {\"ledger\":\"trace\",\"service_id\":\"\",\"batch_id\":\"…\",\"transaction_ids\":[\"…\"]}

--ledger and --service stand in for what a line leaves out. Lines that are wrong \
are reported with their numbers, the others are tracked; the exit code is 1 if \
any was wrong. An ID on the command line that is wrong is refused before anything \
is tracked (exit code 2).";

const EXAMPLES: &str = "\
Examples:
  highwater batches track --ledger trace 5e0c…
  highwater batches track --ledger supply-chain --service btXBt-Rb4VS::a000 9f31… 27aa…
  highwater batches track < batches.ndjson
  psql -Atc 'SELECT id FROM sent' app | jq -Rc '{batch_id: .}' |
      highwater batches track --ledger trace";

/// Tracks batches: by id, or read from standard input.
#[derive(Debug, Args)]
#[command(long_about = LONG_ABOUT, after_help = EXAMPLES)]
pub(in crate::cli) struct TrackArgs {
    /// Name of the ledger in the configuration.
    #[arg(long, value_name = "NAME")]
    ledger: Option<String>,
    /// Service id (Splinter: `circuit::service`).
    #[arg(long, value_name = "ID")]
    service: Option<String>,
    /// A transaction of the batch, where there is one ID; repeatable.
    #[arg(long = "transaction", value_name = "ID")]
    transactions: Vec<String>,
    /// Batch ids, or "-" for standard input.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    accepted: usize,
    known: usize,
    refused: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    line: usize,
    error: String,
}

impl TrackArgs {
    fn reads_input(&self) -> bool {
        self.ids.is_empty() || self.ids == ["-"]
    }

    /// Refuses what makes no sense, whatever the configuration.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let wrong = |text: &str| Err(Failure::Usage(text.to_owned()));
        if self.reads_input() {
            if !self.transactions.is_empty() {
                return wrong("--transaction goes with one ID; a line has \"transaction_ids\"");
            }
            if self.ids.is_empty() && io::stdin().is_terminal() {
                return wrong(
                    "no batch given: name IDs, or send lines of JSON to standard input (see \
                     `highwater batches track --help`)",
                );
            }
            return Ok(());
        }
        if self.ids.iter().any(|id| id == "-") {
            return wrong("\"-\" (standard input) does not go with IDs");
        }
        if self.ledger.is_none() {
            return wrong("--ledger is missing: which ledger did the batches go to?");
        }
        if !self.transactions.is_empty() && self.ids.len() != 1 {
            return wrong("--transaction goes with one ID; send several as lines of JSON");
        }
        Ok(())
    }

    /// The batches named on the command line, all of the right shape.
    fn named(&self, loaded: &Loaded) -> Result<Vec<NewBatch>, Failure> {
        let mut batches = Vec::with_capacity(self.ids.len());
        let mut wrong = Vec::new();
        for id in &self.ids {
            let batch = NewBatch {
                key: BatchKey {
                    ledger: self.ledger.clone().unwrap_or_default(),
                    service_id: self.service.clone().unwrap_or_default(),
                    batch_id: id.clone(),
                },
                transaction_ids: self.transactions.clone(),
            };
            match ndjson::check(&batch, loaded) {
                Ok(()) => batches.push(batch),
                Err(error) if wrong.contains(&error) => {}
                Err(error) => wrong.push(error),
            }
        }
        if wrong.is_empty() {
            Ok(batches)
        } else {
            Err(Failure::Usage(format!(
                "nothing is tracked: {}",
                wrong.join("\n  ")
            )))
        }
    }
}

pub(super) async fn run(args: TrackArgs, loaded: &Loaded) -> Result<(), Failure> {
    let mut report = Report::default();
    if args.reads_input() {
        if let Some(name) = &args.ledger {
            context::ledger(loaded, name).map_err(Failure::Usage)?;
        }
        let store = context::open(loaded).await?;
        from_input(&args, loaded, &store, &mut report).await?;
    } else {
        let batches = args.named(loaded)?;
        let store = context::open(loaded).await?;
        report.track(&store, batches).await?;
    }
    report.print(&args.output)?;
    if report.refused > 0 {
        return Err(Failure::Said);
    }
    Ok(())
}

/// Tracks what standard input holds. A thread reads, so that the lines of a
/// slow writer are tracked without waiting for the next ones.
async fn from_input(
    args: &TrackArgs,
    loaded: &Loaded,
    store: &Store,
    report: &mut Report,
) -> Result<(), Failure> {
    let defaults = Defaults {
        ledger: args.ledger.clone(),
        service_id: args.service.clone(),
    };
    let (sender, lines) = mpsc::sync_channel(CHUNK);
    let reader = std::thread::spawn(move || {
        ndjson::for_each_line(io::stdin().lock(), |number, line| {
            sender.send((number, line)).is_ok()
        })
    });
    let progress = Progress::new("tracking batches", None);
    let mut chunk = Vec::new();
    loop {
        let next = lines.recv_timeout(COMPANY);
        let ended = matches!(next, Err(RecvTimeoutError::Disconnected));
        let waited = next.is_err();
        if let Ok((number, line)) = next {
            progress.advance(1);
            match line.and_then(|line| ndjson::parse(&line, &defaults, loaded)) {
                Ok(batch) => chunk.push(batch),
                Err(error) => {
                    progress.pause(|| note(&format_args!("line {number}: {error}")));
                    report.refuse(number, error);
                }
            }
        }
        if chunk.len() >= CHUNK || (waited && !chunk.is_empty()) {
            report.track(store, std::mem::take(&mut chunk)).await?;
        }
        if ended {
            break;
        }
    }
    match reader.join() {
        Ok(read) => Ok(read?),
        Err(_) => Err(Failure::Failed("standard input could not be read".into())),
    }
}

impl Report {
    async fn track(&mut self, store: &Store, batches: Vec<NewBatch>) -> Result<(), Failure> {
        let tracked = store.track_batches(batches).await.map_err(|error| {
            let before = self.accepted + self.known;
            Failure::Failed(format!(
                "{error}; {} tracked before: sending all of them again does no harm",
                output::count(before, "batch was", "batches were")
            ))
        })?;
        self.accepted += tracked.accepted;
        self.known += tracked.known;
        Ok(())
    }

    fn refuse(&mut self, line: usize, error: String) {
        self.refused += 1;
        if self.errors.len() < NAMED {
            self.errors.push(Refused { line, error });
        }
    }

    fn print(&self, args: &OutputArgs) -> Result<(), Failure> {
        if args.is_json() {
            return output::print_json(self);
        }
        let refused = match self.refused {
            0 => String::new(),
            refused => format!(", {} refused", output::count(refused, "line", "lines")),
        };
        output::print(format_args!(
            "{} tracked, {} known already{refused}",
            output::count(self.accepted, "batch", "batches"),
            self.known
        ))
    }
}
