//! Mistakes in sites, apps and jobs, and what deserves a look.

use super::*;

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
    highwater.toml:3:17: sites.max_in_flight: 0 is out of range; expected 1 to 4096
    highwater.toml:4:18: sites.sweep_interval: "1ms" is too short; expected 10ms to 1day
    highwater.toml:5:25: sites.deny_private_networks: "no" is neither; expected true or false
    highwater.toml:6:20: sites.max_result_bytes: "2MiB" is out of range; expected 64 B to 1.0 MiB
    highwater.toml:7:1: sites.per_host: unknown key; did you mean jobs[0].per_host?; known here are max_in_flight, sweep_interval, deny_private_networks, max_result_bytes, commit_interval, commit_rows
    highwater.toml:10:18: retention.polls_per_site: 101 is out of range; expected 1 to 100
    highwater.toml:13:6: apps[0].id: "org/a" is not an app id: expected 1 to 250 letters, digits, ".", "_" and "-", e.g. org.civicrm.myapp
    highwater.toml:14:9: apps[0].title: "" is empty; expected a text, or leave the key out
    highwater.toml:15:7: apps[0].url: the address holds a user or password; name the app's keys with api_key_file and site_key_file; expected e.g. "https://app.example/"
    highwater.toml:21:6: apps[2].id: "org.b" is the id of apps[1] already; expected an id of its own
    highwater.toml:22:1: apps[2].name: unknown key; did you mean jobs[0].name?; known here are id, title, url, api_key_file, site_key_file
    highwater.toml:26:9: jobs[0].retry: "2 parsec (x12)" is not a retry policy: "parsec" is no unit (sec, min, hour, day, week, month, year), at character 3: write levels as "20min (x6); 1hour (x24)"
    highwater.toml:27:11: jobs[0].batches: 10001 is out of range; expected 1 to 256 (each is a lease of its own; highwater poll --batch i/n takes n up to 10000)
    highwater.toml:28:12: jobs[0].per_host: 0 is out of range; expected 1 to 1024
    highwater.toml:29:14: jobs[0].tries_more: 11 is out of range; expected 0 to 10
    highwater.toml:30:10: jobs[0].server: 1 is neither; expected true or false
    highwater.toml:31:30: jobs[0].handler.http.expect.status: "2yy" is not a status; expected codes from 100 to 599, e.g. "2xx", "200", "200-204, 304"
    highwater.toml:35:8: jobs[1].name: the app "org.b" has a job "default" in jobs[0] already; expected a name of its own
    highwater.toml:37:10: jobs[1].handler.http.method: "get" is not known; expected "GET" or "HEAD" or "POST" or "PUT" or "PATCH" or "DELETE" or "OPTIONS"
    highwater.toml:38:8: jobs[1].handler.http.path: {site} is not known: expected {site_id}, {app_id} or {label:NAME}, or {{site}} for {site} itself, at character 2; "a b" is not a label's name: expected 1 to 64 letters, digits, ".", "_" and "-", e.g. region, at character 9
    highwater.toml:39:29: jobs[1].handler.http.headers.Authorization: this header does not stand here: name the secret with token_file, or user and password_file
    highwater.toml:39:48: jobs[1].handler.http.headers."a b": "a b" is not a header's name; expected e.g. Accept
    highwater.toml:39:57: jobs[1].handler.http.headers.X: 5 is not a text; expected one in quotes
    highwater.toml:39:64: jobs[1].handler.http.headers.Y: {z} is not known: expected {site_id}, {app_id} or {label:NAME}, or {{z}} for {z} itself, at character 1
    highwater.toml:40:8: jobs[1].handler.http.body: a name that nothing closes: expected } behind it, at character 6
    highwater.toml:41:8: jobs[1].handler.http.user: "a:b" is not a user's name; expected one without ":" and control characters
    highwater.toml:42:11: jobs[1].handler.http.timeout: "0s" is too short; expected 100ms to 1day
    highwater.toml:43:22: jobs[1].handler.http.max_response_bytes: 1 is out of range; expected 1.0 KiB to 1.0 GiB
    highwater.toml:44:10: jobs[1].handler.http.result: "values" is not a JSON pointer; expected e.g. "/values/0/id", with ~1 for / and ~0 for ~ in names, or "" for all of it
    highwater.toml:45:1: jobs[1].handler.http.verb: unknown key; known here are method, path, headers, body, token_file, user, password_file, timeout, max_response_bytes, expect, result
    highwater.toml:47:10: jobs[1].handler.http.expect.status: "700" is not a status; expected codes from 100 to 599, e.g. "2xx", "200", "200-204, 304"
    highwater.toml:48:11: jobs[1].handler.http.expect.headers: "json" is not a table; expected a table of names and what the values have to contain, e.g. { Content-Type = "json" }
    highwater.toml:49:17: jobs[1].handler.http.expect.body_contains: "" is empty; expected a text, or leave the key out
    highwater.toml:50:23: jobs[1].handler.http.expect.json.is_error: "is_error" is not a JSON pointer; expected e.g. "/values/0/id", with ~1 for / and ~0 for ~ in names, or "" for all of it
    highwater.toml:50:33: jobs[1].handler.http.expect.json."/a": NaN is no number that JSON has
    highwater.toml:52:1: jobs[2].app: missing; expected the id of an app, e.g. app = "org.civicrm.myapp"
    highwater.toml:53:8: jobs[2].name: "a b" is not a job name: expected 1 to 250 letters, digits, ".", "_" and "-", e.g. sync_activities
    highwater.toml:54:11: jobs[2].handler: no handler is named; expected one of [jobs.handler.http], [jobs.handler.civicrm], [jobs.handler.command] or [jobs.handler.code]
    highwater.toml:58:7: jobs[3].handler: command and code are named, and a job has one handler; keep one, and give each other a job of its own
    highwater.toml:59:8: jobs[3].handler.command.args: "visit {site_id}" is not a list; expected a list of the program and its arguments, e.g. ["/usr/local/bin/visit", "{site_id}"]
    highwater.toml:61:11: jobs[3].handler.code.timeout: "2 days" is too long; expected 100ms to 1day
    highwater.toml:65:24: jobs[4].handler.command.args: no program is named; expected a list of the program and its arguments, e.g. ["/usr/local/bin/visit", "{site_id}"]
    highwater.toml:69:34: jobs[5].handler.command.args[1]: 5 is not a text; expected a list of the program and its arguments, e.g. ["/usr/local/bin/visit", "{site_id}"]
    highwater.toml:69:37: jobs[5].handler.command.args[2]: {site} is not known: expected {site_id}, {app_id} or {label:NAME}, or {{site}} for {site} itself, at character 1
    highwater.toml:73:19: jobs[6].handler.civicrm.entity: missing; expected an entity, e.g. entity = "System"
    highwater.toml:73:31: jobs[6].handler.civicrm.version: 5 is no version of CiviCRM's API; expected 4 or 3
    highwater.toml:73:43: jobs[6].handler.civicrm.action: "a/b" is not a name of CiviCRM's API; expected letters, digits and "_", e.g. "System", "check"
    highwater.toml:73:59: jobs[6].handler.civicrm.params: a list is not a table; expected a table, e.g. { limit = 25 }
    highwater.toml:75:1: jobs[7].handler: missing; expected one of [jobs.handler.http], [jobs.handler.civicrm], [jobs.handler.command] or [jobs.handler.code]
    highwater.toml:80:11: jobs[8].handler: "http" is not a table; expected { http = { path = "/sync" } }
    highwater.toml:84:1: jobs[9].handler: no handler is named; expected one of [jobs.handler.http], [jobs.handler.civicrm], [jobs.handler.command] or [jobs.handler.code]
    highwater.toml:84:9: jobs[9].handler.html: unknown key; known here are http, civicrm, command, code
    highwater.toml:88:24: jobs[10].handler.command.args: the program is "visit-{app_id}", in which nothing is filled in; expected one program for all sites, and what differs in its arguments
    "#);
}

