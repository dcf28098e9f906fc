//! Handlers of events, against real peers and real programs.

use super::testing_peer::{Act, Peer};
use super::{EventError, LedgerEvent, Listeners, connect_event_handler};
use crate::config::{EventCode, EventCommand, EventHandlerSettings, EventHttp, SecretOf};
use crate::flows::events::{Decision, EventHandler, OpenEvent, Place, SubscriptionName};
use crate::net::webhook::WebhookKey;
use crate::time::Timestamp;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SECRET: &str = "hunter2-hunter2-hunter2";

fn claims() -> SubscriptionName {
    SubscriptionName::parse("claims").unwrap()
}

fn event() -> OpenEvent {
    OpenEvent {
        place: Place {
            block: 17,
            rank: 0,
            arrival: 5,
        },
        tx_id: "tx/1 ü".to_owned(),
        event_id: "abc".to_owned(),
        event_name: "CLAIM".to_owned(),
        payload: "{ \"n\": 1.50 }".into(),
        key: None,
        occurred_at: Some(Timestamp::from_millis(0)),
        received_at: Timestamp::from_millis(1),
        decision: Decision::Relevant,
        attempts: 0,
        attempts_before: 0,
        late: false,
    }
}

fn connect(settings: EventHandlerSettings, listeners: &Listeners) -> Arc<dyn EventHandler> {
    connect_event_handler(&settings, &claims(), listeners).unwrap_or_else(|told| panic!("{told}"))
}

fn http(url: &str, timeout: Duration) -> Arc<dyn EventHandler> {
    let settings = EventHttp {
        url: url.parse().unwrap(),
        secret: Some(SecretOf(SecretString::from(SECRET))),
        token: Some(SecretOf(SecretString::from("token-0123456789"))),
        timeout,
    };
    connect(EventHandlerSettings::Http(settings), &Listeners::default())
}

async fn handle(handler: &Arc<dyn EventHandler>, attempt: u32) -> Result<(), String> {
    handler.handle(&claims(), &event(), attempt).await
}

fn answer(head: &str, body: &str) -> Act {
    let length = body.len();
    Act::Send(
        format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
            .into_bytes(),
    )
}

fn header<'r>(request: &'r str, name: &str) -> &'r str {
    let line = request.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    });
    line.unwrap_or_default()
}

