//! Takes sites in, thousands at a time: what is new is added, what is known
//! is brought up to date, what contradicts is refused.

use super::changes::as_json;
use super::connection::in_transaction;
use super::{Store, StoreError};
use crate::flows::sites::{AppName, BATCH_CODES};
use diesel::QueryableByName;
use diesel::sql_types::{Bool, Integer, Text};
use diesel_async::RunQueryDsl;
use rand::Rng;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Sites taken in by one transaction.
const CHUNK: usize = 5000;
/// How often a chunk is tried while others add the same sites.
const TRIES: usize = 5;
/// Why such a try is given up.
const RACED: &str = "somebody else added some of these sites at the same time";

/// A site to keep, checked (see `flows::sites::SiteEntry`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSite {
    /// Its id.
    pub site_id: String,
    /// The app whose jobs visit it.
    pub app_id: AppName,
    /// Its address.
    pub url: String,
    /// Its batch code; drawn where it is `None`, or kept.
    pub batch_code: Option<u16>,
    /// Whether it is visited; where it is `None`, a new site is, and a known
    /// one stays as it is.
    pub enabled: Option<bool>,
    /// Its labels, a JSON object; where it is `None`, a new site has none, and
    /// a known one keeps its own.
    pub labels: Option<String>,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Sites that were new.
    pub added: usize,
    /// Sites that were known, and have another address, other labels or
    /// another flag now.
    pub changed: usize,
    /// Sites that were known and are as they were.
    pub unchanged: usize,
    /// Sites that contradict what is known.
    pub refused: Vec<RefusedSite>,
    /// Places, from 0, of known sites that were to be enabled or disabled and
    /// stay as they are, since that is for operators.
    pub flags_kept: Vec<usize>,
}

/// A site that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedSite {
    /// Its place among those given, from 0.
    pub index: usize,
    /// Why: names the site, and what to do.
    pub reason: String,
}

impl Imported {
    /// Adds what another import did, whose places count from `offset`.
    pub fn add(&mut self, other: Self, offset: usize) {
        self.added += other.added;
        self.changed += other.changed;
        self.unchanged += other.unchanged;
        let kept = other.flags_kept.iter();
        self.flags_kept.extend(kept.map(|index| index + offset));
        self.refused
            .extend(other.refused.into_iter().map(|refused| RefusedSite {
                index: refused.index + offset,
                ..refused
            }));
    }
}

/// A row as it is read before it is decided on, and as it is written.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName, Serialize)]
struct Row {
    #[diesel(sql_type = Text)]
    site_id: String,
    #[diesel(sql_type = Text)]
    app_id: String,
    #[diesel(sql_type = Text)]
    url: String,
    #[diesel(sql_type = Integer)]
    batch_code: i32,
    #[diesel(sql_type = Bool)]
    enabled: bool,
    #[diesel(sql_type = Text)]
    labels: String,
}

/// Who may enable and disable sites that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flags {
    /// The one who brings the sites in: an operator.
    Taken,
    /// Not the one who brings the sites in: an application.
    Kept,
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Added,
    Changed,
}

/// What is to be written for some sites, and what is told of it. Rows are in
/// the order of their ids: all imports lock in the same order.
#[derive(Debug, Default)]
struct Plan {
    add: Vec<Row>,
    change: Vec<Row>,
    imported: Imported,
}