#[test]
fn what_deserves_a_look_is_told() {
    let warnings = |text: &str| told(&loaded(text, &[]).warnings).join("\n");
    let text = "[[apps]]\nid='org.b'\n[[jobs]]\napp='org.a'\nhandler.http.path='sync'\n";
    insta::assert_snapshot!(warnings(text), @r#"
    highwater.toml:4:5: jobs[0].app: no [[apps]] has the id "org.a"; did you mean "org.b"?; those configured are org.b
    highwater.toml:5:19: jobs[0].handler.http.path: "sync" begins with neither "/" nor "?", and it is appended to the site's address as it stands, so that https://site.example becomes https://site.examplesync
    "#);
    assert_eq!(
        warnings("[[jobs]]\napp='org.a'\nhandler.http.path='?a'\n"),
        ""
    );
    let told = warnings(
        "[[jobs]]\napp='org.a'\nretry='1 day (x1)'\nhandler.command.args=['/nowhere/visit', '{site_id}']\n",
    );
    assert!(told.contains(":4:"), "{told}");
    assert!(
        told.contains("handler.command.args: the program \"/nowhere/visit\" does not exist"),
        "{told}"
    );
    let app_alone = warnings("[[apps]]\nid='org.b'\n");
    assert!(
        app_alone.contains("no ledger is configured and no job"),
        "{app_alone}"
    );
}
