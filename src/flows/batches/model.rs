//! What a batch is, what the database says of it and what a ledger says of it.

use super::traits::{BatchId, BatchStatus};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What identifies a batch: ledger, service id (`""` where the ledger has no
/// services) and batch id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BatchKey {
    /// Name of the ledger in the configuration.
    pub ledger: String,
    /// The ledger's sub-service, `circuit::service` on Splinter, `""` on Sawtooth.
    #[serde(default)]
    pub service_id: String,
    /// The id that the ledger knows the batch by.
    pub batch_id: String,
}

impl BatchId for BatchKey {
    fn get_id(&self) -> &str {
        &self.batch_id
    }

    fn get_service_id(&self) -> &str {
        &self.service_id
    }
}

/// The `status` column of table `batches`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Submitted; the ledger has not decided.
    Pending,
    /// Validated by the ledger, not committed; may stay so for ever.
    Valid,
    /// In the ledger. Final.
    Committed,
    /// Rejected by the ledger. Final.
    Invalid,
    /// Given up: unknown or undecided past `give_up_after`. Revivable.
    Lost,
    /// The ledger refuses to answer for this id. Revivable.
    Refused,
}

impl Status {
    /// All words, in the order of a batch's life.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Valid,
        Self::Committed,
        Self::Invalid,
        Self::Lost,
        Self::Refused,
    ];

    /// The word in the database, the API and the pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Valid => "valid",
            Self::Committed => "committed",
            Self::Invalid => "invalid",
            Self::Lost => "lost",
            Self::Refused => "refused",
        }
    }

    /// Whether the batch is still asked for.
    pub const fn is_outstanding(self) -> bool {
        matches!(self, Self::Pending | Self::Valid)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no batch status.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "\"{0}\" is not a batch status; expected pending, valid, committed, invalid, lost or refused"
)]
pub struct UnknownStatusWord(pub String);

impl FromStr for Status {
    type Err = UnknownStatusWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or_else(|| UnknownStatusWord(word.to_owned()))
    }
}

/// One transaction that made a batch invalid, as the ledger tells it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InvalidTransaction {
    /// Transaction id.
    pub id: String,
    /// The ledger's words; empty when it gave none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Extra data of the transaction family (base64), where the ledger gives it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub extended_data: String,
}

/// What a ledger answers for one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerStatus {
    /// Known, not decided.
    Pending,
    /// Validated, not committed (Splinter).
    Valid,
    /// In the ledger.
    Committed,
    /// Rejected, with the transactions at fault; entries the ledger repeats are given once.
    Invalid(Vec<InvalidTransaction>),
    /// The ledger does not know the batch, or has forgotten it. Never final.
    Unknown,
}

/// One entry of a ledger's answer: a batch id and its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    /// Batch id as the ledger wrote it.
    pub batch_id: String,
    /// What the ledger says of it.
    pub status: LedgerStatus,
}

impl BatchStatus for StatusReport {
    fn get_id(&self) -> &str {
        &self.batch_id
    }

    fn is_unknown(&self) -> bool {
        self.status == LedgerStatus::Unknown
    }
}
