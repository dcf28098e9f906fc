//! Upstreams against a small server that answers as it is told.

use super::connect;
use crate::config::{HistorySettings, ReplicaProtocol, ReplicaSettings, SecretOf};
use crate::flows::replicas::{
    Chunk, DatasetName, Epoch, Fetching, Modification, Since, Upstream, UpstreamError,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Answers one after the other; `None` never comes. Requests are remembered.
async fn server(answers: Vec<Option<String>>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut answers = VecDeque::from(answers);
    let requests = asked.clone();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = vec![0; 8192];
            let mut read = 0;
            while !request[..read].windows(4).any(|end| end == b"\r\n\r\n") {
                read += socket.read(&mut request[read..]).await.unwrap();
            }
            let text = String::from_utf8_lossy(&request[..read]).into_owned();
            requests.lock().unwrap().push(text);
            match answers.pop_front().flatten() {
                Some(answer) => socket.write_all(answer.as_bytes()).await.unwrap(),
                None => open.push(socket),
            }
        }
    });
    (address, asked)
}

fn answer(status: &str, headers: &str, body: &str) -> Option<String> {
    let len = body.len();
    Some(format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {len}\r\nConnection: close\r\n\r\n{body}"
    ))
}

fn upstream(address: &str, protocol: ReplicaProtocol) -> Arc<dyn Upstream> {
    let settings = ReplicaSettings {
        name: DatasetName::parse("prices").unwrap(),
        upstreams: vec![address.parse().unwrap()],
        dataset: DatasetName::parse("prices").unwrap(),
        protocol,
        poll_interval: Duration::from_secs(1),
        watch: Duration::from_secs(30),
        chunk: 1000,
        ranges: 4,
        timeout: Duration::from_secs(2),
        token: Some(SecretOf("s3cret-token".into())),
        history: HistorySettings::default(),
        audit_interval: None,
    };
    connect(&settings).unwrap().remove(0)
}

async fn info_of(answers: Vec<Option<String>>) -> UpstreamError {
    let (address, _) = server(answers).await;
    let upstream = upstream(&address, ReplicaProtocol::Highwater);
    upstream.info(None).await.unwrap_err()
}

const INFO: &str = r#"{"epoch":"e","head":9,"len":3,"oldest_head":7}"#;

