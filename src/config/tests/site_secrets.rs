//! Keys and passwords for sites: where they come from, and who may see them.

use super::*;
use secrecy::ExposeSecret as _;

#[test]
fn keys_come_from_files_or_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("api.key"), "hunter22\n").unwrap();
    let text = "[[apps]]\nid = 'org.a'\napi_key_file = 'api.key'\nsite_key_file = 'keys/{site_id}'\n\
                [[apps]]\nid = 'org.b'\n[[jobs]]\napp = 'org.b'\nhandler.http.user = 'me'\n";
    let read = |text: &str, environment: &[(&str, &str)]| {
        parse_in(folder.path(), text, environment).map_err(|errors| errors.to_string())
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
            "highwater.toml:3:14: apps[0].api_key_file: the token file ",
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
        let mut told = told(&loaded(&text, &[]).warnings);
        told.retain(|told| told.contains("CiviCRM"));
        told
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
    let shown = |text: &str, environment: &[(&str, &str)]| {
        let told = told(&loaded(text, environment).warnings);
        let places = told.iter().filter_map(|told| {
            let (place, _) = told.split_once(": the secret is one")?;
            Some(place.to_owned())
        });
        places.collect::<Vec<_>>()
    };
    let shared = format!(
        "[[apps]]\nid = 'a'\napi_key_file = '{key}'\nsite_key_file = 'keys/{{site_id}}'\n\
         {JOB}handler.http.token_file = '{key}'\n\
         {JOB}name = 'other'\nhandler.http = {{ user = 'me', password_file = '{key}' }}\n"
    );
    assert_eq!(
        shown(&shared, &[]),
        [
            "highwater.toml:3:16: apps[0].api_key_file",
            "highwater.toml:7:27: jobs[0].handler.http.token_file",
            "highwater.toml:11:47: jobs[1].handler.http.password_file",
        ]
    );
    let closed = format!("{shared}[http]\nintake_token_file = '{key}'\n");
    assert_eq!(shown(&closed, &[]), [""; 0]);
    let each = "[[apps]]\nid = 'a'\napi_key_file = 'keys/{site_id}'\n";
    assert_eq!(shown(each, &[]), [""; 0]);
    let variable = ("HIGHWATER_APPS__A__SITE_KEY", "hunter22");
    assert_eq!(
        shown(each, &[variable]),
        ["HIGHWATER_APPS__A__SITE_KEY: apps[0].site_key"]
    );
}
