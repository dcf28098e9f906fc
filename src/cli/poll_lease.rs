//! How `highwater poll` keeps its lease: renewed four times in its life, and
//! the run told to stop before it can have ended.

use crate::store::StoreError;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// Prolongs a lease of this length until the run is over, or the lease is lost
/// or cannot be renewed in time, which ends the run. `renewed` holds until when
/// it is surely held, counted from before the database was asked; `renew`
/// answers whether it is held still.
pub(super) async fn keep_lease(
    renew: impl AsyncFn() -> Result<bool, StoreError>,
    ttl: Duration,
    renewed: watch::Sender<Instant>,
    stop: watch::Sender<Option<String>>,
    mut is_over: oneshot::Receiver<()>,
) {
    let end = |why: String| {
        stop.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert(why);
            first
        })
    };
    let mut why = "the database did not answer".to_owned();
    let mut next = *renewed.borrow() - ttl + ttl / 4;
    loop {
        // An eighth is left for what has begun already.
        let last = *renewed.borrow() - ttl / 8;
        tokio::select! {
            () = sleep_until(next.min(last)) => {}
            _ = &mut is_over => return,
        }
        if Instant::now() >= last {
            end(format!("its lease could not be renewed in time: {why}"));
            return;
        }
        let begun = Instant::now();
        let mut renewing = pin!(renew());
        let answer = tokio::select! {
            answer = &mut renewing => answer,
            () = sleep_until(last) => {
                end("its lease could not be renewed in time: the database did not answer".to_owned());
                // Not cut off: a renewal that came after the lease was given back
                // would take it again. Sessions have time limits.
                drop(renewing.await);
                return;
            }
        };
        match answer {
            Ok(true) => {
                renewed.send_replace(begun + ttl);
            }
            Ok(false) => {
                end("its lease was taken over".to_owned());
                return;
            }
            Err(error) => why = error.to_string(),
        }
        next = begun + ttl / 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const TTL: Duration = Duration::from_secs(9);

    /// What is said of a lease, and to whom.
    struct Lines {
        renewed: watch::Sender<Instant>,
        held_until: watch::Receiver<Instant>,
        stop: watch::Sender<Option<String>>,
        stopped: watch::Receiver<Option<String>>,
        over: oneshot::Sender<()>,
        is_over: oneshot::Receiver<()>,
    }

    fn lines() -> Lines {
        let (renewed, held_until) = watch::channel(Instant::now() + TTL);
        let (stop, stopped) = watch::channel(None);
        let (over, is_over) = oneshot::channel();
        Lines {
            renewed,
            held_until,
            stop,
            stopped,
            over,
            is_over,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_hangs_ends_the_run_before_its_lease_ends() {
        let mut lines = lines();
        let begun = Instant::now();
        let hangs = async || {
            tokio::time::sleep(Duration::from_secs(100)).await;
            Ok(true)
        };
        let keeping = keep_lease(hangs, TTL, lines.renewed, lines.stop, lines.is_over);
        let watching = async {
            lines.stopped.wait_for(Option::is_some).await.unwrap();
            let after = begun.elapsed();
            assert!(after < TTL, "after {after:?}");
            assert!(Instant::now() < *lines.held_until.borrow());
        };
        tokio::join!(keeping, watching);
        let why = lines.stopped.borrow().clone().unwrap();
        assert!(why.contains("did not answer"), "{why}");
        assert!(begun.elapsed() > TTL, "the renewal was waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn errors_are_outlived_while_the_lease_lasts_and_no_longer() {
        let lines = lines();
        let begun = Instant::now();
        let turn = Cell::new(0);
        let fails = async || {
            turn.set(turn.get() + 1);
            if turn.get() == 3 {
                return Ok(true);
            }
            Err(StoreError::Unreachable("as asked".into()))
        };
        keep_lease(fails, TTL, lines.renewed, lines.stop, lines.is_over).await;
        assert_eq!(turn.get(), 6, "the third one prolonged it");
        let held = *lines.held_until.borrow();
        let late = held.duration_since(begun + TTL / 4 * 3 + TTL);
        assert!(late < Duration::from_millis(50), "late by {late:?}");
        assert!(Instant::now() < held);
        let why = lines.stopped.borrow().clone().unwrap();
        assert!(why.contains("as asked"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_lost_ends_the_run_and_a_run_that_is_over_ends_the_keeping() {
        let lost = lines();
        let answer = async || Ok(false);
        keep_lease(answer, TTL, lost.renewed, lost.stop, lost.is_over).await;
        let why = lost.stopped.borrow().clone().unwrap();
        assert_eq!(why, "its lease was taken over");

        let kept = lines();
        let answer = async || Ok(true);
        let keeping = keep_lease(answer, TTL, kept.renewed, kept.stop, kept.is_over);
        let ending = async {
            tokio::time::sleep(TTL * 10).await;
            drop(kept.over);
        };
        tokio::join!(keeping, ending);
        assert_eq!(*kept.stopped.borrow(), None);
    }
}
