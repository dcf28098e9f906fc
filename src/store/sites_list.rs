//! Lists of sites, and of how they stand with jobs: filtered, in six orders,
//! a page at a time.
//!
//! A list in an order of `sites` reads that table and adds how the page's
//! sites stand with the job, if one is named. A list by what only visits know
//! (due, waiting, failing, well, given up, a level; the orders of `poll_status`) reads that
//! table and adds the sites. Neither joins before it has the page.

use super::connection::on_backend;
use super::schema::{poll_status, sites};
use super::sites_filter::{SiteCursor, SiteFilter, SiteItem, SitePage, SiteSort, SiteState};
use super::sites_read::{SiteRow, StatusRow};
use super::{Store, StoreError};
use crate::time::Timestamp;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel_async::RunQueryDsl;
use std::collections::HashMap;

/// Puts a query into the order of a number and a `seq`, behind the cursor.
/// The condition on the number alone is what an index is entered by.
macro_rules! ordered {
    ($query:ident, $key:expr, $seq:expr, $after:expr, $descending:expr) => {{
        if $descending {
            if let Some((key, seq)) = $after {
                $query = $query
                    .filter($key.le(key))
                    .filter($key.lt(key).or($seq.lt(seq)));
            }
            $query.order(($key.desc(), $seq.desc()))
        } else {
            if let Some((key, seq)) = $after {
                $query = $query
                    .filter($key.ge(key))
                    .filter($key.gt(key).or($seq.gt(seq)));
            }
            $query.order(($key.asc(), $seq.asc()))
        }
    }};
}

