//! The plan of one replica: what is asked of its upstreams, what is written, and
//! when. Pure: whoever runs it carries out [`Step`]s and tells what came of them,
//! in any order; a plan that is dropped at any point is followed by one that
//! begins with the rows.
//!
//! The rule that keeps it right: what a range of a bootstrap holds up to its
//! cursor is what the publisher had at the range's head; a diff from that head or
//! an earlier one brings it to the diff's. Head and content move in one
//! transaction, guarded by what they were.

use super::audit::Audit;
use super::backoff::Backoff;
use super::change::{BootstrapReason, ReplicaChange};
use super::model::{Fetched, Head};
use super::plan_step::{Ask, Step, Written};
use super::remote::{Need, Remote};
use super::traits::Standing;
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a plan goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanSettings {
    /// How many upstreams there are.
    pub upstreams: usize,
    /// They speak the seed's wire: chunks by index, no digests.
    pub by_index: bool,
    /// Entries of a chunk.
    pub chunk: u64,
    /// Ranges of a bootstrap.
    pub ranges: usize,
    /// How often an upstream is asked that cannot be waited for.
    pub poll_interval: Duration,
    /// Longest wait for its head to move.
    pub watch: Duration,
    /// Time between audits; `None`: none.
    pub audit_interval: Option<Duration>,
}

/// What an ask is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// To know how the upstream stands.
    Look,
    /// To begin a bootstrap.
    Splits,
    /// The next chunk of a range.
    Chunk(usize),
    /// What done ranges lack.
    Forward,
    /// That the head moves.
    Watch,
    /// What the copy lacks.
    Follow,
    /// Digests to compare with, or what a range is to be put right with.
    Audit,
}

/// An ask that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// Of this upstream; `None`: of the copy.
    pub(super) upstream: Option<usize>,
    pub(super) purpose: For,
    /// What is to be brought up to date.
    pub(super) need: Option<Need>,
    pub(super) at: Timestamp,
}

/// A bootstrap that is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) reason: BootstrapReason,
    pub(super) why: String,
    pub(super) outrun: bool,
    /// Not before.
    pub(super) at: Timestamp,
}

/// The plan of one replica.
#[derive(Clone, Debug)]
pub struct ReplicaPlan {
    pub(super) settings: PlanSettings,
    pub(super) remotes: Vec<Remote>,
    /// `None` until the rows were read.
    pub(super) standing: Option<Standing>,
    reading: bool,
    /// What is known of the rows may be wrong.
    read_anew: bool,
    read_at: Timestamp,
    /// In a row.
    rows_failures: u32,
    draining: bool,
    next_id: u64,
    pub(super) asks: BTreeMap<u64, Pending>,
    pub(super) writes: BTreeMap<u64, ReplicaChange>,
    /// All are asked how they stand: since when, and who has not answered.
    pub(super) survey: Option<(Timestamp, BTreeSet<u64>)>,
    pub(super) survey_at: Timestamp,
    /// Why nothing can be done, for pages.
    pub(super) trouble: Option<String>,
    pub(super) wanted: Option<Wanted>,
    pub(super) forwarded_at: Timestamp,
    /// Done ranges are not brought forward before.
    pub(super) forward_after: Timestamp,
    /// Since when they could not be, for nobody has what others have.
    pub(super) forward_stuck: Option<Timestamp>,
    /// Changes that are to be written.
    pub(super) ready: Vec<ReplicaChange>,
    /// Entries by index, and at which one they begin: they wait for how many are
    /// before them.
    pub(super) held: Option<(u64, Fetched)>,
    /// Of when what was heard of the upstreams was written last.
    pub(super) heard_at: Option<Timestamp>,
    /// When an upstream last had no more than the copy.
    pub(super) level_at: Option<Timestamp>,
    /// The upstream by index had nothing new.
    pub(super) polled: bool,
    /// How many entries the copy has, if the upstream's diff is all of it.
    pub(super) expected: Option<u64>,
    /// When the present turn began.
    pub(super) turn_at: Timestamp,
    /// What was written at a head that stood still.
    pub(super) still: Option<(Head, Vec<super::Modification>)>,
    /// The next time that an upstream is polled, or watched.
    pub(super) look_at: Timestamp,
    /// Bootstraps in a row whose copy did not hold as many as the upstream.
    pub(super) miscounts: u32,
    /// Bootstraps in a row without a calm after them.
    pub(super) restless: u32,
    /// Since when the copy is followed.
    pub(super) calm_since: Option<Timestamp>,
    /// Like the seed, it takes chunks by index as they come: to see that this
    /// loses entries.
    #[cfg(test)]
    pub(super) careless: bool,
    pub(super) audit: Audit,
    /// Bytes of keys and values that were fetched.
    pub(super) bytes: u64,
    /// Entries in the present bootstrap when this plan first saw it, and when.
    pub(super) pace: Option<(i64, u64, Timestamp)>,
    wake: Option<Timestamp>,
}

