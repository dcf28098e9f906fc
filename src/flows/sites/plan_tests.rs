//! Tests of the plan against a database in memory.

use super::load::{SitesBrought, SitesPage, SitesRead, SitesWant};
use super::names::{AppName, JobKey};
use super::plan::SitesPlan;
use super::rules::change_of;
use super::shard::Shard;
use super::standing::Standing;
use super::visit::{FailureKind, Visited};
use super::work::{SitesOutcome, SitesReport, SitesWork, host_of};
use crate::config::{self, JobSettings, Settings, SitesSettings};
use crate::leases::{Holdings, sites_lease};
use crate::store::{DueSite, LeaseStake};
use crate::time::Timestamp;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);
/// How late a visit may begin when nothing is in its way: a look for changes
/// (5s) and the longest pause of a sweep.
const GRACE: Duration = Duration::from_secs(8);
/// A site that nobody told of is found by the next full look.
const FOUND_WITHIN: Duration = Duration::from_secs(67);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How the jobs are configured.
#[derive(Clone, Copy, Debug)]
struct Variant {
    long: bool,
    batches: u16,
    per_host: usize,
    second: bool,
}

const PLAIN: Variant = Variant {
    long: false,
    batches: 1,
    per_host: 1,
    second: false,
};

fn settings(variant: Variant) -> (SitesSettings, Vec<JobSettings>) {
    let retry = if variant.long {
        "60 sec (x2); 20 sec (x3)"
    } else {
        "10 sec (x2); 30 sec (x2); 5 sec (x1)"
    };
    let job = |name: &str, batches: u16| {
        format!(
            "[[jobs]]\napp='a'\nname='{name}'\nretry='{retry}'\nbatches={batches}\nper_host={}\nhandler.http={{}}\n",
            variant.per_host
        )
    };
    let mut text = format!("[[apps]]\nid='a'\n{}", job("one", variant.batches));
    if variant.second {
        text.push_str(&job("two", 2));
    }
    let Settings { sites, jobs, .. } = config::parse(
        &text,
        "test.toml",
        Path::new("/"),
        [],
        config::LoadOptions::default(),
    )
    .unwrap()
    .settings;
    (sites, jobs)
}

/// A row of `sites`.
#[derive(Clone, Debug)]
struct Site {
    url: String,
    code: u16,
    enabled: bool,
    since: Timestamp,
}

/// A row of `poll_status`.
#[derive(Clone, Debug)]
struct Row {
    job: JobKey,
    site: usize,
    standing: Standing,
    next_due_at: Option<Timestamp>,
}

/// A read that was begun.
struct Read {
    want: SitesWant,
    /// What the database answered, once it did.
    brought: Option<SitesBrought>,
}

/// A visit.
struct Open {
    work: SitesWork,
    begun: Timestamp,
    fetched: bool,
    report: Option<(SitesReport, Option<Timestamp>)>,
}

/// How a visit ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Success,
    Failure,
    RetryAfter(u64),
    Refused,
}

struct World {
    plan: SitesPlan,
    jobs: Vec<JobSettings>,
    now: Timestamp,
    sites: Vec<Option<Site>>,
    rows: BTreeMap<i64, Row>,
    next_row: i64,
    pauses: HashMap<Arc<str>, Timestamp>,
    /// Pauses that the plan was told of.
    told_pauses: HashMap<Arc<str>, Timestamp>,
    /// Sites that were disabled or removed, of which the plan was told.
    told_left: HashSet<usize>,
    /// Rows that the database refused, until when they may be left alone.
    refused: HashMap<i64, Timestamp>,
    /// The table of leases: whether this server has it, and the epoch.
    leases: BTreeMap<String, (bool, i64)>,
    told: Holdings,
    reads: Vec<Read>,
    /// Pages that were asked for.
    pages: usize,
    page_limit: usize,
    open: Vec<Open>,
}