/// A condition on id and address, as the text in which both patterns stand.
fn patterns(text: &str) -> (String, String) {
    let mut escaped = String::with_capacity(text.len() + 2);
    for c in text.to_ascii_lowercase().chars() {
        if matches!(c, '%' | '_' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    (format!("{escaped}%"), format!("%{escaped}%"))
}

const TEXT_OPEN: &str = "(lower(site_id) LIKE ";
const TEXT_MIDDLE: &str = " ESCAPE '\\' OR lower(url) LIKE ";
const TEXT_CLOSE: &str = " ESCAPE '\\')";

/// Takes away what is behind the page; answers where it ends if there is such.
fn cut<T>(rows: &mut Vec<T>, most: usize, end: impl Fn(&T) -> SiteCursor) -> Option<SiteCursor> {
    if rows.len() <= most {
        return None;
    }
    rows.truncate(most);
    rows.last().map(end)
}

impl Store {
    /// Lists sites. The filter has to be one that [`SiteFilter::check`] lets pass.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn list_sites(
        &self,
        filter: &SiteFilter,
        now: Timestamp,
    ) -> Result<SitePage, StoreError> {
        let most = usize::try_from(filter.limit.clamp(1, 10_000)).unwrap_or(1);
        if filter.is_of_visits() {
            self.list_visited(filter, most, now).await
        } else {
            self.list_rows(filter, most).await
        }
    }

    /// The list read from `sites`.
    async fn list_rows(&self, filter: &SiteFilter, most: usize) -> Result<SitePage, StoreError> {
        let limit = i64::try_from(most).unwrap_or(0) + 1;
        let after = filter.cursor.as_ref().map(|at| (at.key, at.seq));
        let mut lent = self.reader().await?;
        on_backend!(lent, conn => {
            let mut query = sites::table.select(sites::all_columns).into_boxed();
            if let Some(app) = &filter.app {
                query = query.filter(sites::app_id.eq(app));
            }
            match (filter.state, &filter.job) {
                (Some(SiteState::Disabled), _) => query = query.filter(sites::enabled.eq(false)),
                (Some(SiteState::Never), Some(job)) => {
                    let visited = poll_status::table
                        .filter(poll_status::site_id.eq(sites::site_id))
                        .filter(poll_status::job_name.eq(job))
                        .filter(poll_status::last_run_at.is_not_null());
                    query = query
                        .filter(sites::enabled.eq(true))
                        .filter(diesel::dsl::not(diesel::dsl::exists(visited)));
                    query = match filter.job_apps.as_slice() {
                        [] => query,
                        // One app at a time has an index in each order.
                        [app] => query.filter(sites::app_id.eq(app)),
                        apps => query.filter(sites::app_id.eq_any(apps)),
                    };
                }
                _ => {}
            }
            if let Some(text) = &filter.text {
                let (start, part) = patterns(text);
                query = query.filter(
                    diesel::dsl::sql::<Bool>(TEXT_OPEN)
                        .bind::<Text, _>(start)
                        .sql(TEXT_MIDDLE)
                        .bind::<Text, _>(part)
                        .sql(TEXT_CLOSE),
                );
            }
            query = match filter.sort {
                SiteSort::BatchCode => {
                    let after = after.map(|(key, seq)| (i32::try_from(key).unwrap_or(i32::MAX), seq));
                    ordered!(query, sites::batch_code, sites::seq, after, filter.descending)
                }
                SiteSort::CreatedAt => {
                    ordered!(query, sites::seq, sites::seq, after, filter.descending)
                }
                _ => {
                    let after = filter.cursor.as_ref().map(|at| (&at.site_id, at.seq));
                    ordered!(query, sites::site_id, sites::seq, after, filter.descending)
                }
            };
            let mut rows = query.limit(limit).load::<SiteRow>(conn).await?;
            let next = cut(&mut rows, most, |row| filter.after_site(row));
            let mut standings: HashMap<String, StatusRow> = HashMap::new();
            if let Some(job) = &filter.job {
                let ids: Vec<&str> = rows.iter().map(|row| row.site_id.as_str()).collect();
                let found = poll_status::table
                    .filter(poll_status::site_id.eq_any(ids))
                    .filter(poll_status::job_name.eq(job))
                    .load::<StatusRow>(conn)
                    .await?;
                standings.extend(found.into_iter().map(|row| (row.site_id.clone(), row)));
            }
            let items = rows.into_iter().map(|site| SiteItem {
                status: standings.remove(&site.site_id),
                site,
            });
            Ok(SitePage {
                items: items.collect(),
                next,
            })
        })
    }

    /// The list read from `poll_status`.
    async fn list_visited(
        &self,
        filter: &SiteFilter,
        most: usize,
        now: Timestamp,
    ) -> Result<SitePage, StoreError> {
        let limit = i64::try_from(most).unwrap_or(0) + 1;
        let after = filter.cursor.as_ref().map(|at| (at.key, at.seq));
        let after_number = after.map(|(key, seq)| (i32::try_from(key).unwrap_or(i32::MAX), seq));
        let after_time = after.map(|(key, seq)| (Timestamp::from_millis(key), seq));
        let mut lent = self.reader().await?;
        on_backend!(lent, conn => {
            let mut query = poll_status::table.into_boxed();
            if let Some(app) = &filter.app {
                query = query.filter(poll_status::app_id.eq(app));
            }
            if let Some(job) = &filter.job {
                query = query.filter(poll_status::job_name.eq(job));
            }
            if let Some(level) = filter.level {
                query = query.filter(poll_status::level.eq(i32::try_from(level).unwrap_or(i32::MAX)));
            }
            // As the index has it, word for word.
            let on_its_way = || diesel::dsl::sql::<Bool>("enabled AND next_due_at IS NOT NULL");
            match filter.state {
                // Not in its words: in another order, the index would only be a detour.
                Some(SiteState::Due) => {
                    query = query
                        .filter(poll_status::enabled.eq(true))
                        .filter(poll_status::next_due_at.le(now));
                }
                Some(SiteState::Waiting) => {
                    query = query
                        .filter(poll_status::enabled.eq(true))
                        .filter(poll_status::next_due_at.gt(now));
                }
                Some(SiteState::GivenUp) => {
                    query = query
                        .filter(poll_status::enabled.eq(true))
                        .filter(poll_status::given_up_at.is_not_null());
                }
                // As the counts of jobs have it (`jobs_read.rs`).
                Some(SiteState::Failing) => {
                    query = query
                        .filter(poll_status::enabled.eq(true))
                        .filter(poll_status::given_up_at.is_null())
                        .filter(poll_status::last_run_at.is_not_null())
                        .filter(diesel::dsl::sql::<Bool>(
                            "COALESCE(last_outcome, '') <> 'success'",
                        ));
                }
                Some(SiteState::Well) => {
                    query = query
                        .filter(poll_status::enabled.eq(true))
                        .filter(poll_status::given_up_at.is_null())
                        .filter(poll_status::last_run_at.is_not_null())
                        .filter(poll_status::last_outcome.eq("success"));
                }
                Some(SiteState::Disabled) => query = query.filter(poll_status::enabled.eq(false)),
                Some(SiteState::Never) | None => {}
            }
            if let Some(text) = &filter.text {
                let (start, part) = patterns(text);
                query = query.filter(
                    diesel::dsl::sql::<Bool>("site_id IN (SELECT site_id FROM sites WHERE ")
                        .sql(TEXT_OPEN)
                        .bind::<Text, _>(start)
                        .sql(TEXT_MIDDLE)
                        .bind::<Text, _>(part)
                        .sql(TEXT_CLOSE)
                        .sql(")"),
                );
            }
            let seq = poll_status::seq;
            let descending = filter.descending;
            query = match filter.sort {
                SiteSort::NextDueAt => {
                    query = match filter.state {
                        Some(SiteState::Disabled) => {
                            query.filter(poll_status::next_due_at.is_not_null())
                        }
                        _ => query.filter(on_its_way()),
                    };
                    ordered!(query, poll_status::next_due_at, seq, after_time, descending)
                }
                SiteSort::LastRunAt => {
                    query = query.filter(poll_status::last_run_at.is_not_null());
                    ordered!(query, poll_status::last_run_at, seq, after_time, descending)
                }
                SiteSort::Level => {
                    ordered!(query, poll_status::level, seq, after_number, descending)
                }
                SiteSort::BatchCode => {
                    ordered!(query, poll_status::batch_code, seq, after_number, descending)
                }
                SiteSort::SiteId | SiteSort::CreatedAt => {
                    let (site_id, job) = (poll_status::site_id, poll_status::job_name);
                    let after = filter.cursor.as_ref().map(|at| (&at.site_id, &at.job));
                    ordered!(query, site_id, job, after, descending)
                }
            };
            let mut standings = query.limit(limit).load::<StatusRow>(conn).await?;
            let next = cut(&mut standings, most, |row| filter.after_status(row));
            let ids: Vec<&str> = standings.iter().map(|row| row.site_id.as_str()).collect();
            let found = sites::table
                .select(sites::all_columns)
                .filter(sites::site_id.eq_any(ids))
                .load::<SiteRow>(conn)
                .await?;
            let sites: HashMap<String, SiteRow> = found
                .into_iter()
                .map(|row| (row.site_id.clone(), row))
                .collect();
            // One that was removed just now has no row any more.
            let items = standings.into_iter().filter_map(|status| {
                Some(SiteItem {
                    site: sites.get(&status.site_id)?.clone(),
                    status: Some(status),
                })
            });
            Ok(SitePage {
                items: items.collect(),
                next,
            })
        })
    }
}
