//! How services end: typed reasons, and the guard that notices an end
//! whatever its cause.
//!
//! actix restarts nothing after a panic and tells nobody: the mailbox is
//! closed and the process lives on. So every service holds an [`ExitGuard`],
//! whose `Drop` runs while the panic unwinds and reports it.

use super::liveness::Silence;
use super::stats::lock;
use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Why a service ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It panicked.
    Panic {
        /// The panic's message.
        message: String,
        /// File and line.
        place: String,
    },
    /// It ended itself with an error.
    Error(String),
    /// It was told to stop, or stopped by itself without an error.
    Stopped,
    /// It gave no sign of life for too long, and was given up.
    Unresponsive(Silence),
    /// Another service blocked the thread on which it ran.
    ThreadBlocked {
        /// The other service.
        by: String,
    },
    /// A service that it depends on ended.
    Dependency {
        /// The other service.
        on: String,
    },
    /// An operator had it restarted.
    Asked,
}

impl ExitReason {
    /// A word for metrics and pages, of a bounded set.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Panic { .. } => "panic",
            Self::Error(_) => "error",
            Self::Stopped => "stopped",
            Self::Unresponsive(_) => "unresponsive",
            Self::ThreadBlocked { .. } => "thread_blocked",
            Self::Dependency { .. } => "dependency",
            Self::Asked => "asked",
        }
    }

    /// Whether the end speaks against the service, and so counts towards its
    /// intensity limit.
    pub const fn is_own_fault(&self) -> bool {
        !matches!(
            self,
            Self::ThreadBlocked { .. } | Self::Dependency { .. } | Self::Asked
        )
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic { message, place } => write!(f, "panic at {place}: {message}"),
            Self::Error(error) => write!(f, "{error}"),
            Self::Stopped => f.write_str("stopped"),
            Self::Unresponsive(silence) => write!(f, "unresponsive: {silence}"),
            Self::ThreadBlocked { by } => write!(f, "{by} blocked the thread that it ran on"),
            Self::Dependency { on } => write!(f, "restarted with {on}, which it depends on"),
            Self::Asked => f.write_str("restarted as asked"),
        }
    }
}

thread_local! {
    static LAST_PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Makes panics known to the guards of their threads, and logs them; to be
/// called once, before services start. Later calls change nothing.
pub fn watch_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let message = info
                .payload_as_str()
                .map_or_else(|| "a panic without a message".to_owned(), str::to_owned);
            let place = info
                .location()
                .map_or_else(|| "unknown place".to_owned(), ToString::to_string);
            tracing::error!(panic.message = %message, panic.place = %place, "panic");
            LAST_PANIC.with(|last| *last.borrow_mut() = Some((message, place)));
        }));
    });
}

/// An end that the Supervisor has not dealt with yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) generation: u64,
    pub(super) reason: ExitReason,
}

/// Where guards leave their reports.
#[derive(Debug, Default)]
pub(super) struct ExitBox {
    exits: Mutex<Vec<Exit>>,
}

impl ExitBox {
    pub(super) fn take(&self) -> Vec<Exit> {
        std::mem::take(&mut lock(&self.exits))
    }

    pub(super) fn put(&self, generation: u64, reason: ExitReason) {
        lock(&self.exits).push(Exit { generation, reason });
    }
}

/// Says that a generation of a service was given up: what it still does must
/// have no effect. A thread that is blocked cannot be killed, and may come back
/// at any time with the old service on it.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<AtomicBool>);

impl Fence {
    /// Whether the generation was given up.
    #[inline]
    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Reports the end of the service that holds it, once its last holder is gone.
#[derive(Debug)]
pub(super) struct ExitGuard {
    pub(super) generation: u64,
    pub(super) exits: Arc<ExitBox>,
    pub(super) bell: Arc<Notify>,
    pub(super) error: Mutex<Option<String>>,
}

impl ExitGuard {
    pub(super) fn ends_with(&self, error: String) {
        *lock(&self.error) = Some(error);
    }
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        let reason = if std::thread::panicking() {
            let (message, place) = LAST_PANIC
                .with(|last| last.borrow_mut().take())
                .unwrap_or_else(|| ("unknown panic".to_owned(), "unknown place".to_owned()));
            ExitReason::Panic { message, place }
        } else {
            lock(&self.error)
                .take()
                .map_or(ExitReason::Stopped, ExitReason::Error)
        };
        self.exits.put(self.generation, reason);
        self.bell.notify_one();
    }
}
