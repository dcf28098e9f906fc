//! `/v1/control`: what an operator may do, every bad input, and what is
//! recorded of it.

use super::super::audit::{Act, Auditor, Done};
use super::super::guesses::Guesses;
use super::super::state::Http;
use super::super::testing::{Fixture, id};
use super::Seen;
use super::openapi::conforms;
use crate::watchdog::{
    EffectiveSetting, Keeper, Order, OrderError, Orders, Registration, Reloaded, Sentinel,
    ServiceContext,
};
use actix::{Actor, Context};
use actix_web::http::Method;
use actix_web::test::TestRequest;
use actix_web::web;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CONTROL: &str = "control-token-0123456789";
const WRONG: &str = "another-token-0123456789";

/// A service that does nothing.
struct Idle {
    _context: ServiceContext,
}

impl Actor for Idle {
    type Context = Context<Self>;
}

/// A server under control: services `worker` and `keeper`, an application that
/// knows a few settings, and a clock for the limit on wrong tokens.
struct Controlled {
    fixture: Fixture,
    clock: Arc<Mutex<Duration>>,
    /// Values set by control.
    set: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Controlled {
    async fn new() -> Self {
        let mut fixture = Fixture::with(|settings| {
            settings.http.control_token = Some(SecretString::from(CONTROL));
            settings.http.read_token = Some(SecretString::from("read-token-0123456789"));
        })
        .await;
        let clock = Arc::new(Mutex::new(Duration::from_secs(1000)));
        let told = Arc::clone(&clock);
        let state = fixture.state.clone();
        let runtime = tokio::runtime::Handle::current();
        fixture.http = web::Data::new(Http {
            guesses: Guesses::with_clock(move || *told.lock().unwrap()),
            auditor: Auditor::new(state.store.clone(), runtime.clone())
                .with_window(Duration::from_millis(200)),
            ..Http::new(state, runtime)
        });
        let query = fixture.state.control.clone();
        for (name, keeper) in [("worker", Keeper::Supervisor), ("keeper", Keeper::Root)] {
            let service = Registration::<Idle>::new(name)
                .built_by(|context| Ok::<_, Infallible>(Idle { _context: context }));
            query.register(service, keeper).unwrap();
        }
        query.start_all();
        drop(Sentinel::start(&query));
        actix_rt::spawn(async move {
            loop {
                let pause = query
                    .attend(Keeper::Supervisor)
                    .map_or(Duration::from_secs(60), |at| {
                        at.saturating_duration_since(std::time::Instant::now())
                    });
                drop(tokio::time::timeout(pause, query.bell(Keeper::Supervisor)).await);
            }
        });
        let orders = fixture.orders.lock().unwrap().take().unwrap();
        let set = Arc::new(Mutex::new(BTreeMap::new()));
        actix_rt::spawn(carry_out(orders, Arc::clone(&set)));
        let controlled = Self {
            fixture,
            clock,
            set,
        };
        controlled.until_is("worker", "running").await;
        controlled
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Seen {
        let mut request = TestRequest::default()
            .method(method)
            .uri(&format!("/v1/control/{path}"))
            .peer_addr("192.0.2.7:4711".parse().unwrap())
            .insert_header(("Authorization", format!("Bearer {CONTROL}")))
            .insert_header(("Highwater-Operator", "eve@desk"));
        if let Some(body) = body {
            request = request.set_json(body);
        }
        self.fixture.call(request).await
    }

    async fn get(&self, path: &str) -> Seen {
        self.call(Method::GET, path, None).await
    }

    async fn post(&self, path: &str) -> Seen {
        self.call(Method::POST, path, None).await
    }

    async fn patch(&self, body: Value) -> Seen {
        self.call(Method::PATCH, "settings", Some(body)).await
    }

    /// Waits until a service is in a state; answers it.
    async fn until_is(&self, service: &str, state: &str) -> Value {
        let seen = until(async || {
            let seen = self.get(&format!("services/{service}")).await.json();
            (seen["state"] == state).then_some(seen)
        });
        seen.await
    }

    /// The audit, newest first.
    async fn audit(&self) -> Vec<Value> {
        let seen = self.get("audit").await.json();
        seen["items"].as_array().unwrap().clone()
    }

    /// A request with another token.
    async fn guess(&self, path: &str, address: &str) -> Seen {
        let request = TestRequest::post()
            .uri(path)
            .peer_addr(format!("{address}:1").parse().unwrap())
            .insert_header(("Authorization", format!("Bearer {WRONG}")));
        self.fixture.call(request).await
    }
}

async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .expect("it never came true")
}

/// Plays the application: knows two settings, one of which is a duration.
async fn carry_out(mut orders: Orders, set: Arc<Mutex<BTreeMap<String, String>>>) {
    while let Some(order) = orders.next().await {
        let mut set = set.lock().unwrap();
        match order {
            Order::Reload { reset, reply } => {
                let changed: Vec<String> = if reset {
                    std::mem::take(&mut *set).into_keys().collect()
                } else {
                    Vec::new()
                };
                let answer = if set.contains_key("batches.commit_rows") {
                    let mistakes = ["highwater.toml:3:1: no key", "batches: does not fit"];
                    Err(OrderError::Refused(mistakes.map(str::to_owned).to_vec()))
                } else {
                    Ok(Reloaded {
                        changed,
                        needs_restart: vec!["http.listen".into()],
                    })
                };
                drop(reply.send(answer));
            }
            Order::Change { changes, reply } => {
                let known = [
                    "batches.commit_rows",
                    "batches.poll_interval",
                    "http.control_token",
                ];
                let mut mistakes = Vec::new();
                for (key, value) in &changes {
                    let value = value.as_deref();
                    if !known.contains(&key.as_str()) {
                        mistakes.push(format!("control: {key}: unknown key"));
                    } else if key == "batches.poll_interval"
                        && value.is_some_and(|v| !v.ends_with('s'))
                    {
                        let value = value.unwrap();
                        mistakes.push(format!("control: {key}: \"{value}\" is no duration"));
                    }
                }
                let answer = if mistakes.is_empty() {
                    for (key, value) in &changes {
                        match value {
                            Some(value) => drop(set.insert(key.clone(), value.clone())),
                            None => drop(set.remove(key)),
                        }
                    }
                    Ok(Reloaded {
                        changed: changes.into_keys().collect(),
                        needs_restart: Vec::new(),
                    })
                } else {
                    Err(OrderError::Refused(mistakes))
                };
                drop(reply.send(answer));
            }
            Order::Settings { reply } => {
                let shown = set.iter().map(|(key, value)| EffectiveSetting {
                    key: key.clone(),
                    value: if key.ends_with("token") {
                        "***".into()
                    } else {
                        value.clone()
                    },
                    origin: "control".into(),
                    place: None,
                });
                drop(reply.send(Ok(shown.collect())));
            }
            Order::Shutdown { reply } => drop(reply.send(Ok(()))),
        }
    }
}

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
