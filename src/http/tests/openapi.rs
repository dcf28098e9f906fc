//! `/openapi.json` is true: every route is in it and no other, and samples
//! have the fields it tells of.

use super::super::auth::Access;
use super::super::routes::ENDPOINTS;
use super::super::testing::{Fixture, id, ledger_view, trouble};
use crate::flows::batches::BatchesView;
use crate::ledgers::LedgerKind;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

#[actix_web::test]
async fn every_route_is_documented_and_every_document_routed() {
    let fixture = Fixture::new().await;
    let document = fixture.get("/openapi.json").await.json();
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let of_people = |path: &str| path == "/login" || path.starts_with("/assets/");
    let routed: BTreeSet<(String, String)> = ENDPOINTS
        .iter()
        .filter(|endpoint| endpoint.access != Access::Page && !of_people(endpoint.path))
        .map(|endpoint| (endpoint.method.to_string(), endpoint.path.to_owned()))
        .collect();
    assert_eq!(documented, routed);
    let endpoints: BTreeSet<_> = ENDPOINTS
        .iter()
        .map(|e| (e.method.as_str(), e.path))
        .collect();
    assert_eq!(endpoints.len(), ENDPOINTS.len(), "a route is there twice");
    for (method, path) in &documented {
        let uri = path
            .replace("{ledger}", "trace")
            .replace("{app}", "org.example.app")
            .replace("{name}", "scheduler")
            .replace("{site_id}", "s1")
            .replace("{subscription}", "claims")
            .replace("{secret}", "0123456789abcdef")
            .replace("{batch_id}", &id(1))
            .replace("{key}", "k");
        let request = actix_web::test::TestRequest::default()
            .method(method.parse().unwrap())
            .uri(&uri);
        let status = fixture.call(request).await.status;
        let known = &document["paths"][path][method.to_lowercase()]["responses"];
        assert!(
            known.get(status.to_string()).is_some() || status == 415,
            "{method} {path}: {status}"
        );
    }
}

#[actix_web::test]
async fn samples_have_the_documented_fields() {
    let fixture = Fixture::new().await;
    let mut view = ledger_view("supply", LedgerKind::Splinter);
    view.failing_services.push(trouble("c1::a000"));
    view.failing_services_total = 1;
    fixture.view.send_replace(Arc::new(BatchesView {
        ledgers: vec![view],
    }));
    let batch = json!({"ledger": "supply", "service_id": "c1::a000", "batch_id": id(9), "transaction_ids": ["t"]});
    let document = fixture.get("/openapi.json").await.json();
    let one = format!("/v1/batches/supply/{}?service_id=c1::a000", id(9));
    let tracked = fixture
        .post("/v1/batches", &json!({"batches": [batch]}))
        .await
        .json();
    let due = fixture
        .post("/v1/batches/poll-now", &json!({"batches": []}))
        .await
        .json();
    let write = |former: Option<&crate::store::SavedState>| {
        Ok(crate::store::StateWrite {
            value: "{}".to_owned(),
            unreadable: former.map(|_| "odd".to_owned()),
        })
    };
    for _ in 0..2 {
        fixture.store.save_state("demo", 1, write).await.unwrap();
    }
    let states = fixture.get("/v1/states").await.json();
    assert_eq!(states["aside"][0]["problem"], "odd");
    let sites = json!({"sites": [{"site_id": "s1", "app_id": "a", "url": "http://s.example", "labels": {"x": 1}}]});
    let taken = fixture.post("/v1/sites", &sites).await.json();
    let samples = [
        ("SitesTaken", taken),
        ("SiteList", fixture.get("/v1/sites").await.json()),
        ("SiteReport", fixture.get("/v1/sites/s1").await.json()),
        ("TrackedBody", tracked),
        ("Problem", due),
        (
            "DueBody",
            fixture
                .post("/v1/batches/poll-now", &json!({"ledger": "trace"}))
                .await
                .json(),
        ),
        ("BatchList", fixture.get("/v1/batches").await.json()),
        ("BatchDetail", fixture.get(&one).await.json()),
        ("LedgerList", fixture.get("/v1/ledgers").await.json()),
        ("ServiceList", fixture.get("/v1/services").await.json()),
        ("StateList", states),
        ("ResourceList", fixture.get("/v1/resources").await.json()),
        ("ReadyBody", fixture.get("/readyz").await.json()),
    ];
    for (schema, sample) in samples {
        let schema = &document["components"]["schemas"][schema];
        conforms(&document, schema, &sample, "$")
            .unwrap_or_else(|why| panic!("{why}\n{sample}\n{schema}"));
    }
}

/// Checks types and fields, both ways: no field undocumented, none required missing.
pub(super) fn conforms(
    document: &Value,
    schema: &Value,
    value: &Value,
    at: &str,
) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.trim_start_matches("#/components/schemas/");
        let named = &document["components"]["schemas"][name];
        if named.is_null() {
            return Err(format!("{at}: no schema {name}"));
        }
        return conforms(document, named, value, at);
    }
    if let Some(any) = schema["oneOf"].as_array() {
        let fits = any
            .iter()
            .any(|one| conforms(document, one, value, at).is_ok());
        return if fits {
            Ok(())
        } else {
            Err(format!("{at}: fits none of {any:?}"))
        };
    }
    if let Some(all) = schema["allOf"].as_array() {
        let mut merged = json!({"type": "object", "properties": {}, "required": []});
        for part in all {
            let mut part = part;
            while let Some(name) = part["$ref"].as_str() {
                part = &document["components"]["schemas"]
                    [name.trim_start_matches("#/components/schemas/")];
            }
            for (name, property) in part["properties"].as_object().unwrap() {
                merged["properties"][name] = property.clone();
            }
            let required = part["required"].as_array().cloned().unwrap_or_default();
            merged["required"].as_array_mut().unwrap().extend(required);
        }
        return conforms(document, &merged, value, at);
    }
    let word = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return Err(format!("{at}: the schema tells no type: {schema}")),
    };
    let whole_number = word == "integer" && types.contains(&"number");
    if !types.contains(&word) && !whole_number {
        return Err(format!("{at}: is {word}, documented {types:?}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{at}: {value} is not among {words:?}"));
    }
    if let Value::Array(items) = value {
        for (index, item) in items.iter().enumerate() {
            conforms(document, &schema["items"], item, &format!("{at}[{index}]"))?;
        }
    }
    if let (Value::Object(fields), Some(properties)) = (value, schema["properties"].as_object()) {
        for (name, field) in fields {
            let property = properties
                .get(name)
                .ok_or(format!("{at}.{name}: not documented"))?;
            conforms(document, property, field, &format!("{at}.{name}"))?;
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().unwrap()) {
                return Err(format!("{at}.{name}: required and missing"));
            }
        }
    }
    Ok(())
}
