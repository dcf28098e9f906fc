//! One run of a job over its sites, for `highwater poll`: visits once what is
//! due when it begins, under a lease that it was given, and ends.

use super::fetch::visit;
use super::queue::{HostQueue, Pushed, Waiting};
use super::rules::change_of;
use super::work::{LONGEST_PAUSE, SitesOutcome, SitesWork, host_of};
use crate::config::{JobSettings, SitesSettings};
use crate::handlers::Handler;
use crate::store::{
    ChangeGroup, ClockReading, DueSite, JobRange, LeaseStake, SiteChange, Store, StoreError,
};
use crate::time::Timestamp;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Sites read at a time.
const PAGE: i64 = 1_000;
/// Sites at hand below which more are read.
const FEW: usize = 500;
/// Sites at hand below which more are read while those at hand wait for their
/// hosts: one host with many sites leaves room for the others.
const MOST: usize = 100_000;
/// Pause before the database is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long the database may be away before a run ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a run is made of.
pub struct Run {
    /// Where sites are kept.
    pub store: Store,
    /// In whose name outcomes are written.
    pub holder: String,
    /// The lease of the sites.
    pub stake: LeaseStake,
    /// The sites.
    pub range: JobRange,
    /// The job, with the policy of this run.
    pub job: Arc<JobSettings>,
    /// The policy that servers go by: due times are kept by it.
    pub configured: Arc<JobSettings>,
    /// What is done on a site.
    pub handler: Arc<dyn Handler>,
    /// The flow's settings.
    pub settings: SitesSettings,
    /// Newest polls and results kept of each site.
    pub keep: usize,
    /// Whether the run is to end early: the lease was lost, or a signal came.
    pub stop: watch::Receiver<Option<String>>,
    /// Until when the lease is surely held: no visit begins after it.
    pub held_until: watch::Receiver<Instant>,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Sites that the job had never seen.
    pub new: usize,
    /// Sites that were due.
    pub due: usize,
    /// Visits that went well.
    pub successes: usize,
    /// Visits that failed.
    pub failures: usize,
    /// Of these, sites that were given up by it.
    pub given_up: usize,
    /// Due sites whose host asked to be left alone.
    pub left_alone: usize,
    /// Visits whose outcome could not be written.
    pub unwritten: usize,
    /// Why the run ended before all were visited.
    pub cut_short: Option<String>,
    /// Why the job's handler could not work at all, which ended the run and
    /// counts against no site.
    pub broken: Option<String>,
}

/// A visit, as it is told while a run goes on.
#[derive(Clone, Debug)]
pub struct Told<'o> {
    /// What came of it.
    pub outcome: &'o SitesOutcome,
    /// What it changed.
    pub change: &'o SiteChange,
}

/// Under this lease, makes the sites of a range that the job has never seen
/// known to it, due at once, and mends what the clock left behind. Answers how many were new.
///
/// # Errors
/// The database is out of reach.
pub async fn initialise(
    store: &Store,
    range: &JobRange,
    stake: &LeaseStake,
    configured: &JobSettings,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let (policy, delay) = (&configured.retry, super::rules::MOST_DELAY);
    store
        .correct_due_times(range, stake, policy, delay, ClockReading::just_read(now))
        .await?;
    store
        .initialise_sites(range, stake, 0, now, Duration::ZERO)
        .await
}

