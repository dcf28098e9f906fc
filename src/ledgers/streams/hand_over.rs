//! How events are handed to the recorder: a few hundred at a time, and again
//! while the database is away.

use super::error::StreamError;
use crate::flows::events::{Fork, Heard, Sink, SinkError};
use futures_util::future::BoxFuture;
use std::time::Duration;

/// Events handed over at a time.
pub(super) const AT_ONCE: usize = 200;
/// Bytes of payload handed over at a time, unless one event alone is larger.
pub(super) const BYTES_AT_ONCE: usize = 2 << 20;
/// Pause before events are handed over again; doubles.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// So often they are handed over again before the stream ends: about a minute.
const TRIES: u32 = 16;

/// Records events, in order; answers when they are durable.
///
/// # Errors
/// The database is away for long, refuses an event, or the subscription is
/// another server's.
pub(super) async fn record(sink: &dyn Sink, heard: Vec<Heard>) -> Result<(), StreamError> {
    for part in parts(heard) {
        until_taken(|| sink.record(part.clone())).await.map(drop)?;
    }
    Ok(())
}

/// Remembers the source's state.
///
/// # Errors
/// As [`record`].
pub(super) async fn remember(sink: &dyn Sink, state: String) -> Result<(), StreamError> {
    until_taken(|| sink.remember(state.clone())).await
}

/// Tells of a fork.
///
/// # Errors
/// As [`record`].
pub(super) async fn abandoned(sink: &dyn Sink, fork: Fork) -> Result<(), StreamError> {
    until_taken(|| sink.abandoned(fork.clone())).await
}

/// Hands something over, and again while the database is away, for about a minute.
async fn until_taken<'s, T>(
    hand_over: impl Fn() -> BoxFuture<'s, Result<T, SinkError>>,
) -> Result<T, StreamError> {
    let mut tries = 0_u32;
    loop {
        let error = match hand_over().await {
            Ok(taken) => return Ok(taken),
            Err(error) => error,
        };
        tries += 1;
        if !matches!(error, SinkError::Away(_)) || tries >= TRIES {
            return Err(error.into());
        }
        let pause = PAUSE.saturating_mul(1 << tries.min(8).saturating_sub(1));
        tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
    }
}

/// Splits events into parts of bounded size, in order.
fn parts(heard: Vec<Heard>) -> Vec<Vec<Heard>> {
    let mut parts: Vec<Vec<Heard>> = Vec::new();
    let mut bytes = 0;
    for event in heard {
        let size = event.payload.len();
        match parts.last_mut() {
            Some(part) if part.len() < AT_ONCE && bytes + size <= BYTES_AT_ONCE => {
                bytes += size;
                part.push(event);
            }
            _ => {
                bytes = size;
                parts.push(vec![event]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(payload: usize) -> Heard {
        Heard {
            block: None,
            tx_id: String::new(),
            event_id: String::new(),
            event_name: String::new(),
            payload: "x".repeat(payload),
            key: None,
            rank: 0,
            occurred_at: None,
        }
    }

    #[test]
    fn parts_are_bounded_by_count_and_by_bytes_and_lose_nothing() {
        let sizes =
            |heard: Vec<Heard>| -> Vec<usize> { parts(heard).iter().map(Vec::len).collect() };
        assert_eq!(sizes(vec![heard(1); 450]), [200, 200, 50]);
        assert_eq!(sizes(vec![heard(BYTES_AT_ONCE / 2); 3]), [2, 1]);
        assert_eq!(sizes(vec![heard(BYTES_AT_ONCE + 1); 2]), [1, 1]);
        assert!(parts(Vec::new()).is_empty());
    }
}
