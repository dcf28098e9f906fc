//! Pages: what a person reads, with hostile data in the database.

use super::super::state::ReloadReport;
use super::super::testing::{Fixture, id, ledger_view, service, trouble};
use crate::flows::batches::{BatchKey, BatchesView, BreakerPosition};
use crate::ledgers::LedgerKind;
use crate::store::NewBatch;
use crate::time::Timestamp;
use crate::watchdog::ServiceState;
use actix_web::test::TestRequest;
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;

fn new_batch(ledger: &str, service_id: &str, batch_id: &str) -> NewBatch {
    NewBatch {
        key: BatchKey {
            ledger: ledger.into(),
            service_id: service_id.into(),
            batch_id: batch_id.into(),
        },
        transaction_ids: Vec::new(),
    }
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for words in words {
        assert!(text.contains(words), "lacks {words}:\n{text}");
    }
}

#[actix_web::test]
async fn the_status_page_says_what_fails_and_why() {
    let fixture = Fixture::new().await;
    let mut batches: Vec<NewBatch> = (0..1200)
        .map(|n| new_batch("supply", "c1::a000", &id(n)))
        .collect();
    batches.push(new_batch("gone", "", &id(1)));
    fixture.store.track_batches(batches).await.unwrap();
    let calm = fixture.get("/").await.text();
    has(
        &calm,
        &[
            "<!DOCTYPE html>",
            "All ledgers answer",
            "1,200",
            "not configured",
            "at risk",
            "may be forgotten by the ledger before it is asked",
            "<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>",
        ],
    );
    let mut trace = ledger_view("trace", LedgerKind::Sawtooth);
    trace.breaker = BreakerPosition::Open;
    trace.failures = 7;
    trace.last_error = Some("cannot connect: <refused>".into());
    trace.retry_at = Some(Timestamp::now().plus(Duration::from_secs(125)));
    let mut supply = ledger_view("supply", LedgerKind::Splinter);
    supply.failing_services.push(trouble("c1::a000"));
    supply.failing_services_total = 1;
    fixture.view.send_replace(Arc::new(BatchesView {
        ledgers: vec![trace, supply],
    }));
    fixture.reload.send_replace(ReloadReport {
        at: Some(Timestamp::now()),
        problem: Some("highwater.toml:3: unknown key".into()),
        ..ReloadReport::default()
    });
    let failing = fixture.get("/").await.text();
    has(
        &failing,
        &[
            "1 of 2 ledgers is failing",
            "cannot connect: &lt;refused&gt;",
            "7 failures in a row",
            "in 2 min",
            "1 service backed off",
            "highwater.toml:3: unknown key",
            "panicked: &lt;injected&gt;",
        ],
    );
    *fixture.services.lock().unwrap() = vec![service("updater", ServiceState::Failed)];
    has(
        &fixture.get("/").await.text(),
        &["Service updater has failed"],
    );
    fixture.draining.send_replace(true);
    has(&fixture.get("/").await.text(), &["This server is stopping"]);
}

#[actix_web::test]
async fn the_script_gets_the_live_part_only() {
    let fixture = Fixture::new().await;
    let request = TestRequest::get()
        .uri("/")
        .insert_header(("X-Highwater-Fragment", "1"));
    let seen = fixture.call(request).await;
    assert!(seen.text().starts_with("<section class=\"headline"));
    assert!(!seen.text().contains("<html"));
    assert_eq!(seen.header("cache-control"), "no-store");
    assert!(
        seen.header("vary")
            .to_lowercase()
            .contains("x-highwater-fragment")
    );
}

