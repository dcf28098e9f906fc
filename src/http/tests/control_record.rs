//! What is recorded of control, whoever waits for it; and wrong tokens.

use super::super::audit::{Act, Done};
use super::super::testing::id;
use super::controlled::{CONTROL, Controlled, WRONG, until};
use actix_web::test::TestRequest;
use serde_json::{Value, json};
use std::time::Duration;

#[actix_web::test]
async fn wrong_tokens_are_limited_and_the_right_one_never_is() {
    let server = Controlled::new().await;
    let shutdown = "/v1/control/shutdown";
    let missing = TestRequest::post().uri(shutdown);
    let seen = server.fixture.call(missing).await;
    seen.problem(401, "unauthorized");
    for _ in 0..10 {
        let seen = server.guess(shutdown, "192.0.2.7").await;
        let problem = seen.problem(401, "unauthorized");
        assert_eq!(problem["detail"], "this is not the control token");
        assert!(seen.header("www-authenticate").starts_with("Bearer"));
    }
    let limited = server.guess(shutdown, "192.0.2.7").await;
    limited.problem(429, "too-many-wrong-tokens");
    assert_eq!(limited.header("retry-after"), "6");
    // Other doors, the same address.
    let limited = server.guess("/v1/batches/revive", "192.0.2.7").await;
    limited.problem(429, "too-many-wrong-tokens");
    let login = TestRequest::post()
        .uri("/login")
        .peer_addr("192.0.2.7:9".parse().unwrap())
        .set_form([("token", WRONG)]);
    let form = server.fixture.call(login).await;
    assert_eq!((form.status, form.header("retry-after")), (429, "6"));
    assert!(form.text().contains("too many wrong tokens"));
    // Another address, and the right token from the same.
    let seen = server.guess(shutdown, "192.0.2.8").await;
    seen.problem(401, "unauthorized");
    assert_eq!(server.get("services").await.status, 200);

    *server.clock.lock().unwrap() += Duration::from_secs(6);
    let seen = server.guess(shutdown, "192.0.2.7").await;
    seen.problem(401, "unauthorized");
    let limited = server.guess(shutdown, "192.0.2.7").await;
    limited.problem(429, "too-many-wrong-tokens");
}

#[actix_web::test]
async fn wrong_tokens_of_one_address_are_two_rows() {
    let server = Controlled::new().await;
    for _ in 0..30 {
        server.guess("/v1/control/reload", "192.0.2.9").await;
    }
    let rows = until(async || {
        let rows = server.audit().await;
        (rows.len() == 2).then_some(rows)
    })
    .await;
    assert_eq!(rows[1]["who"], "wrong token from 192.0.2.9");
    assert_eq!(
        (&rows[1]["action"], &rows[1]["target"], &rows[1]["outcome"]),
        (&json!("token"), &json!("control"), &json!("refused"))
    );
    assert_eq!(
        rows[1]["details"],
        json!({"tries": 1, "method": "POST", "path": "/v1/control/reload"})
    );
    assert_eq!(rows[0]["details"]["tries"], 29);
    let rows = serde_json::to_string(&rows).unwrap();
    assert!(!rows.contains(WRONG), "{rows}");
}

#[actix_web::test]
async fn calls_without_a_token_that_were_to_change_something_are_recorded() {
    let server = Controlled::new().await;
    let bare = |request: TestRequest, path: &str| {
        let from = "192.0.2.9:1".parse().unwrap();
        server.fixture.call(request.uri(path).peer_addr(from))
    };
    // Looking leaves no trace.
    let seen = bare(TestRequest::get(), "/v1/control/settings").await;
    seen.problem(401, "unauthorized");
    for _ in 0..3 {
        let seen = bare(TestRequest::post(), "/v1/control/shutdown").await;
        seen.problem(401, "unauthorized");
    }
    server.guess("/v1/control/shutdown", "192.0.2.9").await;
    let mut rows = until(async || {
        let rows = server.audit().await;
        (rows.len() == 3).then_some(rows)
    })
    .await;
    rows.retain(|row| row["who"] == "no token from 192.0.2.9");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(rows[1]["problem"], "the control token was not sent");
    assert_eq!(rows[1]["details"]["path"], "/v1/control/shutdown");
    assert_eq!(rows[0]["details"]["tries"], 2);

    server.fixture.settings.send_modify(|settings| {
        std::sync::Arc::make_mut(settings).http.control_token = None;
    });
    let patch = TestRequest::patch().peer_addr("192.0.2.10:1".parse().unwrap());
    let seen = server.fixture.call(patch.uri("/v1/control/settings")).await;
    seen.problem(403, "control-token-not-configured");
    server.fixture.settings.send_modify(|settings| {
        std::sync::Arc::make_mut(settings).http.control_token = Some(CONTROL.into());
    });
    until(async || {
        let rows = server.audit().await;
        (rows[0]["problem"] == "no control token is configured").then_some(())
    })
    .await;
}

