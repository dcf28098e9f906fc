//! What becomes of events and subscriptions, gathered from the changes of the
//! groups that may be written.

use super::changes::sql_time;
use super::events_mark::MarkGroup;
use super::events_rows::SubscriptionRow;
use super::leases::HeldLease;
use crate::flows::events::{Decision, EventChange, Place};
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// What becomes of an event, all its changes together. No name is that of a
/// column, so that the statement's condition needs no name of a table.
#[derive(Serialize)]
pub(super) struct EventMark<'a> {
    pub(super) subscription: &'a str,
    pub(super) arrival: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) becomes: Option<&'static str>,
    #[serde(serialize_with = "sql_time", skip_serializing_if = "Option::is_none")]
    pub(super) became_at: Option<Timestamp>,
    #[serde(serialize_with = "sql_time", skip_serializing_if = "Option::is_none")]
    pub(super) done_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tries: Option<i32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_late: bool,
    /// New `last_error`; `None` clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a str>,
}

impl<'a> EventMark<'a> {
    /// Nothing becomes of it yet.
    pub(super) const fn of(subscription: &'a str, arrival: i64) -> Self {
        Self {
            subscription,
            arrival,
            becomes: None,
            became_at: None,
            done_at: None,
            tries: None,
            is_late: false,
            error: None,
        }
    }

    /// It counts otherwise from now on.
    pub(super) const fn settles(&self) -> bool {
        self.becomes.is_some() || self.done_at.is_some()
    }

    /// The same becomes of `next`, which arrived right after it.
    pub(super) fn goes_on_with(&self, next: &Self) -> bool {
        let becomes = |mark: &Self| {
            let at = (mark.became_at, mark.done_at);
            (mark.becomes, at, mark.tries, mark.is_late)
        };
        self.arrival + 1 == next.arrival
            && !self.is_late
            && self.subscription == next.subscription
            && becomes(self) == becomes(next)
            && self.error == next.error
    }
}

/// What becomes of a subscription.
#[derive(Serialize)]
pub(super) struct SubscriptionMark<'a> {
    name: &'a str,
    position_block: Option<i64>,
    position_rank: Option<i64>,
    position_arrival: Option<i64>,
    halted_arrival: Option<i64>,
    #[serde(serialize_with = "sql_time")]
    halted_at: Option<Timestamp>,
    halt_error: Option<String>,
}

/// The changes of all groups that may be written.
#[derive(Default)]
pub(super) struct Marks<'a> {
    /// By subscription and arrival.
    pub(super) events: BTreeMap<(&'a str, i64), EventMark<'a>>,
    /// By name.
    pub(super) subscriptions: BTreeMap<&'a str, SubscriptionMark<'a>>,
}

impl<'a> Marks<'a> {
    /// Of the groups whose lease is held and whose orders are those in force; and
    /// which these are.
    pub(super) fn of(
        groups: &'a [MarkGroup],
        held: &[HeldLease],
        rows: Vec<SubscriptionRow>,
    ) -> (Vec<bool>, Self) {
        let rows: BTreeMap<String, SubscriptionRow> = rows
            .into_iter()
            .map(|row| (row.name.clone(), row))
            .collect();
        let mut marks = Self::default();
        let mut written = Vec::with_capacity(groups.len());
        for group in groups {
            let (name, stake) = (group.subscription.as_str(), &group.stake);
            let is_held = held
                .iter()
                .any(|lease| lease.name == stake.name && lease.epoch == stake.epoch);
            let row = rows.get(name);
            let orders = row.map_or(0, |row| row.orders);
            let holds = is_held && orders == group.orders;
            written.push(holds);
            if let (true, Some(row)) = (holds, row) {
                for change in group.changes.iter() {
                    marks.take(name, row, change);
                }
            }
        }
        (written, marks)
    }

    fn take(&mut self, name: &'a str, row: &SubscriptionRow, change: &'a EventChange) {
        match change {
            EventChange::Decided {
                place,
                decision,
                at,
                reason,
            } => {
                let event = self.event(name, *place);
                event.becomes = Some(decision.as_str());
                event.became_at = Some(*at);
                event.error = reason.as_deref();
            }
            EventChange::Processed {
                place,
                at,
                attempts,
            } => {
                let event = self.event(name, *place);
                // It is relevant with this, where nothing was decided before.
                event.becomes.get_or_insert(Decision::Relevant.as_str());
                event.done_at = Some(*at);
                event.tries = i32::try_from(*attempts).ok();
                event.error = None;
            }
            EventChange::Failed {
                place,
                attempts,
                error,
            } => {
                let event = self.event(name, *place);
                event.tries = i32::try_from(*attempts).ok();
                event.error = Some(error);
            }
            EventChange::Late(place) => self.event(name, *place).is_late = true,
            EventChange::Position(place) => self.subscription(name, row).forward(*place),
            EventChange::Halted { place, at, error } => {
                let subscription = self.subscription(name, row);
                subscription.halted_arrival = Some(place.arrival);
                subscription.halted_at = Some(*at);
                subscription.halt_error = Some(error.clone());
            }
        }
    }

    fn event(&mut self, subscription: &'a str, place: Place) -> &mut EventMark<'a> {
        let key = (subscription, place.arrival);
        self.events
            .entry(key)
            .or_insert_with(|| EventMark::of(subscription, place.arrival))
    }

    fn subscription(&mut self, name: &'a str, row: &SubscriptionRow) -> &mut SubscriptionMark<'a> {
        self.subscriptions.entry(name).or_insert_with(|| {
            let (position, halted) = (row.position(), row.halted());
            SubscriptionMark {
                name,
                position_block: position.map(|place| place.block),
                position_rank: position.map(|place| place.rank),
                position_arrival: position.map(|place| place.arrival),
                halted_arrival: halted.as_ref().map(|(arrival, ..)| *arrival),
                halted_at: halted.as_ref().map(|(_, at, _)| *at),
                halt_error: halted.map(|(.., error)| error),
            }
        })
    }
}

impl SubscriptionMark<'_> {
    fn forward(&mut self, place: Place) {
        let now = (
            self.position_block,
            self.position_rank,
            self.position_arrival,
        );
        let next = (Some(place.block), Some(place.rank), Some(place.arrival));
        if next > now {
            (
                self.position_block,
                self.position_rank,
                self.position_arrival,
            ) = next;
        }
    }
}
