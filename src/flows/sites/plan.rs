//! What is due of the sites, in which order, and when next: the site flow's
//! answers to the Scheduler. Pure; the clock is passed in.
//!
//! For each shard that this server holds, new sites are made known to the job,
//! and a *sweep* reads the due ones page by page; they wait in a queue per host
//! until their host has room. The site that is due longest comes next, and jobs
//! take turns.

use super::load::{SitesBrought, SitesPage, SitesRead, SitesWant};
use super::names::JobKey;
use super::queue::{HostQueue, Pushed, Waiting};
use super::rules::standing_of;
use super::shard::Shard;
use super::shard_plan::ShardPlan;
use super::view::{JobView, ShardView, SitesView};
use super::work::{SitesReport, SitesWork, host_of};
use crate::config::{JobSettings, SitesSettings};
use crate::leases::Holdings;
use crate::store::DueSite;
use crate::time::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Sites at hand, over all shards of a job, below which more are read.
const LOW: usize = 1_000;
/// The same for one shard, at least.
const LOW_OF_SHARD: usize = 50;
/// A site whose outcome the database refuses is left alone for so long.
const HELD_OFF: Duration = Duration::from_secs(60);
/// Of the visits that may be under way at once, the jobs have this part in
/// equal shares for themselves, where that is a visit each.
const KEPT_PART: usize = 4;
/// Most hosts whose pauses are remembered.
const MOST_PAUSES: usize = 100_000;

/// The site flow's plan.
#[derive(Debug)]
pub struct SitesPlan {
    settings: SitesSettings,
    jobs: Vec<JobPlan>,
    /// Jobs that were removed while visits of theirs were out: should one be
    /// added again, it still knows which sites are being visited.
    retired: Vec<JobPlan>,
    /// Hosts that asked to be left alone.
    pauses: HashMap<Arc<str>, Timestamp>,
    /// The clock as it was seen last.
    seen: Timestamp,
    /// The job that is looked at first for the next visit.
    turn: usize,
}

#[derive(Debug)]
struct JobPlan {
    settings: Arc<JobSettings>,
    shards: Vec<ShardPlan>,
    queue: HostQueue,
    /// Sites whose outcome could not be written.
    held_off: HashMap<i64, Timestamp>,
    last_error: Option<String>,
}

impl SitesPlan {
    /// A plan for these jobs, of which those that servers run are planned.
    pub fn new(settings: SitesSettings, jobs: &[JobSettings], now: Timestamp) -> Self {
        let mut plan = Self {
            settings: settings.clone(),
            jobs: Vec::new(),
            retired: Vec::new(),
            pauses: HashMap::new(),
            seen: now,
            turn: 0,
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
            for shard in &mut removed.shards {
                shard.hold(None, None);
            }
            removed.queue.drop_shards(|_| true);
            if removed.queue.out() > 0 {
                self.retired.push(removed);
            }
        }
    }

    /// Takes note of which shards this server holds.
    pub fn hold(&mut self, holdings: &Holdings) {
        for job in &mut self.jobs {
            let mut lost = Vec::new();
            for (number, shard) in job.shards.iter_mut().enumerate() {
                let stake = holdings.held.get(&shard.lease).cloned();
                let other = holdings.others.get(&shard.lease).cloned();
                if shard.hold(stake, other) {
                    lost.push(number);
                }
            }
            if !lost.is_empty() {
                job.queue.drop_shards(|shard| lost.contains(&shard));
            }
        }
    }

    /// Takes note of a visit that an earlier Scheduler handed out and that is
    /// still under way.
    pub fn adopt(&mut self, job: &JobKey, host: &Arc<str>, seq: i64, fetched: bool) {
        if let Some(job) = self.job_mut(job) {
            job.queue.adopt(host, seq, !fetched);
        }
    }

    /// Sites were added, enabled, revived or changed.
    pub fn wake(&mut self, now: Timestamp) {
        for shard in self.jobs.iter_mut().flat_map(|job| &mut job.shards) {
            shard.wake(now);
        }
    }

    /// What is to be done in the database now; each answer has to be handed to
    /// [`Self::loaded`] or [`Self::load_failed`].
    pub fn wants(&mut self, now: Timestamp) -> Vec<SitesWant> {
        if now < self.seen {
            for shard in self.jobs.iter_mut().flat_map(|job| &mut job.shards) {
                shard.clock_set_back(now);
            }
        }
        self.seen = now;
        let mut wants = Vec::new();
        for job in &mut self.jobs {
            let (low, limit) = (job.is_low(), job.page());
            let shards = job.shards.iter_mut();
            wants.extend(shards.filter_map(|shard| shard.want(&job.settings, now, low, limit)));
        }
        wants
    }