#[tokio::test]
async fn an_event_is_posted_as_a_signed_cloud_event_with_a_stable_id() {
    let peer = Peer::start(vec![answer("204 No Content", "")]).await;
    let handler = http(&format!("{}/process", peer.url), Duration::from_secs(10));
    handle(&handler, 1).await.unwrap();
    handle(&handler, 2).await.unwrap();
    let asked = peer.asked();
    let (head, body) = asked[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /process HTTP/1.1"), "{head}");
    assert_eq!(header(head, "content-type"), "application/cloudevents+json");
    assert_eq!(header(head, "authorization"), "Bearer token-0123456789");
    assert!(body.ends_with("\"data\":{ \"n\": 1.50 }}"), "{body}");
    let told: Value = serde_json::from_str(body).unwrap();
    let id = "claims/17/tx%2F1%20%C3%BC/abc";
    assert_eq!(
        told,
        json!({
            "specversion": "1.0", "id": id, "source": "/highwater/claims", "type": "CLAIM",
            "time": "1970-01-01T00:00:00.000Z", "datacontenttype": "application/json",
            "hwblock": "17", "hwarrival": "5", "hwattempt": 1, "data": {"n": 1.5},
        })
    );
    let key = WebhookKey::of(&SecretString::from(SECRET)).unwrap_or_else(|told| panic!("{told}"));
    let seconds = header(head, "webhook-timestamp");
    assert_eq!(header(head, "webhook-id"), id);
    let signed = header(head, "webhook-signature");
    assert!(key.verifies(id, seconds, signed, body.as_bytes(), Timestamp::now()));
    let again = asked[1].split_once("\r\n\r\n").unwrap();
    assert_eq!(header(again.0, "webhook-id"), id);
    assert!(again.1.contains("\"hwattempt\":2"));
}

#[tokio::test]
async fn an_event_of_a_block_has_an_id_of_its_own() {
    let mut event = event();
    let id = |event: &OpenEvent| super::cloud_event::event_id(&claims(), event);
    event.tx_id = String::new();
    assert_eq!(id(&event), "claims/17/-/abc");
    event.tx_id = "-".to_owned();
    assert_eq!(id(&event), "claims/17/%2D/abc");
}

#[tokio::test]
async fn only_2xx_is_success_and_errors_are_bounded_and_without_secrets() {
    let long = format!("{SECRET} token-0123456789 {}", "x".repeat(5000));
    let moved = "302 Found\r\nlocation: http://127.0.0.1:1/";
    let acts = vec![answer("500 Oops", &long), answer(moved, "")];
    let peer = Peer::start(acts).await;
    let handler = http(&peer.url, Duration::from_secs(10));
    let told = handle(&handler, 1).await.unwrap_err();
    assert!(told.contains("answered 500"), "{told}");
    assert!(
        told.contains("*** ***") && !told.contains("hunter2"),
        "{told}"
    );
    assert!(told.len() < 400, "{told}");
    let told = handle(&handler, 2).await.unwrap_err();
    assert!(told.contains("answered 302"), "{told}");
    assert_eq!(peer.asked().len(), 2, "nothing is followed");
}

#[tokio::test]
async fn a_peer_that_hangs_is_given_up_in_time() {
    let peer = Peer::start(vec![Act::Hang(Vec::new())]).await;
    let handler = http(&peer.url, Duration::from_millis(200));
    let told = handle(&handler, 1).await.unwrap_err();
    assert!(told.contains("timeout"), "{told}");
}

fn command(script: &str, timeout: Duration) -> Arc<dyn EventHandler> {
    let args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let settings = EventCommand { args, timeout };
    connect(
        EventHandlerSettings::Command(settings),
        &Listeners::default(),
    )
}

#[tokio::test]
async fn a_command_gets_the_same_document_and_says_by_its_exit_code_what_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seen");
    let minute = Duration::from_secs(60);
    let handler = command(&format!("cat > {}", file.display()), minute);
    handle(&handler, 3).await.unwrap();
    let seen = std::fs::read_to_string(&file).unwrap();
    let told: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(told["hwattempt"], 3);
    assert_eq!(told["data"], json!({"n": 1.5}));

    let handler = command("echo no such claim >&2; exit 3", minute);
    let told = handle(&handler, 1).await.unwrap_err();
    assert_eq!(told, "\"/bin/sh\" ended with exit code 3: no such claim");

    let handler = command("sleep 60 & wait", Duration::from_millis(200));
    let told = handle(&handler, 1).await.unwrap_err();
    assert!(
        told.contains("was killed: it did not end within 200ms"),
        "{told}"
    );

    let settings = EventCommand {
        args: vec!["/nonexistent/program".to_owned()],
        timeout: minute,
    };
    let handler = connect(
        EventHandlerSettings::Command(settings),
        &Listeners::default(),
    );
    let told = handle(&handler, 1).await.unwrap_err();
    assert!(told.contains("there is no such program"), "{told}");
}

#[tokio::test]
async fn code_is_called_and_its_failures_panics_and_hangs_are_failures_of_the_event() {
    let code = |timeout| EventHandlerSettings::Code(EventCode { timeout });
    let minute = Duration::from_secs(60);
    let lacking = connect_event_handler(&code(minute), &claims(), &Listeners::default());
    let told = lacking.err().unwrap();
    assert!(told.contains("on_event(\"claims\", …)"), "{told}");

    let mut listeners = Listeners::default();
    let listener = async |event: LedgerEvent| match event.attempt() {
        1 => Err(EventError::from("not yet")),
        2 => panic!("oops"),
        3 => std::future::pending().await,
        _ => {
            assert_eq!(
                (event.block(), event.tx_id(), event.name()),
                (17, "tx/1 ü", "CLAIM")
            );
            assert_eq!(event.id(), "claims/17/tx%2F1%20%C3%BC/abc");
            assert_eq!(event.payload(), "{ \"n\": 1.50 }");
            Ok(())
        }
    };
    listeners.on_event("claims", listener).unwrap();
    listeners.on_event("a b", listener).unwrap_err();
    assert!(!listeners.is_empty());
    assert_eq!(listeners.of_no_subscription(&[]), ["claims"]);
    let handler = connect(code(Duration::from_millis(100)), &listeners);
    assert_eq!(handle(&handler, 1).await.unwrap_err(), "not yet");
    assert_eq!(handle(&handler, 2).await.unwrap_err(), "a panic: oops");
    let told = handle(&handler, 3).await.unwrap_err();
    assert!(told.contains("did not end within 100ms"), "{told}");
    handle(&handler, 4).await.unwrap();
}

#[tokio::test]
async fn with_the_table_alone_nothing_is_to_be_done() {
    let handler = connect(EventHandlerSettings::Table, &Listeners::default());
    handle(&handler, 1).await.unwrap();
}
