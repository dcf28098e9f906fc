//! A database of events in memory, for tests.

use super::{Checkpoint, Decision, EventChange, OpenEvent, Place};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A row of `events`.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) event: OpenEvent,
    pub(crate) processed: bool,
}

impl Row {
    pub(crate) fn is_open(&self) -> bool {
        match self.event.decision {
            Decision::Pending => true,
            Decision::Relevant => !self.processed,
            Decision::Irrelevant | Decision::Skipped => false,
        }
    }
}

/// The database.
#[derive(Debug, Default)]
pub(crate) struct Database {
    pub(crate) rows: BTreeMap<Place, Row>,
    identities: BTreeMap<(i64, String), Place>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) known: BTreeSet<String>,
}

impl Database {
    /// Records an event; `None` where it is known. Arrivals have gaps.
    pub(crate) fn record(
        &mut self,
        (block, rank): (i64, i64),
        tx_id: String,
        gap: bool,
        now: Timestamp,
    ) -> Option<OpenEvent> {
        if self.identities.contains_key(&(block, tx_id.clone())) {
            return None;
        }
        self.checkpoint.last_arrival += 1 + i64::from(gap);
        let Checkpoint {
            highest_block,
            second_block,
            ..
        } = &mut self.checkpoint;
        if Some(block) > *highest_block {
            *second_block = highest_block.replace(block);
        } else if Some(block) < *highest_block {
            *second_block = (*second_block).max(Some(block));
        }
        let arrival = self.checkpoint.last_arrival;
        let place = Place {
            block,
            rank,
            arrival,
        };
        self.identities.insert((block, tx_id.clone()), place);
        let event = OpenEvent {
            place,
            event_id: String::new(),
            tx_id,
            event_name: "E".to_owned(),
            payload: "{}".into(),
            key: None,
            occurred_at: None,
            received_at: now,
            decision: Decision::Pending,
            attempts: 0,
            attempts_before: 0,
            late: Some(place) <= self.checkpoint.position,
        };
        let row = Row {
            event: event.clone(),
            processed: false,
        };
        self.rows.insert(place, row);
        Some(event)
    }

    /// A page of what is open, in order.
    pub(crate) fn page(&self, after: Option<Place>, limit: usize) -> Vec<OpenEvent> {
        let open = self.open().filter(|event| Some(event.place) > after);
        open.take(limit).cloned().collect()
    }

    /// What is open of what was recorded since.
    pub(crate) fn since(&self, arrival: i64, limit: usize) -> Vec<OpenEvent> {
        let open = self.open().filter(|event| event.place.arrival > arrival);
        let mut since: Vec<OpenEvent> = open.cloned().collect();
        since.sort_by_key(|event| event.place.arrival);
        since.truncate(limit);
        since
    }

    /// Writes a change, as the Updater would.
    pub(crate) fn write(&mut self, change: &EventChange) {
        match change {
            EventChange::Decided {
                place, decision, ..
            } => {
                let row = self.rows.get_mut(place).unwrap();
                if row.event.decision == Decision::Pending {
                    row.event.decision = *decision;
                }
            }
            EventChange::Processed { place, .. } => {
                let row = self.rows.get_mut(place).unwrap();
                assert_ne!(row.event.decision, Decision::Irrelevant);
                if row.event.decision == Decision::Pending {
                    row.event.decision = Decision::Relevant;
                }
                row.processed = true;
            }
            EventChange::Failed {
                place, attempts, ..
            } => self.rows.get_mut(place).unwrap().event.attempts = *attempts,
            EventChange::Late(place) => self.rows.get_mut(place).unwrap().event.late = true,
            EventChange::Position(place) => {
                assert!(Some(*place) >= self.checkpoint.position);
                self.checkpoint.position = Some(*place);
            }
            EventChange::Halted { place, at, error } => {
                self.checkpoint.halted = Some((place.arrival, *at, error.clone()));
            }
        }
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = &OpenEvent> {
        let open = self.rows.values().filter(|row| row.is_open());
        open.map(|row| &row.event)
    }

    /// An operator's order, by which a halted one goes on.
    pub(crate) fn order(&mut self) {
        self.checkpoint.orders += 1;
        let Some((halted, ..)) = self.checkpoint.halted.take() else {
            return;
        };
        let mut rows = self.rows.values_mut();
        if let Some(row) = rows.find(|row| row.event.place.arrival == halted) {
            row.event.attempts_before = row.event.attempts;
            if row.event.late && halted > self.checkpoint.late_to {
                self.checkpoint.late_to = self.checkpoint.last_arrival;
            }
        }
    }
}