impl World {
    fn new(variant: Variant) -> Self {
        let (sites, jobs) = settings(variant);
        let mut world = Self {
            plan: SitesPlan::new(sites, &jobs, START),
            jobs,
            now: START,
            sites: Vec::new(),
            rows: BTreeMap::new(),
            next_row: 0,
            pauses: HashMap::new(),
            told_pauses: HashMap::new(),
            told_left: HashSet::new(),
            refused: HashMap::new(),
            leases: BTreeMap::new(),
            told: Holdings::default(),
            reads: Vec::new(),
            pages: 0,
            page_limit: usize::MAX,
            open: Vec::new(),
        };
        world.lease_all();
        world.tell();
        world
    }

    fn insert(&mut self, host: &str, code: u16) -> usize {
        self.sites.push(Some(Site {
            url: format!("https://{host}/{}", self.sites.len()),
            code,
            enabled: true,
            since: self.now,
        }));
        self.sites.len() - 1
    }

    fn job(&self, key: &JobKey) -> Option<&JobSettings> {
        self.jobs.iter().find(|job| job.key == *key)
    }

    /// What another server, or the LeaseKeeper of this one, does in time: what
    /// is wanted is held, what is not is given back.
    fn lease_all(&mut self) {
        let wanted: HashSet<String> = self
            .jobs
            .iter()
            .flat_map(|job| Shard::all(job.batches).map(|shard| sites_lease(&job.key, shard)))
            .collect();
        for (name, (held, _)) in &mut self.leases {
            *held &= wanted.contains(name);
        }
        for name in wanted {
            let (held, epoch) = self.leases.entry(name).or_insert((false, 0));
            if !*held {
                (*held, *epoch) = (true, *epoch + 1);
            }
        }
    }

    fn tell(&mut self) {
        let held = self.leases.iter().filter(|(_, (held, _))| *held);
        let stake = |(name, (_, epoch)): (&String, &(bool, i64))| {
            let stake = LeaseStake {
                name: name.clone(),
                epoch: *epoch,
            };
            (name.clone(), stake)
        };
        self.told = Holdings {
            held: held.map(stake).collect(),
            others: BTreeMap::new(),
        };
        self.plan.hold(&self.told);
    }

    fn is_held(&self, stake: &LeaseStake) -> bool {
        self.leases.get(&stake.name) == Some(&(true, stake.epoch))
    }

    fn configure(&mut self, variant: Variant) {
        let (sites, jobs) = settings(variant);
        self.jobs = jobs;
        self.plan.configure(sites, &self.jobs, self.now);
        // As the Scheduler does: the LeaseKeeper tells later.
        self.plan.hold(&self.told);
    }

    fn begin(&mut self) {
        let wants = self.plan.wants(self.now);
        self.pages += wants
            .iter()
            .filter(|want| matches!(want.read, SitesRead::Page { .. }))
            .count();
        self.reads.extend(wants.into_iter().map(|want| Read {
            want,
            brought: None,
        }));
    }

