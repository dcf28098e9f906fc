//! Calls on their way into the database: they gather, are committed together,
//! and each is answered when it is durable, or why it is not.
//!
//! What waits is bounded in rows and bytes, and so is a transaction. One
//! transaction of a lane is under way at a time, so that its calls are written in
//! the order in which they came.

use crate::flows::events::SinkError;
use actix::{ResponseFuture, SpawnHandle};
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// Rows that may wait in a lane.
const MOST_ROWS: usize = 20_000;
/// Bytes that may wait in a lane, and that one transaction takes.
const MOST_BYTES: usize = 64 << 20;
const COMMIT_BYTES: usize = 16 << 20;

/// Why a call was not written, as whoever waits for it is told.
pub(super) trait LaneError: Send + 'static {
    /// Not now: it is to be tried again.
    fn away(why: String) -> Self;

    /// Too much waits already.
    fn busy(why: String) -> Self
    where
        Self: Sized,
    {
        Self::away(why)
    }
}

impl LaneError for SinkError {
    fn away(why: String) -> Self {
        Self::Away(why)
    }
}

/// A call that waits to be written, and whoever waits for its answer.
pub(super) struct Call<M, A, E = SinkError> {
    pub(super) message: M,
    pub(super) reply: oneshot::Sender<Result<A, E>>,
    rows: usize,
    bytes: usize,
}

/// What waits of one kind.
pub(super) struct CallLane<M, A, E = SinkError> {
    waiting: VecDeque<Call<M, A, E>>,
    pub(super) waiting_rows: usize,
    /// Rows and bytes that wait or are being written.
    rows: usize,
    bytes: usize,
    pub(super) timer: Option<SpawnHandle>,
    pub(super) committing: bool,
}

impl<M, A, E> Default for CallLane<M, A, E> {
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

/// Calls of one transaction; and their size, in rows and bytes.
pub(super) type Group<M, A, E> = (Vec<Call<M, A, E>>, (usize, usize));

impl<M, A: Send + 'static, E: LaneError> CallLane<M, A, E> {
    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts a call in line; answered at once when too much waits.
    pub(super) fn push(
        &mut self,
        message: M,
        rows: usize,
        bytes: usize,
    ) -> ResponseFuture<Result<A, E>> {
        if self.rows > 0 && (self.rows + rows > MOST_ROWS || self.bytes + bytes > MOST_BYTES) {
            let busy = format!(
                "it is busy: {} rows with {} bytes wait to be written",
                self.rows, self.bytes
            );
            return Box::pin(std::future::ready(Err(E::busy(busy))));
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
                Err(E::away(
                    "the Updater ended before it was written".to_owned(),
                ))
            };
            answer.await.unwrap_or_else(|_| ended())
        })
    }

    /// The oldest calls, as many as one transaction takes; and their size.
    pub(super) fn take_group(&mut self, most: usize) -> Group<M, A, E> {
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
    pub(super) fn let_fall(&mut self) {
        let (calls, size) = self.take_group(usize::MAX);
        drop(calls);
        self.done(size);
    }

    pub(super) const fn done(&mut self, (rows, bytes): (usize, usize)) {
        self.rows = self.rows.saturating_sub(rows);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Does the same for each lane: they differ in their types. `$most` rows are
/// written at a time.
macro_rules! commit_calls {
    ($name:ident, $lanes:ident.$lane:ident, $write:ident, $call:ty, |$updater:ident| $most:expr, $with:expr) => {
        /// Writes what waits in the lane, if a transaction is free for it.
        pub(super) fn $name(&mut self, ctx: &mut Context<Self>) {
            let is_full = self.is_full_of_calls();
            let lane = &mut self.$lanes.$lane;
            if is_full || lane.committing || lane.is_empty() {
                return;
            }
            if let Some(timer) = lane.timer.take() {
                ctx.cancel_future(timer);
            }
            if self.context.fence().is_up() {
                // Another Updater has taken over.
                while !lane.is_empty() {
                    lane.let_fall();
                }
                return;
            }
            let $updater = &*self;
            let (most, with) = ($most, $with);
            let lane = &mut self.$lanes.$lane;
            let (calls, size) = lane.take_group(most);
            lane.committing = true;
            self.committing += 1;
            let task = self.context.runtime().spawn(async move {
                let calls: Vec<$call> = calls;
                $write(&with, calls).await;
            });
            ctx.spawn(wrap_future::<_, Self>(task).map(move |result, updater, ctx| {
                updater.context.progress();
                updater.$lanes.$lane.committing = false;
                updater.$lanes.$lane.done(size);
                if let Err(error) = result {
                    // Who waited was told so when its call was dropped.
                    tracing::error!(error = %error, "a commit of calls ended early");
                }
                updater.written(ctx);
            }));
        }
    };
}
pub(super) use commit_calls;

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
