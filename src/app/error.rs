//! Why a server did not start or did not end well.

use crate::flows::replicas::DatasetName;
use crate::store::StoreError;
use crate::telemetry::LogError;
use crate::watchdog::LookupError;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A server that did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The database.
    #[error("{location}: {source}")]
    Store {
        /// Where it is, without its password.
        location: String,
        /// What went wrong.
        source: StoreError,
    },
    /// Another server works on this SQLite file.
    #[error(
        "another Highwater server{holder} works on {path}; only one may. Stop it, or give this one \
         a database of its own (several servers can share a PostgreSQL)"
    )]
    SecondServer {
        /// The database file.
        path: PathBuf,
        /// Its process, where known: ` (process 123)`.
        holder: String,
    },
    /// The lock file beside a SQLite database.
    #[error("{path}: {source}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The address to listen on.
    #[error("cannot listen on {listen}: {source}; choose another [http] listen address")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The address of a dataset's seed wire.
    #[error(
        "datasets.{dataset}.seed_listen: cannot listen on {listen}: {source}; choose another address, or leave it out"
    )]
    SeedListen {
        /// The dataset.
        dataset: DatasetName,
        /// The address.
        listen: SocketAddr,
        /// What went wrong.
        source: std::io::Error,
    },
    /// An output of the log.
    #[error("{0}")]
    Log(#[from] LogError),
    /// The runtime could not be built, or signals not be watched.
    #[error("the runtime could not be started: {0}")]
    Runtime(std::io::Error),
    /// Services were wired wrongly: a defect.
    #[error("internal error: {0}")]
    Wiring(#[from] LookupError),
    /// The drain was cut short; what was abandoned is done again at the next start.
    #[error("stopped before everything was drained: {0}")]
    CutShort(String),
}
