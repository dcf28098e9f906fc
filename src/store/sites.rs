//! What operators change about sites that are kept: removing, enabling,
//! disabling, and reviving those that were given up. Bringing sites in is in
//! `sites_import.rs`.

use super::changes::as_json;
use super::connection::on_backend;
use super::schema::poll_status;
use super::{Store, StoreError};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use std::collections::BTreeSet;

/// Rows revived by one statement.
const STEP: i64 = 1000;

/// Which of the sites that were given up are revived: all that meet each
/// condition given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revival {
    /// Only these sites.
    pub site_ids: Option<Vec<String>>,
    /// Only of this app.
    pub app: Option<String>,
    /// Only with the job of this name.
    pub job: Option<String>,
}

/// What reviving did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revived {
    /// Sites, each once.
    pub sites: usize,
    /// Jobs of these sites: what two jobs had given up counts twice.
    pub jobs: usize,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    site_id: String,
}

/// A condition of `$column` being in a list that is one JSON parameter.
macro_rules! among {
    ($column:literal, $sqlite:expr, $ids:expr) => {{
        let (before, after) = if $sqlite {
            (concat!($column, " IN (SELECT value FROM json_each("), "))")
        } else {
            (
                concat!($column, " IN (SELECT json_array_elements_text("),
                "::json))",
            )
        };
        diesel::dsl::sql::<Bool>(before)
            .bind::<Text, _>($ids)
            .sql(after)
    }};
}

impl Store {
    /// Which of these sites are kept.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn known_sites(&self, ids: &[String]) -> Result<BTreeSet<String>, StoreError> {
        use super::schema::sites;
        let ids = as_json(&ids)?;
        let mut lent = self.reader().await?;
        let sqlite = lent.is_sqlite();
        let found: Vec<String> = on_backend!(lent, conn => {
            sites::table
                .select(sites::site_id)
                .filter(among!("site_id", sqlite, ids))
                .load(conn)
                .await
        })?;
        Ok(found.into_iter().collect())
    }

    /// Removes sites, with how they stood and what was learned. Answers those
    /// that were there.
    ///
    /// # Errors
    /// The database is out of reach; nothing is removed.
    pub async fn remove_sites(&self, ids: &[String]) -> Result<BTreeSet<String>, StoreError> {
        self.change_sites(ids, "DELETE FROM sites").await
    }

    /// Has sites visited again. Answers those that are there.
    ///
    /// # Errors
    /// The database is out of reach; nothing is changed.
    pub async fn enable_sites(&self, ids: &[String]) -> Result<BTreeSet<String>, StoreError> {
        self.change_sites(ids, "UPDATE sites SET enabled = TRUE")
            .await
    }

    /// Has sites left alone until they are enabled. Answers those that are there.
    ///
    /// # Errors
    /// The database is out of reach; nothing is changed.
    pub async fn disable_sites(&self, ids: &[String]) -> Result<BTreeSet<String>, StoreError> {
        self.change_sites(ids, "UPDATE sites SET enabled = FALSE")
            .await
    }

    /// One statement for all: triggers bring the other tables along.
    async fn change_sites(
        &self,
        ids: &[String],
        change: &'static str,
    ) -> Result<BTreeSet<String>, StoreError> {
        let ids = as_json(&ids)?;
        let store = self.clone();
        Self::detached(async move {
            let mut lent = store.writer().await?;
            let source = if lent.is_sqlite() {
                "SELECT value FROM json_each($1)"
            } else {
                "SELECT json_array_elements_text($1::json)"
            };
            let statement = format!("{change} WHERE site_id IN ({source}) RETURNING site_id");
            let found: Vec<Found> = on_backend!(lent, conn => {
                diesel::sql_query(&statement).bind::<Text, _>(&ids).load(conn).await
            })?;
            Ok(found.into_iter().map(|found| found.site_id).collect())
        })
        .await
    }

    /// Has sites that were given up visited again: level 0, count 0, due at
    /// `now`. Answers with how many sites and jobs of theirs that was done.
    ///
    /// # Errors
    /// The database is out of reach; some may be revived.
    pub async fn revive_sites(
        &self,
        which: &Revival,
        now: Timestamp,
    ) -> Result<Revived, StoreError> {
        let ids = which.site_ids.as_ref().map(as_json).transpose()?;
        let (app, job) = (which.app.clone(), which.job.clone());
        let store = self.clone();
        Self::detached(async move {
            let (mut sites, mut jobs, mut after) = (BTreeSet::new(), 0, i64::MIN);
            loop {
                let seqs = store
                    .given_up(ids.as_deref(), app.as_deref(), job.as_deref(), after)
                    .await?;
                let Some(last) = seqs.last() else {
                    let sites = sites.len();
                    return Ok(Revived { sites, jobs });
                };
                after = *last;
                let revived = store.revive_standings(&seqs, now).await?;
                jobs += revived.len();
                sites.extend(revived);
            }
        })
        .await
    }

    /// The next rows that were given up, in order, behind `after`.
    async fn given_up(
        &self,
        ids: Option<&str>,
        app: Option<&str>,
        job: Option<&str>,
        after: i64,
    ) -> Result<Vec<i64>, StoreError> {
        let mut lent = self.reader().await?;
        let sqlite = lent.is_sqlite();
        Ok(on_backend!(lent, conn => {
            let mut query = poll_status::table
                .select(poll_status::seq)
                .filter(poll_status::given_up_at.is_not_null())
                .filter(poll_status::seq.gt(after))
                .order(poll_status::seq)
                .limit(STEP)
                .into_boxed();
            if let Some(ids) = ids {
                query = query.filter(among!("site_id", sqlite, ids));
            }
            if let Some(app) = app {
                query = query.filter(poll_status::app_id.eq(app));
            }
            if let Some(job) = job {
                query = query.filter(poll_status::job_name.eq(job));
            }
            query.load::<i64>(conn).await
        })?)
    }

    /// Answers with the site of each row that was revived.
    async fn revive_standings(
        &self,
        seqs: &[i64],
        now: Timestamp,
    ) -> Result<Vec<String>, StoreError> {
        let seqs = as_json(&seqs)?;
        let mut lent = self.writer().await?;
        let source = if lent.is_sqlite() {
            "SELECT value FROM json_each($2)"
        } else {
            "SELECT value::bigint FROM json_array_elements_text($2::json)"
        };
        // As if it had never been visited, so that it is due at once.
        // SQLite numbers parameters in the order in which they stand.
        let statement = format!(
            "UPDATE poll_status SET level = 0, count = 0, last_run_at = NULL, given_up_at = NULL, \
             next_due_at = $1 WHERE seq IN ({source}) AND given_up_at IS NOT NULL \
             RETURNING site_id"
        );
        let found: Vec<Found> = on_backend!(lent, conn => {
            diesel::sql_query(&statement)
                .bind::<SqlTimestamp, _>(now)
                .bind::<Text, _>(&seqs)
                .load(conn)
                .await
        })?;
        Ok(found.into_iter().map(|found| found.site_id).collect())
    }
}
