//! Configurations of the site flow: what a person writes, and what they are told.

use super::*;
use crate::flows::sites::RetryPolicy;
use secrecy::ExposeSecret as _;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const ISSUE: &str = r#"
[[jobs]]
app = "org.civicrm.myapp"
name = "sync_activities"
retry = "2 hour (x12); 1 day (x30)"
batches = 4
per_host = 4
[jobs.handler.http]
method = "GET"
path = "/sync"
timeout = "10s"
expect = { status = "2xx", body_contains = "ok" }
"#;

const JOB: &str = "[[jobs]]\napp='a'\n";

fn try_parse(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let environment: Vec<_> = environment.iter().map(owned).collect();
    let base = Path::new("/nonexistent/base");
    parse(text, "hw.toml", base, environment, LoadOptions::default())
}

fn loaded(text: &str, environment: &[(&str, &str)]) -> Loaded {
    try_parse(text, environment).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str, environment: &[(&str, &str)]) -> String {
    match try_parse(text, environment) {
        Ok(loaded) => panic!("accepted: {loaded:?}"),
        Err(errors) => errors.to_string(),
    }
}

fn warnings(text: &str) -> String {
    let warnings = loaded(text, &[]).warnings;
    let told: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    told.join("\n")
}

/// The handler of the one job.
fn handler(text: &str) -> HandlerSettings {
    let mut jobs = loaded(&format!("{JOB}{text}"), &[]).settings.jobs;
    assert_eq!(jobs.len(), 1);
    jobs.remove(0).handler
}

#[test]
fn the_job_of_the_issue_works() {
    let loaded = loaded(ISSUE, &[]);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let [job] = loaded.settings.jobs.as_slice() else {
        panic!("{:?}", loaded.settings.jobs);
    };
    assert_eq!(job.key.to_string(), "org.civicrm.myapp/sync_activities");
    assert_eq!(job.retry.to_string(), "2 hour (x12); 1 day (x30)");
    assert_eq!((job.batches, job.per_host), (4, 4));
    assert!(job.server);
    let expected = HttpHandler {
        path: "/sync".to_owned(),
        expect: Expect {
            body_contains: Some("ok".to_owned()),
            ..Expect::default()
        },
        ..HttpHandler::default()
    };
    assert_eq!(job.handler, HandlerSettings::Http(expected));
}

#[test]
fn what_is_left_out_is_at_its_default() {
    let text = format!("{JOB}handler.http = {{}}\n");
    let settings = loaded(&text, &[]).settings;
    assert_eq!(settings.sites, SitesSettings::default());
    assert_eq!(settings.retention.polls_per_site, 20);
    let key = settings.jobs[0].key.clone();
    assert_eq!(&*key.name, "default");
    let handler = HandlerSettings::Http(HttpHandler::default());
    assert_eq!(settings.jobs[0], JobSettings::new(key, handler));
}

#[test]
fn each_handler_is_read() {
    let http = handler(
        r#"[jobs.handler.http]
method = "POST"
path = "?id={site_id}"
body = '{"in":{"app":"{app_id}"}}'
result = ""
[jobs.handler.http.headers]
X-Region = "{label:region}"
Accept = "application/json"
[jobs.handler.http.expect]
status = "200-204, 304"
headers.Content-Type = "json"
body_lacks = "error"
json = { "/is_error" = 0, "/a/0" = [1.5, { b = true }], "" = 1979-05-27 }
"#,
    );
    let HandlerSettings::Http(http) = http else {
        panic!("{http:?}");
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        http.headers,
        [
            pair("X-Region", "{label:region}"),
            pair("Accept", "application/json")
        ]
    );
    assert_eq!(http.result.as_deref(), Some(""));
    assert_eq!(http.expect.status, [200..=204, 304..=304]);
    assert_eq!(http.expect.headers, [pair("Content-Type", "json")]);
    assert_eq!(
        http.expect.json,
        [
            ("/is_error".to_owned(), json!(0)),
            ("/a/0".to_owned(), json!([1.5, { "b": true }])),
            (String::new(), json!("1979-05-27")),
        ]
    );

    let command = handler("handler.command = { args = ['/bin/visit', '{site_id}'] }");
    let expected = CommandHandler {
        args: vec!["/bin/visit".to_owned(), "{site_id}".to_owned()],
        timeout: Duration::from_secs(60),
        max_output_bytes: 64 * 1024,
    };
    assert_eq!(command, HandlerSettings::Command(expected));

    let code = handler("handler.code.timeout = '5s'");
    let expected = CodeHandler {
        timeout: Duration::from_secs(5),
    };
    assert_eq!(code, HandlerSettings::Code(expected));
}

