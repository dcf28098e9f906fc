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
use super::change::{BootstrapReason, ReplicaChange};
use super::model::{Fetched, Head};
use super::plan_step::{Answer, Ask, Step, Written};
use super::remote::{Need, Remote};
use super::traits::{Standing, UpstreamError};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long after rows could not be read, or written, they are read anew.
const READ_AGAIN: Duration = Duration::from_millis(300);

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
    /// Changes that are to be written.
    pub(super) ready: Vec<ReplicaChange>,
    /// Entries by index, and at which one they begin: they wait for how many are
    /// before them.
    pub(super) held: Option<(u64, Fetched)>,
    /// When it was written last that all that the upstream had is there.
    pub(super) heard_at: Option<Timestamp>,
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
            ready: Vec::new(),
            held: None,
            heard_at: None,
            polled: false,
            expected: None,
            turn_at: never,
            still: None,
            look_at: never,
            miscounts: 0,
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
        self.read_at = now.plus(READ_AGAIN);
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

    /// An upstream answered, or failed. What is not waited for any more is
    /// passed over.
    pub fn answered(&mut self, id: u64, answer: Result<Answer, UpstreamError>, now: Timestamp) {
        let Some(pending) = self.asks.remove(&id) else {
            return;
        };
        if let Some((_, waited_for)) = &mut self.survey {
            waited_for.remove(&id);
        }
        let Some(upstream) = pending.upstream else {
            return;
        };
        let Some(remote) = self.remotes.get_mut(upstream) else {
            return;
        };
        match answer {
            Err(error) => {
                remote.failed(error, pending.need.as_ref(), now);
                if pending.purpose == For::Audit {
                    self.audit.retry(now);
                }
            }
            Ok(Answer::Info(info)) => {
                self.take_info(upstream, &pending, info, now);
            }
            Ok(Answer::Fetched(fetched)) => {
                self.bytes = self.bytes.saturating_add(bytes_of(&fetched));
                remote.showed(&fetched, now);
                let need = pending.need.clone();
                if need.is_some_and(|(epoch, head)| fetched.epoch != epoch || fetched.head < head) {
                    // Another history: whether that is the end of ours is judged
                    // by how all of them stand.
                    if pending.purpose == For::Audit {
                        self.audit.retry(now);
                    }
                    return;
                }
                self.take_fetched(upstream, &pending, fetched, now);
            }
            Ok(Answer::Digests(digests)) => self.take_digests(upstream, &pending, digests, now),
            Ok(Answer::Unable) => match pending.purpose {
                For::Audit => self.audit.unable(),
                _ => remote.unwatchable = true,
            },
        }
    }

    fn take_fetched(&mut self, upstream: usize, of: &Pending, fetched: Fetched, now: Timestamp) {
        let taken = match of.purpose {
            For::Chunk(_) if self.settings.by_index => self.take_index_chunk(fetched),
            For::Chunk(range) => self.take_chunk(range, fetched),
            For::Forward => self.take_forward(of, fetched, now),
            For::Follow => self.take_follow(fetched, now),
            For::Audit => self.take_repair(fetched),
            For::Look | For::Splits | For::Watch => Ok(()),
        };
        if let Err(why) = taken
            && let Some(remote) = self.remotes.get_mut(upstream)
        {
            remote.fails(why, None, now);
        }
    }

    fn take_info(&mut self, upstream: usize, of: &Pending, info: super::Info, now: Timestamp) {
        if let Some(remote) = self.remotes.get_mut(upstream) {
            remote.says(info.clone(), now);
        }
        match of.purpose {
            For::Splits => self.begin(info),
            For::Watch => self.watched(of, &info, now),
            _ => {}
        }
    }

    /// A write ended.
    pub fn written(&mut self, id: u64, written: Written, now: Timestamp) {
        let Some(change) = self.writes.remove(&id) else {
            return;
        };
        match written {
            Written::Done(applied) => {
                if let Some(standing) = &mut self.standing {
                    standing.note(&change, &applied, now);
                }
                self.wrote(&change, &applied, now);
            }
            Written::Not(why) => {
                self.trouble = Some(why);
                self.read_anew = true;
                self.read_at = now.plus(READ_AGAIN);
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

fn bytes_of(fetched: &Fetched) -> u64 {
    let entries: usize = fetched.entries.iter().map(super::Entry::bytes).sum();
    let diff: usize = fetched.diff.iter().map(super::Modification::bytes).sum();
    u64::try_from(entries.saturating_add(diff)).unwrap_or(u64::MAX)
}