    /// Something was read.
    pub fn loaded(&mut self, page: SitesPage, now: Timestamp) {
        let again = self.settings.sweep_interval;
        let Self { jobs, pauses, .. } = self;
        let key = &page.want.job.key;
        let Some(job) = jobs.iter_mut().find(|job| job.settings.key == *key) else {
            return;
        };
        let Some((number, shard)) = job
            .shards
            .iter_mut()
            .enumerate()
            .find(|(_, shard)| shard.shard == page.want.shard)
        else {
            return;
        };
        if !shard.answered(page.want.epoch) {
            return;
        }
        match page.brought {
            SitesBrought::Prepared {
                pauses: read, seen, ..
            } => {
                let full = matches!(page.want.read, SitesRead::Prepare { after: 0, .. });
                shard.prepared(full, seen, now, again);
                for (host, until) in read {
                    pause(pauses, &host.into(), until, now);
                }
            }
            SitesBrought::Rows {
                rows,
                done,
                next_due,
            } => {
                job.take_rows(number, rows, pauses, now);
                if done && let Some(shard) = job.shards.get_mut(number) {
                    shard.sweep_ended(next_due, now);
                }
            }
            SitesBrought::PutOff => {}
        }
    }

    /// Something could not be done: it is tried again after `delay`.
    pub fn load_failed(&mut self, want: &SitesWant, now: Timestamp, delay: Duration) {
        if let Some(job) = self.job_mut(&want.job.key) {
            let shard = job
                .shards
                .iter_mut()
                .find(|shard| shard.shard == want.shard);
            if let Some(shard) = shard {
                shard.failed(want.epoch, now.plus(delay));
            }
        }
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
        (0..self.jobs.len()).any(|place| self.jobs[place].queue.has_ready() && self.has_room(place))
    }

    /// Whether a job may have one more visit on the network: a share is left
    /// free for each of the others that does not use its own, so that a job
    /// whose sites all hang takes no time of another.
    fn has_room(&self, place: usize) -> bool {
        let kept = self.settings.max_in_flight / (KEPT_PART * self.jobs.len().max(1));
        let unused = |(other, job): (usize, &JobPlan)| {
            let unused = kept.saturating_sub(job.queue.busy());
            if other == place { 0 } else { unused }
        };
        let kept_for_others: usize = self.jobs.iter().enumerate().map(unused).sum();
        let used: usize = self.jobs.iter().map(|job| job.queue.busy()).sum();
        used + kept_for_others < self.settings.max_in_flight
    }

    /// A visit is off the network: its host has room again.
    pub fn fetched(&mut self, job: &JobKey, host: &Arc<str>) {
        if let Some(job) = self.job_mut(job) {
            job.queue.freed(host);
        }
    }

    /// A visit is over, whatever came of it: its site may be visited again once
    /// it is due. One that was not settled is due still.
    pub fn returned(&mut self, job: &JobKey, seq: i64, settled: bool, now: Timestamp) {
        let Some(job) = self.job_mut(job) else {
            return;
        };
        job.queue.returned(seq);
        for shard in &mut job.shards {
            shard.came_back.insert(seq);
            if !settled {
                shard.due_at(now);
            }
        }
        self.retired.retain(|job| job.queue.out() > 0);
    }

    /// What came of a visit, and when its site is due again.
    pub fn report(&mut self, report: &SitesReport, due_at: Option<Timestamp>, now: Timestamp) {
        if let Some(until) = report.pause {
            pause(&mut self.pauses, &report.host, until, now);
            for job in &mut self.jobs {
                job.leave_alone(&report.host, until);
            }
        }
        let Some(job) = self.job_mut(&report.job) else {
            return;
        };
        if let Some(refusal) = &report.refused {
            job.held_off.retain(|_, until| *until > now);
            job.held_off.insert(report.seq, now.plus(HELD_OFF));
            job.last_error = Some(format!("{}: {refusal}", report.site_id));
        } else if let Some((kind, detail)) = &report.failure {
            job.last_error = Some(format!("{}: {kind}: {detail}", report.site_id));
        }
        if let Some(at) = due_at {
            let of_code = |shard: &&mut ShardPlan| shard.shard.codes().contains(&report.batch_code);
            if let Some(shard) = job.shards.iter_mut().find(of_code) {
                shard.due_at(at);
            }
        }
    }

    /// When the plan wants to be asked again, if nothing else happens.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let of_job = |job: &JobPlan| {
            let low = job.is_low();
            job.shards
                .iter()
                .filter_map(|shard| shard.wake_at(low))
                .min()
        };
        self.jobs.iter().filter_map(of_job).min()
    }

    /// What the flow shows of itself.
    pub fn view(&self, now: Timestamp) -> SitesView {
        let paused = self.pauses.values().filter(|until| **until > now).count();
        let jobs = self.jobs.iter().map(|job| JobView {
            key: job.settings.key.clone(),
            in_flight: job.queue.out(),
            waiting: job.queue.waiting(),
            shards: job.shards.iter().map(view_of).collect(),
            paused_hosts: paused,
            last_error: job.last_error.clone(),
        });
        SitesView {
            jobs: jobs.collect(),
        }
    }

    /// Most visits under way at once, over all jobs.
    pub const fn max_in_flight(&self) -> usize {
        self.settings.max_in_flight
    }

    /// Most outcomes that wait to be written: a few commits' worth.
    pub const fn most_unwritten(&self) -> usize {
        self.settings.commit_rows.saturating_mul(4)
    }

    fn job_mut(&mut self, key: &JobKey) -> Option<&mut JobPlan> {
        self.jobs
            .iter_mut()
            .chain(&mut self.retired)
            .find(|job| job.settings.key == *key)
    }
}