impl Plan {
    /// Decides on sites one after the other, given the rows that are there, of
    /// which the same call added `fresh`.
    fn decide(
        sites: &[NewSite],
        known: Vec<Row>,
        flags: Flags,
        fresh: &BTreeSet<String>,
        mut draw: impl FnMut() -> u16,
    ) -> Self {
        let mut rows: BTreeMap<String, (Row, Fate)> = known
            .into_iter()
            .map(|row| (row.site_id.clone(), (row, Fate::Kept)))
            .collect();
        let mut imported = Imported::default();
        for (index, site) in sites.iter().enumerate() {
            let Some((row, fate)) = rows.get_mut(&site.site_id) else {
                let row = Row {
                    site_id: site.site_id.clone(),
                    app_id: site.app_id.as_str().to_owned(),
                    url: site.url.clone(),
                    batch_code: site.batch_code.unwrap_or_else(&mut draw).into(),
                    enabled: site.enabled.unwrap_or(true),
                    labels: site.labels.clone().unwrap_or_else(|| "{}".to_owned()),
                };
                rows.insert(site.site_id.clone(), (row, Fate::Added));
                imported.added += 1;
                continue;
            };
            if let Err(reason) = contradiction(site, row) {
                imported.refused.push(RefusedSite { index, reason });
                continue;
            }
            // What came first in this call is no operator's decision.
            let ours = *fate == Fate::Added || fresh.contains(&site.site_id);
            let keep = flags == Flags::Kept && !ours;
            if keep && site.enabled.is_some_and(|flag| flag != row.enabled) {
                imported.flags_kept.push(index);
            }
            if row.take_over(site, keep) {
                imported.changed += 1;
                if *fate == Fate::Kept {
                    *fate = Fate::Changed;
                }
            } else {
                imported.unchanged += 1;
            }
        }
        let mut plan = Self {
            imported,
            ..Self::default()
        };
        for (row, fate) in rows.into_values() {
            match fate {
                Fate::Kept => {}
                Fate::Added => plan.add.push(row),
                Fate::Changed => plan.change.push(row),
            }
        }
        plan
    }
}

/// What never changes has to be the same.
fn contradiction(site: &NewSite, row: &Row) -> Result<(), String> {
    let id = &site.site_id;
    if site.app_id.as_str() != row.app_id {
        let (app, other) = (&row.app_id, &site.app_id);
        return Err(format!(
            "site {id} is one of app {app}: to make it one of {other}, remove it first, or give \
             this one another id"
        ));
    }
    match site.batch_code {
        Some(code) if i32::from(code) != row.batch_code => Err(format!(
            "site {id} has batch code {}, which never changes: leave out {code}, or remove the \
             site first",
            row.batch_code
        )),
        _ => Ok(()),
    }
}

impl Row {
    /// Takes over what a site gives; answers whether that was another.
    fn take_over(&mut self, site: &NewSite, keep_flag: bool) -> bool {
        let before = self.clone();
        self.url.clone_from(&site.url);
        if let Some(enabled) = site.enabled.filter(|_| !keep_flag) {
            self.enabled = enabled;
        }
        if let Some(labels) = &site.labels {
            self.labels.clone_from(labels);
        }
        *self != before
    }
}

/// Draws a batch code, each equally likely (seed `site-polling.md`: a random
/// number, 0 to 10,000).
fn draw_batch_code() -> u16 {
    rand::rng().random_range(BATCH_CODES)
}

const COLUMNS: &str = "s.site_id, s.app_id, s.url, s.batch_code, s.enabled, s.labels";
const SQLITE_ROWS: &str = "SELECT value ->> 'site_id' AS site_id, value ->> 'app_id' AS app_id, \
    value ->> 'url' AS url, value ->> 'batch_code' AS batch_code, value ->> 'enabled' AS enabled, \
    value ->> 'labels' AS labels FROM json_each($1)";
const POSTGRES_ROWS: &str = "SELECT * FROM json_to_recordset($1::json) AS v (site_id text, \
    app_id text, url text, batch_code integer, enabled boolean, labels text)";

/// The statements, for one of the databases.
struct Statements {
    known: String,
    add: String,
    change: String,
}

impl Statements {
    fn new(sqlite: bool) -> Self {
        let rows = if sqlite { SQLITE_ROWS } else { POSTGRES_ROWS };
        let known = if sqlite {
            format!(
                "SELECT {COLUMNS} FROM json_each($1) AS u CROSS JOIN sites s WHERE s.site_id = u.value"
            )
        } else {
            // In order, so that two imports never wait for each other.
            format!(
                "SELECT {COLUMNS} FROM sites s WHERE s.site_id IN \
                 (SELECT json_array_elements_text($1::json)) ORDER BY s.site_id FOR UPDATE"
            )
        };
        Self {
            known,
            add: format!(
                "INSERT INTO sites (site_id, app_id, url, batch_code, enabled, labels) \
                 SELECT site_id, app_id, url, batch_code, enabled, labels FROM ({rows}) AS u \
                 WHERE true ON CONFLICT (site_id) DO NOTHING"
            ),
            change: format!(
                "UPDATE sites SET url = u.url, enabled = u.enabled, labels = u.labels \
                 FROM ({rows}) AS u WHERE sites.site_id = u.site_id"
            ),
        }
    }
}

