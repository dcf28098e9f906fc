//! What the site flow reads from the database for its plan, and the due times
//! that it corrects on the way.

use super::rules::{MOST_DELAY, spacing};
use super::shard::Shard;
use super::spreads::Spreads;
use crate::config::JobSettings;
use crate::leases::sites_lease;
use crate::store::{ClockReading, DueSite, JobRange, LeaseStake, Store, StoreError};
use crate::time::Timestamp;
use std::sync::Arc;

/// Sites that were inserted so shortly before the last look that their
/// transaction may not have ended then: looked at again, by row number.
const STILL_COMING: i64 = 10_000;

/// What a shard wants to have done.
#[derive(Clone, Debug)]
pub struct SitesWant {
    /// The job.
    pub job: Arc<JobSettings>,
    /// The shard.
    pub shard: Shard,
    /// The lease under which it is done.
    pub stake: LeaseStake,
    /// Number of the want, by which its answer is known.
    pub number: u64,
    /// What it is.
    pub read: SitesRead,
}

/// What is to be read, or written.
#[derive(Clone, Debug)]
pub enum SitesRead {
    /// Make new sites known to the job. `first` when the shard was just taken
    /// over, or its policy changed: then due times are corrected, what is
    /// overdue is spaced, and pauses of hosts are read.
    Prepare {
        /// See above.
        first: bool,
        /// Sites behind this row are looked at; 0 for all.
        after: i64,
        /// Rows that wait for their visit: it is looked whether they still may.
        waiting: Vec<i64>,
    },
    /// Read what is due.
    Page {
        /// By then.
        now: Timestamp,
        /// Behind this due time and row.
        after: (Timestamp, i64),
        /// Most rows.
        limit: i64,
    },
    /// Put these off.
    PutOff(Vec<(i64, Timestamp)>),
}

/// What was read.
#[derive(Clone, Debug)]
pub struct SitesPage {
    /// Of which want.
    pub want: SitesWant,
    /// What it brought.
    pub brought: SitesBrought,
}

/// What a read brought.
#[derive(Clone, Debug)]
pub enum SitesBrought {
    /// The shard is prepared.
    Prepared {
        /// New sites.
        added: usize,
        /// Hosts that asked to be left alone, where they were asked for.
        pauses: Vec<(String, Timestamp)>,
        /// Of the rows that wait, those whose site was disabled or removed.
        gone: Vec<i64>,
        /// Row behind which the next look begins.
        seen: i64,
    },
    /// Due sites.
    Rows {
        /// The rows.
        rows: Vec<DueSite>,
        /// Whether there are no more.
        done: bool,
        /// When the next one becomes due, known at the end.
        next_due: Option<Timestamp>,
    },
    /// Sites were put off.
    PutOff,
}

/// Does what a shard wants.
///
/// # Errors
/// The database is out of reach.
pub async fn load(
    store: &Store,
    spreads: &Spreads,
    want: SitesWant,
    now: Timestamp,
) -> Result<SitesPage, StoreError> {
    let clock = ClockReading::just_read(now);
    let range = JobRange {
        job: want.job.key.clone(),
        codes: want.shard.codes(),
    };
    let brought = match &want.read {
        SitesRead::Prepare {
            first,
            after,
            waiting,
        } => {
            let gone = store.sites_gone(waiting).await?;
            prepare(store, spreads, &want, &range, (*first, *after), gone, clock).await?
        }
        SitesRead::Page { now, after, limit } => {
            let rows = store.due_sites(&range, *now, *after, *limit).await?;
            let done = i64::try_from(rows.len()).unwrap_or(i64::MAX) < *limit;
            let next_due = if done {
                store.next_site_due(&range, *now).await?
            } else {
                None
            };
            SitesBrought::Rows {
                rows,
                done,
                next_due,
            }
        }
        SitesRead::PutOff(sites) => {
            store.put_sites_off(sites.clone()).await?;
            SitesBrought::PutOff
        }
    };
    Ok(SitesPage { want, brought })
}

async fn prepare(
    store: &Store,
    spreads: &Spreads,
    want: &SitesWant,
    range: &JobRange,
    (first, after): (bool, i64),
    gone: Vec<i64>,
    clock: ClockReading,
) -> Result<SitesBrought, StoreError> {
    let now = clock.now;
    let periods = want.job.retry.levels().iter().map(|level| level.period);
    let (first_period, shortest) = (want.job.retry.level(0).period, periods.min());
    let last = store.last_site().await?;
    // Other servers and polls hear of hosts' wishes as well.
    let pauses = store.host_pauses(now).await?;
    let shards = want.job.batches;
    if after == 0 {
        // An application may have changed a site while it was made known.
        store.mend_standings(range, &want.stake).await?;
    }
    if first {
        let corrected = store
            .correct_due_times(range, &want.stake, &want.job.retry, MOST_DELAY, clock)
            .await?;
        // What waits already is spaced before the new ones come behind it.
        let overdue = store.overdue_sites(range, now).await?;
        if overdue > 1 {
            let step = spacing(overdue, shortest.unwrap_or(first_period), shards);
            store
                .space_overdue_sites(range, &want.stake, now, step)
                .await?;
        }
        tracing::debug!(
            job.key = %range.job, job.shard = %want.shard, sites.corrected = corrected,
            sites.overdue = overdue, "a shard was taken over"
        );
    }
    let mut added = 0;
    let fresh = store.new_sites(range, after).await?;
    if fresh > 0 {
        let step = spacing(fresh, first_period, shards);
        added = store
            .initialise_sites(range, &want.stake, after, now, step)
            .await?;
        if added > 0 {
            tracing::info!(job.key = %range.job, job.shard = %want.shard, sites.added = added, "new sites");
        }
    }
    if first {
        let loads = store.sites_due_by_second(range, now).await?;
        let lease = sites_lease(&range.job, want.shard);
        spreads.seed(&lease, &want.job.retry, &loads);
    }
    Ok(SitesBrought::Prepared {
        added,
        pauses,
        gone,
        seen: last.saturating_sub(STILL_COMING).max(0),
    })
}
