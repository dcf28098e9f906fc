//! What is due of the sites, in which order, and when next: the site flow's
//! answers to the Scheduler. Pure; the clock is passed in.
//!
//! For each shard that this server holds, new sites are made known to the job,
//! and a *sweep* reads the due ones page by page; they wait in a queue per host
//! until their host has room. The site that is due longest comes next, and jobs
//! take turns.

use super::job_news::JobNews;
use super::job_plan::{JobPlan, Pauses};
use super::load::{SitesPage, SitesWant};
use super::names::JobKey;
use super::view::SitesView;
use super::work::{LONGEST_PAUSE, SitesReport, SitesWork};
use crate::config::{JobSettings, SitesSettings};
use crate::leases::Holdings;
use crate::store::MOST_PAUSES;
use crate::time::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Of the visits that may be under way at once, the jobs have this part in
/// equal shares for themselves, where that is a visit each.
const KEPT_PART: usize = 4;
/// A clock that is set back by less is passed over: clocks are corrected in
/// small steps all the time.
const CLOCK_STEP: Duration = Duration::from_secs(1);
/// How long it is waited at most to be told who has a shard whose lease was lost.
const LOST_PAUSE: Duration = Duration::from_secs(10);
/// Most hosts whose pauses are remembered: as many as are kept.
const MOST_HOSTS: usize = MOST_PAUSES as usize;

/// The site flow's plan.
#[derive(Debug)]
pub struct SitesPlan {
    settings: SitesSettings,
    jobs: Vec<JobPlan>,
    /// Jobs that were removed while visits of theirs were out: should one be
    /// added again, it still knows which sites are being visited.
    retired: Vec<JobPlan>,
    /// Hosts that asked to be left alone.
    pauses: Pauses,
    /// The clock as it was seen last.
    seen: Timestamp,
    /// The job that is looked at first for the next visit.
    turn: usize,
    /// Wants so far.
    numbers: u64,
}

impl SitesPlan {
    /// A plan for these jobs, of which those that servers run are planned.
    pub fn new(settings: SitesSettings, jobs: &[JobSettings], now: Timestamp) -> Self {
        let mut plan = Self {
            settings: settings.clone(),
            jobs: Vec::new(),
            retired: Vec::new(),
            pauses: Pauses::new(),
            seen: now,
            turn: 0,
            numbers: 0,
        };
        plan.configure(settings, jobs, now);
        plan
    }

    /// Takes on changed settings. A job whose policy or number of shards
    /// changed begins afresh.
    pub fn configure(&mut self, settings: SitesSettings, jobs: &[JobSettings], now: Timestamp) {
        self.settings = settings;
        let mut known = std::mem::take(&mut self.jobs);
        known.append(&mut self.retired);
        for job in jobs.iter().filter(|job| job.server) {
            match known.iter().position(|plan| plan.settings.key == job.key) {
                Some(place) => {
                    let mut plan = known.swap_remove(place);
                    plan.configure(job, now);
                    self.jobs.push(plan);
                }
                None => self.jobs.push(JobPlan::new(job)),
            }
        }
        for mut removed in known {
            removed.let_go();
            if removed.out() > 0 {
                self.retired.push(removed);
            }
        }
    }

    /// Takes note of which shards this server holds.
    pub fn hold(&mut self, holdings: &Holdings) {
        for job in &mut self.jobs {
            job.hold(holdings);
        }
    }

    /// Takes note of a visit that an earlier Scheduler handed out and that is
    /// still under way.
    pub fn adopt(&mut self, job: &JobKey, host: &Arc<str>, seq: i64, fetched: bool) {
        if let Some(job) = self.job_mut(job) {
            job.adopt(host, seq, !fetched);
        }
    }

    /// Sites were added, enabled, revived or changed.
    pub fn wake(&mut self, now: Timestamp) {
        for job in &mut self.jobs {
            job.wake(now);
        }
    }

    /// These sites were disabled or removed: none of them is visited that has not
    /// been handed out yet.
    pub fn left(&mut self, sites: &[String]) {
        let sites: HashSet<String> = sites.iter().cloned().collect();
        for job in &mut self.jobs {
            job.left(&sites);
        }
    }

    /// What is to be done in the database now; each answer has to be handed to
    /// [`Self::loaded`] or [`Self::load_failed`].
    pub fn wants(&mut self, now: Timestamp) -> Vec<SitesWant> {
        if now.plus(CLOCK_STEP) < self.seen {
            let longest = now.plus(LONGEST_PAUSE);
            self.pauses
                .values_mut()
                .for_each(|until| *until = (*until).min(longest));
            // The clock was set back: what was due may not be, and what was put
            // off may wait for longer than it has to.
            self.jobs.iter_mut().for_each(JobPlan::begin_afresh);
        }
        self.seen = if now.plus(CLOCK_STEP) < self.seen {
            now
        } else {
            self.seen.max(now)
        };
        let mut wants = Vec::new();
        for job in &mut self.jobs {
            job.wants(now, &mut self.numbers, &mut wants);
        }
        wants
    }

    /// Something was read.
    pub fn loaded(&mut self, page: SitesPage, now: Timestamp) {
        let again = self.settings.sweep_interval;
        let key = page.want.job.key.clone();
        let mut jobs = self.jobs.iter_mut().chain(&mut self.retired);
        let Some(job) = jobs.find(|job| job.settings.key == key) else {
            return;
        };
        for (host, until) in job.loaded(page, &self.pauses, now, again) {
            self.leave_alone(&host.into(), until, now);
        }
    }

