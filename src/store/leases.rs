//! Leases: who works on what, by the database's clock.
//!
//! A name has at most one holder at a time; each change of holder raises the
//! epoch, and what was begun under an older epoch is not written any more.

use super::connection::{in_transaction, on_backend};
use super::lease_ranges::RangeName;
use super::{Store, StoreError};
use crate::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp as SqlTimestamp};
use diesel_async::RunQueryDsl;
use std::time::Duration;

/// A lease as work travels with it: the name and the epoch it was held at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseStake {
    /// Name of the lease.
    pub name: String,
    /// Epoch at which it was held.
    pub epoch: i64,
}

/// A lease as the table has it.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct LeaseRow {
    /// Name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Holder; `""` when given back.
    #[diesel(sql_type = Text)]
    pub holder: String,
    /// Epoch.
    #[diesel(sql_type = BigInt)]
    pub epoch: i64,
    /// Milliseconds until it expires by the database's clock; negative when it has.
    #[diesel(sql_type = BigInt)]
    pub remaining_ms: i64,
    /// Since when the holder has it.
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    pub acquired_at: Option<Timestamp>,
}

impl LeaseRow {
    /// Whether somebody has it and is alive.
    pub fn is_held(&self) -> bool {
        !self.holder.is_empty() && self.remaining_ms > 0
    }
}

/// Begins the name of a holder that is no server, and lives beside one: a
/// `highwater poll`.
pub const RUNNER_PREFIX: &str = "runner:";

#[derive(QueryableByName)]
pub(super) struct HeldLease {
    #[diesel(sql_type = Text)]
    pub(super) name: String,
    #[diesel(sql_type = BigInt)]
    pub(super) epoch: i64,
}

/// The leases of a holder, locked until the transaction's end so that none is
/// taken over before the commit. Expiry does not matter here: a lease that
/// expired and was not taken over is still ours.
pub(super) const fn held_leases(sqlite: bool) -> &'static str {
    if sqlite {
        "SELECT name, epoch FROM leases WHERE holder = $1"
    } else {
        "SELECT name, epoch FROM leases WHERE holder = $1 ORDER BY name FOR SHARE"
    }
}

/// A lease, locked until the transaction's end, if it is held at this epoch
/// still; whoever takes it over, or back, raises the epoch.
pub(super) const fn held_lease(sqlite: bool) -> &'static str {
    if sqlite {
        "SELECT name, epoch FROM leases WHERE name = $1 AND epoch = $2 AND holder <> ''"
    } else {
        "SELECT name, epoch FROM leases WHERE name = $1 AND epoch = $2 AND holder <> '' FOR SHARE"
    }
}

const fn now(sqlite: bool) -> &'static str {
    if sqlite {
        "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    } else {
        "(clock_timestamp() AT TIME ZONE 'utc')"
    }
}

/// The database's clock plus a duration.
fn later(sqlite: bool, by: Duration) -> String {
    let seconds = by.as_secs_f64();
    if sqlite {
        format!("strftime('%Y-%m-%d %H:%M:%f', 'now', '+{seconds:.3} seconds')")
    } else {
        format!("({} + interval '{seconds:.3} seconds')", now(false))
    }
}

/// Holders that die with the server's operating system lock.
const NO_RUNNER: &str = "leases.holder NOT LIKE 'runner:%'";

/// Released at the end of the transaction; the number has no meaning but to be
/// ours alone.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(5217390461)";

/// Who paused while it held this lease writes nothing under it any more.
const FENCE_OFF: &str = "UPDATE leases SET holder = '', epoch = epoch + 1 WHERE name = $1";

