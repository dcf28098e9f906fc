//! Hooks and what is known: what gateways and applications send in.

use super::super::testing::Fixture;
use super::Seen;
use super::controlled::until;
use crate::config::{SecretOf, SourceSettings, SubscriptionSettings};
use crate::flows::events::{Heard, SinkError, SubscriptionName};
use crate::net::webhook::WebhookKey;
use crate::time::Timestamp;
use actix_web::test::TestRequest;
use secrecy::SecretString;
use serde_json::{Value, json};

const SECRET: &str = "s3cret/with spaces+and ü";
const IN_PATH: &str = "/v1/hooks/claims/s3cret%2Fwith%20spaces+and%20%C3%BC";
const CONTROL: &str = "control-token-0123456789";

async fn fixture() -> Fixture {
    Fixture::with(|settings| {
        let name = |name: &str| SubscriptionName::parse(name).unwrap();
        let mut claims = SubscriptionSettings::new(name("claims"), SourceSettings::Hook);
        claims.hook_secret = Some(SecretOf(SecretString::from(SECRET)));
        claims.skip_blocks = vec![5..=6];
        let deltas = SubscriptionSettings::new(name("deltas"), SourceSettings::Hook);
        settings.subscriptions = vec![claims, deltas];
        settings.events.max_events_per_call = 3;
        settings.http.max_body_bytes = 4096;
        settings.http.control_token = Some(SecretString::from(CONTROL));
    })
    .await
}

fn event(block: i64) -> Value {
    json!({"blockNumber": block, "transactionId": format!("t{block}")})
}

impl Fixture {
    /// What was handed on to be recorded.
    fn heard(&self) -> Vec<(String, Vec<(Heard, bool)>)> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

async fn bearer(fixture: &Fixture, token: &str, body: &Value) -> Seen {
    let request = TestRequest::post()
        .uri("/v1/hooks/claims")
        .insert_header(("Authorization", format!("Bearer {token}")))
        .set_json(body);
    fixture.call(request).await
}

#[actix_web::test]
async fn events_are_taken_with_the_secret_in_the_path_as_token_and_as_signature() {
    let fixture = fixture().await;
    let answer = fixture.post(IN_PATH, &json!([event(4), event(5)])).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.json(),
        json!({"recorded": 1, "known": 0, "skipped": 1})
    );
    let heard = fixture.heard();
    assert_eq!(heard[0].0, "claims");
    let events = &heard[0].1;
    assert_eq!((events[0].0.tx_id.as_str(), events[0].1), ("t4", false));
    assert_eq!((events[1].0.block, events[1].1), (Some(5), true));

    assert_eq!(bearer(&fixture, CONTROL, &event(1)).await.status, 200);
    let plain = "plain-secret-0123456789";
    fixture.settings.send_modify(|settings| {
        let mut changed = (**settings).clone();
        changed.subscriptions[0].hook_secret = Some(SecretOf(SecretString::from(plain)));
        *settings = changed.into();
    });
    assert_eq!(bearer(&fixture, plain, &event(1)).await.status, 200);
    let body = event(1).to_string();
    let key = WebhookKey::of(&SecretString::from(plain)).unwrap_or_else(|told| panic!("{told}"));
    let signed = |seconds: i64, body: &str| {
        let seconds = seconds.to_string();
        TestRequest::post()
            .uri("/v1/hooks/claims")
            .insert_header((
                "webhook-signature",
                key.sign(
                    "m1",
                    &seconds,
                    b"{\"blockNumber\":1,\"transactionId\":\"t1\"}",
                ),
            ))
            .insert_header(("webhook-id", "m1"))
            .insert_header(("webhook-timestamp", seconds))
            .insert_header(("content-type", "application/json"))
            .set_payload(body.to_owned())
    };
    let now = Timestamp::now().millis() / 1000;
    assert_eq!(fixture.call(signed(now, &body)).await.status, 200);
    assert_eq!(fixture.heard().len(), 3);
    let forged = fixture.call(signed(now, "{\"blockNumber\":2}")).await;
    forged.problem(401, "unauthorized");
    let old = fixture.call(signed(now - 1000, &body)).await;
    old.problem(401, "unauthorized");
    assert!(fixture.heard().is_empty());
}

#[actix_web::test]
async fn without_the_secret_nothing_is_recorded_and_no_answer_repeats_what_was_shown() {
    let fixture = fixture().await;
    let none = fixture.post("/v1/hooks/claims", &event(1)).await;
    none.problem(401, "unauthorized");
    for uri in [
        "/v1/hooks/claims/wrong-wrong-wrong",
        "/v1/hooks/claims/wrong-wrong%2Fwrong",
    ] {
        let wrong = fixture.post(uri, &event(1)).await;
        wrong.problem(401, "unauthorized");
        assert!(!wrong.text().contains("wrong-wrong"), "{}", wrong.text());
    }
    bearer(&fixture, "wrong-wrong-wrong", &event(1))
        .await
        .problem(401, "unauthorized");
    for (uri, status) in [
        ("/v1/hooks/claims/wrong-wrong", 405),
        ("/v1/hooks/claims/wrong-wrong/more", 404),
    ] {
        let other = fixture.get(uri).await;
        assert_eq!(other.status, status);
        assert!(!other.text().contains("wrong-wrong"), "{}", other.text());
    }
    for name in ["declarations", "deltas"] {
        let uri = IN_PATH.replace("claims", name);
        fixture
            .post(&uri, &event(1))
            .await
            .problem(404, "hook-not-found");
    }
    assert!(fixture.heard().is_empty());
    // The row of the wrong tokens is written beside the answer.
    let rows = until(async || {
        let request = TestRequest::get()
            .uri("/v1/control/audit")
            .insert_header(("Authorization", format!("Bearer {CONTROL}")));
        let seen = fixture.call(request).await.text();
        seen.contains("wrong token").then_some(seen)
    });
    let rows = rows.await;
    assert!(rows.contains("/v1/hooks/claims/***"), "{rows}");
    assert!(!rows.contains("wrong-wrong"), "{rows}");
}

