//! The running gateway over real sockets: what its knobs do.

use super::*;
use crate::sim::{GatewayOptions, GatewaySim, Outage};
use actix_web::{HttpResponse, web};
use serde_json::Value;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A callback that remembers what came, and refuses when told to.
struct Hook {
    peer: Peer,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    calls: Vec<Value>,
    refuses: bool,
}

impl Hook {
    fn start() -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let data = web::Data::from(heard.clone());
        let routes = move |config: &mut web::ServiceConfig| {
            config.app_data(data.clone()).default_service(web::to(take));
        };
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let peer = Peer::start("test-hook", listen, 1, routes, || {}).unwrap();
        Self { peer, heard }
    }

    fn refuse(&self, refuses: bool) {
        self.heard.lock().unwrap().refuses = refuses;
    }

    fn calls(&self) -> Vec<Value> {
        self.heard.lock().unwrap().calls.clone()
    }

    /// Block and index of everything that came, in order.
    fn places(&self) -> Vec<(i64, u32)> {
        let place = |event: &Value| {
            let index = event["eventIndex"].as_u64().unwrap();
            (
                event["blockNumber"].as_i64().unwrap(),
                u32::try_from(index).unwrap(),
            )
        };
        self.calls()
            .iter()
            .flat_map(|call| match call {
                Value::Array(events) => events.iter().map(place).collect(),
                event => vec![place(event)],
            })
            .collect()
    }
}

async fn take(body: web::Bytes, heard: web::Data<Mutex<Heard>>) -> HttpResponse {
    let mut heard = heard.lock().unwrap();
    if heard.refuses {
        return HttpResponse::ServiceUnavailable().finish();
    }
    heard.calls.push(serde_json::from_slice(&body).unwrap());
    HttpResponse::NoContent().finish()
}

fn start(options: GatewayOptions) -> GatewayHandle {
    GatewaySim::start(options).unwrap()
}

