//! One job, as the site flow's plan knows it: its shards, and its sites that
//! are at hand or out. Pure.

use super::job_health::JobHealth;
use super::job_news::{JobNews, News};
use super::load::{SitesBrought, SitesPage, SitesRead, SitesWant};
use super::queue::{HostQueue, Pushed, Waiting};
use super::rules::standing_of;
use super::shard::Shard;
use super::shard_plan::ShardPlan;
use super::view::{JobView, ShardView};
use super::visit::FailureKind;
use super::work::{SitesReport, SitesWork, host_of};
use crate::config::JobSettings;
use crate::leases::Holdings;
use crate::store::DueSite;
use crate::time::Timestamp;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Sites at hand, over all shards of a job, below which more are read.
const LOW: usize = 1_000;
/// The same for one shard, at least.
const LOW_OF_SHARD: usize = 50;
/// A site whose outcome the database refuses is left alone for so long.
const HELD_OFF: Duration = Duration::from_secs(60);

/// Hosts that asked to be left alone, and until when.
pub(super) type Pauses = HashMap<Arc<str>, Timestamp>;

/// A job.
#[derive(Debug)]
pub(super) struct JobPlan {
    /// The settings in force.
    pub(super) settings: Arc<JobSettings>,
    shards: Vec<ShardPlan>,
    queue: HostQueue,
    /// Sites whose outcome could not be written.
    held_off: HashMap<i64, Timestamp>,
    /// Visits and reads from before the job was begun afresh: what they write
    /// may be by the former policy or the former clock.
    old_visits: HashSet<i64>,
    old_reads: HashSet<u64>,
    health: JobHealth,
    news: News,
}

impl JobPlan {
    /// A job none of whose shards is held yet.
    pub(super) fn new(job: &JobSettings) -> Self {
        Self {
            settings: Arc::new(job.clone()),
            shards: shards_of(job),
            queue: HostQueue::new(job.per_host),
            held_off: HashMap::new(),
            old_visits: HashSet::new(),
            old_reads: HashSet::new(),
            health: JobHealth::default(),
            news: News::default(),
        }
    }

    /// Takes on changed settings. With another policy or other shards, the job
    /// begins afresh.
    pub(super) fn configure(&mut self, job: &JobSettings, now: Timestamp) {
        if *self.settings == *job {
            return;
        }
        let former = std::mem::replace(&mut self.settings, Arc::new(job.clone()));
        self.queue.configure(job.per_host);
        if former.handler != job.handler {
            self.health.try_now();
        }
        if former.batches != job.batches || former.retry != job.retry {
            self.begin_afresh();
            // Leases are told of again by `hold`.
            self.shards = shards_of(job);
        }
        for shard in &mut self.shards {
            shard.wake(now);
        }
    }

    /// Everything is read anew, and due times are corrected: now, and once more
    /// when what is under way has ended.
    pub(super) fn begin_afresh(&mut self) {
        self.old_visits.extend(self.queue.rows_out());
        let reads = self.shards.iter().filter_map(ShardPlan::reading);
        self.old_reads.extend(reads);
        for shard in &mut self.shards {
            shard.begin_afresh();
        }
        self.queue.drop_shards(|_| true);
        self.held_off.clear();
    }

    /// Nothing of it is held any more.
    pub(super) fn let_go(&mut self) {
        self.begin_afresh();
        for shard in &mut self.shards {
            shard.hold(None, None);
        }
    }

    /// Visits that are out.
    pub(super) fn out(&self) -> usize {
        self.queue.out()
    }

    /// Takes note of which shards this server holds.
    pub(super) fn hold(&mut self, holdings: &Holdings) {
        let mut lost = vec![false; self.shards.len()];
        for (shard, lost) in self.shards.iter_mut().zip(&mut lost) {
            let stake = holdings.held.get(&shard.lease).cloned();
            let other = holdings.others.get(&shard.lease).cloned();
            *lost = shard.hold(stake, other);
        }
        self.drop_shards(&lost);
    }

    fn drop_shards(&mut self, lost: &[bool]) {
        if lost.contains(&true) {
            let gone = |shard: usize| lost.get(shard).copied().unwrap_or(true);
            self.queue.drop_shards(gone);
        }
        if self.shards.iter().all(|shard| shard.stake.is_none()) {
            // Whoever has them now says how the job fares.
            self.health = JobHealth::default();
        }
    }

    /// The handler cannot work: what waits is read anew when it does, since
    /// addresses and labels may be others by then.
    fn rest(&mut self, now: Timestamp) {
        self.queue.drop_shards(|_| true);
        for shard in &mut self.shards {
            shard.due_at(now);
        }
    }

    /// Takes note of a visit that an earlier Scheduler handed out, nobody knows
    /// by which policy.
    pub(super) fn adopt(&mut self, host: &Arc<str>, seq: i64, busy: bool) {
        self.queue.adopt(host, seq, busy);
        self.old_visits.insert(seq);
    }

