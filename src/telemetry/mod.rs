//! Tracing and metrics: set up once per process, changed live.

mod logging;
mod recorder;

pub use logging::{apply_log_settings, init_logging};
pub use recorder::{install_metrics, render_metrics};
