//! What a Follower knows of its upstreams: who answers, who has the epoch, whose
//! history reaches. Pure, the clock passed in.

use super::backoff::Backoff;
use super::model::{Epoch, Fetched, Head, Info, LEN_UNKNOWN};
use super::traits::UpstreamError;
use crate::time::Timestamp;
use std::time::Duration;

/// How long an upstream that does not answer any more is reckoned with, before
/// a copy is given up that the others cannot bring up to date.
const GONE_AFTER: Duration = Duration::from_secs(300);
/// Longest wish to be left alone that is heeded.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// How long an upstream that cannot be waited for is polled before that is tried
/// again.
const POLLED_FOR: Duration = Duration::from_secs(600);

/// An upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remote {
    /// How it stood last.
    pub(super) info: Option<Info>,
    /// When it answered last.
    pub(super) heard_at: Option<Timestamp>,
    /// When it last said how far its history reaches.
    pub(super) informed_at: Option<Timestamp>,
    /// The highest head that it had in its present epoch.
    highest: Option<Need>,
    /// When it was asked last.
    pub(super) asked_at: Option<Timestamp>,
    /// It cannot be waited for until then.
    polled_until: Option<Timestamp>,
    /// It says how it stands, and fails at what it is asked for then.
    fails_at_work: bool,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Since when it fails.
    pub(super) failing_since: Option<Timestamp>,
    /// It is left alone until then.
    pub(super) not_before: Option<Timestamp>,
    /// Its last failure.
    pub(super) last_error: Option<(Timestamp, String)>,
}

/// An epoch and a head from which a diff is wanted.
pub(super) type Need = (Epoch, Head);

impl Remote {
    /// It may be asked.
    pub(super) fn available(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|until| until <= now)
    }

    /// It can bring this up to date, as far as is known.
    pub(super) fn fits(&self, (epoch, head): &Need) -> bool {
        self.info.as_ref().is_some_and(|info| {
            info.epoch == *epoch && info.oldest_head <= *head && *head <= info.head
        })
    }

    /// It is itself a copy that is not up to date, by its own words.
    pub(super) fn is_shaky(&self) -> bool {
        let state = self.info.as_ref().and_then(|info| info.state.as_deref());
        state.is_some_and(|state| state != "live")
    }

    /// It is polled, since it cannot be waited for.
    pub(super) fn is_polled(&self, now: Timestamp) -> bool {
        self.polled_until.is_some_and(|until| until > now)
    }

    /// It cannot be waited for: for so long, or for good.
    pub(super) fn poll(&mut self, for_now: Option<Duration>, now: Timestamp) {
        let time = for_now.unwrap_or(POLLED_FOR).min(POLLED_FOR);
        self.polled_until = Some(now.plus(time));
    }

    /// It answered how it stands. Where it failed at more than that, that is no sign
    /// that it does not fail again.
    pub(super) fn says(&mut self, info: Info, now: Timestamp) {
        self.informed_at = Some(now);
        let failing = (self.failures, self.failing_since, self.not_before);
        let fails_at_work = self.fails_at_work;
        self.hear(info, now);
        if fails_at_work {
            self.fails_at_work = true;
            (self.failures, self.failing_since, self.not_before) = failing;
        }
    }

    /// It says how it stands, and fails at what it is asked for then.
    pub(super) const fn fails_at_work(&self) -> bool {
        self.fails_at_work
    }

    /// It failed at a chunk or a diff.
    pub(super) fn failed_at_work(&mut self) {
        self.fails_at_work = self.failures > 0;
    }

    fn hear(&mut self, info: Info, now: Timestamp) {
        self.fails_at_work = false;
        let before = self.highest.take();
        let before = before.filter(|(epoch, _)| *epoch == info.epoch);
        let highest = before.map_or(info.head, |(_, head)| head.max(info.head));
        self.highest = Some((info.epoch.clone(), highest));
        self.info = Some(info);
        self.heard_at = Some(now);
        (self.failures, self.failing_since, self.not_before) = (0, None, None);
    }

    /// It was at this head in its present epoch, or beyond.
    fn has_had(&self, (epoch, head): &Need) -> bool {
        let highest = self.highest.as_ref();
        highest.is_some_and(|(of, highest)| of == epoch && highest >= head)
    }

    /// It answered digests at this head.
    pub(super) fn compared(&mut self, epoch: &Epoch, head: Head, now: Timestamp) {
        let known = self.info.take().filter(|info| info.epoch == *epoch);
        if let Some(mut info) = known {
            info.head = info.head.max(head);
            self.hear(info, now);
        }
    }

    /// It answered a chunk or a diff; one that was on its way for long may be older
    /// than what it said since.
    pub(super) fn showed(&mut self, fetched: &Fetched, may_be_old: bool, now: Timestamp) {
        let known = self.info.take();
        let known = known.filter(|info| info.epoch == fetched.epoch);
        let len = match fetched.len {
            LEN_UNKNOWN => known.as_ref().map_or(0, |info| info.len),
            len => len,
        };
        let info = Info {
            epoch: fetched.epoch.clone(),
            head: known
                .as_ref()
                .filter(|_| may_be_old)
                .map_or(fetched.latest, |info| fetched.latest.max(info.head)),
            len,
            oldest_head: known.as_ref().map_or(0, |info| info.oldest_head),
            splits: None,
            state: known.and_then(|info| info.state),
        };
        self.hear(info, now);
    }

    /// It failed, or does not have what was asked from `need` on.
    pub(super) fn failed(&mut self, error: UpstreamError, need: Option<&Need>, now: Timestamp) {
        match error {
            UpstreamError::Stale(Some(info)) => {
                let contradicts = need.is_some_and(|need| {
                    self.says(info, now);
                    self.fits(need)
                });
                if contradicts {
                    let why = "refuses a head that its history reaches, by its own words";
                    self.fails(why.to_owned(), None, now);
                }
            }
            UpstreamError::Stale(None) => {
                let why =
                    "its history does not reach what was asked, and it does not say how it stands";
                self.fails(why.to_owned(), None, now);
            }
            UpstreamError::Failed { why, retry_after } => self.fails(why, retry_after, now),
            UpstreamError::Unable { why, for_now } => self.fails(why, for_now, now),
        }
    }

    /// It failed: it is left alone for a while. Asks that were under way side by
    /// side fail together, which is one failure.
    pub(super) fn fails(&mut self, why: String, pause: Option<Duration>, now: Timestamp) {
        let pause = now.plus(pause.unwrap_or_default().min(LONGEST_PAUSE));
        if let Some(until) = self.not_before.filter(|until| *until > now) {
            self.not_before = Some(until.max(pause));
        } else {
            self.failures = self.failures.saturating_add(1);
            let wait = now.plus(Backoff::UPSTREAM.after(self.failures));
            self.not_before = Some(wait.max(pause));
        }
        self.failing_since.get_or_insert(now);
        self.last_error = Some((now, why));
    }
}

