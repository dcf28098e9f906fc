//! How the store can fail, by what the caller does about it.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// A failed store operation.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, a lost one, or a lock held too long: keep the work, try again.
    #[error("the database is out of reach: {0}")]
    Unreachable(String),
    /// Somebody else holds a lock on a row for too long: write the others, try
    /// this again.
    #[error("a row is locked by somebody else: {0}")]
    Locked(String),
    /// A lease is not held any more: leave what it is of alone.
    #[error("lease {0} was lost: somebody else took it over, or it was given back")]
    LeaseLost(String),
    /// The database was migrated by a newer Highwater: do not touch it.
    #[error(
        "the database has migration {version}, which this Highwater does not know: it was migrated \
         by a newer one; install that version or restore a backup"
    )]
    Newer {
        /// The unknown migration.
        version: String,
    },
    /// A migration failed; it was rolled back.
    #[error("migration failed: {0}")]
    Migration(String),
    /// The statement was refused: a defect, or a schema changed by hand.
    #[error("the database refused a statement: {0}")]
    Refused(String),
    /// A defect of Highwater itself.
    #[error("internal error: {0}")]
    Internal(String),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Locked(_))
    }
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        match &error {
            DieselError::DatabaseError(
                DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::SerializationFailure,
                _,
            )
            | DieselError::BrokenTransactionManager => Self::Unreachable(error.to_string()),
            DieselError::DatabaseError(DatabaseErrorKind::Unknown, info)
                if info.message().contains("due to lock timeout") =>
            {
                Self::Locked(error.to_string())
            }
            DieselError::DatabaseError(DatabaseErrorKind::Unknown, info)
                if is_passing(info.message()) =>
            {
                Self::Unreachable(error.to_string())
            }
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// Whether a message that diesel has no kind for tells of a passing state:
/// SQLite's lock and disk words, PostgreSQL's shutdown and recovery.
fn is_passing(message: &str) -> bool {
    const PASSING: [&str; 13] = [
        "canceling statement due to",
        "database is locked",
        "database table is locked",
        "disk I/O error",
        "database or disk is full",
        "unable to open database file",
        "connection closed",
        "terminating connection",
        "the database system is",
        "deadlock detected",
        "remaining connection slots",
        "too many clients",
        "error communicating with the server",
    ];
    PASSING.iter().any(|words| message.contains(words))
}

impl From<diesel_async::pooled_connection::deadpool::PoolError> for StoreError {
    fn from(error: diesel_async::pooled_connection::deadpool::PoolError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl From<StoreError> for crate::flows::batches::BatchError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unreachable(detail) => Self::Store(detail),
            StoreError::Locked(detail) => Self::Locked(detail),
            StoreError::Internal(detail) => Self::InternalError(detail),
            other => Self::Refused(other.to_string()),
        }
    }
}

impl From<DieselError> for crate::flows::replicas::FetchError {
    fn from(error: DieselError) -> Self {
        Self::Store(error.into())
    }
}
