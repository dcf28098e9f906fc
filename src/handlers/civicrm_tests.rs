//! Calls of CiviCRM's API against real sockets.

use super::Handler as _;
use super::civicrm::CivicrmClient;
use super::civicrm_visits::CivicrmVisits;
use super::client::SiteClient;
use super::testing_peer::{Act, Peer, json, reply, visit_of};
use crate::config::{AppSettings, CivicrmHandler, CivicrmVersion, Credential};
use crate::flows::sites::{AppName, FailureKind, VisitError, Visited};
use serde_json::{Value, json as value};
use std::time::Duration;

const API_KEY: &str = "api-key+of/nobody";
const SITE_KEY: &str = "site-key-of-nobody";

fn client() -> CivicrmClient {
    let keys = (Some(API_KEY.into()), Some(SITE_KEY.into()));
    CivicrmClient::new(SiteClient::new(false), keys.0, keys.1)
        .within(Duration::from_millis(400), 64 << 10)
}

async fn answer4(act: Act) -> Result<Value, VisitError> {
    let peer = Peer::start(vec![act]).await;
    let params = value!({});
    client().call4(&peer.url, "System", "check", &params).await
}

async fn answer3(act: Act) -> Result<Value, VisitError> {
    let peer = Peer::start(vec![act]).await;
    let params = value!({});
    client().call3(&peer.url, "System", "get", &params).await
}

