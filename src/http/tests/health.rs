//! `/livez`, `/readyz`, `/metrics`, and the server on a socket.

use super::super::state::ReloadReport;
use super::super::testing::{Fixture, id, ledger_view, service};
use crate::flows::batches::{BatchesView, BreakerPosition};
use crate::ledgers::LedgerKind;
use crate::time::Timestamp;
use crate::watchdog::ServiceState;
use actix_web::test::TestRequest;
use serde_json::json;
use std::sync::Arc;

#[actix_web::test]
async fn readiness_has_reasons_and_warnings() {
    let fixture = Fixture::new().await;
    let seen = fixture.get("/readyz").await;
    assert_eq!(
        seen.json(),
        json!({"ready": true, "reasons": [], "warnings_total": 0, "warnings": []})
    );

    let mut view = ledger_view("trace", LedgerKind::Sawtooth);
    view.breaker = BreakerPosition::Open;
    view.last_error = Some("cannot connect: refused".into());
    fixture.view.send_replace(Arc::new(BatchesView {
        ledgers: vec![view],
    }));
    fixture.reload.send_replace(ReloadReport {
        at: Some(Timestamp::now()),
        problem: Some("highwater.toml:3: unknown key".into()),
        ..ReloadReport::default()
    });
    let seen = fixture.get("/readyz").await;
    assert_eq!(seen.status, 200);
    let warnings = seen.json()["warnings"].to_string();
    assert!(
        warnings.contains("ledger trace is failing: cannot connect"),
        "{warnings}"
    );
    assert!(warnings.contains("highwater.toml:3"), "{warnings}");

    *fixture.services.lock().unwrap() = vec![service("updater", ServiceState::Stopped)];
    let seen = fixture.get("/readyz").await;
    assert_eq!(seen.status, 200);
    assert!(seen.text().contains("highwater ctl start updater"));
    let page = fixture.get("/").await.text();
    assert!(page.contains("service updater was stopped"), "{page}");

    *fixture.services.lock().unwrap() = vec![service("updater", ServiceState::Failed)];
    fixture.draining.send_replace(true);
    let seen = fixture.get("/readyz").await;
    assert_eq!(seen.status, 503);
    let reasons = seen.json()["reasons"].to_string();
    assert!(reasons.contains("stopping") && reasons.contains("service updater has failed"));
    assert_eq!(fixture.get("/livez").await.status, 200);
}

#[actix_web::test]
async fn strangers_are_told_no_details() {
    let fixture = Fixture::with(|settings| {
        settings.http.read_token = Some("read-token-0123456789".into());
        settings.http.control_token = Some("control-token-0123456789".into());
    })
    .await;
    let mut view = ledger_view("trace", LedgerKind::Sawtooth);
    view.breaker = BreakerPosition::Open;
    view.last_error = Some("cannot connect: inner-host".into());
    fixture.view.send_replace(Arc::new(BatchesView {
        ledgers: vec![view],
    }));
    let failed = ["updater", "scheduler"].map(|name| service(name, ServiceState::Failed));
    *fixture.services.lock().unwrap() = failed.into();
    let seen = fixture.get("/readyz").await;
    assert_eq!(seen.status, 503);
    assert_eq!(
        seen.json(),
        json!({"ready": false, "reasons": ["a service has failed"], "warnings_total": 1, "warnings": []})
    );
    for token in ["read-token-0123456789", "control-token-0123456789"] {
        let request = TestRequest::get()
            .uri("/readyz")
            .insert_header(("Authorization", format!("Bearer {token}")));
        let text = fixture.call(request).await.text();
        assert!(
            text.contains("inner-host") && text.contains("updater"),
            "{text}"
        );
    }
}

#[actix_web::test]
async fn without_tokens_only_this_machines_names_are_answered() {
    let fixture = Fixture::new().await;
    let ask = |host: &'static str| {
        TestRequest::get()
            .uri("/v1/ledgers")
            .insert_header(("Host", host))
    };
    for own in ["localhost:8780", "127.0.0.1:8780", "[::1]:8780"] {
        assert_eq!(fixture.call(ask(own)).await.status, 200, "{own}");
    }
    let seen = fixture.call(ask("evil.example:8780")).await;
    seen.problem(421, "misdirected");
    assert_eq!(seen.header("x-content-type-options"), "nosniff");
    // Tokens for all that is otherwise open keep strangers out by themselves.
    fixture.settings.send_modify(|settings| {
        Arc::make_mut(settings).http.read_token = Some("read-token-0123456789".into());
    });
    fixture
        .call(ask("evil.example"))
        .await
        .problem(421, "misdirected");
    fixture.settings.send_modify(|settings| {
        Arc::make_mut(settings).http.intake_token = Some("intake-token-0123456789".into());
    });
    fixture
        .call(ask("evil.example"))
        .await
        .problem(401, "unauthorized");
}

