//! Visits by HTTP against real sockets.

use super::Handler as _;
use super::client::SiteClient;
use super::http::HttpVisits;
use super::testing_peer::{Act, Peer, json, reply, visit_of};
use crate::config::{Credential, Expect, HttpHandler};
use crate::flows::sites::{FailureKind, Visited};
use std::time::Duration;

const SECRET: &str = "s3cr3t/key+of=site";

fn handler(settings: HttpHandler) -> HttpVisits {
    again(settings, 0)
}

fn again(settings: HttpHandler, tries_more: u32) -> HttpVisits {
    let settings = HttpHandler {
        timeout: Duration::from_millis(400),
        ..settings
    };
    HttpVisits::new(SiteClient::new(false), settings, tries_more, 100).unwrap()
}

async fn visit(settings: HttpHandler, act: Act) -> Visited {
    let peer = Peer::start(vec![act]).await;
    handler(settings).visit(&visit_of(&peer.url)).await
}

/// What is said of an answer that does not fit.
async fn told(expect: Expect, act: Act) -> String {
    let settings = HttpHandler {
        expect,
        ..HttpHandler::default()
    };
    let error = visit(settings, act).await.result.unwrap_err();
    assert_eq!(error.kind, FailureKind::Unexpected, "{error}");
    error.detail
}

async fn fits(expect: Expect, act: Act) {
    let settings = HttpHandler {
        expect,
        ..HttpHandler::default()
    };
    assert_eq!(visit(settings, act).await, Visited::well(None));
}

#[tokio::test]
async fn a_request_is_filled_in_and_sent() {
    let peer = Peer::start(vec![reply("200 OK", "")]).await;
    let settings = HttpHandler {
        method: "POST".to_owned(),
        path: "/sync/{site_id}?region={label:region}".to_owned(),
        headers: vec![
            ("Content-Type".to_owned(), "application/json".to_owned()),
            ("X-App".to_owned(), "{app_id} {label:size}".to_owned()),
        ],
        body: Some(r#"{"in":{"region":"{label:quoted}"}}"#.to_owned()),
        token: Some(Credential::Shared(SECRET.into())),
        ..HttpHandler::default()
    };
    let mut visit = visit_of(&format!("{}/base", peer.url));
    visit.site.labels = r#"{"region":"a&b","size":3,"quoted":"\"\n"}"#.to_owned();
    assert_eq!(handler(settings).visit(&visit).await, Visited::well(None));
    let asked = peer.asked().join("");
    for part in [
        "POST /base/sync/site%3A7?region=a%26b HTTP/1.1\r\n",
        "content-type: application/json\r\n",
        "x-app: org.example 3\r\n",
        &format!("authorization: Bearer {SECRET}\r\n"),
        "\r\n\r\n{\"in\":{\"region\":\"\\\"\\u000a\"}}",
    ] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
}

#[tokio::test]
async fn a_user_is_sent_with_the_password_of_the_site() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("site:7"), "hunter22\n").unwrap();
    let peer = Peer::start(vec![reply(
        "500 No",
        "you sent dXM6aHVudGVyMjI= or hunter22",
    )])
    .await;
    let settings = HttpHandler {
        basic: Some((
            "us".to_owned(),
            Credential::PerSite(folder.path().join("{site_id}")),
        )),
        ..HttpHandler::default()
    };
    let handler = handler(settings);
    let mut visit = visit_of(&peer.url);
    let error = handler.visit(&visit).await.result.unwrap_err();
    assert!(error.detail.ends_with("you sent *** or ***"), "{error}");
    let asked = peer.asked().join("");
    assert!(
        asked.contains("authorization: Basic dXM6aHVudGVyMjI=\r\n"),
        "{asked}"
    );

    visit.site.site_id = "none".to_owned();
    let error = handler.visit(&visit).await.result.unwrap_err();
    assert_eq!(error.kind, FailureKind::Handler);
    assert!(error.detail.contains("none does not exist"), "{error}");
    assert_eq!(peer.asked().len(), 1);
}

#[tokio::test]
async fn a_status_is_expected_or_named() {
    let status = |status| Expect {
        status,
        ..Expect::default()
    };
    fits(status(vec![404..=404]), reply("404 Not Found", "")).await;
    fits(
        status(vec![302..=302]),
        reply("302 Found\r\nLocation: /x", ""),
    )
    .await;
    assert_eq!(
        told(
            Expect::default(),
            reply("500 Oops", " <b>\r\n broken\u{1b} ")
        )
        .await,
        "status 500 where 2xx was expected; the body begins: <b> broken"
    );
    assert_eq!(
        told(status(vec![200..=204, 304..=304]), reply("205 No", "")).await,
        "status 205 where 200-204, 304 was expected; the body is empty"
    );
    let moved = reply("301 Moved\r\nLocation: https://there.example/", "");
    let words = told(Expect::default(), moved).await;
    assert!(
        words.contains("redirected to https://there.example/"),
        "{words}"
    );
    assert!(words.contains("redirects are not followed"), "{words}");
}

