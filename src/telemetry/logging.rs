//! Log lines: filter and format, changed live.

use crate::config::{LogFormat, LogSettings};
use std::sync::OnceLock;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

static HANDLE: OnceLock<reload::Handle<Lines, Registry>> = OnceLock::new();

/// Begins to log to standard error; what libraries log through `log` comes
/// along. Later calls in the same process change filter and format.
pub fn init_logging(settings: &LogSettings) {
    if HANDLE.get().is_some() {
        apply_log_settings(settings);
        return;
    }
    let (layer, handle) = reload::Layer::new(lines(settings));
    if tracing_subscriber::registry()
        .with(layer)
        .try_init()
        .is_ok()
    {
        // Set once: only the first initialisation gets here.
        drop(HANDLE.set(handle));
    }
}

/// Changes filter and format of a log that was begun with [`init_logging`].
pub fn apply_log_settings(settings: &LogSettings) {
    if let Some(handle) = HANDLE.get()
        && let Err(error) = handle.reload(lines(settings))
    {
        tracing::error!(error = %error, "the log settings were not changed");
    }
}

fn lines(settings: &LogSettings) -> Lines {
    // The filter was checked with the configuration.
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let base = fmt::layer().with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Text => base.with_filter(filter).boxed(),
        LogFormat::Json => base.json().flatten_event(true).with_filter(filter).boxed(),
    }
}
