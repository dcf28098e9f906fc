//! What is logged of services. Noted while the register is locked and logged
//! afterwards: whoever reads the log may be slow, and nobody waits for the
//! register meanwhile.

use super::exit::ExitReason;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened to a service.
#[derive(Debug)]
pub(super) enum Note {
    Starts {
        service: Arc<str>,
        generation: u64,
    },
    Stopped {
        service: Arc<str>,
    },
    Follows {
        service: Arc<str>,
        exit: ExitReason,
    },
    Restarts {
        service: Arc<str>,
        exit: ExitReason,
        after: Duration,
    },
    Fails {
        service: Arc<str>,
        exit: ExitReason,
        why: String,
    },
    NoThread {
        thread: Arc<str>,
        error: std::io::Error,
    },
    ThreadIsBack {
        service: String,
        thread: String,
    },
}

impl Note {
    pub(super) fn log(self) {
        match self {
            Self::Starts {
                service,
                generation,
            } => {
                tracing::debug!(service.name = %service, service.generation = generation, "service starts");
            }
            Self::Stopped { service } => {
                tracing::info!(service.name = %service, "service stopped");
            }
            Self::Follows { service, exit } => {
                tracing::info!(service.name = %service, service.exit = %exit, "service ended with another");
            }
            Self::Restarts {
                service,
                exit,
                after,
            } => {
                tracing::error!(
                    service.name = %service,
                    service.exit = %exit,
                    service.restart_after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
                    "service ended and is restarted"
                );
            }
            Self::Fails { service, exit, why } => {
                tracing::error!(service.name = %service, service.exit = %exit, service.failed = %why, "service failed");
            }
            Self::NoThread { thread, error } => {
                tracing::error!(thread.name = %thread, error = %error, "no thread can be started; tried again");
            }
            Self::ThreadIsBack { service, thread } => {
                tracing::warn!(
                    service.name = %service,
                    thread.name = %thread,
                    "a thread that was given up for lost came back and is ended"
                );
            }
        }
    }
}
