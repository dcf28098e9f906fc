//! Log lines: filter and format, changed live.

use crate::config::{LogFormat, LogSettings};
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::layer::{Layer, Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// What is logged below, and how it looks on top: two layers, since a filter
/// that is part of another layer cannot be changed live (it panics).
type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

struct Handles {
    filter: reload::Handle<EnvFilter, Registry>,
    lines: reload::Handle<Lines, Filtered>,
}

static HANDLES: OnceLock<Handles> = OnceLock::new();

/// Begins to log to standard error; what libraries log through `log` comes
/// along. Later calls in the same process change filter and format.
pub fn init_logging(settings: &LogSettings) {
    if HANDLES.get().is_some() {
        apply_log_settings(settings);
        return;
    }
    let (filter_layer, filter) = reload::Layer::new(filter(settings));
    let (lines_layer, lines) = reload::Layer::new(lines(settings));
    if tracing_subscriber::registry()
        .with(filter_layer)
        .with(lines_layer)
        .try_init()
        .is_ok()
    {
        // Set once: only the first initialisation gets here.
        drop(HANDLES.set(Handles { filter, lines }));
    }
}

/// Changes filter and format of a log that was begun with [`init_logging`].
pub fn apply_log_settings(settings: &LogSettings) {
    if let Some(handles) = HANDLES.get() {
        let changed = handles.lines.reload(lines(settings));
        if let Err(error) = changed.and_then(|()| handles.filter.reload(filter(settings))) {
            tracing::error!(error = %error, "the log settings were not changed");
        }
    }
}

fn filter(settings: &LogSettings) -> EnvFilter {
    // It was checked with the configuration.
    EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"))
}

fn lines(settings: &LogSettings) -> Lines {
    let base = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match settings.format {
        LogFormat::Text => base.boxed(),
        LogFormat::Json => base.json().flatten_event(true).boxed(),
    }
}
