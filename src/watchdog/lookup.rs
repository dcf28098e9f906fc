//! Why the watchdog does not do what it is asked.

/// What was asked of the watchdog cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No such service.
    #[error("there is no service \"{service}\"; there are: {}", .known.join(", "))]
    NoService {
        /// The name that was asked for.
        service: String,
        /// The services there are.
        known: Vec<String>,
    },
    /// The service is not open to that message.
    #[error("service \"{service}\" does not accept {message}")]
    NotAccepted {
        /// Service.
        service: String,
        /// Type of the message.
        message: &'static str,
    },
    /// The service has no settings of that type.
    #[error("service \"{service}\" has no settings of type {settings}")]
    NoSettings {
        /// Service.
        service: String,
        /// Type of the settings.
        settings: &'static str,
    },
    /// The service has no state of that type.
    #[error("service \"{service}\" has no state of type {state}")]
    NoState {
        /// Service.
        service: String,
        /// Type of the state.
        state: &'static str,
    },
    /// The settings did not pass the service's check.
    #[error("settings of service \"{service}\": {problem}")]
    WrongSettings {
        /// Service.
        service: String,
        /// What is wrong.
        problem: String,
    },
    /// A service of that name is there already.
    #[error("there is a service \"{0}\" already")]
    Exists(String),
    /// What cannot be done to that service.
    #[error("service \"{service}\" {why}")]
    NotAllowed {
        /// Service.
        service: String,
        /// Why, and what to do instead.
        why: &'static str,
    },
    /// Everything is being shut down.
    #[error("the server is shutting down; nothing was changed")]
    ShuttingDown,
}