impl ReplicaPlan {
    /// A plan that knows nothing of its rows yet.
    pub fn new(settings: PlanSettings) -> Self {
        let remotes = vec![Remote::default(); settings.upstreams];
        let never = Timestamp::from_millis(0);
        Self {
            settings,
            remotes,
            standing: None,
            reading: false,
            read_anew: false,
            read_at: never,
            rows_failures: 0,
            draining: false,
            next_id: 0,
            asks: BTreeMap::new(),
            writes: BTreeMap::new(),
            survey: None,
            survey_at: never,
            trouble: None,
            wanted: None,
            forwarded_at: never,
            forward_after: never,
            forward_stuck: None,
            ready: Vec::new(),
            held: None,
            heard_at: None,
            level_at: None,
            polled: false,
            expected: None,
            turn_at: never,
            still: None,
            look_at: never,
            miscounts: 0,
            restless: 0,
            calm_since: None,
            #[cfg(test)]
            careless: false,
            audit: Audit::default(),
            bytes: 0,
            pace: None,
            wake: None,
        }
    }

    /// Other settings. With `others` the upstreams are not those of before: what
    /// is known of them is forgotten.
    pub fn configure(&mut self, settings: PlanSettings, others: bool) {
        if others || settings.upstreams != self.remotes.len() {
            self.remotes = vec![Remote::default(); settings.upstreams];
            self.asks.clear();
            self.survey = None;
            self.audit.stop();
        }
        self.settings = settings;
    }