#[actix_web::test]
async fn the_list_filters_and_pages_and_escapes() {
    let fixture = Fixture::new().await;
    let hostile = "<script>alert(1)</script>\"'&/?";
    let mut batches: Vec<NewBatch> = (0..150).map(|n| new_batch("trace", "", &id(n))).collect();
    batches.push(new_batch("trace", "", hostile));
    fixture.store.track_batches(batches).await.unwrap();
    let page = fixture
        .get("/batches?ledger=trace&status=&service_id=&batch_id=")
        .await
        .text();
    assert!(!page.contains("<script>alert"));
    has(
        &page,
        &[
            "option value=\"trace\" selected",
            "Older →",
            "pending",
            "due now",
        ],
    );
    let link = "/batches/trace/%3Cscript%3Ealert%281%29%3C%2Fscript%3E%22%27%26%2F%3F";
    has(&page, &[link]);
    let one = fixture.get(link).await;
    assert_eq!(one.status, 200, "{}", one.text());
    has(
        &one.text(),
        &[
            "&lt;script&gt;alert(1)",
            "Why not now",
            "waits for its turn",
        ],
    );
    let older = page
        .split("rel=\"next\" href=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let older = fixture.get(&older.replace("&amp;", "&")).await.text();
    has(&older, &["← Newest"]);
    assert!(!older.contains("Older →"));
    let wrong = fixture.get("/batches?limit=0").await;
    assert_eq!(wrong.status, 400);
    has(&wrong.text(), &["The query cannot be read", "1 to 1000"]);
    let missing = fixture.get("/batches/trace/nope").await;
    assert_eq!(missing.status, 404);
    has(&missing.text(), &["The batch is not tracked"]);
}

#[actix_web::test]
async fn pages_show_a_database_out_of_reach() {
    let fixture = Fixture::new().await;
    fixture.store.close();
    let status = fixture.get("/").await;
    assert_eq!(status.status, 200);
    has(
        &status.text(),
        &["The database does not answer", "there are none to show yet"],
    );
    let list = fixture.get("/batches").await;
    assert_eq!(list.status, 503);
    has(&list.text(), &["The database is out of reach"]);
}

#[actix_web::test]
async fn services_and_assets_are_served() {
    let fixture = Fixture::new().await;
    let page = fixture.get("/services").await.text();
    has(
        &page,
        &["scheduler", "running", "panic 2", "Fetch", "12,345"],
    );
    for (uri, kind) in [
        ("/assets/highwater.css?v=1", "text/css; charset=utf-8"),
        ("/assets/highwater.js", "text/javascript; charset=utf-8"),
        ("/assets/highwater.svg", "image/svg+xml"),
    ] {
        let seen = fixture.get(uri).await;
        assert_eq!((seen.status, seen.header("content-type")), (200, kind));
        assert_eq!(seen.header("cache-control"), "public, max-age=86400");
    }
    // Nothing inline, nothing from elsewhere: the policy would refuse it.
    assert!(!page.contains("style=") && !page.contains("//cdn") && !page.contains("<style"));
}

#[actix_web::test]
async fn browsers_log_in_with_the_read_token() {
    let token = "read-token-0123456789";
    let fixture = Fixture::with(|settings| {
        settings.http.read_token = Some(SecretString::from(token));
    })
    .await;
    let away = fixture.get("/batches?ledger=trace").await;
    assert_eq!(away.status, 303);
    let login = away.header("location").to_owned();
    assert_eq!(login, "/login?next=%2Fbatches%3Fledger%3Dtrace");
    let form = fixture.get(&login).await.text();
    has(&form, &["name=\"next\" value=\"/batches?ledger=trace\""]);
    let post = |token: &str| {
        TestRequest::post()
            .uri("/login")
            .set_form([("token", token), ("next", "/batches?ledger=trace")])
    };
    let wrong = fixture.call(post("not-the-token-at-all")).await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, ""));
    has(&wrong.text(), &["neither the read token"]);
    let right = fixture.call(post(token)).await;
    assert_eq!(
        (right.status, right.header("location")),
        (303, "/batches?ledger=trace")
    );
    let cookie = right.header("set-cookie");
    has(cookie, &["HttpOnly", "SameSite=Strict"]);
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let request = TestRequest::get()
        .uri("/batches")
        .insert_header(("Cookie", cookie));
    assert_eq!(fixture.call(request).await.status, 200);
}

#[actix_web::test]
async fn an_address_that_leads_nowhere_is_told_as_a_page_to_a_browser_and_as_json_to_a_program() {
    let fixture = Fixture::new().await;
    let ask = |path: &str, accept: &'static str| {
        TestRequest::get()
            .uri(path)
            .insert_header(("Accept", accept))
    };
    let browser = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";
    let page = fixture.call(ask("/nowhere%3Cb%3E", browser)).await;
    assert_eq!(page.status, 404);
    has(
        &page.text(),
        &["<!DOCTYPE html>", "/nowhere", "href=\"/sites\""],
    );
    assert!(!page.text().contains("<b>"));
    for (path, accept) in [("/nowhere", "*/*"), ("/v1/nowhere", browser)] {
        let answer = fixture.call(ask(path, accept)).await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
}
