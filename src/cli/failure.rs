//! How a command fails, and the exit code that follows.

use crate::app::AppError;
use crate::config::{ConfigErrors, DatabaseSettings};
use crate::store::StoreError;
use std::io;
use std::process::ExitCode;

/// A command that did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Used wrongly: exit 2.
    #[error("{0}")]
    Usage(String),
    /// The configuration cannot be used: exit 2, one mistake a line.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// The database did not do what was asked: exit 1.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The same, of a database that is named: exit 1.
    #[error("{location}: {source}")]
    Database {
        /// Where it is, without its password.
        location: String,
        /// What went wrong.
        source: StoreError,
    },
    /// The server did not start, or ended badly: exit 1.
    #[error(transparent)]
    App(#[from] AppError),
    /// Standard output or input broke: exit 1, but 0 when the reader of a pipe
    /// has seen enough (`| head`).
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Anything else: exit 1.
    #[error("{0}")]
    Failed(String),
    /// What went wrong was said already, or is the command's result: exit 1.
    #[error("not everything was done")]
    Said,
    /// The same for a wrong usage or configuration: exit 2.
    #[error("the configuration cannot be used")]
    SaidWrong,
}

impl Failure {
    /// Names the database that a failure is about.
    pub(super) fn of_database(self, database: &DatabaseSettings) -> Self {
        match self {
            Self::Store(source) => Self::Database {
                location: database.location.to_string(),
                source,
            },
            other => other,
        }
    }

    /// Says what went wrong, and gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        let code = match &self {
            Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Usage(_) | Self::Config(_) | Self::SaidWrong => 2,
            Self::Store(_)
            | Self::Database { .. }
            | Self::App(_)
            | Self::Io(_)
            | Self::Failed(_)
            | Self::Said => 1,
        };
        let silent = code == 0 || matches!(self, Self::Said | Self::SaidWrong);
        if !silent {
            // A mistake a line, each of which names its file: no prefix.
            match &self {
                Self::Config(errors) => super::output::note(errors),
                other => super::output::note(&format_args!("highwater: {other}")),
            }
        }
        ExitCode::from(code)
    }
}
