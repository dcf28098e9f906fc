//! A random life of the plan.

use super::super::work::Failure;
use super::{End, World, holdings, ms, seqs};
use crate::leases::Holdings;
use crate::ledgers::LedgerError;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

/// A step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Insert(u8),
    Begin,
    Load(bool),
    Take,
    End(usize, End),
    Wake,
    Pass(u64),
    Configure,
    Hold(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let timeout = LedgerError::Timeout { after: ms(1) };
    let end = prop_oneof![
        4 => Just(End::Settled),
        3 => (1_u64..3000).prop_map(|after| End::Pending(ms(after))),
        1 => Just(End::Failed(Failure::Ledger(timeout))),
        1 => Just(End::Failed(Failure::Ledger(LedgerError::TooLarge { detail: String::new() }))),
        1 => Just(End::Failed(Failure::Ledger(LedgerError::Unreachable { detail: String::new() }))),
        1 => Just(End::Fallen),
    ];
    let step = prop_oneof![
        4 => (0_u8..4).prop_map(Step::Insert),
        4 => Just(Step::Begin),
        4 => any::<bool>().prop_map(Step::Load),
        6 => Just(Step::Take),
        5 => (any::<usize>(), end).prop_map(|(place, end)| Step::End(place, end)),
        1 => Just(Step::Wake),
        4 => (1_u64..2000).prop_map(Step::Pass),
        1 => Just(Step::Configure),
        1 => any::<bool>().prop_map(Step::Hold),
    ];
    proptest::collection::vec(step, 1..200)
}

impl World {
    fn step(&mut self, step: Step, next_seq: &mut i64) {
        match step {
            Step::Insert(service) => {
                for _ in 0..5 {
                    *next_seq += 1;
                    self.insert(*next_seq, &format!("c::s{service}"), None);
                }
                self.plan.wake(Some("l"), self.now);
            }
            Step::Begin => self.queries.extend(self.plan.wants(self.now)),
            Step::Load(works) => {
                if let Some(query) = self.queries.pop() {
                    if works {
                        let page = self.page(&query);
                        self.plan.loaded(page, self.now);
                    } else {
                        self.plan.load_failed("l", self.now, ms(100));
                    }
                }
            }
            Step::Take => drop(self.take()),
            Step::End(place, end) => {
                if !self.open.is_empty() {
                    self.end(place % self.open.len(), &end);
                }
            }
            Step::Wake => self.plan.wake(None, self.now),
            Step::Pass(millis) => self.now = self.now.plus(ms(millis)),
            Step::Configure => self
                .plan
                .configure(self.batches.clone(), &self.ledgers, self.now),
            Step::Hold(held) => {
                let held = if held {
                    holdings()
                } else {
                    Holdings::default()
                };
                self.plan.hold(&held, self.now);
            }
        }
    }

    fn assert_sound(&self, connections: usize) -> Result<(), TestCaseError> {
        let mut seen = BTreeSet::new();
        for seq in self.open.iter().flat_map(seqs) {
            prop_assert!(seen.insert(seq), "{} is in two open works", seq);
        }
        prop_assert!(self.open.len() <= connections);
        prop_assert!(
            self.open
                .iter()
                .all(|work| !work.batches.is_empty() && work.batches.len() <= 2)
        );
        Ok(())
    }
}

proptest! {
    /// Whatever happens in whatever order, nothing is out twice, and in the
    /// end everything that is due is handed out.
    #[test]
    fn nothing_is_out_twice_and_nothing_is_left(steps in steps()) {
        let mut world = World::new("splinter", "connections = 3\nids_per_request = 2");
        let mut seq = 0;
        for step in steps {
            world.step(step, &mut seq);
            world.assert_sound(3)?;
        }
        // From now on all goes well, and nobody wakes the plan.
        world.plan.hold(&holdings(), world.now);
        while let Some(query) = world.queries.pop() {
            let page = world.page(&query);
            world.plan.loaded(page, world.now);
        }
        let mut rounds = 0;
        while !world.table.is_empty() {
            world.read();
            while world.take().is_some() {}
            world.assert_sound(3)?;
            if world.open.is_empty() {
                let slept = world.sleep();
                prop_assert!(slept < Duration::from_secs(60), "asleep for {:?} with {} rows", slept, world.table.len());
            } else {
                world.end(0, &End::Settled);
            }
            rounds += 1;
            prop_assert!(rounds < 20_000, "{} rows are left", world.table.len());
        }
    }
}
