//! Events on their way into the database: what sources heard, and what
//! Subscribers decided.
//!
//! Calls of all subscriptions gather and are committed together, records in one
//! transaction and marks in another; each caller is answered when its call is
//! durable, or why it is not. One transaction of each is under way at a time, so
//! that the order of a subscription's records is that in which they came.

use super::events_write::{MarkCall, RecordCall, write_marks, write_records};
use super::lane::{CallLane, commit_calls};
use super::{Slot, Updater};
use crate::flows::events::{Heard, Recorded, SinkError};
use crate::messages::{Mark, Record};
use crate::watchdog::Envelope;
use actix::fut::wrap_future;
use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture};

/// Both kinds.
#[derive(Default)]
pub(super) struct EventLanes {
    pub(super) records: CallLane<Record, Recorded>,
    pub(super) marks: CallLane<Mark, ()>,
}

impl EventLanes {
    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.marks.is_empty()
    }
}

impl Updater {
    commit_calls!(
        commit_records,
        events.records,
        write_records,
        RecordCall,
        |updater| updater.settings.events.commit_rows,
        updater.parts.writer.store.clone()
    );
    commit_calls!(
        commit_marks,
        events.marks,
        write_marks,
        MarkCall,
        |updater| updater.settings.events.commit_rows,
        updater.parts.writer.clone()
    );

    /// Commits at once when enough waits, or a little later.
    fn commit_soon(&mut self, slot: Slot, ctx: &mut Context<Self>) {
        let is_full = self.is_full_of_calls();
        let EventLanes { records, marks } = &mut self.events;
        let (rows, timer, committing) = match slot {
            Slot::Marks => (marks.waiting_rows, &mut marks.timer, marks.committing),
            _ => (records.waiting_rows, &mut records.timer, records.committing),
        };
        if rows >= self.settings.events.commit_rows {
            self.commit_slot(slot, ctx);
        } else if timer.is_none() && !committing && !is_full {
            let after = self.settings.events.commit_interval;
            *timer = Some(ctx.run_later(after, move |updater, ctx| {
                match slot {
                    Slot::Marks => updater.events.marks.timer = None,
                    _ => updater.events.records.timer = None,
                }
                updater.commit_slot(slot, ctx);
            }));
        }
    }
}

fn bytes_of(heard: &Heard) -> usize {
    let key = heard.key.as_ref().map_or(0, String::len);
    let names = heard.tx_id.len() + heard.event_id.len() + heard.event_name.len();
    heard.payload.len() + names + key + size_of::<Heard>()
}

impl Handler<Envelope<Record>> for Updater {
    type Result = ResponseFuture<Result<Recorded, SinkError>>;

    fn handle(&mut self, envelope: Envelope<Record>, ctx: &mut Self::Context) -> Self::Result {
        let record = envelope.open();
        if record.heard.is_empty() && record.source_state.is_none() {
            return Box::pin(std::future::ready(Ok(Recorded::default())));
        }
        let rows = record.heard.len().max(1);
        let state = record.source_state.as_ref().map_or(0, String::len);
        let bytes: usize = record.heard.iter().map(|(heard, _)| bytes_of(heard)).sum();
        let answer = self.events.records.push(record, rows, bytes + state);
        self.commit_soon(Slot::Records, ctx);
        answer
    }
}

impl Handler<Envelope<Mark>> for Updater {
    type Result = ResponseFuture<Result<(), SinkError>>;

    fn handle(&mut self, envelope: Envelope<Mark>, ctx: &mut Self::Context) -> Self::Result {
        let mark = envelope.open();
        let rows = mark.changes.len().max(1);
        let answer = self.events.marks.push(mark, rows, 0);
        self.commit_soon(Slot::Marks, ctx);
        answer
    }
}
