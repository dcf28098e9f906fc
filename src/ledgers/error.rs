//! How a ledger can fail, by what the caller does about it.

use std::time::Duration;

/// How far a failure reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureScope {
    /// The whole ledger is out of reach: its other services would fail alike.
    Ledger,
    /// This service only, until other services fail too.
    Service,
}

/// A request to a ledger that brought no statuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// No connection (refused, name not found, TLS): back the ledger off.
    #[error("cannot connect: {detail}")]
    Unreachable {
        /// What the network said.
        detail: String,
    },
    /// No whole answer within our timeout: back the service off.
    #[error("no answer within {after:?}")]
    Timeout {
        /// The timeout.
        after: Duration,
    },
    /// The ledger answered 5xx: back the service off.
    #[error("the ledger answered {status}: {detail}")]
    Server {
        /// HTTP status.
        status: u16,
        /// The ledger's words, bounded.
        detail: String,
    },
    /// The answer is not what the protocol says (garbage, cut off, too
    /// large): back the service off.
    #[error("the answer makes no sense: {detail}")]
    Malformed {
        /// What was wrong.
        detail: String,
    },
    /// 401 or 403: the token is missing, wrong or not permitted; asked again
    /// seldom, since a person has to act.
    #[error(
        "not authorised ({status}): {detail}; check the ledger's token_file and its permissions"
    )]
    Unauthorized {
        /// HTTP status.
        status: u16,
        /// The ledger's words, bounded.
        detail: String,
    },
    /// 404: no such circuit or service (yet).
    #[error("not found: {detail}")]
    NotFound {
        /// The ledger's words, bounded.
        detail: String,
    },
    /// The request was too large (413, or a line too long): ask for fewer ids.
    #[error("the request is too large for the ledger: {detail}")]
    TooLarge {
        /// The ledger's words, bounded.
        detail: String,
    },
    /// 429: wait as told.
    #[error("the ledger asks to slow down (429)")]
    TooMany {
        /// `Retry-After`, where given.
        retry_after: Option<Duration>,
    },
    /// The ledger refused the whole request because of an id in it: find it by
    /// bisection.
    #[error("the ledger refuses an id: {detail}")]
    RefusedIds {
        /// The ledger's words, bounded.
        detail: String,
    },
    /// Any other refusal (4xx, or a redirect, which is never followed):
    /// nothing is known of the ids; back the service off.
    #[error("the ledger refused the request with {status}: {detail}")]
    Rejected {
        /// HTTP status.
        status: u16,
        /// The ledger's words, bounded.
        detail: String,
    },
}

impl LedgerError {
    /// How far the failure reaches.
    pub const fn scope(&self) -> FailureScope {
        match self {
            Self::Unreachable { .. } => FailureScope::Ledger,
            _ => FailureScope::Service,
        }
    }

    /// A word for metrics and pages, of a bounded set.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Timeout { .. } => "timeout",
            Self::Server { .. } => "server_error",
            Self::Malformed { .. } => "malformed",
            Self::Unauthorized { .. } => "unauthorized",
            Self::NotFound { .. } => "not_found",
            Self::TooLarge { .. } => "too_large",
            Self::TooMany { .. } => "too_many_requests",
            Self::RefusedIds { .. } => "refused_ids",
            Self::Rejected { .. } => "rejected",
        }
    }
}

/// A client that cannot be built from its settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The base address cannot be used. Not shown: it may hold a password.
    #[error(
        "ledger \"{ledger}\": its url {problem}; expected http://HOST:PORT or https://HOST, \
         with a path where the ledger lies under one"
    )]
    Url {
        /// Name in the configuration.
        ledger: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The token cannot stand in a header.
    #[error(
        "ledger \"{ledger}\": the token holds a line break or another character that no header \
         may hold; write the bare token on one line of token_file"
    )]
    Token {
        /// Name in the configuration.
        ledger: String,
    },
    /// The HTTP client could not be set up.
    #[error("ledger \"{ledger}\": cannot set up HTTP and TLS: {detail}")]
    Http {
        /// Name in the configuration.
        ledger: String,
        /// What the library said.
        detail: String,
    },
}

/// An id that cannot be one of this ledger's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdProblem {
    /// A batch id of the wrong shape.
    #[error("batch id \"{shown}\" has the wrong shape; expected 128 lower case hex digits")]
    BatchShape {
        /// The id, cut where it is long.
        shown: String,
    },
    /// A service id where the ledger has no services.
    #[error("service id \"{0}\" given, but a Sawtooth ledger has no services; leave it empty")]
    ServiceNotEmpty(String),
    /// A Splinter service id of the wrong shape.
    #[error(
        "service id \"{0}\" has the wrong shape; expected circuit::service, as in btXBt-Rb4VS::a000"
    )]
    ServiceShape(String),
}

impl IdProblem {
    pub(super) fn batch_shape(batch_id: &str) -> Self {
        Self::BatchShape {
            shown: shown(batch_id),
        }
    }

    pub(super) fn service_not_empty(service_id: &str) -> Self {
        Self::ServiceNotEmpty(shown(service_id))
    }

    pub(super) fn service_shape(service_id: &str) -> Self {
        Self::ServiceShape(shown(service_id))
    }
}

/// An id as shown in a message: cut where it is long.
fn shown(id: &str) -> String {
    let mut shown: String = id.chars().take(40).collect();
    if shown.len() < id.len() {
        shown.push('…');
    }
    shown
}
