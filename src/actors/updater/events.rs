//! Events on their way into the database: what sources heard, and what
//! Subscribers decided.
//!
//! Calls of all subscriptions gather and are committed together, records in one
//! transaction and marks in another; each caller is answered when its call is
//! durable, or why it is not. One transaction of each is under way at a time, so
//! that the order of a subscription's records is that in which they came.

use super::events_write::{MarkCall, RecordCall, write_marks, write_records};
use super::{Slot, Updater};
use crate::flows::events::{Heard, Recorded, SinkError};
use crate::messages::{Mark, Record};
use crate::watchdog::Envelope;
use actix::fut::wrap_future;
use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, SpawnHandle};
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// Events, or changes of events, that may wait.
const MOST_ROWS: usize = 20_000;
/// Bytes of events that may wait, and that one transaction takes.
const MOST_BYTES: usize = 64 << 20;
const COMMIT_BYTES: usize = 16 << 20;

/// A call that waits to be written, and whoever waits for its answer.
pub(super) struct Call<M, A> {
    pub(super) message: M,
    pub(super) reply: oneshot::Sender<Result<A, SinkError>>,
    rows: usize,
    bytes: usize,
}

/// What waits of one kind.
pub(super) struct CallLane<M, A> {
    waiting: VecDeque<Call<M, A>>,
    waiting_rows: usize,
    /// Rows and bytes that wait or are being written.
    rows: usize,
    bytes: usize,
    timer: Option<SpawnHandle>,
    committing: bool,
}

impl<M, A> Default for CallLane<M, A> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_rows: 0,
            rows: 0,
            bytes: 0,
            timer: None,
            committing: false,
        }
    }
}

/// Both kinds.
#[derive(Default)]
pub(super) struct EventLanes {
    pub(super) records: CallLane<Record, Recorded>,
    pub(super) marks: CallLane<Mark, ()>,
}

impl EventLanes {
    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.records.waiting.is_empty() && self.marks.waiting.is_empty()
    }
}

