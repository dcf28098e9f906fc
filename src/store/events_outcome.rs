//! What came of recording events: what is answered, and what else is written.

use super::changes::sql_time;
use super::events_numbering::{Numbered, NumberedEvent};
use super::events_record::RecordGroup;
use super::events_rows::Counting;
use crate::flows::events::Recorded;
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

/// An event that was inserted, or is adopted again.
#[derive(QueryableByName, PartialEq, Eq, Hash)]
pub(super) struct Inserted {
    #[diesel(sql_type = Text)]
    pub(super) subscription: String,
    #[diesel(sql_type = BigInt)]
    pub(super) arrival: i64,
}

/// What changes of a subscription.
#[derive(Serialize)]
pub(super) struct SubscriptionChange<'a> {
    name: &'a str,
    last_arrival: i64,
    highest_block: Option<i64>,
    second_block: Option<i64>,
    #[serde(serialize_with = "sql_time")]
    last_event_at: Option<Timestamp>,
    source_state: Option<&'a str>,
    local_blocks: bool,
}

/// What is answered, and what else is written.
pub(super) struct Outcome<'a> {
    pub(super) recorded: Vec<Recorded>,
    pub(super) subscriptions: Vec<SubscriptionChange<'a>>,
    pub(super) counting: Counting,
}

impl<'a> Outcome<'a> {
    /// Of what was numbered, these were inserted, or `all`.
    pub(super) fn of(
        groups: &'a [RecordGroup],
        numbered: &Numbered<'a>,
        inserted: &HashSet<Inserted>,
        now: Timestamp,
        all: bool,
    ) -> Self {
        let known = numbered.known.iter().map(|known| Recorded {
            known: *known,
            ..Recorded::default()
        });
        let mut recorded: Vec<Recorded> = known.collect();
        let mut changes: BTreeMap<&str, SubscriptionChange<'a>> = BTreeMap::new();
        let change = |name: &'a str| {
            let row = numbered.rows.get(name);
            SubscriptionChange {
                name,
                last_arrival: row.map_or(0, |row| row.last_arrival),
                highest_block: row.and_then(|row| row.highest_block),
                second_block: row.and_then(|row| row.second_block),
                last_event_at: None,
                source_state: None,
                local_blocks: row.is_some_and(|row| row.local_blocks),
            }
        };
        let mut counting = Counting::default();
        for event in &numbered.events {
            let answer = &mut recorded[event.group];
            let key = |event: &NumberedEvent<'_>| Inserted {
                subscription: event.subscription.to_owned(),
                arrival: event.place.arrival,
            };
            if !all && !inserted.contains(&key(event)) {
                answer.known += 1;
                continue;
            }
            let name = event.subscription;
            counting.add(name, now, event.decision().as_str(), 1);
            changes
                .entry(name)
                .or_insert_with(|| change(name))
                .take(event, now);
            if event.skipped {
                answer.skipped += 1;
            } else {
                answer.new.push(event.open(now));
            }
        }
        for group in groups {
            if let Some(state) = &group.source_state {
                let name = group.subscription.as_str();
                let entry = changes.entry(name).or_insert_with(|| change(name));
                entry.source_state = Some(state);
            }
        }
        Self {
            recorded,
            subscriptions: changes.into_values().collect(),
            counting,
        }
    }
}

impl SubscriptionChange<'_> {
    fn take(&mut self, event: &NumberedEvent<'_>, now: Timestamp) {
        let block = event.place.block;
        self.last_arrival = self.last_arrival.max(event.place.arrival);
        self.last_event_at = Some(now);
        self.local_blocks |= event.heard.block.is_none();
        if self.highest_block.is_none_or(|highest| block > highest) {
            self.second_block = self.highest_block;
            self.highest_block = Some(block);
        } else if self.highest_block != Some(block)
            && self.second_block.is_none_or(|second| block > second)
        {
            self.second_block = Some(block);
        }
    }
}