impl Store {
    /// Takes sites in, in transactions of some thousands. A known site keeps
    /// its batch code; one of another app, or with another batch code given,
    /// is refused. The same sites once more change nothing.
    ///
    /// # Errors
    /// The database is out of reach; some of the sites may be in.
    pub async fn import_sites(&self, sites: Vec<NewSite>) -> Result<Imported, StoreError> {
        self.bring_in(sites, Flags::Taken).await
    }

    /// As [`import_sites`](Self::import_sites), for applications: whether a
    /// known site is enabled stays as it is, whatever is given.
    ///
    /// # Errors
    /// The database is out of reach; some of the sites may be in.
    pub async fn take_sites(&self, sites: Vec<NewSite>) -> Result<Imported, StoreError> {
        self.bring_in(sites, Flags::Kept).await
    }

    async fn bring_in(&self, sites: Vec<NewSite>, flags: Flags) -> Result<Imported, StoreError> {
        let store = self.clone();
        Self::detached(async move {
            let (mut all, mut fresh) = (Imported::default(), BTreeSet::new());
            for (number, chunk) in sites.chunks(CHUNK).enumerate() {
                let mut tries = 1;
                let (imported, added) = loop {
                    match store.import_chunk(chunk, flags, &fresh).await {
                        Err(StoreError::Locked(why)) if why == RACED && tries < TRIES => tries += 1,
                        ended => break ended?,
                    }
                };
                all.add(imported, number * CHUNK);
                fresh.extend(added);
            }
            Ok(all)
        })
        .await
    }

