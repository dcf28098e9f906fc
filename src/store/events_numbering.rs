//! Which of the events that were heard may be new, and which place they get:
//! decided while their subscription is locked.

use super::events_record::{KnownEvent, RecordGroup};
use super::events_rows::SubscriptionRow;
use crate::flows::events::{Decision, Heard, OpenEvent, Place};
use crate::time::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};

/// An event that may be new: the table knows in the end.
pub(super) struct NumberedEvent<'a> {
    /// Position of its group.
    pub(super) group: usize,
    pub(super) subscription: &'a str,
    pub(super) heard: &'a Heard,
    /// Its block is skipped.
    pub(super) skipped: bool,
    pub(super) place: Place,
    /// Its place has been passed.
    pub(super) late: bool,
}

/// What was heard, numbered.
pub(super) struct Numbered<'a> {
    /// Those that may be new, in the order of arrival.
    pub(super) events: Vec<NumberedEvent<'a>>,
    /// By group: how many are known already.
    pub(super) known: Vec<usize>,
    /// The subscriptions as they were.
    pub(super) rows: BTreeMap<String, SubscriptionRow>,
}

/// What is remembered of a subscription while its events are numbered.
#[derive(Default)]
struct Course<'a> {
    last_arrival: i64,
    highest: Option<i64>,
    position: Option<Place>,
    /// Blocks of transactions without a block of the ledger's.
    local: HashMap<&'a str, i64>,
    /// Identities so far; the block is `None` where the ledger gives none.
    seen: HashSet<(Option<i64>, &'a str, &'a str)>,
}

impl NumberedEvent<'_> {
    /// How it is recorded.
    pub(super) const fn decision(&self) -> Decision {
        if self.skipped {
            Decision::Skipped
        } else {
            Decision::Pending
        }
    }

    /// The event as it is processed, once it is recorded.
    pub(super) fn open(&self, received_at: Timestamp) -> OpenEvent {
        OpenEvent {
            place: self.place,
            tx_id: self.heard.tx_id.clone(),
            event_id: self.heard.event_id.clone(),
            event_name: self.heard.event_name.clone(),
            payload: self.heard.payload.as_str().into(),
            key: self.heard.key.clone(),
            occurred_at: self.heard.occurred_at,
            received_at,
            decision: Decision::Pending,
            attempts: 0,
            attempts_before: 0,
            late: self.late,
        }
    }
}

/// Numbers what was heard. `known` are the events of those transactions that
/// came without a block.
pub(super) fn number<'a>(
    groups: &'a [RecordGroup],
    rows: Vec<SubscriptionRow>,
    known: &'a [KnownEvent],
) -> Numbered<'a> {
    let mut courses: HashMap<&'a str, Course<'a>> = HashMap::new();
    let rows: BTreeMap<String, SubscriptionRow> = rows
        .into_iter()
        .map(|row| (row.name.clone(), row))
        .collect();
    for group in groups {
        let name = group.subscription.as_str();
        courses.entry(name).or_insert_with(|| {
            let row = rows.get(name);
            Course {
                last_arrival: row.map_or(0, |row| row.last_arrival),
                highest: row.and_then(|row| row.highest_block),
                position: row.and_then(SubscriptionRow::position),
                ..Course::default()
            }
        });
    }
    for event in known {
        if let Some(course) = courses.get_mut(event.subscription.as_str()) {
            course.local.insert(&event.tx_id, event.block);
            course.seen.insert((None, &event.tx_id, &event.event_id));
        }
    }
    let mut events = Vec::new();
    let mut counts = Vec::with_capacity(groups.len());
    for (index, group) in groups.iter().enumerate() {
        let subscription = group.subscription.as_str();
        let course = courses.entry(subscription).or_default();
        let mut known = 0;
        for (heard, skipped) in &group.heard {
            if let Some((place, late)) = course.place(heard) {
                events.push(NumberedEvent {
                    group: index,
                    subscription,
                    heard,
                    skipped: *skipped,
                    place,
                    late,
                });
            } else {
                known += 1;
            }
        }
        counts.push(known);
    }
    Numbered {
        events,
        known: counts,
        rows,
    }
}

impl<'a> Course<'a> {
    /// The place of an event and whether it is late; `None` where it is known.
    fn place(&mut self, heard: &'a Heard) -> Option<(Place, bool)> {
        if !self
            .seen
            .insert((heard.block, &heard.tx_id, &heard.event_id))
        {
            return None;
        }
        let block = match heard.block {
            Some(block) => block,
            None => {
                let next = self.highest.unwrap_or(0).saturating_add(1);
                *self.local.entry(&heard.tx_id).or_insert(next)
            }
        };
        self.highest = self.highest.max(Some(block));
        self.last_arrival += 1;
        let place = Place {
            block,
            rank: heard.rank,
            arrival: self.last_arrival,
        };
        Some((
            place,
            self.position.is_some_and(|position| place < position),
        ))
    }
}
