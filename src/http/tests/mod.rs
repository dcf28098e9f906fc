//! The whole application against a real SQLite file: what clients see.

mod api;
mod control;
mod control_record;
mod controlled;
mod datasets;
mod health;
mod hooks;
mod jobs;
mod jobs_looked_at;
mod openapi;
mod pages;
mod pages_events;
mod pages_links;
mod pages_replicas;
mod pages_sites;
mod resources;
mod seed_wire;
mod sites;
mod states;

use super::server::app;
use super::testing::Fixture;
use actix_web::dev::ServiceResponse;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use serde_json::Value;

/// What came back.
struct Seen {
    status: u16,
    headers: actix_web::http::header::HeaderMap,
    body: Vec<u8>,
}

impl Seen {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that it is a problem of this status and name.
    #[track_caller]
    fn problem(&self, status: u16, name: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:highwater:problem:{name}"));
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string());
        problem
    }
}

impl Fixture {
    async fn call(&self, request: TestRequest) -> Seen {
        let service = init_service(app(self.http.clone())).await;
        let response: ServiceResponse<_> = call_service(&service, request.to_request()).await;
        Seen {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: read_body(response).await.to_vec(),
        }
    }

    async fn get(&self, uri: &str) -> Seen {
        self.call(TestRequest::get().uri(uri)).await
    }

    async fn post(&self, uri: &str, body: &Value) -> Seen {
        self.call(TestRequest::post().uri(uri).set_json(body)).await
    }
}
