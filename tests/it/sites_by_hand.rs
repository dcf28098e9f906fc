//! Sites from a shell, by SQL and over HTTP: imported, listed, changed.

use crate::command_line::{Ended, program};
use crate::support::{Database, Installation, on_both_databases};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Instant;

on_both_databases!(
    a_hundred_thousand_sites_are_imported_in_seconds,
    csv_is_imported_with_labels,
    a_site_that_is_known_is_brought_up_to_date,
    sites_are_changed_from_a_shell,
    sites_written_by_sql_are_as_good,
    lists_are_filtered_sorted_and_paged,
    the_api_does_the_same,
);

const TOKEN: &str = "control-token-of-a-test";

fn installation(database: &Database) -> Installation {
    let place = Installation::new(
        database,
        "sites",
        "control_token_file = \"control.token\"\n\n\
         [[ledgers]]\nname = \"trace\"\nkind = \"sawtooth\"\nurl = \"http://127.0.0.1:1\"\n",
    );
    std::fs::write(place.path().join("control.token"), TOKEN).unwrap();
    place
}

fn run(place: &Installation, args: &[&str], input: &str) -> Ended {
    let mut command = program(place.path());
    Ended::from(command.args(args).write_stdin(input).output().unwrap())
}

/// Runs what is to succeed; answers its JSON.
fn done(place: &Installation, args: &[&str]) -> Value {
    let args = [&["sites"], args, &["--output", "json"]].concat();
    let ended = run(place, &args, "");
    assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
    serde_json::from_str(&ended.out).unwrap()
}

fn import(place: &Installation, args: &[&str], input: &str) -> (Ended, Value) {
    let args = [&["sites", "import"], args, &["--output", "json", "-"]].concat();
    let ended = run(place, &args, input);
    let report = serde_json::from_str(&ended.out).unwrap_or(Value::Null);
    (ended, report)
}

fn ids(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap();
    let ids = items.iter().map(|item| item["site_id"].as_str().unwrap());
    ids.collect()
}

async fn a_hundred_thousand_sites_are_imported_in_seconds(database: &Database) {
    let place = installation(database);
    let mut text = String::new();
    for n in 1..=100_000 {
        match n {
            // 25 bad lines: 20 are named, 5 counted.
            _ if n % 4000 == 0 => writeln!(text, "{{\"site_id\":\"s{n}\"}}").unwrap(),
            _ => writeln!(
                text,
                "{{\"site_id\":\"s{n}\",\"app_id\":\"app:org.civicrm.myapp\",\
                 \"url\":\"https://s{n}.example/civicrm\",\"labels\":{{\"n\":\"{n}\"}}}}"
            )
            .unwrap(),
        }
    }
    let file = place.path().join("sites.ndjson");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for (round, words) in [
        (
            "first",
            "99975 sites added, 0 changed, 0 unchanged, 25 lines refused\n",
        ),
        (
            "again",
            "0 sites added, 0 changed, 99975 unchanged, 25 lines refused\n",
        ),
    ] {
        let begun = Instant::now();
        let ended = run(&place, &["sites", "import", file], "");
        eprintln!("100,000 lines imported ({round}) in {:?}", begun.elapsed());
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (1, words),
            "{}",
            ended.err
        );
        for line in ["line 4000: ", "line 8000: ", "line 80000: "] {
            assert!(ended.err.contains(line), "{}", ended.err);
        }
        assert!(!ended.err.contains("line 84000"), "{}", ended.err);
        assert!(
            ended.err.contains("5 more lines were refused"),
            "{}",
            ended.err
        );
        assert!(ended.err.contains("no job of app"), "{}", ended.err);
    }
    let of_app = "app_id = 'org.civicrm.myapp' AND enabled AND batch_code BETWEEN 0 AND 10000";
    let count = format!("SELECT count(*) AS value FROM sites WHERE {of_app}");
    assert_eq!(database.number(&count).await, 99_975);
    // Ten sites a code on average: the seed's shards are of even size.
    let first = "SELECT count(*) AS value FROM sites WHERE batch_code < 2500";
    let first = database.number(first).await;
    assert!((24_000..26_000).contains(&first), "{first} of a quarter");
}

