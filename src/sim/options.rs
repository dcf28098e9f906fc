//! What a simulator can be told at its start, also on the command line.

use super::behaviour::parse_share;
use super::{Behaviour, Fault, FaultShare, LedgerSim};
use crate::ledgers::LedgerKind;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// A simulated ledger's options.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct SimOptions {
    /// Protocol to speak: sawtooth or splinter.
    #[arg(long, value_parser = parse_kind, default_value = "sawtooth")]
    pub kind: LedgerKind,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Threads that answer requests.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub workers: usize,
    /// How long every answer takes.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s", value_name = "TIME")]
    pub latency: Duration,
    /// What is added to the latency at most, evenly spread.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s", value_name = "TIME")]
    pub jitter: Duration,
    /// How long a batch stays pending before it is decided, as in 2s..5s; each
    /// batch has its own time, drawn from its id.
    #[arg(long, default_value = "0s", value_name = "FROM..TO")]
    pub commit_after: Span,
    /// Share of batches that turn out invalid, drawn by id.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub invalid: f64,
    /// Share of batches that stay Valid for ever (Splinter; on Sawtooth they
    /// stay PENDING).
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub stay_valid: f64,
    /// Share of batches that stay pending for ever.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub stay_pending: f64,
    /// Share of batches that the ledger never knows.
    #[arg(long, value_parser = share, default_value = "0", value_name = "SHARE")]
    pub never_known: f64,
    /// Changes what is drawn from ids.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// A batch that was never submitted becomes known when it is first asked
    /// for, as if it had been submitted then.
    #[arg(long)]
    pub auto_submit: bool,
    /// How many batches of a service are remembered; 0 for all. By default 100
    /// on Splinter, as recorded, and all on Sawtooth.
    #[arg(long, value_name = "N")]
    pub remember: Option<usize>,
    /// Splinter: answer in the order asked, not in any order.
    #[arg(long)]
    pub in_order: bool,
    /// Sawtooth: how often the entry of an invalid transaction is repeated at
    /// most; one more about each second. 0 gives it once.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub repeats: u32,
    /// Sawtooth: an invalid batch nobody asks about for so long is forgotten.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10m", value_name = "TIME")]
    pub invalid_memory: Duration,
    /// Sawtooth: the REST API's timeout towards its validator; also the longest
    /// wait.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "5m", value_name = "TIME")]
    pub validator_timeout: Duration,
    /// Splinter: a service that exists, repeatable. All exist when none is given.
    #[arg(long = "service", value_name = "CIRCUIT::SERVICE")]
    pub services: Vec<String>,
    /// Token that requests must carry: 401 without. Splinter expects it as
    /// "Bearer Cylinder:TOKEN", Sawtooth (a proxy before it) as "Bearer TOKEN".
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// What goes wrong, and for which share of requests; see [`Fault`].
    #[arg(long = "fault", value_name = "FAULT[:SHARE]", help = fault_help())]
    pub faults: Vec<FaultShare>,
    /// What goes wrong at one service only.
    #[arg(
        long = "service-fault",
        value_name = "SERVICE=FAULT[:SHARE]",
        help = "What goes wrong at one service only, as in btXBt-Rb4VS::a000=hang:1; repeatable"
    )]
    pub service_faults: Vec<ServiceFault>,
    /// Seconds in the Retry-After of a 429; left out by default, as recorded.
    #[arg(long, value_name = "SECONDS")]
    pub retry_after: Option<u64>,
    /// How many of the ids that were asked for after they were final are kept
    /// in the statistics.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub keep_ids: usize,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            kind: LedgerKind::Sawtooth,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            workers: 1,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            commit_after: Span::default(),
            invalid: 0.0,
            stay_valid: 0.0,
            stay_pending: 0.0,
            never_known: 0.0,
            seed: 0,
            auto_submit: false,
            remember: None,
            in_order: false,
            repeats: 10,
            invalid_memory: Duration::from_secs(600),
            validator_timeout: Duration::from_secs(300),
            services: Vec::new(),
            token: None,
            faults: Vec::new(),
            service_faults: Vec::new(),
            retry_after: None,
            keep_ids: 20,
        }
    }
}

impl SimOptions {
    /// The defaults for one kind of ledger.
    pub fn of(kind: LedgerKind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    /// How the ledger behaves at the start.
    pub fn behaviour(&self) -> Behaviour {
        Behaviour {
            latency: self.latency,
            jitter: self.jitter,
            faults: self.faults.iter().map(|f| (f.fault, f.share)).collect(),
            retry_after: self.retry_after,
            ..Behaviour::default()
        }
    }

    /// How many batches of a service are remembered; 0 for all.
    pub fn memory_limit(&self) -> usize {
        self.remember.unwrap_or(match self.kind {
            LedgerKind::Sawtooth => 0,
            LedgerKind::Splinter => 100,
        })
    }
}

/// A time between two bounds, written `2s..5s`, or `2s` for exactly that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    min: Duration,
    max: Duration,
}

impl Span {
    /// Takes both bounds, in either order.
    pub fn new(one: Duration, other: Duration) -> Self {
        Self {
            min: one.min(other),
            max: one.max(other),
        }
    }

