//! What the Followers of this server show of their replicas.

use super::change::BootstrapReason;
use super::model::{DatasetName, Epoch, Head, Info};
use super::plan::ReplicaPlan;
use super::traits::Standing;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The replicas of this server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicasView {
    /// By name; those that are configured.
    pub replicas: BTreeMap<DatasetName, Arc<FollowerView>>,
}

/// A replica, as its Follower knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct FollowerView {
    /// Who follows.
    pub holder: Holder,
    /// How it stands; only where it is followed here, and its rows were read.
    pub plan: Option<PlanView>,
    /// Bytes of keys and values that are fetched, a second, of late.
    pub bytes_per_second: f64,
    /// What it is read from, in the order of the settings, where it is followed here.
    pub upstreams: Vec<UpstreamView>,
    /// Why its rows cannot be read or written, where they cannot.
    pub trouble: Option<String>,
}

/// Who follows a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This server.
    Here,
    /// That other server.
    Other(String),
    /// No server that is known of.
    Nobody,
}

/// How a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaState {
    /// No server follows it.
    Waiting,
    /// There is no copy yet.
    Bootstrapping,
    /// There is a copy, which is brought up to date.
    Live,
    /// There is a copy that cannot be brought up to date: a bootstrap is under
    /// way or to begin.
    Stale,
    /// No upstream answers.
    Failing,
}

impl ReplicaState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Waiting,
        Self::Bootstrapping,
        Self::Live,
        Self::Stale,
        Self::Failing,
    ];

    /// By its rows, where it is not followed here. `is_held`: somebody has its
    /// lease. Whether its upstreams answer is known to who follows it alone, so it
    /// is never [`Self::Failing`].
    pub fn of_rows(is_held: bool, has_copy: bool, rows: &Standing) -> Self {
        match (is_held, has_copy) {
            (false, _) => Self::Waiting,
            (true, false) => Self::Bootstrapping,
            (true, true) if rows.stale.is_some() || rows.bootstrap.is_some() => Self::Stale,
            (true, true) => Self::Live,
        }
    }

    /// The word in API, metrics and pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Bootstrapping => "bootstrapping",
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Failing => "failing",
        }
    }
}

/// How far a replica is.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanView {
    /// How it stands.
    pub state: ReplicaState,
    /// Of the copy, or of the bootstrap where there is none.
    pub epoch: Option<Epoch>,
    /// The copy's head.
    pub head: Option<Head>,
    /// Entries of the copy.
    pub len: u64,
    /// Highest head that an upstream of this epoch told.
    pub upstream_head: Option<Head>,
    /// Heads that the copy lacks.
    pub lag_heads: u64,
    /// How long ago it had all, where it lacks something.
    pub lag: Duration,
    /// When it last had all.
    pub level_at: Option<Timestamp>,
    /// Since when it is stale, and why.
    pub stale: Option<(Timestamp, String)>,
    /// The bootstrap under way.
    pub bootstrap: Option<BootstrapView>,
    /// Why a bootstrap is to begin, and when, at the earliest.
    pub bootstrap_wanted: Option<(Timestamp, String)>,
    /// Bootstraps by reason.
    pub bootstraps: BTreeMap<BootstrapReason, u64>,
    /// Bootstraps in a row that history was too short for.
    pub outrun: u32,
    /// When the last audit ended, and how many ranges differed.
    pub audited: Option<(Timestamp, u64)>,
    /// Last key that an audit under way compared.
    pub auditing: Option<String>,
    /// Bytes of keys and values fetched since the plan began.
    pub bytes: u64,
    /// Why nothing can be done at present.
    pub trouble: Option<String>,
}

/// A bootstrap under way.
#[derive(Clone, Debug, PartialEq)]
pub struct BootstrapView {
    /// Why it was begun.
    pub reason: BootstrapReason,
    /// When.
    pub begun_at: Timestamp,
    /// Entries fetched.
    pub fetched: u64,
    /// Entries that the upstream had when it began.
    pub len: u64,
    /// When it ends, at the present pace.
    pub ends_at: Option<Timestamp>,
    /// Its ranges.
    pub ranges: Vec<RangeView>,
}

/// A range of a bootstrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeView {
    /// Entries fetched.
    pub len: u64,
    /// The head that they are at.
    pub head: Head,
    /// Nothing is lacking.
    pub done: bool,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamView {
    /// What it is: its address, without secrets.
    pub place: String,
    /// Its epoch and head, as it told them last, and when.
    pub told: Option<(Epoch, Head, Timestamp)>,
    /// Failures in a row.
    pub failures: u32,
    /// Its last failure.
    pub last_error: Option<(Timestamp, String)>,
    /// It is left alone until then.
    pub paused_until: Option<Timestamp>,
}

