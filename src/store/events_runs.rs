//! Marks of events that arrived one after another and become the same: a range
//! of the index by arrival, where other marks are a row of JSON each. Where the
//! consumer reads the table, nearly all are of this kind.

use super::events_marks::EventMark;
use super::events_rows::{Counting, PROCESSED, STILL_OPEN, hour, word};
use crate::flows::events::Decision;
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text, Timestamp as SqlTimestamp};

/// Fewer events are no run: two statements for them cost more than their rows.
const SHORTEST: usize = 16;

/// Events of one subscription, of all arrivals from the first to the last, that
/// become the same.
pub(super) struct Run<'a> {
    /// The first of them, and what becomes of all.
    pub(super) mark: &'a EventMark<'a>,
    /// Arrival of the last.
    pub(super) last: i64,
}

/// Open events of a run that stand alike, of one hour.
#[derive(QueryableByName)]
pub(super) struct Stood {
    #[diesel(sql_type = SqlTimestamp)]
    bucket_at: Timestamp,
    #[diesel(sql_type = Text)]
    was: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Parts marks, in the order of subscription and arrival, into runs and the rest.
pub(super) fn parted<'a>(
    marks: impl IntoIterator<Item = &'a EventMark<'a>>,
) -> (Vec<Run<'a>>, Vec<&'a EventMark<'a>>) {
    let (mut runs, mut rest) = (Vec::new(), Vec::new());
    let mut alike: Vec<&'a EventMark<'a>> = Vec::new();
    let mut end = |alike: &mut Vec<&'a EventMark<'a>>| match (alike.first(), alike.last()) {
        (Some(first), Some(last)) if alike.len() >= SHORTEST => {
            runs.push(Run {
                mark: first,
                last: last.arrival,
            });
            alike.clear();
        }
        _ => rest.append(alike),
    };
    for mark in marks {
        if alike.last().is_some_and(|last| !last.goes_on_with(mark)) {
            end(&mut alike);
        }
        alike.push(mark);
    }
    end(&mut alike);
    (runs, rest)
}

impl Run<'_> {
    /// What the counts become, as its events stood.
    pub(super) fn recount(&self, stood: &[Stood], counting: &mut Counting) {
        for stood in stood {
            let was = word(&stood.was);
            let becomes = self.mark.becomes.unwrap_or(was);
            let (name, at) = (self.mark.subscription, stood.bucket_at);
            counting.add(name, at, was, -stood.count);
            counting.add(name, at, becomes, stood.count);
            if self.mark.done_at.is_some() && becomes == Decision::Relevant.as_str() {
                counting.add(name, at, PROCESSED, stood.count);
            }
        }
    }
}

/// How the open events of a subscription (`$1`) with arrivals from `$2` to `$3`
/// stand.
pub(super) fn stood_statement(sqlite: bool) -> String {
    format!(
        "SELECT {hour} AS bucket_at, events.decision AS was, count(*) AS count FROM events \
         WHERE subscription = $1 AND arrival BETWEEN $2 AND $3 AND {STILL_OPEN} \
         GROUP BY {hour}, events.decision",
        hour = hour(sqlite),
    )
}

/// The mark of a run. Parameters are numbered as SQLite meets them.
pub(super) fn run_statement() -> String {
    format!(
        "UPDATE events SET decision = COALESCE($1, decision), \
         decided_at = COALESCE($2, decided_at, $3), processed_at = $3, \
         attempts = COALESCE($4, attempts), last_error = $5 \
         WHERE subscription = $6 AND arrival BETWEEN $7 AND $8 AND {STILL_OPEN}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(subscription: &str, arrival: i64, becomes: Decision) -> EventMark<'_> {
        let mut mark = EventMark::of(subscription, arrival);
        mark.becomes = Some(becomes.as_str());
        mark
    }

    fn parts(marks: &[EventMark<'_>]) -> (Vec<(String, i64, i64)>, usize) {
        let (runs, rest) = parted(marks);
        let runs = runs.iter().map(|run| {
            let Run { mark, last } = run;
            (mark.subscription.to_owned(), mark.arrival, *last)
        });
        (runs.collect(), rest.len())
    }

    #[test]
    fn a_run_has_no_gap_and_all_of_it_becomes_the_same() {
        let long = SHORTEST as i64;
        let relevant = |name, from: i64, count| {
            (from..from + count).map(move |arrival| mark(name, arrival, Decision::Relevant))
        };
        assert_eq!(parts(&[]), (vec![], 0));
        let short: Vec<_> = relevant("a", 1, long - 1).collect();
        assert_eq!(parts(&short), (vec![], SHORTEST - 1));
        let mut marks: Vec<_> = relevant("a", 1, long).collect();
        marks.push(mark("a", long + 1, Decision::Irrelevant));
        // One of another subscription's does not go on with them.
        marks.extend(relevant("b", long + 2, long));
        // A gap.
        marks.extend(relevant("b", 2 * long + 3, long));
        let runs = vec![
            ("a".to_owned(), 1, long),
            ("b".to_owned(), long + 2, 2 * long + 1),
            ("b".to_owned(), 2 * long + 3, 3 * long + 2),
        ];
        assert_eq!(parts(&marks), (runs, 1));
    }
}
