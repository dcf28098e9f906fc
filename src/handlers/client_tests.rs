//! The client against real sockets that misbehave.

use super::client::{SiteAnswer, SiteClient, SiteRequest};
use super::testing_peer::{Act, Peer, reply};
use crate::flows::sites::{FailureKind, VisitError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(400);

async fn ask_with(client: &SiteClient, url: &str) -> Result<SiteAnswer, VisitError> {
    let started = Instant::now();
    let mut request = SiteRequest::get(url);
    request.timeout = SHORT;
    request.max_response_bytes = 64 << 10;
    let result = client.send(request).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{url}");
    result
}

async fn ask(url: &str) -> Result<SiteAnswer, VisitError> {
    ask_with(&SiteClient::new(false), url).await
}

async fn answer_to(act: Act) -> Result<SiteAnswer, VisitError> {
    let peer = Peer::start(vec![act]).await;
    ask(&peer.url).await
}

async fn kind_of(act: Act) -> FailureKind {
    let shown = format!("{act:?}").chars().take(80).collect::<String>();
    let error = answer_to(act).await.expect_err(&shown);
    assert!(!error.detail.chars().any(char::is_control), "{error}");
    error.kind
}

#[tokio::test]
async fn a_request_arrives_as_it_was_asked_for_and_its_answer_comes_back() {
    let peer = Peer::start(vec![reply("200 OK\r\nX-Site: é1", "hello")]).await;
    let mut headers = HeaderMap::new();
    headers.insert("x-one", HeaderValue::from_static("1"));
    let request = SiteRequest {
        method: Method::POST,
        headers,
        body: Some("a=1".into()),
        ..SiteRequest::get(&format!("{}/in?x=1", peer.url))
    };
    let answer = SiteClient::new(false).send(request).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, b"hello");
    assert_eq!(answer.headers["x-site"].as_bytes(), "é1".as_bytes());
    assert_eq!((answer.cut, answer.retry_after), (None, None));
    let asked = peer.asked().join("").to_lowercase();
    assert!(asked.starts_with("post /in?x=1 http/1.1\r\n"), "{asked}");
    assert!(asked.contains("x-one: 1\r\n"), "{asked}");
    assert!(asked.contains("user-agent: highwater/"), "{asked}");
    assert!(asked.ends_with("\r\n\r\na=1"), "{asked}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = Peer::start(vec![reply("200 OK", "")]).await;
    let moved = reply(
        &format!(
            "302 Found\r\nRetry-After: 7\r\nLocation: {}/x",
            elsewhere.url
        ),
        "",
    );
    let answer = answer_to(moved).await.unwrap();
    assert_eq!(answer.status, 302);
    assert_eq!(answer.retry_after, None);
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn a_head_or_a_body_that_does_not_come_is_out_of_time() {
    for act in [
        Act::Hang(Vec::new()),
        Act::Hang(b"HTTP/1.1 200 OK\r\nContent-".to_vec()),
        Act::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()),
        Act::Hang(b"HTTP/1.1 200 OK\r\n\r\nabc".to_vec()),
    ] {
        let error = answer_to(act.clone()).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Timeout, "{act:?}");
        assert!(error.detail.contains("within 400ms"), "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_the_answer_does_is_unreachable() {
    for act in [
        Act::Send(Vec::new()),
        Act::Send(b"HTTP/1.1 200 OK\r\nConte".to_vec()),
        Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()),
        Act::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nab".to_vec()),
    ] {
        let shown = format!("{act:?}");
        assert_eq!(kind_of(act).await, FailureKind::Unreachable, "{shown}");
    }
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = ask(&url).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Unreachable);
    assert!(error.detail.contains("refused"), "{error}");
    let error = ask("http://no-such-host.invalid/").await.unwrap_err();
    assert!(
        matches!(error.kind, FailureKind::Unreachable | FailureKind::Timeout),
        "{error}"
    );
    // A peer that speaks no TLS.
    let peer = Peer::start(vec![reply("200 OK", "")]).await;
    let error = ask(&peer.url.replace("http:", "https:")).await.unwrap_err();
    assert!(
        !matches!(error.kind, FailureKind::Unexpected | FailureKind::Denied),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_not_http_is_unexpected() {
    for act in [
        Act::Send(b"\x16\x03\x01 not HTTP \x00\xff\r\n\r\n".to_vec()),
        reply("200 OK\r\nContent-Encoding: gzip", "no gzip at all"),
    ] {
        let shown = format!("{act:?}");
        assert_eq!(kind_of(act).await, FailureKind::Unexpected, "{shown}");
    }
}

#[tokio::test]
async fn an_answer_over_the_bound_is_not_read_on() {
    let large = vec![b' '; 8 << 20];
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.extend_from_slice(&large);

    let bomb = STANDARD.decode(BOMB).unwrap();
    for act in [
        reply("200 OK", &large),
        Act::Hang(endless),
        reply("200 OK\r\nContent-Encoding: gzip", bomb),
    ] {
        let error = answer_to(act).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Unexpected);
        assert!(
            error.detail.contains("max_response_bytes = 65536"),
            "{error}"
        );
    }
    let exact = vec![b' '; 64 << 10];
    assert_eq!(
        answer_to(reply("200 OK", &exact)).await.unwrap().body,
        exact
    );
}

#[tokio::test]
async fn the_explanation_of_a_refusal_need_not_arrive_whole() {
    let large = reply("502 Bad Gateway\r\nRetry-After: 9", vec![b'x'; 1 << 20]);
    let slow =
        Act::Hang(b"HTTP/1.1 503 Busy\r\nRetry-After: 9\r\nContent-Length: 9\r\n\r\nwait".to_vec());
    let ended =
        Act::Send(b"HTTP/1.1 429 Slow\r\nRetry-After: 9\r\nContent-Length: 9\r\n\r\nwait".to_vec());
    for (act, kind) in [
        (large, FailureKind::Unexpected),
        (slow, FailureKind::Timeout),
        (ended, FailureKind::Unreachable),
    ] {
        let answer = answer_to(act).await.unwrap();
        assert_eq!(answer.cut.map(|cut| cut.kind), Some(kind));
        assert_eq!(answer.retry_after, Some(Duration::from_secs(9)));
    }
}

#[tokio::test]
async fn retry_after_is_read_in_both_forms_and_bounded() {
    let wait = async |status: &str, value: &str| {
        let head = format!("{status}\r\nRetry-After: {value}");
        answer_to(reply(&head, "")).await.unwrap().retry_after
    };
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(wait("429 Slow", "120").await, Some(day / 720));
    assert_eq!(wait("503 Busy", "99999999999999999999999").await, Some(day));
    assert_eq!(
        wait("503 Busy", "Sun, 06 Nov 2094 08:49:37 GMT").await,
        Some(day)
    );
    assert_eq!(
        wait("429 Slow", "Sun, 06 Nov 1994 08:49:37 GMT").await,
        Some(Duration::ZERO)
    );
    assert_eq!(wait("503 Busy", "soon").await, None);
    assert_eq!(wait("200 OK", "120").await, None);
}

#[tokio::test]
async fn addresses_that_point_inward_are_refused_where_that_is_set() {
    let peer = Peer::start(vec![reply("200 OK", "")]).await;
    let port = peer.url.rsplit(':').next().unwrap();
    let client = SiteClient::new(true);
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "127.0.0.1.",
        "localhost",
        "LocalHost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "169.254.169.254",
    ] {
        let error = ask_with(&client, &format!("http://{host}:{port}/"))
            .await
            .expect_err(host);
        assert_eq!(error.kind, FailureKind::Denied, "{host}: {error}");
        assert!(error.detail.contains("deny_private_networks"), "{error}");
    }
    assert!(peer.asked().is_empty());
    // Without it the same are visited.
    for host in ["127.0.0.1", "localhost"] {
        ask(&format!("http://{host}:{port}/")).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_address_of_a_site_is_denied_with_the_reason() {
    for (url, word) in [
        ("", "is not an address"),
        ("site.example", "is not an address"),
        ("ftp://site.example", "http or https"),
        ("file:///etc/passwd", "http or https"),
        ("http://user:geheim@site.example", "credentials"),
        ("http://site.example/#x", "fragment"),
        ("http://[::1", "is not an address"),
    ] {
        let error = ask(url).await.expect_err(url);
        assert_eq!(error.kind, FailureKind::Denied, "{url}");
        assert!(error.detail.contains(word), "{url}: {error}");
        assert!(!error.detail.contains("geheim"), "{error}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    #[test]
    fn no_text_makes_the_client_panic(
        url in proptest::prop_oneof![
            "(?s).{0,60}",
            // Mostly addresses, with hosts that are nobody's.
            "https?://(\\[?[0-9a-f:.]{1,20}\\]?|[^/@.]{1,12}\\.invalid)(:[0-9]{1,6})?/.{0,30}",
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let client = SiteClient::new(true);
            let mut request = SiteRequest::get(&url);
            request.timeout = Duration::from_millis(20);
            if let Err(error) = client.send(request).await {
                assert!(error.detail.chars().count() <= VisitError::LONGEST + 1);
            }
        });
    }
}

/// 300 KiB of spaces by gzip.
const BOMB: &str = concat!(
    "H4sIAAAAAAACA+3BAQ0AAADCoCrvn9IcbkABAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAADAnwFZZ/RiALAEAA==",
);
