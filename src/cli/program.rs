//! The program as a library: the same command line, with Rust code of one's own.

use super::failure::Failure;
use crate::handlers::{EventError, LedgerEvent, Listeners, PollError, PollEvent};
use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

/// Highwater as a part of another program.
///
/// That program is `highwater` with code for some jobs: it has every
/// subcommand, reads the same configuration and the same environment.
///
/// ```no_run
/// use highwater::Highwater;
///
/// fn main() -> std::process::ExitCode {
///     Highwater::builder()
///         .on("app:org.example:job=default:poll", async |event| {
///             println!("{} is at {}", event.site().site_id, event.site().url);
///             Ok(())
///         })
///         .run()
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Highwater {}

/// Gathers code for events; [`run`](Self::run) hands over to the command line.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing runs before `run`"]
pub struct HighwaterBuilder {
    listeners: Listeners,
    problem: Option<String>,
}

impl Highwater {
    /// Begins with no code: built like this, it is the `highwater` program.
    pub fn builder() -> HighwaterBuilder {
        HighwaterBuilder::default()
    }
}

impl HighwaterBuilder {
    /// Registers code for an event; [`Listeners`] lists the events. It runs on
    /// the threads that do the network work: what blocks belongs on
    /// `tokio::task::spawn_blocking`. A failure or a panic in it is a failure of
    /// that visit, and so is not being done within the timeout of the job's
    /// handler. A name that is no event's is told of by [`run`](Self::run).
    pub fn on<F, R>(mut self, event: &str, listener: F) -> Self
    where
        F: Fn(PollEvent) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), PollError>> + Send + 'static,
    {
        if let Err(problem) = self.listeners.on(event, listener) {
            self.problem.get_or_insert(problem.to_string());
        }
        self
    }

    /// Registers code for the relevant events of a subscription whose handler is
    /// `code`: called for one event after the other, in order, and again for an
    /// event when it failed, panicked or took longer than the handler's timeout.
    /// A name that is no subscription's is told of by [`run`](Self::run).
    ///
    /// ```no_run
    /// highwater::Highwater::builder()
    ///     .on_event("claims", async |event| {
    ///         println!("{} in block {}", event.name(), event.block());
    ///         Ok(())
    ///     })
    ///     .run();
    /// ```
    pub fn on_event<F, R>(mut self, subscription: &str, listener: F) -> Self
    where
        F: Fn(LedgerEvent) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), EventError>> + Send + 'static,
    {
        if let Err(problem) = self.listeners.on_event(subscription, listener) {
            self.problem.get_or_insert(problem.to_string());
        }
        self
    }

    /// Runs the program with the arguments of this process and says how it
    /// ends. Blocks until the command is done; a server's until it is stopped.
    pub fn run(self) -> ExitCode {
        self.run_with(std::env::args_os())
    }

    /// The same with these arguments; the first is the program's name.
    pub fn run_with(self, args: impl IntoIterator<Item = OsString>) -> ExitCode {
        match self.problem {
            None => super::run(args, self.listeners),
            Some(problem) => Failure::Usage(problem).report(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(builder: HighwaterBuilder) -> ExitCode {
        builder.run_with(["own", "--version"].map(OsString::from))
    }

    #[test]
    fn a_wrong_event_is_wrong_usage_whatever_the_command() {
        let listener = async |_| Ok(());
        assert_eq!(ends(Highwater::builder()), ExitCode::SUCCESS);
        let builder = Highwater::builder().on("civi_cxn.poll", listener);
        assert_eq!(ends(builder.clone()), ExitCode::SUCCESS);
        assert_eq!(
            ends(builder.on("civi_cxn.pol", listener)),
            ExitCode::from(2)
        );
        let builder = Highwater::builder().on_event("claims", async |_| Ok(()));
        assert_eq!(ends(builder.clone()), ExitCode::SUCCESS);
        let listener = async |_| Ok(());
        assert_eq!(ends(builder.on_event("", listener)), ExitCode::from(2));
    }
}