    /// While the server drains nothing is asked and nothing begun.
    pub fn drain(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// An operator wants a new bootstrap.
    pub fn bootstrap(&mut self, now: Timestamp) {
        self.let_go();
        self.wanted = Some(Wanted {
            reason: BootstrapReason::Ordered,
            why: "an operator asked for it".to_owned(),
            outrun: false,
            at: now,
        });
    }

    /// An operator wants all ranges compared now.
    pub fn verify(&mut self) {
        self.audit.order();
    }

    /// The rows were read.
    pub fn standing(&mut self, standing: Standing) {
        (self.reading, self.read_anew) = (false, false);
        self.standing = Some(standing);
    }

    /// They could not be read.
    pub fn not_read(&mut self, now: Timestamp) {
        self.reading = false;
        self.rows_failed(now);
    }

    /// Rows could not be read or written: they are read anew, ever less often.
    fn rows_failed(&mut self, now: Timestamp) {
        self.rows_failures = self.rows_failures.saturating_add(1);
        self.read_at = now.plus(Backoff::ROWS.after(self.rows_failures));
    }

    /// Whether an answer to this ask is still wanted.
    pub fn is_asked(&self, id: u64) -> bool {
        self.asks.contains_key(&id)
    }

    /// Whether a change is being written.
    pub fn is_writing(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Bytes of keys and values fetched since the plan began.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How the replica stands, as far as is known.
    pub fn known(&self) -> Option<&Standing> {
        self.standing.as_ref().filter(|_| !self.read_anew)
    }

    /// A write ended.
    pub fn written(&mut self, id: u64, written: Written, now: Timestamp) {
        let Some(change) = self.writes.remove(&id) else {
            return;
        };
        match written {
            Written::Done(applied) => {
                self.rows_failures = 0;
                if let Some(standing) = &mut self.standing {
                    standing.note(&change, &applied, now);
                }
                self.wrote(&change, &applied, now);
            }
            Written::Not(why) => {
                self.trouble = Some(why);
                self.read_anew = true;
                self.rows_failed(now);
            }
        }
    }

    /// What is to be done now.
    pub fn next(&mut self, now: Timestamp) -> Vec<Step> {
        let mut steps = Vec::new();
        (self.wake, self.turn_at) = (None, now);
        if self.read_anew && self.writes.is_empty() {
            self.forget();
        }
        if self.draining || self.read_anew {
            return steps;
        }
        if self.standing.is_none() {
            if !self.reading {
                if self.read_at > now {
                    self.wake_by(self.read_at);
                } else {
                    self.reading = true;
                    steps.push(Step::Read);
                }
            }
            return steps;
        }
        for change in std::mem::take(&mut self.ready) {
            self.write(&mut steps, change);
        }
        self.settle_survey(now);
        self.look_around(now, &mut steps);
        if self.wanted.is_some() {
            self.begin_steps(now, &mut steps);
        } else if self.of_standing(|standing| standing.bootstrap.is_some()) {
            self.bootstrap_steps(now, &mut steps);
        } else if self.of_standing(|standing| standing.live.is_some()) {
            self.audit_steps(now, &mut steps);
            self.follow_steps(now, &mut steps);
        } else {
            self.want(BootstrapReason::Initial, "there is no copy yet", false, now);
            self.begin_steps(now, &mut steps);
        }
        steps
    }

    /// When [`Self::next`] is to be called though nothing was told; as of its
    /// last call.
    pub const fn wake_at(&self) -> Option<Timestamp> {
        self.wake
    }

    pub(super) fn wake_by(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    pub(super) fn of_standing(&self, what: impl Fn(&Standing) -> bool) -> bool {
        self.standing.as_ref().is_some_and(what)
    }

    /// The rows are read anew: nothing under way is waited for.
    fn forget(&mut self) {
        (self.standing, self.survey) = (None, None);
        self.let_go();
        let ordered = |wanted: &Wanted| wanted.reason == BootstrapReason::Ordered;
        self.wanted = self.wanted.take().filter(ordered);
        (self.reading, self.read_anew) = (false, false);
    }

    /// What was asked for the present content is of no use any more.
    pub(super) fn let_go(&mut self) {
        self.asks.clear();
        self.survey = None;
        self.ready.clear();
        (self.held, self.expected) = (None, None);
        self.audit.stop();
    }

    /// What is known of the rows is wrong: they are read anew.
    pub(super) fn distrust(&mut self) {
        self.read_anew = true;
    }

    pub(super) fn is_asking(&self, purpose: &For) -> bool {
        self.asks.values().any(|ask| ask.purpose == *purpose)
    }

    pub(super) fn ask(
        &mut self,
        steps: &mut Vec<Step>,
        upstream: usize,
        purpose: For,
        need: Option<Need>,
        ask: Ask,
        now: Timestamp,
    ) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        if let Some(remote) = self.remotes.get_mut(upstream) {
            remote.asked_at = Some(now);
        }
        let pending = Pending {
            upstream: Some(upstream),
            purpose,
            need,
            at: now,
        };
        self.asks.insert(id, pending);
        steps.push(Step::Ask { id, upstream, ask });
        id
    }

    pub(super) fn write(&mut self, steps: &mut Vec<Step>, change: ReplicaChange) {
        self.next_id += 1;
        let id = self.next_id;
        self.writes.insert(id, change.clone());
        steps.push(Step::Write { id, change });
    }

    pub(super) fn local(&mut self, steps: &mut Vec<Step>, fetching: super::Fetching) -> u64 {
        self.next_id += 1;
        steps.push(Step::Local {
            id: self.next_id,
            fetching,
        });
        self.next_id
    }
}
