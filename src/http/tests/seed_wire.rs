//! The seed's own wire: what its followers would misread is refused.

use super::super::seed_wire::{SeedWire, app};
use super::super::testing::Fixture;
use super::Seen;
use crate::config::{DatasetSettings, DatasetSource, HistorySettings};
use crate::flows::replicas::{Content, ContentKind, DatasetName, Entry, Modification};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::web;
use secrecy::SecretString;
use serde_json::json;
use std::net::SocketAddr;
use tokio::runtime::Handle;

async fn fixture() -> Fixture {
    Fixture::with(|settings| {
        settings.datasets = vec![DatasetSettings {
            name: DatasetName::parse("prices").unwrap(),
            source: None,
            history: HistorySettings::default(),
            token: None,
            seed_listen: Some(listen()),
        }];
        settings.replication.max_chunk = 50;
        settings.replication.max_modifications = 5;
    })
    .await
}

fn listen() -> SocketAddr {
    ([127, 0, 0, 1], 8790).into()
}

fn prices() -> Content {
    Content {
        kind: ContentKind::Dataset,
        name: DatasetName::parse("prices").unwrap(),
    }
}

async fn call(fixture: &Fixture, request: TestRequest) -> Seen {
    let wire = SeedWire {
        listen: listen(),
        only: None,
        datasets: fixture.state.datasets.clone(),
        settings: fixture.state.settings.clone(),
        draining: fixture.state.draining.clone(),
        runtime: Handle::current(),
    };
    let service = init_service(app(web::Data::new(wire))).await;
    let response = call_service(&service, request.to_request()).await;
    Seen {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: read_body(response).await.to_vec(),
    }
}

async fn fetch(fixture: &Fixture, body: &str) -> Seen {
    // As the seed's client does: without a content type.
    let request = TestRequest::get()
        .uri("/fetch")
        .set_payload(body.to_owned());
    call(fixture, request).await
}

async fn insert(fixture: &Fixture, body: &str) -> Seen {
    let request = TestRequest::post()
        .uri("/insert")
        .set_payload(body.to_owned());
    call(fixture, request).await
}

