//! Which apps and jobs the rows of sites name: what a filter may name besides
//! the configuration, and whose sites no job visits.

use super::connection::on_backend;
use super::schema::sites;
use super::sites_due::numbered;
use super::{Store, StoreError};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use std::collections::BTreeSet;

/// Most apps read; anyone who may insert rows can make names.
const MOST_NAMES: i64 = 5000;

/// Most jobs looked through for those of a name. Rows name jobs that are or were
/// configured, so there are few.
const MOST_JOBS: i64 = 10_000;

/// How many sites an app has.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct AppSites {
    /// The app.
    #[diesel(sql_type = Text)]
    pub app_id: String,
    /// Its sites that are enabled.
    #[diesel(sql_type = BigInt)]
    pub enabled: i64,
    /// Its sites that are not.
    #[diesel(sql_type = BigInt)]
    pub disabled: i64,
    /// When the first of its enabled sites was added.
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    pub first_at: Option<Timestamp>,
}

/// The name of an app.
#[derive(QueryableByName)]
struct App {
    #[diesel(sql_type = Text)]
    app_id: String,
}

/// A job of an app.
#[derive(QueryableByName)]
struct Job {
    #[diesel(sql_type = Text)]
    app_id: String,
    #[diesel(sql_type = Text)]
    job_name: String,
}

/// The rows of `poll_status` in two parts, each worded as its index words it.
const PARTS: [&str; 2] = [
    "p.enabled AND p.next_due_at IS NOT NULL",
    "(NOT p.enabled OR p.next_due_at IS NULL)",
];

/// The first `$1` apps of sites, each found by a step through the index.
const FIRST_APPS: &str = "WITH RECURSIVE a (app_id, n) AS (\
     SELECT (SELECT s.app_id FROM sites s ORDER BY s.app_id LIMIT 1), CAST(1 AS BIGINT) UNION ALL \
     SELECT (SELECT s.app_id FROM sites s WHERE s.app_id > a.app_id ORDER BY s.app_id LIMIT 1), \
     a.n + 1 FROM a WHERE a.app_id IS NOT NULL AND a.n < $1) \
     SELECT app_id FROM a WHERE app_id IS NOT NULL";

/// The first `$1` jobs of a part of the rows, likewise; only of the app `$2`, if
/// it is `of_app`. SQLite steps behind a pair by its first column alone, so a
/// step goes to the app's next job, else to the next app.
fn first_jobs(part: &str, of_app: bool) -> String {
    let of = if of_app { " AND p.app_id = $2" } else { "" };
    let first = |column: &str, behind: &str, order: &str| {
        format!(
            "(SELECT p.{column} FROM poll_status p WHERE {part}{of}{behind} \
             ORDER BY {order} LIMIT 1)"
        )
    };
    let start = |column: &str| first(column, "", "p.app_id, p.job_name");
    let next = |column: &str| {
        let behind = " AND p.app_id = j.app_id AND p.job_name > j.job_name";
        let job = first(column, behind, "p.job_name");
        if of_app {
            return job;
        }
        let app = first(column, " AND p.app_id > j.app_id", "p.app_id, p.job_name");
        format!("COALESCE({job}, {app})")
    };
    format!(
        "WITH RECURSIVE j (app_id, job_name, n) AS (\
         SELECT {}, {}, CAST(1 AS BIGINT) UNION ALL \
         SELECT {}, {}, j.n + 1 FROM j WHERE j.app_id IS NOT NULL AND j.n < $1) \
         SELECT app_id, job_name FROM j WHERE app_id IS NOT NULL",
        start("app_id"),
        start("job_name"),
        next("app_id"),
        next("job_name"),
    )
}

/// Sites by app.
const APPS: &str = "SELECT app_id, sum(CASE WHEN enabled THEN 1 ELSE 0 END) AS enabled, \
     sum(CASE WHEN enabled THEN 0 ELSE 1 END) AS disabled, \
     min(CASE WHEN enabled THEN created_at END) AS first_at \
     FROM sites GROUP BY app_id ORDER BY app_id LIMIT $1";

impl Store {
    /// Whether a site is of this app.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn has_app(&self, app: &str) -> Result<bool, StoreError> {
        let mut lent = self.reader().await?;
        let found: Option<i64> = on_backend!(lent, conn => {
            sites::table
                .select(sites::seq)
                .filter(sites::app_id.eq(app))
                .first(conn)
                .await
                .optional()
        })?;
        Ok(found.is_some())
    }

    /// Whether a job of this app has met a site.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn has_job(&self, app: &str, job: &str) -> Result<bool, StoreError> {
        let mut lent = self.reader().await?;
        let sqlite = lent.is_sqlite();
        for part in PARTS {
            let sql = format!(
                "SELECT p.app_id, p.job_name FROM poll_status p WHERE {part} \
                 AND p.app_id = $1 AND p.job_name = $2 LIMIT 1"
            );
            let found: Vec<Job> = on_backend!(lent, conn => {
                diesel::sql_query(numbered(sqlite, &sql))
                    .bind::<Text, _>(app)
                    .bind::<Text, _>(job)
                    .load(conn)
                    .await
            })?;
            if !found.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The apps whose job of this name has met a site. Looks through the jobs
    /// that rows name, at most 10,000 of them.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn apps_having_job(&self, job: &str) -> Result<BTreeSet<String>, StoreError> {
        let jobs = self.first_jobs(None, MOST_JOBS).await?.into_iter();
        let having = jobs.filter(|(_, name)| name == job);
        Ok(having.map(|(app, _)| app).collect())
    }

    /// The first apps of sites, in order.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn first_apps(&self, most: i64) -> Result<Vec<String>, StoreError> {
        let mut lent = self.reader().await?;
        let sqlite = lent.is_sqlite();
        let rows: Vec<App> = on_backend!(lent, conn => {
            diesel::sql_query(numbered(sqlite, FIRST_APPS))
                .bind::<BigInt, _>(most)
                .load(conn)
                .await
        })?;
        Ok(rows.into_iter().map(|row| row.app_id).collect())
    }

    /// The first jobs that have met sites (of this app, if one is named): app
    /// and name, in order.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn first_jobs(
        &self,
        app: Option<&str>,
        most: i64,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let mut lent = self.reader().await?;
        let sqlite = lent.is_sqlite();
        let mut jobs = BTreeSet::new();
        for part in PARTS {
            let sql = numbered(sqlite, &first_jobs(part, app.is_some()));
            let rows: Vec<Job> = on_backend!(lent, conn => {
                match app {
                    Some(app) => {
                        let query = diesel::sql_query(&sql).bind::<BigInt, _>(most);
                        query.bind::<Text, _>(app).load(conn).await
                    }
                    None => diesel::sql_query(&sql).bind::<BigInt, _>(most).load(conn).await,
                }
            })?;
            jobs.extend(rows.into_iter().map(|row| (row.app_id, row.job_name)));
        }
        let most = usize::try_from(most).unwrap_or(0);
        Ok(jobs.into_iter().take(most).collect())
    }

    /// How many sites each app has, by id, at most 5000 apps. Reads the table
    /// whole.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn sites_by_app(&self) -> Result<Vec<AppSites>, StoreError> {
        let mut lent = self.reader().await?;
        Ok(on_backend!(lent, conn => {
            diesel::sql_query(APPS)
                .bind::<BigInt, _>(MOST_NAMES)
                .load(conn)
                .await
        })?)
    }
}