async fn csv_is_imported_with_labels(database: &Database) {
    let place = installation(database);
    let text = "site_id,url,label.region,labels,batch_code\n\
        a,https://a.example/,eu,\"{\"\"size\"\":3}\",17\n\
        b,not an address,eu,,\n\
        \n\
        c,https://c.example/,,,10001\n\
        d,https://d.example/\n\
        e,https://e.example/,,,\n";
    let (ended, report) = import(&place, &["--app", "x.y", "--format", "csv"], text);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(
        (&report["added"], &report["refused"]),
        (&json!(2), &json!(3))
    );
    let lines: Vec<i64> = report["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bad| bad["line"].as_i64().unwrap())
        .collect();
    assert_eq!(lines, [3, 5, 6], "{report}");
    let a = done(&place, &["show", "a"]);
    assert_eq!(a["labels"], json!({"region": "eu", "size": 3}));
    assert_eq!(
        (&a["batch_code"], &a["app_id"]),
        (&json!(17), &json!("x.y"))
    );
    let (ended, _) = import(&place, &["--format", "csv"], text);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("no --app given"), "{}", ended.err);
    let ended = run(&place, &["sites", "import", "sites.txt"], "");
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("--format"), "{}", ended.err);
}

async fn a_site_that_is_known_is_brought_up_to_date(database: &Database) {
    let place = installation(database);
    let line = |more: &str| format!("{{\"site_id\":\"s\",\"app_id\":\"a\",{more}}}\n");
    let first = line("\"url\":\"http://one.example\",\"batch_code\":5,\"labels\":{\"x\":1}");
    let (ended, _) = import(&place, &[], &first);
    assert_eq!(ended.code, 0, "{ended:?}");
    done(&place, &["disable", "s"]);
    let (_, report) = import(&place, &[], &line("\"url\":\"http://two.example\""));
    assert_eq!(
        (&report["added"], &report["changed"]),
        (&json!(0), &json!(1))
    );
    let site = done(&place, &["show", "s"]);
    assert_eq!(site["url"], "http://two.example");
    let kept = (&site["batch_code"], &site["enabled"], &site["labels"]);
    assert_eq!(kept, (&json!(5), &json!(false), &json!({"x": 1})));

    let other = "{\"site_id\":\"s\",\"app_id\":\"b\",\"url\":\"http://three.example\"}\n";
    let code = line("\"url\":\"http://three.example\",\"batch_code\":6");
    let (ended, report) = import(&place, &[], &format!("{other}{code}"));
    assert_eq!(
        (ended.code, &report["refused"]),
        (1, &json!(2)),
        "{ended:?}"
    );
    assert!(
        ended.err.contains("line 1: site s is one of app a"),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains("line 2: site s has batch code 5"),
        "{}",
        ended.err
    );
    assert_eq!(done(&place, &["show", "s"])["url"], "http://two.example");
}

/// How some sites stand, as a server would have written it.
async fn standings(database: &Database) {
    let (yes, t) = if database.is_sqlite() {
        ("1", "'2026-")
    } else {
        ("TRUE", "TIMESTAMP '2026-")
    };
    let row = |site: &str, job: &str, level: u32, rest: &str| {
        format!("('{site}', '{job}', {level}, 2, 'a', 7, {yes}, 'oops', {rest})")
    };
    let due = format!("{t}01-01 00:00:00.000', {t}01-02 00:00:00.000', NULL");
    let later = format!("{t}01-03 00:00:00.000', {t}12-31 00:00:00.000', NULL");
    let gone = format!("{t}01-04 00:00:00.000', NULL, {t}01-05 00:00:00.000'");
    let rows = [
        row("s1", "default", 0, &due),
        row("s2", "default", 1, &later),
        row("s3", "default", 2, &gone),
        row("s3", "other", 2, &gone),
        row("s4", "default", 2, &gone),
    ];
    let sql = format!(
        "INSERT INTO poll_status (site_id, job_name, level, count, app_id, batch_code, enabled, \
         last_error, last_run_at, next_due_at, given_up_at) VALUES {}; \
         INSERT INTO poll_results (status_seq, run_at, document) \
         SELECT seq, last_run_at, '{{\"version\":5}}' FROM poll_status WHERE site_id = 's3'",
        rows.join(", ")
    );
    database.run(&sql).await.unwrap();
}

