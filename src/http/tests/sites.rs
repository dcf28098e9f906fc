//! `/v1/sites` as clients see it where no operator is needed.

use super::super::testing::Fixture;
use serde_json::json;

#[actix_web::test]
async fn a_body_is_one_site_or_many() {
    let fixture = Fixture::new().await;
    let site = |id: &str| json!({"site_id": id, "app_id": "a", "url": "http://s.example"});
    let one = fixture.post("/v1/sites", &site("s1")).await;
    assert_eq!((one.status, &one.json()["added"]), (202, &json!(1)));
    let same = fixture
        .post("/v1/sites", &json!({"sites": [site("s1")]}))
        .await;
    assert_eq!((same.status, &same.json()["unchanged"]), (200, &json!(1)));
    for body in [
        json!({}),
        json!({"sites": []}),
        json!({"sites": [site("s2")], "app_id": "a"}),
        json!({"site_id": "s2", "app_id": "a"}),
        json!({"site_id": "s2", "url": "http://s.example"}),
        json!({"site_id": "revive", "app_id": "a", "url": "http://s.example"}),
    ] {
        fixture
            .post("/v1/sites", &body)
            .await
            .problem(422, "invalid-fields");
    }
    let unknown = json!({"sites": [{"site": "s2"}]});
    fixture
        .post("/v1/sites", &unknown)
        .await
        .problem(400, "invalid-json");
    let items = fixture.get("/v1/sites").await.json()["items"].clone();
    assert_eq!(items.as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn too_many_sites_are_refused_whole() {
    let fixture = Fixture::new().await;
    let sites: Vec<_> = (0..10_001)
        .map(|n| json!({"site_id": format!("s{n}"), "app_id": "a", "url": "http://s.example"}))
        .collect();
    let refused = fixture.post("/v1/sites", &json!({ "sites": sites })).await;
    refused.problem(422, "invalid-fields");
    assert_eq!(fixture.get("/v1/sites").await.json()["items"], json!([]));
}

#[actix_web::test]
async fn a_server_that_stops_takes_no_sites() {
    let fixture = Fixture::new().await;
    fixture.draining.send_replace(true);
    let site = json!({"site_id": "s", "app_id": "a", "url": "http://s.example"});
    fixture
        .post("/v1/sites", &site)
        .await
        .problem(503, "draining");
}

#[actix_web::test]
async fn what_is_not_there_is_not_found() {
    let fixture = Fixture::new().await;
    for id in ["s9", "a%00b", "..%2f"] {
        let path = format!("/v1/sites/{id}");
        fixture.get(&path).await.problem(404, "site-not-found");
    }
}
