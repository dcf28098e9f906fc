//! How a stream fails, and what the Subscriber is told of it.

use crate::flows::events::{SinkError, SourceEnd};
use crate::ledgers::LedgerError;
use std::time::Duration;

/// Why a stream ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StreamError {
    /// The ledger refused, or could not be reached.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The connection ended.
    #[error("the ledger's stream ended: {0}")]
    Ended(String),
    /// Neither events nor answers to pings.
    #[error("nothing was heard on the ledger's stream for {0:?}, pings are not answered")]
    Silent(Duration),
    /// A message that makes no sense. It may be an event, so it is not passed over.
    #[error("a message of the ledger's stream makes no sense: {0}")]
    Malformed(String),
    /// Events are not recorded.
    #[error("events of the ledger's stream are not recorded: {0}")]
    Sink(#[from] SinkError),
}

impl From<StreamError> for SourceEnd {
    fn from(error: StreamError) -> Self {
        let why = error.to_string();
        match error {
            StreamError::Ledger(LedgerError::Unauthorized { .. }) => Self::Refused(why),
            StreamError::Ledger(LedgerError::TooMany { retry_after }) => {
                Self::Failed { why, retry_after }
            }
            _ => Self::Failed {
                why,
                retry_after: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_configuration_mends_is_refused() {
        let unauthorized = LedgerError::Unauthorized {
            status: 401,
            detail: "no".to_owned(),
        };
        assert!(matches!(
            SourceEnd::from(StreamError::from(unauthorized)),
            SourceEnd::Refused(why) if why.contains("token_file")
        ));
        let not_found = LedgerError::NotFound {
            detail: "scabbard service zzzz".to_owned(),
        };
        assert!(matches!(
            SourceEnd::from(StreamError::from(not_found)),
            SourceEnd::Failed { why, retry_after: None } if why.contains("zzzz")
        ));
        let after = Some(Duration::from_secs(7));
        let busy = LedgerError::TooMany { retry_after: after };
        assert!(matches!(
            SourceEnd::from(StreamError::from(busy)),
            SourceEnd::Failed { retry_after, .. } if retry_after == after
        ));
    }
}