fn six_sites(place: &Installation) {
    let text: String = (1..=6)
        .map(|n| {
            let code = 10 - n;
            format!(
                "{{\"site_id\":\"s{n}\",\"app_id\":\"a\",\"url\":\"https://Site{n}.example/x_%\",\
                 \"batch_code\":{code}}}\n"
            )
        })
        .collect();
    let (ended, _) = import(place, &[], &text);
    assert_eq!(ended.code, 0, "{ended:?}");
}

async fn sites_are_changed_from_a_shell(database: &Database) {
    let place = installation(database);
    let added = done(
        &place,
        &[
            "add",
            "--app",
            "a",
            "s0",
            "https://s0.example",
            "--label",
            "k=v",
            "--disabled",
        ],
    );
    assert_eq!(added["added"], 1);
    six_sites(&place);
    standings(database).await;

    let ended = run(&place, &["sites", "disable", "s1", "s2", "nobody"], "");
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (1, "2 sites disabled\n"),
        "{ended:?}"
    );
    assert!(
        ended.err.contains("site \"nobody\" is not known"),
        "{}",
        ended.err
    );
    let off = "SELECT count(*) AS value FROM poll_status WHERE NOT enabled";
    assert_eq!(
        database.number(off).await,
        2,
        "the trigger carries the flag"
    );
    assert_eq!(done(&place, &["enable", "s1"])["sites"], 1);
    assert_eq!(database.number(off).await, 1);

    let ended = run(&place, &["sites", "revive"], "");
    assert_eq!(ended.code, 2, "{ended:?}");
    let revived = done(&place, &["revive", "s3", "s1", "--job", "default"]);
    assert_eq!(
        (&revived["sites"], &revived["jobs"]),
        (&json!(1), &json!(1)),
        "only what was given up, only with that job"
    );
    let fresh = "SELECT count(*) AS value FROM poll_status WHERE site_id = 's3' AND level = 0 \
        AND count = 0 AND given_up_at IS NULL AND next_due_at IS NOT NULL";
    assert_eq!(database.number(fresh).await, 1);
    let ended = run(&place, &["sites", "revive", "--all", "--app", "a"], "");
    assert_eq!(ended.out, "2 sites revived (2 jobs)\n", "{ended:?}");

    let shown = run(&place, &["sites", "show", "s3"], "");
    assert!(shown.out.contains("{\"version\":5}"), "{}", shown.out);
    assert_eq!(done(&place, &["remove", "s3", "s4"])["sites"], 2);
    for table in ["poll_status WHERE site_id IN ('s3', 's4')", "poll_results"] {
        let count = format!("SELECT count(*) AS value FROM {table}");
        assert_eq!(database.number(&count).await, 0, "{table}");
    }
    assert_eq!(run(&place, &["sites", "show", "s3"], "").code, 1);
    let rows = "SELECT action || ' ' || target || ' ' || outcome AS value FROM audit ORDER BY id";
    let rows = database.texts(rows).await;
    for row in [
        "sites.add s0 done",
        "sites.import standard input done",
        "sites.disable 3 sites: s1, s2, nobody done",
        "sites.revive all given up of a done",
        "sites.remove 2 sites: s3, s4 done",
    ] {
        assert!(rows.iter().any(|found| found == row), "{row}: {rows:?}");
    }
    let actions = "SELECT DISTINCT action AS value FROM audit ORDER BY action";
    assert_eq!(
        database.texts(actions).await,
        [
            "sites.add",
            "sites.disable",
            "sites.enable",
            "sites.import",
            "sites.remove",
            "sites.revive"
        ]
    );
}

