//! Datasets and replicas: what is published, and what followers read.

use super::super::testing::Fixture;
use super::Seen;
use super::pages_replicas::plan;
use crate::config::{
    DatasetSettings, DatasetSource, HistorySettings, ReplicaProtocol, ReplicaSettings, SecretOf,
};
use crate::flows::replicas::{
    Content, ContentKind, DatasetName, FollowerView, Holder, Modification, PublishError,
    ReplicaState, ReplicasView,
};
use actix_web::test::TestRequest;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const TOKEN: &str = "dataset-token-0123456789";
const READ: &str = "read-token-0123456789";

fn name(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

fn dataset(called: &str) -> DatasetSettings {
    DatasetSettings {
        name: name(called),
        source: None,
        history: HistorySettings::default(),
        token: None,
        seed_listen: None,
    }
}

fn replica(called: &str) -> ReplicaSettings {
    ReplicaSettings {
        name: name(called),
        upstreams: vec!["http://up:1".parse().unwrap()],
        dataset: name("prices"),
        protocol: ReplicaProtocol::Highwater,
        poll_interval: Duration::from_secs(1),
        watch: Duration::from_secs(30),
        chunk: 1000,
        ranges: 4,
        timeout: Duration::from_secs(30),
        token: None,
        history: HistorySettings::default(),
        audit_interval: None,
    }
}

fn secret(text: &str) -> SecretOf {
    SecretOf(SecretString::from(text))
}

async fn fixture() -> Fixture {
    Fixture::with(|settings| {
        let table = DatasetSettings {
            source: Some(DatasetSource::Batches),
            ..dataset("table")
        };
        let closed = DatasetSettings {
            token: Some(secret(TOKEN)),
            ..dataset("closed")
        };
        settings.datasets = vec![dataset("prices"), table, closed];
        settings.replicas = vec![replica("copy")];
        settings.replication.max_modifications = 5;
        settings.replication.max_value_bytes = 200;
        settings.replication.max_chunk_bytes = 500;
        settings.replication.max_chunk = 50;
        settings.replication.max_watchers = 1;
        settings.http.max_body_bytes = 4096;
    })
    .await
}

const ENTRIES: &str = "/v1/datasets/prices/entries";

async fn with_key(fixture: &Fixture, key: &str, body: &Value) -> Seen {
    let request = TestRequest::post()
        .uri(ENTRIES)
        .insert_header(("Idempotency-Key", key))
        .set_json(body);
    fixture.call(request).await
}

async fn bearer(fixture: &Fixture, uri: &str, token: &str) -> Seen {
    let request = TestRequest::get()
        .uri(uri)
        .insert_header(("Authorization", format!("Bearer {token}")));
    fixture.call(request).await
}

#[actix_web::test]
async fn modifications_are_published_and_read_by_key_by_index_and_one_by_one() {
    let fixture = fixture().await;
    let body = json!([{"update": ["a/1", {"x": 1}]}, {"update": ["b", "text"]}, {"delete": "c"}]);
    let answer = fixture.post(ENTRIES, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json(), json!({"epoch": "e1", "head": 1}));

    let info = fixture.get("/v1/datasets/prices/info?splits=1").await;
    assert_eq!(
        info.json(),
        json!({"epoch": "e1", "head": 1, "len": 2, "oldest_head": 0, "splits": ["a/1"]})
    );
    assert_eq!(info.header("cache-control"), "no-store");
    let by_key = fixture
        .get("/v1/datasets/prices/fetch?after=&limit=1&head=0&epoch=e1")
        .await;
    assert_eq!(
        by_key.json(),
        json!({
            "epoch": "e1", "head": 1, "latest": 1, "len": 2, "next": "a/1",
            "entries": [["a/1", {"x": 1}]],
            "diff": [{"update": ["a/1", {"x": 1}]}, {"update": ["b", "text"]}, {"delete": "c"}],
        })
    );
    let by_index = fixture.get("/v1/datasets/prices/fetch?begin=1&end=2").await;
    assert_eq!(by_index.json()["entries"], json!([["b", "text"]]));
    assert_eq!(by_index.json()["next"], Value::Null);
    let one = fixture.get("/v1/datasets/prices/entries/a%2F1").await;
    assert_eq!(one.json(), json!({"key": "a/1", "value": {"x": 1}}));
    fixture
        .get("/v1/datasets/prices/entries/c")
        .await
        .problem(404, "entry-not-found");
    let digests = fixture.get("/v1/datasets/prices/digests?limit=9").await;
    assert_eq!(digests.json()["ranges"][0]["len"], 2);
    let listed = fixture.get("/v1/datasets").await.json();
    assert_eq!(listed["items"][0]["head"], 1);
    assert_eq!(listed["items"][1]["source"], "batches");
    assert_eq!(listed["items"][1]["head"], Value::Null);
    assert_eq!(listed["items"][2]["protected"], true);
    let single = fixture.get("/v1/datasets/prices").await.json();
    assert_eq!(single["history"]["changes"], 100_000);
}

#[actix_web::test]
async fn a_request_that_is_repeated_is_answered_as_the_first_time() {
    let fixture = fixture().await;
    let body = json!([{"update": ["a", 1]}]);
    for _ in 0..2 {
        let answer = with_key(&fixture, "k-1", &body).await;
        assert_eq!(answer.json(), json!({"epoch": "e1", "head": 1}));
    }
    with_key(&fixture, "k-1", &json!([{"update": ["a", 2]}]))
        .await
        .problem(422, "idempotency-key-reused");
    for wrong in ["a b", &"k".repeat(256)] {
        with_key(&fixture, wrong, &body)
            .await
            .problem(400, "invalid-idempotency-key");
    }
    let uri = format!("{ENTRIES}?if_head=0");
    let moved = fixture.post(&uri, &body).await.problem(409, "head-moved");
    assert_eq!(moved["head"], 1);
    let uri = format!("{ENTRIES}?if_head=1");
    assert_eq!(fixture.post(&uri, &body).await.json()["head"], 2);
    for wrong in ["x", "-1", "1.0", "9223372036854775808"] {
        let uri = format!("{ENTRIES}?if_head={wrong}");
        let told = fixture.post(&uri, &body).await;
        told.problem(400, "invalid-query");
    }
}

#[actix_web::test]
async fn what_cannot_be_published_is_refused_whole() {
    let fixture = fixture().await;
    let six: Vec<Value> = (0..6).map(|n| json!({"delete": format!("{n}")})).collect();
    let large = |bytes: usize| json!({"update": ["k", "x".repeat(bytes)]});
    for (body, status, problem) in [
        (json!([]), 422, "invalid-fields"),
        (json!({"update": ["k", 1]}), 400, "invalid-json"),
        (json!([{"update": ["", 1]}]), 400, "invalid-json"),
        (json!([{"insert": ["k", 1]}]), 400, "invalid-json"),
        (json!(six), 413, "modifications-too-large"),
        (json!([large(250)]), 413, "modifications-too-large"),
        (
            json!([large(190), large(190), large(190)]),
            413,
            "modifications-too-large",
        ),
        (json!([large(5000)]), 413, "body-too-large"),
    ] {
        fixture.post(ENTRIES, &body).await.problem(status, problem);
    }
    let told = fixture
        .post(ENTRIES, &json!([{"delete": "a"}, large(250)]))
        .await
        .json();
    assert_eq!(told["errors"][0]["field"], "[1].update[1]");
    let one = json!([{"delete": "a"}]);
    fixture
        .post("/v1/datasets/table/entries", &one)
        .await
        .problem(409, "read-only");
    fixture
        .post("/v1/datasets/other/entries", &one)
        .await
        .problem(404, "dataset-not-found");
    let form = TestRequest::post().uri(ENTRIES).set_payload("[]");
    fixture
        .call(form)
        .await
        .problem(415, "unsupported-media-type");
    assert!(fixture.contents.requests.lock().unwrap().is_empty());
    *fixture.contents.trouble.lock().unwrap() =
        Some(PublishError::Away("host:5432 said no".to_owned()));
    let away = fixture.post(ENTRIES, &one).await;
    away.problem(503, "database-unreachable");
    assert!(!away.text().contains("5432"));
    fixture.draining.send_replace(true);
    fixture.post(ENTRIES, &one).await.problem(503, "draining");
}

#[actix_web::test]
async fn a_head_that_history_does_not_reach_is_stale_with_how_it_stands() {
    let fixture = fixture().await;
    fixture
        .get("/v1/datasets/prices/info")
        .await
        .problem(503, "no-copy-yet");
    fixture.post(ENTRIES, &json!([{"update": ["a", 1]}])).await;
    for query in ["head=5", "head=1&epoch=other"] {
        let uri = format!("/v1/datasets/prices/fetch?{query}");
        let stale = fixture.get(&uri).await.problem(410, "stale-head");
        assert_eq!(
            stale["info"],
            json!({"epoch": "e1", "head": 1, "len": 1, "oldest_head": 0})
        );
    }
    let wrong = fixture
        .get("/v1/datasets/prices/fetch?begin=0&after=a")
        .await
        .problem(400, "invalid-query");
    assert_eq!(wrong["errors"][0]["field"], "after");
    for path in ["fetch", "watch?head=1", "digests", "info", "entries/k", ""] {
        let uri = format!("/v1/datasets/other/{path}");
        let uri = uri.trim_end_matches('/');
        fixture.get(uri).await.problem(404, "dataset-not-found");
        let uri = uri.replace("datasets", "replicas");
        fixture.get(&uri).await.problem(404, "replica-not-found");
    }
}

#[actix_web::test]
async fn a_follower_waits_until_the_head_moves_or_the_server_stops() {
    let fixture = fixture().await;
    let body = json!([{"update": ["a", 1]}]);
    fixture.post(ENTRIES, &body).await;
    let watch = "/v1/datasets/prices/watch?head=1&epoch=e1&timeout=60";
    let publish = async {
        while fixture.state.datasets.heads.followers() == 0 {
            tokio::task::yield_now().await;
        }
        let full = fixture.get(watch).await;
        full.problem(503, "too-many-watchers");
        assert!(!full.header("retry-after").is_empty());
        // What moved already needs no waiting.
        let moved = fixture
            .get("/v1/datasets/prices/watch?head=0&timeout=60")
            .await;
        assert_eq!(moved.json()["head"], 1);
        fixture.post(ENTRIES, &body).await
    };
    let (woken, _) = tokio::join!(fixture.get(watch), publish);
    assert_eq!(woken.json()["head"], 2);
    let still = fixture
        .get("/v1/datasets/prices/watch?head=2&timeout=1ms")
        .await;
    assert_eq!((still.status, &still.json()["head"]), (200, &json!(2)));
    let other_epoch = fixture.get("/v1/datasets/prices/watch?head=2&epoch=e0&timeout=60");
    assert_eq!(other_epoch.await.json()["epoch"], "e1");
    let stop = async {
        while fixture.state.datasets.heads.followers() == 0 {
            tokio::task::yield_now().await;
        }
        fixture.draining.send_replace(true);
    };
    let waits = fixture.get("/v1/datasets/prices/watch?head=2&timeout=60");
    let (told, ()) = tokio::join!(waits, stop);
    told.problem(503, "draining");
    assert_eq!(fixture.state.datasets.heads.followers(), 0);
}

#[actix_web::test]
async fn a_dataset_with_a_token_is_read_with_that_and_a_replica_is_no_way_around() {
    let fixture = fixture().await;
    let change = |change: &dyn Fn(&mut crate::config::Settings)| {
        fixture.settings.send_modify(|settings| {
            let mut changed = (**settings).clone();
            change(&mut changed);
            *settings = changed.into();
        });
    };
    let closed = "/v1/datasets/closed/info";
    fixture.get(closed).await.problem(401, "unauthorized");
    bearer(&fixture, closed, READ)
        .await
        .problem(401, "unauthorized");
    bearer(&fixture, closed, TOKEN)
        .await
        .problem(503, "no-copy-yet");
    let copy = "/v1/replicas/copy/info";
    fixture.get(copy).await.problem(503, "no-copy-yet");
    change(&|settings| settings.replicas[0].token = Some(secret(TOKEN)));
    fixture.get(copy).await.problem(401, "unauthorized");
    bearer(&fixture, copy, TOKEN)
        .await
        .problem(503, "no-copy-yet");
    change(&|settings| settings.http.read_token = Some(SecretString::from(READ)));
    bearer(&fixture, copy, READ)
        .await
        .problem(503, "no-copy-yet");
    // Who may not read does not learn what there is.
    let told = async |name: &str| {
        let refused = fixture.get(&format!("/v1/datasets/{name}/info")).await;
        let problem = refused.problem(401, "unauthorized");
        problem["detail"].as_str().unwrap().replace(name, "NAME")
    };
    let unprotected = told("prices").await;
    assert_eq!(told("closed").await, unprotected);
    assert_eq!(told("other").await, unprotected);
}

#[actix_web::test]
async fn a_replica_is_served_as_a_dataset_with_its_state() {
    let fixture = fixture().await;
    let copy = Content {
        kind: ContentKind::Replica,
        name: name("copy"),
    };
    let delete = Modification::Delete("a".to_owned());
    fixture.contents.write(&copy, &[delete]);
    follow(&fixture, Holder::Here, Some(ReplicaState::Live));
    let info = fixture.get("/v1/replicas/copy/info").await.json();
    assert_eq!(
        info,
        json!({"epoch": "e1", "head": 1, "len": 0, "oldest_head": 0, "state": "live"})
    );
    let fetched = fixture.get("/v1/replicas/copy/fetch?head=0").await.json();
    assert_eq!(fetched["diff"], json!([{"delete": "a"}]));
    let watched = fixture.get("/v1/replicas/copy/watch?head=0").await.json();
    assert_eq!(watched["state"], "live");
    let listed = fixture.get("/v1/replicas").await.json();
    assert_eq!(listed["items"][0]["upstreams"], json!(["http://up:1/"]));
    let single = fixture.get("/v1/replicas/copy").await.json();
    assert_eq!(
        (&single["state"], &single["head"]),
        (&json!("live"), &json!(1))
    );
}

/// `copy` is followed by that server, and stands so.
fn follow(fixture: &Fixture, holder: Holder, state: Option<ReplicaState>) {
    let follower = FollowerView {
        holder,
        plan: state.map(plan),
        bytes_per_second: 0.0,
        upstreams: Vec::new(),
        trouble: None,
    };
    let by_name = BTreeMap::from([(name("copy"), Arc::new(follower))]);
    let view = ReplicasView { replicas: by_name };
    fixture.replicas.send_replace(Arc::new(view));
}

#[actix_web::test]
async fn a_replica_that_is_followed_elsewhere_is_told_by_its_rows_and_its_lease() {
    let fixture = fixture().await;
    let copy = Content {
        kind: ContentKind::Replica,
        name: name("copy"),
    };
    let delete = Modification::Delete("a".to_owned());
    fixture.contents.write(&copy, &[delete]);
    let other = Holder::Other("host-2".to_owned());
    for (holder, expected) in [(other, "bootstrapping"), (Holder::Nobody, "waiting")] {
        follow(&fixture, holder, None);
        for uri in [
            "/v1/replicas/copy/info",
            "/v1/replicas/copy/watch?head=0",
            "/v1/replicas/copy",
        ] {
            let told = fixture.get(uri).await.json();
            assert_eq!(told["state"], expected, "{uri}: {told}");
        }
    }
}

#[actix_web::test]
async fn what_is_closed_while_somebody_waits_is_not_told_to_them() {
    let fixture = fixture().await;
    let body = json!([{"update": ["a", 1]}]);
    fixture.post(ENTRIES, &body).await;
    let close = async {
        while fixture.state.datasets.heads.followers() == 0 {
            tokio::task::yield_now().await;
        }
        fixture.settings.send_modify(|settings| {
            let mut changed = (**settings).clone();
            changed.datasets[0].token = Some(secret(TOKEN));
            *settings = changed.into();
        });
        fixture.post(ENTRIES, &body).await;
    };
    let waits = fixture.get("/v1/datasets/prices/watch?head=1&timeout=60");
    let (told, ()) = tokio::join!(waits, close);
    told.problem(401, "unauthorized");
}

#[actix_web::test]
async fn answers_are_compressed_as_the_follower_asks() {
    let fixture = fixture().await;
    let long = json!([{"update": ["a", "x".repeat(190)]}, {"update": ["b", "x".repeat(190)]}]);
    fixture.post(ENTRIES, &long).await;
    for encoding in ["gzip", "zstd"] {
        let request = TestRequest::get()
            .uri("/v1/datasets/prices/fetch?head=0")
            .insert_header(("Accept-Encoding", encoding));
        let seen = fixture.call(request).await;
        assert_eq!(seen.header("content-encoding"), encoding);
        assert!(seen.body.len() < 400, "{encoding}: {}", seen.body.len());
    }
}