#[actix_web::test]
async fn readiness_fails_without_the_database() {
    let fixture = Fixture::new().await;
    fixture.store.close();
    let seen = fixture.get("/readyz").await;
    assert_eq!(seen.status, 503);
    assert_eq!(seen.json()["reasons"][0], "the database is out of reach");
}

#[actix_web::test]
async fn readiness_fails_while_migrations_are_wanted() {
    use crate::config::DatabaseLocation;
    let fixture = Fixture::new().await;
    // As after a restore of an older backup: the file has none of the tables.
    let folder = tempfile::tempdir().unwrap();
    fixture.settings.send_modify(|settings| {
        let older = folder.path().join("older.db");
        Arc::make_mut(settings).database.location = DatabaseLocation::Sqlite(older);
    });
    let seen = fixture.get("/readyz").await;
    assert_eq!(seen.status, 503);
    let reasons = seen.json()["reasons"].to_string();
    assert!(reasons.contains("wants migrations"), "{reasons}");
}

#[actix_web::test]
async fn metrics_have_bounded_labels() {
    let fixture = Fixture::new().await;
    let batches: Vec<_> = (0..3)
        .map(|n| json!({"ledger": "trace", "batch_id": id(n)}))
        .collect();
    fixture
        .post("/v1/batches", &json!({"batches": batches}))
        .await;
    // Rows of ledgers that are no longer configured: one label for all of them.
    fixture.settings.send_modify(|settings| {
        let changed = Arc::make_mut(settings);
        changed.ledgers.remove(0);
    });
    let mut view = ledger_view("supply", LedgerKind::Splinter);
    view.failing_services_total = 250;
    fixture.view.send_replace(Arc::new(BatchesView {
        ledgers: vec![view],
    }));
    let text = fixture.get("/metrics").await.text();
    for line in [
        // All of them, though a view names a hundred at most.
        "highwater_ledger_failing_services{ledger=\"supply\"} 250",
        "highwater_x_total 1",
        "highwater_batches{ledger=\"supply\",status=\"pending\"} 0",
        "highwater_batches{ledger=\"other\",status=\"pending\"} 3",
        "highwater_batches_oldest_due_seconds{ledger=\"supply\"} 0",
        "highwater_ledger_breaker_open{ledger=\"supply\"} 0",
        "highwater_ledger_in_flight{ledger=\"supply\"} 2",
        "highwater_ledger_queued{ledger=\"supply\"} 3",
        "highwater_service_restarts_total{service=\"scheduler\",reason=\"panic\"} 2",
        "highwater_intercom_messages_total{service=\"scheduler\",from=\"updater\",message=\"Fetch\"} 12345",
        "highwater_reload_failed 0",
        "highwater_ready 1",
    ] {
        assert!(text.lines().any(|seen| seen == line), "{line}\n{text}");
    }
    assert!(!text.contains("trace") && !text.contains(&id(1)));
    let mut typed = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(
                typed.insert(rest.split(' ').next().unwrap()),
                "twice: {rest}"
            );
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let name = name.split('{').next().unwrap();
            assert!(typed.contains(name), "{line}");
            value.parse::<f64>().unwrap();
        }
    }
}

#[actix_web::test]
async fn the_server_answers_on_its_listener_and_stops_when_told() {
    let fixture = Fixture::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = crate::http::server(fixture.state.clone(), listener, 1).unwrap();
    let handle = server.handle();
    let running = actix_web::rt::spawn(server);
    let client = reqwest::Client::new();
    let answer = client
        .get(format!("http://{address}/livez"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.text().await.unwrap(), "alive\n");
    let page = client
        .get(format!("http://{address}/"))
        .header("Accept-Encoding", "gzip");
    let answer = page.send().await.unwrap();
    assert_eq!(
        answer.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .split(';')
            .next(),
        Some("default-src 'self'")
    );
    assert!(answer.text().await.unwrap().contains("All ledgers answer"));
    handle.stop(true).await;
    running.await.unwrap().unwrap();
    client
        .get(format!("http://{address}/livez"))
        .send()
        .await
        .unwrap_err();
}