#[tokio::test]
async fn headers_are_expected_with_what_they_contain() {
    let headers = |name: &str, part: &str| Expect {
        headers: vec![(name.to_owned(), part.to_owned())],
        ..Expect::default()
    };
    let act = || reply("200 OK\r\nX-A: one\r\nX-A: two", "");
    fits(headers("x-a", "two"), act()).await;
    fits(headers("X-A", ""), act()).await;
    let words = told(headers("X-B", ""), act()).await;
    assert_eq!(words, "the header X-B was expected and is not there");
    let words = told(headers("X-A", "three"), act()).await;
    assert!(
        words.ends_with("contain \"three\" and is \"one, two\""),
        "{words}"
    );
}

#[tokio::test]
async fn bodies_are_expected_to_contain_and_to_lack_text() {
    let contains = || Expect {
        body_contains: Some("pong".to_owned()),
        ..Expect::default()
    };
    let lacks = || Expect {
        body_lacks: Some("Fatal".to_owned()),
        ..Expect::default()
    };
    fits(contains(), reply("200 OK", "ping pong")).await;
    fits(lacks(), reply("200 OK", b"\xff\x00 fine")).await;
    let words = told(contains(), reply("200 OK", "ping")).await;
    assert!(
        words.contains("\"pong\", in 4 bytes; the body begins: ping"),
        "{words}"
    );
    let words = told(lacks(), reply("200 OK", "a Fatal error\n in line 7")).await;
    assert!(words.ends_with("after it: error in line 7"), "{words}");
}

