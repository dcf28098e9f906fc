//! A plan at a desk, for the tests of its cases.

use super::plan::SubscriptionPlan;
use super::{
    Checkpoint, Decision, EventChange, Judgement, Marked, OpenEvent, Place, Step, SubscriptionState,
};
use crate::config::SubscriptionSettings;
use crate::time::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// When a test begins.
pub(super) const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

/// A plan with a database that is empty at first and does at once what it is
/// told, but for handlers.
pub(super) struct Desk {
    pub(super) plan: SubscriptionPlan,
    pub(super) now: Timestamp,
    pub(super) known: BTreeSet<String>,
    /// What was written.
    pub(super) written: Vec<EventChange>,
    /// What was handed over, and for the how-manieth time.
    pub(super) handed: Vec<(Place, u32)>,
    pub(super) marks: usize,
}

impl Desk {
    pub(super) fn new(settings: &SubscriptionSettings) -> Self {
        let mut desk = Self {
            plan: SubscriptionPlan::new(settings, 500, Checkpoint::default()),
            now: START,
            known: BTreeSet::new(),
            written: Vec::new(),
            handed: Vec::new(),
            marks: 0,
        };
        desk.go();
        desk
    }

    pub(super) fn record(&mut self, events: Vec<OpenEvent>) {
        self.plan.recorded(events, self.now);
        self.go();
    }

    pub(super) fn go(&mut self) {
        loop {
            let steps = self.plan.next(self.now);
            if steps.is_empty() {
                return;
            }
            for step in steps {
                self.perform(step);
            }
        }
    }

    pub(super) fn perform(&mut self, step: Step) {
        match step {
            Step::Load(load) => self.plan.loaded(&load, Vec::new(), self.now),
            Step::Sweep(sweep) => self.plan.swept(&sweep, Vec::new(), self.now),
            Step::Judge(asked) => {
                let judge = |(place, tx_id, _): (Place, String, Option<String>)| Judgement {
                    place,
                    known: self.known.contains(&tx_id),
                };
                let judged: Vec<Judgement> = asked.into_iter().map(judge).collect();
                self.plan.judged(&judged, self.now);
            }
            Step::Handle(event, attempt) => self.handed.push((event.place, attempt)),
            Step::Mark(changes) => {
                self.written.extend(changes);
                self.marks += 1;
                self.plan.marked(Marked::Done, self.now);
            }
        }
    }

    /// Lets the time pass until the plan wants to be asked again; how long.
    pub(super) fn sleep(&mut self) -> Duration {
        let until = self.plan.wake_at(self.now).expect("nothing to wait for");
        let slept = until.since(self.now);
        self.now = self.now.plus(slept);
        self.go();
        slept
    }

    pub(super) fn handled(&mut self, place: Place, result: Result<(), &str>) {
        self.plan
            .handled(place, result.map_err(str::to_owned), self.now);
        self.go();
    }

    pub(super) fn decided(&self, wanted: Decision) -> Vec<Place> {
        let places = self.written.iter().filter_map(|change| match change {
            EventChange::Decided {
                place, decision, ..
            } if *decision == wanted => Some(*place),
            _ => None,
        });
        places.collect()
    }

    pub(super) fn processed(&self) -> Vec<Place> {
        let places = self.written.iter().filter_map(|change| match change {
            EventChange::Processed { place, .. } => Some(*place),
            _ => None,
        });
        places.collect()
    }

    pub(super) fn state(&self) -> SubscriptionState {
        self.plan.view(self.now).state
    }
}
