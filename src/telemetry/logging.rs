//! The log of the process: filter, format, outputs and traces, changed live.

use super::export;
use super::file::{self, LogFile};
use super::lines::{Lines, outputs};
use super::traces::Traces;
use crate::config::LogSettings;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::Subscriber;
use tracing_subscriber::layer::{Layer as _, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// How long the last traces may take to be sent.
const LAST_TRACES: Duration = Duration::from_secs(2);

/// Why log settings were not applied; nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log file.
    #[error(
        "the log file {path} cannot be opened: {detail}; correct log.file.path or the rights on its folder"
    )]
    File {
        /// As configured.
        path: PathBuf,
        /// What went wrong.
        detail: String,
    },
    /// The sending of traces.
    #[error("traces cannot be sent to {endpoint}: {detail}; correct log.traces.endpoint")]
    Traces {
        /// As configured.
        endpoint: String,
        /// What went wrong.
        detail: String,
    },
    /// The filter, which was checked with the configuration.
    #[error("the log filter \"{filter}\" cannot be used: {detail}")]
    Filter {
        /// As configured.
        filter: String,
        /// What went wrong.
        detail: String,
    },
}

/// What can be changed of the process's log.
struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    lines: reload::Handle<Lines, Registry>,
    traces: Traces,
    applied: Mutex<Applied>,
}

/// What is in force.
#[derive(Default)]
struct Applied {
    settings: Option<LogSettings>,
    file: Option<LogFile>,
    exporter: Option<JoinHandle<()>>,
}

static LOGGING: OnceLock<Logging> = OnceLock::new();

/// Begins to log; what libraries log through `log` comes along. Later calls in
/// the same process change the settings. Traces are sent on `runtime`.
///
/// # Errors
/// An output cannot be used.
pub fn init_logging(settings: &LogSettings, runtime: &Handle) -> Result<(), LogError> {
    if LOGGING.get().is_none() {
        let (subscriber, logging) = Logging::new();
        if subscriber.try_init().is_ok() {
            // Set once: only the first initialisation gets here.
            drop(LOGGING.set(logging));
        }
    }
    apply_log_settings(settings, runtime)
}

/// Changes a log that was begun with [`init_logging`]. May wait for a disk, to
/// open the new file and to write what is queued for the former one.
///
/// # Errors
/// An output cannot be used: nothing was changed.
pub fn apply_log_settings(settings: &LogSettings, runtime: &Handle) -> Result<(), LogError> {
    LOGGING
        .get()
        .map_or(Ok(()), |logging| logging.apply(settings, runtime))
}

/// Whether the outputs can be used, as far as that can be known beforehand.
/// Makes a log file that is not there yet, and waits for its disk: not to be
/// called on an actor's thread.
///
/// # Errors
/// Which one cannot.
pub fn check_log_settings(settings: &LogSettings) -> Result<(), LogError> {
    filter(settings)?;
    if let Some(traces) = &settings.traces {
        export::exporter(&traces.endpoint)?;
    }
    settings.file.as_ref().map_or(Ok(()), file::check)
}

/// Ends traces and log file, with what is left for them, within a few seconds.
/// Standard error goes on.
pub async fn finish_logging() {
    let Some(logging) = LOGGING.get() else { return };
    let exporter = logging.end_traces();
    if let Some(exporter) = exporter
        && timeout(LAST_TRACES, exporter).await.is_err()
    {
        tracing::warn!("the last traces were not sent in time");
    }
    let file = logging.end_file();
    let flushed = tokio::task::spawn_blocking(move || drop(file)).await;
    if let Err(error) = flushed {
        tracing::error!(error = %error, "the log file was not ended well");
    }
}

impl Logging {
    /// Two layers over the registry, lines and traces, each with a filter of
    /// its own: the one that stands outside of `reload`, since a filter inside a
    /// layer that is changed live makes it panic.
    fn new() -> (impl Subscriber + Into<tracing::Dispatch>, Self) {
        // What libraries log through `log` is capped for good by the filter of
        // the start, so that it lets everything through; there is no output yet.
        let (filter_layer, filter) = reload::Layer::new(EnvFilter::new("trace"));
        let (lines_layer, lines) = reload::Layer::new(Lines::new());
        let traces = Traces::new();
        let subscriber = tracing_subscriber::registry()
            .with(lines_layer.with_filter(filter_layer))
            .with(traces.layer());
        let logging = Self {
            filter,
            lines,
            traces,
            applied: Mutex::default(),
        };
        (subscriber, logging)
    }

    fn applied(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, settings: &LogSettings, runtime: &Handle) -> Result<(), LogError> {
        let mut applied = self.applied();
        let before = applied.settings.take();
        let result = self.change(&mut applied, before.as_ref(), settings, runtime);
        applied.settings = match result {
            Ok(()) => Some(settings.clone()),
            Err(_) => before,
        };
        result
    }

    fn change(
        &self,
        applied: &mut Applied,
        before: Option<&LogSettings>,
        settings: &LogSettings,
        runtime: &Handle,
    ) -> Result<(), LogError> {
        if before == Some(settings) {
            return Ok(());
        }
        // What can fail comes first.
        let filter = filter(settings)?;
        let same_file = before.is_some_and(|before| before.file == settings.file);
        let file = match &settings.file {
            Some(file) if !same_file => Some(LogFile::open(file)?),
            _ => None,
        };
        let traces_before = before.and_then(|before| before.traces.as_ref());
        let changed = self
            .traces
            .apply(traces_before, settings.traces.as_ref(), runtime)?;
        if let Some(exporter) = changed {
            // A former one sends what it has and ends by itself.
            applied.exporter = exporter;
        }
        let former = if same_file {
            None
        } else {
            std::mem::replace(&mut applied.file, file)
        };
        let writer = applied.file.as_ref().map(LogFile::writer);
        self.set(outputs(settings, writer), filter);
        // Last, so that no line is under way to it: writes what it has.
        drop(former);
        if before.is_some() {
            tracing::info!(logging.filter = settings.filter, "log settings applied");
        }
        Ok(())
    }

    /// Cannot fail while the subscriber lives, which is as long as the process.
    fn set(&self, lines: Lines, filter: EnvFilter) {
        drop(self.lines.reload(lines));
        drop(self.filter.reload(filter));
    }

    fn end_traces(&self) -> Option<JoinHandle<()>> {
        let mut applied = self.applied();
        if let Some(settings) = &mut applied.settings {
            settings.traces = None;
        }
        self.traces.end();
        applied.exporter.take()
    }

    fn end_file(&self) -> Option<LogFile> {
        let mut applied = self.applied();
        let file = applied.file.take()?;
        if let Some(settings) = &mut applied.settings {
            settings.file = None;
            drop(self.lines.reload(outputs(settings, None)));
        }
        Some(file)
    }
}

/// What is logged: spans of traces are not, whatever the filter.
fn filter(settings: &LogSettings) -> Result<EnvFilter, LogError> {
    let failed = |detail: String| LogError::Filter {
        filter: settings.filter.clone(),
        detail,
    };
    let no_spans = format!("{}=off", super::TRACE_TARGET);
    let no_spans = no_spans
        .parse()
        .map_err(|error: tracing_subscriber::filter::ParseError| failed(error.to_string()))?;
    EnvFilter::builder()
        .with_regex(false)
        .parse(&settings.filter)
        .map(|filter| filter.add_directive(no_spans))
        .map_err(|error| failed(error.to_string()))
}
