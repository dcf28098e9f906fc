//! From a ledger's answer to status reports: what is kept of it and how much.
//!
//! An entry with a status word that we do not know is left out and logged: its
//! batch counts as not answered and is asked for again, while its neighbours
//! keep their statuses. Only an answer without a single known word is
//! [`LedgerError::Malformed`].

use super::status::Word;
use super::{LedgerError, LedgerKind};
use crate::flows::batches::{InvalidTransaction, StatusReport};
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Distinct transactions kept of one invalid batch. Sawtooth repeats the same
/// entry about once a second until a valid block follows.
const MAX_ENTRIES: usize = 100;
/// Characters kept of a transaction id; real ones have 128.
const MAX_ID: usize = 256;
/// Characters kept of a transaction's message.
const MAX_MESSAGE: usize = 2_000;
/// Characters kept of extended data: a multiple of 4, so that what is left is
/// still base64.
const MAX_EXTENDED: usize = 8_192;

/// One entry of an answer, as its ledger writes it.
pub(super) trait Entry {
    /// Batch id.
    fn batch_id(&self) -> &str;
    /// Status word.
    fn word(&self) -> &str;
    /// The transactions at fault; asked for an invalid batch only.
    fn at_fault(&self) -> Vec<InvalidTransaction>;
}

/// Makes reports of an answer's entries.
pub(super) fn reports<E: Entry>(
    kind: LedgerKind,
    ledger: &str,
    entries: &[E],
) -> Result<Vec<StatusReport>, LedgerError> {
    let mut reports = Vec::with_capacity(entries.len());
    let mut strange = None;
    for entry in entries {
        match Word::read(kind, entry.word()) {
            Some(word) => reports.push(StatusReport {
                batch_id: entry.batch_id().to_owned(),
                status: word.status(|| entry.at_fault()),
            }),
            None => strange = strange.or(Some(entry)),
        }
    }
    let Some(strange) = strange else {
        return Ok(reports);
    };
    let word = kept(strange.word(), 40);
    let batch_id = kept(strange.batch_id(), MAX_ID);
    if reports.is_empty() {
        return Err(LedgerError::Malformed {
            detail: format!("\"{word}\" is no status of a {kind} batch (batch {batch_id})"),
        });
    }
    tracing::warn!(
        ledger.name = ledger,
        batch.id = batch_id,
        ledger.status_word = word,
        ledger.entries_left_out = entries.len() - reports.len(),
        "the ledger answered with a status word that is none of its protocol's; \
         such entries are left out and their batches asked for again"
    );
    Ok(reports)
}

/// Keeps what a ledger said of a transaction at fault, within bounds.
pub(super) fn transaction_at_fault(
    id: &str,
    message: &str,
    extended_data: &str,
) -> InvalidTransaction {
    InvalidTransaction {
        id: kept(id, MAX_ID),
        message: kept(message, MAX_MESSAGE),
        extended_data: storable(extended_data).take(MAX_EXTENDED).collect(),
    }
}

/// Bytes that make [`MAX_EXTENDED`] characters of base64.
pub(super) const MAX_EXTENDED_BYTES: usize = MAX_EXTENDED / 4 * 3;

/// The first `most` characters; a cut is marked by `…`.
fn kept(text: &str, most: usize) -> String {
    let mut chars = storable(text);
    let mut kept: String = chars.by_ref().take(most).collect();
    if chars.next().is_some() {
        kept.push('…');
    }
    kept
}

/// NUL becomes U+FFFD: PostgreSQL stores none in text, nor in a `jsonb` that an
/// application makes of ours.
fn storable(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().map(|c| if c == '\0' { '\u{fffd}' } else { c })
}

/// A list read with its repeated entries dropped and at most
/// [`MAX_ENTRIES`] kept, whatever its length, so that a long list costs time
/// to read but no memory.
#[derive(Debug)]
pub(super) struct Distinct<T>(pub(super) Vec<T>);

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de> + PartialEq> Deserialize<'de> for Distinct<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + PartialEq> Visitor<'de> for Collect<T> {
            type Value = Distinct<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut distinct = Vec::new();
                while let Some(entry) = list.next_element::<T>()? {
                    if distinct.len() < MAX_ENTRIES && !distinct.contains(&entry) {
                        distinct.push(entry);
                    }
                }
                Ok(Distinct(distinct))
            }
        }

        deserializer.deserialize_seq(Collect(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain(&'static str, &'static str);

    impl Entry for Plain {
        fn batch_id(&self) -> &str {
            self.0
        }

        fn word(&self) -> &str {
            self.1
        }

        fn at_fault(&self) -> Vec<InvalidTransaction> {
            Vec::new()
        }
    }

    #[test]
    fn an_unknown_word_costs_only_its_own_entry() {
        let entries = [Plain("a", "COMMITTED"), Plain("b", "EXPLODED")];
        let kept = reports(LedgerKind::Sawtooth, "trace", &entries).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].batch_id, "a");
    }

    #[test]
    fn an_answer_of_unknown_words_only_is_malformed() {
        let found = reports(LedgerKind::Sawtooth, "trace", &[Plain("b", "EXPLODED")]);
        let Err(LedgerError::Malformed { detail }) = found else {
            panic!("{found:?}");
        };
        assert!(detail.contains("EXPLODED"), "{detail}");
        assert_eq!(
            reports::<Plain>(LedgerKind::Sawtooth, "trace", &[]),
            Ok(Vec::new())
        );
    }

    #[test]
    fn repeated_entries_are_kept_once_and_many_are_bounded() {
        let repeated: Distinct<u32> = serde_json::from_str("[1,1,2,1,2,3]").unwrap();
        assert_eq!(repeated.0, [1, 2, 3]);
        let many = serde_json::to_string(&(0..1_000).collect::<Vec<u32>>()).unwrap();
        let many: Distinct<u32> = serde_json::from_str(&many).unwrap();
        assert_eq!(many.0.len(), MAX_ENTRIES);
    }

    #[test]
    fn words_of_a_ledger_are_bounded_and_storable() {
        let transaction = transaction_at_fault("id", &"é".repeat(5_000), &"A".repeat(20_000));
        assert_eq!(transaction.message.chars().count(), MAX_MESSAGE + 1);
        assert!(transaction.message.ends_with('…'));
        assert_eq!(transaction.extended_data.len(), MAX_EXTENDED);
        let nul = transaction_at_fault("a\0b", "\0", "Q\0==");
        assert_eq!(nul.id, "a\u{fffd}b");
        assert_eq!(
            (&*nul.message, &*nul.extended_data),
            ("\u{fffd}", "Q\u{fffd}==")
        );
    }
}
