//! Whom the plan asks: who has what is needed, and what is done where nobody has.

use super::backoff::Backoff;
use super::change::{BootstrapReason, ReplicaChange};
use super::model::Head;
use super::plan::{For, Pending, ReplicaPlan, Wanted};
use super::plan_step::{Ask, Step};
use super::remote::{Need, Remote, Verdict, judge};
use crate::time::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long after the upstreams were of no help they are asked how they stand.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A copy that was followed for so long is no sign of trouble when it is copied
/// anew.
const CALM: Duration = Duration::from_secs(60);
/// How often upstreams are asked how they stand that are not followed at present.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

impl ReplicaPlan {
    /// Who is asked from `need` on: of those that can answer the one whose turn
    /// it is; by default the first. Where nobody can, all are asked how they
    /// stand, and if that is no help, what is had is given up.
    pub(super) fn choose(
        &mut self,
        need: &Need,
        turn: usize,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) -> Option<usize> {
        let all = self.remotes.iter().enumerate();
        let fit: Vec<usize> = all
            .filter(|(_, remote)| remote.available(now) && remote.fits(need))
            .map(|(place, _)| place)
            .collect();
        if fit.is_empty() {
            self.survey(now, steps);
            return None;
        }
        self.trouble = None;
        fit.get(turn % fit.len()).copied()
    }

    /// As [`Self::choose`]: of those that can answer, the one whose head is the
    /// highest that is known.
    pub(super) fn choose_newest(
        &mut self,
        need: &Need,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) -> Option<usize> {
        let all = self.remotes.iter().enumerate();
        let fit = all.filter(|(_, remote)| remote.available(now) && remote.fits(need));
        let head = |remote: &Remote| remote.info.as_ref().map(|info| info.head);
        let newest = fit.max_by_key(|(place, remote)| (head(remote), std::cmp::Reverse(*place)));
        let newest = newest.map(|(place, _)| place);
        newest.or_else(|| self.choose(need, 0, now, steps))
    }

    /// Whom the copy follows: of those that can bring it on the first of those at
    /// the highest head. One that is no good copy itself only where no other has more
    /// than we, or where there is no other to wait for.
    pub(super) fn choose_to_follow(
        &mut self,
        need: &Need,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) -> Option<usize> {
        let all = self.remotes.iter().enumerate();
        let fit = all.filter(|(_, remote)| remote.available(now) && remote.fits(need));
        let best = fit.max_by_key(|(place, remote)| {
            let head = remote.info.as_ref().map(|info| info.head);
            // What it is ahead is right, whatever it is itself.
            let is_ahead = head > Some(need.1);
            let place = std::cmp::Reverse(*place);
            (is_ahead, !remote.is_shaky(), head, place)
        });
        match best.map(|(place, _)| place) {
            Some(place) => {
                self.trouble = None;
                Some(place)
            }
            None => self.choose(need, 0, now, steps),
        }
    }

    /// Somebody who can bring the copy on is ahead of it.
    pub(super) fn is_behind(&self, need: &Need, now: Timestamp) -> bool {
        let ahead = |info: &super::Info| info.head > need.1;
        let mut all = self.remotes.iter();
        all.any(|remote| {
            remote.available(now) && remote.fits(need) && remote.info.as_ref().is_some_and(ahead)
        })
    }

    /// All that were asked how they stand answered or failed: judges that at once,
    /// while it is fresh.
    pub(super) fn settle_survey(&mut self, now: Timestamp) {
        let complete = self.survey.as_ref().filter(|(_, left)| left.is_empty());
        let bootstrapping = self.of_standing(|standing| standing.bootstrap.is_some());
        let Some(asked) = complete.map(|(asked, _)| *asked) else {
            return;
        };
        if !bootstrapping && !self.writes.is_empty() {
            return;
        }
        self.survey = None;
        if self.wanted.is_none() {
            let verdict = judge(&self.remotes, &self.needs(), asked, now);
            self.take_verdict(verdict, now);
        }
    }

    fn survey(&mut self, now: Timestamp, steps: &mut Vec<Step>) {
        if self.survey.is_some() {
            return;
        }
        if self.survey_at > now {
            self.wake_by(self.survey_at);
            return;
        }
        let mut waited_for = BTreeSet::new();
        for upstream in 0..self.remotes.len() {
            if self.remotes[upstream].available(now) {
                let ask = Ask::Info { splits: None };
                waited_for.insert(self.ask(steps, upstream, For::Look, None, ask, now));
            }
        }
        if waited_for.is_empty() {
            let pauses = self.remotes.iter().filter_map(|remote| remote.not_before);
            if let Some(until) = pauses.min() {
                self.wake_by(until);
            }
            let verdict = judge(&self.remotes, &self.needs(), now, now);
            if let Verdict::Wait(why) = verdict {
                self.trouble = Some(why);
            }
            return;
        }
        self.survey = Some((now, waited_for));
    }