#[tokio::test]
async fn values_are_expected_at_json_pointers() {
    let value = |pointer: &str, value: serde_json::Value| Expect {
        json: vec![(pointer.to_owned(), value)],
        ..Expect::default()
    };
    let act = || json(r#"{"a":{"b":[1,2.0,"x"]}}"#);
    fits(value("/a/b/0", 1.into()), act()).await;
    fits(value("/a/b/1", 2.into()), act()).await;
    fits(value("/a/b", serde_json::json!([1, 2.0, "x"])), act()).await;
    assert_eq!(
        told(value("/a/b/0", 2.into()), act()).await,
        "2 was expected at \"/a/b/0\", where 1 stands"
    );
    let words = told(value("/z", "x".into()), act()).await;
    assert!(
        words.starts_with("\"x\" was expected at \"/z\", where nothing stands"),
        "{words}"
    );
    let words = told(value("/z", true.into()), reply("200 OK", "<html>")).await;
    assert!(
        words.contains("JSON was expected") && words.contains("<html>"),
        "{words}"
    );
}

#[tokio::test]
async fn what_is_pointed_to_is_kept_within_the_bound_and_without_secrets() {
    let kept = async |result: &str, body: &str| {
        let settings = HttpHandler {
            result: Some(result.to_owned()),
            token: Some(Credential::Shared(SECRET.into())),
            ..HttpHandler::default()
        };
        visit(settings, json(body)).await.result.unwrap()
    };
    assert_eq!(
        kept("/v", r#"{"v": {"a": 1}}"#).await.as_deref(),
        Some(r#"{"a":1}"#)
    );
    assert_eq!(kept("", "[1]").await.as_deref(), Some("[1]"));
    assert_eq!(kept("/w", r#"{"v": 1}"#).await, None);
    assert_eq!(kept("", "<html>").await, None);
    let long = format!("\"{}\"", "x".repeat(98));
    assert_eq!(kept("", &long).await.as_deref(), Some(long.as_str()));
    let long = format!("\"{}\"", "x".repeat(99));
    assert_eq!(kept("", &long).await, None);
    let echo = format!(r#"["{SECRET}", "{}"]"#, SECRET.replace('/', "\\/"));
    assert_eq!(kept("", &echo).await.as_deref(), Some(r#"["***","***"]"#));
}

#[tokio::test]
async fn a_token_that_the_site_repeats_is_not_shown() {
    let form: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    for act in [
        reply("401 No", format!("bad token {SECRET}")),
        reply("401 No", format!("bad token={form}")),
        reply(&format!("302 Found\r\nLocation: /?t={SECRET}"), ""),
        reply("200 OK", format!("Fatal {SECRET}")),
        reply("200 OK", format!("OK {SECRET} Fatal")),
        Act::Send(format!("{SECRET} {SECRET}\r\n\r\n").into_bytes()),
        Act::Send(format!("HTTP/1.1 {SECRET}\r\n\r\n").into_bytes()),
        reply(&format!("200 OK\r\nX-A: {SECRET}"), ""),
    ] {
        let settings = HttpHandler {
            token: Some(Credential::Shared(SECRET.into())),
            expect: Expect {
                body_lacks: Some("Fatal".to_owned()),
                headers: vec![("X-A".to_owned(), "b".to_owned())],
                ..Expect::default()
            },
            ..HttpHandler::default()
        };
        let shown = format!("{:?}", visit(settings, act).await.result.unwrap_err());
        assert!(!shown.contains(SECRET) && !shown.contains(&form), "{shown}");
    }
}

#[tokio::test]
async fn a_host_that_asks_to_be_left_alone_is_heard() {
    let busy = reply("503 Busy\r\nRetry-After: 120", "");
    let visited = visit(HttpHandler::default(), busy).await;
    assert_eq!(visited.retry_after, Some(Duration::from_secs(120)));
    assert_eq!(visited.result.unwrap_err().kind, FailureKind::Unexpected);
    // Expected or not, it may be cut off.
    let cut = Act::Send(b"HTTP/1.1 503 B\r\nRetry-After: 9\r\nContent-Length: 9\r\n\r\nx".to_vec());
    let settings = HttpHandler {
        expect: Expect {
            status: vec![503..=503],
            ..Expect::default()
        },
        ..HttpHandler::default()
    };
    let visited = visit(settings, cut).await;
    assert_eq!(visited.retry_after, Some(Duration::from_secs(9)));
    assert_eq!(visited.result.unwrap_err().kind, FailureKind::Unreachable);
}

#[tokio::test]
async fn only_where_no_answer_came_is_the_site_tried_again_at_once() {
    let gone = || Act::Send(Vec::new());
    let acts = vec![gone(), Act::Hang(Vec::new()), reply("200 OK", "")];
    let peer = Peer::start(acts.clone()).await;
    let visited = again(HttpHandler::default(), 2)
        .visit(&visit_of(&peer.url))
        .await;
    assert_eq!(visited, Visited::well(None));
    assert_eq!(peer.asked().len(), 3);

    let peer = Peer::start(acts).await;
    let visited = again(HttpHandler::default(), 1)
        .visit(&visit_of(&peer.url))
        .await;
    assert_eq!(visited.result.unwrap_err().kind, FailureKind::Timeout);
    assert_eq!(peer.asked().len(), 2);

    let peer = Peer::start(vec![reply("500 Oops", "")]).await;
    let visited = again(HttpHandler::default(), 3)
        .visit(&visit_of(&peer.url))
        .await;
    assert_eq!(visited.result.unwrap_err().kind, FailureKind::Unexpected);
    assert_eq!(peer.asked().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_filled_in_or_sent_is_the_handlers_failure() {
    for (path, header, expected) in [
        ("/{label:none}", "x", "no label \"none\""),
        ("/", "{label:lines}", "the header x-a cannot be sent"),
    ] {
        let settings = HttpHandler {
            path: path.to_owned(),
            headers: vec![("X-A".to_owned(), header.to_owned())],
            ..HttpHandler::default()
        };
        let mut visit = visit_of("https://site.invalid");
        visit.site.labels = r#"{"lines":"a\r\nX-B: c"}"#.to_owned();
        let error = handler(settings).visit(&visit).await.result.unwrap_err();
        assert_eq!(error.kind, FailureKind::Handler, "{error}");
        assert!(error.detail.contains(expected), "{error}");
    }
    let wrong = HttpHandler {
        method: "GE T".to_owned(),
        ..HttpHandler::default()
    };
    let problem = HttpVisits::new(SiteClient::new(false), wrong, 0, 100).err();
    assert!(problem.unwrap().contains("no HTTP method"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    #[test]
    fn no_site_makes_the_handler_panic(
        url in "(?s)(https?://)?.{0,40}",
        site_id in "(?s).{0,20}",
        labels in "[{}\":a-z0-9]{0,20}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let settings = HttpHandler {
                path: "/{site_id}/{label:a}".to_owned(),
                timeout: Duration::from_millis(5),
                ..HttpHandler::default()
            };
            let client = SiteClient::new(true);
            let handler = HttpVisits::new(client, settings, 0, 100).unwrap();
            let mut visit = visit_of(&url);
            visit.site.site_id = site_id;
            visit.site.labels = labels;
            drop(handler.visit(&visit).await);
        });
    }
}
