//! The vocabulary of events.

use crate::time::Timestamp;
use std::fmt;
use std::sync::Arc;

/// The name of a subscription, checked where it enters: 1 to 64 of `a-z`,
/// `A-Z`, `0-9`, `.`, `_`, `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionName(Arc<str>);

/// An event as a source heard it, before it is recorded.
///
/// Its identity is (subscription, block, transaction, event id): see
/// `docs/events.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The ledger's block. `None` where its stream has none (Splinter): the
    /// event gets a local number when it is recorded first, and is known again
    /// by transaction and event id.
    pub block: Option<i64>,
    /// The transaction; empty for events of a block.
    pub tx_id: String,
    /// The gateway's ordinal, or a hash of the payload.
    pub event_id: String,
    /// Name of the event.
    pub event_name: String,
    /// The event as it came: a JSON text.
    pub payload: String,
    /// The key by which it is judged, where it carries one.
    pub key: Option<String>,
    /// Its ordinal within the block, where order is by ordinal; 0 elsewhere.
    pub rank: i64,
    /// When it happened, where it says so.
    pub occurred_at: Option<Timestamp>,
}

/// Why something heard is no event; the text names field, value and what is
/// expected, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HeardProblem(pub String);

/// Place of an event in the order of its subscription: by block, within the
/// block by rank, then by arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Block.
    pub block: i64,
    /// Ordinal within the block, 0 where arrival decides.
    pub rank: i64,
    /// In the order of recording; unique in a subscription.
    pub arrival: i64,
}

/// What was decided on an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Nothing yet.
    Pending,
    /// It carries a known transaction id or key.
    Relevant,
    /// It does not, and was waited for.
    Irrelevant,
    /// Its block is skipped by configuration, or an operator skipped it.
    Skipped,
}

impl Decision {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Pending,
        Self::Relevant,
        Self::Irrelevant,
        Self::Skipped,
    ];

    /// The word in the database, metrics, API and pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Relevant => "relevant",
            Self::Irrelevant => "irrelevant",
            Self::Skipped => "skipped",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|decision| decision.as_str() == word)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An event that is recorded and not done with: pending, or relevant and not
/// processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenEvent {
    /// Its place in the order.
    pub place: Place,
    /// The transaction; empty for events of a block.
    pub tx_id: String,
    /// What tells it from others of its transaction.
    pub event_id: String,
    /// Name of the event.
    pub event_name: String,
    /// The event as it came: a JSON text; shared, since it may be large.
    pub payload: Arc<str>,
    /// The key by which it is judged, where it carries one.
    pub key: Option<String>,
    /// When it happened, where it says so.
    pub occurred_at: Option<Timestamp>,
    /// When it was recorded.
    pub received_at: Timestamp,
    /// `Pending` or `Relevant`.
    pub decision: Decision,
    /// Times its handler was tried.
    pub attempts: u32,
    /// How many of these were made before it was last told to be tried anew.
    pub attempts_before: u32,
    /// It came after its place was passed.
    pub late: bool,
}

/// What became of events that were handed over to be recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// New ones.
    pub new: Vec<OpenEvent>,
    /// How many were known already.
    pub known: usize,
    /// New ones that are done with at once: their block is skipped.
    pub skipped: usize,
}

/// How far a subscription has come; of the database's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Arrival of the newest event recorded.
    pub last_arrival: i64,
    /// Highest block of which an event is known.
    pub highest_block: Option<i64>,
    /// Second-highest block of which an event is known: from there a source
    /// resumes, since the highest may be known in part.
    pub second_block: Option<i64>,
    /// Place of the newest event, in order, before which all are done with.
    pub position: Option<Place>,
    /// When the newest event was recorded.
    pub last_event_at: Option<Timestamp>,
    /// Orders of operators so far, and forks: what is written of decisions and the
    /// position holds only under the number that was read with it.
    pub orders: i64,
    /// Since when it is paused by an operator, and why.
    pub paused: Option<(Timestamp, String)>,
    /// The event on which it is halted (its arrival), since when, and why.
    pub halted: Option<(i64, Timestamp, String)>,
    /// What its source remembers.
    pub source_state: Option<String>,
    /// Late events up to this arrival are processed, since an operator said so.
    pub late_to: i64,
}

/// Whether an event's transaction id or key is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The event.
    pub place: Place,
    /// Its transaction id or key is known.
    pub known: bool,
}

/// Ids that became known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Transactions.
    pub tx_ids: Vec<String>,
    /// Keys.
    pub keys: Vec<String>,
}

impl SubscriptionName {
    /// Reads a name.
    ///
    /// # Errors
    /// It is empty, longer than 64, or holds other characters: what is allowed.
    pub fn parse(text: &str) -> Result<Self, HeardProblem> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > 64 || !text.chars().all(fits) {
            let shown: String = text.chars().take(80).collect();
            return Err(HeardProblem(format!(
                "\"{shown}\" is no name of a subscription; expected 1 to 64 letters, digits, \".\", \"_\" or \"-\", e.g. \"claims\""
            )));
        }
        Ok(Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SubscriptionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Checkpoint {
    /// The block from which a source resumes: the second-highest known one,
    /// or `start` where fewer are known (seed `ordered-block-events.md`).
    pub fn resume_from(&self, start: i64) -> i64 {
        self.second_block.map_or(start, |block| block.max(start))
    }
}
