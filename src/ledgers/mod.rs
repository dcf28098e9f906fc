//! Ledgers: what a ledger can do, and the clients that speak to real ones.

mod answer;
mod error;
mod refusal;
mod sawtooth;
mod splinter;
mod status;
mod streams;
mod transport;

pub use error::{ConnectError, FailureScope, IdProblem, LedgerError};
pub use sawtooth::SawtoothLedger;
pub use splinter::SplinterLedger;
pub use streams::{
    LedgerNews, LedgerWatch, SawtoothStream, SplinterStream, StreamLimits, stream_of,
};

use crate::config::LedgerSettings;
use crate::flows::batches::{BatchStatusStore, StatusReport};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Builds the client for a ledger of the configuration. Nothing is sent: a
/// ledger that is down is found out by the first request.
///
/// Each client keeps its own connections, so that one ledger's never wait for
/// another's.
///
/// # Errors
/// Says which setting cannot be used; see [`ConnectError`].
pub fn connect(settings: &LedgerSettings) -> Result<Arc<dyn Ledger>, ConnectError> {
    Ok(match settings.kind {
        LedgerKind::Sawtooth => Arc::new(SawtoothLedger::new(settings)?),
        LedgerKind::Splinter => Arc::new(SplinterLedger::new(settings)?),
    })
}

/// Which protocol a ledger speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LedgerKind {
    /// Hyperledger Sawtooth REST API.
    Sawtooth,
    /// Splinter with scabbard services.
    Splinter,
}

impl LedgerKind {
    /// The word in the configuration, the API and the pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sawtooth => "sawtooth",
            Self::Splinter => "splinter",
        }
    }

    /// Checks a service id where it enters: `""` on Sawtooth,
    /// `circuit::service` on Splinter.
    ///
    /// # Errors
    /// Says what is wrong with it and what is expected.
    pub fn check_service_id(self, service_id: &str) -> Result<(), IdProblem> {
        match self {
            Self::Sawtooth if service_id.is_empty() => Ok(()),
            Self::Sawtooth => Err(IdProblem::service_not_empty(service_id)),
            Self::Splinter => {
                let plain = |part: &str| {
                    !part.is_empty()
                        && part.len() <= 64
                        && part
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                };
                match service_id.split_once("::") {
                    Some((circuit, service)) if plain(circuit) && plain(service) => Ok(()),
                    _ => Err(IdProblem::service_shape(service_id)),
                }
            }
        }
    }

    /// Checks a batch id where it enters: 128 lower case hex digits on both
    /// ledgers (a header signature). Sawtooth answers 400 for a whole request
    /// that holds another shape; Splinter never knows such an id.
    ///
    /// # Errors
    /// Says what is wrong with it and what is expected.
    pub fn check_batch_id(self, batch_id: &str) -> Result<(), IdProblem> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if batch_id.len() == 128 && batch_id.bytes().all(hex) {
            Ok(())
        } else {
            Err(IdProblem::batch_shape(batch_id))
        }
    }
}

impl fmt::Display for LedgerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a ledger can do.
///
/// Asking for statuses is [`BatchStatusStore`]; an implementation sends one
/// request per call (again only where the connection ended before an answer),
/// never follows redirects, bounds the answer's size, and answers within its
/// own timeout.
pub trait Ledger: BatchStatusStore<StatusReport> + Send + Sync + 'static {
    /// Which protocol it speaks.
    fn kind(&self) -> LedgerKind;

    /// How many of `batch_ids`, from the first on, fit in one request to
    /// `service_id`: bounded by count and by bytes, at least 1 for a list that
    /// is not empty.
    fn fits(&self, service_id: &str, batch_ids: &[&str]) -> usize;
}