    /// The database does what a read asks for.
    fn execute(&mut self, place: usize) {
        if self.reads[place].brought.is_some() {
            return;
        }
        let want = self.reads[place].want.clone();
        let key = want.job.key.clone();
        let in_range = |world: &Self, row: &Row| {
            let site = world.sites[row.site].as_ref();
            row.job == key && site.is_some_and(|site| want.shard.codes().contains(&site.code))
        };
        let brought = match &want.read {
            SitesRead::Prepare {
                first,
                after,
                waiting,
            } => {
                let of_shard: Vec<i64> = self
                    .rows
                    .iter()
                    .filter(|(_, row)| in_range(self, row))
                    .map(|(seq, _)| *seq)
                    .collect();
                if *first {
                    for seq in of_shard {
                        let row = self.rows.get_mut(&seq).unwrap();
                        correct(row, &want.job, self.now);
                    }
                }
                let of_job = self.rows.values().filter(|row| row.job == key);
                let known: HashSet<usize> = of_job.map(|row| row.site).collect();
                let mut added = 0;
                for number in usize::try_from(*after).unwrap()..self.sites.len() {
                    let Some(site) = &self.sites[number] else {
                        continue;
                    };
                    if known.contains(&number) || !want.shard.codes().contains(&site.code) {
                        continue;
                    }
                    added += 1;
                    self.next_row += 1;
                    let row = Row {
                        job: key.clone(),
                        site: number,
                        standing: Standing::default(),
                        next_due_at: Some(self.now.plus(ms(5 * (added - 1)))),
                    };
                    self.rows.insert(self.next_row, row);
                }
                let pauses = self.pauses.iter().filter(|_| *first);
                let stays = |seq: &&i64| {
                    let site = self.rows.get(*seq).map(|row| &self.sites[row.site]);
                    site.is_some_and(|site| site.as_ref().is_some_and(|site| site.enabled))
                };
                let gone = waiting.iter().filter(|seq| !stays(seq)).copied().collect();
                SitesBrought::Prepared {
                    added: usize::try_from(added).unwrap(),
                    pauses: pauses
                        .map(|(host, until)| (host.to_string(), *until))
                        .collect(),
                    gone,
                    seen: i64::try_from(self.sites.len().saturating_sub(2)).unwrap(),
                }
            }
            SitesRead::Page { now, after, limit } => {
                let limit = usize::try_from(*limit).unwrap().min(self.page_limit);
                let mut due: Vec<(Timestamp, i64)> = Vec::new();
                let mut next_due: Option<Timestamp> = None;
                for (seq, row) in &self.rows {
                    let enabled = self.sites[row.site].as_ref().is_some_and(|s| s.enabled);
                    let Some(at) = row.next_due_at.filter(|_| enabled && in_range(self, row))
                    else {
                        continue;
                    };
                    if at > *now {
                        next_due = Some(next_due.map_or(at, |known| known.min(at)));
                    } else if (at, *seq) > *after {
                        due.push((at, *seq));
                    }
                }
                due.sort_unstable();
                due.truncate(limit);
                let done = due.len() < limit;
                SitesBrought::Rows {
                    rows: due.iter().map(|(_, seq)| self.due_site(*seq)).collect(),
                    done,
                    next_due: next_due.filter(|_| done),
                }
            }
            SitesRead::PutOff(sites) => {
                for (seq, at) in sites {
                    if let Some(row) = self.rows.get_mut(seq)
                        && row.next_due_at.is_some_and(|due| due < *at)
                    {
                        row.next_due_at = Some(*at);
                    }
                }
                SitesBrought::PutOff
            }
        };
        self.reads[place].brought = Some(brought);
    }

    fn due_site(&self, seq: i64) -> DueSite {
        let row = &self.rows[&seq];
        let site = self.sites[row.site].as_ref().unwrap();
        DueSite {
            seq,
            site_id: format!("s{}", row.site),
            url: site.url.clone(),
            labels: "{}".into(),
            batch_code: site.code.into(),
            level: i32::try_from(row.standing.level).unwrap(),
            count: i32::try_from(row.standing.count).unwrap(),
            last_run_at: row.standing.last_run_at,
            next_due_at: row.next_due_at,
        }
    }

    /// The plan gets its answer, or hears that there is none.
    fn answer(&mut self, place: usize, works: bool) {
        let Read { want, brought } = self.reads.remove(place);
        let Some(brought) = brought.filter(|_| works) else {
            self.plan.load_failed(&want, self.now, ms(500));
            return;
        };
        self.plan.loaded(SitesPage { want, brought }, self.now);
    }

    /// Reads all that the plan wants, at once.
    fn read(&mut self) {
        for _ in 0..10_000 {
            self.begin();
            if self.reads.is_empty() {
                return;
            }
            while !self.reads.is_empty() {
                self.execute(0);
                self.answer(0, true);
            }
        }
        panic!("the plan reads without end");
    }