    /// Somebody told that sites may have come or become due.
    pub(super) fn wake(&mut self, now: Timestamp) {
        for shard in &mut self.shards {
            shard.wake(now);
        }
    }

    /// Adds what is to be read now, numbered from `numbers` on.
    pub(super) fn wants(&mut self, now: Timestamp, numbers: &mut u64, wants: &mut Vec<SitesWant>) {
        self.health.tick(now);
        let (low, limit) = (self.reads(), self.page());
        for (number, shard) in self.shards.iter_mut().enumerate() {
            let Some(mut want) = shard.want(&self.settings, now, low, limit, numbers) else {
                continue;
            };
            if let SitesRead::Prepare { waiting, .. } = &mut want.read {
                *waiting = self.queue.rows_waiting(number);
            }
            wants.push(want);
        }
    }

    /// These sites are not to be visited any more: they were disabled or removed.
    pub(super) fn left(&mut self, sites: &HashSet<String>) {
        for shard in &mut self.shards {
            shard.left(sites);
        }
        self.queue
            .drop_where(|waiting| sites.contains(&waiting.site.site_id));
    }

    /// An answer came. Answers the pauses of hosts that it brought.
    pub(super) fn loaded(
        &mut self,
        page: SitesPage,
        pauses: &Pauses,
        now: Timestamp,
        again: Duration,
    ) -> Vec<(String, Timestamp)> {
        let SitesPage { want, brought } = page;
        self.read_ended(want.number);
        let mut shards = self.shards.iter_mut().enumerate();
        let Some((number, shard)) = shards.find(|(_, shard)| shard.shard == want.shard) else {
            return Vec::new();
        };
        if !shard.answered(want.number) {
            return Vec::new();
        }
        match (brought, &want.read) {
            (
                SitesBrought::Prepared {
                    pauses, seen, gone, ..
                },
                read,
            ) => {
                let full = matches!(read, SitesRead::Prepare { after: 0, .. });
                shard.prepared(full, seen, now, again);
                if !gone.is_empty() {
                    let gone: HashSet<i64> = gone.into_iter().collect();
                    self.queue
                        .drop_where(|waiting| gone.contains(&waiting.site.seq));
                }
                return pauses;
            }
            (
                SitesBrought::Rows {
                    rows,
                    done,
                    next_due,
                },
                _,
            ) => {
                self.take_rows(number, rows, pauses, now);
                if done && let Some(shard) = self.shards.get_mut(number) {
                    shard.sweep_ended(next_due, now);
                }
            }
            (SitesBrought::PutOff, SitesRead::PutOff(sites)) => shard.were_put_off(sites),
            (SitesBrought::PutOff, _) => {}
        }
        Vec::new()
    }

    /// Visits on the network.
    pub(super) const fn busy(&self) -> usize {
        self.queue.busy()
    }

    /// Something could not be done: it is tried again at `at`.
    pub(super) fn load_failed(&mut self, want: &SitesWant, at: Timestamp) {
        self.read_ended(want.number);
        let mut shards = self.shards.iter_mut();
        if let Some(shard) = shards.find(|shard| shard.shard == want.shard) {
            shard.failed(want, at);
        }
    }

    /// Whether a visit can begin now.
    pub(super) fn has_ready(&self) -> bool {
        self.health.admits() && self.queue.has_ready()
    }

    /// The next visit, if one can begin.
    pub(super) fn next_work(&mut self) -> Option<SitesWork> {
        if !self.health.admits() {
            return None;
        }
        let (host, waiting) = self.queue.pop()?;
        let shard = self.shards.get(waiting.shard);
        let Some(stake) = shard.and_then(|shard| shard.stake.clone()) else {
            // Cannot be: what a lost shard had at hand was let go.
            self.queue.freed(&host);
            self.queue.returned(waiting.site.seq);
            return None;
        };
        self.health.began(waiting.site.seq);
        Some(SitesWork {
            job: self.settings.clone(),
            stake,
            host,
            site: waiting.site,
        })
    }

    /// A visit is off the network: its host has room for another.
    pub(super) fn freed(&mut self, host: &Arc<str>) {
        self.queue.freed(host);
    }

    /// A visit is over. One that was not settled is due still.
    pub(super) fn returned(&mut self, seq: i64, settled: bool, now: Timestamp) {
        self.health.returned(seq);
        let code = self.queue.returned(seq);
        let known = code.and_then(|code| self.place_of(code));
        let shards = match known {
            Some(place) => &mut self.shards[place..=place],
            // Adopted.
            None => &mut self.shards[..],
        };
        for shard in shards {
            shard.came_back(seq);
            if !settled {
                shard.due_at(now);
            }
        }
        if self.old_visits.remove(&seq) {
            self.old_ended();
        }
    }

