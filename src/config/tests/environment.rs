//! The environment: which variable sets what, and what it wins over.

use super::*;
use crate::flows::sites::RetryPolicy;
use std::time::Duration;

#[test]
fn the_environment_wins_over_the_file() {
    let text = format!(
        "{LEDGER}\n[[ledgers]]\nname='supply-chain'\nkind='splinter'\nurl='http://h'\n[batches]\npoll_interval='9s'\n"
    );
    let loaded = loaded(
        &text,
        &[
            ("HIGHWATER_BATCHES__POLL_INTERVAL", "2s"),
            ("HIGHWATER_BATCHES__REPOLL__MIN", "3s"),
            ("HIGHWATER_BATCHES__COMMIT_ROWS", "7"),
            ("HIGHWATER_LEDGERS__SUPPLY_CHAIN__URL", "http://s"),
            ("HIGHWATER_LEDGERS__0__URL", "http://t"),
        ],
    );
    let batches = &loaded.settings.batches;
    assert_eq!(batches.poll_interval, Duration::from_secs(2));
    assert_eq!(batches.repoll.min, Duration::from_secs(3));
    assert_eq!(batches.repoll.max, Duration::from_secs(60));
    assert_eq!(batches.commit_rows, 7);
    let urls: Vec<&str> = loaded
        .settings
        .ledgers
        .iter()
        .map(|l| l.url.as_str())
        .collect();
    assert_eq!(urls, ["http://t/", "http://s/"]);
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    let told = errors(
        LEDGER,
        &[
            ("HIGHWATER_BATCHES__POLL_INTERVAL", "1ms"),
            ("HIGHWATER_BATCHES__POL_INTERVAL", "1s"),
            ("HIGHWATER_LEDGERS__TRACE__CONNECTIONS", "-1"),
            ("HIGHWATER_LEDGERS__OTHER__URL", "http://h"),
            ("HIGHWATER_LEDGERS__0__URL", "http://a"),
            ("HIGHWATER_LEDGERS__trace__URL", "http://b"),
            ("HIGHWATER_HTTP__CONTROL_TOKEN", "hunter2"),
            ("HIGHWATER_CONFIG", "highwater.toml"),
            ("PATH", "/bin"),
        ],
    );
    assert!(!told.contains("hunter2"));
    insta::assert_snapshot!(told, @r#"
    HIGHWATER_HTTP__CONTROL_TOKEN: http.control_token: the token is too short for a token; expected at least 16 characters
    HIGHWATER_BATCHES__POLL_INTERVAL: batches.poll_interval: "1ms" is too short; expected 10ms to 1day
    HIGHWATER_LEDGERS__trace__URL: ledgers[0].url: set by HIGHWATER_LEDGERS__0__URL as well; keep one of the two
    HIGHWATER_LEDGERS__TRACE__CONNECTIONS: ledgers[0].connections: -1 is out of range; expected 1 to 1024
    HIGHWATER_BATCHES__POL_INTERVAL: no setting has this environment variable; did you mean HIGHWATER_BATCHES__POLL_INTERVAL?
    HIGHWATER_LEDGERS__OTHER__URL: no setting has this environment variable; unset it or correct its name
    "#);
}

#[test]
fn names_that_share_a_variable_are_told_apart_by_index() {
    let text = format!(
        "{LEDGER}[[ledgers]]\nname='a-b'\nkind='splinter'\nurl='http://h'\n[[ledgers]]\nname='a_b'\nkind='splinter'\nurl='http://h'\n"
    );
    let told = errors(&text, &[("HIGHWATER_LEDGERS__A_B__URL", "http://x")]);
    assert!(
        told.contains("no setting has this environment variable"),
        "{told}"
    );
    let loaded = loaded(&text, &[("HIGHWATER_LEDGERS__2__URL", "http://x")]);
    assert_eq!(loaded.settings.ledgers[2].url.as_str(), "http://x/");
}

#[test]
fn the_environment_names_jobs_by_app_and_name() {
    let text = SYNC_JOB.to_owned()
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
