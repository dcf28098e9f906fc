//! Jobs and their handlers, as they are read.

use super::*;
use serde_json::json;
use std::time::Duration;

/// The handler of the one job.
fn handler(text: &str) -> HandlerSettings {
    let mut jobs = loaded(&format!("{JOB}{text}"), &[]).settings.jobs;
    assert_eq!(jobs.len(), 1);
    jobs.remove(0).handler
}

#[test]
fn the_job_of_the_issue_works() {
    let loaded = loaded(SYNC_JOB, &[]);
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
    highwater.toml:4:5: jobs[0].app: job "default" calls CiviCRM's API, which needs an API key, and the app "a" has none; set api_key_file of its [[apps]]
    highwater.toml:13:5: jobs[1].app: job "three" calls CiviCRM's API, which needs an API key, and the app "a" has none; set api_key_file of its [[apps]]
    "#);
    let nowhere = text.replace("[[apps]]\nid = 'app:a'\n", "");
    insta::assert_snapshot!(errors(&nowhere, &[]), @r#"
    highwater.toml:2:5: jobs[0].app: job "default" calls CiviCRM's API, which needs an API key, and the app "a" has none; add [[apps]] with id = "a" and api_key_file
    highwater.toml:11:5: jobs[1].app: job "three" calls CiviCRM's API, which needs an API key, and the app "a" has none; add [[apps]] with id = "a" and api_key_file
    "#);
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