fn update(key: &str, value: &str) -> Modification {
    Modification::Update(Entry {
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

#[actix_web::test]
async fn what_is_inserted_is_fetched_with_the_words_of_the_seed() {
    let fixture = fixture().await;
    let body = r#"[{"Update":["a","text \"1\""]},{"Update":["b","2"]},{"Delete":"c"}]"#;
    assert_eq!(insert(&fixture, body).await.status, 200);
    fixture
        .contents
        .write(&prices(), &[update("d", "{\"x\":1}")]);
    let info = call(&fixture, TestRequest::get().uri("/info")).await;
    assert_eq!(info.text(), "[2,3]");
    let fetched = fetch(&fixture, "[0,20,1]").await;
    assert_eq!(
        fetched.json(),
        json!({
            "head": 2, "db_len": 3,
            "entries": [
                {"Update": ["a", "text \"1\""]}, {"Update": ["b", "2"]}, {"Update": ["d", "{\"x\":1}"]},
            ],
            "diff": [{"Update": ["d", "{\"x\":1}"]}],
        })
    );
}

#[actix_web::test]
async fn a_diff_of_many_pages_is_answered_whole_since_the_seed_knows_no_pages() {
    let fixture = fixture().await;
    for n in 0..9 {
        let change = update(&format!("k{}", n % 4), &n.to_string());
        fixture.contents.write(&prices(), &[change]);
    }
    *fixture.contents.heads_a_page.lock().unwrap() = Some(2);
    let fetched = fetch(&fixture, "[0,2,1]").await.json();
    assert_eq!(fetched["head"], 9);
    assert_eq!(fetched["entries"].as_array().unwrap().len(), 2);
    let diff = [("k1", "5"), ("k2", "6"), ("k3", "7"), ("k0", "8")];
    let diff = diff.map(|pair| json!({"Update": pair}));
    assert_eq!(fetched["diff"], json!(diff));
}

#[actix_web::test]
async fn what_would_lose_entries_in_silence_is_refused() {
    let fixture = fixture().await;
    for n in 0..5 {
        let change = update(&format!("k{n}"), "1");
        fixture.contents.write(&prices(), &[change]);
    }
    let stale = fetch(&fixture, "[0,2,9]").await.problem(410, "stale-head");
    assert_eq!(stale["info"]["head"], 5);
    {
        let mut all = fixture.contents.by_content.lock().unwrap();
        all.get_mut(&prices()).unwrap().oldest_head = 3;
    }
    fetch(&fixture, "[0,2,2]").await.problem(410, "stale-head");
    fetch(&fixture, "[0,51,5]")
        .await
        .problem(413, "chunk-too-large");
    {
        let mut all = fixture.contents.by_content.lock().unwrap();
        all.get_mut(&prices()).unwrap().cut_at = 3;
    }
    fetch(&fixture, "[0,5,5]")
        .await
        .problem(413, "chunk-too-large");
    let last = fetch(&fixture, "[2,9,5]").await;
    assert_eq!(last.json()["entries"].as_array().unwrap().len(), 3);
    for wrong in ["[2,1,0]", "[0,1]", "", "[-1,2,0]"] {
        assert_eq!(fetch(&fixture, wrong).await.status, 400, "{wrong}");
    }
}

#[actix_web::test]
async fn nothing_is_inserted_from_pages_without_a_token_or_into_a_table() {
    let fixture = fixture().await;
    let body = r#"[{"Delete":"a"}]"#;
    let from = |header: (&'static str, &'static str)| {
        TestRequest::post()
            .uri("/insert")
            .insert_header(header)
            .set_payload(body)
    };
    call(&fixture, from(("Origin", "http://evil.example")))
        .await
        .problem(403, "no-browsers");
    call(&fixture, from(("Host", "evil.example")))
        .await
        .problem(421, "misdirected");
    insert(&fixture, r#"[{"Update":["","x"]}]"#)
        .await
        .problem(422, "invalid-fields");
    let many = vec![json!({"Delete": "a"}); 6];
    insert(&fixture, &json!(many).to_string())
        .await
        .problem(413, "modifications-too-large");
    insert(&fixture, "{").await.problem(400, "invalid-json");
    let change = |change: &dyn Fn(&mut crate::config::Settings)| {
        fixture.settings.send_modify(|settings| {
            let mut changed = (**settings).clone();
            change(&mut changed);
            *settings = changed.into();
        });
    };
    change(&|settings| {
        settings.http.intake_token = Some(SecretString::from("intake-token-0123456789"));
    });
    insert(&fixture, body)
        .await
        .problem(403, "intake-token-needed");
    change(&|settings| settings.datasets[0].source = Some(DatasetSource::Sites));
    insert(&fixture, body).await.problem(409, "read-only");
    fixture.draining.send_replace(true);
    insert(&fixture, body).await.problem(503, "draining");
    assert!(fixture.contents.requests.lock().unwrap().is_empty());
    let lost = call(&fixture, TestRequest::get().uri("/")).await;
    lost.problem(404, "not-found");
}

#[actix_web::test]
async fn an_address_serves_the_dataset_that_has_it_now() {
    let fixture = fixture().await;
    fixture.contents.write(&prices(), &[update("a", "1")]);
    let info = async || call(&fixture, TestRequest::get().uri("/info")).await;
    assert_eq!(info().await.json(), json!([1, 1]));
    let rename = |to: Option<&str>| {
        fixture.settings.send_modify(|settings| {
            let mut changed = (**settings).clone();
            match to {
                Some(to) => changed.datasets[0].name = DatasetName::parse(to).unwrap(),
                None => changed.datasets.clear(),
            }
            *settings = changed.into();
        });
    };
    rename(Some("rates"));
    info().await.problem(503, "no-copy-yet");
    let inserted = insert(&fixture, r#"[{"Update":["b","2"]},{"Update":["c","3"]}]"#).await;
    assert_eq!(inserted.status, 200);
    assert_eq!(info().await.json(), json!([1, 2]));
    rename(None);
    info().await.problem(404, "dataset-not-found");
}