    /// Answers what was done, and the ids of the sites that were added.
    async fn import_chunk(
        &self,
        sites: &[NewSite],
        flags: Flags,
        fresh: &BTreeSet<String>,
    ) -> Result<(Imported, Vec<String>), StoreError> {
        let ids: Vec<&str> = sites.iter().map(|site| site.site_id.as_str()).collect();
        let ids = as_json(&ids)?;
        let mut lent = self.writer().await?;
        let statements = Statements::new(lent.is_sqlite());
        in_transaction!(lent, conn => {
            let known: Vec<Row> = diesel::sql_query(&statements.known)
                .bind::<Text, _>(&ids)
                .load(conn)
                .await?;
            let plan = Plan::decide(sites, known, flags, fresh, draw_batch_code);
            if !plan.add.is_empty() {
                let rows = as_json(&plan.add)?;
                let added = diesel::sql_query(&statements.add)
                    .bind::<Text, _>(rows)
                    .execute(conn)
                    .await?;
                if added < plan.add.len() {
                    // On PostgreSQL only: decided again, with their rows.
                    return Err(StoreError::Locked(RACED.to_owned()));
                }
            }
            if !plan.change.is_empty() {
                let rows = as_json(&plan.change)?;
                diesel::sql_query(&statements.change)
                    .bind::<Text, _>(rows)
                    .execute(conn)
                    .await?;
            }
            let added = plan.add.into_iter().map(|row| row.site_id);
            Ok::<_, StoreError>((plan.imported, added.collect()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn site(id: &str, app: &str, url: &str) -> NewSite {
        NewSite {
            site_id: id.into(),
            app_id: AppName::parse(app).unwrap(),
            url: url.into(),
            batch_code: None,
            enabled: None,
            labels: None,
        }
    }

    fn row(id: &str, app: &str, url: &str) -> Row {
        Row {
            site_id: id.into(),
            app_id: app.into(),
            url: url.into(),
            batch_code: 7,
            enabled: false,
            labels: "{\"a\":1}".into(),
        }
    }

    fn decide(sites: &[NewSite], known: Vec<Row>, flags: Flags) -> Plan {
        Plan::decide(sites, known, flags, &BTreeSet::new(), draw_batch_code)
    }

    #[test]
    fn a_known_site_keeps_what_is_not_given() {
        let plan = decide(
            &[site("s", "a", "new")],
            vec![row("s", "a", "old")],
            Flags::Taken,
        );
        assert_eq!(plan.change, [row("s", "a", "new")]);
        assert_eq!((plan.imported.changed, plan.add.len()), (1, 0));
        let same = decide(
            &[site("s", "a", "old")],
            vec![row("s", "a", "old")],
            Flags::Taken,
        );
        assert_eq!((same.imported.unchanged, same.change.len()), (1, 0));
    }

    #[test]
    fn an_application_does_not_enable_what_is_known() {
        let mut on = site("s", "a", "new");
        on.enabled = Some(true);
        let known = || vec![row("s", "a", "old")];
        let plan = decide(&[on.clone()], known(), Flags::Kept);
        assert_eq!(plan.change, [row("s", "a", "new")], "the address is taken");
        assert_eq!(plan.imported.flags_kept, [0]);
        let plan = decide(&[on.clone()], known(), Flags::Taken);
        assert!(plan.change[0].enabled && plan.imported.flags_kept.is_empty());
        let mut off = on.clone();
        off.enabled = Some(false);
        let plan = decide(&[on, off], Vec::new(), Flags::Kept);
        assert!(
            !plan.add[0].enabled,
            "new by this call: the last word counts"
        );
    }

    #[test]
    fn what_an_earlier_chunk_of_the_call_added_is_no_operators_decision() {
        let mut on = site("s", "a", "old");
        on.enabled = Some(true);
        let sites = [
            on.clone(),
            NewSite {
                site_id: "t".into(),
                ..on
            },
        ];
        let known = vec![row("s", "a", "old"), row("t", "a", "old")];
        let fresh = BTreeSet::from(["s".to_owned()]);
        let plan = Plan::decide(&sites, known, Flags::Kept, &fresh, || 1);
        let changed = plan.change.iter().map(|row| (&*row.site_id, row.enabled));
        assert_eq!(changed.collect::<Vec<_>>(), [("s", true)]);
        assert_eq!(plan.imported.flags_kept, [1]);
    }

    #[test]
    fn contradictions_are_refused_and_name_their_place() {
        let mut other_code = site("s", "a", "u");
        other_code.batch_code = Some(8);
        let mut same_code = site("s", "a", "old");
        same_code.batch_code = Some(7);
        let sites = [site("s", "b", "u"), other_code, same_code];
        let plan = decide(&sites, vec![row("s", "a", "old")], Flags::Taken);
        let refused = &plan.imported.refused;
        assert_eq!((refused[0].index, refused[1].index), (0, 1));
        assert!(refused[0].reason.contains("one of app a"), "{refused:?}");
        assert!(refused[1].reason.contains("batch code 7"), "{refused:?}");
        assert_eq!((plan.imported.unchanged, plan.change.len()), (1, 0));
    }

    #[test]
    fn a_site_given_twice_is_taken_once_with_what_was_said_last() {
        let mut off = site("s", "a", "two");
        off.enabled = Some(false);
        let sites = [site("s", "a", "one"), off, site("s", "b", "three")];
        let plan = decide(&sites, Vec::new(), Flags::Taken);
        assert_eq!((plan.add.len(), plan.change.len()), (1, 0));
        assert_eq!((&*plan.add[0].url, plan.add[0].enabled), ("two", false));
        let told = &plan.imported;
        assert_eq!((told.added, told.changed, told.refused.len()), (1, 1, 1));
    }

    #[test]
    fn drawn_codes_reach_both_ends() {
        let codes: BTreeSet<u16> = (0..400_000).map(|_| draw_batch_code()).collect();
        let ends = (codes.iter().next(), codes.iter().next_back());
        assert_eq!(ends, (Some(&0), Some(&10_000)));
    }

    proptest! {
        #[test]
        fn codes_are_those_given_or_drawn_in_range(
            given in proptest::collection::vec(proptest::option::of(0_u16..=10_000), 1..50),
        ) {
            let sites: Vec<NewSite> = given
                .iter()
                .enumerate()
                .map(|(n, code)| NewSite {
                    batch_code: *code,
                    ..site(&format!("s{n:03}"), "a", "http://s.example")
                })
                .collect();
            let plan = decide(&sites, Vec::new(), Flags::Taken);
            prop_assert_eq!(plan.add.len(), given.len());
            for (row, given) in plan.add.iter().zip(given) {
                prop_assert!((0..=10_000).contains(&row.batch_code));
                prop_assert!(given.is_none_or(|code| i32::from(code) == row.batch_code));
            }
        }
    }
}
