//! Which apps and jobs the rows of sites name: what a filter may name besides
//! the configuration, and whose sites no job visits.

use super::connection::on_backend;
use super::schema::{poll_status, sites};
use super::{Store, StoreError};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use std::collections::BTreeSet;

/// Most apps and jobs read; anyone who may insert rows can make names.
const MOST_NAMES: i64 = 5000;

/// Apps and jobs that rows name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteNames {
    /// Apps of sites.
    pub apps: BTreeSet<String>,
    /// Jobs that have met sites: app and name.
    pub jobs: BTreeSet<(String, String)>,
}

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

    /// The apps and jobs that rows name, at most 5000 each. Reads both tables
    /// whole.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn site_names(&self) -> Result<SiteNames, StoreError> {
        let mut lent = self.reader().await?;
        on_backend!(lent, conn => {
            let apps: Vec<String> = sites::table
                .select(sites::app_id)
                .distinct()
                .order(sites::app_id)
                .limit(MOST_NAMES)
                .load(conn)
                .await?;
            let jobs: Vec<(String, String)> = poll_status::table
                .select((poll_status::app_id, poll_status::job_name))
                .distinct()
                .order((poll_status::app_id, poll_status::job_name))
                .limit(MOST_NAMES)
                .load(conn)
                .await?;
            Ok(SiteNames {
                apps: apps.into_iter().collect(),
                jobs: jobs.into_iter().collect(),
            })
        })
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
