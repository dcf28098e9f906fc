//! What the tests of the site flow share: sites that are imported, the program
//! beside a server, and how sites stand beside what they saw themselves.

use crate::command_line::{Ended, program};
use crate::support::{Database, Installation};
use highwater::flows::sites::{LoggedVisit, read_poll_log};
use highwater::sim::{SiteVisit, SitesHandle};
use highwater::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// The app of all sites.
pub(crate) const APP: &str = "org.civicrm.myapp";

/// What the wall clock, by which sites are due, may gain within a period on the
/// steady clock, by which a simulator sees them, and what rounding takes away.
pub(crate) const CLOCKS: Duration = Duration::from_millis(20);
/// How far the two may be apart within a test, the one ahead or the other. A
/// visit that is lost and its repetition by the next server are further apart.
const WALL_AHEAD: Duration = Duration::from_millis(40);
const WALL_BEHIND: Duration = Duration::from_millis(250);

/// How a site stands with a job.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) level: u32,
    pub(crate) count: u32,
    pub(crate) last_run_at: Option<Timestamp>,
    pub(crate) next_due_at: Option<Timestamp>,
    pub(crate) given_up_at: Option<Timestamp>,
    pub(crate) last_outcome: String,
    pub(crate) last_error: String,
    pub(crate) last_duration_ms: Option<i64>,
    /// Its newest visits, oldest first.
    pub(crate) log: Vec<LoggedVisit>,
}

/// How all sites stand with a job, by site.
pub(crate) async fn rows(database: &Database, job: &str) -> BTreeMap<String, Row> {
    let time = |column: &str| {
        let text = if database.is_sqlite() {
            column.to_owned()
        } else {
            format!("to_char({column}, 'YYYY-MM-DD HH24:MI:SS.MS')")
        };
        format!("COALESCE({text}, '')")
    };
    let columns = [
        "site_id".to_owned(),
        "CAST(level AS TEXT)".to_owned(),
        "CAST(count AS TEXT)".to_owned(),
        time("last_run_at"),
        time("next_due_at"),
        time("given_up_at"),
        "COALESCE(last_outcome, '')".to_owned(),
        "COALESCE(CAST(last_duration_ms AS TEXT), '')".to_owned(),
        "poll_log".to_owned(),
        "COALESCE(last_error, '')".to_owned(),
    ];
    let sql = format!(
        "SELECT {} AS value FROM poll_status WHERE job_name = '{job}'",
        columns.join(" || '|' || ")
    );
    let texts = database.texts(&sql).await;
    let row = |text: &String| {
        let fields: Vec<&str> = text.splitn(columns.len(), '|').collect();
        let at = |text: &str| (!text.is_empty()).then(|| Timestamp::from_sql_text(text));
        let row = Row {
            level: fields[1].parse().unwrap(),
            count: fields[2].parse().unwrap(),
            last_run_at: at(fields[3]),
            next_due_at: at(fields[4]),
            given_up_at: at(fields[5]),
            last_outcome: fields[6].to_owned(),
            last_duration_ms: fields[7].parse().ok(),
            log: read_poll_log(fields[8]).collect(),
            last_error: fields[9].to_owned(),
        };
        (fields[0].to_owned(), row)
    };
    texts.iter().map(row).collect()
}

/// Runs the program where a server is configured.
pub(crate) fn run(place: &Installation, args: &[&str]) -> Ended {
    Ended::from(program(place.path()).args(args).output().unwrap())
}

/// Runs what is to succeed; answers its standard output.
pub(crate) fn done(place: &Installation, args: &[&str]) -> String {
    let ended = run(place, args);
    assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
    ended.out
}

/// Puts all sites of a simulator into the database.
pub(crate) fn import(place: &Installation, sim: &SitesHandle) {
    let file = place.path().join("sites.ndjson");
    let mut out = std::fs::File::create(&file).unwrap();
    sim.write_import(APP, &mut out).unwrap();
    done(place, &["sites", "import", "sites.ndjson"]);
}

/// An HTTP job at `/NAME` of every site.
pub(crate) fn job(name: &str, retry: &str, more: &str, handler: &str) -> String {
    format!(
        "[[jobs]]\napp = \"{APP}\"\nname = \"{name}\"\nretry = \"{retry}\"\n{more}\n\
         [jobs.handler.http]\npath = \"/{name}\"\n{handler}\n\n"
    )
}

/// Checks what a site saw against what was written of it: each visit that was
/// written began within the time that was written, and the next one begins at
/// the site no sooner than its period after. The visitor's clock is read before
/// the request leaves, so the first of two requests may take longer on its way
/// than the second, at most as long as its visit took.
pub(crate) fn check_gaps(sim: &SitesHandle, site: u32, path: &str, row: &Row, period: Duration) {
    let seen = sim.visits(site, path);
    for pair in row.log.windows(2) {
        let gap = pair[1].at.since(pair[0].at);
        assert!(gap >= period, "site {site}: {gap:?} between {pair:?}");
    }
    for visit in &row.log {
        let place = place_of(&seen, visit);
        let Some(place) = place else {
            panic!("site {site} did not see {visit:?}: {seen:?}");
        };
        if let Some(next) = seen.get(place + 1) {
            let gap = next.begun_at.since(seen[place].begun_at);
            let least = period.saturating_sub(visit.duration + CLOCKS);
            assert!(gap >= least, "site {site}: {gap:?} after {visit:?}");
        }
    }
}

/// Which of the visits that a site saw, in their order, is the one that was
/// written.
pub(crate) fn place_of(seen: &[SiteVisit], visit: &LoggedVisit) -> Option<usize> {
    let earliest = visit.at.minus(WALL_AHEAD);
    let latest = visit.at.plus(visit.duration + WALL_BEHIND);
    let first = seen.partition_point(|seen| seen.begun_at < earliest);
    (seen.get(first)?.begun_at <= latest).then_some(first)
}
