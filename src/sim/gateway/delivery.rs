//! Sending a subscription its events, each again until it is taken, or given up
//! where the gateway is told to.

use super::chain::SimEvent;
use super::plan::{Step, Stream};
use super::server::GatewayShared;
use super::subscription::Subscription;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Pause before an event is sent again; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Late events are sent when no block came for so long.
const LATE_AFTER: Duration = Duration::from_millis(300);

/// Sends a subscription what it asked for, until `endblock` or for ever.
pub(super) async fn deliver(shared: Arc<GatewayShared>, id: u64, subscription: Subscription) {
    let listener = shared.state().record.listener(&subscription);
    let mut stream = Stream::new(subscription);
    let mut blocks = shared.blocks.subscribe();
    loop {
        wait_until_sending(&shared).await;
        let knobs = shared.knobs.borrow().clone();
        let count = *blocks.borrow_and_update();
        let mut step = stream.step(&shared.chain, &knobs, count);
        if step == Step::Wait {
            // The sender is in `shared`, so it is not gone.
            let next = blocks.changed();
            if tokio::time::timeout(LATE_AFTER, next).await.is_ok() {
                continue;
            }
            let Some(put_off) = stream.put_off() else {
                drop(blocks.changed().await);
                continue;
            };
            step = put_off;
        }
        let Step::Send { calls, at_once } = step else {
            break;
        };
        let list = knobs.list > 1;
        let (shared, to) = (&shared, &stream.subscription);
        stream::iter(calls)
            .for_each_concurrent(at_once, |call| send(shared, listener, to, call, list))
            .await;
        // Blocks without events, or an outage's end, are no reason to keep the thread.
        tokio::task::yield_now().await;
    }
    shared.ended(id);
}

/// Sends a call until it is answered 2xx, or given up.
async fn send(
    shared: &GatewayShared,
    listener: usize,
    to: &Subscription,
    events: Vec<SimEvent>,
    list: bool,
) {
    let json = |event| shared.chain.json(event, to);
    let body = match events.as_slice() {
        [event] if !list => json(event),
        events => Value::Array(events.iter().map(json).collect()),
    };
    let body = bytes::Bytes::from(body.to_string());
    let places: Vec<_> = events
        .iter()
        .map(|event| (event.block, event.index))
        .collect();
    let mut pause = FIRST_PAUSE;
    let mut tries = 0_u32;
    loop {
        wait_until_sending(shared).await;
        let (timeout, most_tries) = {
            let knobs = shared.knobs.borrow();
            (knobs.call_timeout, knobs.give_up_after)
        };
        shared.state().record.sent(listener, &places);
        let call = shared
            .client
            .post(to.callback.clone())
            .header("content-type", "application/json")
            .timeout(timeout)
            .body(body.clone());
        let taken = call
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success());
        shared.state().record.answered(listener, &places, taken);
        tries = tries.saturating_add(1);
        if taken || most_tries.is_some_and(|most| tries >= most) {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn wait_until_sending(shared: &GatewayShared) {
    if !shared.knobs.borrow().sends() {
        // The sender is in `shared`, so it is not gone.
        drop(
            shared
                .knobs
                .subscribe()
                .wait_for(|knobs| knobs.sends())
                .await,
        );
    }
}
