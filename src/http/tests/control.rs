//! `/v1/control`: what an operator may do, and every bad input.

use super::super::testing::Fixture;
use super::controlled::{CONTROL, Controlled, until};
use super::openapi::conforms;
use actix_web::http::Method;
use actix_web::test::TestRequest;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[actix_web::test]
async fn a_service_is_stopped_started_and_restarted_and_each_is_recorded() {
    let server = Controlled::new().await;
    let listed = server.get("services").await.json();
    assert_eq!(listed["items"][0]["name"], "worker");

    let stopped = server.post("services/worker/stop").await;
    assert_eq!(stopped.status, 202, "{}", stopped.text());
    assert_eq!(stopped.json()["name"], "worker");
    server.until_is("worker", "stopped").await;
    assert_eq!(server.post("services/worker/start").await.status, 202);
    let running = server.until_is("worker", "running").await;
    assert_eq!(server.post("services/worker/restart").await.status, 202);
    until(async || {
        let seen = server.get("services/worker").await.json();
        (seen["generation"].as_u64() > running["generation"].as_u64() && seen["state"] == "running")
            .then_some(())
    })
    .await;

    let audit = server.audit().await;
    let told: Vec<_> = audit
        .iter()
        .map(|row| {
            (
                row["action"].as_str().unwrap(),
                row["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("services.restart", "done"),
            ("services.start", "done"),
            ("services.stop", "done")
        ]
    );
    assert_eq!(audit[2]["who"], "control token from 192.0.2.7 (eve@desk)");
    assert_eq!(audit[2]["target"], "worker");
    assert_eq!(audit[2]["problem"], Value::Null);
    assert!(audit[2]["details"]["state"].is_string(), "{audit:?}");
}

#[actix_web::test]
async fn an_unknown_service_is_refused_with_those_there_are() {
    let server = Controlled::new().await;
    for what in ["start", "stop", "restart"] {
        let seen = server.post(&format!("services/wroker/{what}")).await;
        let problem = seen.problem(404, "unknown-service");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("\"wroker\""), "{detail}");
        assert!(detail.contains("worker, keeper"), "{detail}");
    }
    let seen = server.get("services/nobody").await;
    seen.problem(404, "unknown-service");
    let kept = server.post("services/keeper/stop").await;
    kept.problem(409, "not-allowed");
    let audit = server.audit().await;
    assert_eq!(audit.len(), 4, "looking is not recorded: {audit:?}");
    assert!(audit.iter().all(|row| row["outcome"] == "refused"));
    assert_eq!(audit[3]["target"], "wroker");
    assert!(audit[3]["problem"].as_str().unwrap().contains("worker"));
    assert_eq!(server.get("services/worker").await.json()["generation"], 1);
}

#[actix_web::test]
async fn settings_are_listed_set_and_forgotten() {
    let server = Controlled::new().await;
    let body = json!({"set": {"batches.poll_interval": "2s", "batches.commit_rows": 700,
        "http.control_token": true}});
    let seen = server.patch(body).await;
    assert_eq!(seen.status, 200, "{}", seen.text());
    assert_eq!(seen.json()["changed"].as_array().unwrap().len(), 3);
    let set = server.set.lock().unwrap().clone();
    assert_eq!(set["batches.commit_rows"], "700");
    assert_eq!(set["http.control_token"], "true");
    let listed = server.get("settings").await.json();
    assert_eq!(listed["next"], Value::Null);
    assert_eq!(
        listed["items"][1],
        json!({"key": "batches.poll_interval", "value": "2s", "origin": "control", "place": null})
    );
    let recorded = &server.audit().await[0];
    assert_eq!(recorded["action"], "settings.change");
    assert_eq!(recorded["details"]["set"]["batches.poll_interval"], "2s");
    assert_eq!(recorded["details"]["set"]["http.control_token"], "***");

    let seen = server
        .patch(json!({"forget": ["batches.poll_interval"]}))
        .await;
    assert_eq!(seen.json()["changed"], json!(["batches.poll_interval"]));
    assert!(
        !server
            .set
            .lock()
            .unwrap()
            .contains_key("batches.poll_interval")
    );
    assert_eq!(server.audit().await[0]["target"], "batches.poll_interval");
}

#[actix_web::test]
async fn wrong_settings_are_all_named_and_nothing_changes() {
    let server = Controlled::new().await;
    let fields = |problem: &Value| -> Vec<String> {
        let errors = problem["errors"].as_array().unwrap();
        errors
            .iter()
            .map(|error| error["field"].as_str().unwrap().to_owned())
            .collect()
    };
    // What the application refuses.
    let body = json!({"set": {"batches.commit_rows": 5, "batches.pol": "1s",
        "batches.poll_interval": "5 parsec"}, "forget": ["log.filtr"]});
    let problem = server.patch(body).await.problem(422, "invalid-fields");
    assert_eq!(
        fields(&problem),
        ["set.batches.pol", "set.batches.poll_interval", "forget[0]"]
    );
    assert_eq!(
        problem["errors"][1]["message"],
        "\"5 parsec\" is no duration"
    );
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .starts_with("nothing was done")
    );
    // What is refused before it is asked.
    let many: BTreeMap<String, i32> = (0..101).map(|n| (format!("k{n}"), n)).collect();
    for (body, wanted) in [
        (json!({}), vec!["set"]),
        (json!({"set": many}), vec!["set"]),
        (
            json!({"set": {"batches.commit_rows": null, "batches.repoll": {"min": "1s"}, "x": [1]}}),
            vec!["set.batches.commit_rows", "set.batches.repoll", "set.x"],
        ),
        (
            json!({"set": {"batches.commit_rows": 5}, "forget": ["batches.commit_rows", "a", "a", "\u{0}"]}),
            vec!["forget[0]", "forget[2]", "forget[3]"],
        ),
    ] {
        let problem = server.patch(body).await.problem(422, "invalid-fields");
        assert_eq!(fields(&problem), wanted);
    }
    let problem = server.patch(json!({"sets": {}})).await;
    problem.problem(400, "invalid-json");
    assert_eq!(*server.set.lock().unwrap(), BTreeMap::new());
    let audit = server.audit().await;
    assert_eq!(audit.len(), 6);
    assert!(audit.iter().all(|row| row["outcome"] == "refused"));
    let told = audit[5].to_string();
    assert!(told.contains("log.filtr"), "{told}");
    assert!(audit[5]["details"]["set"].is_array(), "keys alone: {told}");
    // A token typed in the wrong place stays with who typed it.
    assert!(!told.contains("parsec"), "{told}");
    assert_eq!(
        audit[5]["problem"],
        "nothing was done; refused: set.batches.pol, set.batches.poll_interval, forget[0]"
    );
    let seen = server.patch(json!({"set": "hunter2-hunter2"})).await;
    let problem = seen.problem(400, "invalid-json").to_string();
    assert!(problem.contains("hunter2"), "{problem}");
    let told = server.audit().await[0].to_string();
    assert!(told.contains("not the JSON expected, at set"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[actix_web::test]
async fn a_reload_takes_no_body_or_reset() {
    let server = Controlled::new().await;
    let seen = server.post("reload").await;
    let nothing = json!({"changed": [], "needs_restart": ["http.listen"]});
    assert_eq!((seen.status, seen.json()), (200, nothing));
    server
        .patch(json!({"set": {"batches.commit_rows": 5}}))
        .await;

    let seen = server.post("reload").await;
    let problem = seen.problem(422, "invalid-configuration");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 2);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("highwater.toml:3:1")
    );

    let body = Some(json!({"reset": true}));
    let seen = server.call(Method::POST, "reload", body).await;
    assert_eq!(seen.json()["changed"], json!(["batches.commit_rows"]));
    let body = Some(json!({"reset": "yes"}));
    let seen = server.call(Method::POST, "reload", body).await;
    seen.problem(400, "invalid-json");
    let form = TestRequest::post()
        .uri("/v1/control/reload")
        .insert_header(("Authorization", format!("Bearer {CONTROL}")))
        .set_payload("reset=true");
    let seen = server.fixture.call(form).await;
    seen.problem(415, "unsupported-media-type");
    let outcomes: Vec<String> = server
        .audit()
        .await
        .iter()
        .filter(|row| row["action"] == "reload")
        .map(|row| row["outcome"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(outcomes, ["refused", "refused", "done", "refused", "done"]);
}

#[actix_web::test]
async fn during_a_shutdown_everything_is_refused_and_nothing_changes() {
    let server = Controlled::new().await;
    let seen = server.post("shutdown").await;
    assert_eq!(seen.status, 202, "{}", seen.text());
    assert_eq!(seen.json()["server"], "host-1");
    server.fixture.draining.send_replace(true);
    for path in [
        "services/worker/stop",
        "services/worker/restart",
        "reload",
        "shutdown",
    ] {
        let seen = server.post(path).await;
        seen.problem(503, "shutting-down");
    }
    let seen = server
        .patch(json!({"set": {"batches.commit_rows": 5}}))
        .await;
    seen.problem(503, "shutting-down");
    assert_eq!(*server.set.lock().unwrap(), BTreeMap::new());
    assert_eq!(
        server.get("services/worker").await.json()["state"],
        "running"
    );
    let audit = server.audit().await;
    assert_eq!(audit.len(), 6);
    assert!(audit[..5].iter().all(|row| row["outcome"] == "refused"));
    assert_eq!(audit[5]["outcome"], "done");
}

#[actix_web::test]
async fn nobody_who_carries_orders_out_means_shutting_down() {
    let fixture = Fixture::with(|settings| {
        settings.http.control_token = Some(SecretString::from(CONTROL));
    })
    .await;
    drop(fixture.orders.lock().unwrap().take());
    let request = TestRequest::get()
        .uri("/v1/control/settings")
        .insert_header(("Authorization", format!("Bearer {CONTROL}")));
    let seen = fixture.call(request).await;
    seen.problem(503, "shutting-down");
}

#[actix_web::test]
async fn answers_are_as_documented() {
    let server = Controlled::new().await;
    let body = json!({"set": {"batches.poll_interval": "2s"}});
    let samples = [
        ("Reloaded", server.patch(body).await.json()),
        ("SettingList", server.get("settings").await.json()),
        (
            "ServiceStatus",
            server.post("services/worker/restart").await.json(),
        ),
        ("ShutdownBody", server.post("shutdown").await.json()),
        ("AuditList", server.get("audit").await.json()),
    ];
    let request = TestRequest::get()
        .uri("/openapi.json")
        .insert_header(("Authorization", format!("Bearer {CONTROL}")));
    let document = server.fixture.call(request).await.json();
    for (schema, sample) in samples {
        let schema = &document["components"]["schemas"][schema];
        conforms(&document, schema, &sample, "$")
            .unwrap_or_else(|why| panic!("{why}\n{sample}\n{schema}"));
    }
}