#[test]
fn civicrm_calls_take_any_parameters_and_their_versions_path() {
    let key = ("HIGHWATER_APPS__A__API_KEY", "hunter22");
    let text = format!(
        "[[apps]]\nid = 'app:a'\n{JOB}[jobs.handler.civicrm]\nentity = 'Contact'\naction = 'get'\n\
         [jobs.handler.civicrm.params]\nlimit = 5\n[[jobs.handler.civicrm.params.where]]\nfield = 'id'\n\
         {JOB}name = 'three'\nhandler.civicrm = {{ version = 3, entity = 'System', action = 'check', keep_result = false }}\n"
    );
    let settings = loaded(&text, &[key]).settings;
    let civicrm: Vec<&CivicrmHandler> = settings
        .jobs
        .iter()
        .filter_map(|job| match &job.handler {
            HandlerSettings::Civicrm(civicrm) => Some(civicrm),
            _ => None,
        })
        .collect();
    assert_eq!(civicrm[0].version, CivicrmVersion::V4);
    assert_eq!(civicrm[0].path, "/civicrm/ajax/api4");
    assert_eq!(
        civicrm[0].params,
        json!({ "limit": 5, "where": [{ "field": "id" }] })
    );
    assert_eq!(civicrm[1].path, "/civicrm/ajax/rest");
    assert_eq!(civicrm[1].params, json!({}));
    assert!(!civicrm[1].keep_result);

    // Without a key there is nothing to call with.
    insta::assert_snapshot!(errors(&text, &[]), @r#"
    hw.toml:4:5: jobs[0].app: job "default" calls CiviCRM's API, which needs an API key, and the app "a" has none; set api_key_file of its [[apps]]
    hw.toml:13:5: jobs[1].app: job "three" calls CiviCRM's API, which needs an API key, and the app "a" has none; set api_key_file of its [[apps]]
    "#);
    let nowhere = text.replace("[[apps]]\nid = 'app:a'\n", "");
    insta::assert_snapshot!(errors(&nowhere, &[]), @r#"
    hw.toml:2:5: jobs[0].app: job "default" calls CiviCRM's API, which needs an API key, and the app "a" has none; add [[apps]] with id = "a" and api_key_file
    hw.toml:11:5: jobs[1].app: job "three" calls CiviCRM's API, which needs an API key, and the app "a" has none; add [[apps]] with id = "a" and api_key_file
    "#);
}

#[test]
fn keys_come_from_files_or_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("api.key"), "hunter22\n").unwrap();
    let text = "[[apps]]\nid = 'org.a'\napi_key_file = 'api.key'\nsite_key_file = 'keys/{site_id}'\n\
                [[apps]]\nid = 'org.b'\n[[jobs]]\napp = 'org.b'\nhandler.http.user = 'me'\n";
    let read = |text: &str, environment: &[(&str, &str)]| {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment: Vec<_> = environment.iter().map(owned).collect();
        parse(
            text,
            "hw.toml",
            folder.path(),
            environment,
            LoadOptions::default(),
        )
        .map_err(|errors| errors.to_string())
    };
    let by_variable = [
        ("HIGHWATER_APPS__ORG_B__SITE_KEY", "hunter23"),
        (
            "HIGHWATER_JOBS__ORG_B_DEFAULT__HANDLER__HTTP__PASSWORD",
            "hunter24",
        ),
    ];
    let loaded = read(text, &by_variable).unwrap();
    let apps = &loaded.settings.apps;
    let secret = |credential: &Option<Credential>| match credential {
        Some(Credential::Shared(secret)) => secret.expose_secret().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(secret(&apps[0].api_key), "hunter22");
    let keys = folder.path().join("keys/{site_id}");
    assert_eq!(apps[0].site_key, Some(Credential::PerSite(keys)));
    assert_eq!((&*apps[1].title, &apps[1].api_key), ("org.b", &None));
    assert_eq!(secret(&apps[1].site_key), "hunter23");
    let HandlerSettings::Http(http) = &loaded.settings.jobs[0].handler else {
        panic!();
    };
    let (user, password) = http.basic.clone().unwrap();
    assert_eq!(
        (user.as_str(), secret(&Some(password)).as_str()),
        ("me", "hunter24")
    );
    let shown = format!("{}{loaded:?}", dump(&loaded));
    assert!(!shown.contains("hunter2"), "{shown}");

    for (text, environment, expected) in [
        (
            "[[apps]]\nid='a'\napi_key_file='none'",
            None,
            "hw.toml:3:14: apps[0].api_key_file: the token file ",
        ),
        (
            "[[apps]]\nid='a'\napi_key='hunter22'",
            None,
            "apps[0].api_key: a secret does not stand in the configuration",
        ),
        (
            "[[apps]]\nid='a'",
            Some(("HIGHWATER_APPS__A__API_KEY", "hunter2")),
            "apps[0].api_key: the secret is too short for a token; expected at least 8",
        ),
        (
            "[[apps]]\nid='1'\n[[apps]]\nid='a'",
            Some(("HIGHWATER_APPS__1__TITLE", "")),
            "apps[1].title: \"\" is empty",
        ),
        (
            "[[jobs]]\napp='a'\nhandler.http.user='me'",
            None,
            "jobs[0].handler.http.user: a user without a password",
        ),
        (
            "[[jobs]]\napp='a'\nhandler.http.password_file='api.key'",
            None,
            "jobs[0].handler.http.password_file: a password without a user",
        ),
        (
            "[[jobs]]\napp='a'\nhandler.http={token_file='api.key',user='me',password_file='api.key'}",
            None,
            "jobs[0].handler.http.token_file: a token and a user are named",
        ),
    ] {
        let told = read(text, environment.as_slice()).unwrap_err();
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let text = r#"
[sites]
max_in_flight = 0
sweep_interval = "1ms"
deny_private_networks = "no"
max_result_bytes = "2MiB"
per_host = 1

[retention]
polls_per_site = 101

[[apps]]
id = "org/a"
title = ""
url = "https://me:hunter2@h"

[[apps]]
id = "app:org.b"

[[apps]]
id = "org.b"
name = "B"

[[jobs]]
app = "org.b"
retry = "2 parsec (x12)"
batches = 10001
per_host = 0
tries_more = 11
server = 1
handler.http.expect.status = "2yy"

[[jobs]]
app = "app:org.b"
name = "default"
[jobs.handler.http]
method = "get"
path = "/{site}?{label:a b}"
headers = { Authorization = "hunter2", "a b" = "c", X = 5, Y = "{z}" }
body = '{"a":{site_id'
user = "a:b"
timeout = "0s"
max_response_bytes = 1
result = "values"
verb = "GET"
[jobs.handler.http.expect]
status = "200, 700"
headers = "json"
body_contains = ""
json = { "is_error" = 0, "/a" = nan }

[[jobs]]
name = "a b"
handler = {}

[[jobs]]
app = "c"
[jobs.handler.command]
args = "visit {site_id}"
[jobs.handler.code]
timeout = "2 days"

[[jobs]]
app = "d"
handler.command.args = []

[[jobs]]
app = "e"
handler.command.args = ["visit", 5, "{site}"]

[[jobs]]
app = "f"
handler.civicrm = { version = 5, action = "a/b", params = [] }

[[jobs]]
app = "g"

[[jobs]]
app = "h"
handler = "http"

[[jobs]]
app = "i"
handler.html = {}

[[jobs]]
app = "j"
handler.command.args = ["visit-{app_id}"]
"#;
    let told = errors(text, &[]);
    assert!(!told.contains("hunter2"), "{told}");
    insta::assert_snapshot!(told, @r#"
    hw.toml:3:17: sites.max_in_flight: 0 is out of range; expected 1 to 4096
    hw.toml:4:18: sites.sweep_interval: "1ms" is too short; expected 10ms to 1day
    hw.toml:5:25: sites.deny_private_networks: "no" is neither; expected true or false
    hw.toml:6:20: sites.max_result_bytes: "2MiB" is out of range; expected 64 B to 1.0 MiB
    hw.toml:7:1: sites.per_host: unknown key; did you mean jobs[0].per_host?; known here are max_in_flight, sweep_interval, deny_private_networks, max_result_bytes, commit_interval, commit_rows
    hw.toml:10:18: retention.polls_per_site: 101 is out of range; expected 1 to 100
    hw.toml:13:6: apps[0].id: "org/a" is not an app id: expected 1 to 250 letters, digits, ".", "_" and "-", e.g. org.civicrm.myapp
    hw.toml:14:9: apps[0].title: "" is empty; expected a text, or leave the key out
    hw.toml:15:7: apps[0].url: the address holds a user or password; name the app's keys with api_key_file and site_key_file; expected e.g. "https://app.example/"
    hw.toml:21:6: apps[2].id: "org.b" is the id of apps[1] already; expected an id of its own
    hw.toml:22:1: apps[2].name: unknown key; did you mean jobs[0].name?; known here are id, title, url, api_key_file, site_key_file
    hw.toml:26:9: jobs[0].retry: "2 parsec (x12)" is not a retry policy: "parsec" is no unit (sec, min, hour, day, week, month, year), at character 3: write levels as "20min (x6); 1hour (x24)"
    hw.toml:27:11: jobs[0].batches: 10001 is out of range; expected 1 to 256 (each is a lease of its own; highwater poll --batch i/n takes n up to 10000)
    hw.toml:28:12: jobs[0].per_host: 0 is out of range; expected 1 to 1024
    hw.toml:29:14: jobs[0].tries_more: 11 is out of range; expected 0 to 10
    hw.toml:30:10: jobs[0].server: 1 is neither; expected true or false
    hw.toml:31:30: jobs[0].handler.http.expect.status: "2yy" is not a status; expected codes from 100 to 599, e.g. "2xx", "200", "200-204, 304"
    hw.toml:35:8: jobs[1].name: the app "org.b" has a job "default" in jobs[0] already; expected a name of its own
    hw.toml:37:10: jobs[1].handler.http.method: "get" is not known; expected "GET" or "HEAD" or "POST" or "PUT" or "PATCH" or "DELETE" or "OPTIONS"
    hw.toml:38:8: jobs[1].handler.http.path: {site} is not known: expected {site_id}, {app_id} or {label:NAME}, or {{site}} for {site} itself, at character 2; "a b" is not a label's name: expected 1 to 64 letters, digits, ".", "_" and "-", e.g. region, at character 9
    hw.toml:39:29: jobs[1].handler.http.headers.Authorization: this header does not stand here: name the secret with token_file, or user and password_file
    hw.toml:39:48: jobs[1].handler.http.headers."a b": "a b" is not a header's name; expected e.g. Accept
    hw.toml:39:57: jobs[1].handler.http.headers.X: 5 is not a text; expected one in quotes
    hw.toml:39:64: jobs[1].handler.http.headers.Y: {z} is not known: expected {site_id}, {app_id} or {label:NAME}, or {{z}} for {z} itself, at character 1
    hw.toml:40:8: jobs[1].handler.http.body: a name that nothing closes: expected } behind it, at character 6
    hw.toml:41:8: jobs[1].handler.http.user: "a:b" is not a user's name; expected one without ":" and control characters
    hw.toml:42:11: jobs[1].handler.http.timeout: "0s" is too short; expected 100ms to 1day
    hw.toml:43:22: jobs[1].handler.http.max_response_bytes: 1 is out of range; expected 1.0 KiB to 1.0 GiB
    hw.toml:44:10: jobs[1].handler.http.result: "values" is not a JSON pointer; expected e.g. "/values/0/id", with ~1 for / and ~0 for ~ in names, or "" for all of it
    hw.toml:45:1: jobs[1].handler.http.verb: unknown key; known here are method, path, headers, body, token_file, user, password_file, timeout, max_response_bytes, expect, result
    hw.toml:47:10: jobs[1].handler.http.expect.status: "700" is not a status; expected codes from 100 to 599, e.g. "2xx", "200", "200-204, 304"
    hw.toml:48:11: jobs[1].handler.http.expect.headers: "json" is not a table; expected a table of names and what the values have to contain, e.g. { Content-Type = "json" }
    hw.toml:49:17: jobs[1].handler.http.expect.body_contains: "" is empty; expected a text, or leave the key out
    hw.toml:50:23: jobs[1].handler.http.expect.json.is_error: "is_error" is not a JSON pointer; expected e.g. "/values/0/id", with ~1 for / and ~0 for ~ in names, or "" for all of it
    hw.toml:50:33: jobs[1].handler.http.expect.json."/a": NaN is no number that JSON has
    hw.toml:52:1: jobs[2].app: missing; expected the id of an app, e.g. app = "org.civicrm.myapp"
    hw.toml:53:8: jobs[2].name: "a b" is not a job name: expected 1 to 250 letters, digits, ".", "_" and "-", e.g. sync_activities
    hw.toml:54:11: jobs[2].handler: no handler is named; expected one of [jobs.handler.http], [jobs.handler.civicrm], [jobs.handler.command] or [jobs.handler.code]
    hw.toml:58:7: jobs[3].handler: command and code are named, and a job has one handler; keep one, and give each other a job of its own
    hw.toml:59:8: jobs[3].handler.command.args: "visit {site_id}" is not a list; expected a list of the program and its arguments, e.g. ["/usr/local/bin/visit", "{site_id}"]
    hw.toml:61:11: jobs[3].handler.code.timeout: "2 days" is too long; expected 100ms to 1day
    hw.toml:65:24: jobs[4].handler.command.args: no program is named; expected a list of the program and its arguments, e.g. ["/usr/local/bin/visit", "{site_id}"]
    hw.toml:69:34: jobs[5].handler.command.args[1]: 5 is not a text; expected a list of the program and its arguments, e.g. ["/usr/local/bin/visit", "{site_id}"]
    hw.toml:69:37: jobs[5].handler.command.args[2]: {site} is not known: expected {site_id}, {app_id} or {label:NAME}, or {{site}} for {site} itself, at character 1
    hw.toml:73:19: jobs[6].handler.civicrm.entity: missing; expected an entity, e.g. entity = "System"
    hw.toml:73:31: jobs[6].handler.civicrm.version: 5 is no version of CiviCRM's API; expected 4 or 3
    hw.toml:73:43: jobs[6].handler.civicrm.action: "a/b" is not a name of CiviCRM's API; expected letters, digits and "_", e.g. "System", "check"
    hw.toml:73:59: jobs[6].handler.civicrm.params: a list is not a table; expected a table, e.g. { limit = 25 }
    hw.toml:75:1: jobs[7].handler: missing; expected one of [jobs.handler.http], [jobs.handler.civicrm], [jobs.handler.command] or [jobs.handler.code]
    hw.toml:80:11: jobs[8].handler: "http" is not a table; expected { http = { path = "/sync" } }
    hw.toml:84:1: jobs[9].handler: no handler is named; expected one of [jobs.handler.http], [jobs.handler.civicrm], [jobs.handler.command] or [jobs.handler.code]
    hw.toml:84:9: jobs[9].handler.html: unknown key; known here are http, civicrm, command, code
    hw.toml:88:24: jobs[10].handler.command.args: the program is "visit-{app_id}", in which nothing is filled in; expected one program for all sites, and what differs in its arguments
    "#);
}

#[test]
fn what_deserves_a_look_is_told() {
    let text = "[[apps]]\nid='org.b'\n[[jobs]]\napp='org.a'\nhandler.http.path='sync'\n";
    insta::assert_snapshot!(warnings(text), @r#"
    hw.toml:4:5: jobs[0].app: no [[apps]] has the id "org.a"; did you mean "org.b"?; those configured are org.b
    hw.toml:5:19: jobs[0].handler.http.path: "sync" begins with neither "/" nor "?", and it is appended to the site's address as it stands, so that https://site.example becomes https://site.examplesync
    "#);
    assert_eq!(
        warnings("[[jobs]]\napp='org.a'\nhandler.http.path='?a'\n"),
        ""
    );
    let app_alone = warnings("[[apps]]\nid='org.b'\n");
    assert!(
        app_alone.contains("no ledger is configured and no job"),
        "{app_alone}"
    );
}

#[test]
fn the_environment_names_jobs_by_app_and_name() {
    let text = ISSUE.to_owned()
        + "[[jobs]]\napp='org.civicrm.other'\nname='sync_activities'\nhandler.code={}\n";
    let loaded = loaded(
        &text,
        &[
            (
                "HIGHWATER_JOBS__ORG_CIVICRM_MYAPP_SYNC_ACTIVITIES__PER_HOST",
                "2",
            ),
            (
                "HIGHWATER_JOBS__ORG_CIVICRM_OTHER_SYNC_ACTIVITIES__RETRY",
                "1 day (x1)",
            ),
            ("HIGHWATER_JOBS__1__HANDLER__CODE__TIMEOUT", "2s"),
            ("HIGHWATER_SITES__MAX_IN_FLIGHT", "9"),
        ],
    );
    let jobs = &loaded.settings.jobs;
    assert_eq!((jobs[0].per_host, jobs[1].per_host), (2, 4));
    assert_eq!(jobs[1].retry, "1day(x1)".parse::<RetryPolicy>().unwrap());
    assert_eq!(loaded.settings.sites.max_in_flight, 9);
}

#[test]
fn a_program_is_one_for_all_sites_wherever_the_server_was_started() {
    let program = |written: &str| {
        let text = format!("{JOB}handler.command.args = ['{written}', '{{site_id}}']\n");
        match loaded(&text, &[]).settings.jobs[0].handler.clone() {
            HandlerSettings::Command(command) => command.args[0].clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(program("visit"), "visit");
    assert_eq!(program("bin/visit"), "/nonexistent/base/bin/visit");
    assert_eq!(program("./visit"), "/nonexistent/base/visit");
    assert_eq!(program("/bin/visit"), "/bin/visit");
    assert_eq!(program("/bin/{{any}} {"), "/bin/{{any}} {");
}

#[test]
fn version_3_of_civicrm_without_a_site_key_deserves_a_look() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "hunter22").unwrap();
    let key = key.display();
    let warnings = |more: &str, version: u8| {
        let text = format!(
            "[[apps]]\nid = 'a'\napi_key_file = '{key}'\n{more}\n[[jobs]]\napp = 'a'\n\
             handler.civicrm = {{ version = {version}, entity = 'System', action = 'check' }}\n"
        );
        let told = loaded(&text, &[]).warnings;
        let told = told.iter().map(ToString::to_string);
        told.filter(|told| told.contains("CiviCRM"))
            .collect::<Vec<_>>()
    };
    let told = warnings("", 3).join("\n");
    assert!(
        told.contains("jobs[0].app: job \"default\" calls version 3"),
        "{told}"
    );
    assert!(warnings("", 4).is_empty());
    assert!(warnings(&format!("site_key_file = '{key}'"), 3).is_empty());
}

#[test]
fn a_shared_secret_behind_an_open_intake_deserves_a_look() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "hunter22hunter22").unwrap();
    let key = key.display();
    let told = |text: &str, environment: &[(&str, &str)]| {
        let told = loaded(text, environment).warnings;
        let told = told.iter().map(ToString::to_string);
        let told =
            told.filter_map(|told| Some(told.split_once(": the secret is one")?.0.to_owned()));
        told.collect::<Vec<_>>()
    };
    let shared = format!(
        "[[apps]]\nid = 'a'\napi_key_file = '{key}'\nsite_key_file = 'keys/{{site_id}}'\n\
         {JOB}handler.http.token_file = '{key}'\n\
         {JOB}name = 'other'\nhandler.http = {{ user = 'me', password_file = '{key}' }}\n"
    );
    assert_eq!(
        told(&shared, &[]),
        [
            "hw.toml:3:16: apps[0].api_key_file",
            "hw.toml:7:27: jobs[0].handler.http.token_file",
            "hw.toml:11:47: jobs[1].handler.http.password_file",
        ]
    );
    let closed = format!("{shared}[http]\nintake_token_file = '{key}'\n");
    assert_eq!(told(&closed, &[]), [""; 0]);
    let each = "[[apps]]\nid = 'a'\napi_key_file = 'keys/{site_id}'\n";
    assert_eq!(told(each, &[]), [""; 0]);
    let variable = ("HIGHWATER_APPS__A__SITE_KEY", "hunter22");
    assert_eq!(
        told(each, &[variable]),
        ["HIGHWATER_APPS__A__SITE_KEY: apps[0].site_key"]
    );
}

#[test]
fn commands_come_from_the_file_alone() {
    let text = format!("{JOB}handler.command.args = ['visit']\n");
    let variable = ("HIGHWATER_JOBS__0__HANDLER__COMMAND__ARGS", "rm");
    insta::assert_snapshot!(errors(&text, &[variable]), @"HIGHWATER_JOBS__0__HANDLER__COMMAND__ARGS: no setting has this environment variable; unset it or correct its name");
    // Nor can a variable make a handler a command.
    let http = format!("{JOB}handler.http = {{}}\n");
    insta::assert_snapshot!(errors(&http, &[variable]), @"HIGHWATER_JOBS__0__HANDLER__COMMAND__ARGS: no setting has this environment variable; unset it or correct its name");
    let set = |key: &str| BTreeMap::from([(key.to_owned(), "rm".to_owned())]);
    let told = loaded(&text, &[]).with_control(set("jobs.a/default.handler.command.args"));
    insta::assert_snapshot!(told.unwrap_err(), @"control: jobs.a/default.handler.command.args: control does not choose what is done on sites, only its limits; change the configuration file, and reload");
}

#[test]
fn control_sets_limits_and_not_what_is_done() {
    let text = format!(
        "[[apps]]\nid='a'\n{ISSUE}{JOB}name = 'x.y'\nhandler.http = {{ headers = {{ A = 'b' }} }}\n"
    );
    let before = loaded(&text, &[]);
    let set = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    };
    let after = before
        .with_control(set(&[
            ("sites.max_in_flight", "7"),
            ("jobs.a/x.y.retry", "5 min (x2)"),
            ("jobs.a/x.y.batches", "3"),
            ("jobs.org.civicrm.myapp/sync_activities.server", "false"),
            (
                "jobs.org.civicrm.myapp/sync_activities.handler.http.timeout",
                "3s",
            ),
            ("apps.a.title", "An app"),
        ]))
        .unwrap();
    let settings = &after.settings;
    assert_eq!(settings.sites.max_in_flight, 7);
    assert_eq!(settings.jobs[1].retry.to_string(), "5 min (x2)");
    assert_eq!(settings.jobs[1].batches, 3);
    assert!(!settings.jobs[0].server);
    assert_eq!(settings.apps[0].title, "An app");
    let values = before
        .keys()
        .map(|(key, entry)| (key, entry.value.clone()))
        .collect();
    let difference = diff(&before.settings, settings);
    assert_eq!(
        changed_keys(&values, &after, &difference),
        [
            "apps.a.title",
            "jobs.a/x.y.batches",
            "jobs.a/x.y.retry",
            "jobs.org.civicrm.myapp/sync_activities.handler.http.timeout",
            "jobs.org.civicrm.myapp/sync_activities.server",
            "sites.max_in_flight",
        ]
    );

    let refused = before.with_control(set(&[
        ("jobs.a/x.y.name", "z"),
        ("jobs.a/x.y.handler.http.path", "/elsewhere"),
        ("jobs.a/x.y.handler.http.headers", "{}"),
        ("jobs.a/x.y.handler.http.token", "hunter22"),
        ("jobs.a/x.y.retri", "1 day (x1)"),
        ("jobs.a/z.retry", "1 day (x1)"),
        ("jobs.org.civicrm.myapp/sync_activity.retry", "1 day (x1)"),
        ("jobs.a/x.y.batches", "0"),
        ("apps.a.url", "https://elsewhere"),
        ("apps.b.title", "B"),
    ]));
    insta::assert_snapshot!(refused.unwrap_err(), @r#"
    control: jobs.a/x.y.batches: 0 is out of range; expected 1 to 256 (each is a lease of its own; highwater poll --batch i/n takes n up to 10000)
    control: apps.a.url: handlers may send the app's keys to this address, which control does not change; change the configuration file, and reload
    control: apps.b.title: unknown key; did you mean apps.a.title? apps go by name, apps.NAME.KEY, and those configured are a; others are added in the configuration file
    control: jobs.a/x.y.handler.http.headers: control does not choose what is done on sites, only its limits; change the configuration file, and reload
    control: jobs.a/x.y.handler.http.path: control does not choose what is done on sites, only its limits; change the configuration file, and reload
    control: jobs.a/x.y.handler.http.token: control sets no secrets; change what is in the token's file, and reload
    control: jobs.a/x.y.name: a name is an identity, which control does not change; change the configuration file, and reload
    control: jobs.a/x.y.retri: unknown key; did you mean jobs.a/x.y.retry?
    control: jobs.a/z.retry: unknown key; did you mean jobs.a/x.y.retry? jobs go by name, jobs.APP/NAME.KEY, and those configured are org.civicrm.myapp/sync_activities, a/x.y; others are added in the configuration file
    control: jobs.org.civicrm.myapp/sync_activity.retry: unknown key; did you mean jobs.org.civicrm.myapp/sync_activities.retry? jobs go by name, jobs.APP/NAME.KEY, and those configured are org.civicrm.myapp/sync_activities, a/x.y; others are added in the configuration file
    "#);
}

#[test]
fn the_dump_shows_jobs_as_they_can_be_read_again() {
    let text = format!(
        "{ISSUE}{JOB}handler.http = {{ headers = {{ \"X.Y\" = \"a\\\"b\" }}, body = \"1\\n2\", expect = {{ json = {{ \"/a\" = [1.5, {{ b = true }}] }} }} }}\n\
         [[jobs]]\napp='b'\nhandler.command.args = ['visit', '{{site_id}}']\n[[jobs]]\napp='c'\nhandler.code = {{}}\n"
    );
    let first = loaded(&text, &[]);
    let dumped = dump(&first);
    let jobs = dumped
        .split_once("[[jobs]]")
        .map_or("", |(_, jobs)| jobs.trim());
    insta::assert_snapshot!(jobs, @r#"
    app = "org.civicrm.myapp" # file line 3
    name = "sync_activities" # file line 4
    retry = "2 hour (x12); 1 day (x30)" # file line 5
    batches = 4 # file line 6
    per_host = 4 # file line 7
    server = true # default
    tries_more = 0 # default
    handler.http.method = "GET" # file line 9
    handler.http.path = "/sync" # file line 10
    # handler.http.headers is not set
    # handler.http.body is not set
    # handler.http.token_file is not set
    # handler.http.user is not set
    # handler.http.password_file is not set
    handler.http.timeout = "10s" # file line 11
    handler.http.max_response_bytes = "1MiB" # default
    handler.http.expect.status = "2xx" # file line 12
    # handler.http.expect.headers is not set
    handler.http.expect.body_contains = "ok" # file line 12
    # handler.http.expect.body_lacks is not set
    # handler.http.expect.json is not set
    # handler.http.result is not set

    [[jobs]]
    app = "a" # file line 14
    name = "default" # default
    retry = "1 hour (x48); 1 day (x90)" # default
    batches = 1 # default
    per_host = 4 # default
    server = true # default
    tries_more = 0 # default
    handler.http.method = "GET" # default
    handler.http.path = "" # default
    handler.http.headers = { "X.Y" = 'a"b' } # file line 15
    handler.http.body = """
    1
    2""" # file line 15
    # handler.http.token_file is not set
    # handler.http.user is not set
    # handler.http.password_file is not set
    handler.http.timeout = "10s" # default
    handler.http.max_response_bytes = "1MiB" # default
    handler.http.expect.status = "2xx" # default
    # handler.http.expect.headers is not set
    # handler.http.expect.body_contains is not set
    # handler.http.expect.body_lacks is not set
    handler.http.expect.json = { "/a" = [1.5, { b = true }] } # file line 15
    # handler.http.result is not set

    [[jobs]]
    app = "b" # file line 17
    name = "default" # default
    retry = "1 hour (x48); 1 day (x90)" # default
    batches = 1 # default
    per_host = 4 # default
    server = true # default
    tries_more = 0 # default
    handler.command.args = ["visit", "{site_id}"] # file line 18
    handler.command.timeout = "60s" # default
    handler.command.max_output_bytes = "64KiB" # default

    [[jobs]]
    app = "c" # file line 20
    name = "default" # default
    retry = "1 hour (x48); 1 day (x90)" # default
    batches = 1 # default
    per_host = 4 # default
    server = true # default
    tries_more = 0 # default
    handler.code.timeout = "60s" # default
    "#);
    let second = loaded(&dumped, &[]);
    assert_eq!(first.settings.jobs, second.settings.jobs);
    assert_eq!(
        diff(&first.settings, &second.settings),
        SettingsDiff::default()
    );
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_job_panics_and_every_dump_is_read_again(
            key in "(retry|name|batches|handler|handler.(http|command|code|civicrm)|handler.http.(path|body|headers|user|result)|handler.http.expect.(status|json|headers)|handler.command.args)",
            value in "(\"[ -~]{0,20}\"|'[ -&(-~]{0,12}'|[0-9.]{1,4}|\\[('a'|'\\{site_id\\}'|1)?\\]|\\{ ?(\"/a\"|b|http|args|timeout) = ('a'|1|\\{\\}|nan|\\['x'\\]) ?\\}|\\{\\})",
        ) {
            let text = format!("{JOB}{key} = {value}\n");
            match try_parse(&text, &[]) {
                Ok(first) => {
                    let dumped = dump(&first);
                    let second = try_parse(&dumped, &[]);
                    prop_assert!(second.is_ok(), "{}\n{}", dumped, second.unwrap_err());
                    prop_assert_eq!(first.settings.jobs, second.unwrap().settings.jobs);
                }
                Err(errors) => prop_assert!(!errors.errors().is_empty()),
            }
        }
    }
}
