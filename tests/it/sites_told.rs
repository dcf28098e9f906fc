//! What is told of sites, by command line and API alike: who fails, what was
//! visited and what comes next, names that nothing has, and sites that no job
//! is for.

use crate::command_line::{Ended, program};
use crate::support::{Database, Installation, on_both_databases};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::{Duration, Instant};

on_both_databases!(
    sites_that_fail_and_that_are_well_are_listed,
    a_list_of_the_failing_is_fast_among_a_hundred_thousand,
    a_site_is_shown_with_its_visits_and_when_it_is_next_and_why,
    a_name_that_nothing_has_is_refused_with_those_that_are_known,
    sites_never_visited_by_a_job_are_of_its_apps,
    what_was_given_up_by_two_jobs_is_one_site,
    sites_of_an_app_without_a_job_are_counted,
    an_application_does_not_enable_what_an_operator_disabled,
    lines_that_are_wrong_are_told_in_plain_words,
);

const CONTROL: &str = "control-token-of-a-test";
const INTAKE: &str = "intake-token-of-a-test";

/// Apps `a` (jobs `sync` and `info`) and `b` (job `sync`), which nothing runs.
fn installation(database: &Database) -> Installation {
    let mut sections = "control_token_file = \"control.token\"\n\
         intake_token_file = \"intake.token\"\n"
        .to_owned();
    for app in ["a", "b"] {
        write!(sections, "\n[[apps]]\nid = \"{app}\"\ntitle = \"{app}\"\n").unwrap();
    }
    for (app, job) in [("a", "sync"), ("a", "info"), ("b", "sync")] {
        write!(
            sections,
            "\n[[jobs]]\napp = \"{app}\"\nname = \"{job}\"\nserver = false\n\
             retry = \"1 hour (x2); 1 day (x3)\"\n[jobs.handler.http]\npath = \"/\"\n"
        )
        .unwrap();
    }
    let place = Installation::new(database, "sites", &sections);
    for (file, token) in [("control.token", CONTROL), ("intake.token", INTAKE)] {
        std::fs::write(place.path().join(file), token).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(place.path().join(file), mode).unwrap();
    }
    place
}

fn run(place: &Installation, args: &[&str], input: &str) -> Ended {
    let mut command = program(place.path());
    Ended::from(command.args(args).write_stdin(input).output().unwrap())
}

fn done(place: &Installation, args: &[&str]) -> Value {
    let args = [&["sites"], args, &["--output", "json"]].concat();
    let ended = run(place, &args, "");
    assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
    serde_json::from_str(&ended.out).unwrap()
}

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap().iter();
    items
        .map(|item| item["site_id"].as_str().unwrap().to_owned())
        .collect()
}

/// Imports sites, as (id, app).
fn sites(place: &Installation, sites: &[(&str, &str)]) {
    let lines = sites.iter().map(|(id, app)| {
        format!("{{\"site_id\":\"{id}\",\"app_id\":\"{app}\",\"url\":\"http://{id}.example\"}}\n")
    });
    let ended = run(place, &["sites", "import", "-"], &lines.collect::<String>());
    assert_eq!(ended.code, 0, "{ended:?}");
}

/// One entry of a poll log: 2026-01-01T00:00:00Z, and how it came out.
fn entry(outcome: char) -> String {
    let mut digits = Vec::new();
    let mut millis = 1_767_225_600_000_u64;
    for _ in 0..9 {
        digits.push(char::from_digit(u32::try_from(millis % 36).unwrap(), 36).unwrap());
        millis /= 36;
    }
    let time: String = digits.iter().rev().collect();
    format!("{time}{outcome}00000")
}

/// A standing: `how` is `well`, `failing`, `gone` or `new`.
async fn stands(database: &Database, site: &str, app: &str, job: &str, how: &str) {
    let time = |text: &str| {
        if database.is_sqlite() {
            format!("'{text}'")
        } else {
            format!("TIMESTAMP '{text}'")
        }
    };
    let null = || "NULL".to_owned();
    let visited = time("2026-01-01 00:00:00.000");
    let due = time("2099-01-01 00:00:00.000");
    let (last, next, gone) = match how {
        "gone" => (visited.clone(), null(), visited),
        "new" => (null(), due, null()),
        _ => (visited, due, null()),
    };
    let (outcome, error, log) = match how {
        "well" => ("'success'", "NULL", entry('t') + &entry('s')),
        "new" => ("NULL", "NULL", String::new()),
        _ => ("'failure'", "'timeout: too slow'", entry('s') + &entry('t')),
    };
    let sql = format!(
        "INSERT INTO poll_status (site_id, job_name, level, count, app_id, batch_code, enabled, \
         last_error, last_outcome, last_run_at, next_due_at, given_up_at, last_duration_ms, \
         poll_log) VALUES ('{site}', '{job}', 0, 1, '{app}', 7, TRUE, {error}, {outcome}, {last}, \
         {next}, {gone}, 0, '{log}')"
    );
    database.run(&sql).await.unwrap();
}