    /// The time at a share (0 to 1) of the way from the first to the last.
    pub fn at(self, share: f64) -> Duration {
        self.min + (self.max - self.min).mul_f64(share.clamp(0.0, 1.0))
    }
}

impl From<Duration> for Span {
    fn from(time: Duration) -> Self {
        Self::new(time, time)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (self.min, self.max);
        write!(
            f,
            "{}..{}",
            humantime::format_duration(min),
            humantime::format_duration(max)
        )
    }
}

impl FromStr for Span {
    type Err = ParseOptionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bound = |part: &str| {
            humantime::parse_duration(part).map_err(|_| ParseOptionError::Span(text.to_owned()))
        };
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let (min, max) = (bound(from)?, bound(to)?);
        if min > max {
            return Err(ParseOptionError::Span(text.to_owned()));
        }
        Ok(Self { min, max })
    }
}

/// A fault at one service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceFault {
    /// Service id, `""` on Sawtooth.
    pub service_id: String,
    /// What goes wrong there, and how often.
    pub fault: FaultShare,
}

impl FromStr for ServiceFault {
    type Err = ParseOptionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (service_id, fault) = text
            .split_once('=')
            .ok_or_else(|| ParseOptionError::ServiceFault(text.to_owned()))?;
        Ok(Self {
            service_id: service_id.to_owned(),
            fault: fault.parse()?,
        })
    }
}

/// An option of the simulator that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseOptionError {
    /// Not a kind of ledger.
    #[error("\"{0}\" is no kind of ledger; expected sawtooth or splinter")]
    Kind(String),
    /// Not a share.
    #[error("\"{0}\" is no share; expected a number from 0 to 1")]
    Share(String),
    /// Not a time or a range of times.
    #[error("\"{0}\" is no range of times; expected FROM..TO or one time, as in 2s..5s or 500ms")]
    Span(String),
    /// Not a fault at a service.
    #[error("\"{0}\" names no service; expected SERVICE=FAULT:SHARE, as in circuit::a000=hang:1")]
    ServiceFault(String),
    /// Not a fault.
    #[error(transparent)]
    Fault(#[from] super::ParseFaultError),
}

fn fault_help() -> String {
    let words = Fault::ALL.map(Fault::as_str).join(", ");
    format!(
        "What goes wrong, and for which share of requests, as in hang:0.1; repeatable. \
         One of {words}"
    )
}

fn parse_kind(text: &str) -> Result<LedgerKind, ParseOptionError> {
    [LedgerKind::Sawtooth, LedgerKind::Splinter]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| ParseOptionError::Kind(text.to_owned()))
}

fn share(text: &str) -> Result<f64, ParseOptionError> {
    parse_share(text).ok_or_else(|| ParseOptionError::Share(text.to_owned()))
}

/// Runs a simulated ledger until SIGINT or SIGTERM: what `highwater sim
/// ledger` does. Prints the address when it listens, and what was counted at
/// the end. Needs a tokio runtime with signals and I/O.
///
/// # Errors
/// The address is taken or not allowed, a signal handler cannot be set, or
/// standard output is closed.
pub async fn run_ledger(options: SimOptions) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let kind = options.kind;
    let ledger = LedgerSim::start(options)?;
    writeln!(
        io::stdout(),
        "simulated {kind} ledger listening on {url}\n\
         its own endpoints: GET {url}/sim/stats, POST {url}/sim/submit, /sim/commit, /sim/behaviour, /sim/restart, /sim/drop_streams",
        url = ledger.url()
    )?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let stats = ledger.stats();
    ledger.stop();
    writeln!(
        io::stdout(),
        "{} requests for {} ids of {} batches; {} asked after they were final",
        stats.requests,
        stats.ids_asked,
        stats.batches,
        stats.asked_after_final
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: SimOptions,
    }

    fn parse(args: &[&str]) -> Result<SimOptions, String> {
        Command::try_parse_from([&["sim"], args].concat())
            .map(|command| command.options)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn no_arguments_give_the_defaults() {
        assert_eq!(parse(&[]).unwrap(), SimOptions::default());
    }

    #[test]
    fn the_command_line_is_understood() {
        let options = parse(&[
            "--kind=splinter",
            "--listen=127.0.0.1:8085",
            "--commit-after=2s..5s",
            "--invalid=0.1",
            "--fault=hang:0.5",
            "--service-fault=c::s=fail",
        ])
        .unwrap();
        assert_eq!(options.memory_limit(), 100);
        assert_eq!(options.commit_after.at(0.5), Duration::from_millis(3500));
        assert_eq!(options.behaviour().faults[&Fault::Hang], 0.5);
        assert_eq!(options.service_faults[0].service_id, "c::s");
    }

    #[test]
    fn mistakes_are_named() {
        for (arg, words) in [
            ("--kind=fabric", "sawtooth or splinter"),
            ("--commit-after=5s..2s", "as in 2s..5s"),
            ("--invalid=7", "from 0 to 1"),
            ("--service-fault=hang", "circuit::a000=hang:1"),
        ] {
            let error = parse(&[arg]).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