async fn sites_written_by_sql_are_as_good(database: &Database) {
    let place = installation(database);
    assert_eq!(run(&place, &["migrate"], "").code, 0);
    for n in 0..200 {
        let sql = format!(
            "INSERT INTO sites (site_id, app_id, url) VALUES ('q{n}', 'a', 'http://q.example')"
        );
        database.run(&sql).await.unwrap();
    }
    let codes = database
        .texts("SELECT CAST(batch_code AS TEXT) AS value FROM sites")
        .await;
    let codes: Vec<u16> = codes.iter().map(|code| code.parse().unwrap()).collect();
    assert!(codes.iter().all(|code| *code <= 10_000), "{codes:?}");
    let distinct: std::collections::BTreeSet<&u16> = codes.iter().collect();
    assert!(distinct.len() > 150, "drawn at random: {codes:?}");
    for change in [
        "batch_code = (batch_code + 1) % 10000",
        "site_id = 'other'",
        "app_id = 'other'",
    ] {
        let sql = format!("UPDATE sites SET {change} WHERE site_id = 'q1'");
        let error = database.run(&sql).await.unwrap_err().to_string();
        assert!(error.contains("never change"), "{change}: {error}");
    }
    let text = "{\"site_id\":\"q1\",\"app_id\":\"a\",\"url\":\"http://new.example\"}";
    let (_, report) = import(&place, &[], text);
    assert_eq!(report["changed"], 1);
    assert_eq!(ids(&done(&place, &["list", "--text", "NEW.ex"])), ["q1"]);
}

async fn lists_are_filtered_sorted_and_paged(database: &Database) {
    let place = installation(database);
    six_sites(&place);
    standings(database).await;
    done(&place, &["disable", "s6"]);
    let list = |args: &[&str]| -> Vec<String> {
        // Two a page: every order is followed through its cursors.
        let (mut found, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut all = [&["list", "--limit", "2"][..], args].concat();
            if let Some(cursor) = &cursor {
                all.extend(["--cursor", cursor]);
            }
            let page = done(&place, &all);
            found.extend(ids(&page).into_iter().map(str::to_owned));
            match page["next"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return found,
            }
        }
    };
    assert_eq!(list(&[]), ["s1", "s2", "s3", "s4", "s5", "s6"]);
    assert_eq!(list(&["--desc"]), ["s6", "s5", "s4", "s3", "s2", "s1"]);
    assert_eq!(list(&["--sort", "batch_code"])[..2], ["s6", "s5"]);
    assert_eq!(list(&["--sort", "batch_code", "--desc"])[..2], ["s1", "s2"]);
    assert_eq!(list(&["--sort", "created_at", "--desc"]).len(), 6);
    assert_eq!(list(&["--text", "S2"]), ["s2"]);
    assert_eq!(list(&["--text", "e4.EXAMPLE/x_%"]), ["s4"]);
    assert_eq!(list(&["--text", "e%.example"]), [""; 0]);
    let job = ["--app", "a", "--job", "default"];
    let with = |args: &[&str]| list(&[&job[..], args].concat());
    assert_eq!(with(&["--state", "due"]), ["s1"]);
    assert_eq!(with(&["--state", "waiting"]), ["s2"]);
    assert_eq!(with(&["--state", "given_up"]), ["s3", "s4"]);
    assert_eq!(with(&["--state", "never"]), ["s5"]);
    assert_eq!(with(&["--state", "disabled"]), ["s6"]);
    assert_eq!(with(&["--level", "2"]), ["s3", "s4"]);
    assert_eq!(with(&["--level", "2", "--text", "s3"]), ["s3"]);
    for (sort, expected) in [
        ("next_due_at", &["s1", "s2"][..]),
        ("last_run_at", &["s1", "s2", "s3", "s4"]),
        ("level", &["s1", "s2", "s3", "s4"]),
        ("site_id", &["s1", "s2", "s3", "s4", "s5", "s6"]),
    ] {
        assert_eq!(with(&["--sort", sort]), expected, "{sort}");
        let backwards: Vec<&str> = expected.iter().rev().copied().collect();
        assert_eq!(with(&["--sort", sort, "--desc"]), backwards, "{sort}");
    }
    // Without a job, each job of a site is listed.
    assert_eq!(list(&["--state", "given_up"]), ["s3", "s3", "s4"]);
    assert_eq!(list(&["--level", "2", "--sort", "batch_code"]).len(), 3);
    let ended = run(&place, &["sites", "list", "--state", "never"], "");
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(
        ended.err.contains("--state: never visited by which job"),
        "{}",
        ended.err
    );
    let table = run(&place, &["sites", "list", "--job", "default"], "");
    assert!(table.out.starts_with("site"), "{}", table.out);
    assert_eq!(table.out.lines().count(), 7, "{}", table.out);
}