#[tokio::test]
async fn a_chunk_is_asked_for_with_all_that_the_follower_has() {
    let body = r#"{"epoch":"e","head":9,"latest":9,"entries":[["b",{"x":1}]],"diff":[{"delete":"a"}],"len":3,"next":"b"}"#;
    let (address, asked) = server(vec![answer("200 OK", "", body)]).await;
    let fetching = Fetching {
        chunk: Chunk::Key {
            after: "a&b".to_owned(),
            until: Some("z".to_owned()),
            limit: 5,
        },
        since: Some(Since {
            epoch: Some(Epoch::told("e")),
            head: 8,
            from: Some(String::new()),
        }),
    };
    let upstream = upstream(&address, ReplicaProtocol::Highwater);
    let fetched = upstream.fetch(fetching).await.unwrap();
    assert_eq!(fetched.entries[0].value, r#"{"x":1}"#);
    let asked = asked.lock().unwrap()[0].to_lowercase();
    let target = "get /v1/datasets/prices/fetch?after=a%26b&until=z&limit=5&head=8&epoch=e&from= ";
    assert!(asked.starts_with(target), "{asked}");
    assert!(asked.contains("authorization: bearer s3cret-token"));
    assert!(asked.contains("gzip") && asked.contains("zstd"), "{asked}");
}

#[tokio::test]
async fn an_address_that_names_the_content_is_used_as_it_is() {
    let (address, asked) = server(vec![answer("200 OK", "", INFO)]).await;
    let address = format!("{address}/base/v1/replicas/other/");
    let upstream = upstream(&address, ReplicaProtocol::Highwater);
    upstream.info(Some(8)).await.unwrap();
    let asked = asked.lock().unwrap()[0].clone();
    assert!(
        asked.starts_with("GET /base/v1/replicas/other/info?splits=8 "),
        "{asked}"
    );
}

#[tokio::test]
async fn a_stale_head_is_told_with_how_the_upstream_stands() {
    let body = format!(r#"{{"title":"stale-head","status":410,"info":{INFO}}}"#);
    let stale = info_of(vec![answer("410 Gone", "", &body)]).await;
    let UpstreamError::Stale(Some(info)) = stale else {
        panic!("{stale:?}");
    };
    assert_eq!((info.head, info.oldest_head), (9, 7));
    let stale = info_of(vec![answer("410 Gone", "", "no more")]).await;
    assert_eq!(stale, UpstreamError::Stale(None));
}

#[tokio::test]
async fn rude_answers_are_failures_in_words_without_the_token() {
    let cases = [
        (answer("200 OK", "", "<html>s3cret-token"), "cannot be read"),
        (
            answer("401 Unauthorized", "", "s3cret-token is wrong"),
            "*** is wrong",
        ),
        (
            answer("302 Found", "Location: http://127.0.0.1:1/\r\n", ""),
            "a redirect, which is not followed",
        ),
        (
            answer("200 OK", "", r#"{"epoch":"e","head":"x"}"#),
            "cannot be read",
        ),
        (None, "no whole answer within 2s"),
    ];
    for (answer, expected) in cases {
        let error = info_of(vec![answer]).await;
        let words = error.to_string();
        assert!(words.contains(expected), "{words}");
        assert!(!words.contains("s3cret"), "{words}");
    }
}

#[tokio::test]
async fn who_asks_to_be_left_alone_says_for_how_long() {
    let busy = answer("503 Service Unavailable", "Retry-After: 7\r\n", "");
    let UpstreamError::Failed { retry_after, .. } = info_of(vec![busy]).await else {
        panic!("not a failure");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn what_an_upstream_does_not_do_is_told_from_its_failures() {
    let crowded =
        r#"{"type":"urn:highwater:problem:too-many-watchers","status":503,"detail":"1000 wait"}"#;
    for (answered, expected) in [
        (answer("404 Not Found", "", ""), None),
        (answer("501 Not Implemented", "", ""), None),
        (
            answer("503 Service Unavailable", "", crowded),
            Some(Duration::from_secs(60)),
        ),
    ] {
        let (address, _) = server(vec![answered]).await;
        let upstream = upstream(&address, ReplicaProtocol::Highwater);
        let watch = upstream.watch(Epoch::told("e"), 1, Duration::ZERO).unwrap();
        let UpstreamError::Unable { for_now, .. } = watch.await.unwrap_err() else {
            panic!("a failure");
        };
        assert_eq!(for_now, expected);
    }
}

#[tokio::test]
async fn what_is_answered_is_not_repeated_where_it_cannot_be_read() {
    let body = r#"{"epoch":"e","head":"a secret value"}"#;
    let words = info_of(vec![answer("200 OK", "", body)]).await.to_string();
    assert!(words.contains("in line 1, column"), "{words}");
    assert!(!words.contains("secret"), "{words}");
}

fn by_index(begin: u64, end: u64) -> Fetching {
    Fetching {
        chunk: Chunk::Index { begin, end },
        since: Some(Since {
            epoch: None,
            head: 1,
            from: None,
        }),
    }
}

#[tokio::test]
async fn a_seed_whose_diff_repeats_a_key_is_asked_what_became_of_it() {
    let diff = r#"[{"Update":["b","new"]},{"Delete":"b"},{"Update":["a","1"]}]"#;
    let chunk = format!(r#"{{"head":2,"entries":[],"diff":{diff}}}"#);
    let window = format!(
        r#"{{"head":2,"entries":[{{"Update":["a","1"]}},{{"Update":["b","new"]}}],"diff":{diff}}}"#
    );
    let ok = |body: &str| answer("200 OK", "", body);
    let (address, asked) = server(vec![ok(&chunk), ok("[2,0]"), ok(&window), ok(&chunk)]).await;
    let upstream = upstream(&address, ReplicaProtocol::Seed);
    let fetched = upstream.fetch(by_index(5, 10)).await.unwrap();
    let values: Vec<_> = fetched
        .diff
        .iter()
        .map(|modification| match modification {
            Modification::Update(entry) => (entry.key.as_str(), Some(entry.value.as_str())),
            Modification::Delete(key) => (key.as_str(), None),
        })
        .collect();
    assert_eq!(values, [("a", Some(r#""1""#)), ("b", Some(r#""new""#))]);
    assert_eq!(fetched.next, None);
    assert_eq!(asked.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_seed_that_went_back_is_stale() {
    let ok = |body: &str| answer("200 OK", "", body);
    let (address, _) = server(vec![
        ok(r#"{"head":0,"entries":[],"diff":[],"db_len":0}"#),
        ok("[0,0]"),
    ])
    .await;
    let upstream = upstream(&address, ReplicaProtocol::Seed);
    let stale = upstream.fetch(by_index(0, 10)).await.unwrap_err();
    assert!(matches!(stale, UpstreamError::Stale(Some(info)) if info.head == 0));
}
