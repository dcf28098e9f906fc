//! Subscriptions come and go by a reload while events come in, and by control.

use crate::events_support::{
    ALL, Place, SOON, all_done, call, calls, check_calls, ids, make_known, order, relevant,
};
use crate::support::{Database, PATIENCE, ServerProcess, eventually, on_both_databases};
use highwater::sim::{
    Blocks, ConsumerHandle, ConsumerOptions, ConsumerSim, GatewayHandle, GatewayOptions, GatewaySim,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// All blocks there will be.
const BLOCKS: i64 = 400;

on_both_databases!(
    subscriptions_come_and_go_by_reloads_under_load,
    a_subscription_that_is_stopped_does_not_claim_to_run,
);

fn consumer() -> ConsumerHandle {
    let consumer = ConsumerSim::start(ConsumerOptions::default()).unwrap();
    consumer.set(|knobs| knobs.latency = Duration::from_millis(5));
    consumer
}

fn gateway() -> GatewayHandle {
    GatewaySim::start(GatewayOptions {
        relevant: 0.6,
        events: Blocks { from: 1, to: 5 },
        ..GatewayOptions::resting(0)
    })
    .unwrap()
}

/// Grows the chain, and waits until a consumer is in the middle of it.
async fn is_at_work(gateway: &GatewayHandle, consumer: &ConsumerHandle) {
    let goal = consumer.stats().calls + 20;
    gateway.grow(60);
    eventually(PATIENCE, "its handler is at work", async || {
        consumer.stats().calls >= goal
    })
    .await;
}

/// The subscriptions that are shown, with whether they are configured.
async fn shown(server: &ServerProcess) -> Vec<(String, bool)> {
    let all = server.get("/v1/subscriptions").await;
    let items = all["items"].as_array().unwrap().iter();
    let item = |item: &Value| {
        (
            item["name"].as_str().unwrap().to_owned(),
            item["configured"] == true,
        )
    };
    items.map(item).collect()
}

async fn subscriptions_come_and_go_by_reloads_under_load(database: &Database) {
    let gateway = gateway();
    let (claims, audits, extra) = (consumer(), consumer(), consumer());
    let place = Place::new(database, &gateway, &claims, &audits);
    let server = place.serve().await;
    make_known(&server, &gateway, BLOCKS).await;

    // One goes and another comes, in the middle of everything.
    is_at_work(&gateway, &audits).await;
    place.subscribe(&[("claims", &claims, SOON), ("extra", &extra, ALL)]);
    server.hangup();
    let name = |name: &str, configured| (name.to_owned(), configured);
    let wanted = [
        name("claims", true),
        name("extra", true),
        name("audits", false),
    ];
    eventually(PATIENCE, "the reload is applied", async || {
        shown(&server).await == wanted
    })
    .await;
    gateway.grow(30);
    let events = gateway.events(0..=gateway.blocks() - 1);
    all_done(database, "extra", events.len()).await;
    all_done(database, "claims", events.len()).await;
    let left = audits.received().len();
    let once = |consumer: &ConsumerHandle, name: &str, expected: &[_]| {
        assert_eq!(check_calls(&calls(consumer), &ids(name, expected), 0), 0);
    };
    once(&extra, "extra", &events);
    once(&claims, "claims", &relevant(&events));
    assert!(left < events.len(), "it went in the middle");

    // It comes back, and goes on where it was.
    is_at_work(&gateway, &claims).await;
    assert_eq!(audits.received().len(), left, "nobody hands anything over");
    let all = [
        ("claims", &claims, SOON),
        ("extra", &extra, ALL),
        ("audits", &audits, ALL),
    ];
    place.subscribe(&all);
    server.hangup();
    let events = gateway.events(0..=gateway.blocks() - 1);
    for name in ["audits", "extra", "claims"] {
        all_done(database, name, events.len()).await;
    }
    once(&extra, "extra", &events);
    once(&claims, "claims", &relevant(&events));
    // The one that was with its handler may have come again.
    let again = check_calls(&calls(&audits), &ids("audits", &events), 1);
    println!(
        "    audits: {} events, {again} again after it came back",
        events.len()
    );
    assert_eq!(
        audits.taken().into_iter().collect::<BTreeSet<_>>().len(),
        events.len()
    );
    server.terminate().await;
}

async fn a_subscription_that_is_stopped_does_not_claim_to_run(database: &Database) {
    let gateway = gateway();
    let (claims, audits) = (consumer(), consumer());
    let place = Place::new(database, &gateway, &claims, &audits);
    let server = place.serve().await;
    make_known(&server, &gateway, BLOCKS).await;
    is_at_work(&gateway, &audits).await;
    let reason = json!({ "reason": "to see" });
    let control = |what: &str| format!("/v1/control/services/subscriber:audits/{what}");
    let (status, answer) = call(&server, &control("stop"), &json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    let state = async || server.get("/v1/subscriptions/audits").await["state"].clone();
    eventually(PATIENCE, "it is shown as not run", async || {
        state().await == "not_run"
    })
    .await;
    let stopped = audits.received().len();
    // The other goes on.
    gateway.grow(20);
    let events = gateway.events(0..=gateway.blocks() - 1);
    all_done(database, "claims", events.len()).await;
    assert_eq!(state().await, "not_run");
    assert_eq!(audits.received().len(), stopped);
    let metrics = server.page("/metrics").await;
    let line = "highwater_subscription_state{subscription=\"audits\",state=\"running\"} 1";
    assert!(!metrics.contains(line), "{metrics}");
    let (status, answer) = call(&server, &control("start"), &json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    all_done(database, "audits", events.len()).await;
    check_calls(&calls(&audits), &ids("audits", &events), 1);
    // It shows itself again.
    order(&server, "/v1/subscriptions/audits/pause", &reason).await;
    eventually(PATIENCE, "it is shown", async || state().await == "paused").await;
    server.terminate().await;
}