async fn sites_that_fail_and_that_are_well_are_listed(database: &Database) {
    let place = installation(database);
    sites(
        &place,
        &["s1", "s2", "s3", "s4", "s5", "s6"].map(|id| (id, "a")),
    );
    for (site, how) in [
        ("s1", "well"),
        ("s2", "failing"),
        ("s3", "gone"),
        ("s4", "new"),
        ("s5", "failing"),
    ] {
        stands(database, site, "a", "sync", how).await;
    }
    done(&place, &["disable", "s5"]);
    let list = |args: &[&str]| ids(&done(&place, &[&["list"], args].concat()));
    assert_eq!(list(&["--state", "failing"]), ["s2"]);
    assert_eq!(list(&["--state", "well"]), ["s1"]);
    let job = ["--app", "a", "--job", "sync"];
    assert_eq!(list(&[&job[..], &["--state", "failing"]].concat()), ["s2"]);
    assert_eq!(list(&["--state", "failing", "--sort", "level"]), ["s2"]);
    assert_eq!(list(&["--job", "info", "--state", "failing"]), [""; 0]);

    let mut server = place.start();
    server.ready().await;
    let page = server.get("/v1/sites?state=failing").await;
    assert_eq!(ids(&page), ["s2"]);
    assert_eq!(ids(&server.get("/v1/sites?state=well").await), ["s1"]);
    server.terminate().await;
}

async fn a_list_of_the_failing_is_fast_among_a_hundred_thousand(database: &Database) {
    let place = installation(database);
    assert_eq!(run(&place, &["migrate"], "").code, 0);
    let numbers = if database.is_sqlite() {
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
    } else {
        "WITH n(i) AS (SELECT generate_series(1, 100000)) "
    };
    let time = |text: &str| {
        let cast = if database.is_sqlite() {
            ""
        } else {
            "TIMESTAMP "
        };
        format!("{cast}'{text}'")
    };
    let (last, next) = (
        time("2026-01-01 00:00:00.000"),
        time("2099-01-01 00:00:00.000"),
    );
    for sql in [
        format!(
            "INSERT INTO sites (site_id, app_id, url) {numbers}\
             SELECT 's' || i, 'a', 'http://s.example' FROM n"
        ),
        // Those that fail are the last ones that a scan comes to.
        format!(
            "INSERT INTO poll_status (site_id, job_name, app_id, batch_code, enabled, \
             last_outcome, last_run_at, next_due_at, last_error) {numbers}\
             SELECT 's' || i, 'sync', 'a', 7, TRUE, \
             CASE WHEN i > 99990 THEN 'failure' ELSE 'success' END, {last}, {next}, NULL FROM n"
        ),
    ] {
        database.run(&sql).await.unwrap();
    }
    let mut server = place.start();
    server.ready().await;
    for (query, found) in [
        ("state=failing", 10),
        ("state=failing&app=a&job=sync", 10),
        ("state=failing&app=a&job=sync&sort=level&order=desc", 10),
        ("state=failing&app=a&job=sync&sort=next_due_at", 10),
        ("state=well&app=a&job=sync", 100),
        ("state=given_up&app=a&job=sync", 0),
    ] {
        let begun = Instant::now();
        let page = server.get(&format!("/v1/sites?{query}")).await;
        let took = begun.elapsed();
        eprintln!("{query}: {took:?}");
        assert_eq!(ids(&page).len(), found, "{query}");
        // Measured at a tenth of it; the machine may be busy.
        assert!(took < Duration::from_secs(3), "{query}: {took:?}");
    }
    server.terminate().await;
}

