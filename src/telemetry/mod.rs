//! Log, traces and metrics: set up once per process, changed live.

mod export;
mod file;
mod lines;
mod logging;
mod recorder;
mod traces;

pub use logging::{LogError, apply_log_settings, check_log_settings, finish_logging, init_logging};
pub use recorder::{install_metrics, render_metrics};
pub use traces::{TRACE_TARGET, as_i64, trace_headers};
