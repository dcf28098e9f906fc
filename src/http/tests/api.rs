//! `/v1`: happy paths and every bad input.

use super::super::testing::{Fixture, id, ledger_view, trouble};
use crate::flows::batches::BatchesView;
use crate::ledgers::LedgerKind;
use actix_web::test::TestRequest;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::sync::Arc;

fn trace(n: usize) -> Value {
    json!({"ledger": "trace", "batch_id": id(n)})
}

#[actix_web::test]
async fn tracking_is_idempotent_and_wakes_each_ledger_once() {
    let fixture = Fixture::new().await;
    let supply = json!({"ledger": "supply", "service_id": "c1::a000", "batch_id": id(9),
        "transaction_ids": ["t1", "t2"]});
    let body = json!({"batches": [trace(1), trace(2), supply, trace(2)]});
    let seen = fixture.post("/v1/batches", &body).await;
    assert_eq!(seen.status, 202, "{}", seen.text());
    assert_eq!(seen.json(), json!({"accepted": 3, "known": 1}));
    let seen = fixture.post("/v1/batches", &body).await;
    assert_eq!(
        (seen.status, seen.json()),
        (200, json!({"accepted": 0, "known": 4}))
    );
    assert_eq!(
        *fixture.woken.lock().unwrap(),
        ["supply", "trace", "supply", "trace"]
    );
}

#[actix_web::test]
async fn wrong_bodies_name_the_field_and_store_nothing() {
    let fixture = Fixture::new().await;
    let many: Vec<Value> = (0..10_001).map(trace).collect();
    let ids: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    let with = |ids: Value| json!({"batches": [{"ledger": "trace", "batch_id": id(1), "transaction_ids": ids}]});
    for (body, status, name, field) in [
        (
            json!({"batches": [trace(1), {"ledger": "nope", "batch_id": id(1)}]}),
            422,
            "unknown-ledger",
            "batches[1].ledger",
        ),
        (
            json!({"batches": [trace(1), {"ledger": "trace", "batch_id": "ABC"}]}),
            422,
            "invalid-fields",
            "batches[1].batch_id",
        ),
        (
            json!({"batches": [{"ledger": "trace", "service_id": "x", "batch_id": id(1)}]}),
            422,
            "invalid-fields",
            "batches[0].service_id",
        ),
        (
            json!({"batches": [{"ledger": "supply", "batch_id": id(1)}]}),
            422,
            "invalid-fields",
            "batches[0].service_id",
        ),
        (json!({"batches": []}), 422, "invalid-fields", "batches"),
        (json!({"batches": many}), 422, "invalid-fields", "batches"),
        (
            with(json!(ids)),
            422,
            "invalid-fields",
            "batches[0].transaction_ids",
        ),
        (
            with(json!(["ok", "tä"])),
            422,
            "invalid-fields",
            "batches[0].transaction_ids[1]",
        ),
        (
            with(json!([""])),
            422,
            "invalid-fields",
            "batches[0].transaction_ids[0]",
        ),
        (
            with(json!(["x".repeat(257)])),
            422,
            "invalid-fields",
            "batches[0].transaction_ids[0]",
        ),
        (
            with(json!([7])),
            400,
            "invalid-json",
            "batches[0].transaction_ids[0]",
        ),
        (
            json!({"batches": [{"ledger": "trace"}]}),
            400,
            "invalid-json",
            "batches[0]",
        ),
        (
            json!({"batches": [{"ledger": "trace", "batch": 1}]}),
            400,
            "invalid-json",
            "batches[0].batch",
        ),
        (json!({"batch": []}), 400, "invalid-json", "batch"),
    ] {
        let problem = fixture
            .post("/v1/batches", &body)
            .await
            .problem(status, name);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let raw = |kind: &str, body: &str| {
        let request = TestRequest::post()
            .uri("/v1/batches")
            .set_payload(body.to_owned());
        request.insert_header(("Content-Type", kind.to_owned()))
    };
    let broken = fixture
        .call(raw("application/json", "{\"batches\":\n ["))
        .await;
    let problem = broken.problem(400, "invalid-json");
    assert!(
        problem["detail"].as_str().unwrap().contains("line 2"),
        "{problem}"
    );
    let form = fixture.call(raw("text/plain", "{}")).await;
    form.problem(415, "unsupported-media-type");
    let gzip = raw("application/json", "{}").insert_header(("Content-Encoding", "gzip"));
    fixture
        .call(gzip)
        .await
        .problem(415, "unsupported-media-type");
    let listed = fixture.get("/v1/batches").await.json();
    assert_eq!(listed, json!({"items": [], "next": null}));
    assert!(fixture.woken.lock().unwrap().is_empty());
}

#[actix_web::test]
async fn errors_and_bodies_are_bounded() {
    let fixture = Fixture::with(|settings| settings.http.max_body_bytes = 60_000).await;
    let wrong: Vec<Value> = (0..300)
        .map(|_| json!({"ledger": "trace", "batch_id": "x"}))
        .collect();
    let seen = fixture
        .post("/v1/batches", &json!({"batches": wrong}))
        .await;
    let problem = seen.problem(422, "invalid-fields");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 100);
    assert!(problem["detail"].as_str().unwrap().contains("300 fields"));
    let large: Vec<Value> = (0..500).map(trace).collect();
    let seen = fixture
        .post("/v1/batches", &json!({"batches": large}))
        .await;
    seen.problem(413, "body-too-large");
}