impl Run {
    /// Visits what is due at `now`. `tell` hears of each visit once it is written.
    ///
    /// # Errors
    /// The database is out of reach for longer than a minute; what was written
    /// before stays.
    pub async fn go(
        &self,
        now: Timestamp,
        mut tell: impl FnMut(Told<'_>),
    ) -> Result<Summary, StoreError> {
        let new = initialise(&self.store, &self.range, &self.stake, &self.configured, now).await;
        let mut summary = match new {
            Ok(new) => Summary {
                new,
                ..Summary::default()
            },
            Err(error @ StoreError::LeaseLost(_)) => {
                return Ok(Summary {
                    cut_short: Some(error.to_string()),
                    ..Summary::default()
                });
            }
            Err(error) => return Err(error),
        };
        let mut pauses: HashMap<Arc<str>, Timestamp> = self
            .store
            .host_pauses(now)
            .await?
            .into_iter()
            .map(|(host, until)| (host.into(), until.min(now.plus(LONGEST_PAUSE))))
            .collect();
        let mut queue = HostQueue::unbounded(self.job.per_host);
        let mut visits = FuturesUnordered::new();
        let mut done = Vec::new();
        let mut after = Some(i64::MIN);
        loop {
            let going_on = self.goes_on(&mut summary);
            if let (true, Some(from)) = (going_on, after)
                && (queue.waiting() < FEW || (!queue.has_ready() && queue.waiting() < MOST))
            {
                let rows = match self.due(now, from).await {
                    Ok(rows) => rows,
                    Err(error) => {
                        // What is over is written if that is possible.
                        self.write(done, &mut summary, &mut tell).await?;
                        return Err(error);
                    }
                };
                after = rows.last().map(|row| row.seq);
                summary.due += rows.len();
                for site in rows {
                    let host = host_of(&site.url);
                    if pauses
                        .get(&host)
                        .is_some_and(|until| *until > Timestamp::now())
                    {
                        summary.left_alone += 1;
                        continue;
                    }
                    let pushed = queue.push(&host, Waiting { site, shard: 0 });
                    debug_assert_eq!(pushed, Pushed::Taken);
                }
            }
            // Reading may have taken long.
            let going_on = self.goes_on(&mut summary);
            while going_on && visits.len() < self.settings.max_in_flight {
                let Some((host, Waiting { site, .. })) = queue.pop() else {
                    break;
                };
                visits.push(self.visit(host, site));
            }
            // What is over is written together, as soon as nothing else is over.
            let next = if done.is_empty() {
                visits.next().await
            } else {
                futures_util::FutureExt::now_or_never(visits.next()).flatten()
            };
            let Some(outcome) = next else {
                if done.is_empty() {
                    if after.is_none() || !going_on {
                        return Ok(summary);
                    }
                    continue;
                }
                self.write(std::mem::take(&mut done), &mut summary, &mut tell)
                    .await?;
                continue;
            };
            let seq = outcome.work.site.seq;
            queue.freed(&outcome.work.host);
            queue.returned(seq);
            if let Some(until) = outcome.pause() {
                let host = outcome.work.host.clone();
                summary.left_alone += queue.drain_host(&host).len();
                pauses.insert(host, until);
            }
            if let Some(problem) = outcome.visited.of_job() {
                // So it would be with every site.
                summary.broken.get_or_insert_with(|| problem.to_owned());
                let why = || format!("the job's handler cannot work: {problem}");
                summary.cut_short.get_or_insert_with(why);
                continue;
            }
            done.push(outcome);
            if done.len() >= self.settings.commit_rows {
                self.write(std::mem::take(&mut done), &mut summary, &mut tell)
                    .await?;
            }
        }
    }

    /// Whether visits may begin; notes why not.
    fn goes_on(&self, summary: &mut Summary) -> bool {
        if summary.cut_short.is_none() {
            summary.cut_short.clone_from(&self.stop.borrow());
        }
        if summary.cut_short.is_none() && Instant::now() >= *self.held_until.borrow() {
            summary.cut_short = Some("its lease was not renewed in time".to_owned());
        }
        summary.cut_short.is_none()
    }

    async fn due(&self, now: Timestamp, after: i64) -> Result<Vec<DueSite>, StoreError> {
        let begun = Instant::now();
        loop {
            let page = self
                .store
                .sites_due_by_policy(&self.range, &self.job.retry, now, after, PAGE)
                .await;
            match page {
                Err(error) if error.is_transient() && begun.elapsed() < PATIENCE => {
                    tracing::warn!(error = %error, "due sites could not be read; tried again");
                    tokio::time::sleep(AGAIN).await;
                }
                page => return page,
            }
        }
    }

    async fn visit(&self, host: Arc<str>, site: DueSite) -> SitesOutcome {
        let work = SitesWork {
            job: self.job.clone(),
            stake: self.stake.clone(),
            host,
            site,
        };
        let (handler, work) = (self.handler.clone(), Arc::new(work));
        let visiting = {
            let work = work.clone();
            tokio::spawn(async move { visit(&*handler, work).await })
        };
        match visiting.await {
            Ok(outcome) => outcome,
            Err(error) => SitesOutcome {
                work,
                visited: super::Visited::failed(super::FailureKind::Panic, &error.to_string()),
                begun: Timestamp::now(),
                took: Duration::ZERO,
            },
        }
    }

    /// Writes outcomes in one transaction. While the database is away it is
    /// tried again; what it refuses is written one by one.
    async fn write(
        &self,
        outcomes: Vec<SitesOutcome>,
        summary: &mut Summary,
        tell: &mut impl FnMut(Told<'_>),
    ) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let change = |outcome: &SitesOutcome| {
            // Levels and counts by the policy of this run; the next due time by
            // the one that servers go by.
            let mut change = change_of(outcome, self.keep, now, |at, _| at);
            if let Some(begun) = change.last_run_at.filter(|_| change.next_due_at.is_some()) {
                let level = usize::try_from(change.level).unwrap_or(usize::MAX);
                change.next_due_at = Some(begun.plus(self.configured.retry.level(level).period));
            }
            change
        };
        let changes: Vec<SiteChange> = outcomes.iter().map(change).collect();
        let all: Vec<usize> = (0..changes.len()).collect();
        let written = match self.apply(&changes, &all).await {
            Ok(written) => written,
            Err(error) if error.is_transient() => return Err(error),
            Err(_) => {
                let mut written = Vec::new();
                for one in all {
                    match self.apply(&changes, &[one]).await {
                        Ok(one) => written.extend(one),
                        Err(error) if error.is_transient() => return Err(error),
                        Err(error) => {
                            let site = &outcomes[one].work.site.site_id;
                            tracing::error!(site.id = %site, error = %error, "an outcome cannot be written");
                        }
                    }
                }
                written
            }
        };
        summary.unwritten += outcomes.len() - written.len();
        if written.is_empty() && summary.cut_short.is_none() {
            // Whoever has the lease now visits the others.
            summary.cut_short = Some("its outcomes are not taken any more".to_owned());
        }
        for place in written {
            let (outcome, change) = (&outcomes[place], &changes[place]);
            if outcome.visited.result.is_ok() {
                summary.successes += 1;
            } else {
                summary.failures += 1;
            }
            summary.given_up += usize::from(change.given_up_at.is_some());
            tell(Told { outcome, change });
        }
        Ok(())
    }

    /// Writes these changes; answers which were written: none when the lease
    /// is lost.
    async fn apply(
        &self,
        changes: &[SiteChange],
        which: &[usize],
    ) -> Result<Vec<usize>, StoreError> {
        let group: Arc<[SiteChange]> = which.iter().map(|place| changes[*place].clone()).collect();
        let begun = Instant::now();
        loop {
            let groups = vec![ChangeGroup {
                stake: self.stake.clone(),
                changes: group.clone(),
            }];
            match self.store.apply_changes(&self.holder, groups).await {
                Ok(applied) if applied.fenced.is_empty() => return Ok(which.to_vec()),
                Ok(_) => return Ok(Vec::new()),
                Err(error) if error.is_transient() && begun.elapsed() < PATIENCE => {
                    tracing::warn!(error = %error, "outcomes could not be written; tried again");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The sites that a run would visit at `now`, in pages, and why: for a dry
/// run, which writes nothing.
///
/// # Errors
/// The database is out of reach.
pub async fn would_visit(
    store: &Store,
    range: &JobRange,
    job: &JobSettings,
    now: Timestamp,
    mut tell: impl FnMut(&DueSite),
) -> Result<usize, StoreError> {
    let mut count = 0;
    let mut after = i64::MIN;
    loop {
        let rows = store
            .sites_due_by_policy(range, &job.retry, now, after, PAGE)
            .await?;
        let Some(last) = rows.last() else {
            return Ok(count);
        };
        after = last.seq;
        count += rows.len();
        rows.iter().for_each(&mut tell);
    }
}