fn view_of(shard: &ShardPlan) -> ShardView {
    ShardView {
        shard: shard.shard,
        held: shard.stake.is_some(),
        holder: shard.other.clone(),
    }
}

/// Remembers that a host wants to be left alone.
fn pause(
    pauses: &mut HashMap<Arc<str>, Timestamp>,
    host: &Arc<str>,
    until: Timestamp,
    now: Timestamp,
) {
    if pauses.len() >= MOST_PAUSES {
        pauses.retain(|_, until| *until > now);
    }
    if until > now && pauses.len() < MOST_PAUSES {
        let known = pauses.entry(host.clone()).or_insert(until);
        *known = (*known).max(until);
    }
}

impl JobPlan {
    fn new(job: &JobSettings) -> Self {
        Self {
            settings: Arc::new(job.clone()),
            shards: Shard::all(job.batches)
                .map(|shard| ShardPlan::new(job, shard))
                .collect(),
            queue: HostQueue::new(job.per_host),
            held_off: HashMap::new(),
            last_error: None,
        }
    }

    fn configure(&mut self, job: &JobSettings, now: Timestamp) {
        if *self.settings == *job {
            return;
        }
        let former = std::mem::replace(&mut self.settings, Arc::new(job.clone()));
        self.queue.configure(job.per_host);
        if former.batches != job.batches || former.retry != job.retry {
            // Leases are told of again by `hold`.
            self.shards = Shard::all(job.batches)
                .map(|shard| ShardPlan::new(job, shard))
                .collect();
            self.queue.drop_shards(|_| true);
        }
        for shard in &mut self.shards {
            shard.wake(now);
        }
    }

    fn held(&self) -> usize {
        self.shards
            .iter()
            .filter(|shard| shard.stake.is_some())
            .count()
    }

    /// Whether few sites are at hand.
    fn is_low(&self) -> bool {
        self.queue.waiting() < LOW.max(self.held().saturating_mul(LOW_OF_SHARD))
    }

    /// Rows of one page of a shard.
    fn page(&self) -> i64 {
        let rows = (2 * LOW / self.held().max(1)).max(LOW_OF_SHARD);
        i64::try_from(rows).unwrap_or(i64::MAX)
    }

    /// Takes rows in that are due by the policy and whose host may be visited;
    /// the others are put off to when that is so.
    fn take_rows(
        &mut self,
        number: usize,
        rows: Vec<DueSite>,
        pauses: &HashMap<Arc<str>, Timestamp>,
        now: Timestamp,
    ) {
        let Some(shard) = self.shards.get_mut(number) else {
            return;
        };
        let (read, mut taken, mut left_out) = (rows.len(), 0, false);
        let end = rows
            .last()
            .map(|row| (row.next_due_at.unwrap_or_default(), row.seq));
        for site in rows {
            if shard.came_back.contains(&site.seq) {
                // Read before its outcome was written.
                left_out = true;
                continue;
            }
            if self.queue.knows(site.seq) {
                continue;
            }
            let held_off = self.held_off.get(&site.seq).copied();
            let due = standing_of(&site).due_at(&self.settings.retry, now);
            let host = host_of(&site.url);
            let paused = pauses.get(&host).copied();
            let at = [held_off, due, paused].into_iter().flatten().max();
            if let Some(at) = at.filter(|at| *at > now) {
                shard.put_off.push((site.seq, at));
                continue;
            }
            let waiting = Waiting {
                site,
                shard: number,
            };
            match self.queue.push(&host, waiting) {
                Pushed::Taken => taken += 1,
                Pushed::Known => {}
                Pushed::Full => left_out = true,
            }
        }
        shard.swept(read, taken, left_out, end);
    }

    fn next_work(&mut self) -> Option<SitesWork> {
        let (host, waiting) = self.queue.pop()?;
        let shard = self.shards.get(waiting.shard);
        let Some(stake) = shard.and_then(|shard| shard.stake.clone()) else {
            // Cannot be: what a lost shard had at hand was let go.
            self.queue.freed(&host);
            self.queue.returned(waiting.site.seq);
            return None;
        };
        Some(SitesWork {
            job: self.settings.clone(),
            stake,
            host,
            site: waiting.site,
        })
    }

    /// Puts what waits for a host off.
    fn leave_alone(&mut self, host: &Arc<str>, until: Timestamp) {
        for waiting in self.queue.drain_host(host) {
            if let Some(shard) = self.shards.get_mut(waiting.shard) {
                shard.put_off.push((waiting.site.seq, until));
            }
        }
    }
}
