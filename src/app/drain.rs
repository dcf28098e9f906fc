//! The drain: stop what comes in, let what is under way end, write it, give
//! the leases back, save the states.

use super::AppError;
use super::wiring::Engine;
use crate::actors::Beating;
use crate::messages::{Drain, Flush, SaveStates};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The least time for writing and saving, however long the fetches took.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long the drain may go on, at most, when the shutdown timeout is over:
/// each of its last steps is bounded.
pub(super) const AFTER_FETCHES: Duration = Duration::from_secs(12);

/// How long answers under way may take once everything else is drained.
const HTTP_LAST_WORDS: Duration = Duration::from_millis(500);

/// Drains the server within its shutdown timeout. Work that has not ended by
/// then is abandoned; it is done again at the next start.
pub(super) async fn drain(engine: &Engine) -> Result<(), AppError> {
    let begun = Instant::now();
    let deadline = begun + engine.shutdown_timeout;
    engine.draining.send_replace(true);
    engine.query.close();
    if let Err(error) = engine.drain.send(Drain, LAST_WORDS).await {
        tracing::warn!(error = %error, "the Scheduler was not told to drain");
    }
    let fetch_deadline = deadline
        .checked_sub(LAST_WORDS)
        .unwrap_or(deadline)
        .max(begun);
    let abandoned = wait_for_fetches(engine, fetch_deadline).await;
    let handlers = wait_for_handlers(engine, fetch_deadline).await;
    if handlers > 0 {
        tracing::warn!(
            subscriptions.abandoned = handlers,
            "events that handlers were at work on come to them again at the next start"
        );
    }
    let patience = deadline
        .saturating_duration_since(Instant::now())
        .max(LAST_WORDS);
    let flushed = engine.flush.send(Flush, patience).await;
    // What was learnt from the last answers is shown, then saved, and then
    // whoever takes the leases over finds it.
    if let Err(error) = engine.drain.send(Drain, LAST_WORDS).await {
        tracing::warn!(error = %error, "the Scheduler did not tell its last state");
    }
    let patience = deadline
        .saturating_duration_since(Instant::now())
        .max(LAST_WORDS);
    let saved = engine.save.send(SaveStates, patience).await;
    give_back_leases(engine).await;
    drop(timeout(HTTP_LAST_WORDS, engine.seeds.stop()).await);
    // Last, so that whoever looks sees the drain; intake was refused meanwhile.
    if timeout(HTTP_LAST_WORDS, engine.http.stop(true))
        .await
        .is_err()
    {
        // Connections that are open still end with the process.
        drop(timeout(HTTP_LAST_WORDS, engine.http.stop(false)).await);
    }
    for service in engine.query.list().iter().rev() {
        engine.query.stop(&service.name)?;
    }
    flushed.map_err(|error| AppError::CutShort(format!("outcomes were not written: {error}")))?;
    let unsaved = |problem| AppError::CutShort(format!("states were not saved: {problem}"));
    saved
        .map_err(|error| unsaved(error.to_string()))?
        .map_err(unsaved)?;
    if abandoned > 0 {
        tracing::warn!(
            work.abandoned = abandoned,
            "work in flight was abandoned; it is done again at the next start"
        );
    }
    Ok(())
}

/// Waits until no work is in flight; answers how much still was.
async fn wait_for_fetches(engine: &Engine, deadline: Instant) -> usize {
    loop {
        let count = engine.in_flight.count();
        if count == 0 {
            return 0;
        }
        if Instant::now() >= deadline {
            return count;
        }
        // The Updater gathers for a moment; whoever waits asks it to go on.
        drop(
            timeout(
                Duration::from_millis(50),
                engine.flush.send(Flush, LAST_WORDS),
            )
            .await,
        );
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until no handler of events is at work and what it did is written;
/// answers how many subscriptions still were. New events are handed to none.
async fn wait_for_handlers(engine: &Engine, deadline: Instant) -> usize {
    loop {
        let count = engine.at_work.count();
        if count == 0 || Instant::now() >= deadline {
            return count;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

async fn give_back_leases(engine: &Engine) {
    // A heartbeat under way ends first, and no other begins.
    match timeout(LAST_WORDS, engine.beating.lock()).await {
        Ok(mut beating) => *beating = Beating::Ended,
        Err(_) => tracing::warn!("a heartbeat has not ended; leases may have to expire"),
    }
    let mut names: Vec<String> = engine.holdings.borrow().held.keys().cloned().collect();
    names.push(format!("{}{}", crate::leases::SERVER_PREFIX, engine.holder));
    let release = engine.store.release_leases(&engine.holder, &names);
    match timeout(LAST_WORDS, release).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = %error, "leases were not given back; they expire"),
        Err(_) => tracing::warn!("leases were not given back in time; they expire"),
    }
}
