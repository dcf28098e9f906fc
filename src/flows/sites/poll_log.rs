//! The poll log of a site with a job: its newest visits in a fixed number of
//! characters, so that history costs no rows of its own.
//!
//! An entry is nine base-36 digits (milliseconds since 1970), one letter for
//! the outcome and five base-36 digits (the duration in milliseconds).

use super::visit::FailureKind;
use crate::time::Timestamp;
use std::time::Duration;

/// Length of one entry, in characters.
pub const ENTRY: usize = TIME + 1 + SPAN;

/// Digits of the time.
const TIME: usize = 9;
/// Digits of the duration.
const SPAN: usize = 5;
/// Longest duration that has room: 16 hours and 47 minutes.
const LONGEST: u64 = 36_u64.pow(5) - 1;
/// The letter of a visit that went well.
const SUCCESS: u8 = b's';

/// One visit, as the log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedVisit {
    /// When it began.
    pub at: Timestamp,
    /// How it came out.
    pub outcome: Result<(), FailureKind>,
    /// How long it took; at most 16 hours and 47 minutes.
    pub duration: Duration,
}

const fn letter(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Timeout => b't',
        FailureKind::Unreachable => b'u',
        FailureKind::Unexpected => b'x',
        FailureKind::Api => b'a',
        FailureKind::Exit => b'e',
        FailureKind::Denied => b'd',
        FailureKind::Handler => b'h',
        FailureKind::Panic => b'p',
        // Never written: it is no visit.
        FailureKind::Job => b'j',
    }
}

/// Writes one entry, of [`ENTRY`] characters; a longer duration is written as
/// the longest that has room.
pub fn poll_log_entry(
    at: Timestamp,
    outcome: &Result<(), FailureKind>,
    duration: Duration,
) -> String {
    let mut entry = String::with_capacity(ENTRY);
    push_digits(&mut entry, u64::try_from(at.millis()).unwrap_or(0), TIME);
    let letter = match outcome {
        Ok(()) => SUCCESS,
        Err(kind) => letter(*kind),
    };
    entry.push(char::from(letter));
    let millis = u64::try_from(duration.as_millis()).unwrap_or(LONGEST);
    push_digits(&mut entry, millis.min(LONGEST), SPAN);
    entry
}

/// Writes a number in base 36, with zeros in front.
fn push_digits(text: &mut String, number: u64, digits: usize) {
    for place in (0..digits).rev() {
        let digit = number / 36_u64.pow(u32::try_from(place).unwrap_or(0)) % 36;
        let digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[digit as usize];
        text.push(char::from(digit));
    }
}

/// Reads a log, oldest first; what is no entry is passed over.
pub fn read_poll_log(log: &str) -> impl Iterator<Item = LoggedVisit> {
    log.as_bytes().chunks_exact(ENTRY).filter_map(|entry| {
        let (at, rest) = entry.split_at(TIME);
        let (found, span) = rest.split_first()?;
        let kind = FailureKind::ALL
            .into_iter()
            .find(|kind| letter(*kind) == *found);
        let outcome = match kind {
            Some(kind) => Err(kind),
            None if *found == SUCCESS => Ok(()),
            None => return None,
        };
        Some(LoggedVisit {
            at: Timestamp::from_millis(i64::try_from(number(at)?).ok()?),
            outcome,
            duration: Duration::from_millis(number(span)?),
        })
    })
}

/// Reads a number in base 36; digits alone, no sign.
fn number(digits: &[u8]) -> Option<u64> {
    let plain = digits.iter().all(u8::is_ascii_alphanumeric);
    let text = std::str::from_utf8(digits).ok().filter(|_| plain)?;
    u64::from_str_radix(text, 36).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_round_trips_in_entries_of_one_length() {
        let at = Timestamp::from_millis(1_795_245_931_007);
        let outcomes = FailureKind::ALL.map(Err).into_iter().chain([Ok(())]);
        for (n, outcome) in outcomes.enumerate() {
            let duration = Duration::from_millis(n as u64 * 7001);
            let entry = poll_log_entry(at, &outcome, duration);
            assert_eq!(entry.len(), ENTRY, "{entry}");
            let read: Vec<_> = read_poll_log(&entry).collect();
            let visit = LoggedVisit {
                at,
                outcome,
                duration,
            };
            assert_eq!(read, [visit]);
        }
    }

    #[test]
    fn the_format_is_fixed_since_databases_hold_it() {
        let at = Timestamp::from_millis(36);
        let entry = poll_log_entry(at, &Err(FailureKind::Timeout), Duration::from_millis(37));
        assert_eq!(entry, "000000010t00011");
    }

    #[test]
    fn a_visit_that_took_days_is_written_as_the_longest_there_is_room_for() {
        let entry = poll_log_entry(Timestamp::default(), &Ok(()), Duration::MAX);
        assert_eq!(entry, "000000000szzzzz");
    }

    #[test]
    fn rubbish_is_passed_over() {
        let at = Timestamp::from_millis(1_795_245_931_007);
        let entry = |outcome| poll_log_entry(at, &outcome, Duration::from_secs(1));
        let log = format!(
            "{}???????????????{}000000000q00000+00000000s0000000000",
            entry(Ok(())),
            entry(Err(FailureKind::Api))
        );
        let read: Vec<_> = read_poll_log(&log).map(|visit| visit.outcome).collect();
        assert_eq!(read, [Ok(()), Err(FailureKind::Api)]);
        assert_eq!(read_poll_log("äöüäöüäöü").count(), 0);
    }
}
