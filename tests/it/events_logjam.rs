//! A logjam: one subscription halts and the others go on; everything that an
//! operator does about it is done by the shell, as at night, and recorded.

use crate::command_line::{Ended, program};
use crate::events_support::{Place, TOKEN, all_done, blocks, ids, make_known, relevant};
use crate::support::{Database, PATIENCE, ServerProcess, eventually, on_both_databases};
use highwater::sim::{
    Blocks, ConsumerHandle, ConsumerOptions, ConsumerSim, GatewayHandle, GatewayKnobs,
    GatewayOptions, GatewaySim, SimEvent,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

const BLOCKS: u32 = 30;

on_both_databases!(a_logjam_halts_one_subscription_and_an_operator_ends_it_by_hand);

/// Sends nothing yet: what is to be known comes first.
fn muted() -> GatewayKnobs {
    GatewayKnobs {
        mute: true,
        ..GatewayKnobs::default()
    }
}

/// Runs `highwater` beside the server; answers its JSON.
fn done(place: &Place, args: &[&str]) -> Value {
    let mut command = program(place.installation.path());
    let ended = Ended::from(command.args(args).args(["-o", "json"]).output().unwrap());
    assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
    serde_json::from_str(&ended.out).unwrap()
}

/// The audit of a subscription over HTTP: action, outcome and reason, newest
/// first.
async fn audit(server: &ServerProcess) -> Vec<(String, String, String)> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v1/control/audit?target=claims", server.address());
    let answer = client.get(url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let page: Value = answer.json().await.unwrap();
    told(&page)
}

fn told(page: &Value) -> Vec<(String, String, String)> {
    let items = page["items"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |item: &Value| {
        (
            text(&item["action"]),
            text(&item["outcome"]),
            text(&item["details"]["reason"]),
        )
    };
    items.iter().map(row).collect()
}

/// Waits until `claims` is halted on this event, and everything says so.
async fn is_halted_on(database: &Database, server: &ServerProcess, event: &SimEvent) -> i64 {
    let halted = "SELECT count(*) AS value FROM subscriptions WHERE halted_arrival IS NOT NULL";
    eventually(PATIENCE, "the halt is written", async || {
        database.number(halted).await == 1
    })
    .await;
    let mut shown = Value::Null;
    eventually(PATIENCE, "claims is halted", async || {
        shown = server.get("/v1/subscriptions/claims").await;
        shown["state"] == "halted"
    })
    .await;
    let arrival = shown["halted"]["arrival"].as_i64().unwrap();
    let path = format!("/v1/subscriptions/claims/events/{arrival}");
    let on = server.get(&path).await;
    assert_eq!(on["tx_id"], event.tx_id, "{on}");
    assert!(
        shown["halted"]["error"].as_str().unwrap().contains("500"),
        "{shown}"
    );
    eventually(PATIENCE, "the probe names it", async || {
        // 200, or this fails.
        let probe = server.get("/readyz?verbose").await.to_string();
        probe.contains("subscription claims is halted on event")
    })
    .await;
    let metrics = server.page("/metrics").await;
    for line in [
        "highwater_subscription_state{subscription=\"claims\",state=\"halted\"} 1",
        "highwater_subscription_state{subscription=\"audits\",state=\"halted\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(
        server
            .log()
            .contains("a subscription halts: mend the cause and retry")
    );
    arrival
}

/// Grows the chain; all of it is recorded, and `audits` gets all of it.
async fn the_other_goes_on(
    database: &Database,
    server: &ServerProcess,
    gateway: &GatewayHandle,
    audits: &ConsumerHandle,
) {
    gateway.grow(5);
    make_known(server, gateway, gateway.blocks()).await;
    let events = gateway.events(0..=gateway.blocks() - 1);
    all_done(database, "audits", events.len()).await;
    let taken = audits.taken();
    assert_eq!(taken.len(), events.len());
    assert!(blocks(&taken).is_sorted());
    let recorded = "SELECT count(*) AS value FROM events WHERE subscription = 'claims'";
    eventually(PATIENCE, "what comes is recorded", async || {
        database.number(recorded).await == i64::try_from(events.len()).unwrap()
    })
    .await;
}

async fn a_logjam_halts_one_subscription_and_an_operator_ends_it_by_hand(database: &Database) {
    let gateway = GatewaySim::start(GatewayOptions {
        relevant: 0.7,
        events: Blocks { from: 1, to: 3 },
        knobs: muted(),
        ..GatewayOptions::resting(BLOCKS)
    })
    .unwrap();
    let start = || ConsumerSim::start(ConsumerOptions::default()).unwrap();
    let (claims, audits) = (start(), start());
    let place = Place::new(database, &gateway, &claims, &audits);
    // Two events of transactions of their own, which the consumer cannot stand.
    let wanted = relevant(&gateway.events(0..=i64::from(BLOCKS) - 1));
    let alone = |event: &&SimEvent| wanted.iter().filter(|e| e.tx_id == event.tx_id).count() == 1;
    let poison: Vec<&SimEvent> = wanted.iter().filter(alone).collect();
    let (first, second) = (poison[poison.len() / 3], poison[poison.len() - 2]);
    let fails_on = |event: &SimEvent| {
        let transaction = Some(event.tx_id.clone());
        claims.set(|knobs| knobs.fail_on = transaction);
    };
    fails_on(first);
    let server = place.serve().await;
    make_known(&server, &gateway, i64::from(BLOCKS)).await;
    gateway.set(|knobs| knobs.mute = false);

    let arrival = is_halted_on(database, &server, first).await;
    the_other_goes_on(database, &server, &gateway, &audits).await;
    let before = claims.taken();
    let at = |event: &SimEvent| wanted.iter().position(|e| e == event).unwrap();
    assert_eq!(before.len(), at(first), "all before it, and none behind it");
    let stands = done(&place, &["events", "status", "claims"]);
    assert_eq!(stands["halted"]["arrival"], arrival, "{stands}");

    // Retried too early it halts again, after as many tries as before.
    let calls = claims.stats().calls;
    let retry = ["events", "retry", "claims", "--reason"];
    let retried = done(&place, &[&retry[..], &["it should work"]].concat());
    assert_eq!(retried["arrival"], arrival);
    eventually(PATIENCE, "it is tried anew", async || {
        claims.stats().calls == calls + 2
    })
    .await;
    is_halted_on(database, &server, first).await;

    // The cause is mended, and the next one waits behind it.
    fails_on(second);
    done(&place, &[&retry[..], &["the consumer is mended"]].concat());
    eventually(PATIENCE, "it goes on to the next", async || {
        claims.taken().len() == at(second)
    })
    .await;
    let arrival = is_halted_on(database, &server, second).await;
    the_other_goes_on(database, &server, &gateway, &audits).await;
    let skip = ["events", "skip", "claims", "--reason", "theirs to mend"];
    assert_eq!(done(&place, &skip)["arrival"], arrival);
    let events = gateway.events(0..=gateway.blocks() - 1);
    all_done(database, "claims", events.len()).await;
    let number = arrival.to_string();
    let shown = done(&place, &["events", "show", "claims", &number]);
    assert_eq!(
        (&shown["decision"], &shown["last_error"]),
        (&json!("skipped"), &json!("theirs to mend"))
    );
    let mut expected = relevant(&events);
    expected.retain(|event| event != second);
    let taken = claims.taken();
    assert_eq!(taken.len(), expected.len(), "each once");
    assert_eq!(
        taken
            .iter()
            .cloned()
            .collect::<std::collections::BTreeSet<_>>(),
        ids("claims", &expected)
    );
    assert!(blocks(&taken).is_sorted());

    // Paused, what comes is recorded and waits; resumed, it is processed.
    let by_hand = |what: &str, more: &[&str], reason: &str| {
        let args = [&["events", what, "claims"][..], more, &["--reason", reason]].concat();
        done(&place, &args)
    };
    by_hand("pause", &[], "the consumer moves");
    eventually(PATIENCE, "claims is paused", async || {
        server.get("/v1/subscriptions/claims").await["state"] == "paused"
    })
    .await;
    the_other_goes_on(database, &server, &gateway, &audits).await;
    assert_eq!(claims.taken().len(), taken.len(), "paused");
    by_hand("resume", &[], "it moved");
    let events = gateway.events(0..=gateway.blocks() - 1);
    all_done(database, "claims", events.len()).await;
    let taken = claims.taken().len();
    assert_eq!(taken, relevant(&events).len() - 1);

    // A replay has all of a block again, but what was skipped stays so.
    let from = second.block.to_string();
    let replayed = by_hand("replay", &["--from-block", &from], "it lost them");
    assert!(replayed["events"].as_i64().unwrap() > 0, "{replayed}");
    all_done(database, "claims", events.len()).await;
    let mut again = relevant(&gateway.events(second.block..=gateway.blocks() - 1));
    again.retain(|event| event != second);
    let all = claims.taken();
    assert_eq!(all.len(), taken + again.len());
    assert_eq!(
        all[taken..]
            .iter()
            .cloned()
            .collect::<std::collections::BTreeSet<_>>(),
        ids("claims", &again)
    );

    let over_http = audit(&server).await;
    let row = |action: &str, reason: &str| {
        (
            format!("subscriptions.{action}"),
            "done".to_owned(),
            reason.to_owned(),
        )
    };
    let orders = [
        row("replay", "it lost them"),
        row("resume", "it moved"),
        row("pause", "the consumer moves"),
        row("skip", "theirs to mend"),
        row("retry", "the consumer is mended"),
        row("retry", "it should work"),
    ];
    assert_eq!(over_http, orders);
    let by_shell = done(&place, &["audit", "--target", "claims"]);
    assert_eq!(told(&by_shell), orders);
    server.terminate().await;
}