    /// Takes the next visit, which has to be right.
    fn take(&mut self) -> Result<bool, TestCaseError> {
        let Some(work) = self.plan.next_work() else {
            return Ok(false);
        };
        let (key, seq) = (work.job.key.clone(), work.site.seq);
        let of_job = |open: &&Open| open.work.job.key == key;
        prop_assert!(
            !self
                .open
                .iter()
                .filter(of_job)
                .any(|open| open.work.site.seq == seq),
            "{key} {seq} is out already"
        );
        prop_assert_eq!(self.told.held.get(&work.stake.name), Some(&work.stake));
        let Some(job) = self.job(&key) else {
            return Err(TestCaseError::fail(format!("{key} is not configured")));
        };
        prop_assert_eq!(&work.job.retry, &job.retry);
        let busy = self.open.iter().filter(of_job);
        let busy = busy
            .filter(|open| !open.fetched && open.work.host == work.host)
            .count();
        prop_assert!(busy < job.per_host, "{} has {} visits", work.host, busy);
        let site: usize = work.site.site_id[1..].parse().unwrap();
        prop_assert!(!self.told_left.contains(&site), "site {} has left", site);
        if let Some(until) = self.told_pauses.get(&work.host) {
            prop_assert!(*until <= self.now, "{} is paused", work.host);
        }
        if let (Some(row), true) = (self.rows.get(&seq), self.is_held(&work.stake)) {
            let revived = row.standing.given_up_at.is_none();
            prop_assert!(
                !revived || row.standing.is_due(&job.retry, self.now),
                "{} of {} is not due at {}: {:?}",
                seq,
                key,
                self.now,
                row.standing
            );
        }
        self.open.push(Open {
            work,
            begun: self.now,
            fetched: false,
            report: None,
        });
        Ok(true)
    }

    fn fetched(&mut self, place: usize) {
        let open = &mut self.open[place];
        if !std::mem::replace(&mut open.fetched, true) {
            let (key, host) = (open.work.job.key.clone(), open.work.host.clone());
            self.plan.fetched(&key, &host);
        }
    }

    /// An outcome is written, if the lease allows it; the plan hears of it later.
    fn write(&mut self, place: usize, end: End) {
        if self.open[place].report.is_some() {
            return;
        }
        self.fetched(place);
        let open = &self.open[place];
        let mut visited = match end {
            End::Success | End::Refused => Visited::well(None),
            End::Failure | End::RetryAfter(_) => Visited::failed(FailureKind::Timeout, "slow"),
        };
        if let End::RetryAfter(seconds) = end {
            visited.retry_after = Some(secs(seconds));
        }
        let outcome = SitesOutcome {
            work: Arc::new(open.work.clone()),
            visited,
            begun: open.begun,
            took: self.now.since(open.begun),
        };
        let mut report = SitesReport::of(&outcome);
        if let Some(until) = report.pause {
            // Told at once, and once more when it is written.
            self.pause(&report.host, until);
        }
        let open = &self.open[place];
        let mut due_at = None;
        if matches!(end, End::Refused) {
            report.refused = Some("no".into());
            let until = self.now.plus(secs(60));
            self.refused.insert(report.seq, until);
        } else if self.is_held(&open.work.stake) {
            let change = change_of(&outcome, 20, self.now, |at, _| at);
            due_at = change.next_due_at;
            if let Some((host, until)) = &change.pause {
                let known = self.pauses.entry(host.clone()).or_insert(*until);
                *known = (*known).max(*until);
            }
            if let Some(row) = self.rows.get_mut(&change.seq) {
                row.standing = Standing {
                    level: change.level,
                    count: change.count,
                    last_run_at: change.last_run_at,
                    given_up_at: change.given_up_at,
                };
                row.next_due_at = change.next_due_at;
            }
        } else {
            report.fenced = true;
        }
        self.open[place].report = Some((report, due_at));
    }

    /// A host asks to be left alone, which is not written yet.
    fn pause(&mut self, host: &Arc<str>, until: Timestamp) {
        let known = self.told_pauses.entry(host.clone()).or_insert(until);
        *known = (*known).max(until);
        self.plan.paused(host, until, self.now);
    }

