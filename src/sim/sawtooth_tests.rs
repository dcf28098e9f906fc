//! Sawtooth's wire format.

use super::*;
use crate::sim::{Behaviour, Fate, LedgerSim, SimHandle, SimOptions, Span};
use hash::test_id;
use serde_json::Value;

fn start(change: impl FnOnce(&mut SimOptions)) -> SimHandle {
    let mut options = SimOptions::default();
    change(&mut options);
    LedgerSim::start(options).unwrap()
}

async fn get(sim: &SimHandle, query: &str) -> (u16, String) {
    let response = reqwest::get(format!("{}/batch_statuses{query}", sim.url()))
        .await
        .unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn post(sim: &SimHandle, content_type: &str, body: String) -> (u16, String) {
    let mut request = reqwest::Client::new()
        .post(format!("{}/batch_statuses", sim.url()))
        .body(body);
    if !content_type.is_empty() {
        request = request.header("Content-Type", content_type);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn code(body: &str) -> u64 {
    let body: Value = serde_json::from_str(body).unwrap();
    body["error"]["code"].as_u64().unwrap()
}

#[tokio::test]
async fn a_committed_batch_is_answered_byte_for_byte_as_recorded() {
    let sim = start(|_| {});
    let id = test_id(1);
    sim.submit("", &id);
    let response = reqwest::get(format!("{}/batch_statuses?id={id}", sim.url()))
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], JSON);
    assert_eq!(response.headers()["server"], "Python/3.7 aiohttp/3.7.4");
    // stub_get_committed.json
    let recorded = format!(
        "{{\n  \"data\": [\n    {{\n      \"id\": \"{id}\",\n      \"invalid_transactions\": [],\n      \"status\": \"COMMITTED\"\n    }}\n  ],\n  \"link\": \"{}/batch_statuses?id={id}\"\n}}",
        sim.url()
    );
    assert_eq!(response.text().await.unwrap(), recorded);
}

#[tokio::test]
async fn a_mixed_post_keeps_order_and_duplicates() {
    let sim = start(|_| {});
    let ids: Vec<String> = (0..4).map(test_id).collect();
    sim.submit_as("", &ids[0], Fate::Commit);
    sim.submit_as("", &ids[1], Fate::StayPending);
    sim.submit_as("", &ids[2], Fate::Invalid);
    let asked = [&ids[3], &ids[2], &ids[1], &ids[0], &ids[0]];
    let body = serde_json::to_string(&asked).unwrap();
    let (status, body) = post(&sim, "application/json", body).await;
    assert_eq!(status, 200);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert!(body.get("link").is_none());
    let data = body["data"].as_array().unwrap();
    let words: Vec<_> = data.iter().map(|e| e["status"].as_str().unwrap()).collect();
    assert_eq!(
        words,
        ["UNKNOWN", "INVALID", "PENDING", "COMMITTED", "COMMITTED"]
    );
    for (entry, id) in data.iter().zip(asked) {
        assert_eq!(entry["id"], **id);
    }
}

#[tokio::test]
async fn errors_are_the_recorded_ones() {
    let sim = start(|_| {});
    let id = test_id(1);
    let (status, body) = get(&sim, "?id=abc").await;
    assert_eq!(status, 400);
    // stub_get_malformed_id.json
    assert_eq!(
        body,
        "{\n  \"error\": {\n    \"code\": 60,\n    \"message\": \"Blockchain items are identified by 128 character hex-strings. A submitted block, batch, or transaction id was invalid: abc\",\n    \"title\": \"Invalid Resource Id\"\n  }\n}"
    );
    for query in [
        "?id=".to_owned(),
        format!("?id={id},"),
        format!("?id={}", id.to_uppercase()),
    ] {
        assert_eq!(code(&get(&sim, &query).await.1), 60);
    }
    assert_eq!(code(&get(&sim, "").await.1), 66);

    let json = "application/json";
    let charset = "application/json; charset=utf-8";
    let list = format!("[\"{id}\"]");
    for (content_type, body, status, expected) in [
        (json, format!("[\"{id}\",\"zz\"]"), 400, Some(60)),
        (charset, list.clone(), 400, Some(43)),
        (json, "[]".to_owned(), 400, Some(46)),
        (json, format!("{{\"ids\":{list}}}"), 400, Some(46)),
        (json, "not json".to_owned(), 500, None),
        (json, String::new(), 500, None),
        ("", list, 500, None),
    ] {
        let (answered, answer) = post(&sim, content_type, body).await;
        assert_eq!(answered, status, "{answer}");
        match expected {
            Some(expected) => assert_eq!(code(&answer), expected),
            None => assert_eq!(
                answer,
                "500 Internal Server Error\n\nServer got itself in trouble"
            ),
        }
    }
}

#[tokio::test]
async fn limits_are_the_recorded_ones() {
    let sim = start(|_| {});
    let ids: Vec<String> = (0..64).map(test_id).collect();
    let (status, _) = get(&sim, &format!("?id={}", ids[..63].join(","))).await;
    assert_eq!(status, 200);
    let (status, body) = get(&sim, &format!("?id={}", ids.join(","))).await;
    assert_eq!(status, 400);
    assert_eq!(
        body,
        "Got more than 8190 bytes (8274) when reading Status line is too long."
    );
    let (status, body) = post(&sim, "application/json", "x".repeat(10_485_765)).await;
    assert_eq!(status, 413);
    assert_eq!(
        body,
        "Maximum request body size 10485760 exceeded, actual body size 10485765"
    );
}

#[tokio::test]
async fn an_invalid_entry_is_repeated_each_second_up_to_a_limit() {
    let shared = Shared::new(SimOptions {
        repeats: 3,
        ..SimOptions::default()
    });
    for (seconds, expected) in [(0, 1), (2, 3), (60, 4)] {
        let mut body = "[".to_owned();
        let answer = Answer {
            key: 7,
            status: SimStatus::Invalid,
            submitted: Timestamp::now(),
            decided_for: Duration::from_secs(seconds),
        };
        write_entries(&mut body, &shared, &answer);
        body.push(']');
        let entries: Vec<Value> = serde_json::from_str(&body).unwrap();
        assert_eq!(entries.len(), expected);
        assert!(entries.iter().all(|entry| *entry == entries[0]));
    }
}

#[tokio::test]
async fn a_wait_is_held_until_decided_or_over() {
    let sim = start(|o| {
        o.commit_after = Span::from(Duration::from_millis(200));
        o.validator_timeout = Duration::from_millis(1100);
    });
    let (decided, pending) = (test_id(1), test_id(2));
    sim.submit("", &decided);
    sim.submit_as("", &pending, Fate::StayPending);
    let (_, body) = get(&sim, &format!("?id={decided}&wait=300")).await;
    assert!(body.contains("COMMITTED") && body.contains("&wait=300"));
    let (status, body) = get(&sim, &format!("?id={pending}&wait=1")).await;
    assert!(status == 200 && body.contains("PENDING"));
    let (status, body) = get(&sim, &format!("?id={pending}&wait=0")).await;
    assert_eq!((status, code(&body)), (503, 17));
    let (status, _) = get(&sim, &format!("?id={}&wait=300", test_id(3))).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_validator_that_is_gone_cuts_off_and_then_hangs() {
    let sim = start(|o| {
        o.latency = Duration::from_secs(3600);
        o.validator_timeout = Duration::from_millis(1500);
    });
    let query = format!("?id={}", test_id(1));
    let gone = Behaviour {
        validator_gone: true,
        ..Behaviour::default()
    };
    let in_flight = get(&sim, &query);
    let cut = async {
        while sim.stats().requests == 0 {
            tokio::task::yield_now().await;
        }
        sim.set_behaviour(&gone);
    };
    let ((status, body), ()) = tokio::join!(in_flight, cut);
    assert_eq!((status, code(&body)), (503, 18));
    let (status, body) = get(&sim, &query).await;
    assert_eq!((status, code(&body)), (503, 17));
    sim.set_behaviour(&Behaviour::default());
    assert_eq!(get(&sim, &query).await.0, 200);
}