async fn the_api_does_the_same(database: &Database) {
    let place = installation(database);
    let mut server = place.start();
    server.ready().await;
    let client = reqwest::Client::new();
    let url = |path: &str| format!("{}/v1/sites{path}", server.address());
    let send = async |request: reqwest::RequestBuilder| -> (u16, Value) {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    };
    let sites: Vec<Value> = (1..=6)
        .map(|n| json!({"site_id": format!("s{n}"), "app_id": "a", "url": "http://x.example"}))
        .collect();
    let (status, taken) = send(client.post(url("")).json(&json!({ "sites": sites }))).await;
    assert_eq!((status, &taken["added"]), (202, &json!(6)), "{taken}");
    assert_eq!(taken["apps_without_jobs"], json!(["a"]));
    let one = json!({"site_id": "s1", "app_id": "b", "url": "http://x.example"});
    let (status, taken) = send(client.post(url("")).json(&one)).await;
    assert_eq!(
        (status, &taken["refused"][0]["site_id"]),
        (200, &json!("s1")),
        "{taken}"
    );
    let bad = json!({"sites": [sites[0], {"site_id": "a/b", "app_id": "a", "url": "x"}]});
    let (status, problem) = send(client.post(url("")).json(&bad)).await;
    assert_eq!(status, 422, "{problem}");
    let fields: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["sites[1].site_id", "sites[1].url"]);

    standings(database).await;
    let listed = server
        .get("/v1/sites?job=default&state=given_up&limit=1")
        .await;
    assert_eq!(ids(&listed), ["s3"]);
    assert_eq!(listed["items"][0]["status"]["level"], 2);
    let next = listed["next"].as_str().unwrap();
    let rest = format!("/v1/sites?job=default&state=given_up&cursor={next}");
    assert_eq!(ids(&server.get(&rest).await), ["s4"]);
    let shown = server.get("/v1/sites/s3").await;
    assert_eq!(
        shown["jobs"][0]["results"][0]["document"],
        json!({"version": 5})
    );

    let (status, _) = send(client.post(url("/s3/revive"))).await;
    assert_eq!(status, 401, "an operator's action needs the control token");
    let post = |path: &str| client.post(url(path)).bearer_auth(TOKEN);
    let (status, answer) = send(post("/s3/revive")).await;
    assert_eq!(
        (status, &answer["sites"], &answer["jobs"]),
        (200, &json!(1), &json!(2)),
        "{answer}"
    );
    let (status, _) = send(post("/revive").json(&json!({}))).await;
    assert_eq!(status, 422);
    let (_, answer) = send(post("/revive").json(&json!({"app_id": "app:a"}))).await;
    assert_eq!(answer["sites"], 1, "{answer}");
    assert_eq!(send(post("/s1/disable")).await.0, 200);
    assert_eq!(server.get("/v1/sites/s1").await["enabled"], false);
    assert_eq!(send(post("/s1/enable")).await.0, 200);
    let gone = client.delete(url("/s1")).bearer_auth(TOKEN);
    assert_eq!(send(gone).await.0, 200);
    let (status, problem) = send(post("/s1/enable")).await;
    assert_eq!(status, 404);
    assert_eq!(problem["type"], "urn:highwater:problem:site-not-found");
    let actions =
        "SELECT action || ' ' || target || ' ' || outcome AS value FROM audit ORDER BY id";
    let recorded = database.texts(actions).await;
    for row in [
        "sites.revive s3 done",
        "sites.disable s1 done",
        "sites.remove s1 done",
    ] {
        assert!(
            recorded.iter().any(|found| found == row),
            "{row}: {recorded:?}"
        );
    }
    server.terminate().await;
}
