//! Tests of the plan against a database in memory.

mod calm;
mod database;
mod left;
mod life;
mod plan;

use super::load::{SitesBrought, SitesPage, SitesRead, SitesWant};
use super::names::JobKey;
use super::plan::SitesPlan;
use super::shard::Shard;
use super::standing::Standing;
use super::work::{SitesReport, SitesWork};
use crate::config::{self, JobSettings, Settings, SitesSettings};
use crate::leases::{Holdings, sites_lease};
use crate::store::LeaseStake;
use crate::time::Timestamp;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

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
}
