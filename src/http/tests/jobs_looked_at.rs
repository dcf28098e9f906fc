//! What an operator sees of a job that wants to be looked at: the same on the
//! pages, in JSON, in the warnings of `/readyz` and in metrics.

use super::super::testing::Fixture;
use super::jobs::{has, key, minutes, run, sites};
use crate::time::Timestamp;

/// Where a job stands, as everything that shows it tells: state and severity.
async fn told(fixture: &Fixture, job: &str) -> (String, String) {
    let one = fixture
        .get(&format!("/v1/jobs/org.example.app/{job}"))
        .await;
    let one = one.json();
    let word = |field: &str| one[field].as_str().unwrap().to_owned();
    let (state, severity) = (word("state"), word("severity"));
    let metrics = fixture.get("/metrics").await.text();
    let number = ["none", "look", "bad"];
    let number = number.iter().position(|word| **word == *severity).unwrap();
    let key = key(job);
    has(
        &metrics,
        &[
            &format!("highwater_job_state{{job=\"{key}\",state=\"{state}\"}} 1\n"),
            &format!("highwater_job_severity{{job=\"{key}\"}} {number}\n"),
        ],
    );
    (state, severity)
}

/// The same, on a fresh fixture that was changed first.
async fn after(job: &str, sql: &str) -> (Fixture, String, String) {
    let fixture = sites().await;
    run(&fixture, sql);
    let (state, severity) = told(&fixture, job).await;
    (fixture, state, severity)
}

async fn warnings(fixture: &Fixture) -> String {
    let ready = fixture.get("/readyz").await;
    assert_eq!(ready.status, 200, "a job is no reason not to be ready");
    ready.json()["warnings"].to_string()
}

const WELL: &str = "UPDATE poll_status SET given_up_at = NULL, last_outcome = 'success', \
    next_due_at = '2999-01-01 00:00:00.000';";

#[actix_web::test]
async fn a_job_whose_sites_are_well_is_green() {
    let (fixture, state, severity) = after("sync", WELL).await;
    assert_eq!((&*state, &*severity), ("visiting", "none"));
    let status = fixture.get("/").await.text();
    has(
        &status,
        &["headline good", "all sites are visited when they are due"],
    );
    assert!(!status.contains("highwater sites revive"), "{status}");
    assert!(!warnings(&fixture).await.contains("given up"));
}

#[actix_web::test]
async fn a_job_all_of_whose_sites_were_given_up_is_red() {
    let now = Timestamp::now();
    let sql = format!(
        "DELETE FROM sites WHERE site_id = 'delta'; \
         UPDATE poll_status SET next_due_at = NULL, given_up_at = '{}'",
        now.minus(minutes(3)).to_sql_text()
    );
    let (fixture, state, severity) = after("sync", &sql).await;
    assert_eq!((&*state, &*severity), ("all_given_up", "bad"));
    has(
        &fixture.get("/").await.text(),
        &["headline bad", "All sites of 1 of 2 jobs were given up"],
    );
    has(
        &warnings(&fixture).await,
        &[
            "all 3 sites of job org.example.app/sync were given up",
            "`highwater sites revive --all --app org.example.app --job sync`",
        ],
    );
}

#[actix_web::test]
async fn a_job_of_which_most_visits_fail_is_red_and_yellow_where_few_sites_do_it() {
    let outcomes = "UPDATE job_outcomes SET successes = 1, failures = 5;";
    let fail = "UPDATE poll_status SET last_outcome = 'failure' WHERE site_id = 'alpha';";
    let (fixture, state, severity) = after("sync", &format!("{outcomes}{fail}")).await;
    assert_eq!((&*state, &*severity), ("failing", "bad"));
    let status = fixture.get("/").await.text();
    has(
        &status,
        &["headline bad", "Most visits of 1 of 2 jobs fail"],
    );
    has(&warnings(&fixture).await, &["failed in the last hour"]);

    let (fixture, state, severity) = after("sync", &format!("{WELL}{outcomes}")).await;
    assert_eq!((&*state, &*severity), ("failing", "look"));
    has(&fixture.get("/").await.text(), &["headline warn"]);

    // A job that is visited seldom is judged by how its sites stand.
    let none =
        format!("{WELL} DELETE FROM job_outcomes; UPDATE poll_status SET last_outcome = 'failure'");
    let (fixture, state, severity) = after("sync", &none).await;
    assert_eq!((&*state, &*severity), ("failing", "bad"));
    has(&warnings(&fixture).await, &["fail than are well"]);
}

#[actix_web::test]
async fn a_job_of_polls_alone_that_nobody_polls_is_yellow_after_the_policys_period() {
    let poll_only = |period: &str| {
        let period = period.to_owned();
        move |fixture: &Fixture| {
            let mut settings = (**fixture.settings.borrow()).clone();
            settings.jobs[1].retry = period.parse().unwrap();
            fixture.settings.send_replace(std::sync::Arc::new(settings));
        }
    };
    let overdue = |back: u64| {
        let due = Timestamp::now().minus(minutes(back)).to_sql_text();
        format!(
            "{WELL} INSERT INTO poll_status (site_id, job_name, level, count, app_id, batch_code, \
             enabled, last_run_at, next_due_at, last_outcome) SELECT site_id, 'info', 0, 0, app_id, \
             batch_code, enabled, '2026-01-01 00:00:00.000', '{due}', 'success' FROM sites"
        )
    };
    for (period, back, state) in [
        ("1 hour (x2); 30 min (x2)", 29, "poll_only"),
        ("1 hour (x2); 30 min (x2)", 32, "late"),
        ("1 sec (x2)", 4, "poll_only"),
        ("1 sec (x2)", 6, "late"),
    ] {
        let fixture = sites().await;
        poll_only(period)(&fixture);
        run(&fixture, &overdue(back));
        let severity = if state == "late" { "look" } else { "none" };
        let expected = (state.to_owned(), severity.to_owned());
        assert_eq!(told(&fixture, "info").await, expected, "{period} {back}");
        let (status, warned) = (fixture.get("/").await.text(), warnings(&fixture).await);
        if state == "late" {
            has(&status, &["headline warn", "1 of 2 jobs is late"]);
            has(
                &warned,
                &[
                    "job org.example.app/info is late: 4 sites are due",
                    "see whether cron runs",
                ],
            );
        } else {
            has(&status, &["headline good", "by highwater poll"]);
        }
    }
}

#[actix_web::test]
async fn a_job_of_polls_alone_that_was_never_polled_is_late_by_its_sites_age() {
    let since = Timestamp::now().minus(minutes(120)).to_sql_text();
    let sql = format!("{WELL} UPDATE sites SET created_at = '{since}'");
    let (fixture, state, severity) = after("info", &sql).await;
    assert_eq!((&*state, &*severity), ("late", "look"));
    has(
        &warnings(&fixture).await,
        &["job org.example.app/info is late: 4 sites are due, the oldest for 120 min"],
    );
}