    /// What came of a visit, and when its site is due again.
    pub(super) fn report(
        &mut self,
        report: &SitesReport,
        due_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let mut due = due_at;
        if let Some(refusal) = &report.refused {
            let until = now.plus(HELD_OFF);
            self.held_off.retain(|_, until| *until > now);
            self.held_off.insert(report.seq, until);
            due = Some(until);
            self.health.refused(&report.site_id, refusal);
        } else {
            let failure = report.failure.as_ref();
            let failure = failure.map(|(kind, detail)| (*kind, detail.as_str()));
            let rested = self.health.rests();
            self.health
                .visited(report.seq, &report.site_id, failure, now);
            if self.health.rests() && !rested {
                self.rest(now);
            }
            if failure.is_some_and(|(kind, _)| kind == FailureKind::Job) {
                // Nothing was written: it is due as before.
                due = Some(now);
            }
            if report.given_up {
                self.news.gave_up(&report.site_id);
            }
        }
        if report.fenced {
            self.fenced(report);
            due = Some(now);
        }
        if let (Some(at), Some(place)) = (due, self.place_of(report.batch_code)) {
            self.shards[place].due_at(at);
        }
    }

    /// A lease is lost: its shard rests until it is told who has it.
    fn fenced(&mut self, report: &SitesReport) {
        let mut lost = vec![false; self.shards.len()];
        for (shard, lost) in self.shards.iter_mut().zip(&mut lost) {
            if shard.stake.as_ref() == Some(&report.stake) {
                *lost = shard.hold(None, None);
            }
        }
        self.drop_shards(&lost);
    }

    /// Puts what waits for a host off.
    pub(super) fn leave_alone(&mut self, host: &Arc<str>, until: Timestamp) {
        for waiting in self.queue.drain_host(host) {
            if let Some(shard) = self.shards.get_mut(waiting.shard) {
                shard.put_off.push((waiting.site.seq, until));
            }
        }
    }

    /// When the job wants to be asked again, if nothing else happens.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let low = self.reads();
        let shards = self.shards.iter();
        let shards = shards.filter_map(|shard| shard.wake_at(low));
        let again = self.health.retry_at().filter(|_| self.health.rests());
        shards.chain(again).min()
    }

    /// What the log is to tell of the job now; `all`: this is the end.
    pub(super) fn news(&mut self, now: Timestamp, all: bool) -> Vec<JobNews> {
        let events = self.news.take(self.health.condition(), now, all);
        let job = &self.settings.key;
        let news = events.into_iter().map(|event| JobNews {
            job: job.clone(),
            event,
        });
        news.collect()
    }

    /// What is shown of the job.
    pub(super) fn view(&self, paused_hosts: usize) -> JobView {
        let shards = self.shards.iter().map(|shard| ShardView {
            shard: shard.shard,
            held: shard.stake.is_some(),
            holder: shard.other.clone(),
        });
        JobView {
            key: self.settings.key.clone(),
            in_flight: self.queue.out(),
            waiting: self.queue.waiting(),
            shards: shards.collect(),
            paused_hosts,
            last_error: self.health.problem().map(str::to_owned),
            retry_at: self.health.retry_at(),
        }
    }

    fn read_ended(&mut self, number: u64) {
        if self.old_reads.remove(&number) {
            self.old_ended();
        }
    }

    /// When all has ended that was under way when the job was begun afresh.
    fn old_ended(&mut self) {
        if self.old_visits.is_empty() && self.old_reads.is_empty() {
            for shard in &mut self.shards {
                shard.correct_again();
            }
        }
    }

    /// Place of the shard that has the sites of a batch code.
    fn place_of(&self, code: u16) -> Option<usize> {
        let before = |shard: &ShardPlan| *shard.shard.codes().end() < code;
        let place = self.shards.partition_point(before);
        (place < self.shards.len()).then_some(place)
    }

    fn held(&self) -> usize {
        let held = |shard: &&ShardPlan| shard.stake.is_some();
        self.shards.iter().filter(held).count()
    }

    /// Whether more due sites are wanted: few are at hand, and visits go on.
    fn reads(&self) -> bool {
        self.is_low() && !self.health.rests()
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
    fn take_rows(&mut self, number: usize, rows: Vec<DueSite>, pauses: &Pauses, now: Timestamp) {
        let Some(shard) = self.shards.get_mut(number) else {
            return;
        };
        let (read, mut taken, mut left_out) = (rows.len(), 0, false);
        let end = rows
            .last()
            .map(|row| (row.next_due_at.unwrap_or_default(), row.seq));
        for site in rows {
            if shard.is_stale(&site) {
                // Read before its outcome was written, or it was changed.
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
}

fn shards_of(job: &JobSettings) -> Vec<ShardPlan> {
    Shard::all(job.batches)
        .map(|shard| ShardPlan::new(job, shard))
        .collect()
}