    /// What is to be brought up to date.
    fn needs(&self) -> Vec<Need> {
        let Some(standing) = &self.standing else {
            return Vec::new();
        };
        match (&standing.bootstrap, &standing.live) {
            (Some(bootstrap), _) => {
                // What is being written may be ahead already.
                let is_written = |place: usize| {
                    let of = |change: &ReplicaChange| matches!(change, ReplicaChange::Chunk { range, .. } if *range == place);
                    self.writes.values().any(of)
                };
                let ranges = bootstrap.ranges.iter().enumerate();
                let heads: BTreeSet<Head> = ranges
                    .filter(|(place, _)| !is_written(*place))
                    .map(|(_, range)| range.head)
                    .collect();
                let needs = heads.into_iter().map(|h| (bootstrap.epoch.clone(), h));
                needs.collect()
            }
            (None, Some((_, epoch, head, _))) => vec![(epoch.clone(), *head)],
            (None, None) => Vec::new(),
        }
    }

    fn take_verdict(&mut self, verdict: Verdict, now: Timestamp) {
        let (reason, why) = match verdict {
            Verdict::Fits => {
                self.trouble = None;
                self.wake_by(now);
                return;
            }
            Verdict::Wait(why) => {
                self.trouble = Some(why);
                self.survey_at = now.plus(ASK_AGAIN);
                self.wake_by(self.survey_at);
                return;
            }
            Verdict::Stale(why) => (BootstrapReason::StaleHead, why),
            Verdict::Epoch(why) => (BootstrapReason::Epoch, why),
            Verdict::WentBack(why) => (BootstrapReason::WentBack, why),
        };
        let bootstrapping = self.of_standing(|standing| standing.bootstrap.is_some());
        let outrun = bootstrapping && reason == BootstrapReason::StaleHead;
        self.want(reason, &why, outrun, now);
        self.wake_by(now);
    }

    /// A bootstrap is to begin; the more came to nothing, the later.
    pub(super) fn want(
        &mut self,
        reason: BootstrapReason,
        why: &str,
        outrun: bool,
        now: Timestamp,
    ) {
        if self
            .calm_since
            .is_some_and(|since| now.since(since) >= CALM)
        {
            self.restless = 0;
        }
        let before = self.standing.as_ref().map_or(0, |standing| standing.outrun);
        let outruns = if outrun { before.saturating_add(1) } else { 0 };
        let pause = Backoff::BOOTSTRAP.after(outruns.max(self.restless));
        let why = if outrun {
            let bootstrap = self.standing.as_ref().and_then(|s| s.bootstrap.as_ref());
            let took = bootstrap.map_or(Duration::ZERO, |b| now.since(b.begun_at));
            format!(
                "upstream's history is shorter than our bootstrap takes: after {} s {why}",
                took.as_secs()
            )
        } else {
            why.to_owned()
        };
        self.wanted = Some(Wanted {
            reason,
            why,
            outrun,
            at: now.plus(pause),
        });
        self.let_go();
    }

    /// Asks those how they stand who are not asked anything else, now and then: they
    /// may be of help, or further than the one that is followed.
    pub(super) fn look_around(&mut self, now: Timestamp, steps: &mut Vec<Step>) {
        if self.remotes.len() < 2 || self.survey.is_some() || self.wanted.is_some() {
            return;
        }
        let needs = self.needs();
        let bootstrapping = self.of_standing(|standing| standing.bootstrap.is_some());
        if needs.is_empty() {
            return;
        }
        for upstream in 0..self.remotes.len() {
            let remote = &self.remotes[upstream];
            let asking = |ask: &Pending| ask.upstream == Some(upstream);
            if self.asks.values().any(asking) {
                continue;
            }
            let helps = needs.iter().any(|need| remote.fits(need));
            let pause = if bootstrapping && !helps {
                ASK_AGAIN
            } else {
                LOOK_AGAIN
            };
            let next = remote.asked_at.map_or(now, |at| at.plus(pause));
            let next = remote.not_before.map_or(next, |until| next.max(until));
            if next > now {
                self.wake_by(next);
            } else {
                let ask = Ask::Info { splits: None };
                self.ask(steps, upstream, For::Look, None, ask, now);
            }
        }
    }
}