#[actix_web::test]
async fn lists_filter_and_page() {
    let fixture = Fixture::new().await;
    let mut batches: Vec<Value> = (0..25).map(trace).collect();
    batches.push(json!({"ledger": "supply", "service_id": "c1::a000", "batch_id": id(7)}));
    fixture
        .post("/v1/batches", &json!({"batches": batches}))
        .await;
    let mut uri = "/v1/batches?ledger=trace&limit=10".to_owned();
    let mut seqs: Vec<i64> = Vec::new();
    let mut pages = 0;
    loop {
        let page = fixture.get(&uri).await.json();
        pages += 1;
        let items = page["items"].as_array().unwrap();
        seqs.extend(items.iter().map(|item| item["seq"].as_i64().unwrap()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        uri = format!("/v1/batches?ledger=trace&limit=10&cursor={next}");
    }
    assert_eq!((pages, seqs.len()), (3, 25));
    assert!(seqs.windows(2).all(|pair| pair[0] > pair[1]), "{seqs:?}");
    for (query, count) in [
        ("service_id=c1%3A%3Aa000", 1),
        ("service_id=", 25),
        ("status=committed", 0),
        ("status=pending&limit=1000", 26),
        (&format!("batch_id={}", &id(7)), 2),
        ("batch_id=f", 0),
    ] {
        let page = fixture.get(&format!("/v1/batches?{query}")).await.json();
        assert_eq!(page["items"].as_array().unwrap().len(), count, "{query}");
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("status=done", "status"),
        ("cursor=zzz", "cursor"),
        ("ledgr=trace", "ledgr"),
        ("ledger=%00", "ledger"),
        ("ledger=a&ledger=b", "ledger"),
    ] {
        let seen = fixture.get(&format!("/v1/batches?{query}")).await;
        let problem = seen.problem(400, "invalid-query");
        assert_eq!(problem["errors"][0]["field"], field, "{query}");
    }
}

#[actix_web::test]
async fn one_batch_says_why_it_is_not_polled_now() {
    let fixture = Fixture::new().await;
    let supply = json!({"ledger": "supply", "service_id": "c1::a000", "batch_id": id(9),
        "transaction_ids": ["t1"]});
    fixture
        .post("/v1/batches", &json!({"batches": [supply]}))
        .await;
    let uri = format!("/v1/batches/supply/{}?service_id=c1::a000", id(9));
    let batch = fixture.get(&uri).await.json();
    assert_eq!(batch["transaction_ids"], json!(["t1"]));
    assert_eq!(batch["history"], json!([]));
    assert!(
        batch["why_not_now"].as_str().unwrap().contains("its turn"),
        "{batch}"
    );
    let mut view = ledger_view("supply", LedgerKind::Splinter);
    view.failing_services.push(trouble("c1::a000"));
    view.failing_services_total = 1;
    fixture.view.send_replace(Arc::new(BatchesView {
        ledgers: vec![view],
    }));
    let batch = fixture.get(&uri).await.json();
    assert!(
        batch["why_not_now"]
            .as_str()
            .unwrap()
            .contains("backed off"),
        "{batch}"
    );
    assert!(batch["polled_next_at"].is_string());
    // Without its service it is found as long as only one has such a batch.
    let short = format!("/v1/batches/supply/{}", id(9));
    assert_eq!(fixture.get(&short).await.json()["seq"], batch["seq"]);
    let twin = json!({"batches": [
        {"ledger": "supply", "service_id": "c2::a000", "batch_id": id(9)}
    ]});
    fixture.post("/v1/batches", &twin).await.json();
    fixture.get(&short).await.problem(404, "batch-not-found");
    let missing = fixture.get(&format!("/v1/batches/supply/{}", id(8))).await;
    missing.problem(404, "batch-not-found");
    fixture
        .get("/v1/batches/trace/%00")
        .await
        .problem(404, "batch-not-found");
}

#[actix_web::test]
async fn poll_now_takes_batches_or_a_service() {
    let fixture = Fixture::new().await;
    fixture
        .post("/v1/batches", &json!({"batches": [trace(1), trace(2)]}))
        .await;
    fixture.woken.lock().unwrap().clear();
    for (body, due) in [
        (json!({"batches": [trace(1), trace(5)]}), 1),
        (json!({"ledger": "trace"}), 2),
        (json!({"ledger": "trace", "service_id": ""}), 2),
        (json!({"ledger": "supply", "service_id": "c::a"}), 0),
    ] {
        let seen = fixture.post("/v1/batches/poll-now", &body).await;
        assert_eq!(
            (seen.status, seen.json()),
            (200, json!({"due": due})),
            "{body}"
        );
    }
    assert_eq!(
        *fixture.woken.lock().unwrap(),
        ["trace", "trace", "trace", "supply"]
    );
    for body in [
        json!({}),
        json!({"service_id": "c::a"}),
        json!({"batches": [trace(1)], "ledger": "trace"}),
    ] {
        let seen = fixture.post("/v1/batches/poll-now", &body).await;
        seen.problem(422, "invalid-fields");
    }
    let seen = fixture
        .post("/v1/batches/poll-now", &json!({"ledger": "nope"}))
        .await;
    let problem = seen.problem(422, "unknown-ledger");
    assert_eq!(problem["errors"][0]["field"], "ledger");
}

#[actix_web::test]
async fn revive_needs_the_control_token() {
    let fixture = Fixture::new().await;
    let body = json!({"batches": [trace(1)]});
    let refused = fixture.post("/v1/batches/revive", &body).await;
    refused.problem(403, "control-token-not-configured");
    let control = "control-token-0123456789";
    fixture.settings.send_modify(|settings| {
        let changed = Arc::make_mut(settings);
        changed.http.control_token = Some(SecretString::from(control));
    });
    let refused = fixture.post("/v1/batches/revive", &body).await;
    refused.problem(401, "unauthorized");
    assert!(refused.header("www-authenticate").starts_with("Bearer"));
    let request = TestRequest::post()
        .uri("/v1/batches/revive")
        .insert_header(("Authorization", format!("Bearer {control}")))
        .set_json(&body);
    let seen = fixture.call(request).await;
    assert_eq!((seen.status, seen.json()), (200, json!({"revived": 0})));
}

#[actix_web::test]
async fn tokens_are_asked_for_before_anything_is_read() {
    let fixture = Fixture::with(|settings| {
        settings.http.read_token = Some(SecretString::from("read-token-0123456789"));
        settings.http.intake_token = Some(SecretString::from("intake-token-0123456789"));
    })
    .await;
    for uri in [
        "/v1/batches",
        "/v1/ledgers",
        "/v1/services",
        "/metrics",
        "/openapi.json",
    ] {
        let seen = fixture.get(uri).await;
        seen.problem(401, "unauthorized");
        assert!(!seen.text().contains("0123456789"));
        let bearer = TestRequest::get().uri(uri);
        let bearer = bearer.insert_header(("Authorization", "bearer read-token-0123456789"));
        assert_eq!(fixture.call(bearer).await.status, 200, "{uri}");
    }
    for uri in ["/v1/batches", "/v1/batches/poll-now"] {
        fixture
            .post(uri, &json!("rubbish"))
            .await
            .problem(401, "unauthorized");
    }
    for uri in ["/livez", "/readyz"] {
        assert_eq!(fixture.get(uri).await.status, 200, "{uri}");
    }
}

#[actix_web::test]
async fn ledgers_and_services_are_listed() {
    let fixture = Fixture::new().await;
    fixture
        .post("/v1/batches", &json!({"batches": [trace(1)]}))
        .await;
    let ledgers = fixture.get("/v1/ledgers").await.json();
    assert_eq!(ledgers["items"][0]["name"], "trace");
    assert_eq!(ledgers["items"][0]["state"], "answering");
    assert_eq!(ledgers["items"][0]["outstanding"], 1);
    assert_eq!(ledgers["items"][0]["due"], 1);
    assert_eq!(ledgers["items"][1]["outstanding"], 0);
    assert!(ledgers["next"].is_null());
    let services = fixture.get("/v1/services").await.json();
    assert_eq!(services["items"][0]["state"], "running");
}

#[actix_web::test]
async fn unknown_paths_and_methods_are_problems() {
    let fixture = Fixture::new().await;
    for uri in [
        "/v1",
        "/v1/batches/",
        "/v2/batches",
        "/nothing",
        "/assets/../Cargo.toml",
    ] {
        fixture.get(uri).await.problem(404, "not-found");
    }
    let seen = fixture.call(TestRequest::delete().uri("/v1/batches")).await;
    seen.problem(405, "method-not-allowed");
    assert_eq!(seen.header("allow"), "GET, HEAD, POST");
    let seen = fixture.call(TestRequest::post().uri("/readyz")).await;
    seen.problem(405, "method-not-allowed");
    let head = TestRequest::default()
        .method(actix_web::http::Method::HEAD)
        .uri("/livez");
    assert_eq!(fixture.call(head).await.status, 200);
}

#[actix_web::test]
async fn a_database_out_of_reach_is_a_503_to_come_back_to() {
    let fixture = Fixture::new().await;
    fixture.store.close();
    for seen in [
        fixture.get("/v1/batches").await,
        fixture.get(&format!("/v1/batches/trace/{}", id(1))).await,
        fixture
            .post("/v1/batches", &json!({"batches": [trace(1)]}))
            .await,
    ] {
        seen.problem(503, "database-unreachable");
        assert_eq!(seen.header("retry-after"), "5");
    }
    assert!(fixture.woken.lock().unwrap().is_empty());
}

#[actix_web::test]
async fn a_draining_server_takes_nothing_in() {
    let fixture = Fixture::new().await;
    fixture.draining.send_replace(true);
    let seen = fixture
        .post("/v1/batches", &json!({"batches": [trace(1)]}))
        .await;
    seen.problem(503, "draining");
    assert_eq!(fixture.get("/v1/batches").await.status, 200);
}
