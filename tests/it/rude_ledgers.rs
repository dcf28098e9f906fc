//! Ledgers that misbehave: each costs its own request an error of the right
//! kind, in bounded time and memory, and nothing else.

use crate::replay::{Act, Replay, ask, ok_json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use highwater::flows::batches::LedgerStatus;
use highwater::ledgers::{FailureScope, LedgerError, LedgerKind, connect};
use std::time::{Duration, Instant};

const SERVICE: &str = "btXBt-Rb4VS::a000";
const ENTRY: &str = r#"[{"id":"ab","status":{"statusType":"Committed","message":[]}}]"#;

/// Asks a Splinter ledger that answers so, with a limit of 64 KiB.
async fn error_of(act: Act) -> (LedgerError, Replay) {
    let replay = Replay::start(vec![act]).await;
    let mut settings = replay.settings(LedgerKind::Splinter);
    settings.max_response_bytes = 64 << 10;
    settings.timeout = Duration::from_millis(500);
    settings.token = Some("s3cr3t".into());
    let ledger = connect(&settings).unwrap();
    let error = ask(ledger.as_ref(), SERVICE, &["ab"]).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("s3cr3t"), "{shown}");
    assert!(!shown.chars().any(char::is_control), "{shown}");
    assert!(shown.len() < 1_500, "{shown}");
    (error, replay)
}

fn answer(head: &str, body: &[u8]) -> Act {
    let mut bytes =
        format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Act::SendAndClose(bytes)
}