/// What is to be done about needs that no upstream seemed to fill, after all
/// that can be asked were asked how they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They are filled after all.
    Fits,
    /// Nobody who could say so answers: ask again later.
    Wait(String),
    /// History no longer reaches, by these words.
    Stale(String),
    /// There is another epoch.
    Epoch(String),
    /// The upstream went back in time.
    WentBack(String),
}

/// Judges what upstreams answered since `asked`.
pub(super) fn judge(
    remotes: &[Remote],
    needs: &[Need],
    asked: Timestamp,
    now: Timestamp,
) -> Verdict {
    let is_fresh = |remote: &&Remote| remote.heard_at.is_some_and(|at| at >= asked);
    let fresh: Vec<&Remote> = remotes
        .iter()
        .filter(is_fresh)
        .filter(|r| r.failures == 0 || r.fails_at_work)
        .collect();
    if fresh.is_empty() {
        let errors = remotes.iter().filter_map(|r| r.last_error.as_ref());
        let last = errors.max_by_key(|(at, _)| *at);
        let why = last.map_or("no upstream answers", |(_, why)| why.as_str());
        return Verdict::Wait(why.to_owned());
    }
    let unfilled = |need: &&Need| !fresh.iter().any(|remote| remote.fits(need));
    let Some((epoch, head)) = needs.iter().find(unfilled) else {
        return Verdict::Fits;
    };
    let may_have = |remote: &&Remote| {
        let could = remote.info.as_ref().is_none_or(|info| info.epoch == *epoch);
        let recently = |since: Timestamp| now.since(since) < GONE_AFTER;
        remote.failing_since.is_some_and(recently) && could
    };
    if remotes.len() > 1 && remotes.iter().any(|remote| may_have(&remote)) {
        return Verdict::Wait(format!(
            "head {head} of epoch {epoch} is had by no upstream that answers"
        ));
    }
    let infos: Vec<&Info> = fresh
        .iter()
        .filter_map(|remote| remote.info.as_ref())
        .collect();
    let same: Vec<&&Info> = infos.iter().filter(|info| info.epoch == *epoch).collect();
    if let Some(info) = same.iter().find(|info| info.oldest_head > *head) {
        return Verdict::Stale(format!(
            "head {head} is older than the upstream's history, which reaches back to head {} (its head is {})",
            info.oldest_head, info.head
        ));
    }
    // A copy that lags behind whoever is away will come after.
    let need = (epoch.clone(), *head);
    let is_back = fresh.len() == remotes.len() || fresh.iter().any(|r| r.has_had(&need));
    if !same.is_empty() && !is_back {
        return Verdict::Wait(format!(
            "head {head} of epoch {epoch} is had by no upstream that answers"
        ));
    }
    if let Some(info) = same.first() {
        return Verdict::WentBack(format!(
            "the upstream's head is {}, lower than ours, {head}: it went back in time",
            info.head
        ));
    }
    let other = infos
        .first()
        .map_or_else(String::new, |info| info.epoch.to_string());
    Verdict::Epoch(format!(
        "the upstream's epoch is {other}, ours is {epoch}: it was created anew or restored"
    ))
}
