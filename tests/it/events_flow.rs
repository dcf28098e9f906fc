//! Events from the gateway to the consumer: all are recorded, the relevant ones
//! arrive once and in order, and a consumer that fails halts its subscription
//! alone.

use crate::events_support::{Place, all_done, blocks, call, ids, make_known, order, relevant};
use crate::support::{Database, PATIENCE, eventually, on_both_databases};
use highwater::sim::{
    Blocks, ConsumerHandle, ConsumerOptions, ConsumerSim, GatewayKnobs, GatewayOptions, GatewaySim,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

const FIRST: u32 = 60;
const MORE: u32 = 10;

on_both_databases!(relevant_events_arrive_once_and_in_order_and_a_failure_halts_one_subscription);

fn consumer() -> ConsumerHandle {
    ConsumerSim::start(ConsumerOptions::default()).unwrap()
}

async fn relevant_events_arrive_once_and_in_order_and_a_failure_halts_one_subscription(
    database: &Database,
) {
    let gateway = GatewaySim::start(GatewayOptions {
        relevant: 0.6,
        events: Blocks { from: 1, to: 5 },
        knobs: GatewayKnobs {
            duplicates: 0.1,
            reorder: 0.3,
            // What is to be known comes first.
            mute: true,
            ..GatewayKnobs::default()
        },
        ..GatewayOptions::resting(FIRST)
    })
    .unwrap();
    let (claims, audits) = (consumer(), consumer());
    let place = Place::new(database, &gateway, &claims, &audits);
    let server = place.serve().await;
    let last = i64::from(FIRST) - 1;
    make_known(&server, &gateway, last + 1).await;
    gateway.set(|knobs| knobs.mute = false);
    let events = gateway.events(0..=last);
    all_done(database, "claims", events.len()).await;
    all_done(database, "audits", events.len()).await;

    let check = |taken: Vec<String>, expected: std::collections::BTreeSet<String>| {
        assert!(blocks(&taken).is_sorted(), "not in order: {taken:?}");
        let count = taken.len();
        let taken: std::collections::BTreeSet<String> = taken.into_iter().collect();
        assert_eq!(taken, expected);
        assert_eq!(count, expected.len(), "each once");
    };
    check(claims.taken(), ids("claims", &relevant(&events)));
    check(audits.taken(), ids("audits", &events));

    // The consumer of one subscription fails: it halts, and the other goes on.
    claims.set(|knobs| knobs.fail = 1.0);
    let last = last + i64::from(MORE);
    make_known(&server, &gateway, last + 1).await;
    gateway.grow(MORE);
    let events = gateway.events(0..=last);
    all_done(database, "audits", events.len()).await;
    check(audits.taken(), ids("audits", &events));
    let mut halted = Value::Null;
    eventually(PATIENCE, "claims is halted", async || {
        halted = server.get("/v1/subscriptions/claims").await;
        halted["state"] == "halted"
    })
    .await;
    assert!(halted["halted"]["error"].as_str().unwrap().contains("500"));
    // What is shown is a moment old.
    eventually(PATIENCE, "audits waits for events", async || {
        server.get("/v1/subscriptions/audits").await["state"] == "waiting"
    })
    .await;
    eventually(PATIENCE, "the probe warns of it", async || {
        let told = server.get("/readyz?verbose").await.to_string();
        told.contains("subscription claims is halted on event")
    })
    .await;
    let metrics = server.page("/metrics").await;
    let line = "highwater_subscription_state{subscription=\"claims\",state=\"halted\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    let recorded = "SELECT count(*) AS value FROM events WHERE subscription = 'claims'";
    eventually(PATIENCE, "it goes on recording", async || {
        database.number(recorded).await == i64::try_from(events.len()).unwrap()
    })
    .await;
    let arrival = halted["halted"]["arrival"].as_i64().unwrap();
    let path = format!("/v1/subscriptions/claims/events/{arrival}");
    let event = server.get(&path).await;
    assert_eq!(event["attempts"], 2, "{event}");
    assert_eq!(event["payload"]["blockNumber"], event["block"], "{event}");

    // Orders need a reason, and say what they did.
    let (status, problem) = call(
        &server,
        "/v1/subscriptions/claims/retry",
        &json!({ "reason": " " }),
    )
    .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    claims.set(|knobs| knobs.fail = 0.0);
    let reason = json!({ "reason": "the consumer is mended" });
    let done = order(&server, "/v1/subscriptions/claims/retry", &reason).await;
    assert_eq!(done["arrival"], arrival);
    all_done(database, "claims", events.len()).await;
    check(claims.taken(), ids("claims", &relevant(&events)));
    let (status, problem) = call(&server, "/v1/subscriptions/claims/retry", &reason).await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");

    // What is paused is recorded and waits.
    order(&server, "/v1/subscriptions/audits/pause", &reason).await;
    let last = last + 1;
    gateway.grow(1);
    let grown = gateway.events(0..=last);
    make_known(&server, &gateway, last + 1).await;
    all_done(database, "claims", grown.len()).await;
    let audited = audits.taken().len();
    assert_eq!(audited, events.len(), "paused");
    order(&server, "/v1/subscriptions/audits/resume", &reason).await;
    all_done(database, "audits", grown.len()).await;
    check(audits.taken(), ids("audits", &grown));

    // A replay comes with the same ids.
    let replay = json!({ "reason": "to be sure", "from_block": last });
    order(&server, "/v1/subscriptions/audits/replay", &replay).await;
    let again = ids("audits", &gateway.events(last..=last)).len();
    eventually(PATIENCE, "the last block comes again", async || {
        audits.taken().len() == grown.len() + again
    })
    .await;
    let page = server
        .get("/v1/subscriptions/audits/events?limit=3&decision=relevant")
        .await;
    assert_eq!(page["items"].as_array().unwrap().len(), 3, "{page}");
    assert!(page["next"].is_string(), "{page}");
    server.terminate().await;
}
