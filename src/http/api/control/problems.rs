//! The problems of control calls.

use crate::http::problem::{FieldError, Problem};
use crate::watchdog::{LookupError, OrderError};
use actix_web::http::{StatusCode, header};
use std::time::Duration;

/// Seconds after which a control call that found too many others may be repeated.
const RETRY_AFTER: u32 = 1;

impl Problem {
    pub(super) fn shutting_down() -> Box<Self> {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting-down",
            "The server is stopping",
            "the server is shutting down; nothing was changed",
        )
    }

    pub(super) fn control_timeout(within: Duration) -> Box<Self> {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "control-timeout",
            "The control call took too long",
            format!(
                "there was no outcome within {} s; it may still be carried out: look before you \
                 repeat it",
                within.as_secs()
            ),
        )
    }

    /// Why a service is not found, or not to be had.
    pub(super) fn lookup(error: &LookupError) -> Box<Self> {
        match error {
            LookupError::NoService { .. } => Self::new(
                StatusCode::NOT_FOUND,
                "unknown-service",
                "There is no such service",
                error.to_string(),
            ),
            LookupError::ShuttingDown => Self::shutting_down(),
            // What else there is concerns services among themselves.
            other => Self::new(
                StatusCode::CONFLICT,
                "not-allowed",
                "This cannot be done to that service",
                format!("{other}; nothing was changed"),
            ),
        }
    }

    /// Why an order was not carried out; `told` says what is wrong with the
    /// mistakes of one that makes no sense.
    pub(super) fn order(
        error: OrderError,
        told: impl FnOnce(Vec<String>) -> Box<Self>,
    ) -> Box<Self> {
        match error {
            OrderError::Refused(mistakes) => told(mistakes),
            OrderError::ShuttingDown => Self::shutting_down(),
            OrderError::NoFile => Self::new(
                StatusCode::CONFLICT,
                "no-configuration-file",
                "There is nothing to reload",
                "the server was started without a configuration file; nothing was changed",
            ),
            OrderError::Busy => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "Too many control calls at once",
                "too many control calls wait to be carried out; nothing was changed, try again",
            )
            .with_header(header::RETRY_AFTER, RETRY_AFTER.to_string()),
        }
    }

    /// The configuration cannot be used, a sentence a mistake.
    pub(super) fn invalid_configuration(mistakes: Vec<String>) -> Box<Self> {
        let first = mistakes.first().cloned().unwrap_or_default();
        let detail = match mistakes.len() {
            0 | 1 => format!("nothing was changed: {first}"),
            more => format!("nothing was changed: there are {more} mistakes; the first is {first}"),
        };
        let errors = mistakes
            .into_iter()
            .map(|mistake| FieldError::new("configuration", mistake));
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-configuration",
            "The configuration cannot be used",
            detail,
        )
        .with_errors(errors.collect())
    }
}