    /// A visit comes back: with what was written, or lost.
    fn end(&mut self, place: usize) {
        self.fetched(place);
        let open = self.open.remove(place);
        if let Some((report, due_at)) = &open.report {
            if let Some(until) = report.pause {
                let known = self.told_pauses.entry(report.host.clone()).or_insert(until);
                *known = (*known).max(until);
            }
            self.plan.report(report, *due_at, self.now);
        }
        let key = &open.work.job.key;
        let settled = open.report.is_some();
        self.plan
            .returned(key, open.work.site.seq, settled, self.now);
    }

    /// When a row has to be visited at the latest, if it has to be.
    fn latest(&self, seq: i64, row: &Row, calm: Timestamp) -> Option<Timestamp> {
        let job = self.job(&row.job)?;
        let site = self.sites[row.site].as_ref().filter(|site| site.enabled)?;
        let last = row.standing.last_run_at;
        let due = row.standing.due_at(&job.retry, last.unwrap_or(calm))?;
        let paused = self.pauses.get(&host_of(&site.url)).copied();
        let told = self.told_pauses.get(&host_of(&site.url)).copied();
        let refused = self.refused.get(&seq).copied();
        [Some(due), Some(calm), paused, told, refused]
            .into_iter()
            .flatten()
            .max()
            .map(|at| at.plus(GRACE))
    }

    /// From now on all goes well: everything is visited in time.
    fn settle_down(&mut self, during: Duration) -> Result<(), TestCaseError> {
        while !self.reads.is_empty() {
            self.execute(0);
            self.answer(0, true);
        }
        self.lease_all();
        self.tell();
        while !self.open.is_empty() {
            self.write(0, End::Success);
            self.end(0);
        }
        let calm = self.now;
        let end = calm.plus(during);
        let mut rounds = 0;
        while self.now < end {
            rounds += 1;
            prop_assert!(rounds < 20_000, "the plan spins");
            self.read();
            while self.take()? {}
            for (seq, row) in &self.rows {
                let out = self
                    .open
                    .iter()
                    .any(|open| open.work.site.seq == *seq && open.work.job.key == row.job);
                if let Some(latest) = self.latest(*seq, row, calm).filter(|_| !out) {
                    prop_assert!(
                        self.now <= latest,
                        "{} is late by {:?} at {}: {:?}",
                        seq,
                        self.now.since(latest),
                        self.now,
                        row
                    );
                }
            }
            self.all_sites_are_found(calm)?;
            if self.open.is_empty() {
                let at = self.plan.wake_at();
                prop_assert!(at.is_some(), "the plan sleeps for ever");
                let slept = at.unwrap().since(self.now).max(ms(1));
                self.now = self.now.plus(slept);
            } else {
                self.now = self.now.plus(ms(20));
                while !self.open.is_empty() {
                    self.write(0, End::Success);
                    self.end(0);
                }
            }
        }
        Ok(())
    }

    fn all_sites_are_found(&self, calm: Timestamp) -> Result<(), TestCaseError> {
        for (number, site) in self.sites.iter().enumerate() {
            let Some(site) = site else { continue };
            if self.now <= site.since.max(calm).plus(FOUND_WITHIN) {
                continue;
            }
            for job in &self.jobs {
                let known = |row: &Row| row.job == job.key && row.site == number;
                prop_assert!(
                    self.rows.values().any(known),
                    "site {} is not found for {}",
                    number,
                    job.key
                );
            }
        }
        Ok(())
    }
}

/// What `correct_due_times` does to a row.
fn correct(row: &mut Row, job: &JobSettings, now: Timestamp) {
    if let Some(mended) = row.standing.mended(now) {
        row.standing = mended;
    }
    let level = job
        .retry
        .level(usize::try_from(row.standing.level).unwrap());
    let Some(due) = row.standing.due_at(&job.retry, now) else {
        return;
    };
    let latest = due.plus(level.period.mul_f64(0.05));
    if row.next_due_at.is_none_or(|at| at > latest) {
        row.next_due_at = Some(due);
    }
}