#[tokio::test]
async fn version_4_is_asked_by_path_form_and_headers() {
    let peer = Peer::start(vec![json(r#"{"values":[{"id":1}],"count":1}"#)]).await;
    let params = value!({"where": [["id", "=", 22]], "limit": 1});
    let url = format!("{}/crm/", peer.url);
    let answer = client().call4(&url, "Contact", "get", &params).await;
    assert_eq!(answer.unwrap()["values"], value!([{"id": 1}]));
    let asked = peer.asked().join("");
    for part in [
        "POST /crm/civicrm/ajax/api4/Contact/get HTTP/1.1\r\n",
        "x-requested-with: XMLHttpRequest\r\n",
        &format!("x-civi-auth: Bearer {API_KEY}\r\n"),
        &format!("x-civi-key: {SITE_KEY}\r\n"),
        "content-type: application/x-www-form-urlencoded\r\n",
    ] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    let (_, body) = asked.split_once("\r\n\r\n").unwrap();
    let form: Vec<_> = url::form_urlencoded::parse(body.as_bytes()).collect();
    assert_eq!(form.len(), 1);
    assert_eq!(form[0].0, "params");
    assert_eq!(serde_json::from_str::<Value>(&form[0].1).unwrap(), params);
}

#[tokio::test]
async fn version_3_is_asked_by_a_form_that_holds_the_keys() {
    let peer = Peer::start(vec![json(r#"{"is_error":"0","values":{"7":{}}}"#)]).await;
    let params = value!({"id": 10});
    client()
        .call3(&peer.url, "Contact", "get", &params)
        .await
        .unwrap();
    let asked = peer.asked().join("");
    assert!(
        asked.starts_with("POST /civicrm/ajax/rest HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("x-requested-with: XMLHttpRequest\r\n"),
        "{asked}"
    );
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains(API_KEY), "{head}");
    let form: Vec<_> = url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    let expected = [
        ("entity", "Contact"),
        ("action", "get"),
        ("json", "{\"id\":10}"),
        ("api_key", API_KEY),
        ("key", SITE_KEY),
    ];
    let expected: Vec<_> = expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    assert_eq!(form, expected);
}

#[tokio::test]
async fn what_civicrm_says_that_it_failed_is_a_failure_of_its_api() {
    for (act, words) in [
        (
            json(r#"{"is_error":1,"error_message":"no such entity"}"#),
            "no such entity",
        ),
        (
            json(r#"{"is_error":"1","error_message":"no","error_code":"unauthorized"}"#),
            "no (error code unauthorized)",
        ),
        (json(r#"{"is_error":1}"#), "nothing about why"),
        (
            json(r#"{"is_error":true,"values":[]}"#),
            "nothing about why",
        ),
    ] {
        let error = answer3(act).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Api, "{error}");
        assert!(error.detail.contains(words), "{error}");
    }
    for (act, words) in [
        (
            reply(
                "403 No",
                r#"{"error_code":0,"error_message":"Authorization failed","status":403}"#,
            ),
            "(status 403): Authorization failed",
        ),
        (
            reply("500 Oops", r#"{"error_code":"1","error_message":"Sorry"}"#),
            "Sorry (error code 1)",
        ),
        (json(r#"{"values":[],"error_code":4}"#), "error code 4"),
    ] {
        let error = answer4(act).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Api, "{error}");
        assert!(error.detail.contains(words), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_answer_of_civicrm_is_unexpected() {
    for act in [
        reply("200 OK", "<html>log in</html>"),
        json("[]"),
        json("{}"),
        json("null"),
        reply("200 OK", ""),
        reply("401 No", "HTTP 401 Invalid credential"),
        reply(
            "503 Busy",
            r#"{"status_code":503,"status_message":"maintenance"}"#,
        ),
        reply("302 Found\r\nLocation: /user/login", ""),
        reply("200 OK", vec![b' '; 1 << 20]),
    ] {
        for error in [answer4(act.clone()).await, answer3(act.clone()).await] {
            let error = error.unwrap_err();
            assert_eq!(error.kind, FailureKind::Unexpected, "{error}");
        }
    }
    // Version 4 knows no is_error, and version 3 always says it.
    assert!(answer4(json(r#"{"values":[],"is_error":1}"#)).await.is_ok());
    assert!(answer3(json(r#"{"values":[]}"#)).await.is_err());
    let error = answer4(Act::Send(Vec::new())).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Unreachable);
}

#[tokio::test]
async fn keys_that_a_site_repeats_are_not_shown() {
    let escaped = API_KEY.replace('/', "\\/");
    for act in [
        json(&format!(
            r#"{{"is_error":1,"error_message":"key {escaped} {SITE_KEY}"}}"#
        )),
        json(&format!(r#"{{"is_error":1,"error_code":"{API_KEY}"}}"#)),
        reply("500 Oops", format!("api_key={API_KEY}&key={SITE_KEY}")),
        reply("500 Oops", "api_key=api-key%2Bof%2Fnobody"),
        reply("200 OK", format!("<b>{escaped}</b>")),
    ] {
        let error = answer3(act).await.unwrap_err().detail;
        assert!(error.contains("***"), "{error}");
        assert!(!error.contains("nobody"), "{error}");
    }
}

fn handler(version: CivicrmVersion, keep_result: bool, api_key: Credential) -> CivicrmVisits {
    let settings = CivicrmHandler {
        version,
        path: "/{site_id}/api".to_owned(),
        entity: "System".to_owned(),
        action: "check".to_owned(),
        params: value!({}),
        timeout: Duration::from_millis(400),
        max_response_bytes: 64 << 10,
        keep_result,
    };
    let app = AppSettings {
        id: AppName::parse("org.example").unwrap(),
        title: "Example".to_owned(),
        url: None,
        api_key: Some(api_key),
        site_key: None,
    };
    CivicrmVisits::new(SiteClient::new(false), settings, Some(&app), 1, 100).unwrap()
}

#[tokio::test]
async fn a_visit_sends_the_apps_keys_and_keeps_the_values() {
    let shared = || Credential::Shared(API_KEY.into());
    let values = json(r#"{"values":[{"a":1}],"is_error":0}"#);
    let peer = Peer::start(vec![Act::Send(Vec::new()), values]).await;
    let visit = visit_of(&peer.url);
    let visited = handler(CivicrmVersion::V4, true, shared())
        .visit(&visit)
        .await;
    assert_eq!(visited, Visited::well(Some(r#"[{"a":1}]"#.to_owned())));
    // The first try brought no answer.
    assert_eq!(peer.asked().len(), 2);
    assert!(peer.asked()[1].starts_with("POST /site%3A7/api/System/check "));
    assert!(!peer.asked()[1].contains("x-civi-key"));
    let visited = handler(CivicrmVersion::V3, false, shared())
        .visit(&visit)
        .await;
    assert_eq!(visited, Visited::well(None));

    let busy = reply("503 Busy\r\nRetry-After: 60", "");
    let peer = Peer::start(vec![busy]).await;
    let visited = handler(CivicrmVersion::V4, true, shared())
        .visit(&visit_of(&peer.url))
        .await;
    assert_eq!(visited.retry_after, Some(Duration::from_secs(60)));
    assert_eq!(visited.result.unwrap_err().kind, FailureKind::Unexpected);
}

#[tokio::test]
async fn a_site_without_its_key_is_not_asked() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Credential::PerSite(folder.path().join("{site_id}.key"));
    let peer = Peer::start(vec![json(r#"{"values":[]}"#)]).await;
    let visits = handler(CivicrmVersion::V4, true, keys);
    let visit = visit_of(&peer.url);
    let error = visits.visit(&visit).await.result.unwrap_err();
    assert_eq!(error.kind, FailureKind::Handler);
    assert!(
        error.detail.contains("site:7.key does not exist"),
        "{error}"
    );
    assert!(peer.asked().is_empty());
    std::fs::write(folder.path().join("site:7.key"), API_KEY).unwrap();
    assert_eq!(
        visits.visit(&visit).await,
        Visited::well(Some("[]".to_owned()))
    );
}