#[actix_web::test]
async fn a_cookie_opens_no_control_and_a_wrong_one_is_forgotten() {
    let server = Controlled::new().await;
    let cookie = |token: &str| ("Cookie", format!("highwater_read={token}"));
    let request = TestRequest::post()
        .uri("/v1/control/services/worker/stop")
        .insert_header(cookie("control%2Dtoken%2D0123456789"));
    let seen = server.fixture.call(request).await;
    seen.problem(401, "unauthorized");
    assert_eq!(
        server.get("services/worker").await.json()["state"],
        "running"
    );
    let page = TestRequest::get().uri("/").insert_header(cookie("stale"));
    let seen = server.fixture.call(page).await;
    assert_eq!(seen.status, 303);
    assert!(
        seen.header("set-cookie")
            .contains("highwater_read=; Path=/; Max-Age=0")
    );
}

#[actix_web::test]
async fn control_works_without_the_database_and_says_what_is_missing() {
    let server = Controlled::new().await;
    server.fixture.store.close();
    let seen = server.post("services/worker/stop").await;
    assert_eq!(seen.status, 202, "{}", seen.text());
    assert!(seen.header("highwater-warning").contains("not recorded"));
    server.until_is("worker", "stopped").await;
    let seen = server.post("services/nobody/stop").await;
    seen.problem(404, "unknown-service");
    assert!(seen.header("highwater-warning").contains("not recorded"));
}

#[actix_web::test]
async fn what_a_client_does_not_wait_for_is_done_and_recorded() {
    let server = Controlled::new().await;
    let (begin, begun) = tokio::sync::oneshot::channel::<()>();
    let (go_on, may_go_on) = tokio::sync::oneshot::channel::<()>();
    let act = Act::of(&TestRequest::default().to_http_request(), "services.stop");
    let http = server.fixture.http.clone();
    let call = http.act(act, async move {
        begin.send(()).unwrap();
        may_go_on.await.unwrap();
        Ok(Done::from(()))
    });
    tokio::select! {
        _ = call => panic!("it waits"),
        begun = begun => begun.unwrap(),
    }
    assert_eq!(server.audit().await.len(), 0);
    go_on.send(()).unwrap();
    let rows = until(async || {
        let rows = server.audit().await;
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(rows[0]["outcome"], "done");
}

#[actix_web::test]
async fn an_action_that_breaks_off_is_recorded_as_failed() {
    let server = Controlled::new().await;
    let act = Act::of(&TestRequest::default().to_http_request(), "services.stop");
    let call = server
        .fixture
        .http
        .act::<()>(act, async { panic!("injected") });
    let problem = call.await.unwrap_err().0;
    assert_eq!(problem.status, 500);
    assert_eq!(server.audit().await[0]["outcome"], "failed");
}

#[actix_web::test]
async fn reviving_over_http_is_recorded() {
    let server = Controlled::new().await;
    let revive = |ledger: &str| {
        TestRequest::post()
            .uri("/v1/batches/revive")
            .insert_header(("Authorization", format!("Bearer {CONTROL}")))
            .set_json(json!({"batches": [{"ledger": ledger, "batch_id": id(1)}]}))
    };
    let seen = server.fixture.call(revive("trace")).await;
    assert_eq!(seen.json(), json!({"revived": 0}));
    let seen = server.fixture.call(revive("nope")).await;
    seen.problem(422, "unknown-ledger");
    let rows = server.audit().await;
    assert_eq!(
        (&rows[0]["outcome"], &rows[0]["target"]),
        (&json!("refused"), &json!("nope"))
    );
    assert_eq!(
        (&rows[1]["outcome"], &rows[1]["target"]),
        (&json!("done"), &json!("trace"))
    );
    let details = json!({"batches": 1, "batch_ids": [id(1)], "revived": 0});
    assert_eq!(rows[1]["details"], details);
}

#[actix_web::test]
async fn the_audit_is_paged_and_filtered() {
    let server = Controlled::new().await;
    for n in 0..5 {
        let name = if n % 2 == 0 { "a" } else { "b" };
        server.post(&format!("services/{name}/stop")).await;
    }
    let first = server.get("audit?limit=3").await.json();
    assert_eq!(first["items"].as_array().unwrap().len(), 3);
    let cursor = first["next"].as_str().unwrap();
    let second = server
        .get(&format!("audit?limit=3&cursor={cursor}"))
        .await
        .json();
    assert_eq!(second["items"].as_array().unwrap().len(), 2);
    assert_eq!(second["next"], Value::Null);
    let of_a = server
        .get("audit?target=a&action=services.stop")
        .await
        .json();
    assert_eq!(of_a["items"].as_array().unwrap().len(), 3);
    let none = server.get("audit?who=nobody").await.json();
    assert_eq!(none["items"], json!([]));
    for wrong in ["limit=0", "limit=x", "cursor=7", "before=3", "action=%00"] {
        let seen = server.get(&format!("audit?{wrong}")).await;
        seen.problem(400, "invalid-query");
    }
}
