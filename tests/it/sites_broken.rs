//! A job whose handler cannot work at all: that is the job's trouble, counts
//! against no site, and ends by itself once the cause is mended.

use crate::sites_support::{APP, done, rows, run};
use crate::support::{
    Database, Installation, PATIENCE, ServerProcess, eventually, on_both_databases,
};
use std::fs::{Permissions, rename, set_permissions, write};
use std::os::unix::fs::PermissionsExt as _;

on_both_databases!(
    a_program_that_is_missing_is_the_jobs_trouble_and_no_sites,
    a_poll_whose_program_is_missing_fails_and_touches_no_site,
);

const SITES: usize = 20;

fn command(name: &str, more: &str, program: &str) -> String {
    format!(
        "[[jobs]]\napp = \"{APP}\"\nname = \"{name}\"\nretry = \"1 sec (x1); 1 sec (x1)\"\n{more}\n\
         [jobs.handler.command]\nargs = [\"{program}\", \"{{site_id}}\"]\n\n"
    )
}

fn import(place: &Installation) {
    let site = |n| {
        format!(
            "{{\"site_id\":\"s{n:02}\",\"app_id\":\"{APP}\",\"url\":\"https://s{n}.example\"}}\n"
        )
    };
    let file = place.path().join("sites.ndjson");
    write(file, (0..SITES).map(site).collect::<String>()).unwrap();
    done(place, &["sites", "import", "sites.ndjson"]);
}

/// Puts the program there at once, ready to run.
fn install(place: &Installation) {
    let (made, program) = (place.path().join("made"), place.path().join("visit"));
    write(&made, "#!/bin/sh\nexit 0\n").unwrap();
    set_permissions(&made, Permissions::from_mode(0o755)).unwrap();
    rename(made, program).unwrap();
}

/// Tries at which the handler could not work, and visits that went well.
async fn counted(server: &ServerProcess, outcome: &str) -> u64 {
    let metrics = server.page("/metrics").await;
    let line = format!("highwater_site_visits_total{{job=\"{APP}/sync\",outcome=\"{outcome}\"}} ");
    let mut lines = metrics.lines();
    let found = lines.find_map(|told| told.strip_prefix(&line));
    found.map_or(0, |count| count.parse().unwrap())
}

async fn a_program_that_is_missing_is_the_jobs_trouble_and_no_sites(database: &Database) {
    let sections = command("sync", "", "./visit") + &command("fails", "", "false");
    let place = Installation::new(database, "server", &sections);
    import(&place);
    let said = run(&place, &["check"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.err.contains("handler.command.args: the program")
            && said.err.contains("/visit\" does not exist"),
        "{said:?}"
    );
    let server = place.serve().await;
    let path = format!("/v1/jobs/{APP}/sync");
    eventually(PATIENCE, "the job is shown as broken", async || {
        let job = server.get(&path).await;
        job["state"] == "broken" && job["retry_at"].is_string()
    })
    .await;
    // More often than the policy has room for.
    let tries = counted(&server, "job").await;
    eventually(PATIENCE, "it is tried again", async || {
        counted(&server, "job").await >= tries + 2
    })
    .await;
    // What is due is counted now and then.
    eventually(PATIENCE, "all its sites are shown as due", async || {
        server.get(&path).await["due"] == SITES
    })
    .await;
    let job = server.get(&path).await;
    assert_eq!(job["severity"], "bad");
    let error = job["last_error"].as_str().unwrap();
    assert!(error.contains("/visit\" cannot be started"), "{error}");
    let page = server.page("/").await;
    assert!(
        page.contains("headline bad") && page.contains("No site is blamed for it."),
        "{page}"
    );
    let ready = server.get("/readyz").await;
    assert_eq!(ready["ready"], true);
    assert!(
        ready["warnings"].to_string().contains("cannot be started"),
        "{ready}"
    );
    for (site, row) in rows(database, "sync").await {
        assert_eq!((row.level, row.count), (0, 0), "{site}: {row:?}");
        assert!(
            row.last_run_at.is_none() && row.given_up_at.is_none(),
            "{row:?}"
        );
        assert!(row.log.is_empty() && row.last_error.is_empty(), "{row:?}");
    }
    // Meanwhile the other job goes on, and gives its sites up.
    let given_up = "SELECT count(*) AS value FROM poll_status WHERE job_name = 'fails' AND given_up_at IS NOT NULL";
    eventually(PATIENCE, "what fails is given up", async || {
        database.number(given_up).await == i64::try_from(SITES).unwrap()
    })
    .await;

    install(&place);
    let well = "SELECT count(*) AS value FROM poll_status WHERE job_name = 'sync' AND last_outcome = 'success'";
    eventually(PATIENCE, "all sites are visited", async || {
        database.number(well).await == i64::try_from(SITES).unwrap()
    })
    .await;
    eventually(PATIENCE, "the job is shown as well", async || {
        let job = server.get(&path).await;
        job["state"] == "visiting" && job["last_error"].is_null() && job["retry_at"].is_null()
    })
    .await;
    let failed = "SELECT count(*) AS value FROM poll_status WHERE job_name = 'sync' AND (count > 0 OR level > 0)";
    assert_eq!(database.number(failed).await, 0);
    let log = server.log();
    server.terminate().await;
    is_logged(&log);
}

/// Told, and never once a site.
fn is_logged(log: &str) {
    let lines = |message: &str, job: &str| -> Vec<&str> {
        let lines = log.lines().filter(|line| line.contains(message));
        lines
            .filter(|line| line.contains(&format!("{APP}/{job}")))
            .collect()
    };
    let broken = lines("a job does not run as it should", "sync");
    assert_eq!(broken.len(), 1, "{log}");
    assert!(broken[0].contains("cannot be started"), "{broken:?}");
    let given_up = lines("sites were given up", "fails");
    assert!((1..=3).contains(&given_up.len()), "{log}");
    assert!(
        given_up[0].contains("sites.first=") && given_up[0].contains("sites.given_up="),
        "{given_up:?}"
    );
    assert_eq!(
        lines("every recent visit of a job failed", "fails").len(),
        1,
        "{log}"
    );
}

async fn a_poll_whose_program_is_missing_fails_and_touches_no_site(database: &Database) {
    let place = Installation::new(
        database,
        "poll",
        &command("sync", "server = false", "./visit"),
    );
    import(&place);
    let poll = || run(&place, &["poll", APP, "--name", "sync"]);
    for _ in 0..3 {
        let said = poll();
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.out.contains("0 sites visited"), "{said:?}");
        assert!(
            said.out
                .contains("ended early: the job's handler cannot work"),
            "{said:?}"
        );
    }
    for (site, row) in rows(database, "sync").await {
        assert_eq!((row.level, row.count), (0, 0), "{site}: {row:?}");
        assert!(row.last_run_at.is_none(), "{row:?}");
    }
    install(&place);
    let said = poll();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("20 sites visited, 20 well"), "{said:?}");
}