impl<M, A: Send + 'static> CallLane<M, A> {
    /// Puts a call in line; answered at once when too much waits.
    fn push(
        &mut self,
        message: M,
        rows: usize,
        bytes: usize,
    ) -> ResponseFuture<Result<A, SinkError>> {
        if self.rows > 0 && (self.rows + rows > MOST_ROWS || self.bytes + bytes > MOST_BYTES) {
            let busy = format!(
                "it is busy: {} rows with {} bytes wait to be written",
                self.rows, self.bytes
            );
            return Box::pin(std::future::ready(Err(SinkError::Away(busy))));
        }
        let (reply, answer) = oneshot::channel();
        self.rows += rows;
        self.bytes += bytes;
        self.waiting_rows += rows;
        self.waiting.push_back(Call {
            message,
            reply,
            rows,
            bytes,
        });
        Box::pin(async move {
            let ended = || {
                Err(SinkError::Away(
                    "the Updater ended before it was written".into(),
                ))
            };
            answer.await.unwrap_or_else(|_| ended())
        })
    }

    /// The oldest calls, as many as one transaction takes; and their size.
    fn take_group(&mut self, most: usize) -> (Vec<Call<M, A>>, (usize, usize)) {
        let (mut rows, mut bytes) = (0, 0);
        let mut calls = Vec::new();
        while let Some(call) = self.waiting.pop_front() {
            let fits = rows + call.rows <= most && bytes + call.bytes <= COMMIT_BYTES;
            if !fits && !calls.is_empty() {
                self.waiting.push_front(call);
                break;
            }
            rows += call.rows;
            bytes += call.bytes;
            calls.push(call);
        }
        self.waiting_rows = self.waiting_rows.saturating_sub(rows);
        (calls, (rows, bytes))
    }

    /// Whoever waits is told that nothing was written.
    fn let_fall(&mut self) {
        let (calls, size) = self.take_group(usize::MAX);
        drop(calls);
        self.done(size);
    }

    const fn done(&mut self, (rows, bytes): (usize, usize)) {
        self.rows = self.rows.saturating_sub(rows);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Does the same for the lane of records and for that of marks, which differ in
/// their types.
macro_rules! commit_calls {
    ($name:ident, $lane:ident, $write:ident, $call:ty, |$parts:ident| $with:expr) => {
        /// Writes what waits in the lane, if a transaction is free for it.
        pub(super) fn $name(&mut self, ctx: &mut Context<Self>) {
            let is_full = self.is_full_of_events();
            let lane = &mut self.events.$lane;
            if is_full || lane.committing || lane.waiting.is_empty() {
                return;
            }
            if let Some(timer) = lane.timer.take() {
                ctx.cancel_future(timer);
            }
            if self.context.fence().is_up() {
                // Another Updater has taken over.
                while !lane.waiting.is_empty() {
                    lane.let_fall();
                }
                return;
            }
            let (calls, size) = lane.take_group(self.settings.events.commit_rows);
            lane.committing = true;
            self.committing += 1;
            let $parts = &self.parts;
            let with = $with;
            let task = self.context.runtime().spawn(async move {
                let calls: Vec<$call> = calls;
                $write(&with, calls).await;
            });
            ctx.spawn(wrap_future::<_, Self>(task).map(move |result, updater, ctx| {
                updater.context.progress();
                updater.events.$lane.committing = false;
                updater.events.$lane.done(size);
                if let Err(error) = result {
                    // Who waited was told so when its call was dropped.
                    tracing::error!(error = %error, "a commit of events ended early");
                }
                updater.written(ctx);
            }));
        }
    };
}

impl Updater {
    commit_calls!(
        commit_records,
        records,
        write_records,
        RecordCall,
        |parts| { parts.writer.store.clone() }
    );
    commit_calls!(commit_marks, marks, write_marks, MarkCall, |parts| parts
        .writer
        .clone());

    /// Commits at once when enough waits, or a little later.
    fn commit_soon(&mut self, slot: Slot, ctx: &mut Context<Self>) {
        let is_full = self.is_full_of_events();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(sizes: &[(usize, usize)]) -> CallLane<usize, ()> {
        let mut lane = CallLane::default();
        for (number, (rows, bytes)) in sizes.iter().enumerate() {
            drop(lane.push(number, *rows, *bytes));
        }
        lane
    }

    fn numbers(lane: &mut CallLane<usize, ()>, most: usize) -> Vec<usize> {
        let (calls, size) = lane.take_group(most);
        lane.done(size);
        calls.into_iter().map(|call| call.message).collect()
    }

    #[test]
    fn a_transaction_takes_the_oldest_calls_that_fit_and_one_at_least() {
        let big = COMMIT_BYTES - 1;
        let mut lane = lane(&[(3, 0), (2, 0), (9, 0), (1, big), (1, 2), (1, 0)]);
        assert_eq!(numbers(&mut lane, 5), [0, 1]);
        assert_eq!(numbers(&mut lane, 5), [2], "alone, since it is more");
        assert_eq!(numbers(&mut lane, 5), [3]);
        assert_eq!(numbers(&mut lane, 5), [4, 5]);
        assert_eq!((lane.rows, lane.bytes, lane.waiting_rows), (0, 0, 0));
    }

    #[tokio::test]
    async fn who_comes_when_too_much_waits_is_told_at_once() {
        let mut lane = lane(&[(MOST_ROWS, 0)]);
        let busy = lane.push(1, 1, 1).await;
        assert!(matches!(busy, Err(SinkError::Away(why)) if why.contains("busy")));
        let (_calls, size) = lane.take_group(usize::MAX);
        let busy = lane.push(2, 1, 1).await;
        assert!(busy.is_err(), "what is being written counts too");
        lane.done(size);
        let large = lane.push(3, 1, 2 * MOST_BYTES);
        lane.let_fall();
        assert!(matches!(large.await, Err(SinkError::Away(why)) if why.contains("ended")));
        assert_eq!((lane.rows, lane.bytes), (0, 0));
    }
}
