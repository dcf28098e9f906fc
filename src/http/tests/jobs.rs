//! Jobs, as page, JSON and metrics; what the tests of sites share.

use super::super::testing::Fixture;
use super::openapi::conforms;
use crate::config::{AppSettings, CodeHandler, DatabaseLocation, HandlerSettings, JobSettings};
use crate::flows::sites::{
    AppName, FailureKind, JobKey, JobView, Shard, ShardView, SitesView, poll_log_entry,
};
use crate::time::Timestamp;
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn key(name: &str) -> JobKey {
    JobKey::new(AppName::parse("org.example.app").unwrap(), name).unwrap()
}

pub(super) fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// Jobs `sync` (two shards) and `info` (of polls only) of one app, and sites in
/// each state.
pub(super) async fn sites() -> Fixture {
    let fixture = Fixture::with(|settings| {
        let handler = || {
            HandlerSettings::Code(CodeHandler {
                timeout: Duration::from_secs(60),
            })
        };
        settings.apps = vec![AppSettings {
            id: key("sync").app,
            title: "Example".into(),
            url: None,
            api_key: None,
            site_key: None,
        }];
        let mut sync = JobSettings::new(key("sync"), handler());
        sync.retry = "2 hour (x12); 1 day (x30)".parse().unwrap();
        sync.batches = 2;
        let mut info = JobSettings::new(key("info"), handler());
        info.server = false;
        settings.jobs = vec![sync, info];
    })
    .await;
    let held = ["sites:org.example.app/sync:0-4999".to_owned()];
    let other = [
        "sites:org.example.app/sync:5000-10000".to_owned(),
        "sites:org.example.app/info:0-2499".to_owned(),
    ];
    let long = Duration::from_secs(600);
    let store = &fixture.store;
    store
        .hold_leases("host-1", &held, long, false)
        .await
        .unwrap();
    store
        .hold_leases("host-2", &other, long, false)
        .await
        .unwrap();
    run(&fixture, &rows(Timestamp::now()));
    fixture
}

/// Runs statements on the fixture's database, as an application would.
pub(super) fn run(fixture: &Fixture, sql: &str) {
    let settings = fixture.settings.borrow();
    let DatabaseLocation::Sqlite(path) = &settings.database.location else {
        panic!("not SQLite");
    };
    let mut conn = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
    conn.batch_execute(sql).unwrap();
}

