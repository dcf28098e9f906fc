//! Every link of every page leads somewhere.

use super::super::testing::{Fixture, id};
use super::jobs::{run, sites};
use super::{pages_events, pages_replicas};
use crate::flows::batches::BatchKey;
use crate::store::NewBatch;
use std::collections::{BTreeMap, VecDeque};

/// Most addresses followed: the small server has fewer.
const MOST: usize = 600;

/// What a page leads to on this server.
fn links(page: &str) -> impl Iterator<Item = String> {
    let attributes = ["href=\"", "src=\"", "action=\""];
    let found = attributes.into_iter().flat_map(|attribute| {
        let values = page.split(attribute).skip(1);
        values.filter_map(|rest| rest.split('"').next())
    });
    let here = found.filter(|link| link.starts_with('/'));
    let links = here.map(|link| {
        let link = link.replace("&amp;", "&").replace("&quot;", "\"");
        link.split('#').next().unwrap_or_default().to_owned()
    });
    links.collect::<Vec<_>>().into_iter()
}

/// Follows all links from the status page on; answers what they were answered,
/// and where they stand.
async fn crawl(fixture: &Fixture) -> BTreeMap<String, (u16, String)> {
    let mut found = BTreeMap::new();
    let mut next = VecDeque::from([("/".to_owned(), String::new())]);
    while let Some((address, from)) = next.pop_front() {
        if found.contains_key(&address) {
            continue;
        }
        assert!(found.len() < MOST, "too many: {:?}", found.keys());
        let answer = fixture.get(&address).await;
        found.insert(address.clone(), (answer.status, from));
        let text = answer.text();
        if text.starts_with("<!DOCTYPE html>") {
            next.extend(links(&text).map(|link| (link, address.clone())));
        }
    }
    found
}

#[actix_web::test]
async fn all_links_of_the_pages_lead_somewhere() {
    let fixture = sites().await;
    let batch = |ledger: &str, service_id: &str, n| NewBatch {
        key: BatchKey {
            ledger: ledger.into(),
            service_id: service_id.into(),
            batch_id: id(n),
        },
        transaction_ids: Vec::new(),
    };
    let batches = vec![batch("trace", "", 1), batch("gone", "c1::a000", 2)];
    fixture.store.track_batches(batches).await.unwrap();
    // Applications call sites, and jobs once configured were called, as they like.
    run(
        &fixture,
        "INSERT INTO sites (site_id, app_id, url) VALUES \
         ('we ird/?#%2e&ä', 'org.example.app', 'https://w.example'), \
         ('-x', 'an app of no name', 'none'); \
         INSERT INTO poll_status (site_id, job_name, level, count, app_id, batch_code, enabled, \
         last_run_at, last_outcome, given_up_at) SELECT site_id, 'gone', 1, 0, app_id, batch_code, \
         enabled, created_at, 'failure', created_at FROM sites WHERE app_id = 'org.example.app'",
    );
    pages_events::rows(&fixture);
    let found = crawl(&fixture).await;
    for page in [
        "/batches",
        "/jobs",
        "/sites",
        "/services",
        "/jobs/org%2Eexample%2Eapp/sync",
        "/jobs/org%2Eexample%2Eapp/gone",
        "/sites/charlie",
        "/subscriptions",
        "/subscriptions/claims",
        "/subscriptions/claims/events/2",
        "/subscriptions/claims?block=7",
        "/subscriptions/claims?decision=irrelevant",
    ] {
        assert!(found.contains_key(page), "{page}: {:?}", found.keys());
    }
    none_is_dead(&found);
}

#[actix_web::test]
async fn all_links_of_datasets_and_replicas_lead_somewhere() {
    let fixture = pages_replicas::fixture().await;
    pages_replicas::followed(&fixture);
    let found = crawl(&fixture).await;
    for page in [
        "/replicas",
        "/replicas/copy",
        "/replicas/shadow",
        "/datasets/prices",
        "/datasets/closed",
        "/datasets/gone",
        "/datasets/prices?after=k%26047",
        "/replicas/copy?after=k%26049",
    ] {
        assert!(found.contains_key(page), "{page}: {:?}", found.keys());
    }
    none_is_dead(&found);
}

fn none_is_dead(found: &BTreeMap<String, (u16, String)>) {
    let dead: Vec<_> = found
        .iter()
        .filter(|(_, (status, _))| *status != 200)
        .collect();
    assert!(dead.is_empty(), "{dead:#?}");
}
