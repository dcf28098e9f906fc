//! The pages of datasets and replicas, and what metrics, probes and orders make
//! of them.

use super::super::followers::ReplicaOrder;
use super::super::testing::Fixture;
use super::jobs::has;
use crate::config::{DatasetSettings, HistorySettings, ReplicaProtocol, ReplicaSettings, SecretOf};
use crate::flows::replicas::{
    BootstrapReason, BootstrapView, Content, ContentKind, DatasetName, Entry, Epoch, FollowerView,
    Holder, Modification, PlanView, PublishRequest, RangeView, ReplicaState, ReplicasView,
    UpstreamView,
};
use crate::time::Timestamp;
use actix_web::test::TestRequest;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const CONTROL: &str = "control-token-0123456789";

fn name(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

fn dataset(called: &str) -> DatasetSettings {
    DatasetSettings {
        name: name(called),
        source: None,
        history: HistorySettings {
            changes: 8,
            ..HistorySettings::default()
        },
        token: None,
        seed_listen: None,
    }
}

fn replica(called: &str) -> ReplicaSettings {
    ReplicaSettings {
        name: name(called),
        upstreams: vec![
            "http://up:1".parse().unwrap(),
            "http://other:2".parse().unwrap(),
        ],
        dataset: name("prices"),
        protocol: ReplicaProtocol::Highwater,
        poll_interval: Duration::from_secs(1),
        watch: Duration::from_secs(30),
        chunk: 1000,
        ranges: 4,
        timeout: Duration::from_secs(30),
        token: None,
        history: HistorySettings::default(),
        audit_interval: None,
    }
}

fn update(key: &str, value: &str) -> Modification {
    Modification::Update(Entry {
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

/// A server with datasets `prices`, `closed` (with a token) and, in the database
/// only, `gone`; and replicas `copy` and `shadow`.
pub(super) async fn fixture() -> Fixture {
    let fixture = Fixture::with(|settings| {
        let token = Some(SecretOf(SecretString::from("dataset-token-0123456789")));
        settings.datasets = vec![
            dataset("prices"),
            DatasetSettings {
                token,
                ..dataset("closed")
            },
        ];
        settings.replicas = vec![replica("copy"), replica("shadow")];
        settings.http.control_token = Some(SecretString::from(CONTROL));
    })
    .await;
    rows(&fixture).await;
    fixture
}

/// Entries of the datasets, in the database and for those who read.
pub(super) async fn rows(fixture: &Fixture) {
    let modifications = vec![
        update("eur/gbp", "0.85"),
        update("eur/usd", r#"{"bid":"<script>alert(1)</script>"}"#),
    ];
    for of in ["prices", "gone"] {
        let request = PublishRequest {
            dataset: name(of),
            modifications: modifications.clone(),
            if_head: None,
            idempotency: None,
        };
        let published = fixture.store.publish(vec![request], BTreeMap::new()).await;
        published.unwrap().remove(0).unwrap();
    }
    let content = |kind, of: &str| Content {
        kind,
        name: name(of),
    };
    let prices = content(ContentKind::Dataset, "prices");
    fixture.contents.write(&prices, &modifications);
    let many: Vec<Modification> = (0..120)
        .map(|n| update(&format!("k&{n:03}"), &n.to_string()))
        .collect();
    fixture.contents.write(&prices, &many);
    let copy = content(ContentKind::Replica, "copy");
    fixture.contents.write(&copy, &many);
}

pub(super) fn plan(state: ReplicaState) -> PlanView {
    let now = Timestamp::now();
    PlanView {
        state,
        epoch: Some(Epoch::told("e1")),
        head: Some(7),
        len: 120,
        upstream_head: Some(12),
        lag_heads: 5,
        lag: Duration::from_secs(90),
        level_at: Some(now.minus(Duration::from_secs(90))),
        stale: None,
        bootstrap: None,
        bootstrap_wanted: None,
        bootstraps: BTreeMap::from([
            (BootstrapReason::Initial, 1),
            (BootstrapReason::StaleHead, 2),
        ]),
        outrun: 0,
        audited: Some((now.minus(Duration::from_secs(60)), 1)),
        auditing: None,
        bytes: 4096,
        trouble: None,
    }
}

/// `copy` is stale and copied anew; nobody reaches an upstream of `shadow`.
pub(super) fn followed(fixture: &Fixture) {
    let now = Timestamp::now();
    let range = |done| RangeView {
        len: 30_000,
        head: 9,
        done,
    };
    let upstream = |place: &str, failures: u32| UpstreamView {
        place: place.to_owned(),
        told: Some((Epoch::told("e1"), 12, now)),
        failures,
        last_error: (failures > 0).then(|| (now, "answered <502>".to_owned())),
        paused_until: None,
    };
    let stale = PlanView {
        stale: Some((now, "its history begins at <9>".to_owned())),
        bootstrap: Some(BootstrapView {
            reason: BootstrapReason::StaleHead,
            begun_at: now.minus(Duration::from_secs(30)),
            fetched: 60_000,
            len: 240_000,
            ends_at: Some(now.plus(Duration::from_secs(95))),
            ranges: vec![range(true), range(false)],
        }),
        outrun: 3,
        ..plan(ReplicaState::Stale)
    };
    let view = |plan, upstreams| FollowerView {
        holder: Holder::Here,
        plan: Some(plan),
        bytes_per_second: 2_500_000.0,
        upstreams,
        trouble: None,
    };
    let copy = view(
        stale,
        vec![upstream("http://up:1", 0), upstream("http://other:2", 1)],
    );
    let shadow = view(
        plan(ReplicaState::Failing),
        vec![upstream("http://up:1", 4), upstream("http://other:2", 4)],
    );
    fixture.replicas.send_replace(Arc::new(ReplicasView {
        replicas: BTreeMap::from([
            (name("copy"), Arc::new(copy)),
            (name("shadow"), Arc::new(shadow)),
        ]),
    }));
}

#[actix_web::test]
async fn replicas_are_told_with_what_holds_them_up() {
    let fixture = fixture().await;
    followed(&fixture);
    let page = fixture.get("/replicas").await;
    assert_eq!(page.status, 200, "{}", page.text());
    let text = page.text();
    has(
        &text,
        &[
            "aria-current=\"page\">Replicas</a>",
            "href=\"/replicas/copy\"",
            "its history begins at &lt;9&gt;",
            "<progress max=\"100\" value=\"25.0\" aria-label=\"Bootstrap\">",
            "60,000 of 240,000 entries, 1 of 2 ranges whole",
            "history is shorter than our bootstrap takes (3 bootstraps in a row",
            "answered &lt;502&gt;",
            "2.4 MiB/s",
            "href=\"/datasets/prices\"",
            "read with a token of its own",
            "nothing published yet",
            "2 of 8 changes",
            "href=\"/datasets/gone\"",
            "not configured",
        ],
    );
    let status = fixture.get("/").await.text();
    has(
        &status,
        &[
            "headline bad",
            "1 of 2 replicas is failing",
            "<h2>Replicas</h2>",
            "no upstream of replica shadow answers",
        ],
    );
}

#[actix_web::test]
async fn one_replica_is_told_with_upstreams_and_commands() {
    let fixture = fixture().await;
    let waiting = fixture.get("/replicas/copy").await.text();
    has(
        &waiting,
        &["This server does not follow it", "http://other:2/"],
    );
    followed(&fixture);
    let page = fixture.get("/replicas/copy").await.text();
    has(
        &page,
        &[
            "What holds it up",
            "highwater replicas verify --reason 'WHY' copy",
            "highwater replicas bootstrap --reason 'WHY' copy",
            "stale-head <span class=\"num\">2</span>",
            "1 range differed and was put right",
            "1 failure in a row",
            "k&amp;000",
            "rel=\"next\"",
        ],
    );
}

#[actix_web::test]
async fn entries_are_looked_through_by_the_beginning_of_their_keys() {
    let fixture = fixture().await;
    let page = fixture.get("/datasets/prices?prefix=eur").await.text();
    has(&page, &["eur/gbp", "eur/usd", "&lt;script&gt;alert(1)"]);
    assert!(!page.contains("k&amp;000"), "{page}");
    assert!(!page.contains("rel=\"next\""), "{page}");
    // The beginning may be a key itself.
    let page = fixture
        .get("/datasets/prices?prefix=eur%2Fusd")
        .await
        .text();
    has(&page, &["eur/usd"]);
    assert!(!page.contains("eur/gbp"), "{page}");
    let none = fixture.get("/datasets/prices?prefix=zzz").await.text();
    has(&none, &["No key begins so."]);
    // A page at a time, all of them once.
    let mut next = "/datasets/prices?prefix=k%26".to_owned();
    let mut seen = 0;
    loop {
        let page = fixture.get(&next).await.text();
        seen += page.matches("data-label=\"Value\"").count();
        let Some((_, rest)) = page.split_once("rel=\"next\" href=\"") else {
            break;
        };
        next = rest.split('"').next().unwrap().replace("&amp;", "&");
    }
    assert_eq!(seen, 120);
}

#[actix_web::test]
async fn what_takes_a_token_of_its_own_is_not_shown() {
    let fixture = fixture().await;
    let closed = Content {
        kind: ContentKind::Dataset,
        name: name("closed"),
    };
    fixture
        .contents
        .write(&closed, &[update("secret-key", "1")]);
    for path in [
        "/datasets/closed",
        "/datasets/closed?prefix=secret",
        "/datasets/gone",
    ] {
        let page = fixture.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        let text = page.text();
        has(&text, &["Its entries are not shown here"]);
        assert!(!text.contains("secret-key"), "{text}");
    }
}

#[actix_web::test]
async fn keys_of_entries_that_are_not_shown_are_not_told_by_audits_and_failures_either() {
    let fixture = fixture().await;
    followed(&fixture);
    let held = fixture.replicas.borrow().clone();
    let mut quoting = (*held).clone();
    let why = r#"http://up:1: answered the key "secret-key" behind "secret-before""#;
    for of in quoting.replicas.values_mut() {
        let of = Arc::make_mut(of);
        of.upstreams[0].last_error = Some((Timestamp::now(), why.to_owned()));
        let plan = of.plan.as_mut().unwrap();
        plan.auditing = Some("secret-cursor".to_owned());
        plan.trouble = Some(why.to_owned());
    }
    fixture.replicas.send_replace(Arc::new(quoting));
    let open = fixture.get("/v1/replicas/copy").await.text();
    assert!(open.contains("secret-cursor") && open.contains("secret-key"));
    fixture.settings.send_modify(|settings| {
        let mut changed = (**settings).clone();
        for replica in &mut changed.replicas {
            replica.token = Some(SecretOf(SecretString::from("replica-token-0123456789")));
        }
        *settings = changed.into();
    });
    for path in [
        "/v1/replicas",
        "/v1/replicas/copy",
        "/replicas",
        "/replicas/copy",
        "/replicas/shadow",
        "/readyz",
        "/metrics",
        "/",
    ] {
        let text = fixture.get(path).await.text();
        assert!(!text.contains("secret-"), "{path}: {text}");
    }
    let page = fixture.get("/replicas/copy").await.text();
    has(&page, &["It is being compared now", "answered the key"]);
}

#[actix_web::test]
async fn what_is_not_there_is_told_as_a_page() {
    let fixture = fixture().await;
    let long = format!("/datasets/prices?prefix={}", "k".repeat(1025));
    for (path, status, words) in [
        ("/replicas/nobody", 404, "There is no such replica"),
        ("/datasets/nobody", 404, "There is no such dataset"),
        ("/datasets/a%20b", 404, "There is no such dataset"),
        (&long, 400, "<code>prefix</code>"),
        ("/datasets/prices?page=2", 400, "page"),
    ] {
        let page = fixture.get(path).await;
        assert_eq!(page.status, status, "{path}");
        has(&page.text(), &["<!DOCTYPE html>", words]);
    }
    let empty = Fixture::new().await;
    let page = empty.get("/replicas").await.text();
    has(
        &page,
        &["No replica is configured", "No dataset is configured"],
    );
    let status = empty.get("/").await.text();
    assert!(!status.contains("<h2>Replicas</h2>"), "{status}");
    let metrics = empty.get("/metrics").await.text();
    assert!(!metrics.contains("highwater_replica_"), "{metrics}");
}

#[actix_web::test]
async fn metrics_and_probes_tell_of_datasets_and_replicas() {
    let fixture = fixture().await;
    followed(&fixture);
    let metrics = fixture.get("/metrics").await.text();
    for line in [
        "highwater_dataset_head{dataset=\"prices\"} 1",
        "highwater_dataset_entries{dataset=\"prices\"} 2",
        "highwater_dataset_history_changes{dataset=\"prices\"} 2",
        "highwater_dataset_history_fill_ratio{dataset=\"prices\",bound=\"changes\"} 0.25",
        "highwater_replica_state{replica=\"copy\",state=\"stale\"} 1",
        "highwater_replica_state{replica=\"copy\",state=\"live\"} 0",
        "highwater_replica_lag_heads{replica=\"copy\"} 5",
        "highwater_replica_lag_seconds{replica=\"copy\"} 90",
        "highwater_replica_bootstrap_ratio{replica=\"copy\"} 0.25",
        "highwater_replica_bootstraps_total{replica=\"copy\",reason=\"stale-head\"} 2",
        "highwater_replica_bootstraps_total{replica=\"copy\",reason=\"ordered\"} 0",
        "highwater_replica_bootstraps_outrun{replica=\"copy\"} 3",
        "highwater_replica_repairs_total{replica=\"copy\"} 0",
        "highwater_replica_fetched_bytes_total{replica=\"copy\"} 4096",
        "highwater_replica_failing_upstreams{replica=\"shadow\"} 2",
    ] {
        assert!(
            metrics.lines().any(|told| told == line),
            "{line}\n{metrics}"
        );
    }
    assert!(!metrics.contains("dataset=\"gone\""), "{metrics}");
    let ready = fixture.get("/readyz").await;
    assert_eq!(ready.status, 200);
    let warnings = ready.json()["warnings"].to_string();
    has(
        &warnings,
        &[
            "replica copy is stale since",
            "60000 of 240000 entries",
            "shorter than our bootstrap takes",
            "no upstream of replica shadow answers",
        ],
    );
}

#[actix_web::test]
async fn the_api_says_what_pages_show() {
    let fixture = fixture().await;
    followed(&fixture);
    let replica = fixture.get("/v1/replicas/copy").await.json();
    assert_eq!(replica["state"], "stale");
    assert_eq!(replica["lag_heads"], 5);
    assert_eq!(replica["bootstrap"]["fetched"], 60_000);
    assert_eq!(replica["bootstraps"]["stale-head"], 2);
    assert_eq!(replica["upstream_reports"][1]["failures"], 1);
    assert_eq!(replica["audited"]["differences"], 1);
    let datasets = fixture.get("/v1/datasets").await.json();
    let names: Vec<&Value> = datasets["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["name"])
        .collect();
    assert_eq!(names, ["prices", "closed", "gone"]);
    assert_eq!(datasets["items"][0]["history_changes"], 2);
    assert_eq!(datasets["items"][2]["configured"], false);
}

#[actix_web::test]
async fn an_order_is_told_to_the_follower_and_recorded() {
    let fixture = fixture().await;
    let order = async |path: &str, token: &str, body: &Value| {
        let request = TestRequest::post()
            .uri(path)
            .insert_header(("authorization", format!("Bearer {token}")))
            .set_json(body);
        fixture.call(request).await
    };
    let why = json!({ "reason": "a disk was full" });
    let verify = "/v1/replicas/copy/verify";
    order(verify, CONTROL, &why)
        .await
        .problem(409, "not-followed-here");
    followed(&fixture);
    let done = order(verify, CONTROL, &why).await;
    assert_eq!(done.status, 202, "{}", done.text());
    assert_eq!(done.json(), json!({"replica": "copy", "ordered": "verify"}));
    let done = order("/v1/replicas/shadow/bootstrap", CONTROL, &why).await;
    assert_eq!(done.status, 202);
    let told = fixture.ordered.lock().unwrap().clone();
    let expected = [
        ("copy", ReplicaOrder::Verify),
        ("shadow", ReplicaOrder::Bootstrap),
    ];
    assert_eq!(told, expected.map(|(name, order)| (name.to_owned(), order)));
    let change = |seed: bool, head: Option<i64>| {
        fixture.settings.send_modify(|settings| {
            let mut changed = (**settings).clone();
            if seed {
                changed.replicas[0].protocol = ReplicaProtocol::Seed;
            } else {
                changed.replicas[0].protocol = ReplicaProtocol::Highwater;
            }
            *settings = changed.into();
        });
        let mut view = (**fixture.replicas.borrow()).clone();
        let copy = Arc::make_mut(view.replicas.get_mut(&name("copy")).unwrap());
        copy.plan.as_mut().unwrap().head = head;
        fixture.replicas.send_replace(Arc::new(view));
    };
    for (seed, head, words) in [
        (true, Some(7), "has no digests to compare"),
        (false, None, "has no copy yet"),
    ] {
        change(seed, head);
        let refused = order(verify, CONTROL, &why).await;
        let problem = refused.problem(409, "cannot-verify");
        assert!(problem["detail"].as_str().unwrap().contains(words));
    }
    change(false, Some(7));
    assert_eq!(fixture.ordered.lock().unwrap().len(), 2, "nobody was told");
    order(verify, "another-token-0123456789", &why)
        .await
        .problem(401, "unauthorized");
    let wrong = order(verify, CONTROL, &json!({ "reason": " " })).await;
    assert_eq!(wrong.status, 422, "{}", wrong.text());
    let unknown = order("/v1/replicas/nobody/verify", CONTROL, &why).await;
    assert_eq!(unknown.status, 404);

    let held = fixture.replicas.borrow().clone();
    let mut elsewhere = (*held).clone();
    let copy = elsewhere.replicas.get_mut(&name("copy")).unwrap();
    Arc::make_mut(copy).holder = Holder::Other("host-2".to_owned());
    fixture.replicas.send_replace(Arc::new(elsewhere));
    let refused = order(verify, CONTROL, &why).await;
    let problem = refused.problem(409, "not-followed-here");
    assert!(problem["detail"].as_str().unwrap().contains("host-2"));

    let filter = crate::store::AuditFilter {
        action: Some("replicas.verify".to_owned()),
        ..Default::default()
    };
    let rows = fixture
        .store
        .list_audit(&filter, 50, None)
        .await
        .unwrap()
        .rows;
    let done = rows.iter().find(|row| row.outcome == "done").unwrap();
    assert_eq!(done.target, "copy");
    assert!(rows.iter().filter(|row| row.outcome == "refused").count() >= 3);
}