/// A step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u16, bool),
    Change(usize, u8),
    Begin,
    Execute(usize),
    Answer(usize, bool),
    Take(u8),
    Fetched(usize),
    Write(usize, End),
    Return(usize),
    Pass(u64),
    SetBack(u64),
    Configure(Variant),
    Lose(usize),
    Regain,
    Tell,
    TellNone,
    Wake,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![
        3 => Just(End::Success),
        4 => Just(End::Failure),
        1 => (1_u64..60).prop_map(End::RetryAfter),
        1 => Just(End::Refused),
    ];
    let variant = (any::<bool>(), 1_u16..4, 1_usize..3, any::<bool>()).prop_map(
        |(long, batches, per_host, second)| Variant {
            long,
            batches,
            per_host,
            second,
        },
    );
    let step = prop_oneof![
        4 => (0_u8..3, 0_u16..=10_000, any::<bool>()).prop_map(|(host, code, told)| Step::Insert(host, code, told)),
        2 => (any::<usize>(), 0_u8..5).prop_map(|(site, how)| Step::Change(site, how)),
        8 => Just(Step::Begin),
        8 => any::<usize>().prop_map(Step::Execute),
        8 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(read, works)| Step::Answer(read, works)),
        6 => (1_u8..4).prop_map(Step::Take),
        3 => any::<usize>().prop_map(Step::Fetched),
        6 => (any::<usize>(), end).prop_map(|(visit, end)| Step::Write(visit, end)),
        6 => any::<usize>().prop_map(Step::Return),
        6 => (1_u64..8000).prop_map(Step::Pass),
        1 => (1_u64..100_000).prop_map(Step::SetBack),
        1 => variant.prop_map(Step::Configure),
        1 => any::<usize>().prop_map(Step::Lose),
        1 => Just(Step::Regain),
        2 => Just(Step::Tell),
        1 => Just(Step::TellNone),
        1 => Just(Step::Wake),
    ];
    prop::collection::vec(step, 1..250)
}