impl Store {
    /// All leases.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn leases(&self) -> Result<Vec<LeaseRow>, StoreError> {
        let mut lent = self.writer().await?;
        let remaining = if lent.is_sqlite() {
            "CAST(round((julianday(expires_at) - julianday('now')) * 86400000) AS INTEGER)"
                .to_owned()
        } else {
            format!(
                "(EXTRACT(EPOCH FROM (expires_at - {})) * 1000)::bigint",
                now(false)
            )
        };
        let query = format!(
            "SELECT name, holder, epoch, {remaining} AS remaining_ms, acquired_at FROM leases ORDER BY name"
        );
        Ok(on_backend!(lent, conn => diesel::sql_query(&query).load(conn).await)?)
    }

    /// Acquires the named leases that are free or expired, and prolongs those
    /// that `holder` already has, for `ttl` from now. Answers the stakes held
    /// afterwards, of all the names given.
    ///
    /// With `evict`, leases of other servers are taken even when they have
    /// not expired: only for a server that knows the others to be dead (SQLite's
    /// operating system lock). Runners ([`RUNNER_PREFIX`]) may be alive.
    ///
    /// A lease of a range is not acquired while another one that overlaps it is
    /// held; what is left of one that has expired is fenced off.
    ///
    /// # Errors
    /// The database is out of reach; nothing is acquired.
    pub async fn hold_leases(
        &self,
        holder: &str,
        names: &[String],
        ttl: Duration,
        evict: bool,
    ) -> Result<Vec<LeaseStake>, StoreError> {
        let store = self.clone();
        let (holder, names) = (holder.to_owned(), names.to_vec());
        Self::detached(async move {
            let mut lent = store.writer().await?;
            let sqlite = lent.is_sqlite();
            let take = format!(
                "INSERT INTO leases (name, holder, epoch, expires_at, acquired_at) \
                 VALUES ($1, $2, 1, {until}, {now}) \
                 ON CONFLICT (name) DO UPDATE SET \
                 epoch = CASE WHEN leases.holder = excluded.holder THEN leases.epoch ELSE leases.epoch + 1 END, \
                 acquired_at = CASE WHEN leases.holder = excluded.holder THEN leases.acquired_at ELSE {now} END, \
                 holder = excluded.holder, expires_at = excluded.expires_at \
                 WHERE leases.holder = excluded.holder OR leases.holder = '' OR leases.expires_at <= {now} OR {evict} \
                 RETURNING name, epoch",
                until = later(sqlite, ttl),
                now = now(sqlite),
                evict = if evict { NO_RUNNER } else { "1 = 0" },
            );
            let others = format!(
                "SELECT name, holder, epoch, CAST(CASE WHEN holder = '' OR expires_at <= {now} OR ({evict}) \
                 THEN -1 ELSE 1 END AS BIGINT) AS remaining_ms, acquired_at FROM leases \
                 WHERE name LIKE 'sites:%' ORDER BY name",
                now = now(sqlite),
                evict = if evict { format!("{NO_RUNNER} AND holder <> $1") } else { "$1 = ''".to_owned() },
            );
            // In one order everywhere, so that two servers cannot deadlock.
            let mut names = names;
            names.sort();
            in_transaction!(lent, conn => {
                let mut stakes = Vec::with_capacity(names.len());
                let mut ranges = Vec::new();
                if names.iter().any(|name| RangeName::parse(name).is_some()) {
                    if !sqlite {
                        // Two that acquire overlapping ranges must see each other.
                        diesel::sql_query(ONE_AT_A_TIME).execute(conn).await?;
                    }
                    ranges = diesel::sql_query(&others).bind::<Text, _>(&holder).load::<LeaseRow>(conn).await?;
                }
                for name in &names {
                    if let Some(range) = RangeName::parse(name) {
                        let overlapping = |row: &&LeaseRow| {
                            row.name != *name
                                && RangeName::parse(&row.name).is_some_and(|other| other.excludes(&range))
                        };
                        if ranges.iter().filter(overlapping).any(LeaseRow::is_held)
                        {
                            continue;
                        }
                        let left: Vec<&str> = ranges
                            .iter()
                            .filter(overlapping)
                            .filter(|row| !row.holder.is_empty())
                            .map(|row| row.name.as_str())
                            .collect();
                        for name in left {
                            diesel::sql_query(FENCE_OFF).bind::<Text, _>(name).execute(conn).await?;
                        }
                    }
                    let rows: Vec<HeldLease> = diesel::sql_query(&take)
                        .bind::<Text, _>(name)
                        .bind::<Text, _>(&holder)
                        .load(conn)
                        .await?;
                    if let (Some(range), false) = (RangeName::parse(name), rows.is_empty()) {
                        // The next ones of this call must not overlap it either.
                        ranges.retain(|row| {
                            row.name == *name
                                || RangeName::parse(&row.name).is_none_or(|other| !other.excludes(&range))
                        });
                        ranges.push(LeaseRow {
                            name: name.clone(),
                            holder: holder.clone(),
                            epoch: 0,
                            remaining_ms: 1,
                            acquired_at: None,
                        });
                    }
                    stakes.extend(
                        rows.into_iter().map(|row| LeaseStake { name: row.name, epoch: row.epoch }),
                    );
                }
                Ok::<_, StoreError>(stakes)
            })
        })
        .await
    }

    /// The leases that stand in the way of this one: of another holder, not
    /// expired, and of the same name or of a range that overlaps its.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn leases_in_the_way(
        &self,
        holder: &str,
        name: &str,
    ) -> Result<Vec<LeaseRow>, StoreError> {
        let wanted = RangeName::parse(name);
        let mut rows = self.leases().await?;
        rows.retain(|row| {
            let overlaps = || {
                let other = RangeName::parse(&row.name)?;
                Some(other.excludes(wanted.as_ref()?))
            };
            row.is_held()
                && row.holder != holder
                && (row.name == name || overlaps().unwrap_or(false))
        });
        Ok(rows)
    }

    /// Gives leases back; those that `holder` no longer has are left alone.
    /// The epoch stays, so that it never repeats.
    ///
    /// # Errors
    /// The database is out of reach; they expire by themselves.
    pub async fn release_leases(&self, holder: &str, names: &[String]) -> Result<(), StoreError> {
        let store = self.clone();
        let (holder, names) = (holder.to_owned(), names.to_vec());
        Self::detached(async move {
            let mut lent = store.writer().await?;
            let release = format!(
                "UPDATE leases SET holder = '', expires_at = {} WHERE name = $1 AND holder = $2",
                now(lent.is_sqlite())
            );
            let mut names = names;
            names.sort();
            in_transaction!(lent, conn => {
                for name in &names {
                    diesel::sql_query(&release)
                        .bind::<Text, _>(name)
                        .bind::<Text, _>(&holder)
                        .execute(conn)
                        .await?;
                }
                Ok::<_, StoreError>(())
            })
        })
        .await
    }

    /// Removes leases of servers that expired long ago.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn forget_servers(&self, prefix: &str) -> Result<usize, StoreError> {
        let mut lent = self.writer().await?;
        let query = format!(
            "DELETE FROM leases WHERE name LIKE $1 AND expires_at <= {}",
            now(lent.is_sqlite())
        );
        let pattern = format!("{prefix}%");
        Ok(on_backend!(lent, conn => {
            diesel::sql_query(&query).bind::<Text, _>(&pattern).execute(conn).await
        })?)
    }
}
