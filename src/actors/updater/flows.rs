//! What the Updater does by flow: an arm for each.

use super::write::{Group, Item, Written, write};
use super::{Gathered, UpdaterParts, UpdaterSettings};
use crate::flows::batches::{Answer, BatchesOutcome, BatchesReport, changes_of};
use crate::flows::sites::{SitesReport, change_of};
use crate::messages::{Flow, Outcome, Report};
use crate::store::{BatchChange, SiteChange};
use crate::time::Timestamp;
use std::time::Duration;

/// A group of outcomes of a flow, with what they change.
pub(super) enum FlowGroup {
    Batches(Group<BatchChange>),
    Sites(Group<SiteChange>),
}

impl UpdaterSettings {
    /// How long outcomes are gathered.
    pub(super) const fn commit_interval(&self, flow: Flow) -> Duration {
        match flow {
            Flow::Batches => self.batches.commit_interval,
            Flow::Sites => self.sites.commit_interval,
        }
    }

    /// How many rows are gathered, and written at a time.
    pub(super) const fn commit_rows(&self, flow: Flow) -> usize {
        match flow {
            Flow::Batches => self.batches.commit_rows,
            Flow::Sites => self.sites.commit_rows,
        }
    }
}

/// Rows that an outcome changes.
pub(super) fn rows_of(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Batches(outcome) => {
            let answered = |answer: &&Answer| **answer != Answer::NotAsked;
            outcome.answers.iter().filter(answered).count()
        }
        // Of a handler that cannot work at all, nothing is told of the site.
        Outcome::Sites(outcome) => usize::from(outcome.visited.of_job().is_none()),
    }
}

/// How much was asked for.
pub(super) fn asked_of(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Batches(outcome) => outcome.work.batches.len(),
        Outcome::Sites(_) => 1,
    }
}

/// What the Scheduler is told of an outcome.
pub(super) fn report_of(outcome: &Outcome) -> Report {
    match outcome {
        Outcome::Batches(outcome) => Report::Batches(BatchesReport::of(outcome)),
        Outcome::Sites(outcome) => Report::Sites(SitesReport::of(outcome)),
    }
}

/// Decides what a group of outcomes of one flow changes.
pub(super) fn group_of(
    flow: Flow,
    gathered: Vec<Gathered>,
    settings: &UpdaterSettings,
    parts: &UpdaterParts,
    now: Timestamp,
) -> FlowGroup {
    match flow {
        Flow::Batches => FlowGroup::Batches(items(gathered, |outcome| match outcome {
            Outcome::Batches(outcome) => Some((
                batch_changes(outcome, settings, now).into(),
                outcome.work.stake.clone(),
            )),
            Outcome::Sites(_) => None,
        })),
        Flow::Sites => FlowGroup::Sites(items(gathered, |outcome| match outcome {
            Outcome::Sites(outcome) => {
                let lease = &outcome.work.stake.name;
                let change = change_of(outcome, settings.polls_per_site, now, |at, period| {
                    parts.spreads.place(lease, at, period, now)
                });
                Some(([change].into(), outcome.work.stake.clone()))
            }
            Outcome::Batches(_) => None,
        })),
    }
}

fn batch_changes(
    outcome: &BatchesOutcome,
    settings: &UpdaterSettings,
    now: Timestamp,
) -> Vec<BatchChange> {
    changes_of(outcome, &settings.batches, now, rand::random())
}

fn items<C>(
    gathered: Vec<Gathered>,
    change: impl Fn(&Outcome) -> Option<(std::sync::Arc<[C]>, crate::store::LeaseStake)>,
) -> Group<C> {
    let item = |gathered: Gathered| {
        let Gathered {
            outcome,
            ticket,
            span,
            since: _,
        } = gathered;
        // One of another flow cannot be: they are gathered apart.
        let (changes, stake) = change(&outcome)?;
        Some(Item {
            changes,
            report: report_of(&outcome),
            asked: asked_of(&outcome),
            stake,
            ticket,
            span,
        })
    };
    Group {
        items: gathered.into_iter().filter_map(item).collect(),
    }
}

/// Writes a group.
pub(super) async fn write_group(parts: &UpdaterParts, group: FlowGroup) -> Written<FlowGroup> {
    match group {
        FlowGroup::Batches(group) => {
            let Written { settled, left } = write(&parts.writer, group).await;
            let left = left.map(|(group, why)| (FlowGroup::Batches(group), why));
            Written { settled, left }
        }
        FlowGroup::Sites(group) => {
            let Written { settled, left } = write(&parts.writer, group).await;
            let left = left.map(|(group, why)| (FlowGroup::Sites(group), why));
            Written { settled, left }
        }
    }
}
