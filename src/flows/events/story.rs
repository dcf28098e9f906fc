//! The story of one event, in sentences, as page and command line tell it.

use super::model::{Checkpoint, Decision};
use crate::store::EventRow;
use crate::time::Timestamp;
use serde::Serialize;

/// One thing that happened to an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoryLine {
    /// When; `None` where that is not kept.
    pub at: Option<Timestamp>,
    /// What.
    pub what: String,
}

/// What happened to an event so far, oldest first; what has no time stands
/// where it belongs.
pub fn event_story(row: &EventRow, checkpoint: &Checkpoint) -> Vec<StoryLine> {
    let mut story = Vec::new();
    let mut tell = |at: Option<Timestamp>, what: String| story.push(StoryLine { at, what });
    if let Some(at) = row.occurred_at {
        tell(Some(at), "It happened, by its own words.".to_owned());
    }
    let late = if row.late {
        "; late: its place was passed by then"
    } else {
        ""
    };
    let recorded = format!(
        "Recorded as arrival {} in block {}{late}.",
        row.arrival, row.block
    );
    tell(Some(row.received_at), recorded);
    match Decision::parse(&row.decision) {
        Some(Decision::Relevant) => tell(row.decided_at, "Decided: relevant.".to_owned()),
        Some(Decision::Irrelevant) => tell(
            row.decided_at,
            "Decided: irrelevant; neither its transaction nor its key was known by then."
                .to_owned(),
        ),
        Some(Decision::Skipped) => tell(
            row.decided_at,
            match &row.last_error {
                Some(reason) => format!("Skipped by an operator: {reason}"),
                None => "Skipped: the configuration skips its block.".to_owned(),
            },
        ),
        Some(Decision::Pending) | None => {}
    }
    if row.attempts > 0 {
        let times = if row.attempts == 1 {
            "once".to_owned()
        } else {
            format!("{} times", row.attempts)
        };
        let last = match (&row.last_error, row.decision.as_str()) {
            (Some(error), word) if word != Decision::Skipped.as_str() => {
                format!("; what went wrong last: {error}")
            }
            _ => ".".to_owned(),
        };
        tell(None, format!("Its handler was tried {times}{last}"));
    }
    if let Some((_, at, error)) = halted_on(row, checkpoint) {
        tell(Some(at), format!("The subscription halted on it: {error}"));
    }
    if let Some(at) = row.processed_at {
        tell(
            Some(at),
            "Processed: its handler is done with it.".to_owned(),
        );
    }
    if let Some(at) = row.abandoned_at {
        tell(Some(at), "The ledger abandoned its block.".to_owned());
    }
    story
}

/// What an event waits for; `None` when it is done with.
pub fn event_waits_for(row: &EventRow, checkpoint: &Checkpoint) -> Option<String> {
    if !row.is_open() {
        return None;
    }
    if let Some((since, reason)) = &checkpoint.paused {
        return Some(format!(
            "The subscription is paused since {since}: {reason}"
        ));
    }
    Some(match &checkpoint.halted {
        Some((arrival, ..)) if *arrival == row.arrival => {
            "The subscription is halted on it: mend the cause and retry, or skip it.".to_owned()
        }
        Some((arrival, ..)) => {
            format!(
                "The subscription is halted on event {arrival}, which has to be done with first."
            )
        }
        None if row.decision == Decision::Pending.as_str() => {
            "It is not decided yet whether it is relevant.".to_owned()
        }
        None => "It waits for its handler, and for those before it in order.".to_owned(),
    })
}

fn halted_on<'c>(row: &EventRow, checkpoint: &'c Checkpoint) -> Option<(i64, Timestamp, &'c str)> {
    let (arrival, at, error) = checkpoint.halted.as_ref()?;
    (*arrival == row.arrival).then_some((*arrival, *at, error.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(decision: &str) -> EventRow {
        EventRow {
            subscription: "claims".to_owned(),
            block: 7,
            rank: 0,
            arrival: 12,
            tx_id: "t".to_owned(),
            event_id: "0".to_owned(),
            event_name: "CHANGED".to_owned(),
            event_key: None,
            occurred_at: None,
            received_at: Timestamp::from_millis(1000),
            decision: decision.to_owned(),
            decided_at: Some(Timestamp::from_millis(2000)),
            processed_at: None,
            attempts: 0,
            last_error: None,
            late: false,
            abandoned_at: None,
        }
    }

    fn told(row: &EventRow, checkpoint: &Checkpoint) -> String {
        let story = event_story(row, checkpoint);
        let lines: Vec<String> = story.into_iter().map(|line| line.what).collect();
        lines.join("\n")
    }

    #[test]
    fn a_halted_event_is_told_with_its_tries_and_what_it_waits_for() {
        let checkpoint = Checkpoint {
            halted: Some((12, Timestamp::from_millis(9000), "answered 503".to_owned())),
            ..Checkpoint::default()
        };
        let mut halted = row("relevant");
        (halted.attempts, halted.late) = (5, true);
        halted.last_error = Some("answered 503".to_owned());
        let story = told(&halted, &checkpoint);
        for words in [
            "arrival 12 in block 7; late",
            "Decided: relevant",
            "tried 5 times; what went wrong last: answered 503",
            "halted on it: answered 503",
        ] {
            assert!(story.contains(words), "lacks {words}: {story}");
        }
        let waits = event_waits_for(&halted, &checkpoint).unwrap();
        assert!(waits.contains("retry, or skip"), "{waits}");
        let behind = EventRow {
            arrival: 13,
            ..row("pending")
        };
        let waits = event_waits_for(&behind, &checkpoint).unwrap();
        assert!(waits.contains("halted on event 12"), "{waits}");
    }

    #[test]
    fn what_is_done_with_waits_for_nothing_and_says_why() {
        let none = Checkpoint::default();
        let mut skipped = row("skipped");
        assert!(told(&skipped, &none).contains("the configuration skips its block"));
        skipped.last_error = Some("a typo of theirs".to_owned());
        skipped.attempts = 1;
        let story = told(&skipped, &none);
        assert!(
            story.contains("by an operator: a typo of theirs"),
            "{story}"
        );
        assert!(!story.contains("went wrong"), "{story}");
        let processed = EventRow {
            processed_at: Some(Timestamp::from_millis(3000)),
            ..row("relevant")
        };
        for done in [&skipped, &processed, &row("irrelevant")] {
            assert_eq!(event_waits_for(done, &none), None);
        }
        assert!(event_waits_for(&row("relevant"), &none).is_some());
    }
}
