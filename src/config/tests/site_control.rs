//! What control, and the environment, may change of jobs and apps.

use super::*;
use std::collections::BTreeMap;

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
        "[[apps]]\nid='a'\n{SYNC_JOB}{JOB}name = 'x.y'\nhandler.http = {{ headers = {{ A = 'b' }} }}\n"
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