fn rows(now: Timestamp) -> String {
    let mut sql = String::new();
    for (n, site, enabled) in [
        (1, "alpha", 1),
        (2, "bravo", 1),
        (3, "charlie", 1),
        (4, "delta", 1),
        (5, "echo", 0),
    ] {
        sql.push_str(&format!(
            "INSERT INTO sites (site_id, app_id, url, batch_code, enabled, labels) VALUES \
             ('{site}', 'org.example.app', 'https://{site}.example/civi', {n}000, {enabled}, \
             '{{\"region\":\"north\",\"tier\":{n}}}');"
        ));
    }
    let ago = |back| format!("'{}'", now.minus(minutes(back)).to_sql_text());
    let ahead = |on| format!("'{}'", now.plus(minutes(on)).to_sql_text());
    let log = |outcome| {
        let entry = |back, outcome| {
            poll_log_entry(
                now.minus(minutes(back)),
                &outcome,
                Duration::from_millis(412),
            )
        };
        format!("'{}{}'", entry(130, Ok(())), entry(10, outcome))
    };
    let failed = log(Err(FailureKind::Timeout));
    let null = || "NULL".to_owned();
    for (site, level, count, run, due, outcome, error, given_up, log) in [
        (
            "alpha",
            0,
            0,
            ago(10),
            ahead(110),
            "'success'",
            null(),
            null(),
            log(Ok(())),
        ),
        (
            "bravo",
            0,
            3,
            ago(10),
            ago(2),
            "'failure'",
            "'timeout: no answer within <10s>'".to_owned(),
            null(),
            failed.clone(),
        ),
        (
            "charlie",
            2,
            0,
            ago(10),
            null(),
            "'failure'",
            "'unreachable: no connection'".to_owned(),
            ago(10),
            failed.clone(),
        ),
        (
            "echo",
            1,
            0,
            ago(10),
            ago(2),
            "'failure'",
            null(),
            null(),
            failed,
        ),
    ] {
        sql.push_str(&format!(
            "INSERT INTO poll_status (site_id, job_name, level, count, app_id, batch_code, enabled, \
             last_run_at, next_due_at, last_outcome, last_error, given_up_at, last_duration_ms, poll_log) \
             SELECT site_id, 'sync', {level}, {count}, app_id, batch_code, enabled, {run}, {due}, \
             {outcome}, {error}, {given_up}, 412, {log} FROM sites WHERE site_id = '{site}';"
        ));
    }
    for (back, document) in [
        (600, r#"{"version":"5.69","up":true}"#),
        (10, r#"{"version":"5.70","up":true}"#),
    ] {
        sql.push_str(&format!(
            "INSERT INTO poll_results (status_seq, run_at, document) SELECT seq, {}, '{document}' \
             FROM poll_status WHERE site_id = 'alpha';",
            ago(back)
        ));
    }
    for n in 0..143_u64 {
        let (good, bad) = (200 + n * 37 % 90, if n % 20 > 15 { n % 11 * 4 } else { 0 });
        sql.push_str(&format!(
            "INSERT INTO job_outcomes (app_id, job_name, bucket_at, successes, failures) \
             VALUES ('org.example.app', 'sync', {}, {good}, {bad});",
            ago(n * 10 + 1)
        ));
    }
    sql
}

#[track_caller]
pub(super) fn has(text: &str, words: &[&str]) {
    for words in words {
        assert!(text.contains(words), "lacks {words}:\n{text}");
    }
}

#[actix_web::test]
async fn jobs_are_told_with_their_sites_shards_and_outcomes() {
    let fixture = sites().await;
    fixture.sites.send_replace(Arc::new(SitesView {
        jobs: vec![JobView {
            key: key("sync"),
            in_flight: 7,
            waiting: 40,
            shards: vec![ShardView {
                shard: Shard::new(0, 2).unwrap(),
                held: true,
                holder: None,
            }],
            paused_hosts: 1,
            last_error: None,
            retry_at: None,
        }],
    }));
    let list = fixture.get("/v1/jobs").await.json();
    let sync = &list["items"][0];
    assert_eq!(
        (&sync["app"], &sync["name"], &sync["retry"]),
        (
            &"org.example.app".into(),
            &"sync".into(),
            &"2 hour (x12); 1 day (x30)".into()
        )
    );
    assert_eq!(
        (&sync["state"], &sync["severity"]),
        (&"given_up".into(), &"look".into())
    );
    assert_eq!(
        sync["sites"],
        serde_json::json!({"well": 1, "failing": 1, "never": 1, "given_up": 1, "disabled": 1})
    );
    assert_eq!(sync["levels"][0]["sites"], 2);
    assert_eq!((&sync["due"], &sync["in_flight"]), (&1.into(), &7.into()));
    assert_eq!(
        sync["last_hour"]["successes"].as_i64().unwrap(),
        (0..6).map(|n| 200 + n * 37 % 90).sum::<i64>()
    );
    assert_eq!(
        (&sync["shards"][0]["held"], &sync["shards"][0]["holder"]),
        (&true.into(), &"host-1".into())
    );
    assert_eq!(
        (&sync["shards"][1]["held"], &sync["shards"][1]["holder"]),
        (&false.into(), &"host-2".into())
    );
    let info = &list["items"][1];
    assert_eq!(
        (&info["state"], &info["severity"]),
        (&"poll_only".into(), &"none".into())
    );
    assert_eq!(info["due"], 4, "never seen is due at once");
    assert_eq!(info["other_runs"][0]["codes"], "0-2499");
    assert_eq!(info["sites"]["never"], 4);

    let one = fixture
        .get("/v1/jobs/app:org.example.app/sync")
        .await
        .json();
    assert_eq!(one["outcomes"].as_array().unwrap().len(), 143);
    let document = fixture.get("/openapi.json").await.json();
    for (schema, sample) in [("JobList", &list), ("JobWithOutcomes", &one)] {
        let schema = &document["components"]["schemas"][schema];
        conforms(&document, schema, sample, "$").unwrap();
    }
    let missing = fixture.get("/v1/jobs/org.example.app/nope").await;
    missing.problem(404, "job-not-found");
    fixture
        .get("/v1/jobs/a%20b/nope")
        .await
        .problem(404, "job-not-found");
}

#[actix_web::test]
async fn the_pages_of_jobs_and_status_show_them() {
    let fixture = sites().await;
    let page = fixture.get("/jobs").await.text();
    has(
        &page,
        &[
            "aria-current=\"page\">Jobs",
            "2 hour (x12); 1 day (x30)",
            "Visits of the last 24 hours, ten minutes a bar",
            "2 shards, 1 held by this server and 1 by others.",
            "by highwater poll",
            "highwater sites revive --all --app org.example.app --job sync",
            "/sites?app=org%2Eexample%2Eapp&amp;job=sync&amp;state=given%5Fup",
            "/sites?app=org%2Eexample%2Eapp&amp;job=sync&amp;state=failing&amp;sort=level&amp;descending=true",
        ],
    );
    let one = fixture.get("/jobs/org.example.app/sync").await.text();
    has(
        &one,
        &[
            "Shards",
            "5000-10000",
            "host-2",
            "this server",
            "Levels",
            "leads back to level 0",
            "App: Example",
            "<code>highwater sites revive --all --app org.example.app --job sync</code>",
            "level=0\">0</a>",
            "2 hour (x12)",
        ],
    );
    let status = fixture.get("/").await.text();
    has(
        &status,
        &[
            "headline warn",
            "Sites of 1 of 2 jobs were given up",
            "1 of 4 sites of job org.example.app/sync were given up",
            "highwater sites revive --all --app org.example.app --job sync",
            "org.example.app/<wbr>sync",
            "Sites due",
        ],
    );
    assert_eq!(fixture.get("/jobs/org.example.app/nope").await.status, 404);
}

#[actix_web::test]
async fn what_is_wrong_with_a_job_is_said_everywhere() {
    let fixture = sites().await;
    fixture.sites.send_replace(Arc::new(SitesView {
        jobs: vec![JobView {
            key: key("sync"),
            in_flight: 0,
            waiting: 0,
            shards: Vec::new(),
            paused_hosts: 0,
            last_error: Some("the handler <x> cannot be built".into()),
            retry_at: None,
        }],
    }));
    let told = "the handler &lt;x&gt; cannot be built";
    for path in ["/", "/jobs", "/jobs/org.example.app/sync", "/sites/alpha"] {
        has(&fixture.get(path).await.text(), &[told]);
    }
    let status = fixture.get("/").await.text();
    has(&status, &["1 of 2 jobs does not run as it should"]);
    let warnings = fixture.get("/readyz").await.json()["warnings"].to_string();
    has(
        &warnings,
        &["job org.example.app/sync does not run as it should"],
    );
}

#[actix_web::test]
async fn gauges_of_jobs_are_of_configured_ones_and_the_sum_of_others() {
    let fixture = sites().await;
    run(
        &fixture,
        "INSERT INTO poll_status (site_id, job_name, level, app_id, batch_code, enabled, last_run_at, last_outcome) \
         SELECT site_id, 'gone' || site_id, 0, app_id, 0, 1, created_at, 'success' FROM sites WHERE enabled",
    );
    let metrics = fixture.get("/metrics").await.text();
    has(
        &metrics,
        &[
            "highwater_sites{job=\"org.example.app/sync\",state=\"given_up\"} 1\n",
            "highwater_sites{job=\"other\",state=\"well\"} 4\n",
            "highwater_sites_due{job=\"org.example.app/sync\"} 1\n",
            "highwater_job_shards_held{job=\"org.example.app/sync\"} 1\n",
            "highwater_job_severity{job=\"org.example.app/sync\"} 1\n",
            "highwater_job_severity{job=\"org.example.app/info\"} 0\n",
            "highwater_job_state{job=\"org.example.app/sync\",state=\"given_up\"} 1\n",
            "highwater_job_state{job=\"org.example.app/sync\",state=\"visiting\"} 0\n",
        ],
    );
    assert!(!metrics.contains("gonealpha"), "{metrics}");
}

#[actix_web::test]
async fn jobs_are_shown_without_a_database_and_without_jobs() {
    let fixture = Fixture::new().await;
    has(
        &fixture.get("/jobs").await.text(),
        &["No job is configured"],
    );
    let fixture = sites().await;
    fixture.store.close();
    let page = fixture.get("/jobs").await;
    assert_eq!(page.status, 200);
    has(
        &page.text(),
        &["Figures are not new", "there are none to show yet"],
    );
}