impl ReplicaPlan {
    /// What is shown of it; `None` until the rows were read.
    pub fn view(&self, now: Timestamp) -> Option<PlanView> {
        let standing = self.standing.as_ref()?;
        let live = standing.live.as_ref();
        let bootstrap = standing.bootstrap.as_ref();
        let epoch = live
            .map(|(_, epoch, ..)| epoch)
            .or_else(|| bootstrap.map(|bootstrap| &bootstrap.epoch));
        let infos = self.remotes.iter().filter_map(|r| r.info.as_ref());
        let upstream_head = infos
            .filter(|info| Some(&info.epoch) == epoch)
            .map(|info| info.head)
            .max();
        let head = live.map(|(_, _, head, _)| *head);
        let lag_heads = match (head, upstream_head) {
            (Some(ours), Some(theirs)) => u64::try_from(theirs.saturating_sub(ours)).unwrap_or(0),
            _ => 0,
        };
        let unanswered = self.remotes.iter().all(|remote| remote.failures > 0);
        let renewed = bootstrap.is_some() || self.wanted.is_some() || standing.stale.is_some();
        let state = match live {
            _ if unanswered && !self.remotes.is_empty() => ReplicaState::Failing,
            None => ReplicaState::Bootstrapping,
            Some(_) if renewed => ReplicaState::Stale,
            Some(_) => ReplicaState::Live,
        };
        // Who does not answer may be further than it was, and who is no good copy
        // itself does not know.
        let is_heard = self.remotes.iter().any(|remote| {
            let info = remote.info.as_ref();
            let is_level = |info: &Info| Some(&info.epoch) == epoch && Some(info.head) >= head;
            remote.failures == 0 && !remote.is_shaky() && info.is_some_and(is_level)
        });
        let level = state == ReplicaState::Live && lag_heads == 0 && is_heard;
        // The rows are told now and then only.
        let level_at = standing.level_at.max(self.level_at);
        let lag = level_at.filter(|_| !level);
        Some(PlanView {
            state,
            epoch: epoch.cloned(),
            head,
            len: live.map_or(0, |(.., len)| *len),
            upstream_head,
            lag_heads,
            lag: lag.map_or(Duration::ZERO, |at| now.since(at)),
            level_at,
            stale: standing.stale.clone(),
            bootstrap: self.bootstrap_view(now),
            bootstrap_wanted: self.wanted.as_ref().map(|w| (w.at, w.why.clone())),
            bootstraps: standing.bootstraps.clone(),
            outrun: standing.outrun,
            audited: standing.audited,
            auditing: self.audit.cursor().map(str::to_owned),
            bytes: self.bytes,
            trouble: self.trouble.clone().or_else(|| self.doubt()),
        })
    }

    /// What is to be told though there is nothing that cannot be done.
    fn doubt(&self) -> Option<String> {
        let mut all = self.remotes.iter();
        if !self.remotes.is_empty() && all.all(super::remote::Remote::is_shaky) {
            let infos = self.remotes.iter().filter_map(|r| r.info.as_ref());
            let state = infos.filter_map(|info| info.state.as_deref()).next()?;
            return Some(format!(
                "the upstream is a replica that is {state} itself, so it may lack what was published since"
            ));
        }
        let why = self.audit.hopeless()?;
        Some(format!("ranges cannot be compared: {why}"))
    }

    fn bootstrap_view(&self, now: Timestamp) -> Option<BootstrapView> {
        let bootstrap = self.standing.as_ref()?.bootstrap.as_ref()?;
        let fetched: u64 = bootstrap.ranges.iter().map(|range| range.len).sum();
        let pace = self.pace.filter(|(of, ..)| *of == bootstrap.generation);
        let ends_at = pace.and_then(|(_, before, since)| {
            let (passed, done) = (now.since(since), fetched.checked_sub(before)?);
            if done == 0 || passed.is_zero() {
                return None;
            }
            let left = bootstrap.len.saturating_sub(fetched);
            let millis = passed.as_millis().saturating_mul(u128::from(left)) / u128::from(done);
            let left = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
            Some(now.plus(left))
        });
        let ranges = bootstrap.ranges.iter().map(|range| RangeView {
            len: range.len,
            head: range.head,
            done: range.done,
        });
        Some(BootstrapView {
            reason: bootstrap.reason,
            begun_at: bootstrap.begun_at,
            fetched,
            len: bootstrap.len,
            ends_at,
            ranges: ranges.collect(),
        })
    }

    /// How the upstreams stand; `places` says what they are.
    pub fn upstreams(&self, places: &[String]) -> Vec<UpstreamView> {
        let shown = self.remotes.iter().zip(places).map(|(remote, place)| {
            let told = remote.info.as_ref().zip(remote.heard_at);
            UpstreamView {
                place: place.clone(),
                told: told.map(|(info, at)| (info.epoch.clone(), info.head, at)),
                failures: remote.failures,
                last_error: remote.last_error.clone(),
                paused_until: remote.not_before,
            }
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_lease_say_how_a_replica_stands_that_others_follow() {
        let level = Standing::default();
        let stale = Standing {
            stale: Some((Timestamp::now(), "history is too short".to_owned())),
            ..Standing::default()
        };
        for (is_held, has_copy, rows, expected) in [
            (false, true, &level, ReplicaState::Waiting),
            (false, true, &stale, ReplicaState::Waiting),
            (true, false, &level, ReplicaState::Bootstrapping),
            (true, true, &level, ReplicaState::Live),
            (true, true, &stale, ReplicaState::Stale),
        ] {
            assert_eq!(ReplicaState::of_rows(is_held, has_copy, rows), expected);
        }
    }
}
