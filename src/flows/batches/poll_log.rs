//! The poll log of a batch: its newest polls in a fixed number of characters,
//! so that history costs no rows of its own.
//!
//! An entry is nine base-36 digits (milliseconds since 1970) and one letter
//! for the answer.

use crate::time::Timestamp;

/// Length of one entry.
const ENTRY: usize = 10;

const ANSWERS: [(char, &str); 8] = [
    ('p', "pending"),
    ('v', "valid"),
    ('c', "committed"),
    ('i', "invalid"),
    ('u', "unknown"),
    ('m', "missing"),
    ('r', "refused"),
    // No poll: the ledger's stream told its transactions as committed.
    ('e', "event"),
];

/// Writes one entry; an answer that has no letter is written as missing.
pub fn poll_log_entry(at: Timestamp, answer: &str) -> String {
    let letter = ANSWERS
        .iter()
        .find(|(_, word)| *word == answer)
        .map_or('m', |(letter, _)| *letter);
    let mut digits = [b'0'; ENTRY - 1];
    let mut rest = u64::try_from(at.millis()).unwrap_or(0);
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize];
        rest /= 36;
    }
    let mut entry = String::with_capacity(ENTRY);
    entry.extend(digits.iter().map(|digit| char::from(*digit)));
    entry.push(letter);
    entry
}

/// Reads a log, oldest first; what is no entry is passed over.
pub fn read_poll_log(log: &str) -> impl Iterator<Item = (Timestamp, &'static str)> {
    log.as_bytes().chunks_exact(ENTRY).filter_map(|entry| {
        let (digits, letter) = entry.split_at(ENTRY - 1);
        let millis = i64::from_str_radix(std::str::from_utf8(digits).ok()?, 36).ok()?;
        let letter = char::from(*letter.first()?);
        let answer = ANSWERS.iter().find(|(known, _)| *known == letter)?.1;
        Some((Timestamp::from_millis(millis), answer))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip_and_rubbish_is_passed_over() {
        let at = Timestamp::from_millis(1_795_245_931_007);
        let log = format!(
            "{}??????????{}",
            poll_log_entry(at, "unknown"),
            poll_log_entry(at, "valid")
        );
        let read: Vec<_> = read_poll_log(&log).collect();
        assert_eq!(read, [(at, "unknown"), (at, "valid")]);
    }
}