#[actix_web::test]
async fn bodies_that_are_no_events_are_refused_whole() {
    let fixture = fixture().await;
    let send = |content: &'static str, body: String| {
        TestRequest::post()
            .uri(IN_PATH)
            .insert_header(("content-type", content))
            .set_payload(body)
    };
    let json = "application/json";
    for (request, status, name) in [
        (send(json, "{".to_owned()), 400, "invalid-json"),
        (
            send("text/plain", event(1).to_string()),
            415,
            "unsupported-media-type",
        ),
        (
            send(json, json!([event(1), {"blockNumber": -1}]).to_string()),
            422,
            "invalid-fields",
        ),
        (
            send(json, json!([1, 2, 3, 4]).to_string()),
            413,
            "events-too-large",
        ),
        (
            send(json, format!("\"{}\"", "x".repeat(5000))),
            413,
            "body-too-large",
        ),
    ] {
        fixture.call(request).await.problem(status, name);
    }
    let told = fixture
        .post(IN_PATH, &json!([event(1), {"blockNumber": -1}]))
        .await
        .json();
    assert_eq!(told["errors"][0]["field"], "[1]/blockNumber");
    assert!(
        told["detail"]
            .as_str()
            .unwrap()
            .contains("-1 is not the block"),
        "{told}"
    );
    assert!(fixture.heard().is_empty());
    let cloud =
        json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": event(7)});
    let cloud = send("application/cloudevents+json", cloud.to_string());
    assert_eq!(fixture.call(cloud).await.status, 200);
}

#[actix_web::test]
async fn while_the_database_is_away_or_the_server_stops_callers_are_to_come_again() {
    let fixture = fixture().await;
    *fixture.sink_trouble.lock().unwrap() = Some(SinkError::Away("host:5432 said no".to_owned()));
    for (uri, body) in [(IN_PATH, event(1)), ("/v1/known", json!({"tx_ids": ["t"]}))] {
        let answer = fixture.post(uri, &body).await;
        answer.problem(503, "database-unreachable");
        assert_eq!(answer.header("retry-after"), "5");
        assert!(!answer.text().contains("5432"));
    }
    fixture.draining.send_replace(true);
    for (uri, body) in [(IN_PATH, event(1)), ("/v1/known", json!({"tx_ids": ["t"]}))] {
        fixture.post(uri, &body).await.problem(503, "draining");
    }
}

#[actix_web::test]
async fn the_lowest_block_that_was_not_taken_is_told() {
    let fixture = fixture().await;
    let body = json!([event(9), event(4), event(7)]);
    let trouble = |error| *fixture.sink_trouble.lock().unwrap() = error;
    let refused = || std::mem::take(&mut *fixture.refused.lock().unwrap());
    trouble(Some(SinkError::Away("gone".to_owned())));
    assert_eq!(fixture.post(IN_PATH, &body).await.status, 503);
    assert_eq!(refused(), [("claims".to_owned(), 4)]);
    // It would be refused again.
    trouble(Some(SinkError::Refused("a trigger".to_owned())));
    assert_ne!(fixture.post(IN_PATH, &body).await.status, 200);
    trouble(None);
    assert_eq!(fixture.post(IN_PATH, &body).await.status, 200);
    assert!(refused().is_empty());
}

#[actix_web::test]
async fn ids_are_made_known_each_once() {
    let fixture = fixture().await;
    let body = json!({"tx_ids": ["t2", "t1", "t2"], "keys": ["k"]});
    let answer = fixture.post("/v1/known", &body).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"added": 3, "known": 0}))
    );
    let known = std::mem::take(&mut *fixture.known.lock().unwrap());
    assert_eq!(
        (known[0].tx_ids.as_slice(), known[0].keys.as_slice()),
        (
            &["t1".to_owned(), "t2".to_owned()][..],
            &["k".to_owned()][..]
        )
    );
    for body in [
        json!({}),
        json!({"tx_ids": [], "keys": []}),
        json!({"tx_ids": [""]}),
        json!({"tx_ids": ["x".repeat(257)]}),
        json!({"keys": ["a\u{0}b"]}),
    ] {
        fixture
            .post("/v1/known", &body)
            .await
            .problem(422, "invalid-fields");
    }
    fixture
        .post("/v1/known", &json!({"ids": []}))
        .await
        .problem(400, "invalid-json");
    assert!(fixture.known.lock().unwrap().is_empty());
}