async fn a_site_is_shown_with_its_visits_and_when_it_is_next_and_why(database: &Database) {
    let place = installation(database);
    sites(&place, &[("s1", "a"), ("s2", "a")]);
    stands(database, "s1", "a", "sync", "failing").await;
    stands(database, "s2", "a", "gone-job", "well").await;
    let shown = done(&place, &["show", "s1"]);
    let job = &shown["jobs"][0];
    assert_eq!(
        job["visits"],
        json!([
            {"at": "2026-01-01T00:00:00.000Z", "outcome": "failure", "kind": "timeout", "duration_ms": 0},
            {"at": "2026-01-01T00:00:00.000Z", "outcome": "success", "kind": null, "duration_ms": 0},
        ])
    );
    let why = "failed once at this level: 1 hour after the last visit, by highwater poll alone";
    assert_eq!(job["next_visit"]["why"], why);
    assert!(
        job["next_visit"]["at"]
            .as_str()
            .unwrap()
            .starts_with("2099-01-01")
    );
    assert_eq!(shown["jobs_to_come"][0]["job_name"], "info");
    let text = run(&place, &["sites", "show", "s1"], "").out;
    for words in [
        why,
        "timeout  < 1 ms",
        "success  < 1 ms",
        "level 0 (1 hour), 1 of 2 failures",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let lost = done(&place, &["show", "s2"]);
    let next = &lost["jobs"][0]["next_visit"];
    assert_eq!(next["at"], Value::Null);
    assert!(
        next["why"]
            .as_str()
            .unwrap()
            .contains("not in the configuration")
    );

    let mut server = place.start();
    server.ready().await;
    // What is due at once is due now, which is another time.
    assert_eq!(server.get("/v1/sites/s1").await["jobs"], shown["jobs"]);
    server.terminate().await;
}

async fn a_name_that_nothing_has_is_refused_with_those_that_are_known(database: &Database) {
    let place = installation(database);
    sites(&place, &[("s1", "a"), ("s2", "lost")]);
    stands(database, "s2", "lost", "once", "gone").await;
    for (args, words) in [
        (&["list", "--app", "x"][..], "--app: no app \"x\""),
        (&["list", "--app", "x"], "known: a, b, lost"),
        (&["list", "--job", "x"], "--job: no job \"x\""),
        (&["list", "--job", "x"], "a/info, a/sync, b/sync, lost/once"),
        (
            &["list", "--app", "b", "--job", "info"],
            "no job \"info\" of app b",
        ),
        (&["revive", "--all", "--app", "x"], "--app: no app \"x\""),
        (&["revive", "s1", "--job", "x"], "--job: no job \"x\""),
    ] {
        let ended = run(&place, &[&["sites"], args].concat(), "");
        assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
        assert!(ended.err.contains(words), "{args:?}: {}", ended.err);
    }
    // What only a row has is known.
    let page = done(&place, &["list", "--app", "lost", "--job", "once"]);
    assert_eq!(ids(&page), ["s2"]);
    assert_eq!(done(&place, &["list", "--app", "b"])["items"], json!([]));

    let mut server = place.start();
    server.ready().await;
    let client = reqwest::Client::new();
    let url = |path: &str| format!("{}/v1/sites{path}", server.address());
    for (request, field) in [
        (client.get(url("?app=x")), "app"),
        (client.get(url("?job=x")), "job"),
        (
            client.post(url("/revive")).json(&json!({"app_id": "x"})),
            "app_id",
        ),
        (
            client.post(url("/revive")).json(&json!({"job_name": "x"})),
            "job_name",
        ),
    ] {
        let answer = request.bearer_auth(CONTROL).send().await.unwrap();
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(status, 422, "{problem}");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        let message = problem["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains("lost"), "{message}");
    }
    server.terminate().await;
}

async fn sites_never_visited_by_a_job_are_of_its_apps(database: &Database) {
    let place = installation(database);
    sites(&place, &[("a1", "a"), ("b1", "b"), ("c1", "c")]);
    let list = |job: &str| ids(&done(&place, &["list", "--state", "never", "--job", job]));
    assert_eq!(list("info"), ["a1"]);
    assert_eq!(list("sync"), ["a1", "b1"]);
    stands(database, "a1", "a", "info", "well").await;
    assert_eq!(list("info"), [""; 0]);
}

async fn what_was_given_up_by_two_jobs_is_one_site(database: &Database) {
    let place = installation(database);
    sites(&place, &[("s1", "a"), ("s2", "a")]);
    for (site, job) in [("s1", "sync"), ("s1", "info"), ("s2", "sync")] {
        stands(database, site, "a", job, "gone").await;
    }
    let ended = run(&place, &["sites", "revive", "--all"], "");
    assert_eq!(ended.out, "2 sites revived (3 jobs)\n", "{ended:?}");
    // Revived is not the same as never visited: the history is there.
    let job = &done(&place, &["show", "s1"])["jobs"][0];
    assert_eq!(
        (&job["revived"], &job["last_run_at"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(job["visits"].as_array().unwrap().len(), 2);
    let why = job["next_visit"]["why"].as_str().unwrap();
    assert!(
        why.starts_with("revived: due at once; its history is kept"),
        "{why}"
    );
    let list = run(&place, &["sites", "list", "--job", "sync"], "").out;
    assert_eq!(list.matches("revived").count(), 2, "{list}");
}

async fn sites_of_an_app_without_a_job_are_counted(database: &Database) {
    let place = installation(database);
    sites(&place, &[("a1", "a"), ("x1", "x.y"), ("x2", "x.y")]);
    let told = "warning: no job of app \"x.y\" is configured; its 2 sites are not visited";
    let ended = run(&place, &["sites", "list"], "");
    assert!(ended.err.contains(told), "{}", ended.err);
    let ended = run(&place, &["sites", "list", "--app", "a"], "");
    assert!(!ended.err.contains("warning"), "{}", ended.err);

    let mut server = place.start();
    server.ready().await;
    let jobs = server.get("/v1/jobs").await;
    assert_eq!(
        jobs["apps_without_jobs"],
        json!([{"app": "x.y", "sites": 2}])
    );
    let page = reqwest::get(format!("{}/sites", server.address())).await;
    let page = page.unwrap().text().await.unwrap();
    assert!(page.contains("Sites that nothing visits"), "{page}");
    assert!(page.contains("2 sites"), "{page}");
    server.terminate().await;
}

async fn an_application_does_not_enable_what_an_operator_disabled(database: &Database) {
    let place = installation(database);
    sites(&place, &[("s1", "a")]);
    done(&place, &["disable", "s1"]);
    let mut server = place.start();
    server.ready().await;
    let client = reqwest::Client::new();
    let send = async |token: &str, body: Value| -> (u16, Value) {
        let request = client
            .post(format!("{}/v1/sites", server.address()))
            .bearer_auth(token)
            .json(&body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    };
    let site = |enabled: bool| json!({"site_id": "s1", "app_id": "a", "url": "http://new.example", "enabled": enabled});
    let (status, taken) = send(INTAKE, site(true)).await;
    assert_eq!(
        (status, &taken["changed"], &taken["enabled_kept"]),
        (202, &json!(1), &json!(["s1"])),
        "{taken}"
    );
    let shown = server.get("/v1/sites/s1").await;
    assert_eq!(
        (&shown["url"], &shown["enabled"]),
        (&json!("http://new.example"), &json!(false))
    );
    // One that is new comes as it is sent.
    let new = json!({"site_id": "s2", "app_id": "a", "url": "http://s.example", "enabled": false});
    assert_eq!(send(INTAKE, new).await.0, 202);
    assert_eq!(server.get("/v1/sites/s2").await["enabled"], false);
    let (status, taken) = send(CONTROL, site(true)).await;
    assert_eq!(
        (status, &taken["enabled_kept"]),
        (202, &json!([])),
        "{taken}"
    );
    assert_eq!(server.get("/v1/sites/s1").await["enabled"], true);
    let recorded = "SELECT action || ' ' || target AS value FROM audit WHERE who LIKE 'control%'";
    assert_eq!(database.texts(recorded).await, ["sites.import s1"]);
    server.terminate().await;
}

async fn lines_that_are_wrong_are_told_in_plain_words(database: &Database) {
    let place = installation(database);
    sites(&place, &[("s1", "a")]);
    let lines = "[1]\n\
        {\"site_id\":\"s2\",\"app_id\":\"a\",\"url\":\"http://s.example\",\"labels\":[]}\n\
        {\"site_id\":\"s1\",\"app_id\":\"other.app\",\"url\":\"http://s.example\"}\n";
    let ended = run(&place, &["sites", "import", "-"], lines);
    assert_eq!(ended.code, 1, "{ended:?}");
    for words in [
        "line 1: expected an object, as {\"site_id\":",
        "line 2: labels: expected an object, as {\"region\":\"eu\"}, found a list",
        "line 3: site s1 is one of app a",
    ] {
        assert!(ended.err.contains(words), "{words}: {}", ended.err);
    }
    // Nothing of that app came in.
    assert!(!ended.err.contains("warning"), "{}", ended.err);
    let csv = "site_id,app_id,url\ns3,a,\n";
    let ended = run(&place, &["sites", "import", "--format", "csv", "-"], csv);
    let words = "line 2: url: missing or empty: expected an address";
    assert!(ended.err.contains(words), "{}", ended.err);
    let problem = "SELECT problem AS value FROM audit WHERE outcome = 'refused' ORDER BY id";
    let problems = database.texts(problem).await;
    assert!(
        problems[0].starts_with("3 lines were refused; line 1"),
        "{problems:?}"
    );
}