    /// Something could not be done: it is tried again after `delay`.
    pub fn load_failed(&mut self, want: &SitesWant, now: Timestamp, delay: Duration) {
        if let Some(job) = self.job_mut(&want.job.key) {
            job.load_failed(want, now.plus(delay));
        }
    }

    /// Something was not done since its lease is held no more: nothing is wanted
    /// of the shard until [`Self::hold`] tells who has it, or for ten seconds.
    pub fn lease_lost(&mut self, want: &SitesWant, now: Timestamp) {
        self.load_failed(want, now, LOST_PAUSE);
    }

    /// The next visit, as long as there is a credit for it: jobs take turns.
    pub fn next_work(&mut self) -> Option<SitesWork> {
        let count = self.jobs.len();
        for step in 0..count {
            let place = (self.turn + step) % count;
            if !self.has_room(place) {
                continue;
            }
            if let Some(work) = self.jobs[place].next_work() {
                self.turn = place + 1;
                return Some(work);
            }
        }
        None
    }

    /// Whether there is a next visit.
    pub fn has_work(&self) -> bool {
        (0..self.jobs.len()).any(|place| self.jobs[place].has_ready() && self.has_room(place))
    }

    /// Whether a job may have one more visit on the network: a share is left
    /// free for each of the others that does not use its own, so that a job
    /// whose sites all hang takes no time of another.
    fn has_room(&self, place: usize) -> bool {
        let kept = self.settings.max_in_flight / (KEPT_PART * self.jobs.len().max(1));
        let unused = |(other, job): (usize, &JobPlan)| {
            let unused = kept.saturating_sub(job.busy());
            if other == place { 0 } else { unused }
        };
        let kept_for_others: usize = self.jobs.iter().enumerate().map(unused).sum();
        let used: usize = self.jobs.iter().map(|job| job.busy()).sum();
        used + kept_for_others < self.settings.max_in_flight
    }

    /// A visit is off the network: its host has room again.
    pub fn fetched(&mut self, job: &JobKey, host: &Arc<str>) {
        if let Some(job) = self.job_mut(job) {
            job.freed(host);
        }
    }

    /// A host has asked just now to be left alone: no job visits it, though its
    /// wish is not written yet.
    pub fn paused(&mut self, host: &Arc<str>, until: Timestamp, now: Timestamp) {
        self.leave_alone(host, until, now);
    }

    /// A visit is over, whatever came of it: its site may be visited again once
    /// it is due. One that was not settled is due still.
    pub fn returned(&mut self, job: &JobKey, seq: i64, settled: bool, now: Timestamp) {
        if let Some(job) = self.job_mut(job) {
            job.returned(seq, settled, now);
        }
        self.retired.retain(|job| job.out() > 0);
    }

    /// What came of a visit, and when its site is due again.
    pub fn report(&mut self, report: &SitesReport, due_at: Option<Timestamp>, now: Timestamp) {
        if let Some(until) = report.pause {
            self.leave_alone(&report.host, until, now);
        }
        if let Some(job) = self.job_mut(&report.job) {
            job.report(report, due_at, now);
        }
    }

    /// When the plan wants to be asked again, if nothing else happens.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.jobs.iter().filter_map(JobPlan::wake_at).min()
    }

    /// What the flow shows of itself.
    pub fn view(&self, now: Timestamp) -> SitesView {
        let paused = self.pauses.values().filter(|until| **until > now).count();
        let jobs = self.jobs.iter().map(|job| job.view(paused));
        SitesView {
            jobs: jobs.collect(),
        }
    }

    /// What the log is to tell of jobs now; `all`: without waiting, since this
    /// is the end.
    pub fn news(&mut self, now: Timestamp, all: bool) -> Vec<JobNews> {
        let jobs = self.jobs.iter_mut();
        jobs.flat_map(|job| job.news(now, all)).collect()
    }

    /// Most visits under way at once, over all jobs.
    pub const fn max_in_flight(&self) -> usize {
        self.settings.max_in_flight
    }

    /// Most outcomes that wait to be written: a commit's worth, since a kill
    /// loses them, and their sites are visited again.
    pub const fn most_unwritten(&self) -> usize {
        self.settings.commit_rows
    }

    fn job_mut(&mut self, key: &JobKey) -> Option<&mut JobPlan> {
        self.jobs
            .iter_mut()
            .chain(&mut self.retired)
            .find(|job| job.settings.key == *key)
    }

    /// A host wants to be left alone: what waits for it is put off.
    fn leave_alone(&mut self, host: &Arc<str>, until: Timestamp, now: Timestamp) {
        // Written under a clock that was ahead, it may lie anywhere.
        let until = until.min(now.plus(LONGEST_PAUSE));
        if until <= now {
            return;
        }
        if self.pauses.len() >= MOST_HOSTS {
            self.pauses.retain(|_, until| *until > now);
        }
        if self.pauses.len() < MOST_HOSTS || self.pauses.contains_key(host) {
            let known = self.pauses.entry(host.clone()).or_insert(until);
            *known = (*known).max(until);
        }
        for job in &mut self.jobs {
            job.leave_alone(host, until);
        }
    }
}