#[tokio::test]
async fn what_makes_no_sense_is_malformed() {
    let cases = [
        Act::SendAndClose(b"\x16\x03\x01 not HTTP at all \x00\xff\r\n\r\n".to_vec()),
        answer("200 OK", b""),
        answer("200 OK", b"\x00\xff\x1b[31m garbage s3cr3t"),
        answer("200 OK", b"{\"statuses\": []}"),
        answer("200 OK", br#"[{"id":"ab"}]"#),
        answer(
            "200 OK",
            br#"[{"id":"ab","status":{"statusType":"Exploded","message":[]}}]"#,
        ),
        answer("204 No Content", b""),
        // Half a body, by length and by chunks, and half a head.
        Act::SendAndClose([&ok_json(ENTRY)[..100]].concat()),
        Act::SendAndClose(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n[{\"id\":".to_vec(),
        ),
        Act::SendAndClose(b"HTTP/1.1 200 OK\r\nConte".to_vec()),
        Act::SendAndClose(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc".to_vec(),
        ),
    ];
    for act in cases {
        let (error, _replay) = error_of(act.clone()).await;
        assert_eq!(error.word(), "malformed", "{act:?}: {error}");
        assert_eq!(error.scope(), FailureScope::Service);
    }
}

#[tokio::test]
async fn a_connection_that_brings_nothing_is_tried_twice_and_is_malformed() {
    let (error, replay) = error_of(Act::Close).await;
    assert_eq!(error.word(), "malformed", "{error}");
    assert_eq!(replay.connections(), 2);
}

#[tokio::test]
async fn an_answer_over_the_bound_is_not_read_on() {
    let large = vec![b' '; 10 << 20];
    let (error, _replay) = error_of(answer("200 OK", &large)).await;
    assert!(
        error.to_string().contains("max_response_bytes = 65536"),
        "{error}"
    );

    // Without a length, and without an end.
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.extend_from_slice(&large);
    let (error, _replay) = error_of(Act::Hang(endless)).await;
    assert_eq!(error.word(), "malformed", "{error}");
}

#[tokio::test]
async fn compressed_answers_are_read_and_bounded_by_what_they_become() {
    let packed = concat!(
        "H4sIAAAAAAACA4uuVspMUbJSSkxS0lEqLkksKS1WsqqGskIqC1KBcs75ubmZJSWpKUAluanFxYnpQNHo2Nra",
        "WAByZvWGPgAAAA==",
    );
    let bomb = concat!(
        "H4sIAAAAAAACA+3KMQqDQBQE0KvIrz2Bba5gJxYbXMRiSWA3RRDvni1yCnmvGmZmGAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA4D6WM44tpkjPGKO21D41pvOf5u879+3xKuVoLW/9UnKtae/tsl7X",
        "+gMpbfRCHpQEAA==",
    );
    let head = "200 OK\r\nContent-Encoding: gzip";
    let packed = answer(head, &STANDARD.decode(packed).unwrap());
    let replay = Replay::start(vec![packed]).await;
    let ledger = connect(&replay.settings(LedgerKind::Splinter)).unwrap();
    let reports = ask(ledger.as_ref(), SERVICE, &["ab"]).await.unwrap();
    assert_eq!(reports[0].status, LedgerStatus::Committed);

    // 500 bytes that become 300,000.
    let (error, _replay) = error_of(answer(head, &STANDARD.decode(bomb).unwrap())).await;
    assert!(error.to_string().contains("max_response_bytes"), "{error}");
}

#[tokio::test]
async fn the_words_of_a_refusal_are_bounded_and_need_not_arrive_whole() {
    let (error, _replay) = error_of(answer("502 Bad Gateway", &vec![b'x'; 1 << 20])).await;
    assert!(
        matches!(error, LedgerError::Server { status: 502, .. }),
        "{error}"
    );
    let half = b"HTTP/1.1 503 Oh\r\nContent-Length: 100\r\n\r\ndown for s3cr3t repairs".to_vec();
    let (error, _replay) = error_of(Act::Hang(half)).await;
    assert!(
        error.to_string().contains("503: down for *** repairs"),
        "{error}"
    );
}

#[tokio::test]
async fn a_ledger_that_hangs_is_left_after_the_timeout() {
    for started in [
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n[{\"id\"",
    ] {
        let replay = Replay::start(vec![Act::Hang(started.into())]).await;
        let mut settings = replay.settings(LedgerKind::Sawtooth);
        settings.timeout = Duration::from_millis(200);
        let ledger = connect(&settings).unwrap();
        let begun = Instant::now();
        let error = ask(ledger.as_ref(), "", &["ab"]).await.unwrap_err();
        let after = settings.timeout;
        assert_eq!(error, LedgerError::Timeout { after }, "{started}");
        assert!(begun.elapsed() >= after && begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_ledger_that_is_not_there_is_unreachable() {
    let replay = Replay::start(vec![Act::Close]).await;
    let mut settings = replay.settings(LedgerKind::Sawtooth);
    settings.timeout = Duration::from_secs(2);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    for url in [
        format!("http://{closed}/"),
        "http://no-such-host.invalid/".to_owned(),
        // Speaks no TLS.
        format!("https://{}/", replay.address),
    ] {
        settings.url = url.parse().unwrap();
        let ledger = connect(&settings).unwrap();
        let error = ask(ledger.as_ref(), "", &["ab"]).await.unwrap_err();
        assert_eq!(error.word(), "unreachable", "{url}: {error}");
        assert_eq!(error.scope(), FailureScope::Ledger);
    }
}

#[tokio::test]
async fn a_redirect_is_named_and_not_followed() {
    let elsewhere = Replay::start(vec![Act::Send(ok_json(ENTRY))]).await;
    let head = format!("307 Temporary\r\nLocation: http://{}/x", elsewhere.address);
    let (error, _replay) = error_of(answer(&head, b"")).await;
    assert!(
        matches!(error, LedgerError::Rejected { status: 307, .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains(&elsewhere.address.to_string()),
        "{error}"
    );
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_request_to_slow_down_says_for_how_long() {
    let (error, _replay) = error_of(answer("429 Too Many Requests\r\nRetry-After: 7", b"")).await;
    let retry_after = Some(Duration::from_secs(7));
    assert_eq!(error, LedgerError::TooMany { retry_after });
}

#[tokio::test]
async fn an_answer_about_another_batch_is_passed_on() {
    let replay = Replay::start(vec![Act::Send(ok_json(ENTRY))]).await;
    let ledger = connect(&replay.settings(LedgerKind::Splinter)).unwrap();
    let reports = ask(ledger.as_ref(), SERVICE, &["cd"]).await.unwrap();
    assert_eq!(reports[0].batch_id, "ab");
    assert_eq!(reports[0].status, LedgerStatus::Committed);
}

#[tokio::test]
async fn connections_are_kept_and_one_found_closed_is_no_failure() {
    let fine = || Act::Send(ok_json(ENTRY));
    // The third request meets a connection that ends under it.
    let replay = Replay::start(vec![fine(), fine(), Act::Close, fine()]).await;
    let ledger = connect(&replay.settings(LedgerKind::Splinter)).unwrap();
    for _ in 0..2 {
        ask(ledger.as_ref(), SERVICE, &["ab"]).await.unwrap();
    }
    assert_eq!(replay.connections(), 1);
    ask(ledger.as_ref(), SERVICE, &["ab"]).await.unwrap();
    assert_eq!((replay.connections(), replay.seen().len()), (2, 4));

    // And each connection that ends once it has answered.
    let replay = Replay::start(vec![Act::SendAndClose(ok_json(ENTRY))]).await;
    let ledger = connect(&replay.settings(LedgerKind::Splinter)).unwrap();
    for _ in 0..20 {
        ask(ledger.as_ref(), SERVICE, &["ab"]).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_sent_for_no_ids_or_a_service_that_cannot_be() {
    let replay = Replay::start(vec![Act::Close]).await;
    for (kind, wrong) in [
        (LedgerKind::Sawtooth, SERVICE),
        (LedgerKind::Splinter, "../x::y"),
    ] {
        let ledger = connect(&replay.settings(kind)).unwrap();
        assert_eq!(ask(ledger.as_ref(), SERVICE, &[]).await, Ok(Vec::new()));
        let error = ask(ledger.as_ref(), wrong, &["ab"]).await.unwrap_err();
        assert_eq!(error.word(), "not_found", "{error}");
    }
    let ledger = connect(&replay.settings(LedgerKind::Splinter)).unwrap();
    let id = "ab".repeat(64);
    let ids = vec![id.as_str(); 508];
    let error = ask(ledger.as_ref(), SERVICE, &ids).await.unwrap_err();
    assert_eq!(error.word(), "too_large", "{error}");
    assert_eq!(replay.connections(), 0);
}

#[tokio::test]
async fn a_base_address_with_a_path_and_tokens_reach_the_wire() {
    let replay = Replay::start(vec![Act::Send(ok_json(r#"{"data":[]}"#))]).await;
    let mut settings = replay.settings(LedgerKind::Sawtooth);
    settings.url = format!("http://{}/gate/way/", replay.address)
        .parse()
        .unwrap();
    settings.token = Some("Bearer abc\n".into());
    settings.wait = Some(Duration::from_millis(10));
    let ledger = connect(&settings).unwrap();
    ask(ledger.as_ref(), "", &["a&b"]).await.unwrap();
    ask(ledger.as_ref(), "", &["a,b"]).await.unwrap();
    let seen = replay.seen();
    assert_eq!(seen[0].target, "/gate/way/batch_statuses?id=a%26b&wait=1");
    assert_eq!(seen[0].header("authorization"), ["Bearer abc"]);
    // One id, not two.
    assert_eq!(
        (seen[1].method.as_str(), seen[1].target.as_str()),
        ("POST", "/gate/way/batch_statuses?wait=1")
    );
    assert_eq!(seen[1].body, br#"["a,b"]"#);
}

#[tokio::test]
async fn chunks_are_bounded_by_count_and_by_bytes() {
    let replay = Replay::start(vec![Act::Close]).await;
    let id = "ab".repeat(64);
    let ids = vec![id.as_str(); 90_000];
    let mut settings = replay.settings(LedgerKind::Sawtooth);
    let fits = |settings: &_| connect(settings).unwrap().fits(SERVICE, &ids);
    assert_eq!(fits(&settings), 500);
    settings.ids_per_request = usize::MAX;
    assert_eq!(fits(&settings), 80_043);
    let mut settings = replay.settings(LedgerKind::Splinter);
    assert_eq!(fits(&settings), 100);
    settings.ids_per_request = usize::MAX;
    assert_eq!(fits(&settings), 507);
    settings.url = format!("http://{}/{}", replay.address, "p".repeat(400))
        .parse()
        .unwrap();
    assert_eq!(fits(&settings), 504);

    let ledger = connect(&settings).unwrap();
    let long = "x".repeat(70_000);
    assert_eq!(ledger.fits(SERVICE, &[&long, "ab"]), 1);
    assert_eq!(ledger.fits(SERVICE, &[]), 0);
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named() {
    let replay = Replay::start(vec![Act::Close]).await;
    for (url, token, says) in [
        ("ftp://host/", None, "is not an http address"),
        ("http://user:s3cr3t@host/", None, "credentials"),
        ("http://host/?x=1", None, "a query"),
        ("http://host/", Some("s3cr3t\ns3cr3t"), "line break"),
    ] {
        let mut settings = replay.settings(LedgerKind::Splinter);
        settings.url = url.parse().unwrap();
        settings.token = token.map(Into::into);
        let error = connect(&settings).map(|_| ()).unwrap_err().to_string();
        assert!(
            error.contains(says) && error.contains("\"replayed\""),
            "{error}"
        );
        assert!(!error.contains("s3cr3t"), "{error}");
    }
}
