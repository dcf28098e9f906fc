//! The ledgers' words for a batch's status: the one place where they are
//! mapped.

use super::LedgerKind;
use crate::flows::batches::{InvalidTransaction, LedgerStatus};

/// A status that a ledger's word stands for, still without the transactions
/// at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Pending,
    Valid,
    Committed,
    Invalid,
    Unknown,
}

/// What each ledger writes; `None` where it has no such status.
const WORDS: [(Word, Option<&str>, Option<&str>); 5] = [
    // status, Sawtooth, Splinter
    (Word::Pending, Some("PENDING"), Some("Pending")),
    (Word::Valid, None, Some("Valid")),
    (Word::Committed, Some("COMMITTED"), Some("Committed")),
    (Word::Invalid, Some("INVALID"), Some("Invalid")),
    (Word::Unknown, Some("UNKNOWN"), Some("Unknown")),
];

impl Word {
    /// Reads a ledger's word; `None` when it is not one of the ledger's.
    pub(super) fn read(kind: LedgerKind, word: &str) -> Option<Self> {
        WORDS
            .iter()
            .find(|(_, sawtooth, splinter)| {
                let written = match kind {
                    LedgerKind::Sawtooth => sawtooth,
                    LedgerKind::Splinter => splinter,
                };
                *written == Some(word)
            })
            .map(|(status, ..)| *status)
    }

    /// The status; `at_fault` is asked for an invalid batch only.
    pub(super) fn status(self, at_fault: impl FnOnce() -> Vec<InvalidTransaction>) -> LedgerStatus {
        match self {
            Self::Pending => LedgerStatus::Pending,
            Self::Valid => LedgerStatus::Valid,
            Self::Committed => LedgerStatus::Committed,
            Self::Invalid => LedgerStatus::Invalid(at_fault()),
            Self::Unknown => LedgerStatus::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ledger_has_its_own_words() {
        let read = Word::read;
        assert_eq!(
            read(LedgerKind::Sawtooth, "COMMITTED"),
            Some(Word::Committed)
        );
        assert_eq!(read(LedgerKind::Splinter, "Valid"), Some(Word::Valid));
        assert_eq!(read(LedgerKind::Sawtooth, "VALID"), None);
        assert_eq!(read(LedgerKind::Sawtooth, "Committed"), None);
        assert_eq!(read(LedgerKind::Splinter, "COMMITTED"), None);
        assert_eq!(read(LedgerKind::Splinter, ""), None);
    }
}