impl World {
    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Insert(host, code, told) => {
                self.insert(&format!("h{host}"), code);
                if told {
                    self.plan.wake(self.now);
                }
            }
            Step::Change(site, how) => {
                if !self.sites.is_empty() {
                    let site = site % self.sites.len();
                    self.change(site, how);
                }
            }
            Step::Begin => self.begin(),
            Step::Execute(read) => {
                if !self.reads.is_empty() {
                    self.execute(read % self.reads.len());
                }
            }
            Step::Answer(read, works) => {
                if !self.reads.is_empty() {
                    self.answer(read % self.reads.len(), works);
                }
            }
            Step::Take(count) => {
                for _ in 0..count {
                    self.take()?;
                }
            }
            Step::Fetched(visit) => {
                if !self.open.is_empty() {
                    self.fetched(visit % self.open.len());
                }
            }
            Step::Write(visit, end) => {
                if !self.open.is_empty() {
                    self.write(visit % self.open.len(), end);
                }
            }
            Step::Return(visit) => {
                if !self.open.is_empty() {
                    self.end(visit % self.open.len());
                }
            }
            Step::Pass(millis) => self.now = self.now.plus(ms(millis)),
            Step::SetBack(millis) => {
                self.now = self.now.minus(ms(millis));
                // The Scheduler looks at its plan before anything else.
                self.begin();
            }
            Step::Configure(variant) => self.configure(variant),
            Step::Lose(lease) => {
                let count = self.leases.len();
                if let Some((held, epoch)) = self.leases.values_mut().nth(lease % count.max(1)) {
                    (*held, *epoch) = (false, *epoch + 1);
                }
            }
            Step::Regain => self.lease_all(),
            Step::Tell => self.tell(),
            Step::TellNone => {
                self.told = Holdings::default();
                self.plan.hold(&self.told);
            }
            Step::Wake => self.plan.wake(self.now),
        }
        Ok(())
    }

    fn change(&mut self, site: usize, how: u8) {
        let mut rows = self.rows.values_mut().filter(|row| row.site == site);
        match (how, &mut self.sites[site]) {
            // By SQL: the plan hears nothing.
            (0, Some(site)) => site.enabled = false,
            (4, Some(found)) => {
                found.enabled = false;
                self.told_left.insert(site);
                self.plan.left(&[format!("s{site}")]);
            }
            (1, Some(found)) => {
                found.enabled = true;
                self.told_left.remove(&site);
                self.plan.wake(self.now);
            }
            (2, Some(_)) => {
                if let Some(row) = rows.find(|row| row.standing.given_up_at.is_some()) {
                    row.standing = Standing::default();
                    row.next_due_at = Some(self.now);
                    self.plan.wake(self.now);
                }
            }
            (3, found) => {
                *found = None;
                self.told_left.insert(site);
                self.plan.left(&[format!("s{site}")]);
                self.rows.retain(|_, row| row.site != site);
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, nothing is out twice, early, or
    /// under a lost lease, and in the end everything is visited in time.
    #[test]
    fn every_site_is_visited_in_time_and_never_twice_at_once(steps in steps()) {
        let mut world = World::new(PLAIN);
        world.page_limit = 3;
        for step in steps {
            world.step(step)?;
        }
        world.settle_down(secs(180))?;
    }
}

fn key() -> JobKey {
    JobKey::new(AppName::parse("a").unwrap(), "one").unwrap()
}

#[test]
fn a_hot_host_keeps_no_other_waiting_and_the_plan_does_not_spin() {
    const HOT: i64 = 50_000;
    let mut world = World::new(PLAIN);
    let mut add = |host: &str, at: Timestamp| {
        let site = world.insert(host, 5_000);
        world.next_row += 1;
        let row = Row {
            job: key(),
            site,
            standing: Standing::default(),
            next_due_at: Some(at),
        };
        world.rows.insert(world.next_row, row);
    };
    for _ in 0..HOT {
        add("hot", START.minus(secs(3600)));
    }
    for number in 0..8 {
        add(&format!("cold{number}"), START.plus(secs(number)));
    }
    let end = START.plus(secs(11));
    let mut visited = HashMap::new();
    while world.now < end {
        world.read();
        while world.take().unwrap() {
            let open = &world.open[world.open.len() - 1];
            visited.insert(open.work.site.seq, world.now);
        }
        assert!(world.plan.view(world.now).jobs[0].waiting <= 3_000);
        world.now = world.now.plus(ms(100));
        // A visit takes half a second.
        while world
            .open
            .first()
            .is_some_and(|open| world.now >= open.begun.plus(ms(500)))
        {
            world.write(0, End::Success);
            world.end(0);
        }
    }
    for number in 0..8 {
        let at = visited[&(HOT + 1 + number)];
        let late = at.since(START.plus(secs(number.unsigned_abs())));
        assert!(late <= ms(2_200), "cold{number} is late by {late:?}");
    }
    assert!(world.pages <= 10 * 26, "{} pages", world.pages);
}

#[test]
fn an_answer_to_what_was_asked_under_an_earlier_lease_is_not_taken() {
    let mut world = World::new(PLAIN);
    world.insert("h", 1);
    world.begin();
    world.execute(0);
    // The database was out of reach for a while, then the same lease is told.
    world.plan.hold(&Holdings::default());
    world.plan.hold(&world.told.clone());
    world.begin();
    assert_eq!(world.reads.len(), 2);
    world.answer(0, true);
    assert!(
        world.plan.wants(world.now).is_empty(),
        "the second look is under way"
    );
    world.execute(0);
    world.answer(0, true);
    world.read();
    assert!(world.take().unwrap());
}

#[test]
fn a_fenced_shard_rests_until_its_lease_is_known() {
    let mut world = World::new(PLAIN);
    world.insert("h", 1);
    world.read();
    assert!(world.take().unwrap());
    world
        .leases
        .values_mut()
        .for_each(|lease| *lease = (false, lease.1 + 1));
    world.write(0, End::Success);
    world.end(0);
    world.now = world.now.plus(secs(60));
    assert!(world.plan.wants(world.now).is_empty());
    assert_eq!(world.plan.wake_at(), None);
    world.lease_all();
    world.tell();
    world.read();
    assert!(world.take().unwrap());
}

#[test]
fn an_outcome_judged_by_a_former_policy_is_corrected_when_it_is_written() {
    let mut world = World::new(Variant {
        long: true,
        ..PLAIN
    });
    world.insert("h", 1);
    world.read();
    assert!(world.take().unwrap());
    world.configure(PLAIN);
    world.read();
    // Due in 60 seconds by the policy it was begun with, in 10 by the new one.
    world.write(0, End::Success);
    world.end(0);
    world.settle_down(secs(60)).unwrap();
}

#[test]
fn what_could_not_be_put_off_is_put_off_later() {
    let mut world = World::new(PLAIN);
    world.insert("h", 1);
    world.insert("h", 2);
    world.now = world.now.plus(ms(10));
    world.read();
    world.now = world.now.plus(ms(10));
    world.read();
    assert!(world.take().unwrap());
    world.write(0, End::RetryAfter(30));
    world.end(0);
    world.begin();
    assert!(matches!(world.reads[0].want.read, SitesRead::PutOff(_)));
    world.answer(0, false);
    assert!(world.plan.wants(world.now).is_empty());
    world.now = world.now.plus(ms(500));
    world.begin();
    assert!(matches!(world.reads[0].want.read, SitesRead::PutOff(_)));
    world.settle_down(secs(60)).unwrap();
}

#[test]
fn a_host_that_asks_for_it_is_left_alone_by_all_jobs_before_its_wish_is_written() {
    let mut world = World::new(Variant {
        second: true,
        ..PLAIN
    });
    world.insert("h", 1);
    world.read();
    assert!(world.take().unwrap());
    assert!(world.plan.has_work(), "the other job would visit it");
    let until = world.now.plus(secs(30));
    world.pause(&"h".into(), until);
    assert!(!world.plan.has_work());
    world.read();
    assert!(!world.take().unwrap());
    world.now = until;
    world.read();
    assert!(world.take().unwrap());
}

#[test]
fn a_wish_is_believed_for_a_day_at_most() {
    let mut world = World::new(PLAIN);
    world.insert("h", 1);
    world.read();
    assert!(world.take().unwrap());
    world.write(0, End::RetryAfter(u64::MAX / 2_000));
    let day = secs(24 * 3600);
    let (report, _) = world.open[0].report.as_ref().unwrap();
    assert_eq!(report.pause, Some(world.now.plus(day)));
}

#[test]
fn a_site_that_was_disabled_is_not_visited_though_it_was_read() {
    let mut world = World::new(PLAIN);
    let (first, second) = (world.insert("h", 1), world.insert("i", 1));
    world.read();
    world.now = world.now.plus(ms(10));
    world.read();
    world.change(first, 4);
    assert!(world.take().unwrap(), "the other one");
    assert!(!world.take().unwrap());
    world.write(0, End::Success);
    world.end(0);

    // While the page that shows it is being read.
    world.now = world.now.plus(secs(11));
    world.begin();
    while !matches!(world.reads[0].want.read, SitesRead::Page { .. }) {
        world.execute(0);
        world.answer(0, true);
        world.begin();
    }
    world.execute(0);
    world.change(second, 3);
    world.answer(0, true);
    assert!(!world.take().unwrap());
    world.read();
    assert!(!world.take().unwrap());
}

#[test]
fn what_is_disabled_by_sql_is_not_visited_after_the_next_look() {
    let mut world = World::new(PLAIN);
    let site = world.insert("h", 1);
    world.read();
    assert!(world.plan.has_work());
    world.change(site, 0);
    world.now = world.now.plus(secs(5));
    world.read();
    assert!(!world.plan.has_work());
    world.change(site, 1);
    world.now = world.now.plus(secs(1));
    world.read();
    assert!(world.take().unwrap());
}
