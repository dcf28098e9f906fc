//! What is shared out, as page, JSON and metrics.

use super::super::state::Http;
use super::super::testing::{Fixture, resource};
use actix_web::web::Data;
use std::sync::Arc;
use tokio::runtime::Handle;

#[actix_web::test]
async fn resources_are_shown_as_json_page_and_metrics() {
    let fixture = Fixture::new().await;
    let list = fixture.get("/v1/resources").await.json();
    let owner = &list["items"][0]["owners"][0];
    assert_eq!(list["items"][0]["name"], "database");
    assert_eq!(
        (&owner["owner"], &owner["lent"]),
        (&"http".into(), &5.into())
    );

    let page = fixture.get("/services").await.text();
    for words in [
        "Database connections",
        "8 of 8 in use",
        "1,234",
        "250 ms",
        "500 µs",
        "weight 2",
    ] {
        assert!(page.contains(words), "lacks {words}: {page}");
    }

    let metrics = fixture.get("/metrics").await.text();
    for sample in [
        "highwater_resource_capacity{resource=\"database\"} 8\n",
        "highwater_resource_slots{resource=\"database\",owner=\"http\",state=\"used\"} 8\n",
        "highwater_resource_slots{resource=\"database\",owner=\"http\",state=\"waiting\"} 1234\n",
        "highwater_resource_slots{resource=\"database\",owner=\"http\",state=\"lent\"} 5\n",
        "highwater_resource_taken_total{resource=\"database\",owner=\"http\"} 4000\n",
        "highwater_resource_wait_seconds_total{resource=\"database\",owner=\"http\"} 2\n",
    ] {
        assert!(metrics.contains(sample), "lacks {sample}: {metrics}");
    }
}

#[actix_web::test]
async fn names_of_owners_are_escaped() {
    let mut hostile = resource("<r>");
    hostile.owners[0].owner = "a\"b".into();
    let mut fixture = Fixture::new().await;
    let mut state = fixture.state.clone();
    state.resources = Arc::new(move || vec![hostile.clone()]);
    fixture.http = Data::new(Http::new(state, Handle::current()));
    assert!(fixture.get("/services").await.text().contains("&lt;r&gt;"));
    let metrics = fixture.get("/metrics").await.text();
    assert!(metrics.contains("owner=\"a\\\"b\""), "{metrics}");
}