async fn subscribe(gateway: &GatewayHandle, hook: &Hook, more: &str) -> reqwest::Result<u16> {
    let form = format!(
        "channelName=dhlecomchannel&chaincodeName=businesscontract&eventCategory=Contract\
         &eventName=CLAIM_STATUS_CHANGE&eventType=full\
         &callbackURL=http%3A%2F%2F{}%2Fv1%2Fhooks%2Fclaims%2Fs3cret&{more}",
        hook.peer.addr()
    );
    let client = reqwest::Client::builder().no_proxy().build()?;
    let call = client
        .post(gateway.url())
        .header("content-type", "application/x-www-form-urlencoded")
        .timeout(Duration::from_secs(5));
    Ok(call.body(form).send().await?.status().as_u16())
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(
            begun.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn places(gateway: &GatewayHandle, blocks: RangeInclusive<i64>) -> Vec<(i64, u32)> {
    let events = gateway.events(blocks);
    events
        .iter()
        .map(|event| (event.block, event.index))
        .collect()
}

#[tokio::test]
async fn events_from_startblock_to_endblock_are_sent_in_order_and_recorded() {
    let gateway = start(GatewayOptions::resting(10));
    let hook = Hook::start();
    let asked = subscribe(&gateway, &hook, "startblock=3&endblock=12").await;
    assert_eq!(asked.unwrap(), 200);
    let first = places(&gateway, 3..=9);
    eventually("the blocks there are", || hook.places() == first).await;
    assert_eq!(gateway.stats().live, 1);
    gateway.grow(10);
    eventually("the end", || gateway.stats().live == 0).await;
    let whole = places(&gateway, 3..=12);
    assert_eq!(hook.places(), whole);
    let expected: Vec<_> = gateway
        .events(3..=12)
        .into_iter()
        .map(|event| (event.block, event.tx_id, event.index))
        .collect();
    assert_eq!(gateway.sent(), expected);
    assert_eq!(gateway.acknowledged(), expected);
    let event = &hook.calls()[0];
    let first = &gateway.events(3..=3)[0];
    assert_eq!(event["transactionId"], first.tx_id.as_str());
    assert_eq!(event["payload"]["key"], first.key.as_str());
    assert_eq!(event["eventName"], "CLAIM_STATUS_CHANGE");
}

#[tokio::test]
async fn what_is_not_taken_is_sent_again() {
    let gateway = start(GatewayOptions::resting(3));
    let hook = Hook::start();
    hook.refuse(true);
    subscribe(&gateway, &hook, "startblock=0").await.unwrap();
    eventually("refusals", || gateway.stats().calls_failed >= 3).await;
    assert!(gateway.acknowledged().is_empty());
    assert_eq!(gateway.sent().len(), 1);
    hook.refuse(false);
    let whole = places(&gateway, 0..=2);
    eventually("all of it", || hook.places() == whole).await;
    eventually("answers", || gateway.acknowledged() == gateway.sent()).await;
}

#[tokio::test]
async fn a_crash_forgets_subscriptions_and_two_of_one_callback_both_send() {
    let gateway = start(GatewayOptions::resting(2));
    let hook = Hook::start();
    for _ in 0..2 {
        subscribe(&gateway, &hook, "startblock=0").await.unwrap();
    }
    let twice = 2 * places(&gateway, 0..=1).len();
    eventually("both", || hook.places().len() == twice).await;
    gateway.crash();
    assert_eq!(gateway.stats().live, 0);
    gateway.grow(5);
    subscribe(&gateway, &hook, "startblock=6&endblock=6")
        .await
        .unwrap();
    eventually("the new one", || gateway.stats().live == 0).await;
    let sent: Vec<i64> = gateway.sent().iter().map(|(block, ..)| *block).collect();
    assert!(!sent.contains(&4), "{sent:?}");
    assert!(sent.contains(&6), "{sent:?}");
}

#[tokio::test]
async fn an_outage_refuses_subscriptions_and_sends_nothing() {
    let gateway = start(GatewayOptions::resting(1));
    let hook = Hook::start();
    subscribe(&gateway, &hook, "startblock=1").await.unwrap();
    gateway.set(|knobs| knobs.outage = Outage::Unavailable);
    assert_eq!(
        subscribe(&gateway, &hook, "startblock=0").await.unwrap(),
        503
    );
    gateway.set(|knobs| knobs.outage = Outage::Hangup);
    assert!(subscribe(&gateway, &hook, "startblock=0").await.is_err());
    gateway.set(|knobs| {
        knobs.outage = Outage::None;
        knobs.refuse = Some(422);
    });
    assert_eq!(
        subscribe(&gateway, &hook, "startblock=0").await.unwrap(),
        422
    );
    gateway.set(|knobs| knobs.refuse = None);
    assert_eq!(
        subscribe(&gateway, &hook, "startblock=x").await.unwrap(),
        400
    );
    assert_eq!(gateway.stats().refused, 2);
    gateway.grow(1);
    let block = places(&gateway, 1..=1);
    eventually("the first subscription", || hook.places() == block).await;
}

#[tokio::test]
async fn knobs_give_lists_duplicates_disorder_and_late_events_and_lose_nothing() {
    let gateway = start(GatewayOptions::resting(60));
    gateway.set(|knobs| {
        knobs.list = 7;
        knobs.duplicates = 0.2;
        knobs.reorder = 0.5;
        knobs.late = 0.1;
    });
    let hook = Hook::start();
    subscribe(&gateway, &hook, "startblock=0&endblock=59")
        .await
        .unwrap();
    eventually("the end", || gateway.stats().live == 0).await;
    assert!(
        hook.calls()
            .iter()
            .any(|call| call.as_array().unwrap().len() == 7)
    );
    let mut heard = hook.places();
    assert!(!heard.is_sorted_by_key(|place| place.0));
    let count = heard.len();
    heard.sort_unstable();
    heard.dedup();
    assert!(heard.len() < count);
    assert_eq!(heard, places(&gateway, 0..=59));
}

#[tokio::test]
async fn a_chain_grows_by_itself_and_is_told_and_driven_from_outside() {
    let gateway = start(GatewayOptions {
        block_every: Duration::from_millis(5),
        relevant: 0.5,
        ..GatewayOptions::resting(5)
    });
    let hook = Hook::start();
    subscribe(&gateway, &hook, "startblock=0").await.unwrap();
    eventually("blocks", || gateway.blocks() > 20).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = format!("http://{}/sim", gateway.addr());
    let knobs = client
        .post(format!("{base}/knobs"))
        .body(r#"{"rest":true}"#);
    assert_eq!(knobs.send().await.unwrap().status(), 200);
    let wrong = client
        .post(format!("{base}/knobs"))
        .body(r#"{"rests":true}"#);
    assert_eq!(wrong.send().await.unwrap().status(), 400);
    eventually("all of it", || {
        let all = places(&gateway, 0..=gateway.blocks() - 1).len();
        gateway.stats().events_acknowledged == all as u64
    })
    .await;
    let get = async |path: &str| -> Value {
        let answer = client.get(format!("{base}/{path}")).send().await.unwrap();
        answer.json().await.unwrap()
    };
    let chain = get("chain?from=0&to=9").await;
    let events = chain["events"].as_array().unwrap();
    assert_eq!(events.len(), places(&gateway, 0..=9).len());
    assert!(
        events
            .iter()
            .all(|event| event["sent"] == 1 && event["acknowledged"] == 1)
    );
    assert!(!chain.to_string().contains("s3cret"));
    let known = get("known?from=0&to=9").await;
    let (tx_ids, keys) = gateway.known(0..=9);
    assert_eq!(known, serde_json::json!({ "tx_ids": tx_ids, "keys": keys }));
    assert!(!tx_ids.is_empty() && tx_ids.len() < events.len());
    let crash = client.post(format!("{base}/crash")).send().await.unwrap();
    assert_eq!((crash.status().as_u16(), gateway.stats().live), (200, 0));
}
